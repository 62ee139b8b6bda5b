"""Symbolic links that lead out of their directory, which no guest may move.

The meaning of a relative link depends on the directory that it is in. A guest cannot create a link that climbs, so
those that do were left by the embedder, and lead to the intended file only from where they are.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator

from aegis.host.files.audit import GrantRefused
from aegis.host.files.beneath import ResolvedPath, open_directory
from aegis.host.files.file_id import identity
from aegis.policy.filesystem import MOVED_LINK

__all__ = ["climbs", "refuse_moving", "refuse_second_name"]

_ENTRIES_BETWEEN_CHECKS = 1024


def climbs(target: str) -> float:
    """Return how many directories up a link leads; infinity if it is absolute or has a ``..`` after a name.

    That name may itself be a link, and the ``..`` would start from its target.
    """
    if target.startswith("/"):
        return math.inf
    parts = [part for part in target.split("/") if part not in ("", ".")]
    leading = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    return math.inf if ".." in parts[leading:] else leading


def refuse_second_name(place: ResolvedPath) -> None:
    """Raise ``GrantRefused`` if ``place`` is a symbolic link that leads out of its directory."""
    status = _status(place)
    if status is not None and stat.S_ISLNK(status.st_mode):
        _refuse(climbs(os.readlink(place.name, dir_fd=place.parent)) > 0)


def refuse_moving(old: ResolvedPath, new: ResolvedPath, check: Callable[[], object] = lambda: None) -> None:
    """Raise ``GrantRefused`` if moving ``old`` to ``new`` would move a symbolic link that leads out of ``old``."""
    refuse_second_name(old)
    status = _status(old)
    if status is not None and stat.S_ISDIR(status.st_mode):
        elsewhere = identity(os.fstat(old.parent)) != identity(os.fstat(new.parent))
        _refuse(elsewhere and _leads_out(old, check))


def _status(place: ResolvedPath) -> os.stat_result | None:
    """Return the status of ``place``; ``None`` if it does not exist, for which the move itself raises."""
    try:
        return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _refuse(refused: bool) -> None:
    if refused:
        raise GrantRefused(MOVED_LINK)


def _leads_out(directory: ResolvedPath, check: Callable[[], object]) -> bool:
    """Return whether a link somewhere beneath the directory leads out of it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    root = os.open(directory.name, flags, dir_fd=directory.parent)
    try:
        return any(climbs(target) > depth for target, depth in _links(root, check))
    finally:
        os.close(root)


def _links(root: int, check: Callable[[], object]) -> Iterator[tuple[str, int]]:
    """Yield the target of each link beneath the open directory, and how many directories deeper the link is.

    One directory is open at a time, however deep the tree. Each is opened by its path from ``root``; another guest
    cannot redirect that path, since a directory with a link that leads out cannot be moved.
    """
    waiting: list[list[str]] = [[]]
    seen = 0
    while waiting:
        parts = waiting.pop()
        here = open_directory(root, parts)
        try:
            with os.scandir(here) as found:
                for entry in found:
                    if not seen % _ENTRIES_BETWEEN_CHECKS:
                        check()
                    seen += 1
                    if entry.is_symlink():
                        yield os.readlink(entry.name, dir_fd=here), len(parts)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append([*parts, entry.name])
        finally:
            os.close(here)
