"""The functions of ``wasi:cli`` that every version of WASI for components has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from aegis.errors import GuestExit
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["CommandLine", "TerminalInput", "TerminalOutput"]


class TerminalInput:
    """The resource ``terminal-input``, whose existence says that the stream is a terminal."""


class TerminalOutput:
    """The resource ``terminal-output``, as :class:`TerminalInput`."""


class CommandLine:
    """Arguments, environment, exit and terminals."""

    def __init__(self, wasi: Wasi) -> None:
        self.wasi = wasi

    def get_environment(self) -> list[tuple[str, str]]:
        return list(self.wasi.grants.environment)

    def get_arguments(self) -> list[str]:
        """Return the arguments; bytes that are not UTF-8, which no string of WIT can hold, become U+FFFD."""
        return [argument.decode("utf-8", "replace") for argument in self.wasi.grants.args]

    def exit(self, status: Ok[None] | Err[None]) -> NoReturn:
        raise GuestExit(0 if isinstance(status, Ok) else 1)

    def exit_with_code(self, status_code: int) -> NoReturn:
        raise GuestExit(status_code)

    def get_terminal_stdin(self) -> TerminalInput | None:
        return TerminalInput() if self.wasi.grants.stdio.stdin.is_terminal() else None

    def get_terminal_stdout(self) -> TerminalOutput | None:
        return TerminalOutput() if self.wasi.grants.stdio.stdout.is_terminal() else None

    def get_terminal_stderr(self) -> TerminalOutput | None:
        return TerminalOutput() if self.wasi.grants.stdio.stderr.is_terminal() else None
