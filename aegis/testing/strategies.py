"""Hypothesis strategies for guest arguments: for WIT types, functions and interfaces, and for core signatures.

Use them with ``@given``. Hypothesis is part of the extra ``aegis-wasm[fuzz]``::

    component = runtime.load_file("parser.wasm")

    @given(from_export(component, "parse", overrides={"path": st.sampled_from(["/", "a/b"])}))
    def test_paths(arguments):
        with runtime.sandbox(component) as sandbox:
            assert sandbox.run("parse", *arguments).ok

``overrides`` replaces the strategy of a type or of a parameter. The key of a type is the type itself, or the name of a
record, variant, enum or flags. The key of a parameter is its name, ``function.parameter``, or
``interface#function.parameter``; the most specific key applies.

Each value has a budget of characters, elements and parts, which is divided among the fields of a record and the
elements of a list. So the size of a value is bounded by about the budget, however deeply its type nests.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from math import isqrt
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from aegis.errors import ExportNotFound
from aegis.fuzz.dictionary import Dictionary
from aegis.fuzz.values.buffers import Buffer, GuestAllocator, layout
from aegis.fuzz.values.edges import CHARACTERS, FLOATS, LENGTHS, NANS, SINGLES, SNIPPETS, integers
from aegis.fuzz.values.shape import CannotGenerate
from aegis.text import printable, similar_names
from aegis.values import FuncType
from aegis.wit.collected import collected_type
from aegis.wit.python_types import nullable, with_python_types
from aegis.wit.types import (
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
    children,
    show,
)
from aegis.wit.values import Err, Ok, Some

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module

__all__ = ["from_export", "from_exports", "from_function", "from_interface", "from_signature", "from_type"]

Strategy = st.SearchStrategy[Any]
Arguments = st.SearchStrategy[tuple[Any, ...]]
Overrides = Mapping[Any, Strategy]
_BUDGET = 4096
_MAX_DRAWN_ITEMS = 24
"""Most elements or characters that hypothesis draws individually; longer values are repetitions."""
_MIN_REPETITION_ITEMS = 32
"""Budget below which no repetitions are drawn."""
_ELEMENT_BUDGET = 2
"""The budget of each element of a long list."""
_MAX_MINIMAL_PARTS = 100_000
"""A type whose smallest value has more parts is rejected: a few levels of nested records can require millions."""


# -- WIT -------------------------------------------------------------------------------------------------


def from_type(of: WitType, overrides: Overrides | None = None, *, budget: int = _BUDGET) -> Strategy:
    """Return a strategy for the values of a WIT type, as sandbox calls take them.

    ``of`` is a primitive type (``"u32"``), a type of generated bindings, or one of a component's exports; named types
    without a Python class get one. ``budget`` bounds the number of characters, elements and parts of a value,
    approximately. Raise :class:`~aegis.fuzz.values.shape.CannotGenerate` for handles, which only a guest can create,
    and for types whose smallest value is huge.
    """
    return _Strategies(overrides or {}).checked(with_python_types(of), budget)


def from_function(
    function: Function, overrides: Overrides | None = None, *, name: str = "", budget: int = _BUDGET,
    dictionary: Dictionary | None = None,
) -> Arguments:  # fmt: skip
    """Return a strategy for the argument lists of a WIT function.

    ``name`` is the name of the function in override keys, with or without its interface. Some values are entries of the
    ``dictionary``. Errors are those of :func:`from_type`, except for parameters that have an override.
    """
    chosen, cache = overrides or {}, _Strategies(overrides or {}, dictionary)
    each = budget // max(1, len(function.params))
    return st.tuples(*(_parameter(cache, chosen, name, p, with_python_types(of), each) for p, of in function.params))


def from_interface(
    interface: Interface, overrides: Overrides | None = None, *, budget: int = _BUDGET
) -> dict[str, Arguments]:
    """Return a strategy for the argument lists of each function of an interface, by function name.

    Functions that take handles are omitted; :func:`~aegis.testing.machines.state_machine` calls these too.
    """
    found = {}
    for member, function in interface.functions.items():
        with suppress(CannotGenerate):
            found[member] = from_function(function, overrides, name=f"{interface.name}#{member}", budget=budget)
    return found


def from_export(
    artifact: Module | Component, name: str, overrides: Overrides | None = None, *, buffers: bool = True
) -> Arguments:
    """Return a strategy for the argument lists of an export, named as for :meth:`aegis.Sandbox.call`.

    Some values are those that the guest's code compares, or that stand in its data. With ``buffers``, the address and
    length parameters of a core function become one :class:`~aegis.fuzz.values.buffers.Buffer`;
    :func:`~aegis.fuzz.values.buffers.place_buffers` writes them into a sandbox and returns the raw arguments. Raise
    :class:`~aegis.errors.ExportNotFound` for an unknown name; other errors are those of :func:`from_function`.
    """
    functions = _functions(artifact)
    if name not in functions:
        alike = similar_names(name, functions, 1)
        hint = "".join(f": did you mean {printable(n)}?" for n in alike)
        raise ExportNotFound(f"no export {printable(name)!r}{hint}", name=name, near=alike)
    function = functions[name]
    if isinstance(function, Function):
        return from_function(function, overrides, name=name, dictionary=words_of(artifact.binary))
    module: Any = artifact
    kinds = layout(module, name, GuestAllocator(module)) if buffers else function.params
    words = words_of(artifact.binary)
    return st.tuples(*(_core(kind, words) for kind in kinds))


def from_exports(
    artifact: Module | Component, overrides: Overrides | None = None, *, buffers: bool = True
) -> dict[str, Arguments]:
    """Return a strategy for the argument lists of each export whose arguments can be generated, by export name."""
    found = {}
    for name in _functions(artifact):
        with suppress(CannotGenerate):
            found[name] = from_export(artifact, name, overrides, buffers=buffers)
    return found


def from_signature(signature: FuncType) -> Arguments:
    """Return a strategy for the argument lists of a core function. Raise ``CannotGenerate`` for reference types."""
    return st.tuples(*map(_core, signature.params))


@lru_cache(maxsize=16)
def words_of(binary: bytes) -> Dictionary:
    """Return the dictionary of a guest: the integers and words that its code and its data have."""
    found = Dictionary()
    found.read_guest(binary)
    return found


def _functions(artifact: Any) -> dict[str, Function | FuncType]:
    """Return the callable exports by name, with the Python classes of this artifact's types."""
    if artifact.kind == "module":
        return {e.name: e.type for e in artifact.exports if isinstance(e.type, FuncType)}
    found: dict[str, Function | FuncType] = {}
    for name, item in artifact.exports.items():
        if isinstance(item, Function):
            found[name] = artifact.with_python_types(item)
        else:
            found.update((f"{name}#{member}", artifact.with_python_types(of)) for member, of in item.functions.items())
    return found


def _parameter(
    cache: _Strategies, overrides: Overrides, function: str, name: str, of: WitType, budget: int
) -> Strategy:
    member = function.rpartition("#")[2]
    for key in (f"{function}.{name}", f"{member}.{name}", name):
        if key in overrides:
            return overrides[key]
    return cache.checked(of, budget)


class _Strategies:
    """A cache of strategies by type and budget: a type may occur in many places."""

    def __init__(self, overrides: Overrides, dictionary: Dictionary | None = None) -> None:
        self.dictionary = dictionary
        self.overrides = overrides
        self.made: dict[tuple[WitType, int], Strategy] = {}
        self.parts: dict[WitType, int] = {}

    def checked(self, of: WitType, budget: int) -> Strategy:
        """Return a strategy for a type. Raise ``CannotGenerate`` if its smallest value is too large."""
        least = self.least(of)
        if least > _MAX_MINIMAL_PARTS:
            raise CannotGenerate(
                f"every {getattr(of, 'name', None) or show(of)} has at least {least:,} parts "
                f"(limit: {_MAX_MINIMAL_PARTS:,})"
            )
        return self.values(of, budget)

    def least(self, of: WitType) -> int:
        """Return the number of parts of the smallest value of a type."""
        if of not in self.parts:
            self.parts[of] = 1
            if isinstance(of, (Record, Tuple)):
                self.parts[of] += sum(map(self.least, children(of)))
            elif isinstance(of, (Result, Variant)):
                inner = [t for _, t in of.cases] if isinstance(of, Variant) else [of.ok, of.err]
                self.parts[of] += min(0 if t is None else self.least(t) for t in inner)
        return self.parts[of]

    def values(self, of: WitType, budget: int) -> Strategy:
        """Return a strategy for values with at most about ``budget`` parts."""
        for key in (of, getattr(of, "name", None)):
            if key in self.overrides:
                return self.overrides[key]
        found = self.made.get((of, budget))
        if found is None:
            found = self.made[of, budget] = self._values(of, budget)
        return found

    def _values(self, of: WitType, budget: int) -> Strategy:
        of = collected_type(of)
        match of:
            case str():
                return _primitive(of, budget, self.dictionary)
            case List("u8"):
                drawn = st.binary(max_size=min(64, budget)) | _long(st.binary(min_size=1, max_size=4), b"", budget)
                words = _words(self.dictionary, budget)
                if words is None:
                    return drawn
                return drawn | st.builds(bytes.__add__, words, st.just(b"") | st.binary(max_size=16))
            case List(element):
                return self._list(element, budget)
            case Tuple(elements):
                return st.tuples(*self._each(elements, budget))
            case Record():
                return st.builds(of.python, *self._each([t for _, t in of.fields], budget))  # type: ignore[arg-type]
            case Option(element):
                inner = self.values(element, budget)
                return st.none() | (inner.map(Some) if nullable(element) else inner)
            case Result(ok, err):
                return self._payload(ok, budget).map(Ok) | self._payload(err, budget).map(Err)
            case Variant():
                return st.one_of(*self._variant(of, budget))
            case Enum():
                return st.sampled_from([of.python(case) for case in of.cases])  # type: ignore[misc]
            case Flags():
                every = (1 << len(of.names)) - 1
                return (st.integers(0, every) | st.sampled_from([0, every])).map(of.python)  # type: ignore[arg-type]
        raise CannotGenerate(
            f"{show(of)} is a handle, which only a guest can create: override it, or use state_machine"
        )

    def _each(self, types: Any, budget: int) -> list[Strategy]:
        return [self.values(of, budget // len(types)) for of in types]

    def _list(self, element: WitType, budget: int) -> Strategy:
        """Return a strategy for short lists of large elements and for long lists that repeat small elements."""
        least = self.least(element)
        few = min(_MAX_DRAWN_ITEMS, isqrt(budget), budget // least)
        short = st.lists(self.values(element, budget // max(1, few)), max_size=few)
        unit = st.lists(self.values(element, _ELEMENT_BUDGET), min_size=1, max_size=2)
        return short | _long(unit, [], budget // (least + _ELEMENT_BUDGET))

    def _payload(self, of: WitType | None, budget: int) -> Strategy:
        return st.none() if of is None else self.values(of, budget)

    def _variant(self, of: Variant, budget: int) -> list[Strategy]:
        return [
            st.builds(cls, *([] if payload is None else [self.values(payload, budget)]))
            for cls, (_, payload) in zip(of.python or (), of.cases, strict=True)
        ]


# -- scalars, strings and bytes --------------------------------------------------------------------------


def _core(kind: str, dictionary: Dictionary | None = None) -> Strategy:
    if kind == "buffer":
        return _Strategies({}, dictionary).checked(List("u8"), _BUDGET).map(Buffer)
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        return _integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, dictionary)
    if kind in ("f32", "f64"):
        return _floats(int(kind[1:]))
    raise CannotGenerate(f"values of type {kind} cannot be generated: only numbers can")


def _primitive(of: str, budget: int, dictionary: Dictionary | None) -> Strategy:
    if of == "bool":
        return st.booleans()
    if of == "char":
        return _characters()
    if of == "string":
        text = _text(0, min(_MAX_DRAWN_ITEMS, budget))
        snippets = st.lists(st.sampled_from(SNIPPETS), max_size=min(6, budget // 4)).map("".join)
        drawn = text | snippets | _long(_text(1, 3), "", budget)
        entries = [] if dictionary is None else [entry for entry in dictionary.every_text() if len(entry) <= budget]
        if not entries:
            return drawn
        some = st.lists(st.sampled_from(entries) | st.sampled_from(SNIPPETS), min_size=1, max_size=4).map("".join)
        return drawn | st.sampled_from(entries) | some.filter(lambda made: len(made) <= budget)
    if of in ("f32", "f64"):
        return _floats(int(of[1:]))
    bits = int(of[1:])
    low, high = (0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return _integers(low, high, dictionary)


def _integers(low: int, high: int, dictionary: Dictionary | None) -> Strategy:
    drawn = st.integers(low, high) | st.sampled_from((0, low, high)) | st.sampled_from(integers(low, high))
    entries = [] if dictionary is None else dictionary.integers_in(low, high)
    return drawn | st.sampled_from(entries) if entries else drawn


def _words(dictionary: Dictionary | None, budget: int) -> Strategy | None:
    """Return a strategy for the words of a dictionary; ``None`` if none is short enough."""
    entries = [] if dictionary is None else [word for word in dictionary.every_word() if len(word) <= budget - 16]
    return st.sampled_from(entries) if entries else None


def _floats(bits: int) -> Strategy:
    edges = SINGLES if bits == 32 else FLOATS
    nans = st.sampled_from(NANS).map(_double)  # drawn as bits: sampled_from would merge NaN objects
    return st.floats(width=32 if bits == 32 else 64) | st.sampled_from(edges) | nans


def _double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def _characters() -> Strategy:
    return st.characters(codec="utf-8") | st.sampled_from(CHARACTERS)


def _text(min_chars: int, max_chars: int) -> Strategy:
    # st.text() would merge the union into one alphabet, in which boundary characters are one in ten thousand.
    return st.lists(_characters(), min_size=min_chars, max_size=max_chars).map("".join)


def _long(unit: Strategy, empty: Any, max_length: int) -> Strategy:
    """Return a strategy that repeats a unit to boundary lengths; only empty values if ``max_length`` is too small."""
    if max_length < _MIN_REPETITION_ITEMS:
        return st.just(empty) if isinstance(empty, (bytes, str)) else st.builds(list)
    return st.builds(_repeated, unit, st.sampled_from([length for length in LENGTHS if 1 < length <= max_length]))


def _repeated(unit: Any, length: int) -> Any:
    return (unit * (length // len(unit) + 1))[:length]
