"""The requests that a guest makes, and the futures of their responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types
from aegis.host.net.http.exchange import Exchange, Timeouts
from aegis.host.net.http.framing import stated_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.request_line import KnownBody, RequestLine, begin
from aegis.host.preview2.http_bodies import IncomingResponse, OutgoingBody
from aegis.host.preview2.http_errors import error_code
from aegis.host.preview2.io import Pollable
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.preview2.http_fields import Fields
    from aegis.host.preview2.io import Interest
    from aegis.host.wasi import Wasi

__all__ = ["FutureIncomingResponse", "OutgoingRequest", "RequestOptions", "send"]


class OutgoingRequest:
    """The resource ``outgoing-request``."""

    def __init__(self, wasi: Wasi, headers: Fields) -> None:
        headers.immutable = True
        self._wasi, self._headers = wasi, headers
        self.line = RequestLine(wasi_http_types)
        self.outgoing: OutgoingBody | None = None

    def body(self) -> OutgoingBody:
        if self.outgoing is not None:
            raise Err(None)
        self.outgoing = OutgoingBody(self._wasi, self._length())
        return self.outgoing

    def _length(self) -> int | None:
        """Return the length that the guest states, if it is valid; ``handle`` rejects an invalid one."""
        try:
            return stated_length(self._headers.items)
        except HttpFault:
            return None

    def method(self) -> Any:
        return self.line.method

    def set_method(self, method: Any) -> None:
        self.line.set_method(method)

    def path_with_query(self) -> str | None:
        return self.line.path

    def set_path_with_query(self, path_with_query: str | None) -> None:
        self.line.set_path(path_with_query)

    def scheme(self) -> Any:
        return self.line.scheme

    def set_scheme(self, scheme: Any) -> None:
        self.line.set_scheme(scheme)

    def authority(self) -> str | None:
        return self.line.authority

    def set_authority(self, authority: str | None) -> None:
        self.line.set_authority(authority)

    def headers(self) -> Fields:
        return self._headers

    def known_body(self) -> KnownBody:
        """Return the size of the body if it has ended, and whether trailers follow."""
        body = self.outgoing
        if body is None:
            return KnownBody(0, trailers=False)
        return KnownBody(body.given if body.ended else None, trailers=body.trailers is not None)


class RequestOptions:
    """The resource ``request-options``; all times in nanoseconds."""

    def __init__(self) -> None:
        self._connect: int | None = None
        self._first: int | None = None
        self._between: int | None = None

    def connect_timeout(self) -> int | None:
        return self._connect

    def set_connect_timeout(self, duration: int | None) -> None:
        self._connect = duration

    def first_byte_timeout(self) -> int | None:
        return self._first

    def set_first_byte_timeout(self, duration: int | None) -> None:
        self._first = duration

    def between_bytes_timeout(self) -> int | None:
        return self._between

    def set_between_bytes_timeout(self, duration: int | None) -> None:
        self._between = duration

    def timeouts(self) -> Timeouts:
        """Return the timeouts in seconds."""
        return Timeouts.of(self._connect, self._first, self._between)


class FutureIncomingResponse:
    """The resource ``future-incoming-response``."""

    def __init__(self, wasi: Wasi, exchange: Exchange) -> None:
        self._wasi, self._exchange = wasi, exchange
        self._taken = False

    def get(self) -> Any:
        if not self.ready():
            return None
        if self._taken:
            return Err(None)
        self._taken = True
        if self._exchange.head is None:
            assert self._exchange.error is not None
            return Ok(Err(error_code(self._exchange.error)))
        return Ok(Ok(IncomingResponse(self._wasi, self._exchange)))

    def ready(self) -> bool:
        self._exchange.pump()
        return self._exchange.head is not None or self._exchange.error is not None

    def interest(self) -> Interest:
        return self._exchange.interest()

    def subscribe(self) -> Pollable:
        return Pollable(self, self._wasi)

    def __drop__(self) -> None:
        self._exchange.release()


def send(wasi: Wasi, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
    """Begin an exchange; raise ``HttpFault`` for a request that is invalid, denied, or beyond the limits."""
    timeouts = options.timeouts() if options is not None else Timeouts()
    exchange = begin(wasi, request.line, request.headers().items, request.known_body(), timeouts)
    if request.outgoing is not None:
        request.outgoing.attach(exchange)
    exchange.pump()
    return FutureIncomingResponse(wasi, exchange)
