"""HTTP/1.1 on h11, a state machine that turns events into bytes and back.

h11 limits the size of an incomplete event, not of a complete one, and merges equal values of ``content-length``. So
this module splits header sections off the received bytes, and counts and checks them before h11 reads them.
"""

from __future__ import annotations

import re
from typing import Any

import h11

from aegis.host.net.http.framing import SectionSizes, response_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields, Head, Request

__all__ = ["Http1"]

_SECTION_END = re.compile(rb"\n\r?\n")
_PREFIX = b"HTTP/1."


class Http1:
    """The client of one exchange."""

    def __init__(self, request: Request, sizes: SectionSizes) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=sizes.raw_bytes)
        self._request, self._sizes = request, sizes
        self._head_bytes = bytearray()
        self._searched = 0
        self.head: Head | None = None
        self.trailers: Fields | None = None
        self.ended = self._closed = False
        self._chunked = request.has_body and request.length is None
        self._outgoing = self._send(
            h11.Request, method=request.method, target=request.target, headers=self._header_section()
        )
        if not request.has_body:
            self._outgoing += self._send(h11.EndOfMessage)

    def _header_section(self) -> Fields:
        """Return the fields with those that frame the message.

        The connection is for one request. Stating that (``close``) prevents a server that does not read the body of a
        GET from reading it as another request.
        """
        options = b"close, te" if any(name.lower() == b"te" for name, _ in self._request.fields) else b"close"
        fields = [(b"host", self._request.authority.encode()), *self._request.fields, (b"connection", options)]
        if self._request.length is not None:
            fields.append((b"content-length", b"%d" % self._request.length))
        elif self._chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        return fields

    def _send(self, event: Any, **parts: Any) -> bytes:
        try:
            return bytes(self._connection.send(event(**parts)) or b"")
        except h11.ProtocolError as error:
            code = "HTTP-request-body-size" if "Content-Length" in str(error) else "HTTP-protocol-error"
            raise HttpFault(code) from None

    # -- sending -------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the bytes to send now."""
        data, self._outgoing = self._outgoing, b""
        return data

    def room(self) -> int:
        """Return how many bytes of the body the protocol accepts now."""
        return 65536

    def body(self, data: bytes) -> None:
        """Accept a piece of the body."""
        self._outgoing += self._send(h11.Data, data=data)

    def end(self, trailers: Fields | None) -> None:
        """End the body; trailers are possible only if its length was not stated."""
        if trailers and not self._chunked:
            raise HttpFault("HTTP-protocol-error")
        self._outgoing += self._send(h11.EndOfMessage, headers=trailers or [])

    # -- receiving -----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Accept received bytes; none at the end of the connection."""
        if self.ended:
            return  # bytes after the response answer no request
        self._closed = not data
        if self.head is not None:
            self._receive(data)
        elif self._closed:
            raise HttpFault("HTTP-response-incomplete")
        else:
            self._head_bytes += data
            self._read_heads()

    def _receive(self, data: bytes) -> None:
        try:
            self._connection.receive_data(data)
        except h11.ProtocolError as error:
            raise self._fault(error) from None

    def _event(self) -> Any:
        try:
            return self._connection.next_event()
        except h11.ProtocolError as error:
            raise self._fault(error) from None

    def _read_heads(self) -> None:
        """Read the interim responses and the final one, as far as they have arrived."""
        while self.head is None and (section := self._next_section()):
            fields = _raw_fields(section)
            self._receive(section)
            event = self._event()
            if isinstance(event, h11.InformationalResponse):
                self._sizes.interim(fields)
            elif not isinstance(event, h11.Response):
                raise HttpFault("HTTP-protocol-error")
            chunks = event.http_version == b"1.1"
            response_length(self._request.method, event.status_code, fields, chunks=chunks)
            if isinstance(event, h11.Response):
                self._sizes.header(fields)
                self.head = Head(event.status_code, _fields(event))
        if self.head is not None and self._head_bytes:  # to h11, no bytes mean the end of the connection
            self._receive(bytes(self._head_bytes))
            self._head_bytes.clear()

    def _next_section(self) -> bytes | None:
        """Split off a status line with its fields; return ``None`` if they are incomplete."""
        if not self._head_bytes.startswith(_PREFIX[: len(self._head_bytes)]):
            raise HttpFault("HTTP-protocol-error")
        found = _SECTION_END.search(self._head_bytes, max(0, self._searched - 3))
        end = found.end() if found else len(self._head_bytes)
        if end > self._sizes.raw_bytes:
            raise HttpFault("HTTP-response-header-section-size", end)
        self._searched = 0 if found else end
        if found is None:
            return None
        section = bytes(self._head_bytes[:end])
        del self._head_bytes[:end]
        return section

    def next(self) -> bytes | None:
        """Return a piece of the body, ``None`` if more bytes are needed or the message has ended."""
        while not self.ended and self.head is not None:
            event = self._event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._closed:
                    raise HttpFault("HTTP-response-incomplete")
                return None
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                trailers = _fields(event)
                self._sizes.trailer(trailers)
                self.trailers, self.ended = trailers or None, True
            elif isinstance(event, h11.ConnectionClosed):
                raise HttpFault("HTTP-response-incomplete")
        return None

    def consumed(self, count: int) -> None:
        """Do nothing for ``count`` bytes that the guest took: the receive window of TCP limits the server."""

    def _fault(self, error: Exception) -> HttpFault:
        text = str(error)
        if "too long" in text or "Receive buffer" in text:
            return HttpFault(f"HTTP-response-{'header' if self.head is None else 'trailer'}-section-size")
        if "peer closed" in text or "server closed" in text.lower():
            return HttpFault("HTTP-response-incomplete")
        return HttpFault("HTTP-protocol-error")


def _fields(event: Any) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]


def _raw_fields(section: bytes) -> Fields:
    """Return the fields of a section as they were sent; h11 rejects lines that are not fields."""
    lines = section.split(b"\n")[1:]
    parts = (line.partition(b":") for line in lines if line.strip())
    return [(name, value.strip(b" \t\r")) for name, _, value in parts]
