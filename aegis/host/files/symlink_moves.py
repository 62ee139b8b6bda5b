"""Symbolic links that lead away from where they stand, which no guest may move.

What a relative link means depends on the directory that it is in. A guest makes no link that climbs, so those that do
were left by the embedder; where they stand now they mean what the embedder meant.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable, Iterator

from aegis.host.files.beneath import Place, identity, open_directory

__all__ = ["climbs", "refuse_moving", "refuse_second_name"]

_ENTRIES_BETWEEN_CHECKS = 1024


def climbs(target: str) -> float:
    """Return how many directories up a link leads: without end if it is absolute or has a ``..`` after a name.

    That name may itself be a link, from whose target the ``..`` would start.
    """
    if target.startswith("/"):
        return math.inf
    parts = [part for part in target.split("/") if part not in ("", ".")]
    leading = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    return math.inf if ".." in parts[leading:] else leading


def refuse_second_name(place: Place) -> None:
    """Raise ``EPERM`` if a hard link to ``place`` would be one to a symbolic link that leads away."""
    status = _status(place)
    if status is not None and stat.S_ISLNK(status.st_mode):
        _refuse(climbs(os.readlink(place.name, dir_fd=place.parent)) > 0)


def refuse_moving(old: Place, new: Place, look: Callable[[], object] = lambda: None) -> None:
    """Raise ``EPERM`` if ``old``, moved to ``new``, takes along a link that leads out of it."""
    refuse_second_name(old)
    status = _status(old)
    if status is not None and stat.S_ISDIR(status.st_mode):
        elsewhere = identity(os.fstat(old.parent)) != identity(os.fstat(new.parent))
        _refuse(elsewhere and _leads_out(old, look))


def _status(place: Place) -> os.stat_result | None:
    """Return the status of ``place``; what does not exist is left to the move itself to say."""
    try:
        return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _refuse(refused: bool) -> None:
    if refused:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def _leads_out(directory: Place, look: Callable[[], object]) -> bool:
    """Tell whether a link somewhere in the directory leads out of it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    root = os.open(directory.name, flags, dir_fd=directory.parent)
    try:
        return any(climbs(target) > depth for target, depth in _links(root, look))
    finally:
        os.close(root)


def _links(root: int, look: Callable[[], object]) -> Iterator[tuple[str, int]]:
    """Yield what each link beneath the open directory says, and how many directories deeper it lies.

    One directory is open at a time, however deep the tree: each is found by its path from ``root``, which no other
    guest can redirect, since a directory with a link that leads out does not move.
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
                        look()
                    seen += 1
                    if entry.is_symlink():
                        yield os.readlink(entry.name, dir_fd=here), len(parts)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append([*parts, entry.name])
        finally:
            os.close(here)
