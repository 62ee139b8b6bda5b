"""The request that a guest serves through ``wasi:http/incoming-handler``, and the response that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types
from aegis.host.net.http.framing import stated_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.request_line import RequestLine
from aegis.host.net.http.served_exchange import ArrivingBody, LeavingResponse
from aegis.host.preview2.http_bodies import IncomingBody, OutgoingBody
from aegis.host.preview2.http_fields import Fields, received
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    import _socket

    from aegis.host.net.http.served_frames import ServedHead
    from aegis.host.wasi import Wasi

__all__ = ["IncomingRequest", "OutgoingResponse", "ResponseOutparam", "ServedCall"]


class IncomingRequest:
    """The resource ``incoming-request``."""

    def __init__(self, wasi: Wasi, head: ServedHead, body: ArrivingBody) -> None:
        self._wasi, self._items, self._body = wasi, head.fields, body
        self._line = RequestLine(wasi_http_types)
        self._line.fill(head.method, head.scheme, head.authority, head.target)
        self._consumed = False

    def method(self) -> Any:
        return self._line.method

    def path_with_query(self) -> str | None:
        return self._line.path

    def scheme(self) -> Any:
        return self._line.scheme

    def authority(self) -> str | None:
        return self._line.authority

    def headers(self) -> Fields:
        return received(self._wasi, self._items)

    def consume(self) -> IncomingBody:
        if self._consumed:
            raise Err(None)
        self._consumed = True
        return IncomingBody(self._wasi, self._body)


class OutgoingResponse:
    """The resource ``outgoing-response``."""

    def __init__(self, wasi: Wasi, headers: Fields) -> None:
        headers.immutable = True
        self._wasi, self._headers, self._status = wasi, headers, 200
        self.outgoing: OutgoingBody | None = None

    def status_code(self) -> int:
        return self._status

    def set_status_code(self, status_code: int) -> None:
        if not 100 <= status_code <= 999:
            raise Err(None)
        self._status = status_code

    def headers(self) -> Fields:
        return self._headers

    def body(self) -> OutgoingBody:
        if self.outgoing is not None:
            raise Err(None)
        try:
            length = stated_length(self._headers.items)
        except HttpFault:  # the answer is then an error
            length = None
        self.outgoing = OutgoingBody(self._wasi, length, "HTTP-response-body-size")
        return self.outgoing

    def send(self, leaving: LeavingResponse) -> None:
        """Send the head, and the body as the guest writes it."""
        try:
            leaving.respond(self._status, self._headers.items)
        except HttpFault:
            if self.outgoing is not None:
                self.outgoing.__drop__()
            return
        if self.outgoing is None:
            leaving.end(None)
        else:
            self.outgoing.length = leaving.length
            self.outgoing.attach(leaving)


class ResponseOutparam:
    """The resource ``response-outparam``. The guest can answer once, because ``set`` consumes it."""

    def __init__(self, leaving: LeavingResponse) -> None:
        self.leaving = leaving

    @staticmethod
    def set_(param: ResponseOutparam, response: Ok[OutgoingResponse] | Err[Any]) -> None:
        if isinstance(response, Ok):
            response.value.send(param.leaving)
        else:
            param.leaving.refuse(type(response.value).__name__.removeprefix("ErrorCode"))


class ServedCall:
    """One call of ``incoming-handler``: its arguments, and the state of its response."""

    def __init__(self, wasi: Wasi, head: ServedHead, connection: _socket.socket) -> None:
        self._body, self._leaving = ArrivingBody(connection), LeavingResponse(connection, head.method)
        self.arguments = IncomingRequest(wasi, head, self._body), ResponseOutparam(self._leaving)

    def finish(self) -> bytes:
        """End both directions, for resources that the guest keeps; return the bytes that were not sent yet."""
        self._body.close()
        self._leaving.over = True
        return self._leaving.rest()
