"""Open files as every version of WASI uses them: counted, shared, written in pieces and charged to the disk quota."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.host.files.base import FileHandle
    from aegis.host.host_quota import DiskQuota
    from aegis.values import CallScope

__all__ = ["MAX_OFFSET_BYTES", "OpenFileCount", "SharedFile", "resize", "write_all"]

MAX_OFFSET_BYTES = (1 << 63) - 1
"""The largest offset and size of a file, as POSIX's signed ``off_t`` of 64 bits has it."""
_WRITE_CHUNK_BYTES = 1 << 20
"""Bytes of one write. The deadline is checked between writes, so a slow disk delays it by one write at most."""


class OpenFileCount:
    """Number of files and directories that one sandbox has open (limit ``open_files``)."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int | None) -> None:
        self.limit, self.used = limit, 0

    def check(self) -> None:
        """Raise ``EMFILE`` if no further file may be opened."""
        if self.limit is not None and self.used >= self.limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def take(self) -> None:
        """Count one more; raise ``EMFILE`` instead when the limit is reached."""
        self.check()
        self.used += 1

    def release(self) -> None:
        """Count one less."""
        self.used -= 1


class SharedFile:
    """An open file with several users: a descriptor, and the streams made from it.

    The last user to release it closes the file, and only then it is no longer counted in ``count``.
    """

    __slots__ = ("_count", "_users", "file")

    def __init__(self, file: FileHandle, count: OpenFileCount) -> None:
        self.file, self._count, self._users = file, count, 1

    def use(self) -> SharedFile:
        """Count one more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """Count one user less; the last one closes the file."""
        self._users -= 1
        if not self._users:
            self.file.close()
            self._count.release()


def write_all(
    file: FileHandle, pieces: Iterable[bytes], size: int, offset: int, disk: DiskQuota, scope: CallScope
) -> int:
    """Write all ``pieces``, ``size`` bytes together, at ``offset``; return how many bytes that were.

    The bytes are charged to the disk quota before the first is written, so that no part of a write that exceeds it is
    written. Raise :class:`~aegis.errors.QuotaExceeded`, ``OSError`` as the file does, or the end of the call.
    """
    if file.on_disk:
        disk.charge(size)
    end = offset
    for data in pieces:
        length, done = len(data), 0
        while done < length:
            scope.remaining()
            whole = not done and length <= _WRITE_CHUNK_BYTES
            done += file.write(data if whole else data[done : done + _WRITE_CHUNK_BYTES], end + done)
        end += done
    return end - offset


def resize(file: FileHandle, size: int, disk: DiskQuota) -> None:
    """Set the file's size; growth is charged to the disk quota first, though a file system may store no zeros."""
    if file.on_disk:
        disk.charge(max(0, size - file.status().st_size))
    file.truncate(size)
