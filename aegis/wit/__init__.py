"""The types of WIT, their Python names and classes, and readers and writers for WIT, WAVE and JSON.

``from aegis.wit import to_json, from_json`` converts values by their WIT type.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from aegis.wit.json_read import from_json as from_json
    from aegis.wit.json_write import to_json as to_json

__all__ = ["from_json", "to_json"]

_HOMES = {"from_json": "aegis.wit.json_read", "to_json": "aegis.wit.json_write"}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use; most programs that use WIT types need no JSON."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aegis.wit' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
