"""Directories and files that exist in memory only: the second implementation of the seam, with no file of the host.

A :class:`MemoryFileSystem` is a tree with a quota of bytes and one of entries; :meth:`~MemoryFileSystem.root` opens it
as a :class:`MemoryDirectory`. Results and error numbers are those of :class:`~aegis.host.files.directory.HostDirectory`
on Linux; the same tests hold both to the same rules. The differences:

* there are no permissions, no owners, and no files but regular ones, directories and symbolic links;
* exceeding a quota is ``ENOSPC``, as on a ``tmpfs`` with a size, and holes of a file count like written bytes;
* nothing counts against ``disk_written``, and synchronisation has nothing to wait for;
* reading does not change the access time (as with ``noatime``), and directories have size 0.

Several sandboxes may use one file system, on several threads: each operation holds its lock. An open file keeps its
bytes after its last name was removed, and counts until it is closed. An open directory that was removed is empty.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

from aegis.host.files.beneath import MAX_LINKS
from aegis.host.files.symlink_moves import climbs
from aegis.support.lean import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aegis.host.files.base import DirectoryHandle, TimesOf
    from aegis.values import CallScope

__all__ = ["MemoryDirectory", "MemoryFile", "MemoryFileSystem"]

_MAX_NAME_BYTES = 255  # NAME_MAX
_MAX_PATH_BYTES = 4095  # PATH_MAX, without the NUL that it counts
_MAX_FILE_BYTES = (1 << 63) - 1
_MAX_HARD_LINKS = 65_000  # as ext4
_ZEROS_BYTES = 1 << 20
_ENTRIES_BETWEEN_CHECKS = 1024

# Numbers larger than any device of the host, so that no file here is mistaken for one there; files.single_file has the
# first of them.
_DEVICES = count((1 << 64) + 1)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class _Node:
    """A file, directory or symbolic link, with what all three have."""

    __slots__ = ("access_ns", "change_ns", "links", "modify_ns", "number")

    mode = 0

    def __init__(self, number: int, now: int) -> None:
        self.number = number
        self.access_ns = self.modify_ns = self.change_ns = now
        self.links = 0

    def size(self) -> int:
        return 0


class _FileNode(_Node):
    __slots__ = ("data", "users")

    mode = stat.S_IFREG | 0o644

    def __init__(self, number: int, now: int) -> None:
        super().__init__(number, now)
        self.data = bytearray()
        self.users = 0
        """Open handles: the bytes are freed when these and the links are gone."""

    def size(self) -> int:
        return len(self.data)


class _LinkNode(_Node):
    __slots__ = ("target",)

    mode = stat.S_IFLNK | 0o777

    def __init__(self, number: int, now: int, target: str) -> None:
        super().__init__(number, now)
        self.target = target

    def size(self) -> int:
        return len(os.fsencode(self.target))


class _DirectoryNode(_Node):
    __slots__ = ("entries", "parent", "removed")

    mode = stat.S_IFDIR | 0o755

    def __init__(self, number: int, now: int, parent: _DirectoryNode | None) -> None:
        super().__init__(number, now)
        self.entries: dict[str, _Node] = {}
        self.parent = parent
        self.removed = False
        self.links = 2


class _Place:
    """A name in a directory, as ``beneath.Place`` is for the host. ``slash``: the path ended with one."""

    __slots__ = ("name", "parent", "slash")

    def __init__(self, parent: _DirectoryNode, name: str, slash: bool) -> None:
        self.parent, self.name, self.slash = parent, name, slash

    def look(self) -> _Node | None:
        """Return the node of this name, ``None`` if there is none."""
        if self.name == ".":
            return self.parent
        return _entry(self.parent, self.name)

    def node(self) -> _Node:
        """Return the node of this name or raise ``ENOENT``; with a slash it must be a directory."""
        node = self.look()
        if node is None:
            raise _error(errno.ENOENT)
        if self.slash and not isinstance(node, _DirectoryNode):
            raise _error(errno.ENOTDIR)
        return node


def _entry(directory: _DirectoryNode, name: str) -> _Node | None:
    if len(name) > _MAX_NAME_BYTES // 4 and len(os.fsencode(name)) > _MAX_NAME_BYTES and not directory.removed:
        raise _error(errno.ENAMETOOLONG)
    return directory.entries.get(name)


class MemoryFileSystem:
    """A tree of files in memory.

    ``max_bytes`` bounds the contents of all files and the targets of links together, ``max_entries`` the names in all
    directories; ``None`` lifts a bound. ``now`` returns the time of a change in nanoseconds since the Unix epoch.
    """

    def __init__(
        self, *, max_bytes: int | None, max_entries: int | None, now: Callable[[], int] = time.time_ns
    ) -> None:
        self.max_bytes, self.max_entries, self.now = max_bytes, max_entries, now
        self.bytes_used = 0
        self.entries_used = 0
        self.lock = threading.RLock()
        self.device = next(_DEVICES)
        self._numbers = count(2)
        self.top = _DirectoryNode(1, now(), None)

    def root(self, *, writable: bool) -> MemoryDirectory:
        """Return the root directory as a handle; ``writable`` says whether it allows changes."""
        return MemoryDirectory(self, self.top, writable=writable)

    # -- for the embedder ----------------------------------------------------------------------

    def plant_link(self, target: str, path: str) -> None:
        """Create a symbolic link with any target, as in a tree that mirrors one of the host.

        A guest can follow it only to where it may be anyway: an absolute target, or one above its directory, is
        ``EPERM``.
        """
        with self.lock:
            self.add_link(self.root(writable=True).locate(path, follow=False), target)

    def link_target(self, path: str) -> str:
        """Return the target of a symbolic link, an absolute one too; raise ``EINVAL`` if it is none."""
        with self.lock:
            node = self.root(writable=False).locate(path, follow=False).node()
        if not isinstance(node, _LinkNode):
            raise _error(errno.EINVAL)
        return node.target

    # -- accounting: callers hold the lock -----------------------------------------------------

    def room(self) -> int:
        """Return how many further bytes fit the quota."""
        return _MAX_FILE_BYTES if self.max_bytes is None else max(0, self.max_bytes - self.bytes_used)

    def reserve(self, size: int) -> None:
        """Count bytes about to be stored; raise ``ENOSPC`` if they do not fit."""
        if size > self.room():
            raise _error(errno.ENOSPC)
        self.bytes_used += size

    def add(self, parent: _DirectoryNode, name: str, make: Callable[[int, int], _Node]) -> _Node:
        """Create a node, made of its number and the time, under a name that does not exist yet."""
        self.check_new(parent)
        now = self.now()
        node = make(next(self._numbers), now)
        self.attach(parent, name, node)
        return node

    def add_link(self, place: _Place, target: str) -> None:
        """Create a symbolic link, with the errors of symlink(2) in its order."""
        length = len(os.fsencode(target))
        if not length or length > _MAX_PATH_BYTES:
            raise _error(errno.ENAMETOOLONG if length else errno.ENOENT)
        if place.look() is not None:
            raise _error(errno.EEXIST)
        self.check_new(place.parent)
        self.reserve(length)
        self.add(place.parent, place.name, lambda number, now: _LinkNode(number, now, target))

    def check_new(self, parent: _DirectoryNode) -> None:
        """Raise what prevents a further name in ``parent``."""
        if parent.removed:
            raise _error(errno.ENOENT)
        if self.max_entries is not None and self.entries_used >= self.max_entries:
            raise _error(errno.ENOSPC)

    def attach(self, parent: _DirectoryNode, name: str, node: _Node) -> None:
        """Give a node a name in ``parent``."""
        parent.entries[name] = node
        self.entries_used += 1
        now = self.now()
        parent.modify_ns = parent.change_ns = node.change_ns = now
        if isinstance(node, _DirectoryNode):
            node.parent = parent
            parent.links += 1
        else:
            node.links += 1

    def detach(self, parent: _DirectoryNode, name: str) -> _Node:
        """Take a name away from its node, without freeing that."""
        node = parent.entries.pop(name)
        self.entries_used -= 1
        now = self.now()
        parent.modify_ns = parent.change_ns = node.change_ns = now
        if isinstance(node, _DirectoryNode):
            node.parent = None
            parent.links -= 1
        else:
            node.links -= 1
        return node

    def remove(self, parent: _DirectoryNode, name: str) -> None:
        """Remove a name, and its node with the last one."""
        node = self.detach(parent, name)
        if isinstance(node, _DirectoryNode):
            node.removed, node.links = True, 0
        else:
            self.free(node)

    def free(self, node: _Node) -> None:
        """Return the bytes of a node that has neither a name nor an open handle."""
        if node.links:
            return
        if isinstance(node, _FileNode):
            if not node.users:
                self.bytes_used -= len(node.data)
                node.data = bytearray()
        else:
            self.bytes_used -= node.size()

    def status(self, node: _Node) -> os.stat_result:
        """Return the status of a node."""
        times = {"st_atime_ns": node.access_ns, "st_mtime_ns": node.modify_ns, "st_ctime_ns": node.change_ns}
        seconds = (time // 1_000_000_000 for time in times.values())
        values = (node.mode, node.number, self.device, node.links, 0, 0, node.size(), *seconds)
        return os.stat_result(values, times)

    def set_times(self, node: _Node, times: TimesOf) -> os.stat_result:
        """Set the times of a node; return its status afterwards."""
        node.access_ns, node.modify_ns = times(self.status(node))
        node.change_ns = self.now()
        return self.status(node)


class MemoryFile:
    """An open file in memory, read and written as it was opened."""

    __slots__ = ("_node", "_read", "_system", "_write", "writable")

    is_directory: Literal[False] = False
    on_disk = False

    def __init__(self, system: MemoryFileSystem, node: _FileNode, *, read: bool, write: bool, writable: bool) -> None:
        self._system, self._read, self._write, self.writable = system, read, write, writable
        self._node: _FileNode | None = node
        node.users += 1

    def __del__(self) -> None:
        self.close()

    def _open(self) -> _FileNode:
        if self._node is None:
            raise _error(errno.EBADF)
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
                raise _error(errno.EBADF)
            return bytes(memoryview(node.data)[offset : offset + count])

    def write(self, data: bytes, offset: int) -> int:
        """Write as much of ``data`` at ``offset`` as the quota allows; return how many bytes that were."""
        system = self._system
        with system.lock:
            node = self._open()
            if not self._write:
                raise _error(errno.EBADF)
            if not data:
                return 0
            size = len(node.data)
            fits = max(0, min(len(data), size + system.room() - offset, _MAX_FILE_BYTES - offset))
            if not fits:
                raise _error(errno.EFBIG if offset >= _MAX_FILE_BYTES else errno.ENOSPC)
            if offset > size:
                self._resize(node, offset)
            system.reserve(max(0, offset + fits - len(node.data)))
            node.data[offset : offset + fits] = data if fits == len(data) else data[:fits]
            node.modify_ns = node.change_ns = system.now()
            return fits

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are zero."""
        with self._system.lock:
            node = self._open()
            if not self._write:
                raise _error(errno.EINVAL)
            self._resize(node, size)
            node.modify_ns = node.change_ns = self._system.now()

    def _resize(self, node: _FileNode, size: int) -> None:
        growth = size - len(node.data)
        if growth > 0:
            self._system.reserve(growth)
            try:
                while len(node.data) < size:  # in pieces: all zeros at once would need the memory twice
                    node.data += bytes(min(size - len(node.data), _ZEROS_BYTES))
            except MemoryError:
                del node.data[size - growth :]
                self._system.bytes_used -= growth
                raise _error(errno.ENOSPC) from None
        elif growth:
            del node.data[size:]
            self._system.bytes_used += growth

    def advise(self, offset: int, length: int, advice: str) -> None:
        """Do nothing: memory needs no advice."""

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Do nothing: there is no disk to wait for."""

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times; return the status afterwards."""
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
    """An open directory in memory, with everything beneath it."""

    __slots__ = ("_node", "system", "writable")

    is_directory: Literal[True] = True

    def __init__(self, system: MemoryFileSystem, node: _DirectoryNode, *, writable: bool) -> None:
        self.system, self._node, self.writable = system, node, writable

    def close(self) -> None:
        """Do nothing: an open directory uses nothing beyond its node."""

    def sync(self, scope: CallScope, *, data: bool) -> None:
        """Do nothing: there is no disk to wait for."""

    def _check_writable(self) -> None:
        if not self.writable:
            raise _error(errno.EPERM)

    def may_write(self, path: str) -> bool:
        """Return whether the grant allows writing to the file at ``path``."""
        return self.writable

    # -- paths: the same steps as in ``beneath``, on nodes instead of descriptors ---------------

    def locate(self, path: str, *, follow: bool) -> _Place:
        """Find where ``path`` leads beneath this directory; see :func:`aegis.host.files.beneath.locate`."""
        if not path:
            raise _error(errno.ENOENT)
        if "\0" in path:
            raise _error(errno.EINVAL)
        slash = path.endswith("/")
        for _ in range(MAX_LINKS + 1):
            if path.startswith("/"):
                raise _error(errno.EPERM)
            parts = [part for part in path.split("/") if part]
            if not parts or parts[-1] in (".", ".."):
                return _Place(self._walk(parts), ".", slash)
            name, above = parts[-1], parts[:-1]
            place = _Place(self._walk(above), name, slash)
            node = place.look() if follow or slash else None
            if not isinstance(node, _LinkNode):
                return place
            target = node.target
            path = "/".join((*above, target)) if not target.startswith("/") else target
            slash = slash or target.endswith("/")
        raise _error(errno.ELOOP)

    def _walk(self, parts: list[str]) -> _DirectoryNode:
        """Return the directory that ``parts`` lead to, links followed, and nothing above this directory."""
        if len(os.fsencode("/".join(parts))) > _MAX_PATH_BYTES:
            raise _error(errno.ENAMETOOLONG)
        stack = [self._node]
        todo = parts[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(stack) == 1:
                    raise _error(errno.EPERM)
                stack.pop()
                continue
            node = _entry(stack[-1], part)
            if isinstance(node, _DirectoryNode):
                stack.append(node)
            elif isinstance(node, _LinkNode):
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP)
                if node.target.startswith("/"):
                    raise _error(errno.EPERM)
                todo += reversed(node.target.split("/"))
            else:
                raise _error(errno.ENOENT if node is None else errno.ENOTDIR)
        return stack[-1]

    def locate_entry(self, path: str, *, follow: bool = False) -> _Place:
        """Find the directory entry at ``path``; a link is not followed, even if the path ends with a slash."""
        stripped = path.rstrip("/")
        if not stripped or stripped == path:
            return self.locate(path, follow=follow)
        place = self.locate(stripped, follow=False)
        place.slash = True
        return place

    # -- looking -------------------------------------------------------------------------------

    def status(self) -> os.stat_result:
        """Return the directory's own status."""
        with self.system.lock:
            return self.system.status(self._node)

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """Return the status of the file at ``path``."""
        with self.system.lock:
            return self.system.status(self.locate(path, follow=follow).node())

    def readlink(self, path: str) -> str:
        """Return the target of a link; ``EPERM`` for an absolute one, as for the host's."""
        with self.system.lock:
            node = self.locate(path, follow=False).node()
        if not isinstance(node, _LinkNode):
            raise _error(errno.EINVAL)
        if node.target.startswith("/"):
            raise _error(errno.EPERM)
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
        if write or create or truncate:
            self._check_writable()
        follow = follow and not (create and exclusive)
        with self.system.lock:
            place = self.locate_entry(path, follow=follow) if create else self.locate(path, follow=follow)
            if create and place.slash:
                raise _error(errno.EEXIST if exclusive and place.name == "." else errno.EISDIR)
            node = place.look()
            if node is None:
                if not create:
                    raise _error(errno.ENOENT)
                created = self.system.add(place.parent, place.name, _FileNode)
                assert isinstance(created, _FileNode)
                return self._file(created, read=read, write=write)
            if create and exclusive:
                raise _error(errno.EEXIST)
            if isinstance(node, _DirectoryNode):
                if write or (create and not directory) or truncate:
                    raise _error(errno.EISDIR)
                return MemoryDirectory(self.system, node, writable=self.writable)
            if isinstance(node, _LinkNode):
                raise _error(errno.ELOOP)
            assert isinstance(node, _FileNode)
            if place.slash or directory:
                raise _error(errno.ENOTDIR)
            opened = self._file(node, read=read, write=write or truncate)
            if truncate:
                opened.truncate(0)
            return opened

    def _file(self, node: _FileNode, *, read: bool, write: bool) -> MemoryFile:
        return MemoryFile(self.system, node, read=read or not write, write=write, writable=self.writable)

    # -- changing ------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        """Create a directory."""
        self._check_writable()
        with self.system.lock:
            place = self.locate_entry(path)
            if place.look() is not None:
                raise _error(errno.EEXIST)
            self.system.add(place.parent, place.name, lambda number, now: _DirectoryNode(number, now, place.parent))

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._check_writable()
        with self.system.lock:
            place = self.locate_entry(path)
            if place.name == ".":
                raise _error(errno.EINVAL)
            node = place.look()
            if not isinstance(node, _DirectoryNode):
                raise _error(errno.ENOENT if node is None else errno.ENOTDIR)
            if node.entries:
                raise _error(errno.ENOTEMPTY)
            self.system.remove(place.parent, place.name)

    def unlink(self, path: str) -> None:
        """Remove a file or a symbolic link."""
        self._check_writable()
        with self.system.lock:
            place = self.locate(_inside(path), follow=False)
            node = place.look()
            if node is None:
                raise _error(errno.ENOENT)
            if isinstance(node, _DirectoryNode):
                raise _error(errno.EISDIR)
            self.system.remove(place.parent, place.name)

    def symlink(self, target: str, path: str) -> None:
        """Create a symbolic link; refuse (``EPERM``) a target that is absolute or contains ``..``."""
        self._check_writable()
        if "\0" in target:
            raise _error(errno.EINVAL)
        if target.startswith("/"):
            raise _error(errno.EPERM)
        with self.system.lock:
            place = self.locate(_inside(path), follow=False)
            if climbs(target):
                raise _error(errno.EPERM if place.look() is None else errno.EEXIST)
            self.system.add_link(place, target)

    def link(self, path: str, other: DirectoryHandle, new_path: str) -> None:
        """Create a hard link to the file at ``path`` as ``new_path`` in ``other``; links are not followed."""
        target = self._target(other)
        with self.system.lock:
            old = self.locate(_inside(path), follow=False)
            new = target.locate(_inside(new_path), follow=False)
            node = old.look()
            _refuse_second_name(node)
            if node is None:
                raise _error(errno.ENOENT)
            if new.look() is not None:
                raise _error(errno.EEXIST)
            if new.parent.removed:
                raise _error(errno.ENOENT)
            if isinstance(node, _DirectoryNode):
                raise _error(errno.EPERM)
            if node.links >= _MAX_HARD_LINKS:
                raise _error(errno.EMLINK)
            self.system.check_new(new.parent)
            self.system.attach(new.parent, new.name, node)

    def _target(self, other: DirectoryHandle) -> MemoryDirectory:
        """Return the directory that a link or rename goes to, if both grants allow changes."""
        self._check_writable()
        if not other.writable:
            raise _error(errno.EPERM)
        if not isinstance(other, MemoryDirectory) or other.system is not self.system:
            raise _error(errno.EXDEV)
        return other

    def rename(
        self, path: str, other: DirectoryHandle, new_path: str, *, look: Callable[[], object] = lambda: None
    ) -> None:
        """Move the entry at ``path`` to ``new_path`` in ``other``, as :class:`HostDirectory` does."""
        target = self._target(other)
        with self.system.lock:
            old, new = self.locate_entry(path), target.locate_entry(new_path)
            if old.name == "." or new.name == ".":
                raise _error(errno.EBUSY)
            node = old.look()
            if (old.slash or new.slash) and not isinstance(node, _DirectoryNode):
                raise _error(errno.ENOENT if node is None else errno.ENOTDIR)
            _refuse_second_name(node)
            if isinstance(node, _DirectoryNode) and old.parent is not new.parent and _leads_out(node, look):
                raise _error(errno.EPERM)
            if node is None:
                raise _error(errno.ENOENT)
            self._move(old, new, node)

    def _move(self, old: _Place, new: _Place, node: _Node) -> None:
        """Do what rename(2) does, with its errors in its order."""
        replaced = new.look()
        if _is_above(node, new.parent):
            raise _error(errno.EINVAL)
        if replaced is not None and _is_above(replaced, old.parent):
            raise _error(errno.ENOTEMPTY)
        if replaced is node:
            return
        if new.parent.removed:
            raise _error(errno.ENOENT)
        if replaced is not None:
            if isinstance(node, _DirectoryNode) != isinstance(replaced, _DirectoryNode):
                raise _error(errno.ENOTDIR if isinstance(node, _DirectoryNode) else errno.EISDIR)
            if isinstance(replaced, _DirectoryNode) and replaced.entries:
                raise _error(errno.ENOTEMPTY)
            self.system.remove(new.parent, new.name)
        self.system.detach(old.parent, old.name)
        self.system.attach(new.parent, new.name, node)

    def utime(self, path: str, times: TimesOf, *, follow: bool) -> os.stat_result:
        """Set access and modification times of the file at ``path``; return its status afterwards."""
        self._check_writable()
        with self.system.lock:
            return self.system.set_times(self.locate(path, follow=follow).node(), times)

    def set_times(self, times: TimesOf) -> os.stat_result:
        """Set access and modification times of the directory itself; return its status afterwards."""
        with self.system.lock:
            return self.system.set_times(self._node, times)


def _inside(path: str) -> str:
    """Return ``path`` such that a trailing slash means the directory there, through a link too."""
    return f"{path}." if path.endswith("/") else path


def _is_above(node: _Node, directory: _DirectoryNode) -> bool:
    """Return whether ``node`` is ``directory`` or contains it."""
    place: _DirectoryNode | None = directory
    while place is not None:
        if place is node:
            return True
        place = place.parent
    return False


def _refuse_second_name(node: _Node | None) -> None:
    """Raise ``EPERM`` for a symbolic link that leads out of its directory."""
    if isinstance(node, _LinkNode) and climbs(node.target) > 0:
        raise _error(errno.EPERM)


def _leads_out(directory: _DirectoryNode, look: Callable[[], object]) -> bool:
    """Return whether a link somewhere beneath the directory leads out of it."""
    waiting = [(directory, 0)]
    seen = 0
    while waiting:
        here, depth = waiting.pop()
        for node in here.entries.values():
            if not seen % _ENTRIES_BETWEEN_CHECKS:
                look()
            seen += 1
            if isinstance(node, _LinkNode) and climbs(node.target) > depth:
                return True
            if isinstance(node, _DirectoryNode):
                waiting.append((node, depth + 1))
    return False
