"""Which threads may run a guest, and guest threads for callers that may not (D9).

Theory of operation. A guest that recurses deeply on a thread with a small stack kills the process (F29). So does a
Python signal handler that raises at the entry of a native callback (F9); Python runs signal handlers on the main thread
only. A call therefore runs *directly* only on a thread that is not the main thread and whose stack is known to be
large. Any other call is *supervised*: it runs on a guest thread while the caller waits, so that Ctrl-C and the deadline
take effect. A supervised call costs two thread switches, about 10 to 50 µs.

Guest threads are daemon threads and are reused. In a forked child they do not exist; the child starts its own.
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
    "DIRECT",
    "MAIN",
    "NESTED",
    "SMALL",
    "Job",
    "on_enough_stack",
    "run_on_guest_thread",
    "start",
    "start_on_idle",
    "start_thread",
    "thread_state",
]  # fmt: skip

UNKNOWN, DIRECT, MAIN, NESTED, SMALL = range(5)
STACK = MAX_STACK_BYTES + 6 * MIB
_ENOUGH = MAX_STACK_BYTES + 2 * MIB
_SIGNAL_CHECK_SECONDS = 0.2
_MAX_IDLE_THREADS = 8


class ThreadState(threading.local):
    """State of the current thread; ``mode`` says whether it may run guests, as one of this module's constants."""

    mode = UNKNOWN
    memory_budget: Any = None
    """The memory budget of the store that is being instantiated on this thread."""
    loop: Any = None
    """The event loop that awaits the call on this thread, or ``None``."""
    turns: Any = None
    """The pool that gave this thread its turn, or ``None``."""
    threaded: Any = None
    """The call of a host function that runs on this thread beside its guest, or ``None``."""

    def detect_mode(self) -> int:
        """Return the mode of this thread; determine it on the first call."""
        if self.mode == UNKNOWN:
            if threading.current_thread() is threading.main_thread():
                self.mode = MAIN
            else:
                self.mode = DIRECT if _stack_size() >= _ENOUGH else SMALL
        return self.mode


thread_state = ThreadState()


def _stack_size() -> int:
    """Return the size of this thread's stack in bytes, or 0 if it cannot be determined."""
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
    """Replace the function of an ended job, so that the job does not keep its references alive."""


class Job:
    """A function to run on a guest thread, and its outcome. ``started`` is its ``time.monotonic`` start time."""

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

    def fail(self, error: BaseException) -> None:
        """End the job with ``error``, unless it runs or was claimed."""
        if self.claim():
            self.error = error
            self._function = _nothing
            self.ended = True
            self._done.release()
            self.run_callbacks()

    def claim(self) -> bool:
        """Claim the job, either to run it or to prevent it from running; return ``False`` if it was claimed before."""
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def afterwards(self, then: Callable[[Job], None]) -> None:
        """Call ``then`` when the job has ended: on its thread, or immediately if it has already ended."""
        self.left = True
        self._then.append(then)
        if self.ended:
            self.run_callbacks()

    def run_callbacks(self) -> None:
        """Call the registered callbacks. Two threads may do so at once: ``pop`` ensures that each runs once."""
        while self._then:
            try:
                then = self._then.pop()
            except IndexError:
                return
            then(self)

    def wait(self, seconds: float | None) -> bool:
        """Wait at most ``seconds`` for the job to end; return whether it did. Python signal handlers can run."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        left = math.inf if seconds is None else seconds
        # The kernel may deliver a signal to another thread, for example after SIGCONT. Such a signal does not interrupt
        # the wait on this thread, so return to the interpreter regularly, which then runs the Python handler.
        while not self._done.acquire(timeout=max(0.0, min(left, _SIGNAL_CHECK_SECONDS))):
            left = until - time.monotonic()
            if left <= 0:
                return False
        return True

    def outcome(self) -> Any:
        """Return the result of the function, or raise its exception."""
        error = self.error
        if error is not None:
            try:
                raise error
            finally:
                self.error = error = None
        return self.result


class _GuestThread:
    """A guest thread, which runs one job after another."""

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
        thread_state.mode = DIRECT
        while True:
            self._next.acquire()
            job, self._job = self._job, None
            if job is None:
                return
            keep = len(_idle) < _MAX_IDLE_THREADS
            job.run()
            keep = keep and not job.left
            if keep:
                _idle.append(self)  # before the callbacks, which may start another job on this thread
            job.run_callbacks()
            if not keep:
                return
            del job


_idle: list[_GuestThread] = []
_start_lock = threading.Lock()
"""Held while ``threading.stack_size`` is changed, which is a setting of the process."""


def on_enough_stack(function: Callable[[], Any]) -> Any:
    """Call ``function`` and return its result; use a guest thread if this thread's stack is too small to compile on."""
    if thread_state.detect_mode() != SMALL:
        return function()
    job = run_on_guest_thread(function)
    job.wait(None)
    return job.outcome()


def run_on_guest_thread(function: Callable[[], Any], then: Callable[[Job], None] | None = None) -> Job:
    """Start ``function`` on a guest thread; then call ``then``, which must be quick, on that thread."""
    job = Job(function, then)
    start(job)
    return job


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; if a Python signal handler raises during the start, raise its exception.

    ``Thread.start`` waits for the thread in Python code that holds a lock. If a signal handler raises there, releasing
    the lock can fail with a ``RuntimeError``, which hides the handler's exception as its context.
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
        worker = _GuestThread()
    worker.give(job)


def start_on_idle(job: Job) -> bool:
    """Start ``job`` on an idle guest thread; return ``False`` if there is none."""
    try:
        worker = _idle.pop()
    except IndexError:
        return False
    worker.give(job)
    return True


def _forget() -> None:
    """After fork, in the child: forget the parent's threads, and replace the lock that one of them may have held."""
    global _start_lock
    _idle.clear()
    _start_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
