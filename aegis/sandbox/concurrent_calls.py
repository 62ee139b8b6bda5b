"""Calls of an asynchronous component that overlap, and reads of its streams, for tasks of event loops.

While there are any, one guest thread runs the component's scheduler: the turn. A call has the limit ``timeout`` from
its start; the turn ends at the earliest of these deadlines, because a guest that is stopped in the middle of its code
cannot be called again. The limits ``fuel`` and ``host_bytes`` count anew from the start of each call and read: calls
that overlap cannot be distinguished, and a turn may last for as long as a service does. A cancelled call is cancelled
in the guest (``task.cancel``); if the guest does not confirm that within a second, the turn is cancelled as a whole.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from aegis.component.conversion.coerce import fit_arguments
from aegis.component.tasks.entry import unwrapped
from aegis.component.tasks.task import CANCELLED
from aegis.engine.store.token import busy_error
from aegis.engine.threads.event_loop import supervise_on_loop
from aegis.errors import AegisError, Cancelled, HostError, SandboxStateError
from aegis.sandbox.turn_operations import TurnOperation, TurnOperations

if TYPE_CHECKING:
    from aegis.sandbox.turn_operations import Start, TurnGuest

__all__ = ["ConcurrentTurn"]

_CANCEL_SECONDS = 1.0
"""Time for a guest to confirm the cancellation of a call."""
_LOOP_ENDED = "the event loop that ran the guest ended"


class _AwaitedOperation(TurnOperation):
    """A call or a read that a task of an event loop awaits."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.observing: AbstractContextManager[None] | None = None

    def pass_on(self, value: Any, error: BaseException | None) -> None:
        """Pass the result or the error to the task, from any thread."""
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


def _dropped(value: Any) -> None:
    """Drop the result of a call whose task was cancelled."""


def _poisoning(error: BaseException) -> BaseException:
    """Return the error for the state of the run: a ``TypeError`` is not that of wrong arguments, which were checked."""
    return HostError(str(error)) if isinstance(error, TypeError) else error


class ConcurrentTurn:
    """The turn of one store for the tasks of an event loop; meanwhile the store is busy for all others."""

    def __init__(self, run: Any, store: Any, guest: TurnGuest) -> None:
        self._run, self._store = weakref.ref(run), weakref.ref(store)
        self._guest, self._operations = guest, TurnOperations(guest)
        self._lock, self._live = self._operations.lock, self._operations.live
        self._queued: list[_AwaitedOperation] = []
        """Operations for the turn that is about to begin."""
        self._running = False
        """Whether the turn has begun, and takes operations by posts."""
        self._entering = threading.Lock()
        """Held by the thread of a turn, so that the next turn begins when that has left the guest."""
        self._serving: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that has the latest turn: it also runs the asynchronous host functions."""
        self._left: Future[None] = Future()
        """Is done when the thread of the latest turn has left the guest."""

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

        def start(operation: _AwaitedOperation) -> Callable[[], Any]:
            self._guest.check_room()
            operation.observing = run.meter.observing(name, args) if run.observed else None
            if operation.observing is not None:
                operation.observing.__enter__()
            return self._guest.call(name, values, self._operations.settler(operation))

        value = await self._perform(start)
        if value is CANCELLED:
            raise Cancelled("the call was cancelled")
        return unwrapped(entry.function)(value)

    async def perform(
        self, start: Callable[[Callable[[Any], None]], Callable[[], Any]], lost: Callable[[Any], None]
    ) -> Any:
        """Start an operation on the thread that runs the guest, and await its result.

        ``start`` takes the function for the result, and returns the function that cancels the operation; that returns
        ``True`` if the result is still to come. ``lost`` takes a result that came when the task was cancelled.
        """

        def begin(operation: _AwaitedOperation) -> Callable[[], Any]:
            cancel = start(lambda value: self._operations.settle(operation, value))

            def give_up() -> None:
                if not cancel():
                    self._operations.settle(operation, None)

            return give_up

        return await self._perform(begin, lost)

    async def _perform(self, start: Start, lost: Callable[[Any], None] = _dropped) -> Any:
        run, store = self._alive()
        self._note_closed_loop(run)
        operation = _AwaitedOperation(start)
        with self._lock:
            if self._serving is not None and self._loop is not asyncio.get_running_loop():
                raise busy_error()  # the end of that loop would end this call, and the guest with it
            self._live[operation] = None
            if self._serving is None:
                self._loop, self._left = asyncio.get_running_loop(), Future()
                self._serving = asyncio.ensure_future(self._serve(run, store, self._left))
            running = self._running
            if not running:
                self._queued.append(operation)
        if running:
            self._guest.post(lambda: self._operations.started(operation))
        try:
            value = await asyncio.shield(operation.future)
        except asyncio.CancelledError:
            ending = asyncio.ensure_future(self._cancelled(run, operation, lost))
            while not ending.done():
                with suppress(asyncio.CancelledError):  # a second cancellation does not free the guest from the first
                    await asyncio.wait([ending])
            ending.result()
            await self._turn_left()
            raise
        except GeneratorExit:  # the coroutine is closed, and must not wait
            operation.unwanted = True
            raise
        except BaseException:
            await self._turn_left()
            raise
        try:
            await self._turn_left()
        except asyncio.CancelledError:
            if value is not None:
                lost(value)
            raise
        return value

    def _note_closed_loop(self, run: Any) -> None:
        """End a turn whose loop was closed while calls were under way, after its thread has left the guest.

        Its task does not run any more. Raise ``SandboxStateError`` then: the guest was left in the middle.
        """
        loop = self._loop
        if self._serving is not None and loop is not None and loop.is_closed() and not self._entering.locked():
            run.failed("(tasks)", (), Cancelled(_LOOP_ENDED))
            self._fail(Cancelled(_LOOP_ENDED))
            run.live()

    async def _turn_left(self) -> None:
        """After the last operation, wait until its turn has left the guest: then the sandbox is free for other uses."""
        if not self._live:
            await asyncio.wait([asyncio.wrap_future(self._left)])

    async def _cancelled(self, run: Any, operation: _AwaitedOperation, lost: Callable[[Any], None]) -> None:
        """Cancel an operation whose task was cancelled; cancel the turn if the guest does not confirm it."""
        operation.unwanted = True
        self._guest.post(lambda: self._operations.cancelled(operation))
        _, waiting = await asyncio.wait([operation.future], timeout=_CANCEL_SECONDS)
        if waiting:
            run.cancel_now()
            await asyncio.wait([operation.future])
        if not operation.future.cancelled() and operation.future.exception() is None:
            value = operation.future.result()
            if value is not None:
                lost(value)

    async def _serve(self, run: Any, store: Any, left: Future[None]) -> None:
        """Run the scheduler on a guest thread until no operation is left."""
        this = asyncio.current_task()
        try:
            await supervise_on_loop(
                lambda: self._turn(store), run.door, lambda: self._stop(run, store),
                lambda job: run.leave(job) if run.store is store else None, run.backend.turns,
            )  # fmt: skip
        except BaseException as error:
            if self._serving is not this:
                raise  # the loop ends, and no operation was left: the turn has ended by itself
            try:
                began = self._running or not isinstance(error, asyncio.CancelledError)
                if began and run.store is store:  # the coroutine of a closed loop may end long after a reset
                    run.failed("(tasks)", (), _poisoning(error))
            finally:
                self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            left.set_result(None)

    def _stop(self, run: Any, store: Any) -> None:
        """Cancel the turn, unless it ends by itself or its guest was replaced."""
        with self._lock:  # so that the turn does not end meanwhile, and the next call is cancelled instead
            if self._live and self._running and run.store is store:
                run.cancel_now()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._serving, self._running = None, False
            ended, self._queued = list(self._live), []
            self._live.clear()
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            error = Cancelled(_LOOP_ENDED)
        for operation in ended:
            operation.settle(None, error)

    # -- on the thread that runs the guest -----------------------------------------------------

    def _turn(self, store: Any) -> None:
        turn = store.turn()
        assert turn is not None  # a guest thread may run guests
        ended = False

        def run_guest() -> None:
            nonlocal ended
            self._guest.run(self._begin, self._finished, self._operations.may_hear)
            ended = True

        with self._entering:
            try:
                turn(run_guest)
            except AegisError:
                if not ended:
                    raise
                store.door.stop = None  # it was stopped when no operation was left

    def _begin(self) -> None:
        with self._lock:
            self._running = True
            queued, self._queued = self._queued, []
        while queued:
            self._operations.started(queued.pop(0))

    def _finished(self) -> bool:
        """Return whether no operation is left: then the turn ends, and the next operation begins another."""
        if self._live:
            return False
        with self._lock:
            if self._live:
                return False
            self._serving, self._running = None, False
            return True

    def _alive(self) -> tuple[Any, Any]:
        run, store = self._run(), self._store()
        if run is None or store is None or run.store is not store or store.closed:
            raise SandboxStateError("the guest was closed or replaced: call the new one", state="closed")
        return run, store
