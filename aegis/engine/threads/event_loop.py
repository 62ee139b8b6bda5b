"""Calls that an event loop waits for, and awaitables of host functions, which are awaited on that loop.

A guest runs on a guest thread. What its host function returns to be awaited goes to the loop as a task, and the
thread waits at the door, so that the deadline and a cancellation end the wait; the task is cancelled then.
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
from aegis.engine.threads.guest_thread import Job, where
from aegis.engine.threads.queue import pool
from aegis.engine.threads.supervisor import abandoned, expiring, host_function, spans, time_left
from aegis.errors import HostError

__all__ = ["await_on_loop", "supervise_on_loop"]


_within = ContextVar("aegis-within-a-call", default=False)
"""Whether what runs serves a guest's call: a call that it makes in turn is waited for by that guest."""

# -- awaitables of host functions -------------------------------------------------------------------


class _Task:
    """An awaitable on its way to a loop: it is awaited there, or closed, never left."""

    def __init__(self, awaitable: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting = [awaitable]
        self._loop = loop
        self._task: asyncio.Future[Any] | None = None
        self.news = threading.Event()
        try:
            loop.call_soon_threadsafe(self._start, context=copy_context())
        except RuntimeError:
            self.drop()
            raise HostError("the event loop that the call was made on is closed") from None

    def drop(self) -> bool:
        """Close the awaitable unless the loop has begun with it; tell whether it had not."""
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
        _close(awaitable)  # a task that was cancelled before its first step has not begun to await it
        self.news.set()

    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def cancel(self) -> None:
        """Give it up."""
        if not self.drop():
            with suppress(RuntimeError):  # the loop is closed, and has ended its tasks
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def result(self) -> Any:
        """Return what came of it, or raise that."""
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
    """Await, and keep what is raised for the guest's own call: raised here, some of it would end the loop."""
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


def await_on_loop(door: Door, name: str, awaitable: Any) -> Any:
    """Return what ``awaitable`` gives, awaited on the loop of the call under way on this thread.

    Raise :class:`~aegis.errors.HostError` when the call is none of a loop's, and what ends the call meanwhile.
    """
    loop = where.loop
    if loop is None:
        _close(awaitable)
        raise HostError(
            f"host function {name} is asynchronous, and nobody awaits it in a synchronous call; "
            "call the guest by `await sandbox.acall(…)`"
        )
    before, door.serving = door.serving, name
    task = _Task(awaitable, loop)
    try:
        with pool.away():
            door.wait_until(task.done, task.news)
    except BaseException:
        task.cancel()
        raise
    result = task.result()
    door.serving = before
    return result


# -- calls that a loop waits for -----------------------------------------------------------------------


async def supervise_on_loop(
    function: Callable[[], Any], door: Door, cancel: Callable[[], None], leave: Callable[[Job], None]
) -> Any:
    """Run ``function`` on a guest thread and await its end, as ``supervise`` waits for it on a thread.

    What a host function raised that would end the loop, or the task, arrives as ``HostError``.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    nested = _within.get()
    context = copy_context()
    context.run(_within.set, True)

    def call() -> Any:
        where.loop = loop
        try:
            return context.run(function)
        finally:
            where.loop = None

    def finished(job: Job) -> None:
        with suppress(RuntimeError):  # the loop is closed; nobody waits any more
            loop.call_soon_threadsafe(_set_unless_done, ended)

    job = pool.submit(call, finished, at_once=nested)
    over = False
    try:
        over = await _ended(job, ended, door) or await _stopped(job, expiring(door, cancel), ended)
    except asyncio.CancelledError:
        over = job.claim() or await _stopped(job, cancel, ended)
        raise
    finally:
        if not over:
            stuck = host_function(job.thread)
            leave(job)
    if not over:
        raise abandoned(door, stuck)
    return job.outcome()


async def _ended(job: Job, ended: asyncio.Future[None], door: Door) -> bool:
    """Wait for the end, until the call is past its deadline; time in the queue does not count."""
    while not ended.done():
        left = time_left(door, time.monotonic() if job.started is None else job.started)
        if left <= 0:
            break
        await asyncio.wait([ended], timeout=None if left == math.inf else min(left, threading.TIMEOUT_MAX))
    return ended.done()


async def _stopped(job: Job, cancel: Callable[[], None], ended: asyncio.Future[None]) -> bool:
    for span in spans(job, cancel):
        if ended.done():
            break
        await asyncio.wait([ended], timeout=span)
    return ended.done()


def _set_unless_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
