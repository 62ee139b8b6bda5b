"""Resolve paths beneath an open directory: the only way from a guest's path to the host's files.

Paths are never compared as text. A path is resolved from an open directory, by the kernel where it can (``openat2``
with ``RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS``), else here, component by component, reading each link instead of
following it. The result is an open parent directory and one name in it, and every operation acts on that pair without
following links.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from types import TracebackType

from aegis.host.files.audit import GrantRefused
from aegis.policy.filesystem import ABSOLUTE, LEAVES, LINK, leaves_its_grant

__all__ = ["MAX_LINKS", "ResolvedPath", "locate", "open_directory"]

MAX_LINKS = 40  # as Linux, path_resolution(7)
_OPENAT2 = 437  # the same number on every Linux architecture
_RESOLVE = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_MAX_ATTEMPTS = 16


class ResolvedPath:
    """Directory and name to which a path resolves. ``slash``: the path ended with one, so it must name a directory.

    As a context manager it closes the descriptor ``parent`` if :func:`locate` opened it.
    """

    __slots__ = ("_owned", "name", "parent", "slash")

    def __init__(self, parent: int, name: str, slash: bool, owned: bool) -> None:
        self.parent, self.name, self.slash, self._owned = parent, name, slash, owned

    def __enter__(self) -> ResolvedPath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close ``parent`` if :func:`locate` opened it."""
        if self._owned:
            os.close(self.parent)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def locate(root: int, path: str, *, follow: bool) -> ResolvedPath:
    """Resolve ``path`` beneath the open directory ``root``.

    With ``follow``, or with a trailing slash, a link as the last component is followed too. Raise ``GrantRefused`` for
    a path that is absolute or leaves ``root``, and ``OSError`` with ``ELOOP`` for too many links, ``ENOENT`` for an
    empty one, and as the kernel does otherwise. The last component need not exist.
    """
    if not path:
        raise _error(errno.ENOENT)
    if "\0" in path:  # the kernel's copy of the path would end there
        raise _error(errno.EINVAL)
    if path.startswith("/"):
        raise GrantRefused(ABSOLUTE)
    try:
        return _resolved(root, path, follow=follow)
    except GrantRefused as refused:
        if leaves_its_grant(path):
            refused.why = LEAVES
        raise


def _resolved(root: int, path: str, *, follow: bool) -> ResolvedPath:
    slash = path.endswith("/")
    for _ in range(MAX_LINKS + 1):
        if path.startswith("/"):
            raise GrantRefused(LINK)
        parts = [part for part in path.split("/") if part]
        if not parts or parts[-1] in (".", ".."):
            return ResolvedPath(open_directory(root, parts), ".", slash, owned=True)
        name, above = parts[-1], parts[:-1]
        place = ResolvedPath(open_directory(root, above) if above else root, name, slash, owned=bool(above))
        target = _link(place) if follow or slash else None
        if target is None:
            return place
        place.close()
        path = "/".join((*above, target)) if not target.startswith("/") else target
        slash = slash or target.endswith("/")
    raise _error(errno.ELOOP)


def _link(place: ResolvedPath) -> str | None:
    """Return the target of the link at ``place``, ``None`` if it is no link."""
    try:
        return os.readlink(place.name, dir_fd=place.parent)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        place.close()
        raise


# -- directories --------------------------------------------------------------------------------


def open_directory(root: int, parts: list[str]) -> int:
    """Open the directory at ``parts`` beneath ``root``; the caller closes the descriptor."""
    if not parts:
        return os.open(".", _DIRECTORY, dir_fd=root)
    return _opener(root, parts)


class _How(ctypes.Structure):
    """``struct open_how`` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def _by_kernel(root: int, parts: list[str]) -> int:
    how = _How(_DIRECTORY, 0, _RESOLVE)
    path = os.fsencode("/".join(parts))
    for _ in range(_MAX_ATTEMPTS):
        assert _libc is not None
        descriptor: int = _libc.syscall(_OPENAT2, root, ctypes.c_char_p(path), ctypes.byref(how), ctypes.c_size_t(24))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: a concurrent rename, openat2(2)
            break
    if number == errno.EXDEV:
        raise GrantRefused(LINK)
    raise _error(number)


def _by_walk(root: int, parts: list[str]) -> int:
    """Resolve with a stack of open directories: ``..`` returns to the directory that was opened before."""
    stack: list[int] = []
    todo = list(reversed(parts))
    links = 0
    try:
        while todo:
            part = todo.pop()
            here = stack[-1] if stack else root
            if part in ("", "."):
                continue
            if part == "..":
                if not stack:
                    raise GrantRefused(LINK)
                os.close(stack.pop())
                continue
            try:
                stack.append(os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here))
                continue
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                    raise
                target = _target(part, here, error)
            links += 1
            if links > MAX_LINKS:
                raise _error(errno.ELOOP)
            if target.startswith("/"):
                raise GrantRefused(LINK)
            todo.extend(reversed(target.split("/")))
        return stack.pop() if stack else os.open(".", _DIRECTORY, dir_fd=root)
    finally:
        for descriptor in stack:
            os.close(descriptor)


def _target(name: str, parent: int, failure: OSError) -> str:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        raise failure from None


def _probe(root: int, parts: list[str]) -> int:
    """Detect at the first use whether this system has ``openat2``, and use that from then on."""
    global _opener
    _opener = _by_walk
    if _libc is not None:
        try:
            os.close(_by_kernel(root, ["."]))
            _opener = _by_kernel
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
                raise
    return _opener(root, parts)


_opener: Callable[[int, list[str]], int] = _probe


def kernel_resolves() -> bool:
    """Return whether the kernel resolves paths beneath a directory (``aegis doctor``)."""
    if _libc is None:
        return False
    root = os.open("/", _DIRECTORY)
    try:
        os.close(_by_kernel(root, ["."]))
    except OSError:
        return False
    finally:
        os.close(root)
    return True
