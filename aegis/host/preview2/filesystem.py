"""``wasi:filesystem``: descriptors of granted directories, and of files and directories beneath them.

Sizes, offsets and paths come from a guest and are checked here. A path is resolved beneath the directory of which the
guest has a descriptor; see :mod:`aegis.host.files.base`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

from aegis.bindings.wasi_filesystem_types import (
    Advice,
    DescriptorFlags,
    DescriptorStat,
    DescriptorType,
    DirectoryEntry,
    ErrorCode,
    MetadataHashValue,
    NewTimestampNow,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from aegis.host.blocking import in_order
from aegis.host.files.audit import GrantRefused, narrower, recorded
from aegis.host.files.file_times import NewTimes
from aegis.host.files.open_file import MAX_OFFSET_BYTES, OpenFileCount, SharedFile, resize, write_all
from aegis.host.preview2.clocks import datetime_of, nanoseconds_of
from aegis.host.preview2.file_streams import DirectoryEntryStream, FileInput, FileOutput, read_chunk
from aegis.host.preview2.filesystem_errors import answering
from aegis.policy.filesystem import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis.bindings.wasi_filesystem_types import NewTimestamp
    from aegis.host.files.base import DirectoryHandle, Handle
    from aegis.host.host_quota import QuotaReservation
    from aegis.host.preview2 import Wasi
    from aegis.host.preview2.io import InputStream, IoError, OutputStream

__all__ = ["implementation"]

_READ, _WRITE, _MUTATE = DescriptorFlags.READ, DescriptorFlags.WRITE, DescriptorFlags.MUTATE_DIRECTORY
_SYNCS = (
    DescriptorFlags.FILE_INTEGRITY_SYNC | DescriptorFlags.DATA_INTEGRITY_SYNC | DescriptorFlags.REQUESTED_WRITE_SYNC
)
_MAX_PATH_BYTES = 4096
_ENTRIES_BETWEEN_CHECKS = 1024
"""Entries of a listing between two checks of the deadline."""
_ENTRY_BYTES = 200
"""Bytes of memory that an entry of a listing takes besides its name."""
_KINDS = {
    stat.S_IFREG: DescriptorType.REGULAR_FILE, stat.S_IFDIR: DescriptorType.DIRECTORY,
    stat.S_IFLNK: DescriptorType.SYMBOLIC_LINK, stat.S_IFCHR: DescriptorType.CHARACTER_DEVICE,
    stat.S_IFBLK: DescriptorType.BLOCK_DEVICE, stat.S_IFIFO: DescriptorType.FIFO, stat.S_IFSOCK: DescriptorType.SOCKET,
}  # fmt: skip


def _refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _path(path: str) -> str:
    """Return ``path``; raise for a NUL, and for a path that is longer than a system accepts."""
    if len(path) > _MAX_PATH_BYTES or len(path.encode()) > _MAX_PATH_BYTES:
        raise _refuse(errno.ENAMETOOLONG)
    if "\0" in path:
        raise _refuse(errno.EINVAL)
    return path


def _offset(offset: int) -> int:
    if offset > MAX_OFFSET_BYTES:
        raise _refuse(errno.EINVAL)
    return offset


def _kind(status: os.stat_result) -> DescriptorType:
    return _KINDS.get(stat.S_IFMT(status.st_mode), DescriptorType.UNKNOWN)


def _follows(flags: PathFlags) -> bool:
    return PathFlags.SYMLINK_FOLLOW in flags


class Descriptor:
    """The resource ``descriptor``: a file or a directory, with flags for the operations that it allows.

    A file is read and written as it was opened. Entries of a directory can be changed where the grant allows writing,
    even if the guest opened it without ``mutate-directory``: the adapters of preview 1 never set that flag, and
    wasi-libc sets it for each file that it writes, where it has no meaning. Setting it where the grant does not allow
    writing is an error. ``label`` is the path in the guest's names, for reports. A preopened directory is not
    ``owned``, so dropping its descriptor does not close it.
    """

    def __init__(
        self, wasi: Wasi, files: OpenFileCount, target: SharedFile | DirectoryHandle, flags: DescriptorFlags,
        label: str, *, owned: bool = True,
    ) -> None:  # fmt: skip
        self._wasi, self._files, self._target, self._flags = wasi, files, target, flags
        self.label, self._owned = label, owned

    def __drop__(self) -> None:
        if isinstance(self._target, SharedFile):
            self._target.release()
        elif self._owned:
            self._target.close()
            self._files.release()

    # -- type and status ---------------------------------------------------------------------------

    @property
    def directory(self) -> DirectoryHandle:
        if isinstance(self._target, SharedFile):
            raise _refuse(errno.ENOTDIR)
        return self._target

    @property
    def writable(self) -> bool:
        """Whether the grant allows writing; for reports of decisions."""
        return self._handle.writable

    @property
    def _handle(self) -> Handle:
        return self._target.file if isinstance(self._target, SharedFile) else self._target

    def _file(self, needed: DescriptorFlags) -> SharedFile:
        if not isinstance(self._target, SharedFile):
            raise _refuse(errno.EISDIR if needed else errno.EBADF)
        if needed not in self._flags:
            raise _refuse(errno.EBADF)
        return self._target

    def _shown(self, status: os.stat_result) -> DescriptorStat:
        times = map(datetime_of, self._wasi.grants.times.shown(status))
        return DescriptorStat(_kind(status), status.st_nlink, status.st_size, *times)

    def _hash(self, status: os.stat_result) -> MetadataHashValue:
        """Return the same hash for all names of a file; adapters of preview 1 use its lower half as inode number."""
        return MetadataHashValue(self._wasi.grants.numbers.of(status), 0)

    @answering
    def get_flags(self) -> DescriptorFlags:
        return self._flags

    @answering
    def get_type(self) -> DescriptorType:
        return _kind(self._handle.status())

    @answering
    def stat(self) -> DescriptorStat:
        return self._shown(self._handle.status())

    def is_same_object(self, other: Descriptor) -> bool:
        return os.path.samestat(self._handle.status(), other._handle.status())

    @answering
    def metadata_hash(self) -> MetadataHashValue:
        return self._hash(self._handle.status())

    @answering
    def metadata_hash_at(self, path_flags: PathFlags, path: str) -> MetadataHashValue:
        return self._hash(self._look(path_flags, path))

    @answering
    def stat_at(self, path_flags: PathFlags, path: str) -> DescriptorStat:
        return self._shown(self._look(path_flags, path))

    def _look(self, path_flags: PathFlags, path: str) -> os.stat_result:
        directory, path = self.directory, _path(path)
        return recorded(
            self._wasi.scope, "look at", self, path, lambda: directory.stat(path, follow=_follows(path_flags))
        )

    # -- contents ----------------------------------------------------------------------------------

    @answering
    def read(self, length: int, offset: int) -> tuple[bytes, bool]:
        data = read_chunk(self._file(_READ).file, length, _offset(offset))
        return data, not data

    @answering
    def write(self, buffer: bytes, offset: int) -> int:
        file, wasi = self._file(_WRITE).file, self._wasi
        return write_all(file, (buffer,), len(buffer), _offset(offset), wasi.grants.disk, wasi.scope)

    @answering
    def read_via_stream(self, offset: int) -> InputStream:
        return FileInput(self._wasi, self._file(_READ), min(offset, MAX_OFFSET_BYTES))

    @answering
    def write_via_stream(self, offset: int) -> OutputStream:
        return FileOutput(self._wasi, self._file(_WRITE), _offset(offset))

    @answering
    def append_via_stream(self) -> OutputStream:
        return FileOutput(self._wasi, self._file(_WRITE), None)

    @answering
    def set_size(self, size: int) -> None:
        file = self._file(_WRITE)
        if size > MAX_OFFSET_BYTES:
            raise _refuse(errno.EINVAL)
        resize(file.file, size, self._wasi.grants.disk)

    @answering
    def sync(self) -> None:
        self._handle.sync(self._wasi.scope, data=False)

    @answering
    def sync_data(self) -> None:
        self._handle.sync(self._wasi.scope, data=True)

    @answering
    def advise(self, offset: int, length: int, advice: Advice) -> None:
        file = self._file(DescriptorFlags(0))
        if offset > MAX_OFFSET_BYTES or length > MAX_OFFSET_BYTES:
            raise _refuse(errno.EINVAL)
        file.file.advise(offset, length, advice.value.replace("-", "").upper())

    # -- times -------------------------------------------------------------------------------------

    @answering
    def set_times(self, data_access_timestamp: NewTimestamp, data_modification_timestamp: NewTimestamp) -> None:
        handle, times = self._handle, self._times(data_access_timestamp, data_modification_timestamp)
        if handle.writable and not self._flags & (_WRITE | _MUTATE):
            raise _refuse(errno.EPERM)  # the grant allows it, but the descriptor was opened for reading
        after = recorded(self._wasi.scope, "write", self, "", lambda: handle.set_times(times))
        self._wasi.grants.times.were_set(after, times)

    @answering
    def set_times_at(
        self, path_flags: PathFlags, path: str, data_access_timestamp: NewTimestamp,
        data_modification_timestamp: NewTimestamp,
    ) -> None:  # fmt: skip
        path = _path(path)
        times = self._times(data_access_timestamp, data_modification_timestamp)
        follow = _follows(path_flags)
        after = recorded(
            self._wasi.scope, "write", self, path, lambda: self.directory.utime(path, times, follow=follow)
        )
        self._wasi.grants.times.were_set(after, times)

    def _times(self, access: NewTimestamp, change: NewTimestamp) -> NewTimes:
        now = self._wasi.grants.clocks.realtime() if NewTimestampNow() in (access, change) else 0

        def chosen(wanted: NewTimestamp) -> int | None:
            if isinstance(wanted, NewTimestampTimestamp):
                nanoseconds = nanoseconds_of(wanted.value)
                if nanoseconds > MAX_OFFSET_BYTES:
                    raise _refuse(errno.EOVERFLOW)
                return nanoseconds
            return now if isinstance(wanted, NewTimestampNow) else None

        return NewTimes(chosen(access), chosen(change))

    # -- opening -----------------------------------------------------------------------------------

    @answering
    def open_at(self, path_flags: PathFlags, path: str, open_flags: OpenFlags, flags: DescriptorFlags) -> Descriptor:
        directory, path = self.directory, _path(path)
        write = _WRITE in flags
        create, truncate = OpenFlags.CREATE in open_flags, OpenFlags.TRUNCATE in open_flags
        wants_directory = OpenFlags.DIRECTORY in open_flags
        if wants_directory and open_flags != OpenFlags.DIRECTORY:
            raise _refuse(errno.EINVAL)
        beyond = _MUTATE in flags and _MUTATE not in self._flags
        changing = write or create or truncate or beyond
        self._files.take()
        try:
            opened = recorded(
                self._wasi.scope, "write" if changing else "open", self, path,
                lambda: _within(beyond, directory.open(
                    path, follow=_follows(path_flags), read=_READ in flags or not write, write=write,
                    directory=wants_directory, create=create, exclusive=OpenFlags.EXCLUSIVE in open_flags,
                    truncate=truncate, sync=_sync(flags),
                )),
            )  # fmt: skip
        except BaseException:
            self._files.release()
            raise
        return self._opened(opened, path, flags)

    def _opened(self, opened: Handle, path: str, flags: DescriptorFlags) -> Descriptor:
        label = path if self.label == "." else f"{self.label.rstrip('/')}/{path}"
        if opened.is_directory:
            return Descriptor(self._wasi, self._files, opened, _READ | (_MUTATE & self._flags), label)
        granted = flags & (_READ | _WRITE | _SYNCS)
        return Descriptor(self._wasi, self._files, SharedFile(opened, self._files), granted or _READ, label)

    @answering
    def read_directory(self) -> DirectoryEntryStream:
        directory = self.directory
        self._files.take()
        reservation = self._wasi.grants.host_quota.reserve()
        try:
            entries = in_order(self._entries(directory, reservation), self._wasi.scope, attrgetter("name"))
            return DirectoryEntryStream(entries, self._files, reservation)
        except BaseException:
            reservation.clear()
            self._files.release()
            raise

    def _entries(self, directory: DirectoryHandle, reservation: QuotaReservation) -> Iterator[DirectoryEntry]:
        for n, (name, status) in enumerate(directory.entries()):
            if not n % _ENTRIES_BETWEEN_CHECKS:
                self._wasi.scope.remaining()
            reservation.add(_ENTRY_BYTES + len(name))
            try:
                name.encode()
            except UnicodeEncodeError:
                continue  # a string of WIT cannot hold a name that is not Unicode
            yield DirectoryEntry(_kind(status), name)

    # -- changing ----------------------------------------------------------------------------------

    def _change(self, path: str, function: Callable[[], object]) -> None:
        recorded(self._wasi.scope, "write", self, path, function)

    @answering
    def create_directory_at(self, path: str) -> None:
        path = _path(path)
        self._change(path, lambda: self.directory.mkdir(path))

    @answering
    def remove_directory_at(self, path: str) -> None:
        path = _path(path)
        self._change(path, lambda: self.directory.rmdir(path))

    @answering
    def unlink_file_at(self, path: str) -> None:
        path = _path(path)
        self._change(path, lambda: self.directory.unlink(path))

    @answering
    def symlink_at(self, old_path: str, new_path: str) -> None:
        old, new = _path(old_path), _path(new_path)
        self._change(new, lambda: self.directory.symlink(old, new))

    @answering
    def readlink_at(self, path: str) -> str:
        path = _path(path)
        directory = self.directory
        target = recorded(self._wasi.scope, "look at", self, path, lambda: directory.readlink(path))
        target.encode()
        return target

    @answering
    def link_at(self, old_path_flags: PathFlags, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        old, new = _path(old_path), _path(new_path)
        if _follows(old_path_flags):
            raise _refuse(errno.EINVAL)
        self._between(new_descriptor, old, new, lambda: self.directory.link(old, new_descriptor.directory, new))

    @answering
    def rename_at(self, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        old, new = _path(old_path), _path(new_path)
        check = self._wasi.scope.remaining
        self._between(
            new_descriptor, old, new,
            lambda: self.directory.rename(old, new_descriptor.directory, new, check=check),
        )  # fmt: skip

    def _between(self, other: Descriptor, old: str, new: str, function: Callable[[], object]) -> None:
        recorded(self._wasi.scope, "write", *narrower(self, old, other, new), function)


def _within(beyond: bool, opened: Handle) -> Handle:
    """Close and refuse a directory if the guest asked for changes that the grant does not allow."""
    if beyond and opened.is_directory:
        opened.close()
        raise GrantRefused(READ_ONLY)
    return opened


def _sync(flags: DescriptorFlags) -> int:
    found = 0
    if DescriptorFlags.FILE_INTEGRITY_SYNC in flags or DescriptorFlags.REQUESTED_WRITE_SYNC in flags:
        found |= getattr(os, "O_SYNC", 0)
    if DescriptorFlags.DATA_INTEGRITY_SYNC in flags:
        found |= getattr(os, "O_DSYNC", getattr(os, "O_SYNC", 0))
    return found


class _FilesystemTypes:
    """``wasi:filesystem/types``."""

    def filesystem_error_code(self, err: IoError) -> ErrorCode | None:
        return err.code if isinstance(err.code, ErrorCode) else None


class _Preopens:
    """``wasi:filesystem/preopens``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi
        self._files = OpenFileCount(wasi.limits.open_files)

    def get_directories(self) -> list[tuple[Descriptor, str]]:
        found = []
        for preopen in self._wasi.grants.preopens:
            flags = _READ | (_MUTATE if preopen.directory.writable else DescriptorFlags(0))
            made = Descriptor(self._wasi, self._files, preopen.directory, flags, preopen.guest, owned=False)
            found.append((made, preopen.guest))
        return found


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _FilesystemTypes() if interface == "wasi:filesystem/types" else _Preopens(wasi)
