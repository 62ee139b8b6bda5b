# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/terminal-stdin@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_cli_terminal_input import TERMINAL_INPUT, TerminalInput
from aegis.wit.types import Function, Interface, Option, Own

__all__ = ["INTERFACE", "TERMINAL_INPUT", "Host", "TerminalInput"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_terminal_stdin(self) -> TerminalInput | None: ...


_NAME = "wasi:cli/terminal-stdin@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"get-terminal-stdin": Function((), Option(Own(TERMINAL_INPUT)))},
    types={"terminal-input": TERMINAL_INPUT},
)
