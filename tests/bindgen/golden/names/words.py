# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``words``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface

__all__ = ["INTERFACE", "Exports"]


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def words(self) -> None: ...


_NAME = "words"

INTERFACE = Interface(_NAME, functions={"words": Function()})
