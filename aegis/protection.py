"""What the filesystem grants of a runtime must not reach: the compile cache, and the code that Python imports."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from aegis.engine.cache import Cache
from aegis.host import Protected

__all__ = ["protected_from_grants"]

_CACHE = "the cache of compiled code, which decides what later runs execute"
_ELSEWHERE = "grant a subdirectory, or give the cache another place with XDG_CACHE_HOME"
_OFF = f"{_ELSEWHERE}, or switch it off with --no-cache or cache=False"
_CODE = "a folder that Python imports code from"
_PACKAGES = ("aegis", "wasmtime")


def protected_from_grants(cache: Cache | None) -> tuple[Protected, ...]:
    """Return what no grant may reach, for a runtime that uses ``cache``.

    A guest that can write to a cache folder plants native code and the key that vouches for it; one that can read
    the key can make such code for another guest to plant. The user's own cache folder is protected against writing
    also where this runtime uses another one or none, because later runs use it.
    """
    found = list(_imported())
    used, usual = None if cache is None else cache.folder, Cache().folder
    if used is not None:
        # The key is named besides its folder, for a hard link or a bind mount gives it a name elsewhere.
        for path in (used, os.path.join(used, "key")):
            found.append(Protected(path=path, reason=_CACHE, readable=False, remedy=_OFF))
    if usual is not None and usual != used:
        found.append(Protected(path=usual, reason=_CACHE, remedy=_ELSEWHERE))
    return tuple(found)


def _imported() -> Iterator[Protected]:
    """Yield the folders of Python's modules; of Aegis and the engine also what lies in them.

    A program often keeps its data in a folder beside its modules, so what lies in another folder may be granted.
    """
    remedy = "grant a subdirectory, or grant it for reading only"
    for entry in dict.fromkeys(map(os.path.abspath, sys.path)):
        if os.path.isdir(entry):
            yield Protected(path=entry, reason=_CODE, inside=False, fixed=True, remedy=remedy)
        for package in _PACKAGES:
            folder = os.path.join(entry, package)
            if os.path.isdir(folder):
                yield Protected(path=folder, reason=_CODE, fixed=True, remedy=remedy)
