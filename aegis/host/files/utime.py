"""Set times of files. In a worker the parent sets them: Landlock has no right that confines utimensat(2)."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["SetTimes", "set_times", "use"]

SetTimes = Callable[[int, tuple[int, int], "str | None"], None]
"""Sets access and modification times (ns) of an open file or directory, or of a name in an open directory."""


def set_times(descriptor: int, times: tuple[int, int], name: str | None = None) -> None:
    """Set access and modification times, in nanoseconds; with ``name``, of that entry, a link itself included.

    Raise ``OSError`` as utimensat(2) does.
    """
    _set(descriptor, times, name)


def _by_system(descriptor: int, times: tuple[int, int], name: str | None) -> None:
    if name is None:
        os.utime(descriptor, ns=times)
    else:
        os.utime(name, ns=times, dir_fd=descriptor, follow_symlinks=False)


_set: SetTimes = _by_system


def use(setter: SetTimes) -> None:
    """Use ``setter`` for all times that this process sets from now on."""
    global _set
    _set = setter
