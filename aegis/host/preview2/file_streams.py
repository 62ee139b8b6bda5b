"""Streams of open files, and listings of directories, as resources of WASI 0.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_filesystem_types import DescriptorType, DirectoryEntry
from aegis.host.files.descriptor import Appending, read_chunk
from aegis.host.files.open_file import MAX_OFFSET_BYTES
from aegis.host.preview2.filesystem_errors import failed
from aegis.host.preview2.io import CHUNK_BYTES, Ended, InputStream, OutputStream

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from aegis.host.files.descriptor import Listing
    from aegis.host.files.open_file import SharedFile
    from aegis.host.wasi import Wasi

__all__ = ["DirectoryEntryStream", "FileInput", "FileOutput"]


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
        self._to = Appending(wasi, file, offset)

    def room(self) -> int:
        return CHUNK_BYTES

    def give(self, data: bytes) -> None:
        try:
            self._to.write(data)
        except OSError as error:
            raise failed(error) from None

    def close(self) -> None:
        self._to.close()


class DirectoryEntryStream:
    """The resource ``directory-entry-stream``."""

    def __init__(self, listing: Listing, kind: Callable[[os.stat_result], DescriptorType]) -> None:
        self._listing, self._kind = listing, kind

    def __drop__(self) -> None:
        self._listing.close()

    def read_directory_entry(self) -> DirectoryEntry | None:
        entry = self._listing.next()
        return None if entry is None else DirectoryEntry(self._kind(entry[1]), entry[0])
