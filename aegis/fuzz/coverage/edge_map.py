"""The edges that test cases reached, by classes of how often: a bit for each of eight classes of a counter."""

from __future__ import annotations

import zlib

__all__ = ["EdgeMap", "adds", "bits_of", "merged", "packed", "reached"]

_FIRST = (1, 2, 3, 4, 8, 16, 32, 128)
"""The smallest count of each class."""
_CLASS_OF = bytes(0 if n == 0 else 1 << sum(n >= first for first in _FIRST) - 1 for n in range(256))
_MAX_KNOWN_VALUES = 1 << 20


class EdgeMap:
    """The map of ``size`` counters; ``seen`` has the bits of earlier test cases."""

    def __init__(self, size: int, seen: bytes = b"") -> None:
        self.size = size
        self._unseen = ~int.from_bytes(seen[:size], "little") & ((1 << 8 * size) - 1)
        self._known: set[int] = set()
        self.first = False
        """Whether the latest fresh bits have one of a counter that had been 0 in all test cases."""

    def fresh(self, counters: bytes) -> int:
        """Return the bits that no test case has set before, and set them; 0 if there are none."""
        key = hash(counters)
        if key in self._known:
            return 0
        if len(self._known) < _MAX_KNOWN_VALUES:
            self._known.add(key)
        new = bits_of(counters) & self._unseen
        if new:
            self.first = self._is_first(new)
            self._unseen ^= new
        return new

    def _is_first(self, new: int) -> bool:
        octets, unseen = new.to_bytes(self.size, "little"), self._unseen.to_bytes(self.size, "little")
        return any(byte and unseen[place] == 0xFF for place, byte in enumerate(octets))

    def bits(self) -> bytes:
        """Return the bits of all test cases."""
        return (~self._unseen & ((1 << 8 * self.size) - 1)).to_bytes(self.size, "little")


def bits_of(counters: bytes) -> int:
    """Return the bits that counters set."""
    return int.from_bytes(counters.translate(_CLASS_OF), "little")


def merged(one: bytes, two: bytes) -> bytes:
    """Return the bits of both maps."""
    both = int.from_bytes(one, "little") | int.from_bytes(two, "little")
    return both.to_bytes(max(len(one), len(two)), "little")


def packed(bits: int, size: int) -> bytes:
    """Return the bits of ``size`` counters for another process: few are set, so compression makes them small."""
    return zlib.compress(bits.to_bytes(size, "little"), 1)


def adds(bits: bytes, known: bytes) -> bool:
    """Return whether :func:`packed` bits are not all known."""
    return bool(int.from_bytes(zlib.decompress(bits), "little") & ~int.from_bytes(known, "little"))


def reached(bits: bytes) -> int:
    """Return the number of counters that were not always 0."""
    return len(bits) - bits.count(0)
