"""Descriptors: reading, writing, seeking, status, listing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from operator import itemgetter

from aegis.host.blocking import in_order, synced
from aegis.host.files.utime import set_times
from aegis.host.preview1 import abi
from aegis.host.preview1.abi import Errno, Fdflags, Refused, Rights
from aegis.host.preview1.context import Context
from aegis.host.preview1.table import OpenDirectory, OpenFile, Stream
from aegis.host.preview1.times import new_times
from aegis.host.stdio import Input, Output

__all__ = ["Files"]

_SYNCS = Fdflags.DSYNC | Fdflags.RSYNC | Fdflags.SYNC
_LOOK_EVERY = 1024
_MAX_OFFSET = (1 << 63) - 1
_ENTRY = 200
"""Bytes of memory that an entry of a listing takes beside its name."""


class Files(Context):
    """The ``fd_*`` functions. Every method answers with what it returns, or raises the refusal."""

    # -- reading and writing -------------------------------------------------------------------

    def fd_read(self, fd: int, iovs: int, count: int, out: int) -> None:
        entry = self.table.get(fd)
        if isinstance(entry, OpenDirectory) or not entry.rights & Rights.FD_READ:
            raise Refused(Errno.NOTCAPABLE if not isinstance(entry, OpenDirectory) else Errno.BADF)
        pairs = self.vectors(iovs, count)
        room = self.room(pairs)
        if isinstance(entry, Stream):
            assert isinstance(entry.source, Input)
            data = entry.source.read(min(room, self.piece)) if room else b""
        else:
            data = self._read_at(entry.descriptor, room, entry.position)
        self.scatter(pairs, data)
        if isinstance(entry, OpenFile):
            entry.position += len(data)
        self.put_u32(out, len(data))

    def fd_pread(self, fd: int, iovs: int, count: int, offset: int, out: int) -> None:
        entry = self._data(fd, Rights.FD_READ)
        pairs = self.vectors(iovs, count)
        data = self._read_at(entry.descriptor, self.room(pairs), offset)
        self.scatter(pairs, data)
        self.put_u32(out, len(data))

    def _read_at(self, descriptor: int, count: int, offset: int) -> bytes:
        """Read up to ``count`` bytes at ``offset``, at most a piece, so that a call stays short."""
        if offset > _MAX_OFFSET:
            raise Refused(Errno.INVAL)
        return os.pread(descriptor, min(count, self.piece), offset)

    def _data(self, fd: int, right: int) -> OpenFile:
        """Return the file for a positioned access, which a stream cannot have."""
        entry = self.table.get(fd)
        if isinstance(entry, Stream):
            raise Refused(Errno.SPIPE if entry.rights & right else Errno.BADF)
        return self.table.file(fd, right)

    def fd_write(self, fd: int, iovs: int, count: int, out: int) -> None:
        entry = self.table.get(fd)
        if isinstance(entry, OpenDirectory) or not entry.rights & Rights.FD_WRITE:
            raise Refused(Errno.NOTCAPABLE if not isinstance(entry, OpenDirectory) else Errno.BADF)
        if isinstance(entry, Stream):
            assert isinstance(entry.source, Output)
            written = 0
            for data in self.gather(iovs, count, entry.source.enough())[1]:
                written += entry.source.write(data)
        else:
            size, pieces = self.gather(iovs, count)
            if entry.flags & Fdflags.APPEND:
                entry.position = os.fstat(entry.descriptor).st_size
            written = self._write_at(entry.descriptor, size, pieces, entry.position)
            entry.position += written
        self.put_u32(out, written)

    def fd_pwrite(self, fd: int, iovs: int, count: int, offset: int, out: int) -> None:
        entry = self._data(fd, Rights.FD_WRITE)
        size, pieces = self.gather(iovs, count)
        self.put_u32(out, self._write_at(entry.descriptor, size, pieces, offset))

    def _write_at(self, descriptor: int, size: int, pieces: Iterable[bytes], offset: int) -> int:
        """Write the ``size`` bytes of ``pieces``; they count as written to disk before the first is."""
        if offset > _MAX_OFFSET:
            raise Refused(Errno.INVAL)
        self.grants.disk.charge(size)
        end = offset
        for data in pieces:
            done = 0
            while done < len(data):
                self.scope.remaining()
                done += os.pwrite(descriptor, data[done:] if done else data, end + done)
            end += done
        return end - offset

    def fd_seek(self, fd: int, offset: int, whence: int, out: int) -> None:
        if isinstance(self.table.get(fd), Stream):
            raise Refused(Errno.SPIPE)
        entry = self.table.file(fd, 0)
        needed = Rights.FD_TELL if whence == 1 and offset == 0 else Rights.FD_SEEK
        if not entry.rights & (needed | Rights.FD_SEEK):
            raise Refused(Errno.NOTCAPABLE)
        if whence > 2:
            raise Refused(Errno.INVAL)
        base = (0, entry.position, 0)[whence] if whence < 2 else os.fstat(entry.descriptor).st_size
        if not 0 <= base + offset <= _MAX_OFFSET:
            raise Refused(Errno.INVAL)
        entry.position = base + offset
        self.put_u64(out, entry.position)

    def fd_tell(self, fd: int, out: int) -> None:
        if isinstance(self.table.get(fd), Stream):
            raise Refused(Errno.SPIPE)
        entry = self.table.file(fd, 0)
        if not entry.rights & (Rights.FD_TELL | Rights.FD_SEEK):
            raise Refused(Errno.NOTCAPABLE)
        self.put_u64(out, entry.position)

    # -- status --------------------------------------------------------------------------------

    def fd_fdstat_get(self, fd: int, out: int) -> None:
        entry = self.table.get(fd)
        kind = self._type(entry)
        flags = entry.flags if isinstance(entry, OpenFile) else 0
        self.memory.write(out, abi.FDSTAT.pack(kind, flags, entry.rights, entry.inheriting))

    @staticmethod
    def _type(entry: Stream | OpenFile | OpenDirectory) -> int:
        if isinstance(entry, Stream):
            return abi.CHARACTER if entry.source.is_terminal() else abi.UNKNOWN
        return abi.DIRECTORY if isinstance(entry, OpenDirectory) else abi.REGULAR

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
        if isinstance(entry, Stream):
            self.memory.write(out, abi.FILESTAT.pack(0, 0, self._type(entry), 0, 0, 0, 0, 0))
            return
        status = os.fstat(entry.descriptor) if isinstance(entry, OpenFile) else entry.directory.status()
        self.memory.write(out, self.filestat(status))

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        entry = self._writable(fd, Rights.FD_FILESTAT_SET_SIZE)
        if size > _MAX_OFFSET:
            raise Refused(Errno.INVAL)
        self.grants.disk.charge(max(0, size - os.fstat(entry.descriptor).st_size))
        os.ftruncate(entry.descriptor, size)

    def _writable(self, fd: int, right: int) -> OpenFile:
        """A size is changed only through a descriptor that was opened for writing."""
        entry = self.table.file(fd, right)
        if not entry.rights & Rights.FD_WRITE:
            raise Refused(Errno.INVAL)
        return entry

    def fd_filestat_set_times(self, fd: int, atim: int, mtim: int, flags: int) -> None:
        times = new_times(atim, mtim, flags, self.grants.clocks)
        entry = self.table.get(fd)
        if isinstance(entry, Stream):
            raise Refused(Errno.BADF)
        if not entry.rights & Rights.FD_FILESTAT_SET_TIMES:
            raise Refused(Errno.NOTCAPABLE)
        if isinstance(entry, OpenDirectory):
            if not entry.directory.writable:
                raise Refused(Errno.PERM)
            descriptor = entry.directory.descriptor
        else:
            if not entry.writable:
                raise Refused(Errno.PERM)
            descriptor = entry.descriptor
        set_times(descriptor, times(os.fstat(descriptor)))
        self.grants.times.were_set(os.fstat(descriptor), times)

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        entry = self._writable(fd, Rights.FD_ALLOCATE)
        end = offset + length
        if not length:
            raise Refused(Errno.INVAL)
        if end > _MAX_OFFSET:
            raise Refused(Errno.FBIG)
        growth = end - os.fstat(entry.descriptor).st_size
        if growth <= 0:
            return
        self.grants.disk.charge(growth)
        os.ftruncate(entry.descriptor, end)

    def fd_advise(self, fd: int, offset: int, length: int, advice: int) -> None:
        entry = self.table.file(fd, Rights.FD_ADVISE)
        if advice > 5 or offset > _MAX_OFFSET or length > _MAX_OFFSET:
            raise Refused(Errno.INVAL)
        if hasattr(os, "posix_fadvise"):
            names = ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
            os.posix_fadvise(entry.descriptor, offset, length, getattr(os, f"POSIX_FADV_{names[advice]}"))

    def fd_sync(self, fd: int) -> None:
        synced(self.table.file(fd, Rights.FD_SYNC).descriptor, self.scope)

    def fd_datasync(self, fd: int) -> None:
        synced(self.table.file(fd, Rights.FD_DATASYNC).descriptor, self.scope, data=True)

    # -- the table -----------------------------------------------------------------------------

    def fd_close(self, fd: int) -> None:
        self.table.close(fd)

    def fd_renumber(self, source: int, target: int) -> None:
        self.table.renumber(source, target)

    def fd_prestat_get(self, fd: int, out: int) -> None:
        entry = self.table.get(fd)
        if not isinstance(entry, OpenDirectory) or entry.name is None:
            raise Refused(Errno.BADF)
        self.memory.write(out, abi.PRESTAT.pack(0, len(entry.name)))

    def fd_prestat_dir_name(self, fd: int, out: int, length: int) -> None:
        entry = self.table.get(fd)
        if not isinstance(entry, OpenDirectory) or entry.name is None:
            raise Refused(Errno.NOTDIR)
        if length < len(entry.name):
            raise Refused(Errno.NAMETOOLONG)
        self.memory.write(out, entry.name)

    # -- listing -------------------------------------------------------------------------------

    def fd_readdir(self, fd: int, buffer: int, length: int, cookie: int, out: int) -> None:
        entry = self.table.directory(fd, Rights.FD_READDIR)
        if cookie == 0 or not entry.listing:
            # One listing serves until the guest starts over, so that removing what was listed
            # does not shift what is still to come.
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

    def _list(self, entry: OpenDirectory) -> list[tuple[bytes, int, int]]:
        numbers = self.grants.numbers
        own = numbers.of(entry.directory.status())
        entry.listing, entry.holding = [], None
        entry.holding = self.grants.holdings.hold()
        # What lies above a directory is none of the guest's business.
        listing = [(b".", abi.DIRECTORY, own), (b"..", abi.DIRECTORY, own)]
        # In order, so that a run repeats: inode numbers are given in the order of this listing.
        for name, status in in_order(self._records(entry), self.scope, itemgetter(0)):
            if not len(listing) % _LOOK_EVERY:
                self.scope.remaining()
            listing.append((name, abi.filetype(status.st_mode), numbers.of(status)))
        return listing

    def _records(self, entry: OpenDirectory) -> Iterator[tuple[bytes, os.stat_result]]:
        holding = entry.holding
        for n, (name, status) in enumerate(entry.directory.entries()):
            if not n % _LOOK_EVERY:
                self.scope.remaining()
            if holding is not None:
                holding.add(_ENTRY + len(name))
            with contextlib.suppress(UnicodeEncodeError):  # a name that is not Unicode cannot be named in WASI
                yield name.encode(), status
