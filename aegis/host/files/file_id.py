"""The identity of files, and inode numbers for guests, which show which names are the same file, and nothing else.

The host's inode numbers reveal facts about its file system, and differ between runs. A hash of them could be inverted
by trying all numbers, and a secret key for the hash would be entropy that no policy granted. So files are numbered in
the order in which a sandbox first sees them.
"""

from __future__ import annotations

import os

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.host.host_quota import HostQuota

__all__ = ["FileNumbers", "Identity", "identity"]

Identity = tuple[int, int]
"""The identity of a file or directory: its device and inode."""
_ENTRY_BYTES = 150


def identity(status: os.stat_result) -> Identity:
    """Return the identity of the file or directory that ``status`` is of."""
    return status.st_dev, status.st_ino


class FileNumbers:
    """The inode numbers of one sandbox, from 1 on. They count against the host quota (``value_bytes``)."""

    def __init__(self, quota: HostQuota) -> None:
        self._reservation = quota.reserve()
        self._numbers: dict[int, int] = {}

    def of(self, status: os.stat_result) -> int:
        """Return the number of the file that ``status`` is of, the same for all its hard links."""
        key = status.st_dev << 64 | status.st_ino
        number = self._numbers.get(key)
        if number is None:
            self._reservation.add(_ENTRY_BYTES)
            number = self._numbers[key] = len(self._numbers) + 1
        return number
