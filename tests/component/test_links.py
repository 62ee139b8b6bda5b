"""Components inside one component call each other by WebAssembly adapters, which changes nothing but the time.

Oracle: the same component with its calls routed through the host. ``test_composed.py`` and ``test_rules.py`` also run
in both ways, against the engine's own adapters.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aegis.wit.types import Function, List, Tuple, WitType, show
from tests.component.composed import aimed_chain_component, lying_chain_component
from tests.component.liars import AIMS, LENGTHS, LOWERED, POINTERS, aimed_exports, flat_images, images
from tests.component.linked import both
from tests.component.oracle import Trapped
from tests.component.pairs import ENCODINGS
from tests.component.strategies import any_types
from tests.echo import flat

PAIRS = list(itertools.product(ENCODINGS, ENCODINGS))
IMAGE_AT = 4096
"""The address that the first realloc of the liar in ``liars.py`` returns."""


def lie_exports(of: WitType) -> dict[str, Function]:
    image = (("x", List("u8")),)
    return {"as-result": Function(image, of), "as-argument": Function(image)}


def taken(of: WitType) -> dict[str, Any]:
    return {"take": (Function((("x", of),)), lambda x: None)}


@settings(max_examples=60)
@given(st.data())
def test_a_lie_ends_a_call_with_the_same_words(data: st.DataObject) -> None:
    of = data.draw(any_types(3))
    text = lying_chain_component(of, data.draw(st.sampled_from(ENCODINGS)), data.draw(st.sampled_from(ENCODINGS)))
    result = images(of) if len(flat(of)) > 1 else flat_images(of)
    argument = images(of) if len(flat(of)) > 16 else flat_images(of)
    with both(text, lie_exports(of), taken(of)) as check:
        for _ in range(3):
            (end,) = check(("as-result", data.draw(result)))
            event(type(end).__name__)
            check(("as-argument", data.draw(argument)))


@pytest.mark.usual(every=4)
@pytest.mark.parametrize(("liar", "listener"), PAIRS, ids="-".join)
def test_a_string_anywhere_ends_a_call_with_the_same_words(liar: str, listener: str) -> None:
    with both(lying_chain_component("string", liar, listener), lie_exports("string"), taken("string")) as check:
        for length, pointer in itertools.product(LENGTHS, POINTERS):
            check(("as-result", pointer.to_bytes(4, "little") + length.to_bytes(4, "little")))


def encoded(text: str, encoding: str) -> list[tuple[bytes, int]]:
    """Return the memory of a string and its length there; for compact strings both encodings, if there are two."""
    found = []
    if encoding != "utf16":
        name = "utf-8" if encoding == "utf8" else "latin-1"
        try:
            data = text.encode(name)
        except UnicodeEncodeError:
            pass
        else:
            found.append((data, len(data)))
    if encoding != "utf8":
        data = text.encode("utf-16-le", "surrogatepass")
        found.append((data, len(data) // 2 | (0 if encoding == "utf16" else 1 << 31)))
    return found


BAD: dict[str, list[bytes]] = {
    "utf8": [
        b"\x80", b"a\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2a", b"\xe0\x9f\xbf", b"\xe0\xa0", b"\xed\xa0\x80",
        b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\xf0\x9f\x98",
        b"x" * 15 + b"\xc3", b"x" * 16 + b"\x80", b"x" * 31 + b"\xe2\x82", b"\xc3\xa9" * 20 + b"\xf8",
        b"\xe2\x82\xac\xe2\x82", b"\xf0\x9f\x98\x80\xf0\x9f\x98",
    ],
    "utf16": [
        text.encode("utf-16-le", "surrogatepass")
        for text in (
            "\ud800", "\udc00", "a\udbff", "\ud83da", "\ude00\ud83d", "x" * 20 + "\ud800", "\ud83d\ud83d\ude00",
        )
    ],
}  # fmt: skip
GOOD = [
    "", "a", "abc", "abcd", "x" * 7, "x" * 8, "x" * 15, "x" * 16, "x" * 17, "x" * 33, "é", "aé", "éa" * 9,
    "x" * 16 + "é", "é" * 17, "€", "x€", "€x" * 11, "😀", "x😀", "😀" * 9, "ÿ" * 16 + "Ā", "\x7f\x80", "\u07ff\u0800",
    "\uffff\U00010000", "\U0010ffff", "\ud7ff\ue000", "a" * 40 + "😀" + "b" * 40, "\0",
]  # fmt: skip


@pytest.mark.usual(every=4)
@pytest.mark.parametrize(("liar", "listener"), PAIRS, ids="-".join)
def test_strings_good_and_bad_pass_as_through_the_host(liar: str, listener: str) -> None:
    images = [image for text in GOOD for image in encoded(text, liar)]
    if liar != "utf16":
        images += [(data, len(data)) for data in BAD["utf8"]]
    if liar != "utf8":
        images += [(data, len(data) // 2 | (0 if liar == "utf16" else 1 << 31)) for data in BAD["utf16"]]
    with both(lying_chain_component("string", liar, listener), lie_exports("string"), taken("string")) as check:
        trapped = 0
        for data, length in images:
            # The liar's first realloc is for the image, which contains the string's bytes.
            at = IMAGE_AT + 8
            (end,) = check(("as-result", at.to_bytes(4, "little") + length.to_bytes(4, "little") + data))
            trapped += isinstance(end, Trapped)
        assert trapped == len(BAD["utf8" if liar == "utf8" else "utf16"])


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(("of", "value"), LOWERED, ids=lambda x: repr(x)[:30])
def test_memory_anywhere_for_a_value_ends_a_call_with_the_same_words(of: WitType, value: Any) -> None:
    pairs = itertools.product(ENCODINGS, ENCODINGS) if "string" in show(of) else [("utf8", "utf8")]
    for caller, liar in pairs:
        text = aimed_chain_component(of, caller, liar)
        with both(text, aimed_exports(of), {"give": (Function((), of), lambda: value)}) as check:
            for aims in AIMS:
                check(("aim", *aims, 2048), ("take", value), ("count",))


ELEMENTS: list[WitType] = ["u8", "s16", "u64", "bool", "string", Tuple(("u32", "u64")), List("u16")]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("element", ELEMENTS, ids=show)
def test_a_list_anywhere_ends_a_call_with_the_same_words(element: WitType) -> None:
    of = List(element)
    with both(lying_chain_component(of, "utf8", "utf8"), lie_exports(of), taken(of)) as check:
        for length, pointer in itertools.product([n for n in LENGTHS if n < 0x1000 or n > 0xFFFF], POINTERS):
            check(("as-result", pointer.to_bytes(4, "little") + length.to_bytes(4, "little")))
