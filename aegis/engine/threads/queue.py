"""Pools of guest threads for ``acall``: at most a fixed number of guests run at once; further calls queue.

A guest that awaits on the event loop gives up its turn while it waits. All runtimes share :data:`pool`. If no call of
it starts or ends for :data:`STALL_SECONDS`, one more call starts, so that guests that wait for each other cannot block
the queue forever. A runtime with a bound of its own has a pool of its own, whose bound always holds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any
from weakref import WeakSet

from aegis.engine.threads.guest_thread import Job, start, start_on_idle, start_thread
from aegis.engine.threads.ticker import ticker

__all__ = ["GuestThreadPool", "closing", "pool"]

MAX_RUNNING_THREADS = max(32, 4 * (os.cpu_count() or 1))
"""Guests that run at once. More would compete for memory and the GIL without finishing sooner."""

_MAX_THREADS_FACTOR = 4
"""Maximum number of threads, including those that wait for the event loop, as a multiple of ``MAX_RUNNING_THREADS``."""

STALL_SECONDS = 0.1
"""Time without a call that starts or ends, after which one more call starts."""


_MAX_CLOSING_THREADS = 8
"""Sandboxes that are closed at once from event loops. Closing is short and must not wait for guests that run."""

_pools: WeakSet[GuestThreadPool] = WeakSet()


class _Starter:
    """A thread that starts guest threads for event loops, because ``Thread.start`` waits for the new thread."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[tuple[Job, Callable[[BaseException], None]]] = SimpleQueue()
        start_thread(Thread(target=self._loop, name="aegis-starter", daemon=True))

    def _loop(self) -> None:
        while True:
            job, failed = self.jobs.get()
            try:
                start(job)
            except RuntimeError as error:
                failed(error)
            del job, failed


_starter: _Starter | None = None


def _start_without_waiting(job: Job, failed: Callable[[BaseException], None]) -> None:
    """Start ``job`` on a guest thread, and never wait for another thread, except at the first use.

    Call ``failed`` with the ``RuntimeError`` if the system cannot start a thread.
    """
    global _starter
    if start_on_idle(job):
        return
    if _starter is None:
        _starter = _Starter()
    _starter.jobs.put((job, failed))


class GuestThreadPool:
    """Runs jobs on guest threads, at most ``most`` at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._lock = Lock()
        self._queue: deque[Job] = deque()
        self._running = self._away = 0
        self._moved = time.monotonic()

    def submit(self, function: Callable[[], Any], then: Callable[[Job], None], *, at_once: bool = False) -> Job:
        """Run ``function`` when its turn comes; then call ``then`` on its thread.

        ``at_once``: skip the queue, because a guest that holds a turn waits for this job. The job ends with a
        ``RuntimeError`` if the system cannot start a thread and no running thread will take it.
        """
        job = Job(function, then)
        if at_once:
            with self._lock:
                self._running += 1
        else:
            self._queue.append(job)
        if at_once:
            self._begin(job)
        else:
            self._fill()
        return job

    def _fill(self) -> None:
        """Start queued jobs up to the limit.

        An event loop calls this and must not wait: a guest thread that holds the lock may itself wait for the
        interpreter lock behind many others. Every holder therefore looks at the queue again after releasing the lock.
        """
        while self._queue and self._lock.acquire(blocking=False):
            try:
                job = self._next()
            finally:
                self._lock.release()
            if job is None:
                return
            self._begin(job)

    def _next(self, *, stuck: bool = False) -> Job | None:
        """Take the next job from the queue and count it as running; return ``None`` if the pool is full.

        The caller has the lock. ``stuck``: ignore the limit.
        """
        full = self._running >= self.most or self._running + self._away >= _MAX_THREADS_FACTOR * self.most
        if not self._queue or (full and not stuck):
            return None
        self._running += 1
        return self._queue.popleft()

    def _begin(self, job: Job) -> None:
        held = [job]  # popped by the thread, so that the closure does not keep the first job alive

        def failed(error: BaseException) -> None:
            """Leave the job to a running thread if there is one; otherwise no thread would ever take it."""
            with self._lock:
                self._running -= 1
                left = self._running > 0
                if left:
                    self._queue.appendleft(job)
            if not left:
                job.fail(error)

        work = Job(lambda: self._work(held.pop()), _run_callbacks)
        try:
            _start_without_waiting(work, failed)
        except RuntimeError as error:  # the starter itself could not be started
            failed(error)

    def _work(self, job: Job) -> Job:
        """Run ``job`` and then queued jobs; return the last, whose callbacks run once this thread is idle again."""
        while True:
            job.run()
            with self._lock:
                self._moved = time.monotonic()
                following = None
                if self._queue and self._running <= self.most:
                    following = self._queue.popleft()
                else:
                    self._running -= 1
            if following is None:
                self._fill()
                return job
            job.run_callbacks()
            job = following

    @contextmanager
    def away(self) -> Iterator[None]:
        """Give up the guest's turn inside the ``with`` block; it resumes without queueing."""
        with self._lock:
            self._running -= 1
            self._away += 1
        try:
            self._fill()
            yield
        finally:
            with self._lock:
                self._running += 1
                self._away -= 1
            self._fill()

    def check_stall(self) -> None:
        """Start one more job if the pool is stalled. The ticker calls this at each tick."""
        if self._queue and time.monotonic() - self._moved > STALL_SECONDS:
            self._moved = time.monotonic()
            with self._lock:
                job = self._next(stuck=True)
            if job is not None:
                self._begin(job)


def _run_callbacks(work: Job) -> None:
    work.outcome().run_callbacks()


def _reset_all() -> None:
    """After fork, in the child: forget the parent's threads and its queued calls."""
    global _starter
    _starter = None
    for each in _pools:
        each._reset()


pool = GuestThreadPool(MAX_RUNNING_THREADS)
closing = GuestThreadPool(_MAX_CLOSING_THREADS)
ticker.at_tick.append(pool.check_stall)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
