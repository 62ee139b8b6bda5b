"""``wasi:filesystem``: descriptors of granted directories, and of files and directories beneath them.

The operations are those of :mod:`aegis.host.files.descriptor`; this module has their types in WASI 0.3. Reads, writes
and listings are streams, and the errors of opening one are in the future that comes with it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from aegis.bindings.wasi_filesystem_types_0_3 import (
    Advice,
    DescriptorFlags,
    DescriptorStat,
    DescriptorTypeBlockDevice,
    DescriptorTypeCharacterDevice,
    DescriptorTypeDirectory,
    DescriptorTypeFifo,
    DescriptorTypeOther,
    DescriptorTypeRegularFile,
    DescriptorTypeSocket,
    DescriptorTypeSymbolicLink,
    MetadataHashValue,
    NewTimestampNow,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from aegis.host.files.descriptor import NOW, READ, WRITE, Appending, HeldDescriptor, Listing, valid_offset
from aegis.host.files.open_file import MAX_OFFSET_BYTES
from aegis.host.preview3.clocks import instant_of, nanoseconds_of
from aegis.host.preview3.errors import answering, code_of
from aegis.host.preview3.file_streams import EntryReader, FileReader, FileWriter
from aegis.host.preview3.file_sync import Syncing
from aegis.host.preview3.streams import receive, refused_source, refused_stream, source

if TYPE_CHECKING:
    from aegis.bindings.wasi_filesystem_types_0_3 import DescriptorType, NewTimestamp
    from aegis.host.preview3.streams import GivenStream
    from aegis.host.wasi import Wasi
    from aegis.values import Promise

__all__ = ["implementation"]

_KINDS: dict[int, DescriptorType] = {
    stat.S_IFREG: DescriptorTypeRegularFile(), stat.S_IFDIR: DescriptorTypeDirectory(),
    stat.S_IFLNK: DescriptorTypeSymbolicLink(), stat.S_IFCHR: DescriptorTypeCharacterDevice(),
    stat.S_IFBLK: DescriptorTypeBlockDevice(), stat.S_IFIFO: DescriptorTypeFifo(),
    stat.S_IFSOCK: DescriptorTypeSocket(),
}  # fmt: skip


def _kind(status: os.stat_result) -> DescriptorType:
    return _KINDS.get(stat.S_IFMT(status.st_mode), DescriptorTypeOther(None))


def _follows(flags: PathFlags) -> bool:
    return PathFlags.SYMLINK_FOLLOW in flags


def _time(wanted: NewTimestamp) -> int | None:
    if isinstance(wanted, NewTimestampTimestamp):
        return nanoseconds_of(wanted.value)
    return NOW if isinstance(wanted, NewTimestampNow) else None


class StreamingDescriptor(HeldDescriptor):
    """The resource ``descriptor``."""

    def _shown(self, status: os.stat_result) -> DescriptorStat:
        times = map(instant_of, self._wasi.grants.times.shown(status))
        return DescriptorStat(_kind(status), status.st_nlink, status.st_size, *times)

    def _hash(self, status: os.stat_result) -> MetadataHashValue:
        """Return the same hash for all names of a file."""
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

    def is_same_object(self, other: StreamingDescriptor) -> bool:
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

    def read_via_stream(self, offset: int) -> tuple[object, Promise]:
        try:
            return source(FileReader(self.file(READ), min(offset, MAX_OFFSET_BYTES)), code_of)
        except OSError as error:
            return refused_source(code_of(error))

    def write_via_stream(self, data: GivenStream, offset: int) -> Promise:
        return self._receive(data, offset)

    def append_via_stream(self, data: GivenStream) -> Promise:
        return self._receive(data, None)

    def _receive(self, data: GivenStream, offset: int | None) -> Promise:
        try:
            to = Appending(self._wasi, self.file(WRITE), None if offset is None else valid_offset(offset))
        except OSError as error:
            return refused_stream(data, code_of(error))
        return receive(data, FileWriter(to), code_of)

    def read_directory(self) -> tuple[object, Promise]:
        try:
            return source(EntryReader(Listing(self._wasi, self.directory), _kind), code_of)
        except OSError as error:
            return refused_source(code_of(error))

    @answering
    def set_size(self, size: int) -> None:
        self.resize(size)

    def sync(self) -> Syncing:
        return Syncing(self._wasi, self.handle, data=False)

    def sync_data(self) -> Syncing:
        return Syncing(self._wasi, self.handle, data=True)

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

    # -- opening and changing ----------------------------------------------------------------------

    @answering
    def open_at(
        self, path_flags: PathFlags, path: str, open_flags: OpenFlags, flags: DescriptorFlags
    ) -> StreamingDescriptor:
        return self.open(path, open_flags.value, flags.value, follow=_follows(path_flags))

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
    def link_at(
        self, old_path_flags: PathFlags, old_path: str, new_descriptor: StreamingDescriptor, new_path: str
    ) -> None:
        self.make_link(old_path, new_descriptor, new_path, follow=_follows(old_path_flags))

    @answering
    def rename_at(self, old_path: str, new_descriptor: StreamingDescriptor, new_path: str) -> None:
        self.move(old_path, new_descriptor, new_path)


class _PreopenedDirectories:
    """``wasi:filesystem/preopens``; ``types`` has no functions but those of its resource."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def get_directories(self) -> list[tuple[StreamingDescriptor, str]]:
        return StreamingDescriptor.preopened(self._wasi)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _PreopenedDirectories(wasi)
