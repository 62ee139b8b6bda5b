"""Open files, shared by a descriptor and the streams made of it, those streams, and listings."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from aegis.host.preview2.errors import failed
from aegis.host.preview2.io import CHUNK, Ended, InputStream, OutputStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis.bindings.wasi_filesystem_types import DirectoryEntry
    from aegis.host.files.directory import Opened
    from aegis.host.host_quota import Holding
    from aegis.host.preview2 import Wasi

__all__ = ["DirectoryEntryStream", "FileInput", "FileOutput", "OpenFile", "OpenFiles", "read_piece", "write_all"]

_LAST = (1 << 63) - 1
_PIECE = 1 << 20


class OpenFiles:
    """How many files and directories one sandbox has open."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.used = limit, 0

    def take(self) -> None:
        """Count one more; raise ``EMFILE`` when all that may be open are."""
        if self.limit is not None and self.used >= self.limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.used += 1

    def release(self) -> None:
        """Count one less."""
        self.used -= 1


class OpenFile:
    """A file's descriptor number, closed, and no longer counted in ``files``, when nothing that uses it is left.

    ``writable`` tells that its grant writes, however it was opened.
    """

    def __init__(self, opened: Opened, descriptor: int, writable: bool, files: OpenFiles) -> None:
        self.descriptor, self.writable = descriptor, writable
        self._opened, self._files, self._users = opened, files, 1

    def status(self) -> os.stat_result:
        """Return the file's status."""
        return os.fstat(self.descriptor)

    def use(self) -> OpenFile:
        """Count one more user."""
        self._users += 1
        return self

    def let_go(self) -> None:
        """Count one less; the last closes the file."""
        self._users -= 1
        if not self._users:
            descriptor, self.descriptor = self.descriptor, -1
            self._opened.close(descriptor)
            self._files.release()


def read_piece(descriptor: int, count: int, offset: int) -> bytes:
    """Read up to ``count`` bytes at ``offset``, at most a chunk, so that a call stays short."""
    return os.pread(descriptor, min(count, CHUNK, _LAST - offset), offset)


def write_all(wasi: Wasi, descriptor: int, data: bytes, offset: int) -> None:
    """Write ``data`` at ``offset``, charged to the disk quota before it is written."""
    wasi.grants.disk.charge(len(data))
    done = 0
    while done < len(data):
        wasi.scope.remaining()
        done += os.pwrite(descriptor, data[done : done + _PIECE], offset + done)


class FileInput(InputStream):
    """A file from an offset on."""

    def __init__(self, wasi: Wasi, file: OpenFile, offset: int) -> None:
        super().__init__(wasi)
        self._file, self._at = file.use(), offset

    def take(self, count: int) -> bytes | None:
        try:
            data = read_piece(self._file.descriptor, count, self._at)
        except OSError as error:
            raise failed(error) from None
        if not data:
            raise Ended
        self._at = min(self._at + len(data), _LAST)
        return data

    def close(self) -> None:
        self._file.let_go()


class FileOutput(OutputStream):
    """A file from an offset on; without one, always at its end."""

    def __init__(self, wasi: Wasi, file: OpenFile, offset: int | None) -> None:
        super().__init__(wasi)
        self._file, self._at = file.use(), offset

    def room(self) -> int:
        return CHUNK

    def give(self, data: bytes) -> None:
        try:
            at = os.fstat(self._file.descriptor).st_size if self._at is None else self._at
            if at + len(data) > _LAST:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            write_all(self.wasi, self._file.descriptor, data, at)
        except OSError as error:
            raise failed(error) from None
        if self._at is not None:
            self._at += len(data)

    def close(self) -> None:
        self._file.let_go()


class DirectoryEntryStream:
    """The resource ``directory-entry-stream``: a listing as it was when it was asked for, in order of names.

    Until its end was read it counts as an open directory: it may be long, and the host keeps it.
    """

    def __init__(self, entries: Iterator[DirectoryEntry], files: OpenFiles, holding: Holding) -> None:
        self._entries, self._holding = entries, holding
        self._files: OpenFiles | None = files

    def __drop__(self) -> None:
        files, self._files = self._files, None
        if files is not None:
            files.release()
            self._holding.clear()

    def read_directory_entry(self) -> DirectoryEntry | None:
        entry = next(self._entries, None)
        if entry is None:
            self.__drop__()
        return entry
