# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/terminal-output@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Interface, Resource

__all__ = ["INTERFACE", "TERMINAL_OUTPUT", "Host", "TerminalOutput"]


class TerminalOutput(Protocol):
    """The resource ``terminal-output``."""


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:cli/terminal-output@0.2.12"

TERMINAL_OUTPUT = Resource("terminal-output", python=TerminalOutput, owner=_NAME)

INTERFACE = Interface(_NAME, types={"terminal-output": TERMINAL_OUTPUT})
