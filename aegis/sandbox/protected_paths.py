"""What the filesystem grants of a runtime must not reach: the compile cache, and the code that Python imports."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from aegis.engine.compile.cache import Cache
from aegis.host.files.protected import Protected

__all__ = ["import_folders", "protected_from_grants"]

_CACHE = "the cache of compiled code, which decides what later runs execute"
_ELSEWHERE = "grant a subdirectory, or give the cache another place with XDG_CACHE_HOME"
_OFF = f"{_ELSEWHERE}, or switch it off with --no-cache or cache=False"
_CODE = "code that Aegis runs on: a guest could write what the next run executes"
_READING = "grant a subdirectory that holds no code, or grant it for reading only"
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


def import_folders() -> list[str]:
    """Return the absolute paths that Python imports from; what is not text, Python ignores too.

    A relative one is left out where the working directory was deleted: nothing can be imported from there.
    """
    found: dict[str, None] = {}
    for entry in filter(lambda entry: isinstance(entry, str | os.PathLike), sys.path):
        with contextlib.suppress(FileNotFoundError):
            found[os.path.abspath(os.fsdecode(entry))] = None
    return list(found)


def _imported() -> Iterator[Protected]:
    """Yield the code that Aegis runs on: the interpreter, the folders of Python's modules, Aegis and the engine.

    A program often keeps its data in a folder beside its modules, so what lies in such a folder may be granted. What
    lies in a package that is imported, in the standard library or in a virtual environment may not.
    """
    entries = import_folders()
    whole = [os.path.join(entry, package) for entry in entries for package in _PACKAGES]
    whole += [os.path.join(entry, "__pycache__") for entry in entries]  # Python prefers what is there to the source
    whole += [os.path.dirname(os.path.abspath(os.__file__))]
    whole += [entry for entry in entries if os.path.basename(entry) in ("site-packages", "dist-packages")]
    if sys.prefix != sys.base_prefix:
        whole.append(sys.prefix)  # a virtual environment; another prefix may be /usr, which holds more than code
    above = tuple(folder + os.sep for folder in whole)
    whole += [folder for folder in _packages() if not folder.startswith(above)]
    for path in filter(os.path.isdir, dict.fromkeys(whole)):
        yield Protected(path=path, reason=_CODE, fixed=True, remedy=_READING)
    user = _user_site()
    if user is not None:
        yield Protected(path=user, reason=_CODE, remedy=_READING)
    for path in filter(os.path.exists, (*entries, sys.prefix, sys.base_prefix, sys.executable or sys.prefix)):
        yield Protected(path=path, reason=_CODE, inside=False, fixed=True, remedy=_READING)


def _packages() -> Iterator[str]:
    """Yield the folders of the top-level packages that this process has imported."""
    for name, module in list(sys.modules.items()):
        if "." not in name:
            for folder in getattr(module, "__path__", None) or ():
                if isinstance(folder, str):
                    yield os.path.abspath(folder)


def _user_site() -> str | None:
    """Return the folder from which Python imports at its start, once it exists; ``None`` where it is switched off."""
    site = sys.modules.get("site")
    return getattr(site, "USER_SITE", None) if getattr(site, "ENABLE_USER_SITE", False) else None
