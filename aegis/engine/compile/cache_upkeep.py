"""The files of the compile cache as a whole: their number and size, which ones to remove, and whether it works.

All functions take the open folder of a cache (:class:`aegis.engine.compile.cache.Cache`). Only files with the names of
a cache count, so that a file of another origin in the folder is neither counted nor removed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from aegis.support.lean import NamedTuple

__all__ = ["CODE", "KEY", "CacheFile", "CacheUse", "clear", "files", "prune", "remove", "use"]

KEY = "key"
CODE = ".code"
_HEX = frozenset("0123456789abcdef")
_NAME_CHARACTERS = 64


class CacheFile(NamedTuple):
    """A file of the cache; ``changed`` is its modification time in nanoseconds."""

    name: str
    size: int
    changed: int


class CacheUse(NamedTuple):
    """The number of entries and of files in a cache, and their bytes."""

    entries: int
    files: int
    bytes: int


def files(folder: int) -> tuple[list[CacheFile], list[str]]:
    """Return the files of the cache, and the names of other files. The key is neither."""
    own, other = [], []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if name != KEY and _is_own(name) and stat.S_ISREG(status.st_mode):
                own.append(CacheFile(name, status.st_size, status.st_mtime_ns))
            elif name != KEY:
                other.append(name)
    return own, sorted(other)


def _is_own(name: str) -> bool:
    entry = name.removesuffix(CODE)
    if len(entry) == _NAME_CHARACTERS:
        return _HEX.issuperset(entry)
    kind, _, rest = name.partition("-")
    number, _, random = rest.partition("-")
    return kind == "tmp" and number.isdecimal() and len(random) == 16 and _HEX.issuperset(random)


def use(folder: int) -> CacheUse:
    """Return the number and size of the entries."""
    own, _ = files(folder)
    entries = [file for file in own if len(file.name) == _NAME_CHARACTERS]
    return CacheUse(len(entries), len(own), sum(file.size for file in own))


def clear(folder: int) -> tuple[CacheUse, list[str]]:
    """Remove all entries; return their number and size, and the names of other files, which remain."""
    before = use(folder)
    own, other = files(folder)
    for file in own:
        remove(folder, file.name)
    return before, other


def prune(folder: int, limit: int, *, large: int, small: int) -> None:
    """Remove the oldest entries beyond ``limit`` bytes and beyond the numbers of ``large`` and ``small`` entries.

    Three quarters of the bytes are for large entries, which took seconds to compile: small ones never displace them.
    The newest entry of each kind always remains.
    """
    own, _ = files(folder)
    mapped = [file for file in own if file.name.endswith(CODE)]
    entries = {file.name.removesuffix(CODE) for file in mapped}
    others = [file for file in own if not file.name.endswith(CODE) and file.name not in entries]
    share = limit * 3 // 4
    for file in _beyond(mapped, large, share):
        remove(folder, file.name)
        remove(folder, file.name.removesuffix(CODE))
    for file in _beyond(others, small, limit - share):
        remove(folder, file.name)


def _beyond(found: Iterable[CacheFile], number: int, size: int) -> list[CacheFile]:
    """Return the files that are older than the newest ``number`` of them, or than the newest ``size`` bytes."""
    newest = sorted(found, key=lambda file: file.changed, reverse=True)
    total = 0
    for position, file in enumerate(newest):
        total += file.size
        if position >= number or (position and total > size):
            return newest[position:]
    return []


def remove(folder: int, name: str) -> None:
    """Remove a file, if it is there and this user may."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
