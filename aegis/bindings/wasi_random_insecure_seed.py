# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:random/insecure-seed@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, Tuple

__all__ = ["INTERFACE", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def insecure_seed(self) -> tuple[int, int]: ...


_NAME = "wasi:random/insecure-seed@0.2.12"

INTERFACE = Interface(_NAME, functions={"insecure-seed": Function((), Tuple(("u64", "u64")))})
