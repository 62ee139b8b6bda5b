# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``lib:shapes/area@2.0.0-rc.1``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aegis.wit.types import Function, Interface, List, Record

__all__ = ["INTERFACE", "POINT", "Host", "Point"]


@dataclass(frozen=True, slots=True)
class Point:
    """The record ``point``."""

    x: float
    y: float


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def area(self, of: list[Point]) -> float: ...


_NAME = "lib:shapes/area@2.0.0-rc.1"

POINT = Record("point", (("x", "f64"), ("y", "f64")), python=Point, owner=_NAME)

INTERFACE = Interface(_NAME, functions={"area": Function((("of", List(POINT)),), "f64")}, types={"point": POINT})
