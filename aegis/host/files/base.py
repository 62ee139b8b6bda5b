"""The seam of files: the operations on every directory and file that a guest can hold, wherever its bytes are.

All versions of WASI work on these two protocols. ``directory`` implements them beneath a directory of the host,
``single_file`` for files granted one by one, ``memory`` for files that exist in memory only.

A method raises ``OSError`` with the error number that POSIX gives, and :class:`~aegis.host.files.audit.GrantRefused`,
whose number is ``EPERM``, for operations that the grant does not allow: changes beneath a read-only grant, or leaving
the directory by ``..``, an absolute path or a link. The adapters
translate error numbers into those of their version of WASI.

Units: offsets, sizes and counts are bytes, times are nanoseconds since the Unix epoch. Paths are relative to the
directory, with ``/`` between components; a path or link target with a NUL raises ``EINVAL``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from aegis.support.lean import TYPE_CHECKING, Literal, Protocol, TypeAlias
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.blocking import DiskSync

__all__ = ["DirectoryHandle", "FileHandle", "Handle", "TimesOf"]

TimesOf: TypeAlias = Callable[[os.stat_result], tuple[int, int]]
"""Computes the access and modification times to set from the present status."""


class FileHandle(Protocol):
    """An open regular file. It has no position: each access names its offset."""

    @property
    def is_directory(self) -> Literal[False]:
        """False; True for a directory. Tests of this property narrow a ``Handle``."""
        ...

    @property
    def writable(self) -> bool:
        """Whether the grant allows writing to the file, in whichever mode this handle was opened."""
        ...

    @property
    def on_disk(self) -> bool:
        """Whether written bytes count against the limit ``disk_written``."""
        ...

    def status(self) -> os.stat_result:
        """Return the file's status (``fstat``)."""
        ...

    def read(self, count: int, offset: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``, none at or after the end (``pread``).

        Raise ``EBADF`` if the handle was not opened for reading.
        """
        ...

    def write(self, data: bytes, offset: int) -> int:
        """Write ``data`` at ``offset`` and return how many bytes were written (``pwrite``).

        Raise ``EBADF`` if the handle was not opened for writing, and ``ENOSPC`` if not one byte fits.
        """
        ...

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are zero (``ftruncate``). Raise ``EINVAL`` if not opened for writing."""
        ...

    def advise(self, offset: int, length: int, advice: str) -> None:
        """Announce a pattern of access (``posix_fadvise``); ``advice`` is POSIX's name without its prefix."""
        ...

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Wait until written bytes are stored, no longer than the deadline; ``data``: without times (``fdatasync``)."""
        ...

    def begin_sync(self, scope: CallScope, *, data: bool) -> DiskSync | None:
        """Begin to store written bytes; return the wait for it, ``None`` if there is none."""
        ...

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times (``futimens``); return the status afterwards.

        Raise ``GrantRefused`` beneath a read-only grant, however the handle was opened.
        """
        ...

    def close(self) -> None:
        """Close the handle; a second call does nothing."""
        ...


class DirectoryHandle(Protocol):
    """An open directory: the authority over everything beneath it, for reading or for both."""

    @property
    def is_directory(self) -> Literal[True]:
        """True; False for a file. Tests of this property narrow a ``Handle``."""
        ...

    @property
    def writable(self) -> bool:
        """Whether the grant allows changes beneath this directory."""
        ...

    def check_writable(self, path: str, *, follow: bool = False) -> None:
        """Raise :class:`~aegis.host.files.audit.GrantRefused` if the grant does not allow changing ``path``.

        A path that leads out of the directory is refused for that reason; see :meth:`stat` for ``follow``.
        """
        ...

    def status(self) -> os.stat_result:
        """Return the directory's own status."""
        ...

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of the file at ``path``; ``follow`` a symbolic link in the last component."""
        ...

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link; ``GrantRefused`` for an absolute one, which is a path of the host."""
        ...

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the name and status of each entry, in any order, without ``.`` and ``..``.

        Entries that are removed meanwhile are left out.
        """
        ...

    def open(
        self, path: str, *, follow: bool, read: bool, write: bool, directory: bool = False,
        create: bool = False, exclusive: bool = False, truncate: bool = False, sync: int = 0,
    ) -> Handle:  # fmt: skip
        """Open a file or directory. ``sync`` has the open flags ``O_SYNC`` and ``O_DSYNC``.

        Anything else (a FIFO, socket or device) raises ``EACCES``, and a symbolic link that is not followed ``ELOOP``.
        """
        ...

    def mkdir(self, path: str) -> None:
        """Create a directory."""
        ...

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file or a symbolic link."""
        ...

    def symlink(self, target: str, path: str) -> None:
        """Create a symbolic link; ``GrantRefused`` if ``target`` is absolute or contains ``..``."""
        ...

    def link(self, path: str, other: DirectoryHandle, new_path: str) -> None:
        """Create a hard link to the file at ``path``; links are not followed.

        Raise ``GrantRefused`` for a symbolic link that leads out of its directory, and ``EXDEV`` across file systems.
        """
        ...

    def rename(
        self, path: str, other: DirectoryHandle, new_path: str, *, check: Callable[[], object] = lambda: None
    ) -> None:
        """Move the entry at ``path`` to ``new_path`` beneath ``other``.

        Raise ``GrantRefused`` if a symbolic link would then lead elsewhere: one that leads out of its directory, or
        out of the directory that is moved to another parent. ``check`` is called now and then meanwhile, for the
        deadline.
        """
        ...

    def utime(self, path: str, times: TimesOf, *, follow: bool) -> os.stat_result:
        """Set access and modification times of the file at ``path``; return its status afterwards."""
        ...

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set the directory's own access and modification times, as for a file; return its status afterwards."""
        ...

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Wait until the directory's entries are stored, no longer than the deadline."""
        ...

    def begin_sync(self, scope: CallScope, *, data: bool) -> DiskSync | None:
        """Begin to store the directory's entries; return the wait for it, ``None`` if there is none."""
        ...

    def close(self) -> None:
        """Close the handle; a second call does nothing. A preopened directory stays open with its grant."""
        ...


Handle: TypeAlias = FileHandle | DirectoryHandle
"""An open file or directory, distinguished by ``is_directory``."""
