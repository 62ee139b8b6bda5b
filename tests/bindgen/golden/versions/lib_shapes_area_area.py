# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``lib-shapes:area/area``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface

__all__ = ["INTERFACE", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def area(self) -> None: ...


_NAME = "lib-shapes:area/area"

INTERFACE = Interface(_NAME, functions={"area": Function()})
