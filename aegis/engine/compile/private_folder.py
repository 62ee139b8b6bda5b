"""Opens folders that only this user can change, one path component at a time.

A user who can rename or replace any directory on a path can replace the folder at its end. Each directory is therefore
opened relative to its parent's descriptor and examined through its own descriptor before the walk continues, so that
nothing can be exchanged between check and use. Symbolic links are resolved in the same way, and only if their owner is
trusted (this user or root).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

__all__ = ["NotPrivate", "open_private"]

_MAX_LINKS = 40  # the kernel's limit, path_resolution(7)
_FLAGS = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# O_PATH opens directories that the user may search but not read. Only Linux has it.
_PASS = _FLAGS | getattr(os, "O_PATH", os.O_RDONLY)
_READ = _FLAGS | os.O_RDONLY


class NotPrivate(OSError):
    """Another user could change the folder; the message names the directory and the reason."""


def open_private(path: str, *, create: bool) -> int:
    """Open the folder at ``path`` and return its descriptor, which the caller closes.

    With ``create``, create missing directories with mode 0700. Every directory on the path must belong to this user or
    root, and must not be writable by others unless it is sticky. The folder itself must belong to this user and must
    not be a symbolic link; its mode is set to 0700. Raise :class:`NotPrivate` otherwise, and ``OSError`` if a system
    call fails.
    """
    if os.open not in os.supports_dir_fd:
        raise NotPrivate("this system has no openat(2)")
    with _PrivateWalk(path, create=create) as walk:
        walk.go()
        folder = os.open(".", _READ, dir_fd=walk.here)
    try:
        _make_private(folder, path)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _make_private(folder: int, path: str) -> None:
    status = os.fstat(folder)
    if status.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user")
    if status.st_mode & 0o077:
        os.fchmod(folder, 0o700)


class _PrivateWalk:
    """A walk from the root directory; ``here`` is the descriptor of the directory that it has reached."""

    def __init__(self, path: str, *, create: bool) -> None:
        if not os.path.isabs(path) or "\0" in path:
            raise NotPrivate(f"{path!r} is not an absolute path")
        self._todo = _parts(path)
        self._shown = ""
        self._create = create
        self._links = 0
        self.here = os.open("/", _PASS)

    def __enter__(self) -> _PrivateWalk:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.here)

    def go(self) -> None:
        """Walk the whole path and examine each directory, beginning with the root directory."""
        self._examine()
        while self._todo:
            name = self._todo.pop()
            try:
                below = self._open(name)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                    raise
                self._follow(name, error)
            else:
                self._enter(below, f"{self._shown}/{name}")

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _PASS, dir_fd=self.here)
        except FileNotFoundError:
            if not self._create:
                raise
        with contextlib.suppress(FileExistsError):  # another process created it at the same time
            os.mkdir(name, 0o700, dir_fd=self.here)
        return os.open(name, _PASS, dir_fd=self.here)

    def _follow(self, name: str, failure: OSError) -> None:
        """Prepend a symbolic link's target to the rest of the path; raise ``failure`` if ``name`` is not a link."""
        try:
            target = os.readlink(name, dir_fd=self.here)
        except OSError:
            raise failure from None
        self._links += 1
        if self._links > _MAX_LINKS:
            raise failure
        if not self._todo:
            raise NotPrivate(f"{self._shown}/{name} is a symbolic link")
        if not _trusted(os.stat(name, dir_fd=self.here, follow_symlinks=False)):
            raise NotPrivate(f"{self._shown}/{name} is a symbolic link that belongs to another user")
        self._todo += _parts(target)
        if target.startswith("/"):
            self._enter(os.open("/", _PASS), "")

    def _enter(self, below: int, shown: str) -> None:
        os.close(self.here)
        self.here, self._shown = below, shown
        self._examine()

    def _examine(self) -> None:
        status, shown = os.fstat(self.here), self._shown or "/"
        if not _trusted(status):
            raise NotPrivate(f"{shown} belongs to another user")
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            raise NotPrivate(f"{shown} is writable by other users")


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())
