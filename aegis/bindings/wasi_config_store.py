# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:config/store@0.2.0-rc.1``.

Configuration by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.wit.types import Function, Interface, List, Option, Result, Tuple, Variant
from aegis.wit.values import Err

__all__ = ["ERROR", "INTERFACE", "Error", "ErrorIo", "ErrorUpstream", "Host"]


@dataclass(frozen=True, slots=True)
class ErrorUpstream:
    """The source behind the store failed; what it said."""

    value: str


@dataclass(frozen=True, slots=True)
class ErrorIo:
    """Reading failed; how."""

    value: str


Error: TypeAlias = ErrorUpstream | ErrorIo
"""Why configuration could not be read."""


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get(self, key: str) -> str | Err[Error] | None:
        """Return the value of a key, none if there is no such key."""

    def get_all(self) -> list[tuple[str, str]] | Err[Error]:
        """Return all keys with their values."""


_NAME = "wasi:config/store@0.2.0-rc.1"

ERROR = Variant("error", (("upstream", "string"), ("io", "string")), python=(ErrorUpstream, ErrorIo), owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "get": Function((("key", "string"),), Result(Option("string"), ERROR)),
        "get-all": Function((), Result(List(Tuple(("string", "string"))), ERROR)),
    },
    types={"error": ERROR},
)
