"""Boundary values: programs fail at these more often than at the values between them."""

from __future__ import annotations

import math

__all__ = ["AMOUNTS", "BULK_LENGTHS", "CHARACTERS", "FLOATS", "LENGTHS", "NANS", "SINGLES", "SNIPPETS", "integers"]

LENGTHS = (
    0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 1023,
    1024, 1025, 2047, 2048, 4095, 4096, 4097,
)  # fmt: skip
"""Lengths of strings and lists at and around common buffer sizes."""

BULK_LENGTHS = tuple(
    sorted([65_535, 65_536, 65_537] * 3 + list({(1 << bits) + near for bits in range(13, 27) for near in (-1, 0, 1)}
           | {10_000, 32_766, 49_152, 65_534, 65_537, 65_540, 70_000, 99_999, 100_000, 131_070, 10**6, 10**7}))
)  # fmt: skip
"""Lengths beyond those, up to 64 Mi: ends of 16-bit counters, pages and blocks, and round numbers."""

AMOUNTS = tuple(
    sorted({digit * 10**power + near for digit in (1, 2, 5) for power in range(1, 19) for near in (-1, 0, 1)}
           | {12, 24, 28, 29, 30, 31, 42, 60, 80, 90, 180, 360, 365, 366, 400, 443, 1440, 1500, 1582, 1600, 1899, 1900,
              1969, 1970, 1999, 2024, 2038, 2100, 3600, 8080, 9999, 44_100, 48_000, 86_399, 86_400, 86_401, 604_800,
              2_592_000, 31_536_000, 31_622_400, 0x0DEADBEE})
)  # fmt: skip
"""Typical amounts of programs: round decimal numbers and their neighbours, calendar, time, ports, rates."""

FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.1, 1.5, 2.0, 10.0, 255.0, 256.0, 65536.0, 2.0**24, 2.0**24 + 1, 2.0**31,
    2.0**32, 2.0**53, 2.0**53 + 2, 2.0**63, 2.0**64, 1e308, 5e-324, 2.2250738585072014e-308, 1.1754943508222875e-38,
    3.4028234663852886e38, math.inf, -math.inf, math.nan, math.pi,
)  # fmt: skip

SINGLES = (
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.0, 10.0, 255.0, 256.0, 65536.0, 2.0**24, 2.0**24 + 2, 2.0**31, 2.0**32,
    2.0**63, 2.0**64, 2.0**-149, -(2.0**-149), 2.0**-126 - 2.0**-149, 2.0**-126, 1 + 2.0**-23, 1 - 2.0**-24,
    2.0**128 - 2.0**104, -(2.0**128 - 2.0**104), math.inf, -math.inf, math.nan,
)  # fmt: skip
"""32-bit floats, among them the smallest and largest subnormal and normal numbers, and the neighbours of 1."""

NANS = (
    0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000, 0x7FF8_0000_0000_0001, 0x7FF0_0000_0000_0001, 0xFFF4_0000_0000_0000,
    0x7FFC_0000_0000_0000, 0x7FF8_0000_2000_0000, 0xFFFF_FFFF_FFFF_FFFF,
)  # fmt: skip
"""Bit patterns of 64-bit NaNs: both signs, quiet and signalling, several payloads, some of which fit into 32 bits."""

CHARACTERS = (
    "\0", "\x01", "\t", "\n", "\r", "\x1b", " ", "!", '"', "#", "$", "%", "&", "'", "(", ")", "*", "+", ",", "-",
    ".", "/", "0", "1", "7", "9", ":", ";", "<", "=", ">", "?", "@", "A", "Z", "[", "\\", "]", "^", "_", "`", "a",
    "b", "e", "x", "z", "{", "|", "}", "~", "\x7f", "\x80", "\xa0", "\xad", "\xdf", "\xe9", "\xff", "\u0130",
    "\u0131", "\u017f", "\u0301", "\u0345", "\u03c2", "\u05d0", "\u0600", "\u07ff", "\u0800", "\u200b", "\u200d",
    "\u200f", "\u2028", "\u202e", "\u3000", "\ud7ff", "\ue000", "\ufe0f", "\ufeff", "\ufffd", "\ufffe", "\uffff",
    "\U00010000", "\U0001f600", "\U0001f468", "\U000e0001", "\U0010fffe", "\U0010ffff",
)  # fmt: skip

SNIPPETS = (
    "", "0", "-1", "null", "true", "NaN", "../", "/", "//", "\\", "%s", "%n", "%00", "{}", "[]", "()", "[[", "((",
    "{{", "}}", "]]", "<a>", "</", "<!--", "&amp;", "&#0;", "\\u0000", "\\x", "''", '""', "a=b", "a,b", "a:b",
    "1e309", "0x", "-0", "1.", ".5", "\r\n", "--", "/*", "*/", "aa", "abab", "é", "e\u0301",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "١٢٣", "ﷺ",
)  # fmt: skip


def integers(low: int, high: int) -> tuple[int, ...]:
    """Return the boundary values of an integer range: its ends, zero, powers of two, and their neighbours."""
    found = {low, low + 1, high, high - 1, 0, 1, -1, 2, 3, 10, 100, 1000}
    for bits in range(1, 65):
        for near in (-1, 0, 1):
            found |= {(1 << bits) + near, near - (1 << bits)}
    return tuple(sorted(value for value in found if low <= value <= high))
