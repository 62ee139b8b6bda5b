"""Hypothesis strategies over WIT: types of every kind except resources, and values of a type."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from aegis.wit.python_types import with_python_types
from aegis.wit.types import PRIMITIVES, Enum, Flags, List, Option, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some

__all__ = ["same", "typed_values", "values_of", "wit_types"]

LABELS = st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z][a-z0-9]{0,4}){0,2}", fullmatch=True)
WORDS = ("ok", "err", "some", "none", "true", "list", "class", "self", "value", "drop", "type")
NAMES = LABELS | st.sampled_from(WORDS)


def _names(least: int, most: int) -> st.SearchStrategy[list[str]]:
    # Names of one type differ in more than their case, and so do their Python names.
    return st.lists(NAMES, min_size=least, max_size=most, unique_by=lambda name: name.replace("-", ""))


def _fields(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    return st.tuples(NAMES, _names(1, 4), st.lists(inner, min_size=4, max_size=4)).map(
        lambda t: Record(t[0], tuple(zip(t[1], t[2], strict=False)))
    )


def _cases(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    payloads = st.lists(st.none() | inner, min_size=4, max_size=4)
    return st.tuples(NAMES, _names(1, 4), payloads).map(lambda t: Variant(t[0], tuple(zip(t[1], t[2], strict=False))))


def _compound(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    return st.one_of(
        inner.map(List),
        inner.map(Option),
        st.lists(inner, min_size=1, max_size=4).map(lambda ts: Tuple(tuple(ts))),
        st.builds(Result, st.none() | inner, st.none() | inner),
        _fields(inner),
        _cases(inner),
    )


def _leaves() -> st.SearchStrategy[WitType]:
    plain: st.SearchStrategy[WitType] = st.sampled_from(PRIMITIVES)
    enums = st.builds(lambda name, cases: Enum(name, tuple(cases)), NAMES, _names(1, 5))
    flags = st.builds(lambda name, names: Flags(name, tuple(names)), NAMES, _names(1, 9))
    return plain | enums | flags


def wit_types(leaves: int = 8) -> st.SearchStrategy[WitType]:
    """Types with their Python classes, with at most this many leaves."""
    return st.recursive(_leaves(), _compound, max_leaves=leaves).map(with_python_types)


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def _primitive(of: str) -> st.SearchStrategy[Any]:
    if of == "bool":
        return st.booleans()
    if of == "char":
        return st.characters(exclude_categories=("Cs",))
    if of == "string":
        return _TEXT
    if of in ("f32", "f64"):
        return st.floats(width=32 if of == "f32" else 64)
    bits = int(of[1:])
    low, high = (0, 2**bits - 1) if of[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high)


def values_of(of: WitType) -> st.SearchStrategy[Any]:
    """Python values of ``of``, whose named types have their classes."""
    match of:
        case str():
            return _primitive(of)
        case List("u8"):
            return st.binary(max_size=20)
        case List(element):
            return st.lists(values_of(element), max_size=5)
        case Tuple(elements):
            return st.tuples(*map(values_of, elements))
        case Option(element):
            inner = values_of(element)
            return st.none() | (inner.map(Some) if isinstance(element, Option) else inner)
        case Result(ok, err):
            good = st.none() if ok is None else values_of(ok)
            bad = st.none() if err is None else values_of(err)
            return good.map(Ok) | bad.map(Err)
        case Record():
            assert of.python is not None
            return st.builds(of.python, *(values_of(t) for _, t in of.fields))
        case Variant():
            classes = zip(of.python or (), of.cases, strict=True)
            return st.one_of(*(st.builds(c, *([] if t is None else [values_of(t)])) for c, (_, t) in classes))
        case Enum():
            assert of.python is not None
            return st.sampled_from(list(of.python))
        case Flags():
            python = of.python
            assert python is not None
            return st.integers(0, (1 << len(of.names)) - 1).map(lambda bits: python(bits))
    raise AssertionError(of)


def typed_values(leaves: int = 8) -> st.SearchStrategy[tuple[WitType, Any]]:
    """A type, and a value of it."""
    return wit_types(leaves).flatmap(lambda of: st.tuples(st.just(of), values_of(of)))


def same(a: Any, b: Any) -> bool:
    """Return whether two values are the same: equal, with NaN equal to itself and -0.0 different from 0.0."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (Ok, Err, Some)):
        return same(a.value, b.value)
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    return bool(a == b)
