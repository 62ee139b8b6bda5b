"""The request that a guest describes, for every version of ``wasi:http``: its checks, its policy and its beginning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.host.net.http.exchange import Exchange, Timeouts
from aegis.host.net.http.extra import missing_library
from aegis.host.net.http.framing import stated_length, without_length
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields, Request
from aegis.host.net.network import shown
from aegis.policy.patterns import plain_host
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["KnownBody", "RequestLine", "begin"]

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


class KnownBody(NamedTuple):
    """A body at the time its request is sent: its size in bytes if it has ended, and whether trailers follow."""

    size: int | None
    trailers: bool


def _is(text: str, pattern: re.Pattern[str], most: int) -> bool:
    return len(text) <= most and pattern.fullmatch(text) is not None


class RequestLine:
    """The method, scheme, authority and path of a request. ``types`` is the module with their classes.

    Each setter raises ``Err`` for a value that no request can have.
    """

    def __init__(self, types: Any) -> None:
        self._types = types
        self.method: Any = types.MethodGet()
        self.scheme: Any = None
        self.authority: str | None = None
        self.path: str | None = None

    def set_method(self, method: Any) -> None:
        """Set the method, one of the named ones or a token."""
        if isinstance(method, self._types.MethodOther) and not _TOKEN.fullmatch(method.value):
            raise Err(None)
        self.method = method

    def set_path(self, path: str | None) -> None:
        """Set the path with its query."""
        if path is not None and not _is(path, _TARGET, _MAX_HELD_TARGET_CHARACTERS):
            raise Err(None)
        self.path = path

    def set_scheme(self, scheme: Any) -> None:
        """Set the scheme; ``begin`` refuses another than HTTP."""
        if isinstance(scheme, self._types.SchemeOther) and not _SCHEME.fullmatch(scheme.value):
            raise Err(None)
        self.scheme = scheme

    def set_authority(self, authority: str | None) -> None:
        """Set the host, with a port or without."""
        if authority is not None and not _is(authority, _AUTHORITY, _MAX_HELD_AUTHORITY_CHARACTERS):
            raise Err(None)
        self.authority = authority

    def fill(self, method: str, scheme: str | None, authority: str | None, target: str) -> None:
        """Set the parts of a received request; raise ``Err`` for one that no request can have."""
        named: Any = None
        if method.isupper() and method != "OTHER":
            named = getattr(self._types, f"Method{method.capitalize()}", None)
        self.set_method(self._types.MethodOther(method) if named is None else named())
        if scheme is not None:
            known_schemes = {"http": self._types.SchemeHttp, "https": self._types.SchemeHttps}
            self.set_scheme(known_schemes[scheme]() if scheme in known_schemes else self._types.SchemeOther(scheme))
        self.set_authority(authority)
        self.set_path(target)

    # -- the request to send -------------------------------------------------------------------------

    def place(self) -> tuple[str, str, int]:
        """Return scheme, host and port; raise ``HttpFault`` for an invalid authority, or another scheme than HTTP."""
        if isinstance(self.scheme, self._types.SchemeOther) or self.authority is None:
            raise HttpFault("HTTP-request-URI-invalid")
        scheme = "http" if isinstance(self.scheme, self._types.SchemeHttp) else "https"
        found = _AUTHORITY.fullmatch(self.authority)
        assert found is not None
        port = int(found[2]) if found[2] else _PORTS[scheme]
        host = plain_host(found[1].strip("[]"))
        if port > 65535 or host is None:
            raise HttpFault("HTTP-request-URI-invalid")
        return scheme, host, port

    def request(self, scheme: str, host: str, port: int, fields: Fields, body: KnownBody) -> Request:
        """Return the request to send, to the host in the notation that the policy judges."""
        method = self._method_name()
        if method.upper() == "CONNECT":  # a tunnel to a host that no rule has judged
            raise HttpFault("HTTP-request-method-invalid")
        length, has_body = _body_length(method, stated_length(fields), body)
        authority = shown(host, port).removesuffix(f":{_PORTS[scheme]}")
        return Request(method, scheme, authority, self._target(method), without_length(fields), has_body, length)

    def _method_name(self) -> str:
        if isinstance(self.method, self._types.MethodOther):
            return str(self.method.value)
        return type(self.method).__name__.removeprefix("Method").upper()

    def _target(self, method: str) -> str:
        """Return the path in origin form (RFC 9112, 3.2.1); only OPTIONS may have ``*``."""
        target = self.path or "/"
        if not target.startswith("/") and (target, method) != ("*", "OPTIONS"):
            target = f"/{target}"
        if len(target) > _MAX_TARGET_CHARACTERS:
            raise HttpFault("HTTP-request-URI-too-long")
        return target


def _body_length(method: str, stated: int | None, body: KnownBody) -> tuple[int | None, bool]:
    """Return the length to state, ``None`` for none, and whether there is a body.

    Raise ``HttpFault`` if the stated length is not that of the body.
    """
    if stated is not None and body.size is not None and stated != body.size:
        raise HttpFault("HTTP-request-body-size", body.size)
    has_body = body.size != 0 or body.trailers
    if has_body and method.upper() == "TRACE":  # RFC 9110, 9.3.8
        raise HttpFault("HTTP-request-body-size", body.size)
    if not has_body:
        return (0 if stated == 0 or method in _WITH_CONTENT else None), False
    return (body.size if stated is None and not body.trailers else stated), True


def begin(wasi: Wasi, line: RequestLine, fields: Fields, body: KnownBody, timeouts: Timeouts) -> Exchange:
    """Begin an exchange; raise ``HttpFault`` for a request that is invalid, denied, or beyond the limits."""
    scheme, host, port = line.place()
    network, asked = wasi.grants.network, line.request(scheme, host, port, fields, body)
    if not network.may_request(scheme, host, port, asked.method):
        raise HttpFault("HTTP-request-denied")
    missing = missing_library()
    if missing is not None:
        raise HttpFault("internal-error", missing)
    limit = wasi.limits.http_requests
    if limit is not None and len(network.exchanges) >= limit:
        raise HttpFault("connection-limit-reached")
    exchange = Exchange(network, asked, host, port, timeouts, network.tls)
    network.exchanges.add(exchange)
    return exchange
