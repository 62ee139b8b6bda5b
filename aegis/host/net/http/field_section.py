"""The resource ``fields`` of ``wasi:http/types``, for every version: valid names and values, within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from aegis.errors import QuotaExceeded
from aegis.host.net.http.message import Fields as Items
from aegis.limits import exceeded
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = [
    "FieldSection", "constructed", "is_field_name", "is_field_value", "is_of_connection", "may_trail",
    "without_connection",
]  # fmt: skip

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VALUE = frozenset(range(0x20, 0x7F)) | frozenset(range(0x80, 0x100)) | {0x09}
_CONNECTION = frozenset(
    {
        b"connection", b"host", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Fields that concern the connection, which the host controls."""
_NOT_RECEIVED = _CONNECTION | {b"te"}
_NOT_TRAILERS = _CONNECTION | frozenset(
    {
        b"authorization", b"cache-control", b"content-encoding", b"content-length", b"content-range", b"content-type",
        b"cookie", b"expect", b"max-forwards", b"range", b"set-cookie", b"te", b"trailer",
    }
)  # fmt: skip
"""Fields that frame, route, authorise or describe a message, and so must precede its body (RFC 9110, 6.5.1)."""


S = TypeVar("S", bound="FieldSection")


class _HttpField(NamedTuple):
    """A field: its name in lower case, by which fields compare, its name as it was given, and its value."""

    key: bytes
    name: bytes
    value: bytes


class FieldSection:
    """Fields in order; names compare case-insensitively. Those that belong to a message are ``immutable``.

    Each method checks counts and sizes against the limits before it examines a byte, and folds a name's case once.
    ``errors`` is the module with the classes of ``header-error``.
    """

    errors: ClassVar[Any]

    def __init__(self, wasi: Wasi, items: Items | None = None, *, immutable: bool = False) -> None:
        self._wasi = wasi
        self._entries = [_HttpField(name.lower(), name, value) for name, value in items or []]
        self.immutable = immutable

    @property
    def items(self) -> Items:
        """The names and values as they are sent."""
        return [(entry.name, entry.value) for entry in self._entries]

    def get(self, name: str) -> list[bytes]:
        if len(name) > max((len(entry.key) for entry in self._entries), default=0):
            return []
        key = name.encode().lower()
        return [entry.value for entry in self._entries if entry.key == key]

    def has(self, name: str) -> bool:
        return bool(self.get(name))

    def set_(self, name: str, value: list[bytes]) -> None:
        key, raw = self._changing(name)
        kept = [entry for entry in self._entries if entry.key != key]
        self._bounded(len(kept) + len(value), len(raw) * len(value))
        self._replace(kept, [_HttpField(key, raw, item) for item in value])

    def delete(self, name: str) -> None:
        self.removed(name)

    def removed(self, name: str) -> list[bytes]:
        """Remove the fields of a name; return their values."""
        key, _ = self._changing(name)
        before = self._entries
        self._entries = [entry for entry in before if entry.key != key]
        return [entry.value for entry in before if entry.key == key]

    def append(self, name: str, value: bytes) -> None:
        key, raw = self._changing(name)
        self._replace(self._entries, [_HttpField(key, raw, value)])

    def shown(self) -> list[tuple[str, bytes]]:
        """Return the names and values as the guest reads them."""
        return [(entry.name.decode("latin-1"), entry.value) for entry in self._entries]

    def fill(self, entries: list[tuple[str, bytes]]) -> None:
        """Set the entries of a new resource."""
        self._bounded(len(entries), 0)
        self._bounded(0, sum(len(name) + len(value) for name, value in entries))
        self._replace([], [_HttpField(*self._checked_name(name), value) for name, value in entries])

    def _changing(self, name: str) -> tuple[bytes, bytes]:
        """Return the name of a field about to change, in lower case and as it was given."""
        if self.immutable:
            raise Err(self.errors.HeaderErrorImmutable())
        self._bounded(0, len(name))
        return self._checked_name(name)

    def _checked_name(self, name: str) -> tuple[bytes, bytes]:
        """Return a name in lower case and as it was given; reject fields of the connection, and what is no token."""
        raw = name.encode()
        if not is_field_name(raw):
            raise Err(self.errors.HeaderErrorInvalidSyntax())
        key = raw.lower()
        if key in _CONNECTION:
            raise Err(self.errors.HeaderErrorForbidden())
        return key, raw

    def _check_value(self, entry: _HttpField) -> None:
        value = entry.value
        if not is_field_value(value):
            raise Err(self.errors.HeaderErrorInvalidSyntax())
        # other codings concern the connection (RFC 9110, 10.1.4)
        if entry.key == b"te" and value.lower() != b"trailers":
            raise Err(self.errors.HeaderErrorForbidden())

    def _replace(self, kept: list[_HttpField], added: list[_HttpField]) -> None:
        """Replace all entries, if the new ones are valid and within the limits of one message."""
        entries = [*kept, *added]
        self._bounded(len(entries), sum(len(entry.name) + len(entry.value) for entry in entries))
        for entry in added:
            self._check_value(entry)
        self._entries = entries

    def _bounded(self, count: int, size: int) -> None:
        """Raise ``QuotaExceeded`` if ``count`` fields, or ``size`` bytes of them, exceed the limits of one message."""
        limits = self._wasi.limits
        if limits.http_fields is not None and count > limits.http_fields:
            raise _too_many("http_fields", count, limits.http_fields)
        if limits.http_field_bytes is not None and size > limits.http_field_bytes:
            raise _too_many("http_field_bytes", size, limits.http_field_bytes)


def _too_many(limit: str, used: int, allowed: int) -> QuotaExceeded:
    return QuotaExceeded(exceeded(limit, used, allowed), limit=limit, used=used, allowed=allowed)


def is_field_name(name: bytes) -> bool:
    """Return whether a name is a token (RFC 9110, 5.1)."""
    return bool(name) and set(name) <= _TOKEN


def is_field_value(value: bytes) -> bool:
    """Return whether a value has no control characters, and no white space around it (RFC 9110, 5.5)."""
    return set(value) <= _VALUE and value.strip(b" \t") == value


def is_of_connection(name: bytes) -> bool:
    """Return whether a field, by its name in lower case, concerns the connection, which the host controls."""
    return name in _CONNECTION


def may_trail(fields: FieldSection) -> bool:
    """Return whether fields may follow a body."""
    return not any(name.lower() in _NOT_TRAILERS for name, _ in fields.items)


def without_connection(items: Items, *, trailers: bool = False) -> Items:
    """Return the fields of a received message, without those that concerned its connection.

    Copied into a request of the guest's, those could change how the request is framed.
    """
    without = _NOT_TRAILERS if trailers else _NOT_RECEIVED
    return [(n, v) for n, v in items if n.lower() not in without]


def constructed(base: type[S], wasi: Wasi) -> type[S]:
    """Return the class of ``fields`` that the guest of one sandbox constructs."""

    class SandboxFields(base):  # type: ignore[misc,valid-type]  # a class that is known when this runs
        def __init__(self) -> None:
            super().__init__(wasi)

        @staticmethod
        def from_list(entries: list[tuple[str, bytes]]) -> S:
            made = base(wasi)
            made.fill(entries)
            return made

    return SandboxFields
