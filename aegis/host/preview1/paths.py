"""The ``path_*`` functions. Each path is beneath a directory of which the guest has a descriptor."""

from __future__ import annotations

import os
from collections.abc import Callable

from aegis.host.files.audit import joined, narrower, recorded
from aegis.host.preview1 import abi
from aegis.host.preview1.abi import Errno, Fdflags, Refused, Rights
from aegis.host.preview1.context import Preview1Context
from aegis.host.preview1.table import DirectoryDescriptor, FileDescriptor
from aegis.host.preview1.times import new_times
from aegis.support.lean import TypeVar

__all__ = ["Paths"]

_Result = TypeVar("_Result")
_WRITES = Rights.FD_WRITE


class Paths(Preview1Context):
    """The ``path_*`` functions."""

    def path_open(
        self, fd: int, lookup: int, path_at: int, path_length: int, oflags: int, base: int, inheriting: int,
        fdflags: int, out: int,
    ) -> None:  # fmt: skip
        path = self.path(path_at, path_length)
        if isinstance(self.table.get(fd), FileDescriptor):
            raise Refused(Errno.NOTDIR)
        entry = self.table.directory(fd, Rights.PATH_OPEN)
        if oflags > 15 or fdflags > 31 or lookup > 1 or (oflags & abi.O_DIRECTORY and oflags != abi.O_DIRECTORY):
            raise Refused(Errno.INVAL)
        needed = Rights.PATH_CREATE_FILE if oflags & abi.O_CREAT else 0
        needed |= Rights.PATH_FILESTAT_SET_SIZE if oflags & abi.O_TRUNC else 0
        if entry.rights & needed != needed:
            raise Refused(Errno.NOTCAPABLE)
        self.table.room()
        base &= entry.inheriting
        write = bool(base & _WRITES)
        changing = write or bool(oflags & (abi.O_CREAT | abi.O_TRUNC))
        opened = self._recorded(
            "write" if changing else "open", entry, path,
            lambda: entry.directory.open(
                path, follow=bool(lookup & abi.SYMLINK_FOLLOW),
                read=bool(base & Rights.FD_READ) or not write, write=write,
                directory=bool(oflags & abi.O_DIRECTORY), create=bool(oflags & abi.O_CREAT),
                exclusive=bool(oflags & abi.O_EXCL), truncate=bool(oflags & abi.O_TRUNC), sync=_sync(fdflags),
            ),
        )  # fmt: skip
        inheriting &= entry.inheriting
        label = joined(entry.label, path)
        added: DirectoryDescriptor | FileDescriptor
        if opened.is_directory:
            added = DirectoryDescriptor(opened, base & abi.DIRECTORY_RIGHTS, inheriting, label)
        else:
            added = FileDescriptor(opened, base & abi.FILE_RIGHTS, fdflags, 0, inheriting, label)
        self._hand_out(added, out)

    def _hand_out(self, added: DirectoryDescriptor | FileDescriptor, out: int) -> None:
        """Write the new number to the guest's memory; close the descriptor again if that is impossible."""
        number = self.table.add(added)
        try:
            self.put_u32(out, number)
        except BaseException:
            self.table.close(number)
            raise

    def path_filestat_get(self, fd: int, lookup: int, path_at: int, length: int, out: int) -> None:
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_FILESTAT_GET)
        follow = _follow(lookup)
        status = self._recorded("look at", entry, path, lambda: entry.directory.stat(path, follow=follow))
        self.memory.write(out, self.filestat(status))

    def path_filestat_set_times(
        self, fd: int, lookup: int, path_at: int, length: int, atim: int, mtim: int, flags: int
    ) -> None:
        times = new_times(atim, mtim, flags, self.grants.clocks)
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_FILESTAT_SET_TIMES)
        follow = _follow(lookup)
        after = self._recorded("write", entry, path, lambda: entry.directory.utime(path, times, follow=follow))
        self.grants.times.were_set(after, times)

    def path_create_directory(self, fd: int, path_at: int, length: int) -> None:
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_CREATE_DIRECTORY)
        self._recorded("write", entry, path, lambda: entry.directory.mkdir(path))

    def path_remove_directory(self, fd: int, path_at: int, length: int) -> None:
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_REMOVE_DIRECTORY)
        self._recorded("write", entry, path, lambda: entry.directory.rmdir(path))

    def path_unlink_file(self, fd: int, path_at: int, length: int) -> None:
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_UNLINK_FILE)
        self._recorded("write", entry, path, lambda: entry.directory.unlink(path))

    def path_symlink(self, target_at: int, target_length: int, fd: int, path_at: int, length: int) -> None:
        target = self.path(target_at, target_length)
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_SYMLINK)
        self._recorded("write", entry, path, lambda: entry.directory.symlink(target, path))

    def path_readlink(self, fd: int, path_at: int, length: int, buffer: int, room: int, out: int) -> None:
        path = self.path(path_at, length)
        entry = self.table.directory(fd, Rights.PATH_READLINK)
        target = self._recorded("look at", entry, path, lambda: entry.directory.readlink(path))
        try:
            raw = target.encode()[:room]
        except UnicodeEncodeError:
            raise Refused(Errno.ILSEQ) from None
        self.memory.write(buffer, raw)
        self.put_u32(out, len(raw))

    def path_link(
        self, fd: int, lookup: int, path_at: int, length: int, new_fd: int, new_at: int, new_length: int
    ) -> None:
        old, new = self.path(path_at, length), self.path(new_at, new_length)
        source = self.table.directory(fd, Rights.PATH_LINK_SOURCE)
        target = self.table.directory(new_fd, Rights.PATH_LINK_TARGET)
        if lookup:
            raise Refused(Errno.INVAL)
        self._recorded(
            "write", *narrower(source, old, target, new), lambda: source.directory.link(old, target.directory, new)
        )

    def path_rename(self, fd: int, path_at: int, length: int, new_fd: int, new_at: int, new_length: int) -> None:
        old, new = self.path(path_at, length), self.path(new_at, new_length)
        source = self.table.directory(fd, Rights.PATH_RENAME_SOURCE)
        target = self.table.directory(new_fd, Rights.PATH_RENAME_TARGET)
        self._recorded(
            "write", *narrower(source, old, target, new),
            lambda: source.directory.rename(old, target.directory, new, check=self.scope.remaining),
        )  # fmt: skip

    def _recorded(self, action: str, entry: DirectoryDescriptor, path: str, function: Callable[[], _Result]) -> _Result:
        """Call ``function`` and record whether the grant allowed it."""
        return recorded(self.scope, action, entry, path, function)


def _follow(lookup: int) -> bool:
    if lookup > 1:
        raise Refused(Errno.INVAL)
    return bool(lookup & abi.SYMLINK_FOLLOW)


def _sync(fdflags: int) -> int:
    """Return the flags of open(2) for the synchronisation in ``fdflags``."""
    flags = 0
    if fdflags & Fdflags.SYNC or fdflags & Fdflags.RSYNC:
        flags |= getattr(os, "O_SYNC", 0)
    if fdflags & Fdflags.DSYNC:
        flags |= getattr(os, "O_DSYNC", getattr(os, "O_SYNC", 0))
    return flags
