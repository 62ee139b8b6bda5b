"""Random bytes and numbers from the source of a sandbox, for every version of WASI for components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aegis.errors import QuotaExceeded
from aegis.host.denials import reading
from aegis.host.entropy import CHUNK_BYTES
from aegis.limits import exceeded

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["RandomNumbers"]

_MAX_BYTES = 64 << 20


class RandomNumbers:
    """Random values for a guest; a denial is recorded before it ends the run."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    @property
    def most(self) -> int:
        """The bytes that one value may have."""
        return self._wasi.limits.value_bytes or _MAX_BYTES

    def read(self, count: int) -> bytes:
        """Return ``count`` bytes; raise ``QuotaExceeded`` if they are more than one value may have."""
        most = self.most
        if count > most:
            message = exceeded("value_bytes", count, most)
            raise QuotaExceeded(message, limit="value_bytes", used=count, allowed=most)
        return reading(self._wasi.scope, lambda: b"".join(self._pieces(count)))

    def _pieces(self, count: int) -> Iterator[bytes]:
        for at in range(0, count, CHUNK_BYTES):
            self._wasi.scope.remaining()
            yield self._wasi.grants.random(min(CHUNK_BYTES, count - at))

    def number(self) -> int:
        """Return a number of 64 bits."""
        return int.from_bytes(self.read(8), "little")
