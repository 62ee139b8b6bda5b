# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:cli/stderr@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_io_streams import OUTPUT_STREAM, OutputStream
from aegis.wit.types import Function, Interface, Own

__all__ = ["INTERFACE", "OUTPUT_STREAM", "Host", "OutputStream"]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def get_stderr(self) -> OutputStream: ...


_NAME = "wasi:cli/stderr@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"get-stderr": Function((), Own(OUTPUT_STREAM))},
    types={"output-stream": OUTPUT_STREAM},
)
