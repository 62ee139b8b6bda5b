"""The resource ``descriptor`` of ``wasi:filesystem``, as far as every version of WASI for components has it.

Sizes, offsets and paths come from a guest and are checked here. A path is resolved beneath the directory of which the
guest has a descriptor; see :mod:`aegis.host.files.base`. The functions here raise ``OSError``; each version converts
flags, times, kinds of files and errors to its own types.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Self

from aegis.host.blocking import in_order
from aegis.host.files.audit import GrantRefused, narrower, recorded
from aegis.host.files.file_times import NewTimes
from aegis.host.files.open_file import MAX_OFFSET_BYTES, SharedFile, resize, write_all
from aegis.policy.filesystem import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis.host.files.base import DirectoryHandle, FileHandle, Handle
    from aegis.host.host_quota import QuotaReservation
    from aegis.host.wasi import Wasi

__all__ = [
    "CHUNK_BYTES", "MUTATE", "NOW", "READ", "WRITE", "Appending", "HeldDescriptor", "Listing", "read_chunk", "refuse",
    "valid_offset",
]  # fmt: skip

CHUNK_BYTES = 65536
"""Bytes that one read returns at most."""
READ, WRITE, _FILE_SYNC, _DATA_SYNC, _REQUESTED_SYNC, MUTATE = (1 << n for n in range(6))
"""The bits of ``descriptor-flags``."""
_SYNCS = _FILE_SYNC | _DATA_SYNC | _REQUESTED_SYNC
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = (1 << n for n in range(4))
"""The bits of ``open-flags``."""
NOW = -1 << 64
"""The current time, as a new time of a file; no file can have this time."""
_MAX_TIME_NANOSECONDS = (1 << 63) - 1
_MAX_PATH_BYTES = 4096
_ENTRIES_BETWEEN_CHECKS = 1024
"""Entries of a listing between two checks of the deadline."""
_ENTRY_BYTES = 200
"""Bytes of memory that an entry of a listing takes besides its name."""


def refuse(number: int) -> OSError:
    """Return the error of the system with this number."""
    return OSError(number, os.strerror(number))


def _checked(path: str) -> str:
    """Return ``path``; raise for a NUL, and for a path that is longer than a system accepts."""
    if len(path) > _MAX_PATH_BYTES or len(path.encode()) > _MAX_PATH_BYTES:
        raise refuse(errno.ENAMETOOLONG)
    if "\0" in path:
        raise refuse(errno.EINVAL)
    return path


def valid_offset(offset: int) -> int:
    """Return an offset; raise if no file can have it."""
    if offset > MAX_OFFSET_BYTES:
        raise refuse(errno.EINVAL)
    return offset


def read_chunk(file: FileHandle, count: int, offset: int) -> bytes:
    """Return up to ``count`` bytes at ``offset``, at most a chunk, so that one call stays short."""
    return file.read(min(count, CHUNK_BYTES, MAX_OFFSET_BYTES - offset), offset)


class Appending:
    """Writes to a file piece by piece, from an offset on; without one it appends, wherever the file ends by then."""

    def __init__(self, wasi: Wasi, file: SharedFile, offset: int | None) -> None:
        self._wasi, self._file, self._at = wasi, file.use(), offset

    def write(self, data: bytes) -> None:
        """Write all of ``data``, which is charged to the disk quota."""
        file, wasi = self._file.file, self._wasi
        at = file.status().st_size if self._at is None else self._at
        if at + len(data) > MAX_OFFSET_BYTES:
            raise refuse(errno.EFBIG)
        write_all(file, (data,), len(data), at, wasi.grants.disk, wasi.scope)
        if self._at is not None:
            self._at += len(data)

    def close(self) -> None:
        """Release the file."""
        self._file.release()


class Listing:
    """The entries of a directory when it was listed, sorted by name: pairs of a name and a status.

    It counts as an open directory until its end is read or it is closed, for the host keeps the entries meanwhile.
    """

    def __init__(self, wasi: Wasi, directory: DirectoryHandle) -> None:
        self._wasi = wasi
        wasi.open_files.take()
        self._open = True
        self._reservation = wasi.grants.host_quota.reserve()
        try:
            self._entries = in_order(self._read(directory, self._reservation), wasi.scope, itemgetter(0))
        except BaseException:
            self.close()
            raise

    def _read(self, directory: DirectoryHandle, reservation: QuotaReservation) -> Iterator[tuple[str, os.stat_result]]:
        for n, (name, status) in enumerate(directory.entries()):
            if not n % _ENTRIES_BETWEEN_CHECKS:
                self._wasi.scope.remaining()
            reservation.add(_ENTRY_BYTES + len(name))
            try:
                name.encode()
            except UnicodeEncodeError:
                continue  # a string of WIT cannot hold a name that is not Unicode
            yield name, status

    def next(self) -> tuple[str, os.stat_result] | None:
        """Return the next entry; at the end close the listing and return ``None``."""
        entry = next(self._entries, None) if self._open else None
        if entry is None:
            self.close()
        return entry

    def close(self) -> None:
        """Release the entries; a second call does nothing."""
        if self._open:
            self._open = False
            self._wasi.open_files.release()
            self._reservation.clear()


class HeldDescriptor:
    """A file or a directory, with flags for the operations that it allows.

    A file is read and written as it was opened. Entries of a directory can be changed where the grant allows writing,
    even if the guest opened it without ``mutate-directory``: the adapters of preview 1 never set that flag, and
    wasi-libc sets it for each file that it writes, where it has no meaning. Setting it where the grant does not allow
    writing is an error. ``label`` is the path in the guest's names, for reports. A preopened directory is not
    ``owned``, so dropping its descriptor does not close it.
    """

    def __init__(
        self, wasi: Wasi, target: SharedFile | DirectoryHandle, flags: int, label: str, *, owned: bool = True
    ) -> None:
        self._wasi, self._target, self.bits = wasi, target, flags
        self.label, self._owned = label, owned

    def __drop__(self) -> None:
        if isinstance(self._target, SharedFile):
            self._target.release()
        elif self._owned:
            self._target.close()
            self._wasi.open_files.release()

    @classmethod
    def preopened(cls, wasi: Wasi) -> list[tuple[Self, str]]:
        """Return the granted directories, with their names for the guest."""
        found = []
        for preopen in wasi.grants.preopens:
            flags = READ | (MUTATE if preopen.directory.writable else 0)
            found.append((cls(wasi, preopen.directory, flags, preopen.guest, owned=False), preopen.guest))
        return found

    # -- type and status ---------------------------------------------------------------------------

    @property
    def directory(self) -> DirectoryHandle:
        if isinstance(self._target, SharedFile):
            raise refuse(errno.ENOTDIR)
        return self._target

    @property
    def writable(self) -> bool:
        """Whether the grant allows writing; for reports of decisions."""
        return self.handle.writable

    @property
    def handle(self) -> Handle:
        return self._target.file if isinstance(self._target, SharedFile) else self._target

    def file(self, needed: int) -> SharedFile:
        """Return the open file; raise unless it was opened for ``needed``."""
        if not isinstance(self._target, SharedFile):
            raise refuse(errno.EISDIR if needed else errno.EBADF)
        if needed & ~self.bits:
            raise refuse(errno.EBADF)
        return self._target

    def look(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of the file at ``path``."""
        directory, path = self.directory, _checked(path)
        return recorded(self._wasi.scope, "look at", self, path, lambda: directory.stat(path, follow=follow))

    def is_same(self, other: HeldDescriptor) -> bool:
        """Return whether both are descriptors of the same file."""
        return os.path.samestat(self.handle.status(), other.handle.status())

    # -- contents ----------------------------------------------------------------------------------

    def resize(self, size: int) -> None:
        """Set the size of a file."""
        file = self.file(WRITE)
        if size > MAX_OFFSET_BYTES:
            raise refuse(errno.EINVAL)
        resize(file.file, size, self._wasi.grants.disk)

    def advised(self, offset: int, length: int, advice: str) -> None:
        """Pass on an advice about a range of a file; ``advice`` is its name in WIT."""
        file = self.file(0)
        if offset > MAX_OFFSET_BYTES or length > MAX_OFFSET_BYTES:
            raise refuse(errno.EINVAL)
        file.file.advise(offset, length, advice.replace("-", "").upper())

    # -- times -------------------------------------------------------------------------------------

    def stamp(self, access: int | None, change: int | None) -> None:
        """Set the times, in nanoseconds since the epoch; ``None`` leaves a time, and ``NOW`` is the current one."""
        handle, times = self.handle, self._times(access, change)
        if handle.writable and not self.bits & (WRITE | MUTATE):
            raise refuse(errno.EPERM)  # the grant allows it, but the descriptor was opened for reading
        after = recorded(self._wasi.scope, "write", self, "", lambda: handle.set_times(times))
        self._wasi.grants.times.were_set(after, times)

    def stamp_at(self, path: str, access: int | None, change: int | None, *, follow: bool) -> None:
        """Set the times of the file at ``path``."""
        path = _checked(path)
        times = self._times(access, change)
        after = recorded(
            self._wasi.scope, "write", self, path, lambda: self.directory.utime(path, times, follow=follow)
        )
        self._wasi.grants.times.were_set(after, times)

    def _times(self, access: int | None, change: int | None) -> NewTimes:
        now = self._wasi.grants.clocks.realtime() if NOW in (access, change) else 0

        def chosen(wanted: int | None) -> int | None:
            if wanted == NOW:
                return now
            if wanted is not None and abs(wanted) > _MAX_TIME_NANOSECONDS:
                raise refuse(errno.EOVERFLOW)
            return wanted

        return NewTimes(chosen(access), chosen(change))

    # -- opening -----------------------------------------------------------------------------------

    def open(self, path: str, how: int, flags: int, *, follow: bool) -> Self:
        """Open the file at ``path``; ``how`` has the bits of ``open-flags``, ``flags`` of ``descriptor-flags``."""
        directory, path = self.directory, _checked(path)
        write = bool(WRITE & flags)
        if _DIRECTORY & how and how != _DIRECTORY:
            raise refuse(errno.EINVAL)
        beyond = bool(MUTATE & flags & ~self.bits)
        changing = write or beyond or bool(how & (_CREATE | _TRUNCATE))
        count = self._wasi.open_files
        count.take()
        try:
            opened = recorded(
                self._wasi.scope, "write" if changing else "open", self, path,
                lambda: _within(beyond, directory.open(
                    path, follow=follow, read=bool(READ & flags) or not write, write=write,
                    directory=bool(_DIRECTORY & how), create=bool(_CREATE & how), exclusive=bool(_EXCLUSIVE & how),
                    truncate=bool(_TRUNCATE & how), sync=_sync(flags),
                )),
            )  # fmt: skip
        except BaseException:
            count.release()
            raise
        return self._opened(opened, path, flags)

    def _opened(self, opened: Handle, path: str, flags: int) -> Self:
        label = path if self.label == "." else f"{self.label.rstrip('/')}/{path}"
        made = type(self)
        if opened.is_directory:
            return made(self._wasi, opened, READ | (MUTATE & self.bits), label)
        granted = flags & (READ | WRITE | _SYNCS)
        return made(self._wasi, SharedFile(opened, self._wasi.open_files), granted or READ, label)

    # -- changing ----------------------------------------------------------------------------------

    def _change(self, path: str, function: Callable[[], object]) -> None:
        recorded(self._wasi.scope, "write", self, path, function)

    def make_directory(self, path: str) -> None:
        path = _checked(path)
        self._change(path, lambda: self.directory.mkdir(path))

    def remove_directory(self, path: str) -> None:
        path = _checked(path)
        self._change(path, lambda: self.directory.rmdir(path))

    def unlink(self, path: str) -> None:
        path = _checked(path)
        self._change(path, lambda: self.directory.unlink(path))

    def make_symlink(self, target: str, path: str) -> None:
        target, path = _checked(target), _checked(path)
        self._change(path, lambda: self.directory.symlink(target, path))

    def read_link(self, path: str) -> str:
        path = _checked(path)
        directory = self.directory
        target = recorded(self._wasi.scope, "look at", self, path, lambda: directory.readlink(path))
        target.encode()
        return target

    def make_link(self, old: str, other: HeldDescriptor, new: str, *, follow: bool) -> None:
        old, new = _checked(old), _checked(new)
        if follow:
            raise refuse(errno.EINVAL)
        self._between(other, old, new, lambda: self.directory.link(old, other.directory, new))

    def move(self, old: str, other: HeldDescriptor, new: str) -> None:
        old, new = _checked(old), _checked(new)
        check = self._wasi.scope.remaining
        self._between(other, old, new, lambda: self.directory.rename(old, other.directory, new, check=check))

    def _between(self, other: HeldDescriptor, old: str, new: str, function: Callable[[], object]) -> None:
        recorded(self._wasi.scope, "write", *narrower(self, old, other, new), function)


def _within(beyond: bool, opened: Handle) -> Handle:
    """Close and refuse a directory if the guest asked for changes that the grant does not allow."""
    if beyond and opened.is_directory:
        opened.close()
        raise GrantRefused(READ_ONLY)
    return opened


def _sync(flags: int) -> int:
    found = 0
    if flags & (_FILE_SYNC | _REQUESTED_SYNC):
        found |= getattr(os, "O_SYNC", 0)
    if flags & _DATA_SYNC:
        found |= getattr(os, "O_DSYNC", getattr(os, "O_SYNC", 0))
    return found
