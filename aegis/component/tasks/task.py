"""Tasks: calls of exported functions and calls between component instances (CanonicalABI.md, "Task State").

A task runs guest code until the code returns. Then the task has ended, or its callback said what it waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from aegis.component.tasks.waitables import Event, EventCode, WaitableSet
from aegis.component.traps import trap
from aegis.engine.call.caller import room_inside

if TYPE_CHECKING:
    from aegis.component.tasks.callee import BoundCallee

__all__ = ["CANCELLED", "Task", "TaskState"]

_EXIT, _YIELD, _WAIT = range(3)
_CODE_BITS = 4


class TaskState(Enum):
    """The state of a task towards its caller."""

    INITIAL = auto()
    STARTED = auto()
    PENDING_CANCEL = auto()
    CANCEL_DELIVERED = auto()
    RESOLVED = auto()


class _CancelledTask:
    """The type of :data:`CANCELLED`."""


CANCELLED = _CancelledTask()
"""Passed to ``on_resolve`` instead of a result when a task confirms its cancellation."""
_ENTER, _TURN = object(), object()
"""What a task waits for beside a waitable set: to enter its instance, and its next turn."""


def _ignore(result: Any) -> None:
    """Take the place of ``on_resolve`` after the result."""


class _Runner(Protocol):
    """The scheduler, as a task sees it."""

    current: Task | None
    ready: deque[Task]

    def ended(self, task: Task) -> None: ...
    def proceed_now(self, task: Task, caller: int | None) -> None: ...


class Task:
    """One call. ``on_start`` returns the arguments; ``on_resolve`` takes the result, or :data:`CANCELLED`."""

    __slots__ = (
        "_waits", "borrows", "callee", "cancellable", "cancelled", "exited", "instance", "on_exit", "on_resolve",
        "on_start", "queued", "scheduler", "state", "storage",
    )  # fmt: skip

    def __init__(
        self, scheduler: _Runner, callee: BoundCallee, on_start: Callable[[], tuple[Any, ...]],
        on_resolve: Callable[[Any], None],
    ) -> None:  # fmt: skip
        self.scheduler, self.callee, self.instance = scheduler, callee, callee.instance
        self.on_start, self.on_resolve = on_start, on_resolve
        self.on_exit: Callable[[], None] | None = None
        """Called when no code of the task runs any more, which may be after its result."""
        self.state = TaskState.INITIAL
        self.borrows = [0]
        """The number of borrowed handles that the task still has, shared with their entries."""
        self.storage = [0, 0]
        self.exited = self.queued = self.cancellable = self.cancelled = False
        self._waits: Any = None

    # -- running guest code --------------------------------------------------------------------

    def enter(self) -> None:
        """Start the task, or have it wait until its instance admits it (``enter_implicit_thread``)."""
        instance = self.instance
        if self.callee.is_async:
            if self._kept_out() or instance.entering:
                instance.entering.append(self)
                self._waits, self.cancellable = _ENTER, True
                return
            if self.callee.exclusive:
                instance.exclusive = self
        self._run()

    def _kept_out(self) -> bool:
        instance = self.instance
        return instance.backpressure > 0 or (self.callee.exclusive and instance.exclusive is not None)

    def _run(self) -> None:
        room_inside()
        callee = self.callee
        self.cancellable = False
        before, self.scheduler.current = self.scheduler.current, self
        self.state = TaskState.STARTED
        callee.lower(self, self.on_start())
        packed = callee.start()
        if not callee.lifted.options.is_async:
            self.resolve(callee.lift_result())
            callee.post_return()
            self._exit()
        elif callee.callback is None:
            self._exit()
        else:
            self._returned(packed)
        self.scheduler.current = before

    def _call_back(self, event: Event) -> None:
        room_inside()
        before, self.scheduler.current = self.scheduler.current, self
        self.instance.exclusive = self
        self._returned(self.callee.call_back(event))
        self.scheduler.current = before

    def _returned(self, packed: int) -> None:
        """Act on the value that the function or its callback returned."""
        code, index = packed & (1 << _CODE_BITS) - 1, packed >> _CODE_BITS
        if code == _EXIT:
            self._exit()
            return
        if code > _WAIT:
            raise trap(f"a callback returned the unknown code {code}")
        target = self.instance.get_as(index, WaitableSet) if code == _WAIT else None
        self.instance.release(self)
        self.cancellable = True
        self.cancelled = self.deliver_cancel(True)
        self._waits = _TURN
        if target is not None:
            self._waits = target
            target.waiting.append(self)
            target.num_waiting += 1
            if not (self.cancelled or target.has_event()):
                return
        self.wake()

    def _exit(self) -> None:
        if self.state is not TaskState.RESOLVED:
            raise trap("a task ended without task.return or task.cancel")
        self.exited = True
        self.instance.release(self)
        self.scheduler.ended(self)
        if self.on_exit is not None:
            self.on_exit()

    # -- waiting -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the scheduler check whether the task can continue."""
        if not self.queued:
            self.queued = True
            self.scheduler.ready.append(self)

    def proceed(self) -> bool:
        """Continue the task if its wait is over; return whether it continued."""
        instance, waits = self.instance, self._waits
        if waits is _ENTER:
            if self._kept_out() and not self.cancelled:
                return False
            instance.entering.remove(self)
            self._waits = None
            if self.cancelled:
                self.cancel()
                self.exited = True
                self.scheduler.ended(self)
                instance.admit()
                return True
            if self.callee.exclusive:
                instance.exclusive = self
            else:
                instance.admit()
            self._run()
            return True
        if waits is None:
            return False
        if instance.exclusive is not None:
            instance.blocked.append(self)
            return False
        event: Event = (EventCode.NONE, 0, 0)
        if isinstance(waits, WaitableSet):
            if not self.cancelled and not waits.has_event():
                return False
            waits.waiting.remove(self)
            waits.num_waiting -= 1
            if not self.cancelled:
                event = waits.take_event()
        if self.cancelled:
            event, self.cancelled = (EventCode.TASK_CANCELLED, 0, 0), False
        self._waits, self.cancellable = None, False
        self._call_back(event)
        return True

    # -- the result ----------------------------------------------------------------------------

    def resolve(self, result: Any) -> None:
        """Return the result to the caller (``Task.return_``)."""
        if self.state is TaskState.RESOLVED:
            raise trap("a task returned twice")
        self._check_borrows()
        self.on_resolve(result)
        self.state = TaskState.RESOLVED
        self._forget_caller()

    def cancel(self) -> None:
        """Confirm the cancellation (``Task.cancel``)."""
        if self.state is not TaskState.CANCEL_DELIVERED:
            raise trap("a task confirmed a cancellation that was not requested")
        self._check_borrows()
        self.on_resolve(CANCELLED)
        self.state = TaskState.RESOLVED
        self._forget_caller()

    def _forget_caller(self) -> None:
        """Refer to the caller's values no more: a reader that the caller drops is closed, which may end this task."""
        self.on_start, self.on_resolve = tuple, _ignore

    def _check_borrows(self) -> None:
        if self.borrows[0]:
            raise trap("borrow handles still remain at the end of the call")

    # -- cancellation --------------------------------------------------------------------------

    def request_cancel(self, caller: int | None) -> None:
        """Request the cancellation for the component instance ``caller``; ``None`` is the host.

        The task is cancelled at once if it waits, otherwise when it waits next. Source: CanonicalABI.md,
        ``request_cancellation``. The scheduler continues a task that waits between callbacks
        before the caller does.
        """
        if self.state is TaskState.INITIAL:
            self.state, self.cancelled = TaskState.CANCEL_DELIVERED, True
            self.scheduler.proceed_now(self, caller)
        elif self.state is TaskState.STARTED:
            if self.cancellable and self._waits is not None and self.instance.exclusive is None:
                self.state, self.cancelled = TaskState.CANCEL_DELIVERED, True
                self.scheduler.proceed_now(self, caller)
            else:
                self.state = TaskState.PENDING_CANCEL

    def deliver_cancel(self, cancellable: bool) -> bool:
        """Deliver a pending request to a task that waits cancellably; return whether there was one."""
        if cancellable and self.state is TaskState.PENDING_CANCEL:
            self.state = TaskState.CANCEL_DELIVERED
            return True
        return False
