"""A cursor over untrusted bytes of a DWARF section."""

from __future__ import annotations

__all__ = ["BadDwarf", "Cursor"]

_MAX_LEB_BYTES = 10


class BadDwarf(Exception):
    """The bytes violate the format."""


class Cursor:
    """Reads little-endian numbers and strings from ``at`` up to ``end``; reading past it raises :class:`BadDwarf`."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = len(data) if end is None else min(end, len(data))

    def skip(self, count: int) -> int:
        """Advance, and return the place before."""
        start = self.at
        if count < 0 or count > self.end - start:
            raise BadDwarf("a length reaches past the end")
        self.at = start + count
        return start

    def number(self, size: int) -> int:
        """Read an unsigned integer of ``size`` bytes."""
        start = self.skip(size)
        return int.from_bytes(self.data[start : self.at], "little")

    def unsigned(self) -> int:
        """Read an unsigned LEB128 integer."""
        value = shift = 0
        for _ in range(_MAX_LEB_BYTES):
            byte = self.data[self.skip(1)]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise BadDwarf("an integer is too long")

    def signed(self) -> int:
        """Read a signed LEB128 integer."""
        start = self.at
        value = self.unsigned()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def string(self) -> tuple[int, int]:
        """Read a string that ends with a zero byte; return its start and its end."""
        stop = self.data.find(b"\0", self.at, self.end)
        if stop < 0:
            raise BadDwarf("a string has no end")
        start, self.at = self.at, stop + 1
        return start, stop
