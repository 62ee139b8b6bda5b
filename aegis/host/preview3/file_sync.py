"""``sync`` and ``sync-data`` of descriptors: waits for the disk, on a bounded number of threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aegis.host.preview3.errors import answering
from aegis.values import Interest

if TYPE_CHECKING:
    from aegis.host.blocking import DiskSync
    from aegis.host.files.base import Handle
    from aegis.host.wasi import Wasi

__all__ = ["Syncing"]

_MAX_THREADS = 4
"""Threads of one sandbox that wait for the disk at the same time; abandoned waits count until their thread ends."""
_CHECKED_AGAIN_SECONDS = 0.05
"""Time between two checks whether such a thread has ended."""


class Syncing:
    """A wait until the written bytes of a file or directory are on the disk; it begins when there is a thread."""

    def __init__(self, wasi: Wasi, handle: Handle, *, data: bool) -> None:
        self._wasi, self._handle, self._data = wasi, handle, data
        self._begun = False
        self._sync: DiskSync | None = None
        self._error: OSError | None = None

    def _begin(self) -> bool:
        """Begin, and return ``True``, unless too many threads are at work."""
        syncs = self._wasi.disk_syncs
        syncs[:] = [one for one in syncs if not one.finished]
        if len(syncs) >= _MAX_THREADS:
            return False
        self._begun = True
        try:
            self._sync = self._handle.begin_sync(self._wasi.scope, data=self._data)
        except OSError as error:
            self._error = error
        if self._sync is not None:
            syncs.append(self._sync)
        return True

    def ready(self) -> bool:
        """Return whether the bytes are on the disk, or that failed."""
        if not self._begun and not self._begin():
            return False
        return self._sync is None or self._sync.ready()

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""
        if self._sync is None:
            return Interest(host_time=time.monotonic() + _CHECKED_AGAIN_SECONDS)
        return self._sync.interest()

    @answering
    def result(self) -> None:
        """Return nothing, or raise the error of the system."""
        if self._error is not None:
            raise self._error
        if self._sync is not None:
            self._sync.result()

    def cancel(self) -> None:
        """Stop waiting."""
        if self._sync is not None:
            self._sync.cancel()
