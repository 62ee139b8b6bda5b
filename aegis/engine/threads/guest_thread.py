"""Which thread a guest may run on, and threads of ours for when the caller's will not do (D9).

A guest that recurses on a thread with a small stack kills the process (F29), and a Python signal handler
that raises at the entry of a native callback does too (F9); signal handlers run on the main thread only.
So a call runs *directly* on a thread that is not the main one and whose stack is known to be large;
otherwise it is *supervised*: it runs on a guest thread and the caller waits, so that Ctrl-C and the
deadline reach it. A supervised call costs two thread switches, some 10 to 50 µs.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
import time
from collections.abc import Callable

from aegis.limits import MAX_STACK_BYTES, MIB
from aegis.support.lean import Any

__all__ = [
    "DIRECT", "MAIN", "NESTED", "SMALL", "Job", "on_enough_stack", "run_on_guest_thread", "start", "start_thread",
    "where",
]  # fmt: skip

UNKNOWN, DIRECT, MAIN, NESTED, SMALL = range(5)
STACK = MAX_STACK_BYTES + 6 * MIB
_ENOUGH = MAX_STACK_BYTES + 2 * MIB
_SIGNAL_CHECK_SECONDS = 0.2
_IDLE_KEPT = 8


class Where(threading.local):
    """What the current thread is good for; ``mode`` is one of the constants of this module."""

    mode = UNKNOWN
    account: Any = None
    """The memory account of the store that is being instantiated on this thread."""
    loop: Any = None
    """The event loop that waits for the call on this thread, if one does."""

    def settle(self) -> int:
        """Find out what this thread is, once."""
        if self.mode == UNKNOWN:
            if threading.current_thread() is threading.main_thread():
                self.mode = MAIN
            else:
                self.mode = DIRECT if _stack_size() >= _ENOUGH else SMALL
        return self.mode


where = Where()


def _stack_size() -> int:
    """Return the size of this thread's stack in bytes, 0 where it cannot be told."""
    try:
        library = ctypes.CDLL(None)
        library.pthread_self.restype = ctypes.c_void_p
        me = ctypes.c_void_p(library.pthread_self())
        if sys.platform == "darwin":
            library.pthread_get_stacksize_np.restype = ctypes.c_size_t
            return int(library.pthread_get_stacksize_np(me))
        attributes = (ctypes.c_char * 256)()
        if library.pthread_getattr_np(me, attributes):
            return 0
        address, size = ctypes.c_void_p(), ctypes.c_size_t()
        library.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
        library.pthread_attr_destroy(attributes)
        return size.value
    except (OSError, AttributeError, TypeError):
        return 0


def _nothing() -> None:
    """What an ended job would run: it keeps nothing alive."""


class Job:
    """A function on a guest thread, and how it ended. ``started`` is when it began (``time.monotonic``)."""

    __slots__ = ("_done", "_function", "_then", "_turn", "ended", "error", "left", "result", "started", "thread")

    def __init__(self, function: Callable[[], Any], then: Callable[[Job], None] | None = None) -> None:
        self._function = function
        self._then = [] if then is None else [then]
        self._turn: list[None] = [None]
        self._done = threading.Lock()
        self._done.acquire()
        self.thread = 0
        self.ended = self.left = False
        self.started: float | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        if not self.claim():
            return
        self.thread = threading.get_ident()
        self.started = time.monotonic()
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error
        self._function = _nothing
        self.ended = True
        self._done.release()

    def claim(self) -> bool:
        """Take the job, to run it or to see to it that nobody does; tell whether nobody had."""
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def afterwards(self, then: Callable[[Job], None]) -> None:
        """Have ``then`` called once the job has ended: on its thread, or here if it has."""
        self.left = True
        self._then.append(then)
        if self.ended:
            self.tell()

    def tell(self) -> None:
        """Call what waited for the end. The job's thread and one that came late may both look, so it is popped."""
        while self._then:
            try:
                then = self._then.pop()
            except IndexError:
                return
            then(self)

    def wait(self, seconds: float | None) -> bool:
        """Wait for the end, at most ``seconds``; tell whether it came. Signals interrupt the wait."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        left = math.inf if seconds is None else seconds
        # The kernel may give a signal to another thread, as it does to a process that continues after SIGSTOP. That
        # does not interrupt this wait, but Python's handler runs at its next instruction.
        while not self._done.acquire(timeout=max(0.0, min(left, _SIGNAL_CHECK_SECONDS))):
            left = until - time.monotonic()
            if left <= 0:
                return False
        return True

    def outcome(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        error = self.error
        if error is not None:
            try:
                raise error
            finally:
                self.error = error = None
        return self.result


class _Worker:
    """A guest thread between jobs."""

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._next.acquire()
        self._job: Job | None = None
        with _start_lock:
            before = threading.stack_size(STACK)
            try:
                start_thread(threading.Thread(target=self._loop, name="aegis-guest", daemon=True))
            finally:
                threading.stack_size(before)

    def give(self, job: Job) -> None:
        self._job = job
        self._next.release()

    def _loop(self) -> None:
        where.mode = DIRECT
        while True:
            self._next.acquire()
            job, self._job = self._job, None
            if job is None:
                return
            keep = len(_idle) < _IDLE_KEPT
            job.run()
            keep = keep and not job.left
            if keep:
                _idle.append(self)  # first: who is told of the end may want this thread at once
            job.tell()
            if not keep:
                return
            del job


_idle: list[_Worker] = []
_start_lock = threading.Lock()


def on_enough_stack(function: Callable[[], Any]) -> Any:
    """Return what ``function`` does, run on a guest thread where this one's stack is too small for the compiler."""
    if where.settle() != SMALL:
        return function()
    job = run_on_guest_thread(function)
    job.wait(None)
    return job.outcome()


def run_on_guest_thread(function: Callable[[], Any], then: Callable[[Job], None] | None = None) -> Job:
    """Start ``function`` on a guest thread; ``then`` is called there after it ended, and must be quick."""
    job = Job(function, then)
    start(job)
    return job


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; what a signal's handler raises meanwhile is raised as that.

    ``Thread.start`` waits for the thread under a lock, in Python code. An exception that a handler raises there can
    leave the lock free, and then becomes the context of a ``RuntimeError``.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raised = error.__context__
        if thread.ident is None or raised is None:
            raise
        raise raised from None


def start(job: Job) -> None:
    """Start ``job`` on an idle guest thread, or on a new one."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    worker.give(job)


def _forget() -> None:
    """In a forked child: those threads are not here, and nobody releases what one of them held."""
    global _start_lock
    _idle.clear()
    _start_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
