"""Stop the chunks of a campaign at their next test case, so that they hand in what they found; show how far they are.

The parent sets a flag in shared memory, where chunks also write the number of their calls. SIGTERM sets a flag in the
worker process itself: ``timeout`` and service managers send it to all processes of a campaign, and a process that it
ended at once would take its results along.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["HAND_IN_SECONDS", "heed", "report", "running", "stopped"]

HAND_IN_SECONDS = 5.0
"""Time in which a stopped chunk may end, and after which its process ends without a result."""
_SEND_SECONDS = 0.5
"""Time in which a process that got SIGTERM sends its result, and its parent may say that the campaign is stopped."""
_POLL_SECONDS = 0.02
_EXIT_CODE = 128 + signal.SIGTERM


class _Stop:
    """The state of this process."""

    def __init__(self) -> None:
        self.shared: Any = None
        """Shared memory of the parent: its flag, then a number for each running chunk; ``None`` without one."""
        self.terminated = False
        self.chunks = 0
        """Chunks that are running."""


_stop = _Stop()


def stopped() -> bool:
    """Return whether the running chunk ends at the next test case."""
    return _stop.terminated or (_stop.shared is not None and bool(_stop.shared[0]))


def report(chunk: int, calls: int) -> None:
    """Show the parent how many calls a running chunk has made."""
    if _stop.shared is not None:
        _stop.shared[1 + chunk % (len(_stop.shared) - 1)] = calls


@contextmanager
def running() -> Iterator[None]:
    """Count a chunk while it runs: SIGTERM lets it end."""
    _stop.chunks += 1
    try:
        yield
    finally:
        _stop.chunks -= 1


def heed(shared: Any) -> None:
    """Heed the parent's flag, the first number in ``shared``, and SIGTERM in this worker process."""
    _stop.shared = shared
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: object) -> None:
    if not _stop.terminated:
        _stop.terminated = True
        threading.Thread(target=_exit_soon, name="aegis-fuzz-stop", daemon=True).start()


def _exit_soon() -> None:
    """End this process when its chunk has ended; if the campaign is stopped, its parent does so earlier or later."""
    until = time.monotonic() + HAND_IN_SECONDS
    if _stop.chunks:
        while _stop.chunks and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        time.sleep(_SEND_SECONDS)
        # Another process of the pool may still hand in, and the pool is broken when one of its processes ends.
        while _stop.shared is not None and _stop.shared[0] and time.monotonic() < until + _SEND_SECONDS:
            time.sleep(_POLL_SECONDS)
    os._exit(_EXIT_CODE)
