"""How stores wait for others within the deadline of a call, and how they fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PAUSE", "StoreFailed", "held"]

PAUSE = 0.05
"""Seconds between two looks at the deadline while a store waits."""


class StoreFailed(Exception):
    """The medium of a store failed; the text says how, without naming the medium."""


@contextmanager
def held(lock: threading.Lock, remaining: Callable[[], float | None]) -> Iterator[None]:
    """Hold a lock; ``remaining`` raises when the call that waits for it must end."""
    acquired = False
    try:
        while not acquired:
            left = remaining()
            acquired = lock.acquire(timeout=PAUSE if left is None else min(PAUSE, left))
        remaining()
        yield
    finally:
        if acquired:
            lock.release()
