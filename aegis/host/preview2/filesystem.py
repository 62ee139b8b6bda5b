"""``wasi:filesystem``: descriptors of granted directories, and of files and directories beneath them.

The operations are those of :mod:`aegis.host.files.descriptor`; this module has their types in WASI 0.2.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from aegis.bindings.wasi_filesystem_types import (
    Advice,
    DescriptorFlags,
    DescriptorStat,
    DescriptorType,
    ErrorCode,
    MetadataHashValue,
    NewTimestampNow,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from aegis.host.files.descriptor import NOW, READ, WRITE, HeldDescriptor, Listing, read_chunk, valid_offset
from aegis.host.files.open_file import MAX_OFFSET_BYTES, write_all
from aegis.host.preview2.clocks import datetime_of, nanoseconds_of
from aegis.host.preview2.file_streams import DirectoryEntryStream, FileInput, FileOutput
from aegis.host.preview2.filesystem_errors import answering

if TYPE_CHECKING:
    from aegis.bindings.wasi_filesystem_types import NewTimestamp
    from aegis.host.preview2.io import InputStream, IoError, OutputStream
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]

_KINDS = {
    stat.S_IFREG: DescriptorType.REGULAR_FILE, stat.S_IFDIR: DescriptorType.DIRECTORY,
    stat.S_IFLNK: DescriptorType.SYMBOLIC_LINK, stat.S_IFCHR: DescriptorType.CHARACTER_DEVICE,
    stat.S_IFBLK: DescriptorType.BLOCK_DEVICE, stat.S_IFIFO: DescriptorType.FIFO, stat.S_IFSOCK: DescriptorType.SOCKET,
}  # fmt: skip


def _kind(status: os.stat_result) -> DescriptorType:
    return _KINDS.get(stat.S_IFMT(status.st_mode), DescriptorType.UNKNOWN)


def _follows(flags: PathFlags) -> bool:
    return PathFlags.SYMLINK_FOLLOW in flags


def _time(wanted: NewTimestamp) -> int | None:
    if isinstance(wanted, NewTimestampTimestamp):
        return nanoseconds_of(wanted.value)
    return NOW if isinstance(wanted, NewTimestampNow) else None


class Descriptor(HeldDescriptor):
    """The resource ``descriptor``."""

    def _shown(self, status: os.stat_result) -> DescriptorStat:
        times = map(datetime_of, self._wasi.grants.times.shown(status))
        return DescriptorStat(_kind(status), status.st_nlink, status.st_size, *times)

    def _hash(self, status: os.stat_result) -> MetadataHashValue:
        """Return the same hash for all names of a file; adapters of preview 1 use its lower half as inode number."""
        return MetadataHashValue(self._wasi.grants.numbers.of(status), 0)

    @answering
    def get_flags(self) -> DescriptorFlags:
        return DescriptorFlags(self.bits)

    @answering
    def get_type(self) -> DescriptorType:
        return _kind(self.handle.status())

    @answering
    def stat(self) -> DescriptorStat:
        return self._shown(self.handle.status())

    def is_same_object(self, other: Descriptor) -> bool:
        return self.is_same(other)

    @answering
    def metadata_hash(self) -> MetadataHashValue:
        return self._hash(self.handle.status())

    @answering
    def metadata_hash_at(self, path_flags: PathFlags, path: str) -> MetadataHashValue:
        return self._hash(self.look(path, follow=_follows(path_flags)))

    @answering
    def stat_at(self, path_flags: PathFlags, path: str) -> DescriptorStat:
        return self._shown(self.look(path, follow=_follows(path_flags)))

    # -- contents ----------------------------------------------------------------------------------

    @answering
    def read(self, length: int, offset: int) -> tuple[bytes, bool]:
        data = read_chunk(self.file(READ).file, length, valid_offset(offset))
        return data, not data

    @answering
    def write(self, buffer: bytes, offset: int) -> int:
        file, wasi = self.file(WRITE).file, self._wasi
        return write_all(file, (buffer,), len(buffer), valid_offset(offset), wasi.grants.disk, wasi.scope)

    @answering
    def read_via_stream(self, offset: int) -> InputStream:
        return FileInput(self._wasi, self.file(READ), min(offset, MAX_OFFSET_BYTES))

    @answering
    def write_via_stream(self, offset: int) -> OutputStream:
        return FileOutput(self._wasi, self.file(WRITE), valid_offset(offset))

    @answering
    def append_via_stream(self) -> OutputStream:
        return FileOutput(self._wasi, self.file(WRITE), None)

    @answering
    def set_size(self, size: int) -> None:
        self.resize(size)

    @answering
    def sync(self) -> None:
        self.handle.sync(self._wasi.scope, data=False)

    @answering
    def sync_data(self) -> None:
        self.handle.sync(self._wasi.scope, data=True)

    @answering
    def advise(self, offset: int, length: int, advice: Advice) -> None:
        self.advised(offset, length, advice.value)

    # -- times -------------------------------------------------------------------------------------

    @answering
    def set_times(self, data_access_timestamp: NewTimestamp, data_modification_timestamp: NewTimestamp) -> None:
        self.stamp(_time(data_access_timestamp), _time(data_modification_timestamp))

    @answering
    def set_times_at(
        self, path_flags: PathFlags, path: str, data_access_timestamp: NewTimestamp,
        data_modification_timestamp: NewTimestamp,
    ) -> None:  # fmt: skip
        access, change = _time(data_access_timestamp), _time(data_modification_timestamp)
        self.stamp_at(path, access, change, follow=_follows(path_flags))

    # -- opening -----------------------------------------------------------------------------------

    @answering
    def open_at(self, path_flags: PathFlags, path: str, open_flags: OpenFlags, flags: DescriptorFlags) -> Descriptor:
        return self.open(path, open_flags.value, flags.value, follow=_follows(path_flags))

    @answering
    def read_directory(self) -> DirectoryEntryStream:
        return DirectoryEntryStream(Listing(self._wasi, self.directory), _kind)

    # -- changing ----------------------------------------------------------------------------------

    @answering
    def create_directory_at(self, path: str) -> None:
        self.make_directory(path)

    @answering
    def remove_directory_at(self, path: str) -> None:
        self.remove_directory(path)

    @answering
    def unlink_file_at(self, path: str) -> None:
        self.unlink(path)

    @answering
    def symlink_at(self, old_path: str, new_path: str) -> None:
        self.make_symlink(old_path, new_path)

    @answering
    def readlink_at(self, path: str) -> str:
        return self.read_link(path)

    @answering
    def link_at(self, old_path_flags: PathFlags, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        self.make_link(old_path, new_descriptor, new_path, follow=_follows(old_path_flags))

    @answering
    def rename_at(self, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        self.move(old_path, new_descriptor, new_path)


class _FilesystemTypes:
    """``wasi:filesystem/types``."""

    def filesystem_error_code(self, err: IoError) -> ErrorCode | None:
        return err.code if isinstance(err.code, ErrorCode) else None


class _Preopens:
    """``wasi:filesystem/preopens``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def get_directories(self) -> list[tuple[Descriptor, str]]:
        return Descriptor.preopened(self._wasi)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _FilesystemTypes() if interface == "wasi:filesystem/types" else _Preopens(wasi)
