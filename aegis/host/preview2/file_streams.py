"""Streams of open files, and listings of directories, as resources of WASI 0.2."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from aegis.host.files.open_file import MAX_OFFSET_BYTES, write_all
from aegis.host.preview2.filesystem_errors import failed
from aegis.host.preview2.io import CHUNK_BYTES, Ended, InputStream, OutputStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis.bindings.wasi_filesystem_types import DirectoryEntry
    from aegis.host.files.base import FileHandle
    from aegis.host.files.open_file import OpenFileCount, SharedFile
    from aegis.host.host_quota import QuotaReservation
    from aegis.host.preview2 import Wasi

__all__ = ["DirectoryEntryStream", "FileInput", "FileOutput", "read_chunk"]


def read_chunk(file: FileHandle, count: int, offset: int) -> bytes:
    """Return up to ``count`` bytes at ``offset``, at most a chunk, so that one call stays short."""
    return file.read(min(count, CHUNK_BYTES, MAX_OFFSET_BYTES - offset), offset)


class FileInput(InputStream):
    """An input stream of a file, from an offset on."""

    def __init__(self, wasi: Wasi, file: SharedFile, offset: int) -> None:
        super().__init__(wasi)
        self._file, self._at = file.use(), offset

    def take(self, count: int) -> bytes | None:
        try:
            data = read_chunk(self._file.file, count, self._at)
        except OSError as error:
            raise failed(error) from None
        if not data:
            raise Ended
        self._at = min(self._at + len(data), MAX_OFFSET_BYTES)
        return data

    def close(self) -> None:
        self._file.release()


class FileOutput(OutputStream):
    """An output stream of a file, from an offset on; without one it appends, wherever the file ends by then."""

    def __init__(self, wasi: Wasi, file: SharedFile, offset: int | None) -> None:
        super().__init__(wasi)
        self._file, self._at = file.use(), offset

    def room(self) -> int:
        return CHUNK_BYTES

    def give(self, data: bytes) -> None:
        try:
            file, wasi = self._file.file, self.wasi
            at = file.status().st_size if self._at is None else self._at
            if at + len(data) > MAX_OFFSET_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            write_all(file, (data,), len(data), at, wasi.grants.disk, wasi.scope)
        except OSError as error:
            raise failed(error) from None
        if self._at is not None:
            self._at += len(data)

    def close(self) -> None:
        self._file.release()


class DirectoryEntryStream:
    """The resource ``directory-entry-stream``: the entries of a directory when it was listed, sorted by name.

    It counts as an open directory until its end is read, for the host keeps the entries meanwhile.
    """

    def __init__(self, entries: Iterator[DirectoryEntry], files: OpenFileCount, reservation: QuotaReservation) -> None:
        self._entries, self._reservation = entries, reservation
        self._files: OpenFileCount | None = files

    def __drop__(self) -> None:
        files, self._files = self._files, None
        if files is not None:
            files.release()
            self._reservation.clear()

    def read_directory_entry(self) -> DirectoryEntry | None:
        entry = next(self._entries, None)
        if entry is None:
            self.__drop__()
        return entry
