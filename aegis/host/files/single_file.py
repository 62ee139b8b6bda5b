"""Files that were granted one by one, shown to the guest in a directory that exists for it alone.

Nothing of the real directory is open or visible: not its other names, its link count, its times or its inode. The
descriptor of each file was opened in the mode that the grant states. So a process that has only that descriptor, such
as a worker under an attacker's control, can use the file as the grant states and in no other way.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator

from aegis.host.files.audit import GrantRefused, refuse_change
from aegis.host.files.directory import HostFile, OpenDescriptors
from aegis.host.files.utime import set_times
from aegis.policy.filesystem import ABSOLUTE, LEAVES, READ_ONLY
from aegis.support.lean import TYPE_CHECKING, Literal, dataclass

if TYPE_CHECKING:
    from aegis.host.files.base import DirectoryHandle, TimesOf
    from aegis.values import CallScope

__all__ = ["GrantedFile", "SingleFiles"]

_SYNTHETIC_DEVICE = 1 << 64
"""The device number of these directories: larger than any of the host's (``files.memory`` continues from here)."""


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class GrantedFile:
    """A file granted by itself: its descriptor, open for reading or for both, and whether the grant allows writing."""

    descriptor: int
    writable: bool


class SingleFiles:
    """A directory of granted files, by the names that the guest sees. ``number`` distinguishes two such directories.

    The directory itself cannot be changed, so it is not ``writable``; a file in it may be.
    """

    __slots__ = ("_number", "_opened", "files")

    is_directory: Literal[True] = True
    writable = False

    def __init__(self, *, number: int, opened: OpenDescriptors, files: dict[str, GrantedFile] | None = None) -> None:
        self._number, self._opened = number, opened
        self.files: dict[str, GrantedFile] = {} if files is None else files

    def close(self) -> None:
        """Do nothing: the descriptors belong to the grants."""

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Do nothing: the directory is on no disk."""

    def begin_sync(self, scope: CallScope, *, data: bool) -> None:
        """Return ``None``: there is nothing to wait for."""

    def _find(self, path: str) -> GrantedFile | None:
        """Return the file at ``path``, ``None`` for the directory itself."""
        if not path:
            raise _error(errno.ENOENT)
        if path.startswith("/"):
            raise GrantRefused(ABSOLUTE)
        if "\0" in path:
            raise _error(errno.EINVAL)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if parts and parts[-1] == "..":
            raise GrantRefused(LEAVES)
        file = self.files.get(parts[0]) if parts else None
        if parts and (file is None or len(parts) > 1 or path.endswith("/")):
            raise _error(errno.ENOENT if file is None else errno.ENOTDIR)
        return file

    def check_writable(self, path: str, *, follow: bool = False) -> None:
        """Raise ``GrantRefused`` if the grant of the file at ``path`` does not allow writing."""
        file = self.files.get(next((part for part in path.split("/") if part not in ("", ".")), ""))
        if file is None or not file.writable or path.startswith("/"):
            raise refuse_change(path)

    # -- looking -------------------------------------------------------------------------------

    def status(self) -> os.stat_result:
        """Return a status that is the same on every host and at every time."""
        times = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), 0)
        return os.stat_result((stat.S_IFDIR | 0o555, self._number, _SYNTHETIC_DEVICE, 2, 0, 0, 0, 0, 0, 0), times)

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of the file at ``path``, or of the directory."""
        file = self._find(path)
        return self.status() if file is None else os.fstat(file.descriptor)

    def readlink(self, path: str) -> str:
        """Raise ``EINVAL``: neither a file nor the directory is a link."""
        self._find(path)
        raise _error(errno.EINVAL)

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the name and status of each file."""
        for name, file in list(self.files.items()):
            yield name, os.fstat(file.descriptor)

    # -- opening and changing ------------------------------------------------------------------

    def open(
        self, path: str, *, follow: bool, read: bool, write: bool, directory: bool = False,
        create: bool = False, exclusive: bool = False, truncate: bool = False, sync: int = 0,
    ) -> HostFile | SingleFiles:  # fmt: skip
        """Open a file, or the directory once more."""
        if write or create or truncate:
            self.check_writable(path)
        file = self._find(path)
        if file is None:
            return SingleFiles(number=self._number, opened=self._opened, files=self.files)
        if create and exclusive:
            raise _error(errno.EEXIST)
        if directory:
            raise _error(errno.ENOTDIR)
        opened = HostFile(self._opened.keep(_reopened(file, sync)), file.writable, self._opened)
        if truncate:
            try:
                opened.truncate(0)
            except OSError:
                opened.close()
                raise
        return opened

    def utime(self, path: str, times: TimesOf, *, follow: bool) -> os.stat_result:
        """Set access and modification times of a file whose grant allows writing; return its status afterwards."""
        self.check_writable(path)
        file = self._find(path)
        assert file is not None  # check_writable() refuses the directory itself
        set_times(file.descriptor, times(os.fstat(file.descriptor)))
        return os.fstat(file.descriptor)

    # -- no grant of a single file allows these ------------------------------------------------

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Raise ``GrantRefused``."""
        raise GrantRefused(READ_ONLY)

    def mkdir(self, path: str) -> None:
        """Raise ``GrantRefused``."""
        raise refuse_change(path)

    def rmdir(self, path: str) -> None:
        """Raise ``GrantRefused``."""
        raise refuse_change(path)

    def unlink(self, path: str) -> None:
        """Raise ``GrantRefused``."""
        raise refuse_change(path)

    def symlink(self, target: str, path: str) -> None:
        """Raise ``GrantRefused``."""
        raise refuse_change(path)

    def link(self, path: str, other: DirectoryHandle, new_path: str) -> None:
        """Raise ``GrantRefused``."""
        raise refuse_change(path)

    def rename(
        self, path: str, other: DirectoryHandle, new_path: str, *, check: Callable[[], object] = lambda: None
    ) -> None:
        """Raise ``GrantRefused``."""
        raise refuse_change(path)


def _reopened(file: GrantedFile, sync: int) -> int:
    """Return a further descriptor of the file.

    A duplicate shares flags and position with the first. Positions are not used, and of the flags only those for
    synchronised writing matter: with these the file is opened anew, which Linux can do without its name.
    """
    if not sync:
        return os.dup(file.descriptor)
    if sys.platform != "linux":
        raise _error(errno.ENOTSUP)
    access = os.O_RDWR if file.writable else os.O_RDONLY
    return os.open(f"/proc/self/fd/{file.descriptor}", access | sync | os.O_CLOEXEC | os.O_NONBLOCK)
