"""Waitables and waitable sets: the sources of the events that a guest waits for (CanonicalABI.md, "Waitable State")."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol, TypeAlias

from aegis.component.traps import trap

__all__ = ["Event", "EventCode", "EventTarget", "Waitable", "WaitableSet"]

Event: TypeAlias = "tuple[int, int, int]"
"""An event: its :class:`EventCode`, and two payloads."""


class EventCode(IntEnum):
    """The kinds of events."""

    NONE = 0
    SUBTASK = 1
    STREAM_READ = 2
    STREAM_WRITE = 3
    FUTURE_READ = 4
    FUTURE_WRITE = 5
    TASK_CANCELLED = 6


class EventTarget(Protocol):
    """A task that waits for a waitable set."""

    def wake(self) -> None:
        """Have the scheduler check whether the task can continue."""


class Waitable:
    """An entry of a handle table that can have one pending event, and can be in one waitable set."""

    __slots__ = ("pending", "set", "sync_waiter")

    resource = -1
    """The number of no resource type, so that :meth:`.InstanceState.get` traps for the index of a waitable."""

    def __init__(self) -> None:
        self.pending: Callable[[], Event] | None = None
        """Returns the event at its delivery, when its payload is determined."""
        self.set: WaitableSet | None = None
        self.sync_waiter = False
        """Whether guest code waits for this waitable alone, in the middle of a synchronous built-in."""

    def notify(self, event: Callable[[], Event]) -> None:
        """Set or replace the pending event."""
        self.pending = event
        if self.set is not None:
            self.set.note(self)

    def take_event(self) -> Event:
        """Deliver the pending event."""
        event = self.pending
        assert event is not None
        self.pending = None
        if self.set is not None:
            del self.set.pending[self]
        return event()

    def join(self, target: WaitableSet | None) -> None:
        """Move the waitable to another set, or out of any set."""
        if self.set is not None:
            self.set.members.remove(self)
            self.set.pending.pop(self, None)
        self.set = target
        if target is not None:
            target.members.add(self)
            if self.pending is not None:
                target.note(self)

    def close(self) -> None:
        """Leave the waitable set, because the guest drops the waitable."""
        self.join(None)


class WaitableSet:
    """A set of waitables that a task waits for together."""

    __slots__ = ("members", "num_waiting", "pending", "waiting")

    resource = -1

    def __init__(self) -> None:
        self.members: set[Waitable] = set()
        self.pending: dict[Waitable, None] = {}
        """The members with pending events, in the order of their events: a busy one does not starve the others."""
        self.waiting: list[EventTarget] = []
        """Tasks that wait for the set between their callbacks."""
        self.num_waiting = 0

    def has_event(self) -> bool:
        """Return whether a member has a pending event."""
        return bool(self.pending)

    def take_event(self) -> Event:
        """Deliver the event that has been pending for the longest time."""
        return next(iter(self.pending)).take_event()

    def note(self, member: Waitable) -> None:
        """Have the scheduler check the tasks that wait for the set, because ``member`` has a pending event."""
        self.pending[member] = None
        for target in self.waiting:
            target.wake()

    def close(self) -> None:
        """Trap unless the guest may drop the set."""
        if self.members:
            raise trap("a waitable set was dropped while waitables are in it")
        if self.num_waiting:
            raise trap("a waitable set was dropped while a task waits for it")
