"""Values cross a component boundary in Aegis as in the engine's own component runtime.

Oracle: wasmtime-py's component classes on the same component and values. Both give the same results, pass the same
arguments to host functions, and call the guest's ``realloc`` with the same arguments in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.wit.types import Enum, Flags, List, Option, Record, Result, Tuple, Variant, WitType, show
from aegis.wit.values import Err, Ok, Some
from tests.component.oracle import Outcome, Returned, agree
from tests.component.pairs import ENCODINGS, echo_pair
from tests.component.strategies import TEXTS, echoes
from tests.echo import Manner, logging_echo_component

pytestmark = pytest.mark.usefixtures("entries")

MANNERS = st.builds(
    Manner,
    through=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    post_return=st.booleans(),
    odd=st.booleans(),
)


def echoed(params: Sequence[WitType], manner: Manner, calls: Sequence[Sequence[Any]]) -> list[Outcome]:
    """Return the outcomes of the calls and of ``log``, which must agree on both sides."""
    text = logging_echo_component(params, manner)
    with echo_pair(text, params, ["log"], hosted=manner.through) as pair:
        return pair.check(*(("echo-back", *arguments) for arguments in calls), ("log",))


@settings(max_examples=100)
@given(echoes(), MANNERS)
def test_values_of_any_type_cross_as_in_the_engine(case: tuple[list[WitType], list[list[Any]]], manner: Manner) -> None:
    params, calls = case
    echoed(params, manner, calls)


@pytest.mark.usual(every=2)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_texts_cross_in_every_encoding_with_the_same_reallocs(encoding: str) -> None:
    params: list[WitType] = ["string", List("string"), Record("r", (("a", "u8"), ("b", "string")))]
    text = logging_echo_component(params, Manner(through=True, encoding=encoding, odd=True))
    with echo_pair(text, params, ["log"], hosted=True) as pair:

        @settings(max_examples=60)
        @given(st.lists(TEXTS, min_size=1, max_size=6))
        def check(texts: list[str]) -> None:
            calls = [(text, texts, {"a": 1, "b": text}) for text in texts]
            ends = pair.check(*(("echo-back", *call) for call in calls), ("log",))
            assert ends[:-1] == [Returned(call) for call in calls]

        check()


@pytest.mark.parametrize("through", [False, True], ids=["by itself", "through an import"])
@pytest.mark.parametrize("each", [1, 2], ids=["a string each", "two strings each"])
def test_lists_of_few_and_of_many_strings_take_the_same_reallocs(each: int, through: bool) -> None:
    """Few strings are placed one by one, and many by batches: sizes around the bounds of both."""
    of: WitType = List("string") if each == 1 else List(Tuple(("string", "u8", "string")))
    values: list[Any] = []
    for count in (*range(8), 15, 16, 17, 33):
        texts = ["", "ä", "long text " * 9, "b"] * 9
        values.append(texts[:count] if each == 1 else [(text, n, texts[-n]) for n, text in enumerate(texts[:count])])
    ends = echoed([of], Manner(through=through), [[value] for value in values])
    assert ends[:-1] == [Returned(value) for value in values]


_NAMES = [f"n{n}" for n in range(300)]
WIDE: dict[str, tuple[WitType, list[Any]]] = {
    "record of 400": (
        Record("w", tuple((f"f{n}", ("u8", "s64", "string", "f32")[n % 4]) for n in range(400))),
        [{f"f{n}": (n % 256, -n, f"text {n}", n / 2)[n % 4] for n in range(400)}],
    ),
    "tuple of 300": (Tuple(("u8", "u16", "u64") * 100), [tuple(n % 256 for n in range(300))]),
    "variant of 300 cases": (
        Variant("v", tuple((name, (None, "u8", "f64", "string")[n % 4]) for n, name in enumerate(_NAMES))),
        [("n0", None), ("n255", "text"), ("n256", None), ("n298", -1.5), ("n297", 7)],
    ),
    "enums of 300 and of 256 cases": (
        Tuple((Enum("e", tuple(_NAMES)), Enum("f", tuple(_NAMES[:256])), List(Enum("g", tuple(_NAMES[:257]))))),
        [("n299", "n255", ["n256", "n0"]), ("n0", "n0", [])],
    ),
    "flags": (
        Tuple(tuple(Flags(f"f{n}", tuple(_NAMES[:n])) for n in (1, 7, 8, 9, 15, 16, 17, 31, 32))),
        [(frozenset(),) * 9, tuple(frozenset({"n0", f"n{n - 1}"}) for n in (1, 7, 8, 9, 15, 16, 17, 31, 32))],
    ),
    "sixteen flat values": (Tuple(("string",) * 8), [tuple("abcdefgh")]),
    "seventeen flat values": (Tuple((*("string",) * 8, "u8")), [(*"abcdefgh", 1)]),
    "options of options": (
        Option(Option(Option("u8"))), [None, Some(None), Some(Some(None)), Some(Some(Some(7)))]
    ),
    "results of results": (
        Result(Result(None, "u8"), Result(Result(), None)),
        [Ok(Ok(None)), Ok(Err(3)), Err(Ok(Ok(None))), Err(Ok(Err(None))), Err(Err(None))],
    ),
}  # fmt: skip


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("through", [False, True], ids=["by itself", "through an import"])
def test_wide_and_nested_types_cross_as_in_the_engine(name: str, through: bool) -> None:
    of, values = WIDE[name]
    ends = echoed([of], Manner(through=through), [[value] for value in values])
    assert ends[:-1] == [Returned(value) for value in values]


# One type for each core type and each width in memory, and types with two and three core values.
_PAYLOADS: list[tuple[WitType, Any]] = [
    ("bool", True), ("s8", -128), ("u16", 0xFFFF), ("s32", -(2**31)), ("u32", 0xFFFF_FFFF), ("s64", -(2**63)),
    ("u64", 2**64 - 1), ("f32", -1.5), ("f64", 1e300), ("char", "\U0010ffff"), ("string", "text"),
    (Tuple(("f32", "u64")), (2.5, 2**63)), (Tuple(("f64", "f32", "u8")), (-0.0, 0.5, 255)),
]  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("first", range(len(_PAYLOADS)), ids=lambda n: show(_PAYLOADS[n][0]))
def test_payloads_of_every_pair_of_core_types_are_joined_as_in_the_engine(first: int) -> None:
    of, value = _PAYLOADS[first]
    cases = [Variant("v", (("a", of), ("b", other), ("c", None))) for other, _ in _PAYLOADS]
    params = [Tuple(tuple(cases[:5])), Tuple(tuple(cases[5:10])), List(Tuple(tuple(cases)))]
    one = [("a", value) if n % 2 else ("b", other) for n, (_, other) in enumerate(_PAYLOADS)]
    two = [("b", other) if n % 2 else ("a", value) for n, (_, other) in enumerate(_PAYLOADS)]
    calls = [
        [tuple(given[:5]), tuple(given[5:10]), [tuple(given), (("c", None),) * len(cases)]] for given in (one, two)
    ]
    for which in ([params[0]], [params[1]], params):
        chosen = [call if len(which) == 3 else [call[params.index(which[0])]] for call in calls]
        ends = echoed(which, Manner(), chosen)
        assert agree(ends[:-1], [Returned(tuple(call) if len(which) == 3 else call[0]) for call in chosen])
