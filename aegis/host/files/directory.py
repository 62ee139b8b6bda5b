"""Files and directories that were granted: live handles, and what may be done with them.

A :class:`Directory` is authority: an open descriptor and whether it may be changed. Every method takes a
path beneath it and raises ``OSError`` with the number that POSIX gives; ``EPERM`` also for what the grant
does not cover. Nothing here follows a link out, opens a FIFO or a device, or waits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import cache

from aegis.errors import QuotaExceeded
from aegis.host.files.beneath import Place, locate
from aegis.host.files.symlink_moves import climbs, refuse_moving, refuse_second_name
from aegis.host.files.utime import set_times
from aegis.limits import exceeded
from aegis.support.descriptors import above_standard

__all__ = ["STATE_TREES", "Directory", "DiskQuota", "Opened", "is_state"]

_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC if hasattr(os, "O_NOFOLLOW") else 0
STATE_TREES = ("/proc", "/sys", "/dev")
"""Where a system shows its own state as files; nobody is granted anything there."""
_STATE_MOUNTS = (*STATE_TREES, "/sys/fs/cgroup", "/sys/kernel/debug", "/sys/kernel/tracing", "/dev/pts")
_NEW_FILE, _NEW_DIRECTORY = 0o666, 0o777


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class DiskQuota:
    """What one sandbox may still write, over all its files."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.used = 0

    def charge(self, count: int) -> None:
        """Count bytes about to be written; raise ``QuotaExceeded`` before they are."""
        used = self.used + count
        if self.allowed is not None and used > self.allowed:
            raise QuotaExceeded(
                exceeded("disk_written", used, self.allowed), limit="disk_written", used=used, allowed=self.allowed
            )
        self.used = used


class Opened:
    """The descriptors that were opened for one sandbox's files. Those still open are closed with the sandbox.

    A guest's handle may be lost before anything names it, at a full table of handles for example. So a descriptor is
    kept here from the moment it is open, and closed through here, at most once.
    """

    __slots__ = ("_descriptors",)

    def __init__(self) -> None:
        self._descriptors: set[int] = set()

    def keep(self, descriptor: int) -> int:
        """Add an open descriptor, moved above the standard streams, and return it."""
        descriptor = above_standard(descriptor)
        self._descriptors.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a descriptor that is kept here; do nothing for any other, such as one that was closed already."""
        if descriptor in self._descriptors:
            self._descriptors.remove(descriptor)
            os.close(descriptor)

    def close_all(self) -> None:
        """Close everything that is still open."""
        while self._descriptors:
            os.close(self._descriptors.pop())


@cache
def _state_devices() -> frozenset[int]:
    """The devices of those trees where they are mounts: they are known wherever else they are mounted too."""
    found = set()
    for tree in _STATE_MOUNTS:
        with contextlib.suppress(OSError):
            found.add(os.stat(tree).st_dev)
    return frozenset(found - {os.stat("/").st_dev})


def is_state(status: os.stat_result) -> bool:
    """Tell whether ``status`` is of something in ``/proc``, ``/sys`` or ``/dev``, by whatever path."""
    return status.st_dev in _state_devices()


class Directory:
    """An open directory of the host, with everything beneath it. ``opened`` keeps what is opened through it."""

    __slots__ = ("descriptor", "opened", "writable")

    def __init__(self, descriptor: int, *, writable: bool, opened: Opened) -> None:
        self.descriptor, self.writable, self.opened = descriptor, writable, opened

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        self.opened.close(descriptor)

    def _changing(self) -> None:
        if not self.writable:
            raise _error(errno.EPERM)

    def may_write(self, path: str) -> bool:
        """Tell whether the file at ``path`` may be written by this grant."""
        return self.writable

    # -- looking -------------------------------------------------------------------------------

    def status(self) -> os.stat_result:
        """Return the status of the directory itself."""
        return os.fstat(self.descriptor)

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of what ``path`` names."""
        with locate(self.descriptor, path, follow=follow) as place:
            status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
            if place.slash and not stat.S_ISDIR(status.st_mode):
                raise _error(errno.ENOTDIR)
            return status

    def readlink(self, path: str) -> str:
        """Return what a link says. An absolute one stays the host's secret: ``EPERM``."""
        with locate(self.descriptor, path, follow=False) as place:
            if place.slash or place.name == ".":
                status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
                raise _error(errno.EINVAL if stat.S_ISDIR(status.st_mode) else errno.ENOTDIR)
            target = os.readlink(place.name, dir_fd=place.parent)
        if target.startswith("/"):
            raise _error(errno.EPERM)
        return target

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the name and status of everything in this directory, without ``.`` and ``..``.

        What goes away meanwhile is left out.
        """
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            with os.scandir(listed) as found:
                for entry in found:
                    with contextlib.suppress(OSError):
                        yield entry.name, entry.stat(follow_symlinks=False)
        finally:
            os.close(listed)

    def shows(self, name: str, status: os.stat_result) -> bool:
        """Tell whether ``name`` here is the file that ``status`` is of."""
        try:
            return os.path.samestat(os.stat(name, dir_fd=self.descriptor, follow_symlinks=False), status)
        except OSError:
            return False

    # -- opening -------------------------------------------------------------------------------

    def open(
        self, path: str, *, follow: bool, read: bool, write: bool, directory: bool = False,
        create: bool = False, exclusive: bool = False, truncate: bool = False, sync: int = 0,
    ) -> int | Directory:  # fmt: skip
        """Open a file, as a descriptor, or a directory.

        A FIFO, a socket or a device is refused with ``EACCES`` before it is opened, and looked at
        again after, so that nothing put there meanwhile is used.
        """
        if (write or create or truncate) and not self.may_write(path):
            raise _error(errno.EPERM)
        follow = follow and not (create and exclusive)
        located = locate_entry(self, path, follow=follow) if create else locate(self.descriptor, path, follow=follow)
        with located as place:
            if create and place.slash:
                raise _error(errno.EEXIST if exclusive and place.name == "." else errno.EISDIR)
            status = _status(place)
            if status is None:
                return self._create(
                    place, read=read, write=write, create=create, directory=directory, exclusive=exclusive, sync=sync
                )
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
            return self.opened.keep(_open_file(place, read=read, write=write, truncate=truncate, sync=sync))

    def _create(
        self, place: Place, *, read: bool, write: bool, create: bool, directory: bool, exclusive: bool, sync: int
    ) -> int:
        if not create:
            raise _error(errno.ENOENT)
        self._changing()
        flags = _PLAIN | os.O_CREAT | sync | (os.O_EXCL if exclusive else 0)
        flags |= os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY
        return self.opened.keep(_checked(os.open(place.name, flags, _NEW_FILE, dir_fd=place.parent)))

    def _subdirectory(self, place: Place) -> Directory:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place.name, flags, dir_fd=place.parent)
        return Directory(self.opened.keep(descriptor), writable=self.writable, opened=self.opened)

    # -- changing ------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self._changing()
        with locate_entry(self, path) as place:
            os.mkdir(_name(place, errno.EEXIST), _NEW_DIRECTORY, dir_fd=place.parent)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._changing()
        with locate_entry(self, path) as place:
            os.rmdir(_name(place, errno.EINVAL), dir_fd=place.parent)

    def unlink(self, path: str) -> None:
        """Remove a file or a link."""
        self._changing()
        with locate(self.descriptor, _inside(path), follow=False) as place:
            os.unlink(_name(place, errno.EISDIR), dir_fd=place.parent)

    def symlink(self, target: str, path: str) -> None:
        """Make a link that says ``target``, which is refused (``EPERM``) if it is absolute or has a ``..``.

        Such a link would mean another place after it, or a directory above it, was moved. Without it, whatever a
        guest makes and moves leads to something beside it or further down.
        """
        self._changing()
        if target.startswith("/"):
            raise _error(errno.EPERM)
        with locate(self.descriptor, _inside(path), follow=False) as place:
            if climbs(target):
                raise _error(errno.EPERM if _status(place) is None else errno.EEXIST)
            os.symlink(target, place.name, dir_fd=place.parent)

    def link(self, path: str, other: Directory, new_path: str) -> None:
        """Make a hard link to the file at ``path`` as ``new_path`` in ``other``; links are not followed.

        A symbolic link that leads away from where it stands gets no second name (``EPERM``), as in :meth:`rename`.
        """
        self._changing()
        other._changing()
        with (
            locate(self.descriptor, _inside(path), follow=False) as old,
            locate(other.descriptor, _inside(new_path), follow=False) as new,
        ):
            refuse_second_name(old)
            os.link(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent, follow_symlinks=False)

    def rename(self, path: str, other: Directory, new_path: str, *, look: Callable[[], object] = lambda: None) -> None:
        """Move what ``path`` names to ``new_path`` in ``other``.

        A symbolic link that the embedder left may lead away: its target is absolute, or climbs by ``..``. Moved, it
        would lead to another place, under a name of the guest's choice, for a program of the host that follows it. It
        stays where it is (``EPERM``), and so does a directory that is moved to another parent and has such a link in
        it, unless the link leads no further than that directory. Looking for such links takes time in proportion to
        the tree; ``look`` is called now and then meanwhile, to look at the deadline. A new name in the same parent
        changes what no link in a directory means, so that is not looked into.
        """
        self._changing()
        other._changing()
        with locate_entry(self, path) as old, locate_entry(other, new_path) as new:
            if old.name == "." or new.name == ".":
                raise _error(errno.EBUSY)
            if old.slash or new.slash:
                status = os.stat(old.name, dir_fd=old.parent, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    raise _error(errno.ENOTDIR)
            refuse_moving(old, new, look)
            os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)

    def utime(self, path: str, times: Callable[[os.stat_result], tuple[int, int]], *, follow: bool) -> os.stat_result:
        """Set access and modification times, in nanoseconds, to what ``times`` makes of the status.

        Return the status afterwards.
        """
        if not self.may_write(path):
            raise _error(errno.EPERM)
        with locate(self.descriptor, path, follow=follow) as place:
            status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
            if place.slash and not stat.S_ISDIR(status.st_mode):
                raise _error(errno.ENOTDIR)
            set_times(place.parent, times(status), place.name)
            return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)


def locate_entry(directory: Directory, path: str, *, follow: bool = False) -> Place:
    """Find the directory entry that ``path`` names, a link itself even when a slash follows it."""
    stripped = path.rstrip("/")
    if not stripped or stripped == path:
        return locate(directory.descriptor, path, follow=follow)
    place = locate(directory.descriptor, stripped, follow=False)
    place.slash = True
    return place


def _inside(path: str) -> str:
    """Return ``path`` so that a slash at its end means the directory there, through a link too."""
    return f"{path}." if path.endswith("/") else path


def _name(place: Place, number: int) -> str:
    """Return the entry's name; the directory itself is refused with ``number``."""
    if place.name == ".":
        raise _error(number)
    return place.name


def _status(place: Place) -> os.stat_result | None:
    try:
        return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _open_file(place: Place, *, read: bool, write: bool, truncate: bool, sync: int) -> int:
    write = write or truncate
    access = os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY
    descriptor = _checked(os.open(place.name, _PLAIN | access | sync, dir_fd=place.parent))
    if truncate:
        try:
            os.ftruncate(descriptor, 0)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def _checked(descriptor: int) -> int:
    """Return a descriptor that is a regular file, not one of the host's own state; close and refuse any other."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or is_state(status):
        os.close(descriptor)
        raise _error(errno.EACCES)
    return above_standard(descriptor)
