"""The requests that a guest makes, and the futures of their responses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aegis.bindings import wasi_http_types as types
from aegis.host.net.http.exchange import Exchange, Timeouts, missing_library
from aegis.host.net.http.framing import stated_length, without_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Request
from aegis.host.net.network import shown
from aegis.host.preview2.http_bodies import IncomingResponse, OutgoingBody, interest_of
from aegis.host.preview2.http_errors import error_code
from aegis.host.preview2.io import Pollable
from aegis.policy.patterns import plain_host
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.host.preview2.http_fields import Fields
    from aegis.host.preview2.io import Interest
    from aegis.host.wasi import Wasi

__all__ = ["FutureIncomingResponse", "OutgoingRequest", "RequestOptions", "send"]

_METHODS = {
    types.MethodGet: "GET", types.MethodHead: "HEAD", types.MethodPost: "POST", types.MethodPut: "PUT",
    types.MethodDelete: "DELETE", types.MethodConnect: "CONNECT", types.MethodOptions: "OPTIONS",
    types.MethodTrace: "TRACE", types.MethodPatch: "PATCH",
}  # fmt: skip
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,63}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_TARGET = re.compile(r"[\x21\x22\x24-\x7e]*")  # no space, no control character, no fragment
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\s]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": 80, "https": 443}
_MAX_TARGET_CHARACTERS = 16384
_MAX_HELD_TARGET_CHARACTERS, _MAX_HELD_AUTHORITY_CHARACTERS = 4 * _MAX_TARGET_CHARACTERS, 1024
"""Characters of a target and an authority that the host keeps at most before the request is sent."""
_WITH_CONTENT = ("POST", "PUT", "PATCH")
"""Methods whose requests state a length even without a body (RFC 9110, 8.6)."""
_SECOND = 1e9


def _is(text: str, pattern: re.Pattern[str], most: int) -> bool:
    return len(text) <= most and pattern.fullmatch(text) is not None


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
        """Return the length that the guest states, if it is valid; ``handle`` rejects an invalid one."""
        try:
            return stated_length(self._headers.items)
        except HttpFault:
            return None

    def method(self) -> Any:
        return self._method

    def set_method(self, method: Any) -> None:
        if isinstance(method, types.MethodOther) and not _TOKEN.fullmatch(method.value):
            raise Err(None)
        self._method = method

    def path_with_query(self) -> str | None:
        return self._path

    def set_path_with_query(self, path_with_query: str | None) -> None:
        if path_with_query is not None and not _is(path_with_query, _TARGET, _MAX_HELD_TARGET_CHARACTERS):
            raise Err(None)
        self._path = path_with_query

    def scheme(self) -> Any:
        return self._scheme

    def set_scheme(self, scheme: Any) -> None:
        if isinstance(scheme, types.SchemeOther) and not _SCHEME.fullmatch(scheme.value):
            raise Err(None)
        self._scheme = scheme

    def authority(self) -> str | None:
        return self._authority

    def set_authority(self, authority: str | None) -> None:
        if authority is not None and not _is(authority, _AUTHORITY, _MAX_HELD_AUTHORITY_CHARACTERS):
            raise Err(None)
        self._authority = authority

    def headers(self) -> Fields:
        return self._headers

    # -- the request to send -------------------------------------------------------------------------

    def place(self) -> tuple[str, str, int]:
        """Return scheme, host and port; raise ``HttpFault`` for an invalid authority, or another scheme than HTTP."""
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
        """Return the request to send, to the host in the notation that the policy judges."""
        method = self._method.value if isinstance(self._method, types.MethodOther) else _METHODS[type(self._method)]
        if method.upper() == "CONNECT":  # a tunnel to a host that no rule has judged
            raise HttpFault("HTTP-request-method-invalid")
        length, has_body = self._body_length(method)
        fields, authority = without_length(self._headers.items), shown(host, port).removesuffix(f":{_PORTS[scheme]}")
        return Request(method, scheme, authority, self._target(method), fields, has_body, length)

    def _target(self, method: str) -> str:
        """Return the path in origin form (RFC 9112, 3.2.1); only OPTIONS may have ``*``."""
        target = self._path or "/"
        if not target.startswith("/") and (target, method) != ("*", "OPTIONS"):
            target = f"/{target}"
        if len(target) > _MAX_TARGET_CHARACTERS:
            raise HttpFault("HTTP-request-URI-too-long")
        return target

    def _body_length(self, method: str) -> tuple[int | None, bool]:
        """Return the length to state, ``None`` for none, and whether there is a body.

        Raise ``HttpFault`` if the stated length is not that of the body.
        """
        stated, body = stated_length(self._headers.items), self.outgoing
        known = 0 if body is None else body.given if body.ended else None
        if stated is not None and known is not None and stated != known:
            raise HttpFault("HTTP-request-body-size", known)
        trailers = body is not None and body.trailers is not None
        has_body = known != 0 or trailers
        if has_body and method.upper() == "TRACE":  # RFC 9110, 9.3.8
            raise HttpFault("HTTP-request-body-size", known)
        if not has_body:
            return (0 if stated == 0 or method in _WITH_CONTENT else None), False
        return (known if stated is None and not trailers else stated), True


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
        self._exchange.release()


def send(wasi: Wasi, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
    """Begin an exchange; raise ``HttpFault`` for a request that is invalid, denied, or beyond the limits."""
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
