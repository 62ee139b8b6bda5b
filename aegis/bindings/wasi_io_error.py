# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:io/error@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Borrow, Function, Interface, Resource

__all__ = ["ERROR", "INTERFACE", "Error", "Host"]


class Error(Protocol):
    """The resource ``error``."""

    def to_debug_string(self) -> str: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:io/error@0.2.12"

ERROR = Resource("error", python=Error, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={"[method]error.to-debug-string": Function((("self", Borrow(ERROR)),), "string")},
    types={"error": ERROR},
)
