"""A guest that violates the canonical ABI, or seems to, ends in Aegis as in the engine.

Oracle: wasmtime-py's component classes on the same component and numbers. A trap in one is a trap in the other. Where
the engine accepts an unusual number (a bool of 2, undefined flags, the upper half of a joined value), Aegis makes the
same value of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aegis.wit.types import Enum, Flags, Function, List, Option, Record, Result, Tuple, Variant, WitType, show
from tests.component.liars import (
    AIMS,
    LENGTHS,
    LOWERED,
    POINTERS,
    aimed_exports,
    flat_images,
    images,
    lifting_liar,
    lowering_liar,
)
from tests.component.pairs import ENCODINGS, Pair
from tests.component.strategies import TEXTS, any_types
from tests.echo import flat

pytestmark = pytest.mark.usefixtures("entries")

PRIMITIVE_LIES: list[WitType] = [
    "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "char", Flags("f", ("a", "b", "c")),
    Flags("f", tuple(f"f{n}" for n in range(9))), Flags("f", tuple(f"f{n}" for n in range(32))),
    Enum("e", ("a", "b", "c")), Enum("e", tuple(f"c{n}" for n in range(257))), Result(), Option("u8"),
    Variant("v", (("a", "u8"), ("b", "u64"), ("c", "f32"))), Variant("v", (("a", "f32"), ("b", "s16"), ("c", None))),
]  # fmt: skip


def lifting(of: WitType, encoding: str = "utf8") -> Pair:
    image = Function((("x", List("u8")),), of)
    taker = Function((("x", of),))
    exports = {"as-result": image, "as-argument": Function(image.params)}
    return Pair(lifting_liar(of, encoding), exports, {"take": (taker, lambda x: None)})


@settings(max_examples=60)
@given(st.data())
def test_any_memory_image_is_the_same_value_or_a_trap(data: st.DataObject) -> None:
    of = data.draw(any_types(4))
    result = images(of) if len(flat(of)) > 1 else flat_images(of)
    argument = images(of) if len(flat(of)) > 16 else flat_images(of)
    with lifting(of, data.draw(st.sampled_from(ENCODINGS))) as pair:
        for _ in range(3):
            (end,) = pair.check(("as-result", data.draw(result)))
            event(type(end).__name__)
            pair.check(("as-argument", data.draw(argument)))


NUMBERS = (
    0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x101, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, 0xD7FF, 0xD800, 0xDFFF, 0xE000,
    0x10_FFFF, 0x11_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF, 0x1_0000_0000, 2**63, 2**64 - 1,
)  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("of", PRIMITIVE_LIES, ids=lambda of: show(of)[:40])
def test_any_number_is_the_same_value_or_a_trap(of: WitType) -> None:
    width = max(8 * len(flat(of)), 8)
    with lifting(of) as pair:
        for number in NUMBERS:
            for image in (number | number << 64, number << 8 | 1, number << 64 | 1):
                octets = (image & (1 << 8 * width) - 1).to_bytes(width, "little")
                pair.check(("as-result", octets))
                pair.check(("as-argument", octets))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_string_anywhere_of_any_length_is_the_same_or_a_trap(encoding: str) -> None:
    with lifting("string", encoding) as pair:
        _grid(pair, (n for n in LENGTHS if n not in (0x1FFF, 0x2000, 0xFFFF)))


ELEMENTS: list[WitType] = [
    "u8", "bool", "u16", "char", "u64", "f32", "string", List("u8"), Tuple(("u8", "u64")), Option("u16"),
    Enum("e", ("a",)), Flags("f", tuple(f"f{n}" for n in range(9))), Record("r", (("a", "u8"), ("b", "u16"))),
]  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("element", ELEMENTS, ids=show)
def test_a_list_anywhere_of_any_length_is_the_same_or_a_trap(element: WitType) -> None:
    with lifting(List(element)) as pair:
        _grid(pair, (n for n in LENGTHS if n not in (0x1FFF, 0xFFFF) and (n != 0x2000 or element in ("u8", "u64"))))


def _grid(pair: Pair, lengths: Iterable[int]) -> None:
    for length in lengths:
        for pointer in POINTERS:
            pair.check(("as-result", pointer.to_bytes(4, "little") + length.to_bytes(4, "little")))
            pair.check(("as-argument", pointer.to_bytes(8, "little") + length.to_bytes(8, "little")))


@settings(max_examples=80)
@given(
    st.lists(st.binary(max_size=24) | TEXTS.map(str.encode) | TEXTS.map(lambda t: t.encode("utf-16-le")), min_size=1)
)
def test_any_bytes_are_the_same_string_or_a_trap(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    for encoding in ENCODINGS:
        for length in {len(octets), len(octets) // 2, len(octets) // 2 | 0x8000_0000}:
            with texts(encoding) as pair:
                pair.check(("text", octets, length))


def texts(encoding: str) -> Pair:
    """A guest that returns bytes as a string of a given length."""
    text = f"""(component
      (type $octets (list u8))
      (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "text") (param i32 i32 i32) (result i32)
          (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 2)) (i32.const 0)))
      (core instance $m (instantiate $m))
      (func (export "text") (param "octets" $octets) (param "length" u32) (result string)
        (canon lift (core func $m "text") string-encoding={encoding}
          (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""
    return Pair(text, {"text": Function((("octets", List("u8")), ("length", "u32")), "string")}, {})


# -- realloc and result areas that lie -----------------------------------------------------------------


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("of", "value", "encoding"),
    [(of, value, encoding) for of, value in LOWERED for encoding in (ENCODINGS if "string" in show(of) else ("utf8",))],
    ids=lambda x: repr(x)[:30],
)
def test_memory_anywhere_for_a_value_is_taken_or_a_trap(of: WitType, value: Any, encoding: str) -> None:
    with Pair(lowering_liar(of, encoding), aimed_exports(of), {"give": (Function((), of), lambda: value)}) as pair:
        for aims in AIMS:
            aim = ("aim", *aims, 2048)
            pair.check(aim, ("take", value), ("count",))
            pair.check(aim, ("fetch", 16), ("count",))
        for at in (1, 2, 4, *POINTERS[5:]):
            pair.check(("fetch", at), ("count",))


_IMAGE = 4096
"""The address that the liar's realloc returns for the first image."""
_NEAR = st.tuples(st.integers(0, 80), st.integers(0, 40))
_FAR = st.tuples(st.sampled_from(POINTERS), st.sampled_from(LENGTHS))


@settings(max_examples=150)
@given(st.lists(_NEAR | _FAR, max_size=6), st.binary(max_size=120) | st.text("ab é€", max_size=60).map(str.encode))
def test_strings_of_a_list_anywhere_are_the_same_or_a_trap(places: list[tuple[int, int]], octets: bytes) -> None:
    """Strings that are adjacent, overlapping or far apart, with bytes that are not valid text."""
    words = _IMAGE + 8
    texts = words + 8 * len(places)
    numbers = [words, len(places)]
    for at, size in places:
        numbers += [texts + at if at <= 80 else at, size]
    with lifting(List("string")) as pair:
        image = b"".join((n & 0xFFFF_FFFF).to_bytes(4, "little") for n in numbers) + octets
        (end,) = pair.check(("as-result", image))
        event(type(end).__name__)
