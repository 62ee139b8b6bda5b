"""Inode numbers for guests: which names are the same file, and nothing else.

A host's inode numbers tell about its file system, and differ from run to run. A hash of them would tell the same
to a guest that tries them all, and a secret key in the hash would be entropy that no policy granted. So files are
numbered in the order in which a sandbox first sees them.
"""

from __future__ import annotations

import os

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.host.host_quota import HostQuota

__all__ = ["FileNumbers"]

_ENTRY_BYTES = 150


class FileNumbers:
    """The numbers that one sandbox has given, from 1 on. They count as kept for the guest."""

    def __init__(self, quota: HostQuota) -> None:
        self._reservation = quota.reserve()
        self._numbers: dict[int, int] = {}

    def of(self, status: os.stat_result) -> int:
        """Return the number of the file that ``status`` is of; hard links of one file have the same."""
        key = status.st_dev << 64 | status.st_ino
        number = self._numbers.get(key)
        if number is None:
            self._reservation.add(_ENTRY_BYTES)
            number = self._numbers[key] = len(self._numbers) + 1
        return number
