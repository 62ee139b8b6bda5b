"""The resource ``fields`` of ``wasi:http/types``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aegis.bindings import wasi_http_types
from aegis.host.net.http.field_section import FieldSection, constructed, without_connection

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["Fields", "fields_class", "received"]


class Fields(FieldSection):
    """The resource ``fields``."""

    errors: ClassVar[Any] = wasi_http_types

    def entries(self) -> list[tuple[str, bytes]]:
        return self.shown()

    def clone(self) -> Fields:
        return Fields(self._wasi, self.items)


def received(wasi: Wasi, items: list[tuple[bytes, bytes]], *, trailers: bool = False) -> Fields:
    """Return the fields of a received message, without those that concerned its connection."""
    return Fields(wasi, without_connection(items, trailers=trailers), immutable=True)


def fields_class(wasi: Wasi) -> type[Fields]:
    """Return the class of ``fields`` that the guest of one sandbox constructs."""
    return constructed(Fields, wasi)
