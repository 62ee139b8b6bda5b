"""Directories and files that exist in memory only: the second implementation of the seam, with no file of the host.

A :class:`MemoryFileSystem` is a tree with a quota of bytes and one of entries; a :class:`MemoryDirectory` opens it at
its root. Results and error numbers are those of :class:`~aegis.host.files.directory.HostDirectory` on Linux, and the
same tests hold both to the same rules. The differences:

* there are no permissions, no owners, and no files but regular ones, directories and symbolic links;
* exceeding a quota is ``ENOSPC``, as on a ``tmpfs`` with a size, and holes of a file count like written bytes;
* nothing counts against ``disk_written``, and synchronisation has nothing to wait for;
* reading does not change the access time (as with ``noatime``), and directories have size 0.

Several sandboxes may use one file system, on several threads: each operation holds its lock, for a time that the quotas
bound. An open file keeps its
bytes after its last name was removed, and counts until it is closed. An open directory that was removed is empty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from aegis.host.files.audit import GrantRefused
from aegis.host.files.memory_tree import (
    MAX_FILE_BYTES,
    MAX_HARD_LINKS,
    DirectoryNode,
    FileNode,
    LinkNode,
    MemoryFileSystem,
    Node,
    ResolvedNode,
    error_of,
    is_above,
    leads_out,
    locate,
    locate_entry,
    refuse_second_name,
)
from aegis.host.files.symlink_moves import climbs
from aegis.policy.filesystem import LINK, MOVED_LINK, NEW_LINK, READ_ONLY
from aegis.support.lean import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aegis.host.files.base import DirectoryHandle, FileHandle, TimesOf
    from aegis.values import CallScope

__all__ = ["MemoryDirectory", "MemoryFile", "MemoryFileSystem"]

_ZEROS_BYTES = 1 << 20


class MemoryFile:
    """An open file in memory, read and written as it was opened."""

    __slots__ = ("_node", "_read", "_system", "_write", "writable")

    is_directory: Literal[False] = False
    on_disk = False

    def __init__(self, system: MemoryFileSystem, node: FileNode, *, read: bool, write: bool, writable: bool) -> None:
        self._system, self._read, self._write, self.writable = system, read, write, writable
        self._node: FileNode | None = node
        node.users += 1

    def __del__(self) -> None:
        self.close()

    def _open(self) -> FileNode:
        if self._node is None:
            raise error_of(errno.EBADF)
        return self._node

    def status(self) -> os.stat_result:
        """Return the file's status."""
        with self._system.lock:
            return self._system.status(self._open())

    def read(self, count: int, offset: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``."""
        with self._system.lock:
            node = self._open()
            if not self._read:
                raise error_of(errno.EBADF)
            return bytes(memoryview(node.data)[offset : offset + count])

    def write(self, data: bytes, offset: int) -> int:
        """Write as much of ``data`` at ``offset`` as the quota allows; return how many bytes that were."""
        system = self._system
        with system.lock:
            node = self._open()
            if not self._write:
                raise error_of(errno.EBADF)
            if not data:
                return 0
            size = len(node.data)
            fits = max(0, min(len(data), size + system.room() - offset, MAX_FILE_BYTES - offset))
            if not fits:
                raise error_of(errno.EFBIG if offset >= MAX_FILE_BYTES else errno.ENOSPC)
            if offset > size:
                self._resize(node, offset)
            growth = max(0, offset + fits - len(node.data))
            try:
                node.data[offset : offset + fits] = data if fits == len(data) else data[:fits]
            except MemoryError:
                raise error_of(errno.ENOSPC) from None
            system.bytes_used += growth
            node.modify_ns = node.change_ns = system.now()
            return fits

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are zero."""
        with self._system.lock:
            node = self._open()
            if not self._write:
                raise error_of(errno.EINVAL)
            self._resize(node, size)
            node.modify_ns = node.change_ns = self._system.now()

    def _resize(self, node: FileNode, size: int) -> None:
        growth = size - len(node.data)
        if growth > 0:
            self._system.reserve(growth)
            try:
                while len(node.data) < size:  # in pieces: all zeros at once would need the memory twice
                    node.data += bytes(min(size - len(node.data), _ZEROS_BYTES))
            except MemoryError:
                del node.data[size - growth :]
                self._system.bytes_used -= growth
                raise error_of(errno.ENOSPC) from None
        elif growth:
            del node.data[size:]
            self._system.bytes_used += growth

    def advise(self, offset: int, length: int, advice: str) -> None:
        """Do nothing: memory needs no advice."""

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Do nothing: there is no disk to wait for."""

    def begin_sync(self, scope: CallScope, *, data: bool) -> None:
        """Return ``None``: there is nothing to wait for."""

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times; return the status afterwards."""
        if not self.writable:
            raise GrantRefused(READ_ONLY)
        with self._system.lock:
            return self._system.set_times(self._open(), times)

    def close(self) -> None:
        """Close the handle; a second call does nothing."""
        with self._system.lock:
            node, self._node = self._node, None
            if node is not None:
                node.users -= 1
                self._system.free(node)


class MemoryDirectory:
    """An open directory in memory, with everything beneath it: the root, or the one of ``node``."""

    __slots__ = ("_node", "system", "writable")

    is_directory: Literal[True] = True

    def __init__(self, system: MemoryFileSystem, node: DirectoryNode | None = None, *, writable: bool) -> None:
        self.system, self._node, self.writable = system, node or system.top, writable

    def close(self) -> None:
        """Do nothing: an open directory uses nothing beyond its node."""

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Do nothing: there is no disk to wait for."""

    def begin_sync(self, scope: CallScope, *, data: bool) -> None:
        """Return ``None``: there is nothing to wait for."""

    def check_writable(self, path: str, *, follow: bool = False) -> None:
        """Raise ``GrantRefused`` if the grant does not allow changing the file at ``path``."""
        if self.writable:
            return
        try:
            with self.system.lock:
                locate(self._node, path, follow=follow)
        except GrantRefused:
            raise  # a writable grant would not allow it either
        except OSError:
            pass
        raise GrantRefused(READ_ONLY)

    # -- looking -------------------------------------------------------------------------------

    def status(self) -> os.stat_result:
        """Return the directory's own status."""
        with self.system.lock:
            return self.system.status(self._node)

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of the file at ``path``."""
        with self.system.lock:
            return self.system.status(locate(self._node, path, follow=follow).node())

    def readlink(self, path: str) -> str:
        """Return the target of a link; ``GrantRefused`` for an absolute one, as for the host's."""
        with self.system.lock:
            node = locate(self._node, path, follow=False).node()
        if not isinstance(node, LinkNode):
            raise error_of(errno.EINVAL)
        if node.target.startswith("/"):
            raise GrantRefused(LINK)
        return node.target

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the name and status of each entry that exists now, in the order of creation."""
        with self.system.lock:
            names = list(self._node.entries)
        for name in names:
            with self.system.lock:
                node = self._node.entries.get(name)
                status = None if node is None else self.system.status(node)
            if status is not None:
                yield name, status

    # -- opening -------------------------------------------------------------------------------

    def open(
        self, path: str, *, follow: bool, read: bool, write: bool, directory: bool = False,
        create: bool = False, exclusive: bool = False, truncate: bool = False, sync: int = 0,
    ) -> MemoryFile | MemoryDirectory:  # fmt: skip
        """Open a file or a directory."""
        follow = follow and not (create and exclusive)
        if write or create or truncate:
            self.check_writable(path, follow=follow)
        with self.system.lock:
            place = locate_entry(self._node, path, follow=follow) if create else locate(self._node, path, follow=follow)
            if create and place.slash:
                raise error_of(errno.EEXIST if exclusive and place.name == "." else errno.EISDIR)
            node = place.look()
            if node is None:
                if not create:
                    raise error_of(errno.ENOENT)
                created = self.system.add(place.parent, place.name, FileNode)
                assert isinstance(created, FileNode)
                return self._file(created, read=read, write=write)
            if create and exclusive:
                raise error_of(errno.EEXIST)
            if isinstance(node, DirectoryNode):
                if write or (create and not directory) or truncate:
                    raise error_of(errno.EISDIR)
                return MemoryDirectory(self.system, node, writable=self.writable)
            if isinstance(node, LinkNode):
                raise error_of(errno.ELOOP)
            assert isinstance(node, FileNode)
            if place.slash or directory:
                raise error_of(errno.ENOTDIR)
            opened = self._file(node, read=read, write=write or truncate)
            if truncate:
                opened.truncate(0)
            return opened

    def _file(self, node: FileNode, *, read: bool, write: bool) -> MemoryFile:
        return MemoryFile(self.system, node, read=read or not write, write=write, writable=self.writable)

    # -- changing ------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        """Create a directory."""
        self.check_writable(path)
        with self.system.lock:
            place = locate_entry(self._node, path)
            if place.look() is not None:
                raise error_of(errno.EEXIST)
            self.system.add(place.parent, place.name, lambda number, now: DirectoryNode(number, now, place.parent))

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.check_writable(path)
        with self.system.lock:
            place = locate_entry(self._node, path)
            if place.name == ".":
                raise error_of(errno.EINVAL)
            node = place.look()
            if not isinstance(node, DirectoryNode):
                raise error_of(errno.ENOENT if node is None else errno.ENOTDIR)
            if node.entries:
                raise error_of(errno.ENOTEMPTY)
            self.system.remove(place.parent, place.name)

    def unlink(self, path: str) -> None:
        """Remove a file or a symbolic link."""
        self.check_writable(path)
        with self.system.lock:
            place = locate(self._node, _inside(path), follow=False)
            node = place.look()
            if node is None:
                raise error_of(errno.ENOENT)
            if isinstance(node, DirectoryNode):
                raise error_of(errno.EISDIR)
            self.system.remove(place.parent, place.name)

    def symlink(self, target: str, path: str) -> None:
        """Create a symbolic link; refuse a target that is absolute or contains ``..``."""
        self.check_writable(path)
        if "\0" in target:
            raise error_of(errno.EINVAL)
        if target.startswith("/"):
            raise GrantRefused(NEW_LINK)
        with self.system.lock:
            place = locate(self._node, _inside(path), follow=False)
            if climbs(target):
                raise GrantRefused(NEW_LINK) if place.look() is None else error_of(errno.EEXIST)
            self.system.add_link(place, target)

    def link(self, path: str, other: DirectoryHandle, new_path: str) -> None:
        """Create a hard link to the file at ``path`` as ``new_path`` in ``other``; links are not followed."""
        target = self._target(path, other, new_path)
        with self.system.lock:
            old = locate(self._node, _inside(path), follow=False)
            new = locate(target._node, _inside(new_path), follow=False)
            node = old.look()
            refuse_second_name(node)
            if node is None:
                raise error_of(errno.ENOENT)
            if new.look() is not None:
                raise error_of(errno.EEXIST)
            if new.parent.removed:
                raise error_of(errno.ENOENT)
            if isinstance(node, DirectoryNode):
                raise error_of(errno.EPERM)
            if node.links >= MAX_HARD_LINKS:
                raise error_of(errno.EMLINK)
            self.system.check_new(new.parent)
            self.system.attach(new.parent, new.name, node)

    def _target(self, path: str, other: DirectoryHandle, new_path: str) -> MemoryDirectory:
        """Return the directory that a link or rename goes to, if both grants allow changes."""
        self.check_writable(path)
        other.check_writable(new_path)
        if not isinstance(other, MemoryDirectory) or other.system is not self.system:
            raise error_of(errno.EXDEV)
        return other

    def rename(
        self, path: str, other: DirectoryHandle, new_path: str, *, check: Callable[[], object] = lambda: None
    ) -> None:
        """Move the entry at ``path`` to ``new_path`` in ``other``, as :class:`HostDirectory` does."""
        target = self._target(path, other, new_path)
        with self.system.lock:
            old, new = locate_entry(self._node, path), locate_entry(target._node, new_path)
            if old.name == "." or new.name == ".":
                raise error_of(errno.EBUSY)
            node = old.look()
            if (old.slash or new.slash) and not isinstance(node, DirectoryNode):
                raise error_of(errno.ENOENT if node is None else errno.ENOTDIR)
            refuse_second_name(node)
            if isinstance(node, DirectoryNode) and old.parent is not new.parent and leads_out(node, check):
                raise GrantRefused(MOVED_LINK)
            if node is None:
                raise error_of(errno.ENOENT)
            self._move(old, new, node)

    def _move(self, old: ResolvedNode, new: ResolvedNode, node: Node) -> None:
        """Rename as rename(2) does, with its errors in its order."""
        replaced = new.look()
        if is_above(node, new.parent):
            raise error_of(errno.EINVAL)
        if replaced is not None and is_above(replaced, old.parent):
            raise error_of(errno.ENOTEMPTY)
        if replaced is node:
            return
        if new.parent.removed:
            raise error_of(errno.ENOENT)
        if replaced is not None:
            if isinstance(node, DirectoryNode) != isinstance(replaced, DirectoryNode):
                raise error_of(errno.ENOTDIR if isinstance(node, DirectoryNode) else errno.EISDIR)
            if isinstance(replaced, DirectoryNode) and replaced.entries:
                raise error_of(errno.ENOTEMPTY)
            self.system.remove(new.parent, new.name)
        self.system.detach(old.parent, old.name)
        self.system.attach(new.parent, new.name, node)

    def utime(self, path: str, times: TimesOf, *, follow: bool) -> os.stat_result:
        """Set access and modification times of the file at ``path``; return its status afterwards."""
        self.check_writable(path, follow=follow)
        with self.system.lock:
            return self.system.set_times(locate(self._node, path, follow=follow).node(), times)

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times of the directory itself; return its status afterwards."""
        if not self.writable:
            raise GrantRefused(READ_ONLY)
        with self.system.lock:
            return self.system.set_times(self._node, times)


if TYPE_CHECKING:  # mypy checks here that both implement the seam
    _IMPLEMENTS: tuple[type[FileHandle], type[DirectoryHandle]] = (MemoryFile, MemoryDirectory)


def _inside(path: str) -> str:
    """Return ``path`` such that a trailing slash means the directory there, through a link too."""
    return f"{path}." if path.endswith("/") else path
