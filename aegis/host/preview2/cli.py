"""``wasi:cli``: arguments, environment, exit, the standard streams and terminals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aegis.host.command_line import CommandLine
from aegis.host.preview2.io import Failed, InputStream, IoError, OutputStream
from aegis.host.standard_streams import InputReader, OutputWriter

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi
    from aegis.values import Interest

__all__ = ["implementation"]


def _failed(name: str, error: OSError) -> Failed:
    """Return the failure of a standard stream; ``filesystem-error-code`` of ``wasi:filesystem`` returns its code."""
    from aegis.host.preview2.filesystem_errors import code_of  # imported late: most streams never fail

    return Failed(IoError(f"{name}: {os.strerror(error.errno or 0)}", code_of(error)))


class _Stdin(InputStream):
    def __init__(self, wasi: Wasi, reader: InputReader) -> None:
        super().__init__(wasi)
        self._reader = reader

    def take(self, count: int) -> bytes | None:
        try:
            return self._reader.take(count)
        except OSError as error:
            raise _failed("stdin", error) from None

    def ready(self) -> bool:
        return self._reader.ready()

    def interest(self) -> Interest:
        return self._reader.interest()


class _Stdout(OutputStream):
    def __init__(self, wasi: Wasi, writer: OutputWriter) -> None:
        super().__init__(wasi)
        self._writer = writer

    def room(self) -> int:
        return self._writer.room()

    def give(self, data: bytes) -> None:
        try:
            self._writer.give(data)
        except OSError as error:
            raise _failed(self._writer.name, error) from None

    def interest(self) -> Interest:
        return self._writer.interest()


class _Cli(CommandLine):
    """Every interface of ``wasi:cli`` but ``run``."""

    def initial_cwd(self) -> None:
        return None

    def get_stdin(self) -> InputStream:
        return _Stdin(self.wasi, InputReader(self.wasi.grants.stdio.stdin, self.wasi.scope))

    def get_stdout(self) -> OutputStream:
        return _Stdout(self.wasi, OutputWriter(self.wasi.grants.stdio.stdout, self.wasi.scope))

    def get_stderr(self) -> OutputStream:
        return _Stdout(self.wasi, OutputWriter(self.wasi.grants.stdio.stderr, self.wasi.scope))


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Cli(wasi)
