"""The tree behind directories in memory: nodes, names, quotas and path resolution. Callers hold the tree's lock."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from itertools import count

from aegis.host.files.audit import GrantRefused
from aegis.host.files.beneath import MAX_LINKS
from aegis.host.files.symlink_moves import climbs
from aegis.policy.filesystem import ABSOLUTE, LEAVES, LINK, MOVED_LINK, leaves_its_grant
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.host.files.base import TimesOf

__all__ = [
    "MAX_FILE_BYTES", "MAX_HARD_LINKS", "DirectoryNode", "FileNode", "LinkNode", "MemoryFileSystem", "Node",
    "ResolvedNode", "error_of", "is_above", "leads_out", "locate", "locate_entry", "refuse_second_name",
]  # fmt: skip

_MAX_NAME_BYTES = 255  # NAME_MAX
_MAX_PATH_BYTES = 4095  # PATH_MAX, without the NUL that it counts
MAX_FILE_BYTES = (1 << 63) - 1
MAX_HARD_LINKS = 65_000  # as ext4
_ENTRIES_BETWEEN_CHECKS = 1024

# Numbers larger than any device of the host, so that no file here is mistaken for one there; files.single_file has the
# first of them.
_DEVICES = count((1 << 64) + 1)


def error_of(number: int) -> OSError:
    """Return the ``OSError`` with this error number."""
    return OSError(number, os.strerror(number))


class Node:
    """A file, directory or symbolic link: the common part of the three."""

    __slots__ = ("access_ns", "change_ns", "links", "modify_ns", "number")

    mode = 0

    def __init__(self, number: int, now: int) -> None:
        self.number = number
        self.access_ns = self.modify_ns = self.change_ns = now
        self.links = 0

    def size(self) -> int:
        """Return ``st_size``, in bytes."""
        return 0


class FileNode(Node):
    """A regular file: its contents, and how many handles are open on it."""

    __slots__ = ("data", "users")

    mode = stat.S_IFREG | 0o644

    def __init__(self, number: int, now: int) -> None:
        super().__init__(number, now)
        self.data = bytearray()
        self.users = 0
        """Open handles: the bytes are freed when these and the links are gone."""

    def size(self) -> int:
        return len(self.data)


class LinkNode(Node):
    """A symbolic link and its target."""

    __slots__ = ("target",)

    mode = stat.S_IFLNK | 0o777

    def __init__(self, number: int, now: int, target: str) -> None:
        super().__init__(number, now)
        self.target = target

    def size(self) -> int:
        return len(os.fsencode(self.target))


class DirectoryNode(Node):
    """A directory: its entries, and the directory that contains it (``None`` for the root and once it is removed)."""

    __slots__ = ("entries", "parent", "removed")

    mode = stat.S_IFDIR | 0o755

    def __init__(self, number: int, now: int, parent: DirectoryNode | None) -> None:
        super().__init__(number, now)
        self.entries: dict[str, Node] = {}
        self.parent = parent
        self.removed = False
        self.links = 2


class ResolvedNode:
    """A name in a directory, as ``beneath.ResolvedPath`` is for the host. ``slash``: the path ended with one."""

    __slots__ = ("name", "parent", "slash")

    def __init__(self, parent: DirectoryNode, name: str, slash: bool) -> None:
        self.parent, self.name, self.slash = parent, name, slash

    def look(self) -> Node | None:
        """Return the node of this name, ``None`` if there is none."""
        if self.name == ".":
            return self.parent
        return _entry(self.parent, self.name)

    def node(self) -> Node:
        """Return the node of this name or raise ``ENOENT``; with a slash it must be a directory."""
        node = self.look()
        if node is None:
            raise error_of(errno.ENOENT)
        if self.slash and not isinstance(node, DirectoryNode):
            raise error_of(errno.ENOTDIR)
        return node


def _entry(directory: DirectoryNode, name: str) -> Node | None:
    if len(name) > _MAX_NAME_BYTES // 4 and len(os.fsencode(name)) > _MAX_NAME_BYTES and not directory.removed:
        raise error_of(errno.ENAMETOOLONG)
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
        self.top = DirectoryNode(1, now(), None)

    # -- for the embedder ----------------------------------------------------------------------

    def plant_link(self, target: str, path: str) -> None:
        """Create a symbolic link with any target, as in a tree that mirrors one of the host.

        A guest can follow it only to where it may be anyway: an absolute target, or one above the root, is
        ``GrantRefused``.
        """
        with self.lock:
            self.add_link(locate(self.top, path, follow=False), target)

    def link_target(self, path: str) -> str:
        """Return the target of a symbolic link, an absolute one too; raise ``EINVAL`` if it is none."""
        with self.lock:
            node = locate(self.top, path, follow=False).node()
        if not isinstance(node, LinkNode):
            raise error_of(errno.EINVAL)
        return node.target

    # -- accounting: callers hold the lock -----------------------------------------------------

    def room(self) -> int:
        """Return how many further bytes fit the quota."""
        return MAX_FILE_BYTES if self.max_bytes is None else max(0, self.max_bytes - self.bytes_used)

    def reserve(self, size: int) -> None:
        """Count bytes about to be stored; raise ``ENOSPC`` if they do not fit."""
        if size > self.room():
            raise error_of(errno.ENOSPC)
        self.bytes_used += size

    def add(self, parent: DirectoryNode, name: str, make: Callable[[int, int], Node]) -> Node:
        """Create a node, made of its number and the time, under a name that does not exist yet."""
        self.check_new(parent)
        now = self.now()
        node = make(next(self._numbers), now)
        self.attach(parent, name, node)
        return node

    def add_link(self, place: ResolvedNode, target: str) -> None:
        """Create a symbolic link, with the errors of symlink(2) in its order."""
        length = len(os.fsencode(target))
        if not length or length > _MAX_PATH_BYTES:
            raise error_of(errno.ENAMETOOLONG if length else errno.ENOENT)
        if place.look() is not None:
            raise error_of(errno.EEXIST)
        self.check_new(place.parent)
        self.reserve(length)
        self.add(place.parent, place.name, lambda number, now: LinkNode(number, now, target))

    def check_new(self, parent: DirectoryNode) -> None:
        """Raise ``OSError`` if ``parent`` can have no further name: removed, or the quota of entries is used up."""
        if parent.removed:
            raise error_of(errno.ENOENT)
        if self.max_entries is not None and self.entries_used >= self.max_entries:
            raise error_of(errno.ENOSPC)

    def attach(self, parent: DirectoryNode, name: str, node: Node) -> None:
        """Give a node a name in ``parent``."""
        parent.entries[name] = node
        self.entries_used += 1
        now = self.now()
        parent.modify_ns = parent.change_ns = node.change_ns = now
        if isinstance(node, DirectoryNode):
            node.parent = parent
            parent.links += 1
        else:
            node.links += 1

    def detach(self, parent: DirectoryNode, name: str) -> Node:
        """Take a name away from its node, without freeing that."""
        node = parent.entries.pop(name)
        self.entries_used -= 1
        now = self.now()
        parent.modify_ns = parent.change_ns = node.change_ns = now
        if isinstance(node, DirectoryNode):
            node.parent = None
            parent.links -= 1
        else:
            node.links -= 1
        return node

    def remove(self, parent: DirectoryNode, name: str) -> None:
        """Remove a name, and its node with the last one."""
        node = self.detach(parent, name)
        if isinstance(node, DirectoryNode):
            node.removed, node.links = True, 0
        else:
            self.free(node)

    def free(self, node: Node) -> None:
        """Return the bytes of a node that has neither a name nor an open handle."""
        if node.links:
            return
        if isinstance(node, FileNode):
            if not node.users:
                self.bytes_used -= len(node.data)
                node.data = bytearray()
        else:
            self.bytes_used -= node.size()

    def status(self, node: Node) -> os.stat_result:
        """Return the status of a node."""
        times = {"st_atime_ns": node.access_ns, "st_mtime_ns": node.modify_ns, "st_ctime_ns": node.change_ns}
        seconds = (time // 1_000_000_000 for time in times.values())
        values = (node.mode, node.number, self.device, node.links, 0, 0, node.size(), *seconds)
        return os.stat_result(values, times)

    def set_times(self, node: Node, times: TimesOf) -> os.stat_result:
        """Set the times of a node; return its status afterwards."""
        node.access_ns, node.modify_ns = times(self.status(node))
        node.change_ns = self.now()
        return self.status(node)


# -- paths: the same steps as in ``beneath``, on nodes instead of descriptors --------------------


def locate(root: DirectoryNode, path: str, *, follow: bool) -> ResolvedNode:
    """Find where ``path`` leads beneath ``root``; see :func:`aegis.host.files.beneath.locate`."""
    if not path:
        raise error_of(errno.ENOENT)
    if "\0" in path:
        raise error_of(errno.EINVAL)
    if path.startswith("/"):
        raise GrantRefused(ABSOLUTE)
    try:
        return _resolved(root, path, follow=follow)
    except GrantRefused as refused:
        if leaves_its_grant(path):
            refused.why = LEAVES
        raise


def _resolved(root: DirectoryNode, path: str, *, follow: bool) -> ResolvedNode:
    slash = path.endswith("/")
    for _ in range(MAX_LINKS + 1):
        if path.startswith("/"):
            raise GrantRefused(LINK)
        parts = [part for part in path.split("/") if part]
        if not parts or parts[-1] in (".", ".."):
            return ResolvedNode(_walk(root, parts), ".", slash)
        name, above = parts[-1], parts[:-1]
        place = ResolvedNode(_walk(root, above), name, slash)
        node = place.look() if follow or slash else None
        if not isinstance(node, LinkNode):
            return place
        target = node.target
        path = "/".join((*above, target)) if not target.startswith("/") else target
        slash = slash or target.endswith("/")
    raise error_of(errno.ELOOP)


def locate_entry(root: DirectoryNode, path: str, *, follow: bool = False) -> ResolvedNode:
    """Find the directory entry at ``path``; a link is not followed, even if the path ends with a slash."""
    stripped = path.rstrip("/")
    if not stripped or stripped == path:
        return locate(root, path, follow=follow)
    place = locate(root, stripped, follow=False)
    place.slash = True
    return place


def _walk(root: DirectoryNode, parts: list[str]) -> DirectoryNode:
    """Return the directory that ``parts`` lead to, links followed; ``GrantRefused`` for one above ``root``."""
    if len(os.fsencode("/".join(parts))) > _MAX_PATH_BYTES:
        raise error_of(errno.ENAMETOOLONG)
    stack = [root]
    todo = parts[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if len(stack) == 1:
                raise GrantRefused(LINK)
            stack.pop()
            continue
        node = _entry(stack[-1], part)
        if isinstance(node, DirectoryNode):
            stack.append(node)
        elif isinstance(node, LinkNode):
            links += 1
            if links > MAX_LINKS:
                raise error_of(errno.ELOOP)
            if node.target.startswith("/"):
                raise GrantRefused(LINK)
            todo += reversed(node.target.split("/"))
        else:
            raise error_of(errno.ENOENT if node is None else errno.ENOTDIR)
    return stack[-1]


def is_above(node: Node, directory: DirectoryNode) -> bool:
    """Return whether ``node`` is ``directory`` or contains it."""
    place: DirectoryNode | None = directory
    while place is not None:
        if place is node:
            return True
        place = place.parent
    return False


def refuse_second_name(node: Node | None) -> None:
    """Raise ``GrantRefused`` for a symbolic link that leads out of its directory."""
    if isinstance(node, LinkNode) and climbs(node.target) > 0:
        raise GrantRefused(MOVED_LINK)


def leads_out(directory: DirectoryNode, check: Callable[[], object]) -> bool:
    """Return whether a link somewhere beneath the directory leads out of it."""
    waiting = [(directory, 0)]
    seen = 0
    while waiting:
        here, depth = waiting.pop()
        for node in here.entries.values():
            if not seen % _ENTRIES_BETWEEN_CHECKS:
                check()
            seen += 1
            if isinstance(node, LinkNode) and climbs(node.target) > depth:
                return True
            if isinstance(node, DirectoryNode):
                waiting.append((node, depth + 1))
    return False
