"""Hypothesis strategies for tests against the oracle: types of every kind and size, and neutral values for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from aegis.wit.types import PRIMITIVES, Enum, Flags, List, Option, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some
from tests.wit.strategies import NAMES

__all__ = ["TEXTS", "any_types", "echoes", "neutral"]

_PLAIN: st.SearchStrategy[WitType] = st.sampled_from(PRIMITIVES)
# Besides small sizes, those at which flags and enums need another byte.
_FLAG_COUNTS = st.integers(1, 32) | st.sampled_from((8, 9, 16, 17, 31, 32))
_CASE_COUNTS = st.integers(1, 6) | st.sampled_from((256, 257))


def _names(least: int, most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(NAMES, min_size=least, max_size=most, unique_by=lambda name: name.replace("-", ""))


def _leaves() -> st.SearchStrategy[WitType]:
    flags = _FLAG_COUNTS.map(lambda count: Flags("f", tuple(f"f{n}" for n in range(count))))
    enums = _CASE_COUNTS.map(lambda count: Enum("e", tuple(f"c{n}" for n in range(count))))
    return _PLAIN | _PLAIN | flags | enums


def _compound(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    several = st.lists(inner, min_size=1, max_size=4)
    maybe = st.none() | inner
    named = _names(1, 5).flatmap(lambda names: st.tuples(st.just(names), st.lists(maybe, min_size=5, max_size=5)))
    return st.one_of(
        inner.map(List),
        inner.map(Option),
        several.map(lambda ts: Tuple(tuple(ts))),
        st.builds(Result, maybe, maybe),
        several.map(lambda ts: Record("r", tuple((f"f{n}", t) for n, t in enumerate(ts)))),
        named.map(lambda pair: Variant("v", tuple(zip(*pair, strict=False)))),
    )


def _wide() -> st.SearchStrategy[WitType]:
    """Types with about as many flat values as fit into parameters (16), and some with more."""
    parts = st.lists(_PLAIN, min_size=1, max_size=4)
    counts = st.integers(5, 24)
    cycled = st.tuples(parts, counts).map(lambda t: (t[0] * t[1])[: t[1]])
    tuples = cycled.map(lambda ts: Tuple(tuple(ts)))
    records = cycled.map(lambda ts: Record("w", tuple((f"f{n}", t) for n, t in enumerate(ts))))
    variants = cycled.map(lambda ts: Variant("v", tuple((f"c{n}", t) for n, t in enumerate(ts))))
    return tuples | records | variants


def any_types(leaves: int = 8) -> st.SearchStrategy[WitType]:
    """All types of WASI 0.2 except resources."""
    nested = st.recursive(_leaves(), _compound, max_leaves=leaves)
    return st.one_of(nested, nested, nested, _wide())


# Strings with one to four bytes per character in UTF-8, inside and outside Latin-1, or that leave Latin-1 late.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.text(st.characters(max_codepoint=0x7F), max_size=40),
    st.text(st.characters(max_codepoint=0xFF), max_size=40),
    st.tuples(st.text(st.characters(max_codepoint=0xFF), max_size=20), st.sampled_from("€\uffff\U00010000😀")).map(
        "".join
    ),
    st.tuples(st.sampled_from("€😀"), st.text(st.characters(max_codepoint=0xFF), max_size=20)).map("".join),
)


def _primitive(of: str) -> st.SearchStrategy[Any]:
    match of:
        case "bool":
            return st.booleans()
        case "char":
            return st.characters(exclude_categories=("Cs",))
        case "string":
            return TEXTS
        case "f32" | "f64":
            return st.floats(width=32 if of == "f32" else 64)
    bits = int(of[1:])
    low, high = (0, 2**bits - 1) if of[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high) | st.sampled_from((low, high))


def neutral(of: WitType) -> st.SearchStrategy[Any]:
    """Neutral values of ``of``."""
    match of:
        case str():
            return _primitive(of)
        case List("u8"):
            return st.binary(max_size=40)
        case List(element):
            return st.lists(neutral(element), max_size=5)
        case Tuple(elements):
            return _several(elements).map(tuple)
        case Option(element):
            return st.none() | neutral(element).map(Some)
        case Result(ok, err):
            return _payload(ok).map(Ok) | _payload(err).map(Err)
        case Record(fields=fields):
            return _several([t for _, t in fields]).map(lambda values: dict(zip(dict(fields), values, strict=True)))
        case Variant(cases=cases):
            return st.sampled_from(cases).flatmap(lambda case: st.tuples(st.just(case[0]), _payload(case[1])))
        case Enum(cases=names):
            return st.sampled_from(names)
        case Flags(names=names):
            return st.integers(0, (1 << len(names)) - 1).map(
                lambda bits: frozenset(name for n, name in enumerate(names) if bits >> n & 1)
            )
    raise AssertionError(of)


def _payload(of: WitType | None) -> st.SearchStrategy[Any]:
    return st.none() if of is None else neutral(of)


def _several(types: Sequence[WitType]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(*map(neutral, types)).map(list)


@st.composite
def echoes(draw: st.DrawFn) -> tuple[list[WitType], list[list[Any]]]:
    """The parameter types of an echo function, and arguments for some calls of it."""
    params = draw(st.lists(any_types(5), min_size=1, max_size=3))
    calls = draw(st.lists(st.tuples(*map(neutral, params)).map(list), min_size=1, max_size=3))
    return params, calls
