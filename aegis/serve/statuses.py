"""The statuses by which Aegis answers in place of a guest, and their texts, which say nothing of the host."""

from __future__ import annotations

from aegis.errors import AegisError, DeadlineExceeded

__all__ = ["plain_text", "status_of_code", "status_of_error"]

_PHRASES = {
    400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 411: "Length Required", 413: "Content Too Large",
    414: "URI Too Long", 431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
_CODES = {
    "HttpRequestDenied": 403,
    "HttpRequestLengthRequired": 411,
    "HttpRequestBodySize": 413,
    "HttpRequestMethodInvalid": 405,
    "HttpRequestUriInvalid": 400,
    "HttpRequestUriTooLong": 414,
    "HttpRequestHeaderSectionSize": 431,
    "HttpRequestHeaderSize": 431,
}
"""Statuses for cases of ``error-code`` that concern the request itself."""
_UPSTREAM = ("Connection", "Destination", "Dns", "HttpResponse", "Tls")
"""How the names of the cases begin that concern another server, which the guest asked."""


def plain_text(status: int) -> bytes:
    """Return the body of a response that Aegis makes."""
    return f"{status} {_PHRASES[status]}\n".encode()


def status_of_error(error: AegisError) -> int:
    """Return the status for a guest that did not return: 504 at the deadline, 500 for all other reasons."""
    return 504 if isinstance(error, DeadlineExceeded) else 500


def status_of_code(code: str) -> int:
    """Return the status for an ``error-code`` that a guest answered with, by the name of its case in PascalCase."""
    if code in _CODES:
        return _CODES[code]
    if code.startswith(_UPSTREAM):
        return 504 if code.endswith("Timeout") else 502
    return 500
