# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/environment@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, List, Option, Tuple

__all__ = ["INTERFACE", "Host"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_environment(self) -> list[tuple[str, str]]: ...

    def get_arguments(self) -> list[str]: ...

    def initial_cwd(self) -> str | None: ...


_NAME = "wasi:cli/environment@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={
        "get-environment": Function((), List(Tuple(("string", "string")))),
        "get-arguments": Function((), List("string")),
        "initial-cwd": Function((), Option("string")),
    },
)
