# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/stdin@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_io_streams import INPUT_STREAM, InputStream
from aegis.wit.types import Function, Interface, Own

__all__ = ["INPUT_STREAM", "INTERFACE", "Host", "InputStream"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_stdin(self) -> InputStream: ...


_NAME = "wasi:cli/stdin@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"get-stdin": Function((), Own(INPUT_STREAM))},
    types={"input-stream": INPUT_STREAM},
)
