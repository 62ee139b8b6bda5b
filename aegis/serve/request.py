"""The head of a request, from an ASGI scope to the guest: mapped exactly, and rejected where it has no exact form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aegis.bindings import wasi_http_types
from aegis.host.net.http.field_section import is_field_name, is_field_value, without_connection
from aegis.host.net.http.request_line import RequestLine
from aegis.host.net.http.served_frames import ServedHead
from aegis.limits import Limits, exceeded
from aegis.wit.err import Err

__all__ = ["Rejected", "head_of", "wants_trailers"]

_MAX_TARGET_BYTES = 16384
"""Bytes of a path with its query, as in requests that guests send."""


class Rejected(Exception):
    """The request is answered with ``status``, and no guest runs."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def head_of(scope: Mapping[str, Any], limits: Limits) -> ServedHead:
    """Return the head of a request; raise :class:`Rejected` for one that is malformed or exceeds the limits."""
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    size = sum(len(name) + len(value) for name, value in headers)
    for limit, used in (("http_fields", len(headers)), ("http_field_bytes", size)):
        allowed = getattr(limits, limit)
        if allowed is not None and used > allowed:
            raise Rejected(431, exceeded(limit, used, allowed))
    if not all(is_field_name(name) and is_field_value(value) for name, value in headers):
        raise Rejected(400, "a field has characters that no field may have")
    target = _target(scope)
    if len(target) > _MAX_TARGET_BYTES:
        raise Rejected(414, f"the path is too long ({len(target)}/{_MAX_TARGET_BYTES} bytes)")
    head = ServedHead(
        str(scope["method"]), scope.get("scheme"), _authority(scope, headers), target.decode("latin-1"),
        _passed_on(headers),
    )  # fmt: skip
    try:
        RequestLine(wasi_http_types).fill(*head[:4])
    except Err:
        raise Rejected(400, "the method, authority or path has a form that no request may have") from None
    return head


def _target(scope: Mapping[str, Any]) -> bytes:
    """Return the path as the client sent it, with its query; beneath a mount, the part after that."""
    path = _path(scope)
    query = bytes(scope.get("query_string") or b"")
    return path + b"?" + query if query else path


def _path(scope: Mapping[str, Any]) -> bytes:
    """Return the path without ``root_path``, which the path of a scope begins with (ASGI, HTTP connection scope)."""
    whole, root, raw = scope["path"], scope.get("root_path") or "", scope.get("raw_path")
    raw = quote(whole).encode() if raw is None else bytes(raw).partition(b"?")[0]
    if not root or not (whole == root or whole.startswith(f"{root}/")):
        return raw
    mount = quote(root).encode()
    if raw == mount or raw.startswith(mount + b"/"):
        return raw[len(mount) :] or b"/"
    return quote(whole[len(root) :]).encode() or b"/"  # the client has encoded the path of the mount in another way


def _authority(scope: Mapping[str, Any], headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the host that the client named; without one (HTTP/1.0), the address of the server, if it is known."""
    named = [value for name, value in headers if name.lower() == b"host"]
    if len(named) > 1:
        raise Rejected(400, "the request has several host fields")
    if named and named[0]:
        return named[0].decode("latin-1")
    host, port = scope.get("server") or (None, None)
    if host is None or port is None:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _passed_on(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields for the guest: none that concern the connection, nor those that it names (RFC 9110, 7.6.1).

    A length beside ``transfer-encoding`` is not that of the body (RFC 9112, 6.3).
    """
    named = {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        named.add(b"content-length")
    return [(name, value) for name, value in without_connection(headers) if name.lower() not in named]


def wants_trailers(scope: Mapping[str, Any]) -> bool:
    """Return whether the client accepts trailers (RFC 9110, 6.5.1)."""
    fields = [value for name, value in scope["headers"] if name.lower() == b"te"]
    return any(token.strip().lower() == b"trailers" for value in fields for token in value.split(b","))
