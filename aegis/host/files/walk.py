"""Walk host paths one component at a time, and record every directory that decides where they lead.

``os.open`` and ``realpath`` follow each symbolic link that is in a path at the time. A guest that may write a directory
may have left one there in an earlier run. So each component is looked up in an open directory, and the identities of
that directory and of all above it are recorded: the caller knows which grants could have changed the result.
Directories are compared by device and inode, never by name, so bind mounts and other spellings make no difference.
"""

from __future__ import annotations

import errno
import os
import stat

from aegis.host.files.beneath import MAX_LINKS
from aegis.host.files.file_id import Identity, identity
from aegis.support.lean import dataclass, field

__all__ = ["FollowedLink", "HostPath", "walk"]

# O_PATH needs no permission to read the directory, only to search the one above, as path resolution itself does.
_SEARCH_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_SEARCH_FLAGS |= getattr(os, "O_NOFOLLOW", 0)
_MAX_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class FollowedLink:
    """A followed symbolic link: its name, the path of its directory, and the identities of that and all above."""

    name: str
    folder: str
    above: frozenset[Identity]


@dataclass(slots=True)
class HostPath:
    """The result of a walk. ``status`` is ``None`` when the last components do not exist (yet).

    ``parent`` is an open directory and ``name`` the last component in it, ``"."`` for a directory, which then is
    ``parent`` itself. ``crossed`` has every directory in which a name was looked up, all above those, and the target.
    """

    real: str
    parent: int
    name: str
    status: os.stat_result | None
    above: frozenset[Identity]
    """The identities of the target and of the directories that contain it, links resolved."""
    crossed: frozenset[Identity]
    links: list[FollowedLink] = field(default_factory=list)

    @property
    def identity(self) -> Identity | None:
        """The identity of the target, ``None`` if it does not exist."""
        return None if self.status is None else identity(self.status)

    def close(self) -> None:
        """Close the directory; a second call does nothing."""
        descriptor, self.parent = self.parent, -1
        if descriptor >= 0:
            os.close(descriptor)


def walk(path: str, *, must_exist: bool = True) -> HostPath:
    """Follow the absolute ``path``, links included; the caller closes the result.

    Raise ``OSError`` as opening the path would. Without ``must_exist`` a missing component ends the walk, and the
    result has the directories crossed so far.
    """
    walker = _Walker(path)
    try:
        return walker.result(walker.go(must_exist=must_exist))
    finally:
        walker.close()


class _Walker:
    """The open directories from the root down to the present one, and the components still to walk."""

    def __init__(self, path: str) -> None:
        self.todo = [part for part in reversed(path.split("/")) if part]
        self.stack: list[int] = []
        self.names: list[str] = []
        self.held: list[Identity] = []
        self.crossed: set[Identity] = set()
        self.links: list[FollowedLink] = []
        self._push("/", os.open("/", _SEARCH_FLAGS))

    def _push(self, name: str, descriptor: int) -> None:
        self.stack.append(descriptor)
        self.names.append(name)
        self.held.append(identity(os.fstat(descriptor)))
        self.crossed.add(self.held[-1])

    def _pop(self) -> None:
        if len(self.stack) > 1:
            os.close(self.stack.pop())
            self.names.pop()
            self.held.pop()

    @property
    def folder(self) -> str:
        return "/" + "/".join(self.names[1:])

    def go(self, *, must_exist: bool) -> tuple[str, os.stat_result | None]:
        """Walk to the end; return the name and status of the last component, ``"."`` for a directory."""
        while self.todo:
            part = self.todo.pop()
            if part == "..":
                self._pop()
            elif part not in ("", "."):
                try:
                    status = self._step(part)
                except FileNotFoundError:
                    if must_exist:
                        raise
                    return part, None
                if status is not None:
                    return part, status
        return ".", os.fstat(self.stack[-1])

    def _step(self, part: str) -> os.stat_result | None:
        """Enter the directory ``part``, or insert the components of the link; return the status of any other file."""
        for _ in range(_MAX_ATTEMPTS):
            status = os.stat(part, dir_fd=self.stack[-1], follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                self._follow(part)
                return None
            if not stat.S_ISDIR(status.st_mode):
                if any(rest not in ("", ".") for rest in self.todo):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                return status
            try:
                self._push(part, os.open(part, _SEARCH_FLAGS, dir_fd=self.stack[-1]))
                return None
            except OSError as error:  # replaced since the stat above: look again
                if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                    raise
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _follow(self, part: str) -> None:
        target = os.readlink(part, dir_fd=self.stack[-1])
        self.links.append(FollowedLink(part, self.folder, frozenset(self.held)))
        if len(self.links) > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            while len(self.stack) > 1:
                self._pop()
        self.todo += reversed(target.split("/"))

    def result(self, end: tuple[str, os.stat_result | None]) -> HostPath:
        """Return the result, which takes over the last open directory."""
        name, status = end
        target = frozenset() if status is None else frozenset({identity(status)})
        return HostPath(
            real=os.path.normpath(os.path.join(self.folder, name)), parent=self.stack.pop(), name=name, status=status,
            above=frozenset(self.held) | target, crossed=frozenset(self.crossed) | target, links=self.links,
        )  # fmt: skip

    def close(self) -> None:
        """Close the directories that are still open."""
        while self.stack:
            os.close(self.stack.pop())
