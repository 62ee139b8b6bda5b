# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``interface``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface

from .odd_names_words import A_, A
from .odd_names_words import HOST as ANY
from .odd_names_words import Host_ as Any_

__all__ = ["ANY", "A_", "INTERFACE", "A", "Any_", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def x(self, a: Any_) -> A: ...


_NAME = "interface"

INTERFACE = Interface(_NAME, functions={"x": Function((("a", ANY),), A_)}, types={"any": ANY, "a": A_})
