# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:filesystem/preopens@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_filesystem_types import DESCRIPTOR, Descriptor
from aegis.wit.types import Function, Interface, List, Own, Tuple

__all__ = ["DESCRIPTOR", "INTERFACE", "Descriptor", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_directories(self) -> list[tuple[Descriptor, str]]: ...


_NAME = "wasi:filesystem/preopens@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"get-directories": Function((), List(Tuple((Own(DESCRIPTOR), "string"))))},
    types={"descriptor": DESCRIPTOR},
)
