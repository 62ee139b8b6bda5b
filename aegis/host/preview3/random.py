"""``wasi:random``: bytes from the source of the sandbox, which the insecure interfaces use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.host.random_numbers import RandomNumbers

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]


class _RandomFunctions:
    """``wasi:random/random``, ``insecure`` and ``insecure-seed``."""

    def __init__(self, wasi: Wasi) -> None:
        self._numbers = RandomNumbers(wasi)

    def get_random_bytes(self, max_len: int) -> bytes:
        """Return ``max_len`` bytes, or as many as one value may have: the guest asks again for the rest."""
        return self._numbers.read(min(max_len, self._numbers.most))

    def get_random_u64(self) -> int:
        return self._numbers.number()

    def get_insecure_random_bytes(self, max_len: int) -> bytes:
        return self._numbers.read(min(max_len, self._numbers.most))

    def get_insecure_random_u64(self) -> int:
        return self._numbers.number()

    def get_insecure_seed(self) -> tuple[int, int]:
        return self._numbers.number(), self._numbers.number()


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _RandomFunctions(wasi)
