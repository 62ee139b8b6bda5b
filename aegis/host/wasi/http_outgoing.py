"""Requests that a guest makes, and the responses that they will have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types as types
from aegis.host.http.exchange import Exchange, Timeouts, missing_library
from aegis.host.http.faults import HttpFault
from aegis.host.http.message import Request
from aegis.host.network import shown
from aegis.host.wasi.http_bodies import IncomingResponse, OutgoingBody, interest_of
from aegis.host.wasi.http_errors import error_code
from aegis.host.wasi.io import Pollable
from aegis.policy.patterns import plain_host
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi
    from aegis.host.wasi.http_fields import Fields
    from aegis.host.wasi.io import Interest

__all__ = ["FutureIncomingResponse", "OutgoingRequest", "RequestOptions", "send"]

_METHODS = {
    types.MethodGet: "GET", types.MethodHead: "HEAD", types.MethodPost: "POST", types.MethodPut: "PUT",
    types.MethodDelete: "DELETE", types.MethodConnect: "CONNECT", types.MethodOptions: "OPTIONS",
    types.MethodTrace: "TRACE", types.MethodPatch: "PATCH",
}  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_TARGET = re.compile(r"[\x21-\x7e]*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\s]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": 80, "https": 443}
_TARGET_MOST = 16384
_SECOND = 1e9


class OutgoingRequest:
    """The resource ``outgoing-request``."""

    def __init__(self, wasi: Wasi, headers: Fields) -> None:
        headers.immutable = True
        self._wasi, self._headers = wasi, headers
        self._method: Any = types.MethodGet()
        self._path: str | None = None
        self._scheme: Any = None
        self._authority: str | None = None
        self.outgoing: OutgoingBody | None = None

    def body(self) -> OutgoingBody:
        if self.outgoing is not None:
            raise Err(None)
        self.outgoing = OutgoingBody(self._wasi, self._length())
        return self.outgoing

    def _length(self) -> int | None:
        stated = self._headers.get("content-length")
        if len(stated) != 1 or not stated[0].isdigit() or len(stated[0]) > 18:
            return None
        return int(stated[0])

    def method(self) -> Any:
        return self._method

    def set_method(self, method: Any) -> None:
        if isinstance(method, types.MethodOther) and not _TOKEN.fullmatch(method.value):
            raise Err(None)
        self._method = method

    def path_with_query(self) -> str | None:
        return self._path

    def set_path_with_query(self, path_with_query: str | None) -> None:
        if path_with_query is not None and not _TARGET.fullmatch(path_with_query):
            raise Err(None)
        self._path = path_with_query

    def scheme(self) -> Any:
        return self._scheme

    def set_scheme(self, scheme: Any) -> None:
        self._scheme = scheme

    def authority(self) -> str | None:
        return self._authority

    def set_authority(self, authority: str | None) -> None:
        if authority is not None and not _AUTHORITY.fullmatch(authority):
            raise Err(None)
        self._authority = authority

    def headers(self) -> Fields:
        return self._headers

    # -- what it comes to ----------------------------------------------------------------------------

    def place(self) -> tuple[str, str, int]:
        """Return scheme, host and port; raise ``HttpFault`` for what nobody can be asked at."""
        if isinstance(self._scheme, types.SchemeOther) or self._authority is None:
            raise HttpFault("HTTP-request-URI-invalid")
        scheme = "http" if isinstance(self._scheme, types.SchemeHttp) else "https"
        found = _AUTHORITY.fullmatch(self._authority)
        assert found is not None
        port = int(found[2]) if found[2] else _PORTS[scheme]
        host = plain_host(found[1].strip("[]"))
        if port > 65535 or host is None:
            raise HttpFault("HTTP-request-URI-invalid")
        return scheme, host, port

    def request(self, scheme: str, host: str, port: int) -> Request:
        """Return the request for the wire, to the host as it was judged."""
        method = self._method.value if isinstance(self._method, types.MethodOther) else _METHODS[type(self._method)]
        if method.upper() == "CONNECT":  # what would follow is no HTTP, and goes where no rule was asked about
            raise HttpFault("HTTP-request-method-invalid")
        target = self._path or "/"
        if not target.startswith("/") and target != "*":
            target = f"/{target}"
        if len(target) > _TARGET_MOST:
            raise HttpFault("HTTP-request-URI-too-long")
        body = self.outgoing
        empty = body is None or (body.ended and not body.given and body.trailers is None and not body.length)
        authority = shown(host, port).removesuffix(f":{_PORTS[scheme]}")
        return Request(method, scheme, authority, target, list(self._headers.items), not empty)


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
        """Return them in seconds."""
        return Timeouts(*(None if t is None else t / _SECOND for t in (self._connect, self._first, self._between)))


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
        return interest_of(self._exchange)

    def subscribe(self) -> Pollable:
        return Pollable(self, self._wasi)

    def __drop__(self) -> None:
        self._exchange.let_go()


def send(wasi: Wasi, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
    """Begin an exchange; raise ``HttpFault`` for what is refused at once."""
    scheme, host, port = request.place()
    network, asked = wasi.grants.network, request.request(scheme, host, port)
    if not network.may_request(scheme, host, port, asked.method):
        raise HttpFault("HTTP-request-denied")
    missing = missing_library()
    if missing is not None:
        raise HttpFault("internal-error", missing)
    limit = wasi.limits.http_requests
    if limit is not None and len(network.exchanges) >= limit:
        raise HttpFault("connection-limit-reached")
    timeouts = options.timeouts() if options is not None else Timeouts()
    exchange = Exchange(network, asked, host, port, timeouts, network.tls)
    network.exchanges.add(exchange)
    if request.outgoing is not None:
        request.outgoing.attach(exchange)
    exchange.pump()
    return FutureIncomingResponse(wasi, exchange)
