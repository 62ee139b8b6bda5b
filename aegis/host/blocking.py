"""Operations that block in the kernel or compute for long, done such that the call still ends by its deadline."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from aegis.support.descriptors import above_standard
from aegis.support.lean import Any, TypeVar
from aegis.values import CallScope, Interest

__all__ = ["DiskSync", "in_order"]

_RUN_VALUES = 1 << 14
"""Values that are sorted at once, in some milliseconds; the deadline is checked between two such runs."""

_Value = TypeVar("_Value")


class DiskSync:
    """A wait until the bytes written to a descriptor are on the disk (``fsync``; ``data``: ``fdatasync``).

    A slow disk may take minutes, and no signal interrupts fsync(2). So a thread waits for the disk, with a duplicate
    of the descriptor. When the call ends first, the thread ends by itself later.
    """

    def __init__(self, descriptor: int, scope: CallScope, *, data: bool = False) -> None:
        sync = getattr(os, "fdatasync", os.fsync) if data else os.fsync
        self._scope = scope
        self._failures: list[OSError] = []
        self.finished = False
        """Whether the thread has ended, which an abandoned wait does not end."""
        own = above_standard(os.dup(descriptor))
        try:
            self._reading, writing = map(above_standard, os.pipe())
        except OSError:
            os.close(own)
            raise
        try:
            _begin(lambda: sync(own), self._failures, (own, writing), self._finish)
        except BaseException:
            self.cancel()
            raise

    def _finish(self) -> None:
        self.finished = True

    def ready(self) -> bool:
        """Return whether the bytes are on the disk, or that failed."""
        return bool(self._scope.wait(0, read=(self._reading,))[0])

    def interest(self) -> Interest:
        """Return the descriptor to wait for."""
        return Interest(read=(self._reading,))

    def result(self) -> None:
        """End the wait when it is ready; raise ``OSError`` if the system could not write the bytes."""
        self.cancel()
        if self._failures:
            raise self._failures[0]

    def cancel(self) -> None:
        """Stop waiting; a second call does nothing."""
        reading, self._reading = self._reading, -1
        if reading >= 0:
            os.close(reading)

    def wait(self) -> None:
        """Wait no longer than until the deadline, and return the result."""
        try:
            self._scope.wait(read=(self._reading,))
        except BaseException:
            self.cancel()
            raise
        self.result()


def _begin(
    function: Callable[[], object], failures: list[OSError], held: tuple[int, ...], finish: Callable[[], None]
) -> None:
    """Start a thread that calls ``function``, then ``finish``, and closes the descriptors ``held``."""

    def run() -> None:
        try:
            function()
        except OSError as error:
            failures.append(error)
        finally:
            finish()
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
