# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``acme:values/garden@0.1.0``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, Own, Tuple

from .acme_values_owner import POT as JAR
from .acme_values_owner import SHELF, VESSEL, Shelf, Vessel
from .acme_values_owner import Pot as Jar

__all__ = ["INTERFACE", "JAR", "SHELF", "VESSEL", "Host", "Jar", "Shelf", "Vessel"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def grow(self, on: Shelf) -> tuple[Jar, Vessel]: ...


_NAME = "acme:values/garden@0.1.0"

INTERFACE = Interface(
    _NAME,
    functions={"grow": Function((("on", SHELF),), Tuple((Own(JAR), Own(VESSEL))))},
    types={"shelf": SHELF, "jar": JAR, "vessel": VESSEL},
)
