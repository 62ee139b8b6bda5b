"""The libraries of the extra ``http``, without which a guest's HTTP requests fail."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["log_missing_library", "missing_library"]

_PACKAGE, _TYPES = "wasi:http/", "wasi:http/types"
"""A guest that imports any other interface of the package sends requests."""
_logged: set[str] = set()


def missing_library() -> str | None:
    """Return the message for a system without the libraries for HTTP, ``None`` with them."""
    from importlib.util import find_spec

    if find_spec("h11") is None or find_spec("h2") is None:
        return "HTTP needs the extra http: pip install 'aegis-wasm[http]'"
    return None


def log_missing_library(imports: Collection[str]) -> None:
    """Log once that the HTTP requests of a component with these ``imports`` fail without the libraries.

    The guest gets the message in its error, and few guests print it. A Python warning could be turned into an error.
    """
    missing = missing_library()
    if missing is None or missing in _logged:
        return
    if not any(name.startswith(_PACKAGE) and name.partition("@")[0] != _TYPES for name in imports):
        return
    _logged.add(missing)
    from logging import getLogger  # imported only when needed, to keep start-up fast

    getLogger("aegis").warning("%s; without it, each HTTP request of a guest fails", missing)
