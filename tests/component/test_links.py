"""Components inside one component call each other by adapters in WebAssembly, and nothing but the time shows that.

Oracle: the same component whose calls pass through the host. ``test_composed.py`` and ``test_rules.py`` run in both ways
besides, against the engine's own adapters.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aegis import Aegis, AegisError, Cancelled, DeadlineExceeded, GuestTrap, MemoryExceeded, StackExhausted
from aegis.component.adapters import adapter_texts
from aegis.wit.types import Enum, Flags, Function, List, Option, Record, Result, Tuple, Variant, WitType, show
from tests.component.aegis_side import Guest
from tests.component.composed import aimed_chain_component, chain_component, lying_chain_component
from tests.component.hot import is_linked, unlinked
from tests.component.liars import AIMS, LENGTHS, LOWERED, POINTERS, aimed_exports, flat_images, images
from tests.component.oracle import Outcome
from tests.component.pairs import ENCODINGS
from tests.component.strategies import any_types
from tests.echo import Manner, flat

RUNTIME = Aegis(cache=False, pooled=False, timeout="60s")
PAIRS = list(itertools.product(ENCODINGS, ENCODINGS))
IMAGE_AT = 4096
"""The address of the first realloc of the liar of ``liars.py``."""


def ends(guest: Guest, *calls: tuple[Any, ...]) -> list[Outcome | str]:
    """Make the calls, up to the first trap; return the outcomes, and the whole text of a trap."""
    found: list[Outcome | str] = []
    for name, *arguments in calls:
        end = guest.call(name, *arguments)
        message = getattr(end, "message", None)
        found.append(end if message is None else f"{end.code}: {message}")  # type: ignore[union-attr]
        if message is not None:
            break
    return found


@contextmanager
def both(text: str, exports: dict[str, Function], imports: Any = None) -> Iterator[Callable[..., list[Outcome | str]]]:
    """Yield what makes calls on fresh instances in both ways, whose ends must be the same to the letter."""
    component = RUNTIME.load_wat(text)
    with Guest(component, exports, imports, RUNTIME) as linked:  # type: ignore[arg-type]
        with unlinked():
            other = Guest(RUNTIME.load_wat(text), exports, imports, RUNTIME)  # type: ignore[arg-type]
        assert is_linked(linked.sandbox)
        assert not is_linked(other.sandbox)

        def check(*calls: tuple[Any, ...]) -> list[Outcome | str]:
            linked.reset()
            with unlinked():
                other.reset()
            mine = ends(linked, *calls)
            assert mine == ends(other, *calls), calls
            return mine

        with other:
            yield check


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


@pytest.mark.parametrize(("liar", "listener"), PAIRS, ids="-".join)
def test_a_string_anywhere_ends_a_call_with_the_same_words(liar: str, listener: str) -> None:
    with both(lying_chain_component("string", liar, listener), lie_exports("string"), taken("string")) as check:
        for length, pointer in itertools.product(LENGTHS, POINTERS):
            check(("as-result", pointer.to_bytes(4, "little") + length.to_bytes(4, "little")))


def encoded(text: str, encoding: str) -> list[tuple[bytes, int]]:
    """Return what a string is in memory, and its length there: of compact strings both forms, where there are two."""
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
        for text in ("\ud800", "\udc00", "a\udbff", "\ud83da", "\ude00\ud83d", "x" * 20 + "\ud800", "\ud83d\ud83d\ude00")
    ],
}  # fmt: skip
GOOD = [
    "", "a", "abc", "abcd", "x" * 7, "x" * 8, "x" * 15, "x" * 16, "x" * 17, "x" * 33, "é", "aé", "éa" * 9, "x" * 16 + "é",
    "é" * 17, "€", "x€", "€x" * 11, "😀", "x😀", "😀" * 9, "ÿ" * 16 + "Ā", "\x7f\x80", "\u07ff\u0800", "\uffff\U00010000",
    "\U0010ffff", "\ud7ff\ue000", "a" * 40 + "😀" + "b" * 40, "\0",
]  # fmt: skip


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
            # The liar's first realloc is for the image, and the string's bytes lie in it.
            at = IMAGE_AT + 8
            (end,) = check(("as-result", at.to_bytes(4, "little") + length.to_bytes(4, "little") + data))
            trapped += isinstance(end, str)
        assert trapped == len(BAD["utf8" if liar == "utf8" else "utf16"])


@pytest.mark.parametrize(("of", "value"), LOWERED, ids=lambda x: repr(x)[:30])
def test_memory_anywhere_for_a_value_ends_a_call_with_the_same_words(of: WitType, value: Any) -> None:
    pairs = itertools.product(ENCODINGS, ENCODINGS) if "string" in show(of) else [("utf8", "utf8")]
    for caller, liar in pairs:
        text = aimed_chain_component(of, caller, liar)
        with both(text, aimed_exports(of), {"give": (Function((), of), lambda: value)}) as check:
            for aims in AIMS:
                check(("aim", *aims, 2048), ("take", value), ("count",))


# -- what adapters are, to the letter ---------------------------------------------------------------------


def two(function: str, callee: str, caller: str, *, options: str = "", lowering: str = "", types: str = "") -> str:
    """Return a component of two: ``$b`` exports ``f``, of the type ``function``, and ``$a`` imports it and exports
    ``go``. ``callee`` and ``caller`` are the fields of core modules that export a memory ``m`` and a ``realloc``."""
    return f"""(component
      {types}
      (component $b {types}
        (core module $m {callee})
        (core instance $m (instantiate $m))
        (func (export "f") {function} (canon lift (core func $m "f") {options})))
      (component $a {types}
        (import "f" (func $f {function}))
        (core module $s (memory (export "m") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $s (instantiate $s))
        (core func $f (canon lower (func $f) {lowering}))
        (core module $m (import "" "m" (memory 1)) {caller})
        (core instance $m (instantiate $m (with "" (instance (export "f" (func $f)) (export "m" (memory $s "m"))))))
        (func (export "go") (param "x" u32) (result u32) (canon lift (core func $m "go"))))
      (instance $b (instantiate $b))
      (instance $a (instantiate $a (with "f" (func $b "f"))))
      (export "go" (func $a "go")))"""


GO = {"go": Function((("x", "u32"),), "u32")}
_MEMORY = """(memory (export "m") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))"""
_INNER = '(memory (core memory $m "m")) (realloc (core func $m "realloc"))'
_OUTER = '(memory (core memory $s "m")) (realloc (core func $s "realloc"))'
NARROW = two(
    '(param "x" u8) (param "y" char) (result bool)',
    '(func (export "f") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))'
    ' (func (export "post") (param i32))',
    """(import "" "f" (func $f (param i32 i32) (result i32)))
       (func (export "go") (param i32) (result i32) (call $f (local.get 0) (i32.const 0)))""",
    options='(post-return (core func $m "post"))',
)


def test_the_text_of_an_adapter() -> None:
    """Oracle: the text, read by a person: it is trusted code."""
    component: Any = RUNTIME.load_wat(NARROW)
    assert adapter_texts(component.program) == [
        """(module $aegis:between
(import "" "0" (func $g0 (param i32) (param i32) (result i32)))
(import "" "1" (global $v1 (mut i32)))
(import "" "2" (func $g2 (param i32)))
(func (export "0") (param $p0 i32) (param $p1 i32) (result i32)
)"""
    ]
