"""Shrinking ends at the least value of a planted predicate: thresholds, masks, ranges, remainders, prefixes.

The oracle is the predicate's known minimum. The loop is that of the shrinker: take the first simpler value that still
satisfies the predicate, until there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aegis.fuzz.values.generate import shape_of
from aegis.fuzz.values.scalars import Char, Float, Integer
from aegis.wit.types import List

U32, S64, U64 = Integer(0, 2**32 - 1), Integer(-(2**63), 2**63 - 1), Integer(0, 2**64 - 1)


def least(shape: Any, value: Any, holds: Callable[[Any], bool]) -> Any:
    """Return the value at which shrinking ends."""
    assert holds(value)
    while True:
        found = next((smaller for smaller in shape.simpler(value) if holds(smaller)), value)
        if found is value:
            return value
        value = found


@given(st.integers(0, 2**24 - 1))
def test_a_trap_for_a_low_byte_shrinks_to_that_byte(high: int) -> None:
    assert least(U32, high << 8 | 255, lambda x: x & 255 == 255) == 255


@given(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_threshold_shrinks_to_itself(limit: int, beyond: int) -> None:
    assert least(U64, min(limit + beyond, 2**64 - 1), lambda x: x >= limit) == limit


@given(st.integers(1, 2**63), st.integers(0, 2**63 - 1))
def test_a_negative_threshold_shrinks_to_itself(limit: int, beyond: int) -> None:
    assert least(S64, max(-limit - beyond, -(2**63)), lambda x: x <= -limit) == -limit


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_mask_shrinks_to_its_bits(mask: int, value: int) -> None:
    assume(mask)
    assert least(U32, value | mask, lambda x: x & mask == mask) == mask


@given(st.integers(1, 2**30), st.integers(0, 2**30), st.data())
def test_a_range_shrinks_to_its_lower_end(low: int, width: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(low, low + width))
    assert least(U32, value, lambda x: low <= x <= low + width) == low


@given(st.sampled_from([10, 100, 1000, 2, 4, 64, 4096]), st.integers(1, 100_000))
def test_a_multiple_shrinks_to_the_divisor(divisor: int, times: int) -> None:
    assert least(U32, divisor * times, lambda x: x > 0 and x % divisor == 0) == divisor


@given(st.integers(1, 0x10FFFF).filter(lambda point: not 0xD7FF <= point < 0xE000 and point > 97))
def test_a_character_shrinks_to_the_first_beyond_a_threshold(limit: int) -> None:
    value = chr(min(limit + 1000, 0x10FFFF)) if not 0xD000 <= limit < 0xE000 else chr(limit)
    assert ord(least(Char(), value, lambda c: ord(c) >= limit)) == limit


@given(st.integers(2, 2**40), st.integers(0, 2**20))
def test_a_float_shrinks_to_the_least_integer_beyond_a_threshold(limit: int, beyond: int) -> None:
    assert least(Float(64), float(limit + beyond) + 0.3, lambda x: x >= limit) == limit


@pytest.mark.parametrize(
    ("value", "holds", "minimum"),
    [
        ("xx\u00a0 yyyy", lambda t: "\u00a0 " in t, "\u00a0 "),
        ("hello world", lambda t: len(t) >= 7, "aaaaaaa"),
        ("prefix: rest", lambda t: t.startswith("pre"), "pre"),
    ],
)
def test_a_text_shrinks_to_the_part_that_matters(value: str, holds: Callable[[str], bool], minimum: str) -> None:
    assert least(shape_of("string"), value, holds) == minimum


@given(st.binary(max_size=64))
def test_bytes_shrink_to_a_prefix(rest: bytes) -> None:
    magic = b"\0asm"
    assert least(shape_of(List("u8")), magic + rest, lambda data: data.startswith(magic)) == magic
