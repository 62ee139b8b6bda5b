"""Random bytes: the system's, or a seeded generator's, which reveal nothing and are the same in each run (D2)."""

from __future__ import annotations

import os
from collections.abc import Callable

from aegis.policy import RandomCapability
from aegis.policy.remedies import denied_reading

__all__ = ["CHUNK_BYTES", "acquire_random"]

CHUNK_BYTES = 1 << 16
"""Bytes that are drawn at once; the deadline is checked between two chunks."""


class Seeded:
    """A stream of bytes that depends on ``seed`` alone, on every platform and version.

    BLAKE2b in counter mode. It is a stand-in, not a secret: the seed determines every byte.
    """

    def __init__(self, seed: int) -> None:
        from _blake2 import blake2b  # the same as in hashlib, which takes longer to load than most guests run

        self._hash = blake2b
        self._key = b"aegis random stand-in" + seed.to_bytes(8, "little")
        self._counter = 0
        self._left = b""

    def __call__(self, count: int) -> bytes:
        """Return the next ``count`` bytes of the stream."""
        pieces = [self._left]
        have = len(self._left)
        while have < count:
            block = self._hash(self._counter.to_bytes(8, "little"), key=self._key).digest()
            self._counter += 1
            pieces.append(block)
            have += len(block)
        stream = b"".join(pieces)
        self._left = stream[count:]
        return stream[:count]


def _denied(count: int) -> bytes:
    raise denied_reading("random")


def acquire_random(capability: RandomCapability) -> Callable[[int], bytes]:
    """Return the function that returns a given number of random bytes."""
    if capability.mode == "system":
        return os.urandom
    return _denied if capability.mode == "deny" else Seeded(capability.seed)
