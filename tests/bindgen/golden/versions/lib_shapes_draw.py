# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``lib:shapes/draw@1.9.0``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, Result, Tuple

from .lib_shapes_area_1_9_0 import POINT, Point
from .lib_shapes_area_1_9_0 import POINT as CORNER
from .lib_shapes_area_1_9_0 import Point as Corner

__all__ = ["CORNER", "INTERFACE", "POINT", "Corner", "Exports", "Point"]


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def draw(self, line: tuple[Point, Corner]) -> None:
        """Raises ``Err[Point]``."""


_NAME = "lib:shapes/draw@1.9.0"

INTERFACE = Interface(
    _NAME,
    functions={"draw": Function((("line", Tuple((POINT, CORNER))),), Result(None, POINT))},
    types={"point": POINT, "corner": CORNER},
)
