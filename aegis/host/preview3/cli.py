"""``wasi:cli``: arguments, environment, exit, the standard streams and terminals."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from aegis.bindings.wasi_cli_types_0_3 import ErrorCode
from aegis.host.command_line import CommandLine
from aegis.host.preview3.streams import receive, source
from aegis.host.standard_streams import InputReader, OutputWriter

if TYPE_CHECKING:
    from aegis.host.preview3.streams import GivenStream
    from aegis.host.stdio import StandardOutput
    from aegis.host.wasi import Wasi
    from aegis.values import Promise

__all__ = ["implementation"]

_CODES = {errno.EPIPE: ErrorCode.PIPE, errno.EILSEQ: ErrorCode.ILLEGAL_BYTE_SEQUENCE}


def _code_of(error: OSError) -> ErrorCode:
    return _CODES.get(error.errno or 0, ErrorCode.IO)


class _CliFunctions(CommandLine):
    """Every interface of ``wasi:cli`` but those with the standard streams, and ``run``."""

    def get_initial_cwd(self) -> None:
        return None


class _StdinFunctions:
    """``wasi:cli/stdin``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def read_via_stream(self) -> tuple[object, Promise]:
        return source(InputReader(self._wasi.grants.stdio.stdin, self._wasi.scope), _code_of)


class _OutputFunctions:
    """``wasi:cli/stdout`` and ``wasi:cli/stderr``."""

    def __init__(self, wasi: Wasi, stream: StandardOutput) -> None:
        self._wasi, self._stream = wasi, stream

    def write_via_stream(self, data: GivenStream) -> Promise:
        return receive(data, OutputWriter(self._stream, self._wasi.scope), _code_of)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    name = interface.rpartition("/")[2]
    if name == "stdin":
        return _StdinFunctions(wasi)
    if name in ("stdout", "stderr"):
        return _OutputFunctions(wasi, getattr(wasi.grants.stdio, name))
    return _CliFunctions(wasi)
