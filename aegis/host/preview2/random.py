"""``wasi:random``: bytes from the source of the sandbox, which the insecure interfaces use too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aegis.errors import QuotaExceeded
from aegis.host.denials import reading
from aegis.host.entropy import CHUNK_BYTES
from aegis.limits import exceeded

if TYPE_CHECKING:
    from aegis.host.preview2 import Wasi

__all__ = ["implementation"]

_MAX_BYTES = 64 << 20


class _Random:
    """``wasi:random/random``, ``insecure`` and ``insecure-seed``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def _bytes(self, count: int) -> bytes:
        most = self._wasi.limits.value_bytes or _MAX_BYTES
        if count > most:
            message = exceeded("value_bytes", count, most)
            raise QuotaExceeded(message, limit="value_bytes", used=count, allowed=most)
        return reading(self._wasi.scope, lambda: b"".join(self._pieces(count)))

    def _pieces(self, count: int) -> Iterator[bytes]:
        for at in range(0, count, CHUNK_BYTES):
            self._wasi.scope.remaining()
            yield self._wasi.grants.random(min(CHUNK_BYTES, count - at))

    def _number(self) -> int:
        return int.from_bytes(self._bytes(8), "little")

    def get_random_bytes(self, len: int) -> bytes:
        return self._bytes(len)

    def get_random_u64(self) -> int:
        return self._number()

    def get_insecure_random_bytes(self, len: int) -> bytes:
        return self._bytes(len)

    def get_insecure_random_u64(self) -> int:
        return self._number()

    def insecure_seed(self) -> tuple[int, int]:
        return self._number(), self._number()


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Random(wasi)
