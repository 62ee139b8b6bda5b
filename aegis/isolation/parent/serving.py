"""Requests that an isolated guest serves: the head travels as a message, the connection to the server as a descriptor.

The parent reads nothing of the connection here: whatever the worker writes to it reaches :mod:`aegis.serve`, which
checks it as data of a guest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.host.net.http.served_frames import MAX_DATA_BYTES
from aegis.isolation.protocol.channel import ProtocolError

if TYPE_CHECKING:
    import _socket

    from aegis.host.net.http.served_frames import ServedHead
    from aegis.isolation.parent.calling_store import CallingStore

__all__ = ["call_handler"]

_ENVELOPE_BYTES = 1 << 20
"""Bytes of frames without data that a worker may return besides a piece of a body: heads and trailers."""


def call_handler(store: CallingStore, head: ServedHead, connection: _socket.socket) -> bytes:
    """Have the worker of a store serve a request; return the bytes that the connection had no room for.

    The worker alone holds its end of the connection while the call runs, so the server sees the end of a worker.
    """
    fields = [text for entry in head.fields for text in entry]

    def serve() -> Any:
        store.ask(["connect"])  # the worker receives the next message with its descriptor
        descriptor = connection.fileno()
        message = ["serve", head.method, head.scheme, head.authority, head.target, fields]
        answer = store.ask(message, [descriptor])
        if type(answer) is not bytes or len(answer) > MAX_DATA_BYTES + _ENVELOPE_BYTES:
            raise store.worker_failed(ProtocolError("malformed rest of a response"))
        store.in_time()
        return answer

    turn = store.turn()
    assert turn is not None  # a guest thread may run guests
    rest: bytes = turn(serve)
    return rest
