"""The resource ``fields`` of ``wasi:http/types``: names and values that HTTP allows, and no more than may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_http_types import HeaderErrorForbidden, HeaderErrorImmutable, HeaderErrorInvalidSyntax
from aegis.errors import QuotaExceeded
from aegis.limits import format_bytes
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["Fields", "fields_class", "received"]

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VALUE = frozenset(range(0x20, 0x7F)) | frozenset(range(0x80, 0x100)) | {0x09}
_FORBIDDEN = frozenset(
    {
        b"connection", b"host", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Fields that belong to the connection, which is the host's."""


class Fields:
    """Fields in order; names compare without regard to case. ``immutable`` ones belong to a message."""

    def __init__(
        self, wasi: Wasi, entries: list[tuple[bytes, bytes]] | None = None, *, immutable: bool = False
    ) -> None:
        self._wasi = wasi
        self.items = entries or []
        self.immutable = immutable

    def get(self, name: str) -> list[bytes]:
        key = name.lower().encode()
        return [value for known, value in self.items if known.lower() == key]

    def has(self, name: str) -> bool:
        return bool(self.get(name))

    def set_(self, name: str, value: list[bytes]) -> None:
        key = self._changing(name)
        for item in value:
            _check_value(item)
        self._replace([*self._without(key), *((key, item) for item in value)])

    def delete(self, name: str) -> None:
        self.items = self._without(self._changing(name))

    def append(self, name: str, value: bytes) -> None:
        key = self._changing(name)
        _check_value(value)
        self._replace([*self.items, (key, value)])

    def entries(self) -> list[tuple[str, bytes]]:
        return [(name.decode("latin-1"), value) for name, value in self.items]

    def clone(self) -> Fields:
        return Fields(self._wasi, list(self.items))

    def _without(self, key: bytes) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in self.items if name.lower() != key.lower()]

    def _changing(self, name: str) -> bytes:
        if self.immutable:
            raise Err(HeaderErrorImmutable())
        return checked_name(name)

    def _replace(self, items: list[tuple[bytes, bytes]]) -> None:
        """Take new items, if they are within the limits of one message."""
        limits = self._wasi.limits
        size = sum(len(name) + len(value) for name, value in items)
        if limits.http_fields is not None and len(items) > limits.http_fields:
            raise QuotaExceeded(
                f"the guest made a message of more than {limits.http_fields:,} fields, all it may",
                limit="http_fields", used=len(items), allowed=limits.http_fields,
            )  # fmt: skip
        if limits.http_field_bytes is not None and size > limits.http_field_bytes:
            raise QuotaExceeded(
                f"the guest made fields of more than {format_bytes(limits.http_field_bytes)}, all it may",
                limit="http_field_bytes", used=size, allowed=limits.http_field_bytes,
            )  # fmt: skip
        self.items = items


def checked_name(name: str) -> bytes:
    """Return a field's name as bytes; refuse what is no token, or belongs to the connection."""
    raw = name.encode()
    if not raw or not set(raw) <= _TOKEN:
        raise Err(HeaderErrorInvalidSyntax())
    if raw.lower() in _FORBIDDEN:
        raise Err(HeaderErrorForbidden())
    return raw


def _check_value(value: bytes) -> None:
    if not set(value) <= _VALUE or value.strip(b" \t") != value:
        raise Err(HeaderErrorInvalidSyntax())


def received(wasi: Wasi, items: list[tuple[bytes, bytes]]) -> Fields:
    """Return the fields of a message that came, less those of its connection, which ended here.

    Copied into a request, those would have it understood otherwise than it was made.
    """
    return Fields(wasi, [(n, v) for n, v in items if n.lower() not in _FORBIDDEN], immutable=True)


def fields_class(wasi: Wasi) -> type[Fields]:
    """Return ``Fields`` as guests construct it in one sandbox."""

    class Made(Fields):
        def __init__(self) -> None:
            super().__init__(wasi)

        @staticmethod
        def from_list(entries: list[tuple[str, bytes]]) -> Fields:
            made = Fields(wasi)
            items = []
            for name, value in entries:
                _check_value(value)
                items.append((checked_name(name), value))
            made._replace(items)
            return made

    return Made
