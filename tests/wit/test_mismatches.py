"""A type that differs from the bindings is an error that names its place."""

from __future__ import annotations

import pytest

from aegis.wit.match import Mismatch, merged
from aegis.wit.types import Enum, Flags, Function, List, Option, Record, Result, Stream, Tuple, Variant, WitType


def item(cents: WitType) -> Record:
    return Record("item", (("name", "string"), ("cents", cents)))


def problem(payload: WitType | None, *names: str) -> Variant:
    cases = (("closed", None), ("bad", payload), *((name, None) for name in names))
    return Variant("problem", cases, python=(object,) * len(cases))


DIFFERENT: list[tuple[WitType, WitType, str]] = [
    (item("u32"), item("u64"), "x.cents: it has u32, but the bindings have u64"),
    (List(Option(item("u32"))), List(Option(item("u64"))), "x[].some.cents: it has u32, but the bindings have u64"),
    (Tuple(("u8", "u8")), Tuple(("u8", "s8")), "x[1]: it has u8, but the bindings have s8"),
    (Result(None, problem("u8")), Result(None, problem(None)), "x.err.bad: it has u8, but the bindings have _"),
    (Stream("u8"), Stream("u16"), "x[]: it has u8, but the bindings have u16"),
    (item("u8"), Record("item", (("name", "string"),)), "x: item has the fields name, cents, but in the bindings name"),
    (
        problem(None, "new"), problem(None),
        "x: problem has the cases closed, bad, new, but in the bindings closed, bad",
    ),
    (Enum("size", ("s", "m")), Enum("size", ("s",)), "x: size has the cases s, m, but in the bindings s"),
    (Flags("mode", ("r", "w")), Flags("mode", ("w",)), "x: mode has the flags r, w, but in the bindings w"),
    (item("u8"), problem(None), "x: it has item, but the bindings have problem"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "stated", "message"), DIFFERENT, ids=[message for *_, message in DIFFERENT])
def test_the_place_of_a_difference_is_named(found: WitType, stated: WitType, message: str) -> None:
    with pytest.raises(Mismatch) as raised:
        merged(Function((("x", found),)), Function((("x", stated),)))
    assert str(raised.value) == message
    with pytest.raises(Mismatch) as raised:
        merged(Function((), found), Function((), stated))
    assert str(raised.value) == f"result{message[1:]}"


def test_a_place_from_the_guest_is_escaped() -> None:
    with pytest.raises(Mismatch, match=r"^a\\n: it has u8"):
        merged(Function((("a\n", "u8"),)), Function((("a", "u16"),)))
