# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``acme:values/garden@0.1.0``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, Own, Tuple

from .acme_values_owner_exports import POT as JAR
from .acme_values_owner_exports import SHELF, VESSEL, Shelf, Vessel
from .acme_values_owner_exports import Pot as Jar

__all__ = ["INTERFACE", "JAR", "SHELF", "VESSEL", "Exports", "Jar", "Shelf", "Vessel"]


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def grow(self, on: Shelf) -> tuple[Jar, Vessel]: ...


_NAME = "acme:values/garden@0.1.0"

INTERFACE = Interface(
    _NAME,
    functions={"grow": Function((("on", SHELF),), Tuple((Own(JAR), Own(VESSEL))))},
    types={"shelf": SHELF, "jar": JAR, "vessel": VESSEL},
)
