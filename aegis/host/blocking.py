"""Operations that block in the kernel or compute for long, done such that the call still ends by its deadline."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from aegis.support.descriptors import above_standard
from aegis.support.lean import Any, TypeVar
from aegis.values import CallScope

__all__ = ["in_order", "synced"]

_RUN_VALUES = 1 << 14
"""Values that are sorted at once, in some milliseconds; the deadline is checked between two such runs."""

_Value = TypeVar("_Value")


def synced(descriptor: int, scope: CallScope, *, data: bool = False) -> None:
    """Wait until the bytes written to ``descriptor`` are on the disk (``fsync``; ``data``: ``fdatasync``).

    A slow disk may take minutes, and no signal interrupts fsync(2). So a thread waits for the disk, with a duplicate
    of the descriptor, and the call waits for the thread. When the call ends first, the thread ends by itself later.
    """
    sync = getattr(os, "fdatasync", os.fsync) if data else os.fsync
    own = above_standard(os.dup(descriptor))
    failures: list[OSError] = []
    try:
        reading, writing = map(above_standard, os.pipe())
    except OSError:
        os.close(own)
        raise
    try:
        _begin(lambda: sync(own), failures, (own, writing))
        scope.wait(read=(reading,))
    finally:
        os.close(reading)
    if failures:
        raise failures[0]


def _begin(function: Callable[[], object], failures: list[OSError], held: tuple[int, ...]) -> None:
    """Start a thread that calls ``function`` and then closes the descriptors ``held``."""

    def run() -> None:
        try:
            function()
        except OSError as error:
            failures.append(error)
        finally:
            for descriptor in held:
                os.close(descriptor)

    thread = threading.Thread(target=run, name="aegis-sync", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads
        for descriptor in held:
            os.close(descriptor)
        raise OSError(str(error)) from None


def in_order(values: Iterable[_Value], scope: CallScope, key: Callable[[_Value], Any]) -> Iterator[_Value]:
    """Yield ``values`` sorted by ``key``; check the deadline between runs, so that many values cannot outlast it."""
    rest = iter(values)
    runs = []
    while run := sorted(islice(rest, _RUN_VALUES), key=key):
        scope.remaining()
        runs.append(run)
    if len(runs) < 2:
        return iter(runs[0] if runs else ())
    from heapq import merge

    return merge(*runs, key=key)
