# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/terminal-stderr@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_cli_terminal_output import TERMINAL_OUTPUT, TerminalOutput
from aegis.wit.types import Function, Interface, Option, Own

__all__ = ["INTERFACE", "TERMINAL_OUTPUT", "Host", "TerminalOutput"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_terminal_stderr(self) -> TerminalOutput | None: ...


_NAME = "wasi:cli/terminal-stderr@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"get-terminal-stderr": Function((), Option(Own(TERMINAL_OUTPUT)))},
    types={"terminal-output": TERMINAL_OUTPUT},
)
