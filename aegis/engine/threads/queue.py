"""Guest threads for calls that no thread waits for: so many run at once, and the others wait their turn.

A guest that waits for an awaitable of the event loop gives its turn away meanwhile, and when nothing has moved
for a while one more begins: so guests that wait for one another never wait for a turn for ever.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from aegis.engine.threads.guest_thread import Job, run_on_guest_thread
from aegis.engine.threads.ticker import ticker

__all__ = ["Pool", "pool"]

MOST = max(32, 4 * (os.cpu_count() or 1))
"""Guests of event loops that run at once. More would take memory and turns from one another, and end no sooner."""

_TIMES = 4
"""So many times that number of threads there are at most while guests wait for the loop."""

PATIENCE = 0.1
"""Seconds without a call that begins or ends after which one more begins."""


class Pool:
    """Runs jobs on guest threads, ``most`` at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._reset()

    def _reset(self) -> None:
        self._lock = Lock()
        self._queue: deque[Job] = deque()
        self._running = self._away = 0
        self._moved = time.monotonic()

    def submit(self, function: Callable[[], Any], then: Callable[[Job], None], *, at_once: bool = False) -> Job:
        """Run ``function`` when its turn comes; ``then`` is called on its thread after it ended.

        ``at_once``: a guest that has had its turn waits for this. Raise ``RuntimeError`` when the system gives no
        thread to run it on.
        """
        job = Job(function, then)
        with self._lock:
            if at_once:
                self._running += 1
            else:
                self._queue.append(job)
        try:
            if at_once:
                self._begin(job)
            else:
                self._fill()
        except RuntimeError:
            if not self._running and job.claim():
                raise
        return job

    def _fill(self) -> None:
        """Begin what may begin."""
        while (job := self._next()) is not None:
            self._begin(job)

    def _next(self, *, stuck: bool = False) -> Job | None:
        """Return the job whose turn it is, which runs from now on."""
        with self._lock:
            full = self._running >= self.most or self._running + self._away >= _TIMES * self.most
            if not self._queue or (full and not stuck):
                return None
            self._running += 1
            return self._queue.popleft()

    def _begin(self, job: Job) -> None:
        try:
            held = [job]  # to be taken: the thread may run many after it
            run_on_guest_thread(lambda: self._work(held.pop()), _tell)
        except RuntimeError:
            with self._lock:
                self._running -= 1
                self._queue.appendleft(job)
            raise

    def _work(self, job: Job) -> Job:
        """Run one job after the other; return the last, which is told of when this thread is free again."""
        while True:
            job.run()
            with self._lock:
                self._moved = time.monotonic()
                if not self._queue or self._running > self.most:
                    self._running -= 1
                    return job
                following = self._queue.popleft()
            job.tell()
            job = following

    @contextmanager
    def away(self) -> Iterator[None]:
        """Give this guest's turn away while it waits; it goes on at once when it can."""
        with self._lock:
            self._running -= 1
            self._away += 1
        try:
            with suppress(RuntimeError):  # no more threads: those that run take the queue's next
                self._fill()
            yield
        finally:
            with self._lock:
                self._running += 1
                self._away -= 1

    def look(self) -> None:
        """Called at each tick: begin one more when others hold their turns and do not move."""
        if self._queue and time.monotonic() - self._moved > PATIENCE:
            self._moved = time.monotonic()
            job = self._next(stuck=True)
            if job is not None:
                with suppress(RuntimeError):
                    self._begin(job)


def _tell(work: Job) -> None:
    work.outcome().tell()


pool = Pool(MOST)
ticker.at_tick.append(pool.look)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool._reset)
