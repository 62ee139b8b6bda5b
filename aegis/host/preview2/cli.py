"""``wasi:cli``: arguments, environment, exit, the standard streams and terminals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from aegis.errors import GuestExit
from aegis.host.preview2.io import CHUNK_BYTES, Ended, Failed, InputStream, Interest, IoError, OutputStream
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.preview2 import Wasi
    from aegis.host.stdio import StandardInput, StandardOutput

__all__ = ["implementation"]

_PIPE_BUFFER_BYTES = 4096  # a pipe that is ready takes so much at once (PIPE_BUF); a longer write could block


def _failed(name: str, error: OSError) -> Failed:
    """Return the failure of a standard stream; ``filesystem-error-code`` of ``wasi:filesystem`` returns its code."""
    from aegis.host.preview2.filesystem_errors import code_of  # imported late: most streams never fail

    return Failed(IoError(f"{name}: {os.strerror(error.errno or 0)}", code_of(error)))


class _Stdin(InputStream):
    def __init__(self, wasi: Wasi, source: StandardInput) -> None:
        super().__init__(wasi)
        self._source = source

    def take(self, count: int) -> bytes | None:
        if not self.ready():
            return None
        try:
            data = self._source.read(count)
        except OSError as error:
            raise _failed("stdin", error) from None
        if not data:
            raise Ended
        return data

    def ready(self) -> bool:
        descriptor = self._source.awaited()
        return descriptor is None or bool(self.wasi.scope.wait(0, read=(descriptor,))[0])

    def interest(self) -> Interest:
        descriptor = self._source.awaited()
        return Interest() if descriptor is None else Interest(read=(descriptor,))


class _Stdout(OutputStream):
    def __init__(self, wasi: Wasi, sink: StandardOutput) -> None:
        super().__init__(wasi)
        self._sink = sink

    def room(self) -> int:
        descriptor = self._sink.awaited()
        if descriptor is None:
            return CHUNK_BYTES
        return _PIPE_BUFFER_BYTES if self.wasi.scope.wait(0, write=(descriptor,))[1] else 0

    def give(self, data: bytes) -> None:
        try:
            self._sink.write(data)
        except OSError as error:
            raise _failed(self._sink.name, error) from None

    def interest(self) -> Interest:
        descriptor = self._sink.awaited()
        return Interest() if descriptor is None else Interest(write=(descriptor,))


class TerminalInput:
    """The resource ``terminal-input``, whose existence says that the stream is a terminal."""


class TerminalOutput:
    """The resource ``terminal-output``, as :class:`TerminalInput`."""


class _Cli:
    """Every interface of ``wasi:cli`` but ``run``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def get_environment(self) -> list[tuple[str, str]]:
        return list(self._wasi.grants.environment)

    def get_arguments(self) -> list[str]:
        """Return the arguments; bytes that are not UTF-8, which no string of WIT can hold, become U+FFFD."""
        return [argument.decode("utf-8", "replace") for argument in self._wasi.grants.args]

    def initial_cwd(self) -> None:
        return None

    def exit(self, status: Ok[None] | Err[None]) -> NoReturn:
        raise GuestExit(0 if isinstance(status, Ok) else 1)

    def exit_with_code(self, status_code: int) -> NoReturn:
        raise GuestExit(status_code)

    def get_stdin(self) -> InputStream:
        return _Stdin(self._wasi, self._wasi.grants.stdio.stdin)

    def get_stdout(self) -> OutputStream:
        return _Stdout(self._wasi, self._wasi.grants.stdio.stdout)

    def get_stderr(self) -> OutputStream:
        return _Stdout(self._wasi, self._wasi.grants.stdio.stderr)

    def get_terminal_stdin(self) -> TerminalInput | None:
        return TerminalInput() if self._wasi.grants.stdio.stdin.is_terminal() else None

    def get_terminal_stdout(self) -> TerminalOutput | None:
        return TerminalOutput() if self._wasi.grants.stdio.stdout.is_terminal() else None

    def get_terminal_stderr(self) -> TerminalOutput | None:
        return TerminalOutput() if self._wasi.grants.stdio.stderr.is_terminal() else None


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Cli(wasi)
