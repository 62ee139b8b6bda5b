"""The resource ``fields`` of ``wasi:http/types``, which headers and trailers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aegis.bindings import wasi_http_types_0_3
from aegis.host.net.http.field_section import FieldSection, constructed, without_connection

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["MessageFields", "message_fields_class", "received_fields"]


class MessageFields(FieldSection):
    """The resource ``fields``."""

    errors: ClassVar[Any] = wasi_http_types_0_3

    def get_and_delete(self, name: str) -> list[bytes]:
        return self.removed(name)

    def copy_all(self) -> list[tuple[str, bytes]]:
        return self.shown()

    def clone(self) -> MessageFields:
        return MessageFields(self._wasi, self.items)


def received_fields(wasi: Wasi, items: list[tuple[bytes, bytes]], *, trailers: bool = False) -> MessageFields:
    """Return the fields of a received message, without those that concerned its connection."""
    return MessageFields(wasi, without_connection(items, trailers=trailers), immutable=True)


def message_fields_class(wasi: Wasi) -> type[MessageFields]:
    """Return the class of ``fields`` that the guest of one sandbox constructs."""
    return constructed(MessageFields, wasi)
