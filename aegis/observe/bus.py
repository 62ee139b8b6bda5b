"""The bus: it numbers a run's events and hands each to the subscribers, who cannot break the run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from aegis.support.lean import TYPE_CHECKING, NamedTuple, ParamSpec, TypeAlias

if TYPE_CHECKING:
    from aegis.observe.events import Event

from aegis.errors import SandboxStateError
from aegis.text import printable

__all__ = ["SILENT", "EventBus", "Failure", "Subscriber", "SubscriberWarning"]

P = ParamSpec("P")
Subscriber: TypeAlias = "Callable[[Event], object]"
"""Anything that can be called with an event. It runs on the thread that caused the event."""
_NESTED = 64
_PATIENCE = 1.0
"""Seconds that an event waits for a subscriber to return on another thread."""


class SubscriberWarning(RuntimeWarning):
    """A subscriber raised and gets no more events. Warned of once for each subscriber of a run."""


class Failure(NamedTuple):
    """A subscriber that raised and was dropped, with the error that it raised and the event that it met."""

    subscriber: Subscriber
    error: BaseException
    event: Event

    def __str__(self) -> str:
        made = self.subscriber
        name = getattr(made, "__qualname__", None) or type(made).__name__
        error = f"{type(self.error).__name__}: {_text_of(self.error)}".removesuffix(": ")
        return (
            f"the event subscriber {printable(str(name), 100)} failed at event {self.event.seq} of run "
            f"{printable(self.event.run, 60)} and gets no more events of it: {error}"
        )


def _text_of(error: BaseException) -> str:
    try:
        return printable(str(error), 300)
    except Exception:
        return ""


class EventBus:
    """The events of one run, in order, from any thread.

    A subscriber that raises is dropped, recorded in ``failures`` and reported with a :class:`SubscriberWarning`;
    only ``KeyboardInterrupt`` passes, because it is the user's. A subscriber's time counts against the deadline of
    the call it observes. Events that a subscriber causes while it handles one are delivered after that one. Beyond
    64 they are only counted, in ``lost``; so is an event while a subscriber does not return on another thread.

    ``active``, whether anybody listens, is a plain attribute: ask it before gathering fields.
    """

    __slots__ = (
        "_clock", "_lock", "_nested", "_pending", "_seq", "_stuck", "_subscribers", "_thread", "active", "failures",
        "lost", "run",
    )  # fmt: skip

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
        self._thread = 0
        self._stuck = False
        self._lock = threading.RLock()
        self.active = bool(self._subscribers)

    def emit(self, event: Callable[P, Event], *args: P.args, **fields: P.kwargs) -> None:
        """Make an ``event`` of ``fields`` and deliver it; without subscribers, do nothing."""
        if not self.active or not self._entered():
            return
        try:
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
        finally:
            self._lock.release()

    def _entered(self) -> bool:
        """Take the lock, which a thread holds while it delivers; tell whether that took no longer than it may.

        A call at its deadline leaves its thread in a subscriber that does not return, and must not wait for it.
        """
        self._stuck = not self._lock.acquire(timeout=0.0 if self._stuck else _PATIENCE)
        self.lost += self._stuck
        return not self._stuck

    def refuse_subscribers(self) -> None:
        """Raise ``SandboxStateError`` on a thread that is delivering an event.

        A call that a subscriber makes on another thread has events, which wait until the subscriber returns.
        """
        if self._thread == threading.get_ident():
            raise SandboxStateError(
                "the sandbox is busy: an event of it is being delivered on this thread; call it after that",
                state="busy",
            )

    def _drain(self, first: Event) -> None:
        pending = self._pending = deque((first,))
        self._nested = 0
        self._thread = threading.get_ident()
        try:
            while pending:
                self._deliver(pending.popleft())
        finally:
            self._pending = None
            self._thread = 0

    def _deliver(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer must not influence the run: SystemExit would end it
                self._drop(Failure(subscriber, error, event))

    def _drop(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._subscribers = tuple(s for s in self._subscribers if s is not failure.subscriber)
        self.active = bool(self._subscribers)
        _warn(str(failure))


def _warn(text: str) -> None:
    """Warn; where warnings are errors, log instead, for a run goes on whatever its observers do."""
    import warnings

    try:
        # Without a registry: that of a module would keep the text of every run, part of which a guest can choose.
        warnings.warn_explicit(text, SubscriberWarning, __file__, _warn.__code__.co_firstlineno, __name__)
    except SubscriberWarning:
        import logging

        logging.getLogger("aegis.observe").warning("%s", text)


SILENT = EventBus("", ())
"""The bus of every run that nobody observes."""
