"""The event bus: number the events of a run and deliver them to subscribers, which cannot break the run."""

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
"""A callable that takes an event. It runs on the thread that caused the event."""
_MAX_NESTED_EVENTS = 64
_LOCK_SECONDS = 1.0
"""Longest wait for a subscriber that is running on another thread."""


class SubscriberWarning(RuntimeWarning):
    """A subscriber raised an exception and was unsubscribed; issued once for each subscriber of a run."""


class Failure(NamedTuple):
    """A subscriber that was unsubscribed because it raised ``error`` while it handled ``event``."""

    subscriber: Subscriber
    error: BaseException
    event: Event

    def __str__(self) -> str:
        made = self.subscriber
        name = getattr(made, "__qualname__", None) or type(made).__name__
        error = f"{type(self.error).__name__}: {_text_of(self.error)}".removesuffix(": ")
        return (
            f"the event subscriber {printable(str(name), 100)} failed at event {self.event.seq} of run "
            f"{printable(self.event.run, 60)} and was unsubscribed: {error}"
        )


def _text_of(error: BaseException) -> str:
    try:
        return printable(str(error), 300)
    except Exception:
        return ""


class EventBus:
    """Delivers the events of one run in order, from any thread.

    A subscriber that raises is unsubscribed, recorded in ``failures`` and reported with a :class:`SubscriberWarning`.
    ``KeyboardInterrupt`` alone propagates, because the user sent it. The time of a subscriber counts towards the
    deadline of the call it observes. Events that a subscriber causes are delivered after the event that it handles; of
    more than 64 the rest is lost. Events are also lost while a subscriber does not return on another thread. ``lost``
    is the number of lost events.

    ``active`` is true while there are subscribers; check this attribute before computing the fields of an event.
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
        """Create an ``event`` from ``fields`` and deliver it; without subscribers, do nothing."""
        if not self.active or not self._entered():
            return
        try:
            pending = self._pending
            if pending is not None and self._nested >= _MAX_NESTED_EVENTS:
                self.lost += 1
                return
            # ParamSpec hides from mypy that every event has these three fields.
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
        """Acquire the lock that a delivering thread holds; return whether that succeeded in time.

        A call that reaches its deadline may leave its thread behind in a subscriber that never returns. The sandbox
        must not wait for that thread.
        """
        self._stuck = not self._lock.acquire(timeout=0.0 if self._stuck else _LOCK_SECONDS)
        self.lost += self._stuck
        return not self._stuck

    def refuse_subscribers(self) -> None:
        """Raise ``SandboxStateError`` if the current thread is delivering an event, that is, inside a subscriber.

        The events of a call on another thread wait until the subscriber returns.
        """
        if self._thread == threading.get_ident():
            raise SandboxStateError(
                "the sandbox is busy: this thread is delivering one of its events; "
                "call it after the subscriber has returned",
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
            except BaseException as error:  # also SystemExit, because a subscriber must not influence the run
                self._drop(Failure(subscriber, error, event))

    def _drop(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._subscribers = tuple(s for s in self._subscribers if s is not failure.subscriber)
        self.active = bool(self._subscribers)
        _warn(str(failure))


def _warn(text: str) -> None:
    """Issue a warning, or log it if warnings are errors, so that the run continues in either case."""
    import warnings

    try:
        # No registry is passed: a module's registry keeps each text for ever, and a guest can choose parts of it.
        warnings.warn_explicit(text, SubscriberWarning, __file__, _warn.__code__.co_firstlineno, __name__)
    except SubscriberWarning:
        import logging

        logging.getLogger("aegis.observe").warning("%s", text)


SILENT = EventBus("", ())
"""The bus of all runs without subscribers."""
