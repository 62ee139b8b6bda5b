"""Replace the core modules that a component embeds, and keep everything else of its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aegis.wasm.binary import BinaryReader, Malformed, is_component
from aegis.wasm.rewrite import leb

__all__ = ["with_modules"]

_MODULE, _COMPONENT = 1, 4
_MAX_DEPTH = 64


def with_modules(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return a module or component with each core module replaced by ``change(module)``.

    ``change`` is called in the order of the modules' bytes, which is that of
    :attr:`aegis.wasm.definitions.ComponentBinary.modules`. Raise :class:`~aegis.wasm.binary.Malformed` for a component
    that cannot be read.
    """
    return b"".join(_changed(data, change, 0)) if is_component(data) else change(data)


def _changed(data: bytes, change: Callable[[bytes], bytes], depth: int) -> Iterator[bytes]:
    if depth > _MAX_DEPTH:
        raise Malformed(f"components are nested deeper than {_MAX_DEPTH}")
    yield data[:8]
    reader = BinaryReader(data, 8)
    while reader.at < reader.end:
        begin, number, size = reader.at, reader.byte(), reader.leb()
        start = reader.at
        reader.skip(size)
        if number in (_MODULE, _COMPONENT):
            inner = data[start : reader.at]
            new = change(inner) if number == _MODULE else b"".join(_changed(inner, change, depth + 1))
            yield bytes((number,)) + leb(len(new)) + new
        else:
            yield data[begin : reader.at]
