"""``wasi:http``: the requests that a guest sends, under the policy, and those that it serves.

The guest follows redirects itself.

``client`` sends a request to a server. ``handler`` is the next handler of a chain of components; without one the host
is the end of the chain, and sends the request as ``client`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.host.preview3.http_fields import message_fields_class
from aegis.host.preview3.http_messages import RequestTimeouts, StreamingRequest, StreamingResponse
from aegis.host.preview3.http_sending import send
from aegis.host.preview3.http_serving import ServedTask

if TYPE_CHECKING:
    import _socket

    from aegis.host.net.http.served_frames import ServedHead
    from aegis.host.preview3.http_sending import PendingResponse
    from aegis.host.wasi import Wasi

__all__ = ["implementation", "served_call"]


class _MessageTypes:
    """``wasi:http/types``."""

    def __init__(self, wasi: Wasi) -> None:
        self.Fields = message_fields_class(wasi)
        self.Request, self.Response, self.RequestOptions = StreamingRequest, StreamingResponse, RequestTimeouts


class _ClientFunctions:
    """``wasi:http/client`` and ``wasi:http/handler``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def send(self, request: StreamingRequest) -> PendingResponse:
        return send(self._wasi, request)

    def handle(self, request: StreamingRequest) -> PendingResponse:
        return send(self._wasi, request)


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _MessageTypes(wasi) if interface == "wasi:http/types" else _ClientFunctions(wasi)


def served_call(wasi: Wasi, head: ServedHead, connection: _socket.socket) -> ServedTask:
    """Return the call of ``handler`` for one request; ``connection`` is that to the server."""
    return ServedTask(wasi, head, connection)
