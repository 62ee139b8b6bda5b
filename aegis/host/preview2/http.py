"""``wasi:http``: the requests that a guest makes, under the policy, and those that it serves.

The guest follows redirects itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types as types
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.preview2.http_bodies import IncomingBody, OutgoingBody
from aegis.host.preview2.http_fields import fields_class
from aegis.host.preview2.http_incoming import OutgoingResponse, ResponseOutparam, ServedCall
from aegis.host.preview2.http_outgoing import FutureIncomingResponse, OutgoingRequest, RequestOptions, send
from aegis.host.preview2.io import IoError
from aegis.wit.values import Err

if TYPE_CHECKING:
    import _socket

    from aegis.host.net.http.served_frames import ServedHead
    from aegis.host.wasi import Wasi

__all__ = ["implementation", "served_call"]


class _HttpTypes:
    """``wasi:http/types``."""

    def __init__(self, wasi: Wasi) -> None:
        self.Fields = fields_class(wasi)
        self.OutgoingRequest = lambda headers: OutgoingRequest(wasi, headers)
        self.OutgoingResponse = lambda headers: OutgoingResponse(wasi, headers)
        self.ResponseOutparam = ResponseOutparam
        self.RequestOptions = RequestOptions
        self.OutgoingBody = OutgoingBody
        self.IncomingBody = IncomingBody

    def http_error_code(self, err: IoError) -> Any:
        name = type(err.code).__name__
        return err.code if name.startswith("ErrorCode") and getattr(types, name, None) is type(err.code) else None


class _Handler:
    """``wasi:http/outgoing-handler``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def handle(self, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
        from aegis.host.preview2.http_errors import error_code

        try:
            return send(self._wasi, request, options)
        except HttpFault as fault:
            raise Err(error_code(fault)) from None


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Handler(wasi) if interface == "wasi:http/outgoing-handler" else _HttpTypes(wasi)


def served_call(wasi: Wasi, head: ServedHead, connection: _socket.socket) -> ServedCall:
    """Return the call of ``incoming-handler`` for one request; ``connection`` is that to the server."""
    return ServedCall(wasi, head, connection)
