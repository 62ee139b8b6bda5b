"""Guests built by toolchains, and guests in text, receive and return the correct values.

Oracle: the engine on the same guest; where compiling a guest twice takes too long, the argument itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, Component
from aegis.wit.types import Enum, Flags, Function, List, Option, Record, Result, Tuple, Variant
from aegis.wit.values import Err, Ok, Some
from tests.component import aegis_side
from tests.component.oracle import Returned, agree
from tests.component.pairs import Pair
from tests.component.strategies import TEXTS, neutral
from tests.guests.catalogue import GUESTS, built

VALUES = (GUESTS / "components" / "values.wat").read_text()
_LOADED: Any = aegis_side.RUNTIME.load_wat(VALUES)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", _LOADED.exports)
def test_each_value_of_the_guest_in_text_comes_back(name: str) -> None:
    of: Function = _LOADED.exports[name]
    with Pair(VALUES, {name: of}) as pair:

        @settings(max_examples=10)
        @given(st.lists(st.tuples(*(neutral(t) for _, t in of.params)), min_size=1, max_size=5))
        def check(calls: list[tuple[Any, ...]]) -> None:
            ends = pair.check(*((name, *call) for call in calls))
            assert agree(ends, [Returned(call[0]) for call in calls])

        check()


PROBLEM = Variant("problem", (("unknown", None), ("sold-out", "string")))
PRICED = Result("u32", PROBLEM)
_PRICES = (
    st.integers(0, 2**32 - 1).map(Ok) | st.just(Err(("unknown", None))) | TEXTS.map(lambda t: Err(("sold-out", t)))
)


@settings(max_examples=40)
@given(st.dictionaries(TEXTS, _PRICES, min_size=1, max_size=6))
def test_the_shop_adds_up_or_passes_the_problem_on(prices: dict[str, Any]) -> None:
    total = Function((("names", List("string")),), PRICED)
    get = (Function((("name", "string"),), PRICED), lambda name: prices[name])
    text = (GUESTS / "shop" / "shop.wat").read_text()
    with Pair(text, {"total": total}, {"acme:shop/prices@1.2.0#get": get}) as pair:
        names = list(prices)
        (end,) = pair.check(("total", names))
        problem = next((price for price in prices.values() if isinstance(price, Err)), None)
        expected = problem or Ok(sum(price.value for price in prices.values()) & 0xFFFF_FFFF)
        assert end == Returned(expected)


COUNTING = "aegis:c-text/counting@1.0.0"
COUNTS = Record("counts", (("bytes", "u32"), ("words", "u32"), ("lines", "u32")))
TEXT_WORLD = {
    f"{COUNTING}#count": Function((("text", "string"),), COUNTS),
    f"{COUNTING}#reverse": Function((("text", "string"),), Result("string", "u32")),
    f"{COUNTING}#sum": Function((("numbers", List("s64")),), "s64"),
}


def test_c_by_hand_counts_the_same_in_the_engine() -> None:
    numbers = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20)
    with Pair(built("c-text"), TEXT_WORLD, wasi=True) as pair:

        @settings(max_examples=60)
        @given(st.lists(st.tuples(TEXTS, numbers), min_size=1, max_size=4))
        def check(calls: list[tuple[str, list[int]]]) -> None:
            for text, given in calls:
                ends = pair.check(
                    (f"{COUNTING}#count", text), (f"{COUNTING}#reverse", text), (f"{COUNTING}#sum", given)
                )
                assert isinstance(ends[-1], Returned)

        check()


SUIT = Enum("suit", ("clubs", "hearts", "none"))
MODE = Flags("mode", ("read", "write", "execute"))
POINT = Record("point", (("x", "s32"), ("y", "f64"), ("label", "string")))
SHAPE = Variant("shape", (("dot", None), ("circle", "f32"), ("tinted", SUIT), ("path", List(POINT))))
WIDE = Record(
    "wide",
    (("a", "u8"), ("b", "f64"), ("c", "string"), ("d", "f32"), ("e", List("u16")), ("f", Option("string")),
     ("g", Tuple(("bool", "char"))), ("h", MODE), ("i", SUIT), ("j", SHAPE)),
)  # fmt: skip
SCALARS = ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string")
KINDS = {
    **{f"of-{of}": of for of in SCALARS}, "of-bytes": List("u8"), "of-numbers": List("s64"),
    "of-words": List(List("string")), "of-enum": SUIT, "of-flags": MODE, "of-tuple": Tuple(("u32", "char", "bool")),
    "of-option": Option("s32"), "of-options": Option(Option("u8")), "of-results": List(Result(Option("u8"), SUIT)),
    "of-record": POINT, "of-variant": SHAPE, "of-wide": WIDE,
}  # fmt: skip
INTERFACE = "aegis:values/kinds@1.0.0"
TYPES = {
    **{f"{INTERFACE}#{name}": Function((("x", of),), of) for name, of in KINDS.items()},
    f"{INTERFACE}#of-two": Function((("x", List(WIDE)), ("y", "u8")), Tuple((List(WIDE), "u8"))),
}


class Host:
    """The imported interface: it records its argument and returns it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        self.seen.append(arguments)
        return arguments[0] if len(arguments) == 1 else arguments


@pytest.fixture(scope="module")
def javascript() -> Iterator[tuple[aegis_side.Guest, Host]]:
    runtime = Aegis(pooled=False, fuel=None, timeout="60s")  # with the cache, because compilation takes seconds
    component, host = runtime.load_file(built("js-values")), Host()
    assert isinstance(component, Component)
    with aegis_side.Guest(component, TYPES, {name: (of, host) for name, of in TYPES.items()}, runtime) as guest:
        yield guest, host


# This guest's compiler represents 64-bit integers as doubles, which are exact up to 2^53.
_EXACT = st.integers(-(2**53), 2**53)
_GIVEN = {"u64": _EXACT.map(abs), "s64": _EXACT, "numbers": st.lists(_EXACT, max_size=5)}


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("name", TYPES, ids=lambda name: name.partition("#")[2])
def test_javascript_hands_each_value_to_the_host_and_back(javascript: Any, name: str) -> None:
    guest, host = javascript
    given_values = _GIVEN.get(name.partition("#of-")[2])

    @settings(max_examples=12)
    @given(st.tuples(*([given_values] if given_values is not None else (neutral(of) for _, of in TYPES[name].params))))
    def check(values: tuple[Any, ...]) -> None:
        host.seen.clear()
        assert agree([guest.call(name, *values)], [Returned(values[0] if len(values) == 1 else values)])
        assert agree(host.seen, [values])

    check()


class Store:
    """The store that py-kv imports: buckets that keep their entries."""

    class Bucket:
        def __init__(self, name: str) -> None:
            self.name = name
            self.held: dict[str, Any] = {}

        def get(self, key: str) -> bytes | None:
            return self.held[key].value if key in self.held else None

        def set_(self, entry: Any) -> None:
            Store.seen.append((self.name, entry.key, entry.value, entry.ttl))
            self.held[entry.key] = entry

        def drop_(self) -> None:
            """Do nothing."""

        @staticmethod
        def open_all(names: list[str]) -> list[Any]:
            return [Store.Bucket(name) for name in names]

    seen: ClassVar[list[Any]] = []

    def scan(self, of: Any) -> None:
        raise NotImplementedError

    def merge(self, into: Any, taken: Any) -> None:
        raise NotImplementedError


def test_python_hands_its_entries_to_the_hosts_resource_and_back() -> None:
    runtime = Aegis(pooled=False, fuel=None, timeout="60s")
    component = runtime.load_file(built("py-kv"))
    ttls = st.sampled_from((None, Some(None), Some(0), Some(2**32 - 1)))
    with runtime.sandbox(component, imports={"acme:kv/store": Store(), "tell": lambda how, what: None}) as sandbox:
        store = sandbox.exports["acme:kv/store"]

        @settings(max_examples=30)
        @given(TEXTS, st.dictionaries(TEXTS.filter(bool), st.tuples(st.binary(max_size=300), ttls), max_size=4))
        def check(name: str, entries: dict[str, tuple[bytes, Any]]) -> None:
            Store.seen.clear()
            with store.Bucket(name) as bucket:
                for key, (value, ttl) in entries.items():
                    bucket.set_({"key": key, "value": value, "ttl": ttl})
                assert Store.seen == [(name, key, *entry) for key, entry in entries.items()]
                assert {key: bucket.get(key) for key in entries} == {key: value for key, (value, _) in entries.items()}
                assert bucket.get("") is None

        check()
