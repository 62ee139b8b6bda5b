"""The ``fd_*`` functions: reading, writing, seeking, status, listing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from operator import itemgetter

from aegis.host.files.open_file import MAX_OFFSET_BYTES, resize, write_all
from aegis.host.preview1 import abi
from aegis.host.preview1.abi import Errno, Fdflags, Refused, Rights
from aegis.host.preview1.context import Preview1Context
from aegis.host.preview1.table import DirectoryDescriptor, FileDescriptor, StreamDescriptor
from aegis.host.stdio import StandardInput, StandardOutput
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from aegis.host.files.base import FileHandle

__all__ = ["Files"]

_ADVICE = ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
_SYNCS = Fdflags.DSYNC | Fdflags.RSYNC | Fdflags.SYNC
_ENTRIES_BETWEEN_CHECKS = 1024
"""Entries of a listing between two checks of the deadline."""
_ENTRY_BYTES = 200
"""Bytes of memory that an entry of a listing takes beside its name."""


class Files(Preview1Context):
    """The ``fd_*`` functions. Each method writes its results to memory, or raises the error."""

    # -- reading and writing -------------------------------------------------------------------

    def fd_read(self, fd: int, iovs: int, count: int, out: int) -> None:
        entry = self.table.get(fd)
        if isinstance(entry, DirectoryDescriptor) or not entry.rights & Rights.FD_READ:
            raise Refused(Errno.NOTCAPABLE if not isinstance(entry, DirectoryDescriptor) else Errno.BADF)
        pairs = self.vectors(iovs, count)
        room = self.room(pairs)
        if isinstance(entry, StreamDescriptor):
            assert isinstance(entry.source, StandardInput)
            data = entry.source.read(min(room, self.chunk)) if room else b""
        else:
            data = self._read_at(entry.file, room, entry.position)
        self.scatter(pairs, data)
        if isinstance(entry, FileDescriptor):
            entry.position += len(data)
        self.put_u32(out, len(data))

    def fd_pread(self, fd: int, iovs: int, count: int, offset: int, out: int) -> None:
        entry = self._data(fd, Rights.FD_READ)
        pairs = self.vectors(iovs, count)
        data = self._read_at(entry.file, self.room(pairs), offset)
        self.scatter(pairs, data)
        self.put_u32(out, len(data))

    def _read_at(self, file: FileHandle, count: int, offset: int) -> bytes:
        """Read up to ``count`` bytes at ``offset``, at most a chunk, so that one call stays short."""
        if offset > MAX_OFFSET_BYTES:
            raise Refused(Errno.INVAL)
        return file.read(min(count, self.chunk), offset)

    def _data(self, fd: int, right: int) -> FileDescriptor:
        """Return the file for an access at an offset; a stream has no offsets (``SPIPE``)."""
        entry = self.table.get(fd)
        if isinstance(entry, StreamDescriptor):
            raise Refused(Errno.SPIPE if entry.rights & right else Errno.BADF)
        return self.table.file(fd, right)

    def fd_write(self, fd: int, iovs: int, count: int, out: int) -> None:
        entry = self.table.get(fd)
        if isinstance(entry, DirectoryDescriptor) or not entry.rights & Rights.FD_WRITE:
            raise Refused(Errno.NOTCAPABLE if not isinstance(entry, DirectoryDescriptor) else Errno.BADF)
        if isinstance(entry, StreamDescriptor):
            assert isinstance(entry.source, StandardOutput)
            written = 0
            for data in self.gather(iovs, count, entry.source.enough())[1]:
                written += entry.source.write(data)
        else:
            size, pieces = self.gather(iovs, count)
            if entry.flags & Fdflags.APPEND:
                entry.position = entry.file.status().st_size
            written = self._write_at(entry.file, size, pieces, entry.position)
            entry.position += written
        self.put_u32(out, written)

    def fd_pwrite(self, fd: int, iovs: int, count: int, offset: int, out: int) -> None:
        entry = self._data(fd, Rights.FD_WRITE)
        size, pieces = self.gather(iovs, count)
        self.put_u32(out, self._write_at(entry.file, size, pieces, offset))

    def _write_at(self, file: FileHandle, size: int, pieces: Iterable[bytes], offset: int) -> int:
        if offset > MAX_OFFSET_BYTES:
            raise Refused(Errno.INVAL)
        return write_all(file, pieces, size, offset, self.grants.disk, self.scope)

    def fd_seek(self, fd: int, offset: int, whence: int, out: int) -> None:
        if isinstance(self.table.get(fd), StreamDescriptor):
            raise Refused(Errno.SPIPE)
        entry = self.table.file(fd, 0)
        needed = Rights.FD_TELL if whence == 1 and offset == 0 else Rights.FD_SEEK
        if not entry.rights & (needed | Rights.FD_SEEK):
            raise Refused(Errno.NOTCAPABLE)
        if whence > 2:
            raise Refused(Errno.INVAL)
        base = (0, entry.position, 0)[whence] if whence < 2 else entry.file.status().st_size
        if not 0 <= base + offset <= MAX_OFFSET_BYTES:
            raise Refused(Errno.INVAL)
        entry.position = base + offset
        self.put_u64(out, entry.position)

    def fd_tell(self, fd: int, out: int) -> None:
        if isinstance(self.table.get(fd), StreamDescriptor):
            raise Refused(Errno.SPIPE)
        entry = self.table.file(fd, 0)
        if not entry.rights & (Rights.FD_TELL | Rights.FD_SEEK):
            raise Refused(Errno.NOTCAPABLE)
        self.put_u64(out, entry.position)

    # -- status --------------------------------------------------------------------------------

    def fd_fdstat_get(self, fd: int, out: int) -> None:
        entry = self.table.get(fd)
        kind = self._type(entry)
        flags = entry.flags if isinstance(entry, FileDescriptor) else 0
        self.memory.write(out, abi.FDSTAT.pack(kind, flags, entry.rights, entry.inheriting))

    @staticmethod
    def _type(entry: StreamDescriptor | FileDescriptor | DirectoryDescriptor) -> int:
        if isinstance(entry, StreamDescriptor):
            return abi.CHARACTER if entry.source.is_terminal() else abi.UNKNOWN
        return abi.DIRECTORY if isinstance(entry, DirectoryDescriptor) else abi.REGULAR

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        entry = self.table.file(fd, Rights.FD_FDSTAT_SET_FLAGS)
        if flags > 31 or (flags ^ entry.flags) & _SYNCS:
            raise Refused(Errno.INVAL)
        entry.flags = flags

    def fd_fdstat_set_rights(self, fd: int, base: int, inheriting: int) -> None:
        entry = self.table.get(fd)
        if base & ~entry.rights or inheriting & ~entry.inheriting:
            raise Refused(Errno.NOTCAPABLE)
        entry.rights, entry.inheriting = base, inheriting

    def fd_filestat_get(self, fd: int, out: int) -> None:
        entry = self.table.get(fd)
        if not entry.rights & Rights.FD_FILESTAT_GET:
            raise Refused(Errno.NOTCAPABLE)
        if isinstance(entry, StreamDescriptor):
            self.memory.write(out, abi.FILESTAT.pack(0, 0, self._type(entry), 0, 0, 0, 0, 0))
            return
        status = (entry.file if isinstance(entry, FileDescriptor) else entry.directory).status()
        self.memory.write(out, self.filestat(status))

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        entry = self._writable(fd, Rights.FD_FILESTAT_SET_SIZE)
        if size > MAX_OFFSET_BYTES:
            raise Refused(Errno.INVAL)
        resize(entry.file, size, self.grants.disk)

    def _writable(self, fd: int, right: int) -> FileDescriptor:
        """Return the file if the descriptor was opened for writing, as changing the size requires."""
        entry = self.table.file(fd, right)
        if not entry.rights & Rights.FD_WRITE:
            raise Refused(Errno.INVAL)
        return entry

    def fd_filestat_set_times(self, fd: int, atim: int, mtim: int, flags: int) -> None:
        from aegis.host.files.audit import recorded
        from aegis.host.preview1.times import new_times

        times = new_times(atim, mtim, flags, self.grants.clocks)
        entry = self.table.get(fd)
        if isinstance(entry, StreamDescriptor):
            raise Refused(Errno.BADF)
        if not entry.rights & Rights.FD_FILESTAT_SET_TIMES:
            raise Refused(Errno.NOTCAPABLE)
        handle = entry.directory if isinstance(entry, DirectoryDescriptor) else entry.file
        after = recorded(self.scope, "write", entry, "", lambda: handle.set_times(times))
        self.grants.times.were_set(after, times)

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        entry = self._writable(fd, Rights.FD_ALLOCATE)
        end = offset + length
        if not length:
            raise Refused(Errno.INVAL)
        if end > MAX_OFFSET_BYTES:
            raise Refused(Errno.FBIG)
        if end > entry.file.status().st_size:
            resize(entry.file, end, self.grants.disk)

    def fd_advise(self, fd: int, offset: int, length: int, advice: int) -> None:
        entry = self.table.file(fd, Rights.FD_ADVISE)
        if advice > 5 or offset > MAX_OFFSET_BYTES or length > MAX_OFFSET_BYTES:
            raise Refused(Errno.INVAL)
        entry.file.advise(offset, length, _ADVICE[advice])

    def fd_sync(self, fd: int) -> None:
        self.table.file(fd, Rights.FD_SYNC).file.sync(self.scope, data=False)

    def fd_datasync(self, fd: int) -> None:
        self.table.file(fd, Rights.FD_DATASYNC).file.sync(self.scope, data=True)

    # -- the table -----------------------------------------------------------------------------

    def fd_close(self, fd: int) -> None:
        self.table.close(fd)

    def fd_renumber(self, source: int, target: int) -> None:
        self.table.renumber(source, target)

    def fd_prestat_get(self, fd: int, out: int) -> None:
        entry = self.table.get(fd)
        if not isinstance(entry, DirectoryDescriptor) or entry.name is None:
            raise Refused(Errno.BADF)
        self.memory.write(out, abi.PRESTAT.pack(0, len(entry.name)))

    def fd_prestat_dir_name(self, fd: int, out: int, length: int) -> None:
        entry = self.table.get(fd)
        if not isinstance(entry, DirectoryDescriptor) or entry.name is None:
            raise Refused(Errno.NOTDIR)
        if length < len(entry.name):
            raise Refused(Errno.NAMETOOLONG)
        self.memory.write(out, entry.name)

    # -- listing -------------------------------------------------------------------------------

    def fd_readdir(self, fd: int, buffer: int, length: int, cookie: int, out: int) -> None:
        entry = self.table.directory(fd, Rights.FD_READDIR)
        if cookie == 0 or not entry.listing:
            # One listing serves until the guest starts over, so that removing an entry does not shift the cookies of
            # the entries that follow.
            entry.listing = self._list(entry)
        room = min(length, max(0, self.memory.size() - buffer))
        parts: list[bytes] = []
        size = 0
        for number in range(cookie, len(entry.listing)):
            name, kind, ino = entry.listing[number]
            record = abi.DIRENT.pack(number + 1, ino, len(name), kind) + name
            parts.append(record)
            size += len(record)
            if size >= room:
                break
        data = b"".join(parts)[:length]
        self.memory.write(buffer, data)
        self.put_u32(out, len(data))

    def _list(self, entry: DirectoryDescriptor) -> list[tuple[bytes, int, int]]:
        from aegis.host.blocking import in_order

        numbers = self.grants.numbers
        own = numbers.of(entry.directory.status())
        entry.listing, entry.reservation = [], None  # freed first, so that both never count at once
        entry.reservation = self.grants.host_quota.reserve()
        # The real parent may be outside the grant: ``..`` has the number of the directory itself.
        listing = [(b".", abi.DIRECTORY, own), (b"..", abi.DIRECTORY, own)]
        # Sorted, so that each run is the same: inode numbers are assigned in the order of this listing.
        for name, status in in_order(self._records(entry), self.scope, itemgetter(0)):
            if not len(listing) % _ENTRIES_BETWEEN_CHECKS:
                self.scope.remaining()
            listing.append((name, abi.filetype(status.st_mode), numbers.of(status)))
        return listing

    def _records(self, entry: DirectoryDescriptor) -> Iterator[tuple[bytes, os.stat_result]]:
        reservation = entry.reservation
        for n, (name, status) in enumerate(entry.directory.entries()):
            if not n % _ENTRIES_BETWEEN_CHECKS:
                self.scope.remaining()
            if reservation is not None:
                reservation.add(_ENTRY_BYTES + len(name))
            with contextlib.suppress(UnicodeEncodeError):  # WASI cannot express a name that is not Unicode
                yield name.encode(), status
