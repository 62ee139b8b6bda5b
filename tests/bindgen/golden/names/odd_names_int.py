# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``odd:names/int``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface

__all__ = ["INTERFACE", "Exports"]


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def int_(self) -> int: ...


_NAME = "odd:names/int"

INTERFACE = Interface(_NAME, functions={"int": Function((), "u8")})
