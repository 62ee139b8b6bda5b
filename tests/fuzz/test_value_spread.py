"""The distribution of generated values: what share falls where.

The oracle of each test is a share of many values drawn with a fixed seed, with a wide margin.
"""

from __future__ import annotations

import math
import random
import struct
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aegis.fuzz.dictionary import Dictionary
from aegis.fuzz.values.edges import LENGTHS
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.fuzz.values.scalars import Integer
from aegis.fuzz.values.scripts import script_text
from aegis.fuzz.values.sequences import BULK_ITEMS
from aegis.wit.types import List

DRAWS = 20_000


def drawn(shape: Any, size: int = 64, count: int = DRAWS) -> list[Any]:
    rng = random.Random(11)
    return [shape.random(rng, size) for _ in range(count)]


def share(values: list[Any], holds: Callable[[Any], bool]) -> float:
    return sum(map(holds, values)) / len(values)


@pytest.mark.parametrize("kind", ["s16", "s32", "s64", "u16", "u32", "u64"])
def test_integers_have_all_magnitudes(kind: str) -> None:
    """Oracle: each number of bits is drawn, and from 8 bits on none is drawn less often than one time in 200."""
    values = drawn(shape_of(kind))
    widths = Counter(abs(value).bit_length() for value in values)
    most = int(kind[1:]) - (kind[0] == "s")
    assert all(widths[bits] > DRAWS / 200 for bits in range(8, most + 1)), widths


@pytest.mark.parametrize("kind", ["s8", "s32", "s64"])
def test_signed_integers_have_both_signs(kind: str) -> None:
    values = drawn(shape_of(kind))
    assert 0.3 < share(values, lambda value: value < 0) < 0.55
    middle = [value for value in values if 256 <= abs(value) < 1 << 30]
    if kind != "s8":
        assert len(middle) > 0.25 * DRAWS
        assert 0.25 < share(middle, lambda value: value < 0) < 0.6


@pytest.mark.parametrize(
    ("holds", "least"),
    [
        (lambda v: v in (0, 1, -1, -(2**63), 2**63 - 1), 0.06),
        (lambda v: abs(v) < 256, 0.15),
        (lambda v: any(abs(abs(v) - (1 << bits)) <= 1 for bits in range(8, 64)), 0.08),
        (lambda v: 10**9 <= v < 2.3 * 10**9, 0.01),
        (lambda v: 10**12 <= v < 2.3 * 10**12, 0.003),
        (lambda v: v >= 100 and str(v).strip("0") in "125", 0.02),
    ],
    ids=["ends", "small", "powers of two", "seconds since 1970", "milliseconds since 1970", "round numbers"],
)  # fmt: skip
def test_a_share_of_integers_is_notable(holds: Callable[[int], bool], least: float) -> None:
    assert share(drawn(shape_of("s64")), holds) > least


def test_a_core_integer_is_drawn_like_a_signed_one() -> None:
    values = drawn(core_shape("i32"))
    assert 0.2 < share(values, lambda value: 256 <= abs(value) < 1 << 30) < 0.8


def test_arguments_are_near_each_other() -> None:
    """Oracle: with a dictionary, one pair in 200 differs by at most 4 and is not small, twice as many as without."""

    def near(shape: Integer) -> float:
        rng = random.Random(5)
        pairs = [(shape.random(rng, 1), shape.random(rng, 1)) for _ in range(DRAWS)]
        return share(pairs, lambda pair: abs(pair[0] - pair[1]) <= 4 and abs(pair[0]) > 1000)

    dictionary = Dictionary()
    assert near(Integer(0, 2**32 - 1, dictionary)) > 0.005
    assert near(Integer(0, 2**32 - 1, dictionary)) > 2 * near(Integer(0, 2**32 - 1))


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_have_all_exponents(bits: int) -> None:
    """Oracle: of the exponents of this width, in 32 equal ranges, each is drawn at least once in 1,000 times."""
    form, whole, places = ("<f", "<I", 23) if bits == 32 else ("<d", "<Q", 52)
    values = [value for value in drawn(shape_of(f"f{bits}")) if not math.isnan(value)]
    raw = [struct.unpack(whole, struct.pack(form, value))[0] for value in values]
    ranges = Counter(
        (number >> places & (0xFF if bits == 32 else 0x7FF)) * 32 >> (8 if bits == 32 else 11) for number in raw
    )
    assert all(ranges[n] > DRAWS / 1000 for n in range(32)), ranges
    assert 0.2 < share(values, lambda value: math.copysign(1, value) < 0) < 0.6
    assert share(values, lambda value: value != int(value) if math.isfinite(value) else False) > 0.15


@pytest.mark.usual("string")
@pytest.mark.parametrize("of", ["string", List("u8"), List("u32")], ids=str)
def test_large_values_have_lengths_around_powers_of_two(of: Any) -> None:
    """Oracle: of large values more than a third has a length at or around 2^13 to 2^17, and some exactly 2^16."""
    lengths = [len(value) for value in drawn(shape_of(of), 1 << 17, 1200)]
    edges = {(1 << bits) + near for bits in range(13, 18) for near in (-1, 0, 1)}
    assert share(lengths, edges.__contains__) > 1 / 3
    assert {65_535, 65_536, 65_537} <= set(lengths)
    assert share(lengths, lambda length: length >= 65_536) > 0.15
    assert max(lengths) <= 1 << 17


def test_a_part_of_a_record_gets_the_whole_size() -> None:
    from aegis.wit.types import Tuple

    values = drawn(shape_of(Tuple(("string", "string", "u8"))), 1 << 17, 300)
    assert share(values, lambda value: max(len(value[0]), len(value[1])) >= 65_536) > 0.1
    assert not any(len(value[0]) >= BULK_ITEMS <= len(value[1]) for value in values)


SCRIPTS = (
    "LATIN",
    "GREEK",
    "CYRILLIC",
    "HEBREW",
    "ARABIC",
    "DEVANAGARI",
    "THAI",
    "HANGUL",
    "HIRAGANA",
    "CJK",
    "CHEROKEE",
)


def test_texts_are_of_many_scripts() -> None:
    texts = drawn(shape_of("string"), 64)
    seen = Counter(
        script
        for text in texts
        for script in {unicodedata.name(c, "").partition(" ")[0] for c in text[:200]} & set(SCRIPTS)
    )
    assert all(seen[script] > DRAWS / 500 for script in SCRIPTS), seen
    assert share(texts, lambda text: any(ord(c) > 0xFFFF for c in text)) > 0.05


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_texts_are_of_all_normal_forms(form: Any) -> None:
    """Oracle: some texts change by each normalisation, and some grow to twice their length in bytes."""
    texts = [text for text in drawn(shape_of("string"), 64) if not text.isascii()]
    assert share(texts, lambda text: not unicodedata.is_normalized(form, text)) > 0.05
    grown = 1.3 if form in ("NFC",) else 2
    assert (
        share(texts, lambda text: len(unicodedata.normalize(form, text).encode()) >= grown * len(text.encode())) > 0.004
    )


def test_texts_change_their_length_with_their_case() -> None:
    rng = random.Random(3)
    texts = [script_text(rng, 12) for _ in range(4000)]
    assert share(texts, lambda text: len(text.upper()) != len(text)) > 0.05
    assert share(texts, lambda text: len(text.lower().encode()) != len(text.encode())) > 0.05


def test_an_integer_is_often_the_length_of_a_list_beside_it() -> None:
    """Oracle: with a dictionary, twice as many integers as without are the length of the list before them."""

    def alike(dictionary: Dictionary | None) -> float:
        rng, numbers, items = (
            random.Random(6),
            shape_of("u32", None, dictionary),
            shape_of(List("f32"), None, dictionary),
        )
        pairs = [(len(items.random(rng, 1000)), numbers.random(rng, 1)) for _ in range(DRAWS)]
        return share(pairs, lambda pair: pair[0] == pair[1] and pair[0] not in LENGTHS)

    assert alike(Dictionary()) > 2 * alike(None)
