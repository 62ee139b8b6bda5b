# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:random/insecure@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, List

__all__ = ["INTERFACE", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_insecure_random_bytes(self, len: int) -> bytes: ...

    def get_insecure_random_u64(self) -> int: ...


_NAME = "wasi:random/insecure@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={
        "get-insecure-random-bytes": Function((("len", "u64"),), List("u8")),
        "get-insecure-random-u64": Function((), "u64"),
    },
)
