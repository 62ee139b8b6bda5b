"""Directories and regular files of the host, as handles: the implementation of the seam that works on real files.

A :class:`HostDirectory` is authority: an open descriptor, and whether the grant allows changes beneath it. Every
method takes a path beneath the directory and raises ``OSError`` with the error number that POSIX gives, and
``GrantRefused`` for operations that the grant does not allow. No method follows a link out of the directory, opens a
FIFO or a device, or blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import cache

from aegis.host.files.audit import GrantRefused
from aegis.host.files.beneath import ResolvedPath, locate
from aegis.host.files.symlink_moves import climbs, refuse_moving, refuse_second_name
from aegis.host.files.utime import set_times
from aegis.policy.filesystem import LINK, NEW_LINK, READ_ONLY
from aegis.support.descriptors import above_standard
from aegis.support.lean import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aegis.host.blocking import DiskSync
    from aegis.host.files.base import DirectoryHandle, TimesOf
    from aegis.values import CallScope

__all__ = ["STATE_TREES", "HostDirectory", "HostFile", "OpenDescriptors", "is_state"]

_SAFE_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC if hasattr(os, "O_NOFOLLOW") else 0
STATE_TREES = ("/proc", "/sys", "/dev")
"""The trees in which a system shows its own state as files. No grant may reach them."""
_STATE_MOUNTS = (*STATE_TREES, "/sys/fs/cgroup", "/sys/kernel/debug", "/sys/kernel/tracing", "/dev/pts")
_NEW_FILE_MODE, _NEW_DIRECTORY_MODE = 0o666, 0o777


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class OpenDescriptors:
    """The descriptors that were opened for one sandbox's files. Those still open are closed with the sandbox.

    A guest's handle may be lost before the guest learns its number, for example when the table of handles is full. So
    a descriptor is registered here from the moment it is open, and closed through here, at most once.
    """

    __slots__ = ("_descriptors",)

    def __init__(self) -> None:
        self._descriptors: set[int] = set()

    def keep(self, descriptor: int) -> int:
        """Register an open descriptor, moved above the standard streams, and return it."""
        descriptor = above_standard(descriptor)
        self._descriptors.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a registered descriptor; do nothing for any other, such as one that is closed already."""
        if descriptor in self._descriptors:
            self._descriptors.remove(descriptor)
            os.close(descriptor)

    def close_all(self) -> None:
        """Close every descriptor that is still open."""
        while self._descriptors:
            os.close(self._descriptors.pop())


@cache
def _state_devices() -> frozenset[int]:
    """Return the devices of the state trees that are mounts, which their files have wherever those are mounted."""
    found = set()
    for tree in _STATE_MOUNTS:
        with contextlib.suppress(OSError):
            found.add(os.stat(tree).st_dev)
    return frozenset(found - {os.stat("/").st_dev})


def is_state(status: os.stat_result) -> bool:
    """Return whether ``status`` is of a file in ``/proc``, ``/sys`` or ``/dev``, by whichever path it was reached."""
    return status.st_dev in _state_devices()


class HostFile:
    """An open regular file of the host. ``opened`` owns its descriptor."""

    __slots__ = ("_opened", "descriptor", "writable")

    is_directory: Literal[False] = False
    on_disk = True

    def __init__(self, descriptor: int, writable: bool, opened: OpenDescriptors) -> None:
        self.descriptor, self.writable, self._opened = descriptor, writable, opened

    def status(self) -> os.stat_result:
        """Return the file's status."""
        return os.fstat(self.descriptor)

    def read(self, count: int, offset: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``."""
        return os.pread(self.descriptor, count, offset)

    def write(self, data: bytes, offset: int) -> int:
        """Write ``data`` at ``offset``; return how many bytes were written."""
        return os.pwrite(self.descriptor, data, offset)

    def truncate(self, size: int) -> None:
        """Set the size."""
        os.ftruncate(self.descriptor, size)

    def advise(self, offset: int, length: int, advice: str) -> None:
        """Announce a pattern of access, where the system has a call for it."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, offset, length, getattr(os, f"POSIX_FADV_{advice}"))

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Wait until written bytes are on the disk, no longer than the deadline."""
        self.begin_sync(scope, data=data).wait()

    def begin_sync(self, scope: CallScope, *, data: bool) -> DiskSync:
        """Begin to write bytes to the disk; return the wait for it."""
        from aegis.host.blocking import DiskSync  # few guests call it, and it loads threading

        return DiskSync(self.descriptor, scope, data=data)

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times; return the status afterwards."""
        if not self.writable:
            raise GrantRefused(READ_ONLY)
        set_times(self.descriptor, times(os.fstat(self.descriptor)))
        return os.fstat(self.descriptor)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        descriptor, self.descriptor = self.descriptor, -1  # the number may soon be that of another file
        self._opened.close(descriptor)


class HostDirectory:
    """An open directory of the host, with everything beneath it. ``opened`` owns the descriptors opened through it."""

    __slots__ = ("descriptor", "opened", "writable")

    is_directory: Literal[True] = True

    def __init__(self, descriptor: int, *, writable: bool, opened: OpenDescriptors) -> None:
        self.descriptor, self.writable, self.opened = descriptor, writable, opened

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        self.opened.close(descriptor)

    def check_writable(self, path: str, *, follow: bool = False) -> None:
        """Raise ``GrantRefused`` if the grant does not allow changing the file at ``path``."""
        if self.writable:
            return
        try:
            locate(self.descriptor, path, follow=follow).close()
        except GrantRefused:
            raise  # a writable grant would not allow it either
        except OSError:
            pass
        raise GrantRefused(READ_ONLY)

    def _target(self, path: str, other: DirectoryHandle, new_path: str) -> HostDirectory:
        """Return the directory that a link or rename goes to, if both grants allow changes."""
        self.check_writable(path)
        other.check_writable(new_path)
        if not isinstance(other, HostDirectory):
            raise _error(errno.EXDEV)
        return other

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times of the directory itself; return its status afterwards."""
        if not self.writable:
            raise GrantRefused(READ_ONLY)
        set_times(self.descriptor, times(os.fstat(self.descriptor)))
        return os.fstat(self.descriptor)

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Wait until the directory's entries are on the disk, no longer than the deadline."""
        self.begin_sync(scope, data=data).wait()

    def begin_sync(self, scope: CallScope, *, data: bool) -> DiskSync:
        """Begin to write the directory's entries to the disk; return the wait for it."""
        from aegis.host.blocking import DiskSync

        return DiskSync(self.descriptor, scope, data=data)

    # -- looking -------------------------------------------------------------------------------

    def status(self) -> os.stat_result:
        """Return the status of the directory itself."""
        return os.fstat(self.descriptor)

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of the file at ``path``."""
        with locate(self.descriptor, path, follow=follow) as place:
            status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
            if place.slash and not stat.S_ISDIR(status.st_mode):
                raise _error(errno.ENOTDIR)
            return status

    def readlink(self, path: str) -> str:
        """Return the target of a link; refuse an absolute one, which would disclose a path of the host."""
        with locate(self.descriptor, path, follow=False) as place:
            if place.slash or place.name == ".":
                status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
                raise _error(errno.EINVAL if stat.S_ISDIR(status.st_mode) else errno.ENOTDIR)
            target = os.readlink(place.name, dir_fd=place.parent)
        if target.startswith("/"):
            raise GrantRefused(LINK)
        return target

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the name and status of each entry, without ``.`` and ``..``.

        Entries that are removed meanwhile are left out.
        """
        # Opened anew: a duplicate would share its position with other listings of this directory.
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            with os.scandir(listed) as found:
                for entry in found:
                    with contextlib.suppress(OSError):
                        yield entry.name, entry.stat(follow_symlinks=False)
        finally:
            os.close(listed)

    # -- opening -------------------------------------------------------------------------------

    def open(
        self, path: str, *, follow: bool, read: bool, write: bool, directory: bool = False,
        create: bool = False, exclusive: bool = False, truncate: bool = False, sync: int = 0,
    ) -> HostFile | HostDirectory:  # fmt: skip
        """Open a file or a directory.

        A FIFO, a socket or a device is refused with ``EACCES`` before it is opened, for opening one may block or act.
        The type is checked again on the descriptor, since another process may have replaced the file in between.
        """
        follow = follow and not (create and exclusive)
        if write or create or truncate:
            self.check_writable(path, follow=follow)
        located = locate_entry(self, path, follow=follow) if create else locate(self.descriptor, path, follow=follow)
        with located as place:
            if create and place.slash:
                raise _error(errno.EEXIST if exclusive and place.name == "." else errno.EISDIR)
            status = _status(place)
            if status is None:
                if not create:
                    raise _error(errno.ENOENT)
                return self._create(place, read=read, write=write, exclusive=exclusive, sync=sync)
            if create and exclusive:
                raise _error(errno.EEXIST)
            if stat.S_ISDIR(status.st_mode) and not is_state(status):
                if write or (create and not directory) or truncate:
                    raise _error(errno.EISDIR)
                return self._subdirectory(place)
            if stat.S_ISLNK(status.st_mode):
                raise _error(errno.ELOOP)
            if (directory or place.slash) and not stat.S_ISDIR(status.st_mode):
                raise _error(errno.ENOTDIR)
            if not stat.S_ISREG(status.st_mode):
                raise _error(errno.EACCES)
            return self._file(_open_file(place, read=read, write=write, truncate=truncate, sync=sync))

    def _create(self, place: ResolvedPath, *, read: bool, write: bool, exclusive: bool, sync: int) -> HostFile:
        flags = _SAFE_OPEN | os.O_CREAT | sync | (os.O_EXCL if exclusive else 0)
        flags |= os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY
        return self._file(_checked(os.open(place.name, flags, _NEW_FILE_MODE, dir_fd=place.parent)))

    def _file(self, descriptor: int) -> HostFile:
        return HostFile(self.opened.keep(descriptor), self.writable, self.opened)

    def _subdirectory(self, place: ResolvedPath) -> HostDirectory:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place.name, flags, dir_fd=place.parent)
        return HostDirectory(self.opened.keep(descriptor), writable=self.writable, opened=self.opened)

    # -- changing ------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        """Create a directory."""
        self.check_writable(path)
        with locate_entry(self, path) as place:
            os.mkdir(_name(place, errno.EEXIST), _NEW_DIRECTORY_MODE, dir_fd=place.parent)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.check_writable(path)
        with locate_entry(self, path) as place:
            os.rmdir(_name(place, errno.EINVAL), dir_fd=place.parent)

    def unlink(self, path: str) -> None:
        """Remove a file or a symbolic link."""
        self.check_writable(path)
        with locate(self.descriptor, _inside(path), follow=False) as place:
            os.unlink(_name(place, errno.EISDIR), dir_fd=place.parent)

    def symlink(self, target: str, path: str) -> None:
        """Create a symbolic link; refuse a target that is absolute or contains ``..``.

        Such a link would lead elsewhere once it, or a directory above it, was moved. Without them, each link that a
        guest creates and moves leads to its own directory or further down.
        """
        self.check_writable(path)
        if "\0" in target:
            raise _error(errno.EINVAL)
        if target.startswith("/"):
            raise GrantRefused(NEW_LINK)
        with locate(self.descriptor, _inside(path), follow=False) as place:
            if climbs(target):
                raise GrantRefused(NEW_LINK) if _status(place) is None else _error(errno.EEXIST)
            os.symlink(target, place.name, dir_fd=place.parent)

    def link(self, path: str, other: DirectoryHandle, new_path: str) -> None:
        """Create a hard link to the file at ``path`` as ``new_path`` in ``other``; links are not followed.

        A symbolic link that leads out of its directory gets no second name, as in :meth:`rename`.
        """
        target = self._target(path, other, new_path)
        with (
            locate(self.descriptor, _inside(path), follow=False) as old,
            locate(target.descriptor, _inside(new_path), follow=False) as new,
        ):
            refuse_second_name(old)
            os.link(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent, follow_symlinks=False)

    def rename(
        self, path: str, other: DirectoryHandle, new_path: str, *, check: Callable[[], object] = lambda: None
    ) -> None:
        """Move the entry at ``path`` to ``new_path`` in ``other``.

        A symbolic link that the embedder left may lead out of its directory: its target is absolute, or climbs by
        ``..``. Moved, it would lead a program of the host that follows it to another file, under a name that the guest
        chose. Such a link cannot be moved, nor can a directory to another parent that contains one, unless
        the link leads no further than that directory. The search takes time in proportion to the tree; ``check`` is
        called now and then meanwhile, to check the deadline. Renaming a directory within its parent changes the
        meaning of no link in it, so nothing is searched.
        """
        target = self._target(path, other, new_path)
        with locate_entry(self, path) as old, locate_entry(target, new_path) as new:
            if old.name == "." or new.name == ".":
                raise _error(errno.EBUSY)
            if old.slash or new.slash:
                status = os.stat(old.name, dir_fd=old.parent, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    raise _error(errno.ENOTDIR)
            refuse_moving(old, new, check)
            os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)

    def utime(self, path: str, times: TimesOf, *, follow: bool) -> os.stat_result:
        """Set access and modification times to those that ``times`` computes; return the status afterwards."""
        self.check_writable(path, follow=follow)
        with locate(self.descriptor, path, follow=follow) as place:
            status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
            if place.slash and not stat.S_ISDIR(status.st_mode):
                raise _error(errno.ENOTDIR)
            set_times(place.parent, times(status), place.name)
            return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)


def locate_entry(directory: HostDirectory, path: str, *, follow: bool = False) -> ResolvedPath:
    """Find the directory entry at ``path``; a link is not followed, even if the path ends with a slash."""
    stripped = path.rstrip("/")
    if not stripped or stripped == path:
        return locate(directory.descriptor, path, follow=follow)
    place = locate(directory.descriptor, stripped, follow=False)
    place.slash = True
    return place


def _inside(path: str) -> str:
    """Return ``path`` such that a trailing slash means the directory there, through a link too."""
    return f"{path}." if path.endswith("/") else path


def _name(place: ResolvedPath, number: int) -> str:
    """Return the entry's name; raise ``number`` if the path names the directory itself."""
    if place.name == ".":
        raise _error(number)
    return place.name


def _status(place: ResolvedPath) -> os.stat_result | None:
    try:
        return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _open_file(place: ResolvedPath, *, read: bool, write: bool, truncate: bool, sync: int) -> int:
    write = write or truncate
    access = os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY
    descriptor = _checked(os.open(place.name, _SAFE_OPEN | access | sync, dir_fd=place.parent))
    if truncate:
        try:
            os.ftruncate(descriptor, 0)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def _checked(descriptor: int) -> int:
    """Return a descriptor of a regular file outside the state trees; close any other and raise ``EACCES``."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or is_state(status):
        os.close(descriptor)
        raise _error(errno.EACCES)
    return above_standard(descriptor)
