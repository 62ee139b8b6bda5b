"""The length of a body, and the limits on fields: one set of rules for both protocols and directions.

If two readers understand a length differently, one request can be smuggled inside another. So a message must state it
at most once, in digits alone, and the body must have that length (RFC 9110, 8.6; RFC 9112, 6; RFC 9113, 8.1.1).
"""

from __future__ import annotations

from aegis.host.net.http.http_fault import HttpFault
from aegis.host.net.http.message import Fields

__all__ = ["SectionSizes", "response_length", "stated_length", "without_length"]

LENGTH = b"content-length"
_MAX_LENGTH_DIGITS = 18
_NEVER_A_BODY = frozenset({204, *range(100, 200)})
_FIELD_OVERHEAD = 4  # colon, space, CR and LF
_STATUS_LINE_BYTES = 1024
_MAX_SECTION_BYTES = 1 << 20


def stated_length(fields: Fields) -> int | None:
    """Return the length that ``content-length`` states, ``None`` without one; raise ``HttpFault`` for another form."""
    values = [value for name, value in fields if name.lower() == LENGTH]
    if not values:
        return None
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > _MAX_LENGTH_DIGITS:
        raise HttpFault("HTTP-protocol-error")
    return int(values[0])


def without_length(fields: Fields) -> Fields:
    """Return the fields without ``content-length``, which Aegis writes itself."""
    return [(name, value) for name, value in fields if name.lower() != LENGTH]


def response_length(method: str, status: int, fields: Fields, *, chunks: bool = False) -> int | None:
    """Return the length of a response's body, ``None`` if only its end shows it; raise ``HttpFault`` if ambiguous.

    ``chunks``: ``transfer-encoding`` is allowed, which only HTTP/1.1 has.
    """
    stated = stated_length(fields)
    encodings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    never = status in _NEVER_A_BODY
    if encodings and (encodings != [b"chunked"] or never or not chunks or stated is not None):
        raise HttpFault("HTTP-protocol-error")
    if never and stated:
        raise HttpFault("HTTP-protocol-error")
    return 0 if never or status == 304 or method == "HEAD" else stated


class SectionSizes:
    """The limits on the fields of one response: its header section with all before it, and its trailer section."""

    def __init__(self, max_fields: int | None, max_bytes: int | None) -> None:
        self._max_fields = max_fields
        self._max_bytes = _MAX_SECTION_BYTES if max_bytes is None else max_bytes
        self._fields = self._bytes = 0

    @property
    def raw_bytes(self) -> int:
        """The largest size of a section within the limits in HTTP/1.1, in bytes."""
        per_field = self._max_bytes if self._max_fields is None else self._max_fields
        return self._max_bytes + per_field * _FIELD_OVERHEAD + _STATUS_LINE_BYTES

    @property
    def list_bytes(self) -> int:
        """The largest size of a section within the limits as HPACK counts it (RFC 7541, 4.1)."""
        per_field = self._max_bytes if self._max_fields is None else self._max_fields
        return self._max_bytes + (per_field + 8) * 32

    def interim(self, fields: Fields) -> None:
        """Count an interim response: its fields and its status line, so that their number is bounded too."""
        self._add([(b":status", b"100"), *fields], "header")

    def header(self, fields: Fields) -> None:
        """Count the header section; raise ``HttpFault`` beyond a limit."""
        self._add(fields, "header")
        self._fields = self._bytes = 0

    def trailer(self, fields: Fields) -> None:
        """Count the trailer section; raise ``HttpFault`` beyond a limit."""
        self._add(fields, "trailer")

    def _add(self, fields: Fields, section: str) -> None:
        self._fields += len(fields)
        self._bytes += sum(len(name) + len(value) for name, value in fields)
        if self._bytes > self._max_bytes or (self._max_fields is not None and self._fields > self._max_fields):
            raise HttpFault(f"HTTP-response-{section}-section-size", self._bytes)
