"""HTTP/1.1 on h11: a state machine that turns events into bytes and back."""

from __future__ import annotations

from typing import Any

import h11

from aegis.host.http.faults import HttpFault
from aegis.host.http.message import Fields, Head, Request

__all__ = ["Http1"]


class Http1:
    """The client's side of one exchange."""

    def __init__(self, request: Request, field_bytes: int) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=field_bytes)
        self.head: Head | None = None
        self.trailers: Fields | None = None
        self.ended = self._closed = False
        headers = [(b"host", request.authority.encode()), *request.fields]
        names = {name.lower() for name, _ in request.fields}
        self._chunked = request.has_body and b"content-length" not in names
        if self._chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        self._outgoing = self._send(h11.Request(method=request.method, target=request.target, headers=headers))
        if not request.has_body:
            self._outgoing += self._send(h11.EndOfMessage())

    def _send(self, event: Any) -> bytes:
        try:
            return bytes(self._connection.send(event) or b"")
        except h11.LocalProtocolError as error:
            code = "HTTP-request-body-size" if "Content-Length" in str(error) else "HTTP-protocol-error"
            raise HttpFault(code) from None

    # -- sending -------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the bytes to send now."""
        data, self._outgoing = self._outgoing, b""
        return data

    def room(self) -> int:
        """How much of the body may be given now, as far as the protocol is concerned."""
        return 65536

    def body(self, data: bytes) -> None:
        """Give a piece of the body."""
        self._outgoing += self._send(h11.Data(data=data))

    def end(self, trailers: Fields | None) -> None:
        """End the body; trailers go only where its length was not stated before."""
        if trailers and not self._chunked:
            raise HttpFault("HTTP-protocol-error")
        self._outgoing += self._send(h11.EndOfMessage(headers=trailers or []))

    # -- receiving -----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes that came; none at the end of the connection."""
        if self.ended:
            return  # nothing that could follow was asked for
        self._closed = not data
        if self._closed and self.head is None:
            raise HttpFault("HTTP-response-incomplete")
        try:
            self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise _fault(error) from None

    def next(self) -> bytes | None:
        """Return a piece of the body, or ``None`` when more bytes must come, or the message has ended."""
        while not self.ended:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                raise _fault(error) from None
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._closed:
                    raise HttpFault("HTTP-response-incomplete")
                return None
            if isinstance(event, h11.Response):
                self.head = Head(event.status_code, [(bytes(n), bytes(v)) for n, v in event.headers.raw_items()])
                return None
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                self.trailers = [(bytes(n), bytes(v)) for n, v in event.headers.raw_items()] or None
                self.ended = True
            elif isinstance(event, h11.ConnectionClosed):
                raise HttpFault("HTTP-response-incomplete")
        return None

    def consumed(self, count: int) -> None:
        """The guest took so much of the body; the connection's own window is what holds a server back."""


def _fault(error: Exception) -> HttpFault:
    text = str(error)
    if "too long" in text or "Receive buffer" in text:
        return HttpFault("HTTP-response-header-section-size")
    if "peer closed" in text or "server closed" in text.lower():
        return HttpFault("HTTP-response-incomplete")
    return HttpFault("HTTP-protocol-error")
