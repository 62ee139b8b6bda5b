"""A lock that a forked child finds free, even if a thread of the parent held it at the time of the fork."""

from __future__ import annotations

import os
import threading

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock for long operations such as compilation, during which another thread may fork.

    In the child, the thread that holds the lock does not exist and never releases it, and its result never arrives.
    The child therefore replaces the lock on first use.
    """

    __slots__ = ("_lock", "_process")

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()
