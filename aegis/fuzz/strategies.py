"""Hypothesis strategies for what a guest takes: for WIT types, functions and interfaces, and for core signatures.

For anybody's ``@given``; hypothesis comes with the extra ``aegis-wasm[fuzz]``. ``overrides`` replaces what is made of a
type: by the type itself, by the name of a record, variant, enum or flags, or by the name of a parameter::

    @given(from_function(function, overrides={"path": st.sampled_from(["/", "a/b"])}))
    def test_paths(arguments): ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from aegis.fuzz.edges import CHARACTERS, FLOATS, LENGTHS, SNIPPETS, integers
from aegis.fuzz.generate import Unfit
from aegis.values import FuncType
from aegis.wit.images import imaged, nullable
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Own,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
    show,
)
from aegis.wit.values import Err, Ok, Some

__all__ = ["from_function", "from_interface", "from_signature", "from_type"]

Strategy = st.SearchStrategy[Any]
Overrides = Mapping[Any, Strategy]
_MOST = 24
"""Elements and characters that hypothesis is asked for; longer ones are repetitions."""
_LONGEST = 4096


def from_type(of: WitType, overrides: Overrides | None = None) -> Strategy:
    """Return values of a WIT type, as the engine takes them; named types without a Python class get one.

    Raise :class:`~aegis.fuzz.generate.Unfit` for handles, which only a guest can give, naming the type.
    """
    return _values(imaged(of), overrides or {}, _LONGEST)


def from_function(function: Function, overrides: Overrides | None = None) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return argument lists for a WIT function. An override may go by a parameter's name."""
    chosen = overrides or {}
    parts = [chosen[name] if name in chosen else from_type(of, chosen) for name, of in function.params]
    return st.tuples(*parts)


def from_interface(interface: Interface, overrides: Overrides | None = None) -> dict[str, st.SearchStrategy[Any]]:
    """Return argument lists for each function of an interface that takes no handle, by its name."""
    found = {}
    for name, function in interface.functions.items():
        if not any(isinstance(of, (Own, Borrow)) for _, of in function.params):
            found[name] = from_function(function, overrides)
    return found


def from_signature(signature: FuncType) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return argument lists for a core function; raise :class:`~aegis.fuzz.generate.Unfit` for references."""
    return st.tuples(*map(_core, signature.params))


def _core(kind: str) -> Strategy:
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        return _integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if kind in ("f32", "f64"):
        return _floats(int(kind[1:]))
    raise Unfit(f"{kind} is no number")


def _values(of: WitType, overrides: Overrides, most: int) -> Strategy:
    """``most``: how long the longest list or text may be; what is inside a list has a part of that."""
    for key in (of, getattr(of, "name", None)):
        if key in overrides:
            return overrides[key]
    match of:
        case str():
            return _primitive(of, most)
        case List("u8"):
            return st.binary(max_size=64) | st.builds(_repeated, st.binary(min_size=1, max_size=4), _lengths(most))
        case List(element):
            inner = _values(element, overrides, most)
            return st.lists(inner, max_size=_MOST) | st.builds(
                _repeated, st.lists(inner, min_size=1, max_size=2), _lengths(most)
            )
        case Tuple(elements):
            return st.tuples(*(_values(e, overrides, most) for e in elements))
        case Record():
            return st.builds(of.python, *(_values(t, overrides, most) for _, t in of.fields))  # type: ignore[arg-type]
        case Option(element):
            inner = _values(element, overrides, most)
            return st.none() | (inner.map(Some) if nullable(element) else inner)
        case Result(ok, err):
            return _payload(ok, overrides, most).map(Ok) | _payload(err, overrides, most).map(Err)
        case Variant():
            return st.one_of(*_variant(of, overrides, most))
        case Enum():
            return st.sampled_from([of.python(case) for case in of.cases])  # type: ignore[misc]
        case Flags():
            return st.integers(0, (1 << len(of.names)) - 1).map(of.python)  # type: ignore[arg-type]
    raise Unfit(f"{show(of)} is a handle, which only a guest can give")


def _payload(of: WitType | None, overrides: Overrides, most: int) -> Strategy:
    return st.none() if of is None else _values(of, overrides, most)


def _variant(of: Variant, overrides: Overrides, most: int) -> list[Strategy]:
    return [
        st.builds(cls, *([] if payload is None else [_values(payload, overrides, most)]))
        for cls, (_, payload) in zip(of.python or (), of.cases, strict=True)
    ]


def _primitive(of: str, most: int) -> Strategy:
    if of == "bool":
        return st.booleans()
    if of == "char":
        return _characters()
    if of == "string":
        text = st.text(_characters(), max_size=_MOST)
        snippets = st.lists(st.sampled_from(SNIPPETS), max_size=6).map("".join)
        return text | snippets | st.builds(_repeated, st.text(_characters(), min_size=1, max_size=3), _lengths(most))
    if of in ("f32", "f64"):
        return _floats(int(of[1:]))
    bits = int(of[1:])
    return _integers(*((0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)))


def _integers(low: int, high: int) -> Strategy:
    return st.integers(low, high) | st.sampled_from(integers(low, high))


def _floats(bits: int) -> Strategy:
    edges = [value for value in FLOATS if bits == 64 or value in (0.0, 1.0, -1.0, 0.5) or value != value]
    return st.floats(width=32 if bits == 32 else 64) | st.sampled_from(edges)


def _characters() -> Strategy:
    return st.characters(codec="utf-8") | st.sampled_from(CHARACTERS)


def _lengths(most: int) -> Strategy:
    return st.sampled_from([length for length in LENGTHS if 1 < length <= max(2, most)])


def _repeated(unit: Any, length: int) -> Any:
    return (unit * (length // len(unit) + 1))[:length]
