# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/terminal-input@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.wit.types import Interface, Resource

__all__ = ["INTERFACE", "TERMINAL_INPUT", "Host", "TerminalInput"]


class TerminalInput(Protocol):
    """The resource ``terminal-input``."""


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:cli/terminal-input@0.2.12"

TERMINAL_INPUT = Resource("terminal-input", python=TerminalInput, owner=_NAME)

INTERFACE = Interface(_NAME, types={"terminal-input": TERMINAL_INPUT})
