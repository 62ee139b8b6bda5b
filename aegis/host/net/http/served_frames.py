"""Frames on the connection between a served guest and the server: bodies, the response's head, and ends.

The server is the embedder's process; the guest runs on another of its threads, or in a worker. A frame is its kind, one
byte, the length of its payload, 32 bits little-endian, and the payload. The head of a request does not pass here: it is
an argument of the call. A connection that closes before :data:`END` was cut off.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NamedTuple

from aegis.host.net.http.message import Fields

__all__ = [
    "DATA",
    "END",
    "FAULT",
    "HEAD",
    "MAX_DATA_BYTES",
    "FrameError",
    "ServedFrames",
    "ServedHead",
    "frame",
    "pack_fields",
    "unpack_fields",
]

DATA, END, HEAD, FAULT = b"D", b"E", b"H", b"F"
"""A piece of the body; its end, with the trailers; the response's head, its status before its fields; in place of a
head, the name of the error that the guest answered with."""
MAX_DATA_BYTES = 65536
"""Bytes of a body in one frame."""
_PREFIX, _COUNT = Struct("<cI"), Struct("<I")


class ServedHead(NamedTuple):
    """The head of a request as the guest sees it. ``scheme`` and ``authority`` may be unknown."""

    method: str
    scheme: str | None
    authority: str | None
    target: str
    fields: Fields


class FrameError(Exception):
    """The other side sent a malformed frame, or one that is too long."""


def frame(kind: bytes, payload: bytes) -> bytes:
    """Return an encoded frame."""
    return _PREFIX.pack(kind, len(payload)) + payload


def pack_fields(fields: Fields) -> bytes:
    """Return encoded fields: the length of each name and value, with its bytes."""
    return b"".join(_COUNT.pack(len(text)) + text for entry in fields for text in entry)


def unpack_fields(payload: bytes) -> Fields:
    """Return the fields of a payload; raise :class:`FrameError` if it is malformed."""
    texts: list[bytes] = []
    at = 0
    try:
        while at < len(payload):
            end = at + _COUNT.size + _COUNT.unpack_from(payload, at)[0]
            if end > len(payload):
                raise FrameError("malformed fields")
            texts.append(payload[at + _COUNT.size : end])
            at = end
    except error:
        raise FrameError("malformed fields") from None
    if len(texts) % 2:
        raise FrameError("malformed fields")
    return list(zip(texts[::2], texts[1::2], strict=True))


class ServedFrames:
    """Splits received bytes into frames. A frame without data has at most ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next(self) -> tuple[bytes, bytes] | None:
        """Return the kind and payload of the next frame, ``None`` until it is complete."""
        buffer = self._buffer
        if len(buffer) < _PREFIX.size:
            return None
        kind, length = _PREFIX.unpack_from(buffer)
        if length > (MAX_DATA_BYTES if kind == DATA else self._most):
            raise FrameError(f"a frame of {length:,} bytes")
        end = _PREFIX.size + length
        if len(buffer) < end:
            return None
        payload = bytes(buffer[_PREFIX.size : end])
        del buffer[:end]
        return kind, payload
