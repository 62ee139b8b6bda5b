"""Host paths that no filesystem grant of a runtime may reach: the compile cache, and the code that Python imports."""

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
    """Return the paths that no grant may reach, for a runtime that uses ``cache``.

    A guest that can write to a cache directory could plant native code and the key that authenticates it. A guest that
    can read the key could make such code for another guest to plant. The user's default cache directory is protected
    against writing even if this runtime uses another one or none, because later runs will use it.
    """
    found = list(_imported())
    used, usual = None if cache is None else cache.folder, Cache().folder
    if used is not None:
        # List the key besides its directory: a hard link or a bind mount can give it a name elsewhere.
        for path in (used, os.path.join(used, "key")):
            found.append(Protected(path=path, reason=_CACHE, readable=False, remedy=_OFF))
    if usual is not None and usual != used:
        found.append(Protected(path=usual, reason=_CACHE, remedy=_ELSEWHERE))
    return tuple(found)


def import_folders() -> list[str]:
    """Return the absolute paths that Python imports from. Entries that are not paths are skipped, as Python skips them.

    A relative path is skipped if the working directory was deleted, because nothing can be imported from there.
    """
    found: dict[str, None] = {}
    for entry in filter(lambda entry: isinstance(entry, str | os.PathLike), sys.path):
        with contextlib.suppress(FileNotFoundError):
            found[os.path.abspath(os.fsdecode(entry))] = None
    return list(found)


def _imported() -> Iterator[Protected]:
    """Yield the code that Aegis runs on: the interpreter, the directories of Python modules, Aegis and the engine.

    Programs often keep data beside their modules, so a grant may name a directory inside an entry of ``sys.path``. It
    may not name one inside an imported package, the standard library or a virtual environment.
    """
    entries = import_folders()
    whole = [os.path.join(entry, package) for entry in entries for package in _PACKAGES]
    whole += [os.path.join(entry, "__pycache__") for entry in entries]  # Python runs this code instead of the source
    whole += [os.path.dirname(os.path.abspath(os.__file__))]
    whole += [entry for entry in entries if os.path.basename(entry) in ("site-packages", "dist-packages")]
    if sys.prefix != sys.base_prefix:
        whole.append(sys.prefix)  # a virtual environment; other prefixes, such as /usr, have more than code
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
    """Yield the directories of the top-level packages that this process has imported."""
    for name, module in list(sys.modules.items()):
        if "." not in name:
            for folder in getattr(module, "__path__", None) or ():
                if isinstance(folder, str):
                    yield os.path.abspath(folder)


def _user_site() -> str | None:
    """Return the user's site directory, from which Python imports at start-up if it exists; ``None`` if disabled."""
    site = sys.modules.get("site")
    return getattr(site, "USER_SITE", None) if getattr(site, "ENABLE_USER_SITE", False) else None
