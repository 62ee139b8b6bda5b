"""Requests that the guest of a worker serves, by a connection to the server that the parent passed."""

from __future__ import annotations

import _socket
from typing import Any

from aegis.host.net.http.served_frames import ServedHead
from aegis.sandbox import serving

__all__ = ["serve"]


def serve(run: Any, head: tuple[Any, ...], descriptor: int) -> bytes:
    """Have the guest of ``run`` serve a request; return the bytes that the connection had no room for."""
    method, scheme, authority, target, texts = head
    # Large texts may be views of shared memory, which the parent overwrites with its next message.
    fields = [(bytes(name), bytes(value)) for name, value in zip(texts[::2], texts[1::2], strict=True)]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
    try:
        return serving.serve(run, ServedHead(method, scheme, authority, target, fields), connection)
    finally:
        connection.close()
