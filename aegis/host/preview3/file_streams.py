"""Streams of open files, and of the entries of directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_filesystem_types_0_3 import DirectoryEntry
from aegis.host.files.descriptor import CHUNK_BYTES, read_chunk
from aegis.host.files.open_file import MAX_OFFSET_BYTES
from aegis.values import Ended, Interest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from aegis.bindings.wasi_filesystem_types_0_3 import DescriptorType
    from aegis.host.files.descriptor import Appending, Listing
    from aegis.host.files.open_file import SharedFile

__all__ = ["EntryReader", "FileReader", "FileWriter"]

_MAX_ENTRIES = 1024
"""Entries of a directory that one read of the guest gets at most."""


class _AlwaysReady:
    """The part of a reader or writer that never waits."""

    def ready(self) -> bool:
        return True

    def interest(self) -> Interest:
        return Interest()


class FileReader(_AlwaysReady):
    """Reads a file, from an offset on, until its end at that moment."""

    def __init__(self, file: SharedFile, offset: int) -> None:
        self._file, self._at = file.use(), offset

    def take(self, count: int) -> bytes:
        data = read_chunk(self._file.file, count, self._at)
        if not data:
            raise Ended
        self._at = min(self._at + len(data), MAX_OFFSET_BYTES)
        return data

    def close(self) -> None:
        self._file.release()


class FileWriter(_AlwaysReady):
    """Writes a file in pieces of at most 64 KiB."""

    def __init__(self, to: Appending) -> None:
        self._to = to

    def room(self) -> int:
        return CHUNK_BYTES

    def give(self, data: bytes) -> None:
        self._to.write(data)

    def close(self) -> None:
        self._to.close()


class EntryReader(_AlwaysReady):
    """Reads the entries of a directory."""

    def __init__(self, listing: Listing, kind: Callable[[os.stat_result], DescriptorType]) -> None:
        self._listing, self._kind = listing, kind

    def take(self, count: int) -> list[DirectoryEntry]:
        found: list[DirectoryEntry] = []
        while len(found) < min(count, _MAX_ENTRIES):
            entry = self._listing.next()
            if entry is None:
                break
            found.append(DirectoryEntry(self._kind(entry[1]), entry[0]))
        if not found:
            raise Ended
        return found

    def close(self) -> None:
        self._listing.close()
