"""A lock of this process alone: a forked child finds it free, although a thread of the parent held it."""

from __future__ import annotations

import os
import threading

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock for what takes long, such as compiling, during which another thread may fork.

    In the child the thread that held it does not exist, and never gives it back; what it was making is not there.
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
