# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/exit@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, Result
from aegis.wit.values import Err, Ok

__all__ = ["INTERFACE", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def exit(self, status: Ok[None] | Err[None]) -> None: ...

    def exit_with_code(self, status_code: int) -> None: ...


_NAME = "wasi:cli/exit@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"exit": Function((("status", Result()),)), "exit-with-code": Function((("status-code", "u8"),))},
)
