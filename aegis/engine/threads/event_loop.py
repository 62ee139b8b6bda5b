"""Calls that are awaited on an event loop, and awaitables of host functions, which run on that loop.

The guest runs on a guest thread. If a host function returns an awaitable, the loop runs it as a task, while the guest
thread waits in ``Door.wait_until``, where the deadline and a cancellation end the wait and cancel the task.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from inspect import iscoroutine
from typing import Any

from aegis.engine.call.door import Door
from aegis.engine.threads.guest_thread import Job, thread_state
from aegis.engine.threads.queue import GuestThreadPool, closing, pool
from aegis.engine.threads.supervisor import abandoned, expiring, spans, time_left
from aegis.errors import HostError
from aegis.values import Interest

__all__ = ["LoopOperation", "await_at_end", "await_on_loop", "finish_on_loop", "supervise_on_loop"]

_MAX_END_SECONDS = 5.0
"""Time for the coroutine of an object that is dropped outside of a call, which has no deadline."""


_within = ContextVar("aegis-within-a-call", default=False)
"""Whether the current code runs within a guest's call, as a host function. A call that it makes runs at once instead of
queueing, because the outer guest holds a turn and waits for it."""

# -- awaitables of host functions -------------------------------------------------------------------


class _LoopTask:
    """An awaitable passed to an event loop: it is either awaited there or closed, never leaked."""

    def __init__(
        self, awaitable: Any, loop: asyncio.AbstractEventLoop, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._then = ended
        self._waiting = [awaitable]
        self._loop = loop
        self._task: asyncio.Future[Any] | None = None
        self.news = threading.Event()
        try:
            loop.call_soon_threadsafe(self._start, context=copy_context())
        except RuntimeError:
            self.drop()
            raise HostError("the event loop of the call is closed") from None

    def drop(self) -> bool:
        """Close the awaitable and return ``True``, unless the loop has already started it."""
        try:
            awaitable = self._waiting.pop()
        except IndexError:
            return False
        _close(awaitable)
        return True

    def _start(self) -> None:
        try:
            awaitable = self._waiting.pop()
        except IndexError:
            return
        self._task = task = asyncio.ensure_future(_caught(awaitable))
        task.add_done_callback(lambda _: self._ended(awaitable))

    def _ended(self, awaitable: Any) -> None:
        _close(awaitable)  # a task cancelled before its first step never awaited it
        self.news.set()
        self._then()

    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def cancel(self) -> None:
        """Close the awaitable, or cancel its task if the loop has started it."""
        if not self.drop():
            with suppress(RuntimeError):  # the loop is closed and has ended its tasks
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def result(self) -> Any:
        """Return the result of the awaitable, or raise its exception."""
        assert self._task is not None
        if self._task.cancelled():
            raise asyncio.CancelledError
        value, error = self._task.result()
        if error is not None:
            try:
                raise error
            finally:
                error = None
        return value


async def _caught(awaitable: Any) -> tuple[Any, BaseException | None]:
    """Await, and return an exception instead of raising it: some, such as ``SystemExit``, would stop the loop.

    The guest thread raises it in the guest's call instead.
    """
    try:
        return await awaitable, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


def _close(awaitable: Any) -> None:
    if iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, asyncio.Future):
        with suppress(RuntimeError):
            awaitable.get_loop().call_soon_threadsafe(awaitable.cancel)


class LoopOperation:
    """An awaitable of the host function ``name`` that is awaited on the call's event loop while other tasks run."""

    wakes_door = True
    """Its end wakes the door, so that it need not be checked before."""

    def __init__(self, door: Door, name: str, awaitable: Any) -> None:
        loop = thread_state.loop
        if loop is None:
            _close(awaitable)
            raise _synchronous(name)
        self._task = _LoopTask(awaitable, loop, door.wake)
        self.ready, self.result, self.cancel = self._task.done, self._task.result, self._task.cancel

    def interest(self) -> Interest:
        """Return no events: the end of the awaitable wakes the door."""
        return Interest()


def _synchronous(name: str) -> HostError:
    return HostError(
        f"host function {name} is asynchronous, but the guest was called synchronously: "
        "call the guest with `await sandbox.acall(…)`"
    )


def await_on_loop(door: Door, name: str, awaitable: Any) -> Any:
    """Await ``awaitable``, a result of the host function ``name``, on the current call's event loop; return its result.

    Raise :class:`~aegis.errors.HostError` in a synchronous call, which has no loop, and ``DeadlineExceeded`` or
    ``Cancelled`` if the call is stopped while waiting.
    """
    loop = thread_state.loop
    if loop is None:
        _close(awaitable)
        raise _synchronous(name)
    before, door.serving = door.serving, name
    task = _LoopTask(awaitable, loop)
    try:
        with (thread_state.turns or pool).away():
            door.wait_until(task.done, task.news)
    except BaseException:
        task.cancel()
        raise
    result = task.result()
    door.serving = before
    return result


def await_at_end(awaitable: Any, name: str) -> None:
    """Await ``awaitable``, the result of the destructor ``name``, outside of a call; its deadline may be over.

    Raise ``TypeError`` if this thread works for no event loop, and ``TimeoutError`` after some seconds.
    """
    loop = thread_state.loop
    if loop is None:
        _close(awaitable)
        raise TypeError(
            f"{name} is asynchronous, but no event loop awaits the sandbox: "
            "define it as a plain method, or use `async with runtime.asandbox(…)`"
        )
    task = _LoopTask(awaitable, loop)
    until = time.monotonic() + _MAX_END_SECONDS
    while not task.done():
        if not task.news.wait(max(0.0, until - time.monotonic())):
            task.cancel()
            raise TimeoutError(f"{name} did not end within {_MAX_END_SECONDS:g} s")
    task.result()


# -- calls awaited on a loop ---------------------------------------------------------------------------


async def supervise_on_loop(
    function: Callable[[], Any],
    door: Door,
    cancel: Callable[[], None],
    leave: Callable[[Job], None],
    turns: GuestThreadPool | None = None,
) -> Any:
    """Run ``function`` on a guest thread and await its end; the asynchronous counterpart of ``supervise``.

    ``turns`` is the pool of a runtime that has one of its own.

    An exception of a host function that would stop the loop or cancel the task is raised as ``HostError``.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    nested = _within.get()
    chosen = turns or pool
    job = chosen.submit(_on_thread(function, loop, chosen), _setting(ended, loop), at_once=nested)
    over = False
    try:
        over = await _ended(job, ended, door) or await _stopped(job, door, expiring(door, cancel), ended)
    except asyncio.CancelledError:
        over = job.claim() or await _stopped(job, door, cancel, ended)
        raise
    finally:
        if not over:
            stuck = door.serving
            leave(job)
    if not over:
        raise abandoned(door, stuck)
    return job.outcome()


async def finish_on_loop(function: Callable[[], Any]) -> Any:
    """Run ``function``, which runs no guest, on a thread, and await its end also if the task is cancelled."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    job = closing.submit(_on_thread(function, loop, closing), _setting(ended, loop))
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return job.outcome()


def _on_thread(
    function: Callable[[], Any], loop: asyncio.AbstractEventLoop, turns: GuestThreadPool
) -> Callable[[], Any]:
    """Return ``function`` with the context of the caller, for a thread whose awaitables run on ``loop``."""
    context = copy_context()
    context.run(_within.set, True)

    def call() -> Any:
        thread_state.loop, thread_state.turns = loop, turns
        try:
            return context.run(function)
        finally:
            thread_state.loop = thread_state.turns = None

    return call


def _setting(ended: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> Callable[[Job], None]:
    """Return the callback of a job that sets the future ``ended``."""

    def finished(job: Job) -> None:
        with suppress(RuntimeError):  # the loop is closed, so the caller no longer waits
            loop.call_soon_threadsafe(_set_unless_done, ended)

    return finished


async def _ended(job: Job, ended: asyncio.Future[None], door: Door) -> bool:
    """Wait for the job until its deadline; return whether it ended. Time spent in the queue does not count."""
    while not ended.done():
        left = time_left(door, time.monotonic() if job.started is None else job.started)
        if left <= 0:
            break
        await asyncio.wait([ended], timeout=None if left == math.inf else min(left, threading.TIMEOUT_MAX))
    return ended.done()


async def _stopped(job: Job, door: Door, cancel: Callable[[], None], ended: asyncio.Future[None]) -> bool:
    for span in spans(door, cancel):
        if ended.done():
            break
        await asyncio.wait([ended], timeout=span)
    return ended.done()


def _set_unless_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
