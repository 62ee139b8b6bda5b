"""Host functions that block while they read the streams of their caller: each call has a thread of its own.

A plain function reads by blocking. On the thread that runs the guest, it would wait for elements that the guest writes
after the function has returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from aegis.engine.threads.await_result import awaited_later
from aegis.engine.threads.guest_thread import run_on_guest_thread, thread_state
from aegis.errors import CallError, SandboxStateError
from aegis.values import Interest

__all__ = ["ThreadedCall", "threaded"]


def threaded(function: Callable[..., Any], name: str, door: Any) -> Callable[..., Any]:
    """Return a function that starts a call of the host function ``name`` on a thread, and returns the operation."""
    return lambda *values: ThreadedCall(function, values, name, door)


class ThreadedCall:
    """A call of a plain host function on a thread of its own; a :class:`~aegis.component.tasks.host_calls.Later`."""

    wakes_door = True
    """Its end wakes the door, so that it need not be checked before."""

    def __init__(self, function: Callable[..., Any], values: tuple[Any, ...], name: str, door: Any) -> None:
        self.door, self._name = door, name
        self._over = False
        self._tasks: Any = None
        self._news = threading.Event()
        self._cancel_read: Callable[[], None] | None = None
        """Cancels the read that waits for the guest, on the thread that runs the guest."""
        self._awaited: Any = None
        context = copy_context()

        def call() -> Any:
            thread_state.threaded = self
            try:
                return context.run(function, *values)
            finally:
                thread_state.threaded = None

        self._job = run_on_guest_thread(call, lambda _: door.wake())

    # -- on the thread that runs the guest -----------------------------------------------------

    def ready(self) -> bool:
        """Return whether the function has returned, and the awaitable that it may have returned is complete."""
        job = self._job
        if self._awaited is None and job.ended and job.error is None and hasattr(type(job.result), "__await__"):
            self._awaited = awaited_later(self.door, job.result, self._name)
        return job.ended if self._awaited is None else self._awaited.ready()

    def interest(self) -> Interest:
        """Return no events: the end of the function wakes the door."""
        return Interest() if self._awaited is None else self._awaited.interest()

    def result(self) -> Any:
        """Return the function's result, or raise its exception."""
        return self._job.outcome() if self._awaited is None else self._awaited.result()

    def cancel(self) -> None:
        """Have the function's reads raise ``SandboxStateError``: Python code cannot be ended otherwise."""
        self._over = True
        cancel, self._cancel_read = self._cancel_read, None
        if cancel is not None:
            self._tasks.stuck.discard(self)
            cancel()
        if self._awaited is not None:
            self._awaited.cancel()
        self._news.set()

    # -- on the thread of the function ---------------------------------------------------------

    def take(self, tasks: Any, start: Callable[[Callable[[Any], None]], Callable[[], None]]) -> Any:
        """Have the thread that runs the guest ``start`` a read of the scheduler ``tasks``; wait for its elements."""
        found: list[Any] = []
        failed: list[CallError] = []

        def done(values: Any) -> None:
            found.append(values)
            tasks.stuck.discard(self)
            self._cancel_read = None
            self._news.set()

        def begin() -> None:
            if self._over:
                return
            tasks.stuck.add(self)
            try:
                cancel = start(done)
            except CallError as error:
                tasks.stuck.discard(self)
                failed.append(error)
                self._news.set()
                return
            if not found:
                self._cancel_read = cancel

        self._tasks = tasks
        self._news.clear()
        tasks.post(begin)
        while not (found or failed):
            if self._over:
                raise SandboxStateError(
                    "the guest of this stream ended, or cancelled the call of the host function that reads it: return",
                    state="closed",
                )
            self._news.wait()
            self._news.clear()
        if failed:
            raise failed[0]
        return found[0]
