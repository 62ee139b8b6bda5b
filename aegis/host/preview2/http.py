"""``wasi:http``: the requests that a guest makes, under the policy. The guest follows redirects itself.

Incoming requests exist only for a guest that exports a handler, which Aegis does not call yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types as types
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.preview2.http_bodies import IncomingBody, OutgoingBody
from aegis.host.preview2.http_fields import Fields, fields_class
from aegis.host.preview2.http_outgoing import FutureIncomingResponse, OutgoingRequest, RequestOptions, send
from aegis.host.preview2.io import IoError
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]


class OutgoingResponse:
    """The resource ``outgoing-response``. A guest may make one, but only a caller of its handler could take it."""

    def __init__(self, headers: Fields) -> None:
        headers.immutable = True
        self._headers, self._status = headers, 200

    def status_code(self) -> int:
        return self._status

    def set_status_code(self, status_code: int) -> None:
        if not 100 <= status_code <= 999:
            raise Err(None)
        self._status = status_code

    def headers(self) -> Fields:
        return self._headers

    def body(self) -> OutgoingBody:
        raise Err(None)


class ResponseOutparam:
    """The resource ``response-outparam``, which only a caller of a guest's handler makes."""

    @staticmethod
    def set_(param: object, response: object) -> None:
        """Do nothing: no guest can have a handle of one."""


class _HttpTypes:
    """``wasi:http/types``."""

    def __init__(self, wasi: Wasi) -> None:
        self.Fields = fields_class(wasi)
        self.OutgoingRequest = lambda headers: OutgoingRequest(wasi, headers)
        self.OutgoingResponse = OutgoingResponse
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
