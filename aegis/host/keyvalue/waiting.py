"""How stores wait for others within the deadline of a call, and how they fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aegis.policy.keyvalue import KeyValueCall

__all__ = ["StoreFailed", "held"]

_PATIENCE = 0.005
"""Seconds that a thread waits for a lock before it looks at the deadline, and sleeps in between."""


class StoreFailed(Exception):
    """The medium of a store failed; the text says how, without naming the medium."""


@contextmanager
def held(lock: threading.Lock, call: KeyValueCall) -> Iterator[None]:
    """Hold a lock for the block. Raise as ``call`` does while it waits."""
    acquired = False
    try:
        while not acquired:
            call.remaining()
            acquired = lock.acquire(timeout=_PATIENCE)
            if not acquired:
                call.wait(_PATIENCE)
        call.remaining()
        yield
    finally:
        if acquired:
            lock.release()
