"""The bus: it numbers a run's events and hands each to the subscribers, who cannot break the run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeAlias

if TYPE_CHECKING:
    from aegis.observe.events import Event

__all__ = ["SILENT", "EventBus", "Failure", "Subscriber"]

P = ParamSpec("P")
Subscriber: TypeAlias = "Callable[[Event], object]"
"""Anything that can be called with an event. It runs on the thread that caused the event."""
_NESTED = 64


class Failure(NamedTuple):
    """A subscriber that raised and was dropped, with what it raised and the event that it met."""

    subscriber: Subscriber
    error: Exception
    event: Event


class EventBus:
    """The events of one run, in order, from any thread.

    A subscriber that raises is dropped and recorded in ``failures``; what is not an ``Exception``
    (Ctrl-C, say) passes. A subscriber's time counts against the deadline of the call it observes.
    What a subscriber causes while it handles an event is delivered after that event; beyond 64 such
    events they are only counted, in ``lost``.

    ``active``, whether anybody listens, is a plain attribute: ask it before gathering fields.
    """

    __slots__ = ("_clock", "_lock", "_nested", "_pending", "_seq", "_subscribers", "active", "failures", "lost", "run")

    def __init__(
        self, run: str, subscribers: Iterable[Subscriber] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self.run = run
        self.failures: list[Failure] = []
        self.lost = 0
        self._subscribers = tuple(subscribers)
        self._clock = clock
        self._seq = 0
        self._nested = 0
        self._pending: deque[Event] | None = None
        self._lock = threading.RLock()
        self.active = bool(self._subscribers)

    def emit(self, event: Callable[P, Event], *args: P.args, **fields: P.kwargs) -> None:
        """Make an ``event`` of ``fields`` and deliver it; without subscribers, do nothing."""
        if not self.active:
            return
        with self._lock:
            pending = self._pending
            if pending is not None and self._nested >= _NESTED:
                self.lost += 1
                return
            # The three fields have defaults, which the checker cannot see through P.
            made = event(*args, **fields, ts=self._clock(), run=self.run, seq=self._seq + 1)  # type: ignore[arg-type]
            self._seq += 1
            if pending is None:
                self._drain(made)
            else:
                self._nested += 1
                pending.append(made)

    def _drain(self, first: Event) -> None:
        pending = self._pending = deque((first,))
        self._nested = 0
        try:
            while pending:
                self._deliver(pending.popleft())
        finally:
            self._pending = None

    def _deliver(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception as error:  # an observer must not influence what it observes
                self._drop(Failure(subscriber, error, event))

    def _drop(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._subscribers = tuple(s for s in self._subscribers if s is not failure.subscriber)
        self.active = bool(self._subscribers)


SILENT = EventBus("", ())
"""The bus of every run that nobody observes."""
