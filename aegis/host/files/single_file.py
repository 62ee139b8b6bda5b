"""Files that were granted one by one, shown to the guest in a directory that exists for it alone.

Nothing of the real directory is open or seen: not its other names, its link count, its times or its inode. The
descriptor of each file was opened as the grant says, so a process that has the descriptor and nothing else, such as
a worker that was taken over, can do with it what the grant says and no more.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator

from aegis.host.files.directory import Directory, Opened
from aegis.host.files.utime import set_times
from aegis.support.lean import dataclass

__all__ = ["GrantedFile", "SingleFiles"]

_MADE_UP_DEVICE = 1 << 64  # no real device has a number so large


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class GrantedFile:
    """A file granted alone: its descriptor, open for reading or for both, and whether it may be written."""

    descriptor: int
    writable: bool


class SingleFiles(Directory):
    """The directory that shows them, by the names that the guest knows. ``number`` tells two of them apart."""

    __slots__ = ("_number", "files")

    def __init__(self, *, number: int, opened: Opened, files: dict[str, GrantedFile] | None = None) -> None:
        self.descriptor, self.writable, self.opened = -1, False, opened
        self._number = number
        self.files: dict[str, GrantedFile] = {} if files is None else files

    def close(self) -> None:
        """Do nothing: the files belong to the grants."""

    def _find(self, path: str) -> GrantedFile | None:
        """Return the file that ``path`` names, ``None`` for the directory itself."""
        if not path or path.startswith("/"):
            raise _error(errno.EPERM if path else errno.ENOENT)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if parts and parts[-1] == "..":
            raise _error(errno.EPERM)
        file = self.files.get(parts[0]) if parts else None
        if parts and (file is None or len(parts) > 1 or path.endswith("/")):
            raise _error(errno.ENOENT if file is None else errno.ENOTDIR)
        return file

    def _changing(self) -> None:
        raise _error(errno.EPERM)

    def may_write(self, path: str) -> bool:
        """Tell whether the file at ``path`` may be written by its grant."""
        file = self.files.get(next((part for part in path.split("/") if part not in ("", ".")), ""))
        return file is not None and file.writable

    # -- looking -------------------------------------------------------------------------------

    def status(self) -> os.stat_result:
        """Return a status that is the same on every host and at all times."""
        times = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), 0)
        return os.stat_result((stat.S_IFDIR | 0o555, self._number, _MADE_UP_DEVICE, 2, 0, 0, 0, 0, 0, 0), times)

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of what ``path`` names."""
        file = self._find(path)
        return self.status() if file is None else os.fstat(file.descriptor)

    def readlink(self, path: str) -> str:
        """Refuse: neither a file nor the directory is a link."""
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
    ) -> int | Directory:  # fmt: skip
        """Open a file, as a descriptor, or the directory."""
        if (write or create or truncate) and not self.may_write(path):
            raise _error(errno.EPERM)
        file = self._find(path)
        if file is None:
            return SingleFiles(number=self._number, opened=self.opened, files=self.files)
        if create and exclusive:
            raise _error(errno.EEXIST)
        if directory:
            raise _error(errno.ENOTDIR)
        descriptor = self.opened.keep(_another(file, sync))
        if truncate:
            try:
                os.ftruncate(descriptor, 0)
            except OSError:
                self.opened.close(descriptor)
                raise
        return descriptor

    def utime(self, path: str, times: Callable[[os.stat_result], tuple[int, int]], *, follow: bool) -> os.stat_result:
        """Set access and modification times of a file that may be written; return its new status."""
        if not self.may_write(path):
            raise _error(errno.EPERM)
        file = self._find(path)
        assert file is not None  # what may be written is no directory
        set_times(file.descriptor, times(os.fstat(file.descriptor)))
        return os.fstat(file.descriptor)


def _another(file: GrantedFile, sync: int) -> int:
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
