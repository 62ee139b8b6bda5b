# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:random/random@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, List

__all__ = ["INTERFACE", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_random_bytes(self, len: int) -> bytes: ...

    def get_random_u64(self) -> int: ...


_NAME = "wasi:random/random@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"get-random-bytes": Function((("len", "u64"),), List("u8")), "get-random-u64": Function((), "u64")},
)
