"""The scheduler of one store: runs its tasks one at a time, and waits for host operations (Concurrency.md).

A wait ends at the deadline, by a cancellation and by Ctrl-C, as the waits of host functions do. A guest that waits for
nothing that can happen traps at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from aegis.component.tasks.callee import BoundCallee
from aegis.component.tasks.operations import Operation
from aegis.component.tasks.task import CANCELLED, Task, TaskState
from aegis.component.traps import cannot_enter, trap
from aegis.engine.native.signals import secure
from aegis.errors import CallError, QuotaExceeded
from aegis.limits import exceeded

__all__ = ["Scheduler"]


class Scheduler:
    """The tasks and pending host operations of one store. ``current`` is the task whose code runs."""

    def __init__(self, state: Any) -> None:
        self._state, self.door = state, state.door
        self._instances = state.handles.instances
        self._entering: Callable[[int, int | None], tuple[int, ...]] = state.plan.entering_all
        self.current: Task | None = None
        self.ready: deque[Task] = deque()
        """Tasks to check, in the order in which they were woken."""
        self.operations: dict[Operation, None] = {}
        self.stuck: set[Any] = set()
        """The calls of host functions, among the operations, that wait for the guest to write."""
        self.callers: list[Callable[[], bool]] = []
        """Whether the caller could go on, for each call between instances that is on the native stack."""
        self._blocked: list[Callable[[], bool]] = []
        """The conditions of the waits of guest code that is on the native stack, the innermost one last."""
        self._kept: dict[Any, None] = {}
        self._next_check = 0.0
        self._left_at = 0.0
        """When the guest's code returned to the scheduler (``time.monotonic``)."""
        self._alive = 0
        self._outside = [0, 0]
        """The storage of code that belongs to no task: start functions and destructors."""
        self._most: int | None = state.plan.limits.tasks
        self._posts: deque[Callable[[], None]] = deque()
        """What other threads want this one to do."""
        self._hears: Operation | None = self.door.hears
        """Is waited for beside the operations, and never the reason to wait."""
        self.may_hear: Callable[[], bool] = lambda: False
        """Returns whether the application may still call or write, so that a wait for nothing else is no deadlock."""

    # -- tasks ---------------------------------------------------------------------------------

    def begin(
        self, callee: BoundCallee, on_start: Callable[[], tuple[Any, ...]], on_resolve: Callable[[Any], None],
        caller: int | None,
    ) -> Task:  # fmt: skip
        """Start a task for a call by the component instance ``caller``, or by the host; run it until it waits."""
        full = self.full()
        if full is not None:
            raise full
        self._alive += 1
        task = Task(self, callee, on_start, on_resolve)
        entering = self._entering(callee.lifted.instance, caller)
        if not self._enter(entering):
            raise cannot_enter()
        try:
            task.enter()
        except CallError:  # the arguments of the host do not match: the guest has not run
            self._leave(entering)
            raise
        self._leave(entering)
        return task

    def full(self) -> QuotaExceeded | None:
        """Return the error for a task more than the limit allows, if there is no room for one."""
        most, alive = self._most, self._alive
        if most is None or alive < most:
            return None
        return QuotaExceeded(exceeded("tasks", alive, most), limit="tasks", used=alive, allowed=most)

    def ended(self, task: Task) -> None:
        """Note that a task has exited."""
        self._alive -= 1

    def _enter(self, entering: tuple[int, ...]) -> bool:
        """Clear the may-enter flags of instances; return ``False`` if one of them may not be entered."""
        instances = self._instances
        if not all(instances[n].may_enter for n in entering):
            return False
        for n in entering:
            instances[n].may_enter = False
        return True

    def _leave(self, entering: tuple[int, ...]) -> None:
        for n in entering:
            self._instances[n].may_enter = True

    def proceed_now(self, task: Task, caller: int | None) -> None:
        """Continue a task whose cancellation was requested, unless its instance may not be entered."""
        entering = self._entering(task.callee.lifted.instance, caller)
        if not self._enter(entering):
            task.state, task.cancelled = TaskState.PENDING_CANCEL, False
            return
        before = self.current
        task.proceed()
        self.current = before
        self._leave(entering)

    def storage(self) -> list[int]:
        """Return the storage of ``context.get`` and ``context.set`` of the code that runs now."""
        return self._outside if self.current is None else self.current.storage

    # -- the loop ------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool]) -> None:
        """Run tasks and complete host operations until ``until()``."""
        try:
            while not until():
                if self.give_turn():
                    self._check()
                elif len(self.operations) > len(self.stuck) or self.may_hear():
                    self._wait()
                else:
                    raise self._deadlock()
        except BaseException:
            self._state.spend()  # tasks were left in the middle, whatever class the application's exception has
            for call in list(self.stuck):  # the guest does not write any more
                call.cancel()
            raise

    def give_turn(self) -> bool:
        """Do what another thread posted, and continue a task that is ready; return whether there was either."""
        posted = bool(self._posts)
        if not (posted or self.ready):
            return False
        if monotonic() - self._left_at > self.door.near:
            secure()  # code of the application ran meanwhile: see aegis.engine.native.signals
        if posted:
            self._posts.popleft()()
        went_on = self._step(None)
        self._left_at = monotonic()
        return went_on or posted

    def catch_up(self) -> None:
        """Continue each task that became ready when the turn before had its result; not in the middle of a call.

        Otherwise tasks that have little left to do after their result would add up.
        """
        if self.current is None:
            for _ in range(len(self._posts)):
                self._posts.popleft()()
            for _ in range(len(self.ready)):
                if not self._step(None):
                    break

    def run_or_block(self, until: Callable[[], bool]) -> None:
        """Like :meth:`run`, also within a host function: then the task that called it waits."""
        if self.current is None:
            self.run(until)
        else:
            self.block(until)

    def post(self, function: Callable[[], None]) -> None:
        """Have the thread that runs the guest call ``function`` when it runs tasks next; for any thread."""
        self._posts.append(function)
        self.door.wake()

    def post_here(self, function: Callable[[], None]) -> None:
        """Call ``function`` when this thread, which runs the guest, runs tasks next."""
        self._posts.append(function)

    def has_posts(self) -> bool:
        """Return whether a function was posted and not called yet."""
        return bool(self._posts)

    def _step(self, within: Any) -> bool:
        """Continue one task that is ready, of the component instance ``within`` if given; return whether one did."""
        for _ in range(len(self.ready)):
            task = self.ready.popleft()
            task.queued = False
            if within is not None and task.instance is not within:
                task.wake()
                continue
            entering = self._entering(task.callee.lifted.instance, None)
            if not self._enter(entering):
                task.wake()
                continue
            done = task.proceed()
            self._leave(entering)
            if done:
                return True
        return False

    def _wait(self) -> None:
        """Wait until an operation is complete, and complete all that are."""
        if not self._complete() and not self._posts:
            hears = self._hears
            self._state.wait_for([*self.operations, *(() if hears is None else (hears,))])
            self._complete()
        self.door.check_time()

    def _complete(self) -> bool:
        """Complete all operations that are ready; return whether any was."""
        hears = self._hears
        if hears is not None and hears.ready():
            hears.complete()
        done = [operation for operation in list(self.operations) if operation.ready()]
        for operation in done:
            if self.operations.pop(operation, operation) is None:
                operation.complete()
        return bool(done)

    def _check(self) -> None:
        """Complete operations while tasks are ready, since a task that yields in a loop may wait for one.

        The checks take a tenth of the time at most, however many operations there are.
        """
        if (self.operations or self._hears is not None) and monotonic() >= self._next_check:
            begun = monotonic()
            self._complete()
            now = monotonic()
            self._next_check = now + 10 * (now - begun)

    def _deadlock(self) -> BaseException:
        if any(condition() for condition in self._blocked[:-1]):
            return trap("a wait in the middle of a call cannot end before a later one: use callbacks to wait")
        if self._blocked and any(could_go_on() for could_go_on in self.callers):
            return trap(
                "deadlock: a function waits in the middle of a call, which keeps its caller from running: "
                "lift it with a callback"
            )
        return trap("deadlock: the guest waits for an event that nothing can cause")

    def block(self, until: Callable[[], bool], *, cancellable: bool = False) -> bool:
        """Wait in the middle of the current task's code; return whether its cancellation was delivered instead."""
        task = self.current
        if task is not None and task.deliver_cancel(cancellable):
            return True
        if until():
            return False
        if task is None or not task.callee.is_async:
            self._block_sync(until, task)
            return False
        closed = [one for one in self._instances if not one.may_enter]
        for one in closed:
            one.may_enter = True

        def over() -> bool:
            return until() or (cancellable and task.state is TaskState.PENDING_CANCEL)

        self._blocked.append(over)
        self.run(over)
        self._blocked.pop()
        for one in closed:
            one.may_enter = False
        self.current = task
        return task.deliver_cancel(cancellable)

    def _block_sync(self, until: Callable[[], bool], task: Task | None) -> None:
        """Wait in a function of a synchronous type, which may only wait for tasks of its own instance."""
        while not until():
            if task is None or not self._step(task.instance):
                raise trap("a function of a synchronous type waits, which only async functions may")
            self.current = task

    def pause(self, *, cancellable: bool) -> bool:
        """Let a ready task run (``thread.yield``); return whether the current one has to cancel itself."""
        task = self.current
        if task is not None and task.deliver_cancel(cancellable):
            return True
        if task is not None and task.callee.is_async:
            self._check()
        if task is not None and task.callee.is_async and self.ready:
            turns = [len(self.ready)]

            def over() -> bool:
                turns[0] -= 1
                return turns[0] < 0 or not self.ready

            return self.block(over, cancellable=cancellable)
        return False

    # -- host operations -----------------------------------------------------------------------

    def expect(self, operation: Operation) -> None:
        """Complete ``operation`` when it is ready."""
        self.operations[operation] = None

    def keep(self, end: Any) -> None:
        """Close ``end``, a host's end of a stream, when the store is closed."""
        self._kept[end] = None

    def release(self, end: Any) -> None:
        """Do not close ``end`` any more."""
        self._kept.pop(end, None)
        self.operations.pop(end, None)

    def forget(self, operation: Operation) -> None:
        """Do not complete ``operation`` any more."""
        self.operations.pop(operation, None)

    # -- calls by the host ---------------------------------------------------------------------

    def call(self, callee: BoundCallee, args: tuple[Any, ...]) -> Any:
        """Call an exported function, and return its result.

        Return when its task has ended, or as soon as there is a result with streams: they are read afterwards.
        """
        if len(args) != len(callee.plan.function.params):
            raise TypeError
        if self.ready or self._posts:
            self.catch_up()
        results: list[Any] = []
        task = self.begin(callee, lambda: args, results.append, None)
        self.run((lambda: bool(results)) if callee.plan.gives_streams else (lambda: task.exited))
        result = results.pop()
        assert result is not CANCELLED  # the host requests no cancellation
        return result

    def close(self) -> None:
        """Cancel all operations, and close the host's ends of streams, because the store is closed.

        An exception of one, such as that of the application's iterator, does not keep the others open.
        """
        while self.operations:
            operation, _ = self.operations.popitem()
            with suppress(Exception):
                operation.cancel()
        while self._kept:
            end, _ = self._kept.popitem()
            with suppress(Exception):  # of the application's iterator, as of the destructors of its objects
                end.abandon()
        self.ready.clear()
