"""Waiting for the lock of a store within the deadline of a call, and the error of a store that fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aegis.policy.keyvalue import KeyValueCall

__all__ = ["StoreFailed", "locked"]

_WAIT_SECONDS = 0.005
"""Longest wait for the lock between two checks of the deadline."""


class StoreFailed(Exception):
    """A store failed: the disk is full, the file damaged. The message says how, without the path."""


@contextmanager
def locked(lock: threading.Lock, call: KeyValueCall) -> Iterator[None]:
    """Hold ``lock`` for the block. While another thread holds it, raise as ``call`` does when the call must end.

    A wait for a lock cannot be interrupted, so it is short and alternates with ``call.wait``, which can.
    """
    acquired = False
    try:
        while not acquired:
            call.remaining()
            acquired = lock.acquire(timeout=_WAIT_SECONDS)
            if not acquired:
                call.wait(_WAIT_SECONDS)
        call.remaining()
        yield
    finally:
        if acquired:
            lock.release()
