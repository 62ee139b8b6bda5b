"""Spin, then block: receiving on a channel without a sleep, while the other side answers soon.

A process that sleeps in recv(2) is woken by an interrupt of another processor. That takes 5 to 50 microseconds each
way, most of it where processors are virtual, while a call of a small function takes 5. So each side first asks the
socket for about the time that a wake-up takes, as adaptive mutexes do: the processor time is at most twice that of the
better choice.

Spinning pays only while the other side runs on another processor and answers soon. After :data:`_ALLOWED_MISSES`
answers in a row that came later, a side blocks at once, and spins again only for one answer in :data:`_RETRY_AFTER`.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable

__all__ = ["spinning_receive"]

_SPINS = range(40)
"""Attempts before blocking. One that finds nothing takes about a microsecond."""
_ALLOWED_MISSES = 4
"""Late answers in a row."""
_RETRY_AFTER = 32
"""Late answers."""


def _processors() -> int:
    """Return the number of processors on which this process may run."""
    affinity = getattr(os, "sched_getaffinity", None)
    return (os.cpu_count() or 1) if affinity is None else len(affinity(0))


def spinning_receive(end: _socket.socket) -> Callable[[int], bytes]:
    """Return a function that does what ``end.recv`` does, for a socket whose Python timeout is ``None``.

    Not thread-safe.
    """
    receive = end.recv
    if _processors() == 1 or not hasattr(_socket, "MSG_DONTWAIT"):
        return receive
    at_once = _socket.MSG_DONTWAIT
    misses = 0

    def spin_and_receive(size: int) -> bytes:
        nonlocal misses
        if misses < _ALLOWED_MISSES:
            for _ in _SPINS:
                try:
                    data = receive(size, at_once)
                except BlockingIOError:
                    continue
                misses = 0
                return data
        misses = misses + 1 if misses < _RETRY_AFTER else _ALLOWED_MISSES - 1
        return receive(size)

    return spin_and_receive
