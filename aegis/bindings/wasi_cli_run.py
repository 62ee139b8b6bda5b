# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/run@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Function, Interface, Result

__all__ = ["INTERFACE", "Exports"]


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def run(self) -> None:
        """Raises ``Err[None]``."""


_NAME = "wasi:cli/run@0.2.12"

INTERFACE = Interface(_NAME, functions={"run": Function((), Result())})
