"""Calls of an asynchronous component that overlap, and reads of its streams, for tasks of event loops.

While there are any, one guest thread runs the component's scheduler: the turn. A call has the limit ``timeout`` from
its start; the turn ends at the earliest of these deadlines, because a guest that is stopped in the middle of its code
cannot be called again. A cancelled call is cancelled in the guest (``task.cancel``); if the guest does not confirm that
within a second, the turn is cancelled as a whole.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from aegis.component.conversion.coerce import fit_arguments
from aegis.component.planning.signatures import lifted_exports
from aegis.component.tasks.callee import BoundCallee
from aegis.component.tasks.entry import unwrapped
from aegis.component.tasks.task import CANCELLED
from aegis.engine.store.token import busy_error
from aegis.engine.threads.event_loop import supervise_on_loop
from aegis.errors import AegisError, Cancelled, SandboxStateError

if TYPE_CHECKING:
    from aegis.component.store import ComponentStore

__all__ = ["ConcurrentTurn", "awaited_work"]

_CANCEL_SECONDS = 1.0
"""Time for a guest to confirm the cancellation of a call."""

Start = Callable[["_AwaitedOperation"], Callable[[], None]]


class _AwaitedOperation:
    """A call or a read that a task of an event loop awaits."""

    def __init__(self, start: Start) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.start = start
        self.cancel: Callable[[], None] | None = None
        """Cancels the operation on the thread of the guest; ``None`` before it starts."""
        self.deadline = math.inf
        self.observing: AbstractContextManager[None] | None = None
        self.begun = self.over = self.unwanted = False

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Pass the result or the error to the task, from any thread."""
        if self.over:
            return
        self.over = True
        observing, self.observing = self.observing, None
        if observing is not None:
            with suppress(BaseException):  # it raises the error again
                observing.__exit__(None if error is None else type(error), error, None)
        with suppress(RuntimeError):  # the loop is closed, so nothing waits
            self._loop.call_soon_threadsafe(self._set, value, error)

    def _set(self, value: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)
            if self.unwanted:
                self.future.exception()  # retrieved: the task was cancelled


class ConcurrentTurn:
    """The turn of one store for the tasks of an event loop; meanwhile the store is busy for all others."""

    def __init__(self, run: Any, store: ComponentStore) -> None:
        self._run, self._store = weakref.ref(run), weakref.ref(store)
        self._lock = threading.Lock()
        self._live: dict[_AwaitedOperation, None] = {}
        self._serving = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that has the latest turn: it also runs the asynchronous host functions."""
        self._over: Future[None] = Future()
        """Is done when the thread of the latest turn has left the guest."""
        self._over.set_result(None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bound: dict[Any, BoundCallee] = {}
        self._others = len(list(lifted_exports(store.plan.program))) > 1

    # -- for tasks of event loops --------------------------------------------------------------

    async def call(self, name: Any, args: tuple[Any, ...]) -> Any:
        """Call an export, while other calls may be under way; return its result."""
        run, store = self._alive()
        run.bus.refuse_subscribers()
        entry = store.plan.entry(name)
        wanted = len(entry.function.params)
        if len(args) != wanted:
            run.failed(name, args, TypeError())  # raises CallError: the number of arguments is wrong
        values = tuple(fit_arguments(entry.function, args))

        def start(operation: _AwaitedOperation) -> Callable[[], None]:
            full = store.state.tasks.full()
            if full is not None:
                raise full
            operation.observing = run.meter.observing(name, args) if run.observed else None
            if operation.observing is not None:
                operation.observing.__enter__()
            return self._begin(store, name, values, operation)

        value = await self._perform(start)
        if value is CANCELLED:
            raise Cancelled("the call was cancelled")
        return unwrapped(entry.callee.function)(value)

    def _begin(
        self, store: ComponentStore, name: Any, values: tuple[Any, ...], operation: _AwaitedOperation
    ) -> Callable[[], None]:
        """Start the task of a call, on the thread that runs the guest; return the function that cancels it."""
        callee = self._bound.get(name)
        if callee is None:
            callee = self._bound[name] = BoundCallee(store.plan.entry(name).callee, store.state)
        results: list[Any] = []
        early = callee.plan.gives_streams

        def resolved(value: Any) -> None:
            if early or value is CANCELLED:
                self._settle(operation, value)
            else:
                results.append(value)

        def settle() -> None:
            if results:
                self._settle(operation, results.pop())

        task = store.state.tasks.begin(callee, lambda: values, resolved, None)
        if task.exited:
            settle()
        elif not operation.over:  # otherwise the task would keep the readers in the result alive
            task.on_exit = settle

        def cancel() -> None:
            if not task.exited:
                task.request_cancel(None)

        return cancel

    async def perform(self, start: Callable[[Callable[[Any], None]], Callable[[], None]]) -> Any:
        """Start an operation on the thread that runs the guest, and await its result."""

        def begin(operation: _AwaitedOperation) -> Callable[[], None]:
            cancel = start(lambda value: self._settle(operation, value))

            def give_up() -> None:
                cancel()
                self._settle(operation, None)

            return give_up

        return await self._perform(begin)

    async def _perform(self, start: Start) -> Any:
        run, store = self._alive()
        operation = _AwaitedOperation(start)
        with self._lock:
            if not self._serving:
                self._loop = asyncio.get_running_loop()
            elif self._loop is not asyncio.get_running_loop():  # its end would end this call, and the guest with it
                raise busy_error()
            self._live[operation] = None
            if not self._serving:
                self._serving = True
                before, self._over = self._over, Future()
                task = asyncio.ensure_future(self._serve(run, store, before, self._over))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        store.state.tasks.post(lambda: self._started(store, operation))
        try:
            return await asyncio.shield(operation.future)
        except asyncio.CancelledError:
            await self._cancelled(run, store, operation)
            raise
        finally:
            if not self._live:  # the sandbox can be closed or called synchronously as soon as the last call returns
                await asyncio.wait([asyncio.wrap_future(self._over)])

    async def _cancelled(self, run: Any, store: ComponentStore, operation: _AwaitedOperation) -> None:
        """Cancel an operation whose task was cancelled; cancel the turn if the guest does not confirm it."""
        operation.unwanted = True
        store.state.tasks.post(lambda: self._cancel(operation))
        _, waiting = await asyncio.wait([operation.future], timeout=_CANCEL_SECONDS)
        if waiting:
            run.cancel_now()
            await asyncio.wait([operation.future])
        if not operation.future.cancelled():
            operation.future.exception()

    async def _serve(self, run: Any, store: ComponentStore, before: Future[None], over: Future[None]) -> None:
        """Run the scheduler on a guest thread until no operation is left, after the turn before is ``over``."""
        try:
            await asyncio.wrap_future(before)
            await supervise_on_loop(
                lambda: self._turn(store), run.door, run.cancel_now, run.leave, run.backend.turns
            )  # fmt: skip
        except BaseException as error:
            run.failed("(tasks)", (), error)
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            over.set_result(None)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._serving = False
            ended, self._live = list(self._live), {}
        if isinstance(error, asyncio.CancelledError):
            error = Cancelled("the event loop that ran the guest ended")
        for operation in ended:
            operation.settle(None, error)

    # -- on the thread that runs the guest -----------------------------------------------------

    def _turn(self, store: ComponentStore) -> None:
        turn = store.turn()
        assert turn is not None  # a guest thread may run guests
        turn(lambda: self._run_tasks(store))

    def _run_tasks(self, store: ComponentStore) -> None:
        tasks = store.state.tasks
        tasks.may_hear = self._may_hear
        try:
            while True:
                tasks.run(self._idle)
                with self._lock:
                    if not self._live:
                        self._serving = False
                        return
        finally:
            tasks.may_hear = _never

    def _idle(self) -> bool:
        return not self._live

    def _may_hear(self) -> bool:
        """Return whether to wait for the application, whose next call may wake those that wait.

        A lone call of a component with one function is a deadlock, because nothing else can be called.
        """
        live = list(self._live)
        return self._others or len(live) > 1 or not all(operation.begun for operation in live)

    def _started(self, store: ComponentStore, operation: _AwaitedOperation) -> None:
        operation.begun = True
        if operation.unwanted:
            self._settle(operation, None)
            return
        timeout = store.plan.limits.timeout
        operation.deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            operation.cancel = operation.start(operation)
        except SandboxStateError as error:
            self._settle(operation, None, error)
        except AegisError as error:
            if getattr(error, "limit", None) != "tasks":
                raise
            self._settle(operation, None, error)
        self._set_deadline(store)

    def _cancel(self, operation: _AwaitedOperation) -> None:
        if operation.cancel is not None and not operation.over:
            operation.cancel()

    def _settle(self, operation: _AwaitedOperation, value: Any, error: BaseException | None = None) -> None:
        with self._lock:
            self._live.pop(operation, None)
        operation.settle(value, error)
        store = self._store()
        if store is not None:
            self._set_deadline(store)

    def _set_deadline(self, store: ComponentStore) -> None:
        """The turn ends at the earliest deadline of an operation; without one it is about to end."""
        deadlines = [operation.deadline for operation in list(self._live) if operation.deadline != math.inf]
        if deadlines:
            store.door.deadline = min(deadlines)

    def _alive(self) -> tuple[Any, ComponentStore]:
        run, store = self._run(), self._store()
        if run is None or store is None or run.store is not store or store.closed:
            raise SandboxStateError("the guest was closed or replaced: call the new one", state="closed")
        return run, store


async def awaited_work(run: Any, function: Callable[[], Any]) -> Any:
    """Call ``function``, which runs the guest of ``run``, on a guest thread; await its result."""
    return await supervise_on_loop(function, run.door, run.cancel_now, run.leave, run.backend.turns)


def _never() -> bool:
    return False
