"""Hypothesis strategies for what a guest takes: for WIT types, functions and interfaces, and for core signatures.

For anybody's ``@given``; hypothesis comes with the extra ``aegis-wasm[fuzz]``::

    component = runtime.load_file("parser.wasm")

    @given(from_export(component, "parse", overrides={"path": st.sampled_from(["/", "a/b"])}))
    def test_paths(arguments):
        with runtime.sandbox(component) as sandbox:
            assert sandbox.run("parse", *arguments).ok

``overrides`` replaces what is made of a type: by the type itself, by the name of a record, variant, enum or flags; or
what is made for a parameter: by its name, as ``function.parameter``, or as ``interface#function.parameter``, of which
the longest counts.

A value is drawn within a budget of characters, elements and parts, which is divided among the parts of a record and
the elements of a list: however deep a type nests, its values stay about that large at most.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from math import isqrt
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from aegis.errors import ExportNotFound
from aegis.fuzz.values.buffers import Buffer, Place, layout
from aegis.fuzz.values.edges import CHARACTERS, FLOATS, LENGTHS, NANS, SINGLES, SNIPPETS, integers
from aegis.fuzz.values.shape import Unfit
from aegis.text import printable, similar_names
from aegis.values import FuncType
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
_MOST = 24
"""Elements and characters that hypothesis is asked for; longer ones are repetitions."""
_LONG = 32
_UNIT = 2
"""The budget of each element of a long list."""
_PARTS = 100_000
"""A type whose least value has more parts than that is refused: a few nested records can ask for millions."""


# -- WIT -------------------------------------------------------------------------------------------------


def from_type(of: WitType, overrides: Overrides | None = None, *, budget: int = _BUDGET) -> Strategy:
    """Return values of a WIT type, as the engine takes them; named types without a Python class get one.

    ``of`` may be a name (``"u32"``), a type of generated bindings, or of a component's exports. ``budget`` is how many
    characters, elements and parts a value has at most, about. Raise :class:`~aegis.fuzz.values.generate.Unfit` for
    handles, which only a guest can give, naming the type, and for types whose every value is huge.
    """
    return _Making(overrides or {}).checked(with_python_types(of), budget)


def from_function(
    function: Function, overrides: Overrides | None = None, *, name: str = "", budget: int = _BUDGET
) -> Arguments:
    """Return argument lists for a WIT function; ``name`` is what overrides may call it by, with its interface or not.

    Errors as for :func:`from_type`, unless an override makes what cannot be made.
    """
    chosen, making = overrides or {}, _Making(overrides or {})
    each = budget // max(1, len(function.params))
    return st.tuples(*(_parameter(making, chosen, name, p, with_python_types(of), each) for p, of in function.params))


def from_interface(
    interface: Interface, overrides: Overrides | None = None, *, budget: int = _BUDGET
) -> dict[str, Arguments]:
    """Return argument lists for each function of an interface whose arguments can be made, by its name.

    Left out are those that take handles: :func:`~aegis.testing.machines.state_machine` calls these too.
    """
    found = {}
    for member, function in interface.functions.items():
        with suppress(Unfit):
            found[member] = from_function(function, overrides, name=f"{interface.name}#{member}", budget=budget)
    return found


def from_export(
    artifact: Module | Component, name: str, overrides: Overrides | None = None, *, buffers: bool = True
) -> Arguments:
    """Return argument lists for an export, by the name that :meth:`aegis.Sandbox.call` takes.

    Of a core function with ``buffers``, two ``i32`` that are an address and a length are one
    :class:`~aegis.fuzz.values.buffers.Buffer`; :func:`aegis.fuzz.values.buffers.place` makes raw arguments of them in
    a sandbox.
    Raise :class:`~aegis.errors.ExportNotFound`, and as :func:`from_function` does.
    """
    functions = _functions(artifact)
    if name not in functions:
        alike = similar_names(name, functions, 1)
        hint = "".join(f"; did you mean {printable(n)}?" for n in alike)
        raise ExportNotFound(f"no export is called {printable(name)!r}{hint}", name=name, near=alike)
    function = functions[name]
    if isinstance(function, Function):
        return from_function(function, overrides, name=name)
    module: Any = artifact
    kinds = layout(module, name, Place(module)) if buffers else function.params
    return st.tuples(*map(_core, kinds))


def from_exports(
    artifact: Module | Component, overrides: Overrides | None = None, *, buffers: bool = True
) -> dict[str, Arguments]:
    """Return argument lists for each export whose arguments can be made, by the name it is called by."""
    found = {}
    for name in _functions(artifact):
        with suppress(Unfit):
            found[name] = from_export(artifact, name, overrides, buffers=buffers)
    return found


def from_signature(signature: FuncType) -> Arguments:
    """Return argument lists for a core function, numbers alone; raise ``Unfit`` for references."""
    return st.tuples(*map(_core, signature.params))


def _functions(artifact: Any) -> dict[str, Function | FuncType]:
    """Return what can be called, by name, with the classes that the artifact's own values have."""
    if artifact.kind == "module":
        return {e.name: e.type for e in artifact.exports if isinstance(e.type, FuncType)}
    found: dict[str, Function | FuncType] = {}
    for name, item in artifact.exports.items():
        if isinstance(item, Function):
            found[name] = artifact.with_python_types(item)
        else:
            found.update((f"{name}#{member}", artifact.with_python_types(of)) for member, of in item.functions.items())
    return found


def _parameter(making: _Making, overrides: Overrides, function: str, name: str, of: WitType, budget: int) -> Strategy:
    member = function.rpartition("#")[2]
    for key in (f"{function}.{name}", f"{member}.{name}", name):
        if key in overrides:
            return overrides[key]
    return making.checked(of, budget)


class _Making:
    """Strategies by type and budget, each made once: the same type may be in many places."""

    def __init__(self, overrides: Overrides) -> None:
        self.overrides = overrides
        self.made: dict[tuple[WitType, int], Strategy] = {}
        self.parts: dict[WitType, int] = {}

    def checked(self, of: WitType, budget: int) -> Strategy:
        """Return values of a type; raise ``Unfit`` where the least of them is too large."""
        least = self.least(of)
        if least > _PARTS:
            raise Unfit(f"every {getattr(of, 'name', None) or show(of)} has {least:,} parts or more")
        return self.values(of, budget)

    def least(self, of: WitType) -> int:
        """Return how many parts every value of a type has."""
        if of not in self.parts:
            self.parts[of] = 1
            if isinstance(of, (Record, Tuple)):
                self.parts[of] += sum(map(self.least, children(of)))
            elif isinstance(of, (Result, Variant)):
                inner = [t for _, t in of.cases] if isinstance(of, Variant) else [of.ok, of.err]
                self.parts[of] += min(0 if t is None else self.least(t) for t in inner)
        return self.parts[of]

    def values(self, of: WitType, budget: int) -> Strategy:
        """Return values of a type of about ``budget`` parts at most."""
        for key in (of, getattr(of, "name", None)):
            if key in self.overrides:
                return self.overrides[key]
        found = self.made.get((of, budget))
        if found is None:
            found = self.made[of, budget] = self._values(of, budget)
        return found

    def _values(self, of: WitType, budget: int) -> Strategy:
        match of:
            case str():
                return _primitive(of, budget)
            case List("u8"):
                return st.binary(max_size=min(64, budget)) | _long(st.binary(min_size=1, max_size=4), b"", budget)
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
        raise Unfit(f"{show(of)} is a handle, which only a guest can give")

    def _each(self, types: Any, budget: int) -> list[Strategy]:
        return [self.values(of, budget // len(types)) for of in types]

    def _list(self, element: WitType, budget: int) -> Strategy:
        """Return short lists of large elements, and long ones of small elements again and again."""
        least = self.least(element)
        few = min(_MOST, isqrt(budget), budget // least)
        short = st.lists(self.values(element, budget // max(1, few)), max_size=few)
        unit = st.lists(self.values(element, _UNIT), min_size=1, max_size=2)
        return short | _long(unit, [], budget // (least + _UNIT))

    def _payload(self, of: WitType | None, budget: int) -> Strategy:
        return st.none() if of is None else self.values(of, budget)

    def _variant(self, of: Variant, budget: int) -> list[Strategy]:
        return [
            st.builds(cls, *([] if payload is None else [self.values(payload, budget)]))
            for cls, (_, payload) in zip(of.python or (), of.cases, strict=True)
        ]


# -- what has no parts -----------------------------------------------------------------------------------


def _core(kind: str) -> Strategy:
    if kind == "buffer":
        return from_type(List("u8")).map(Buffer)
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        return _integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if kind in ("f32", "f64"):
        return _floats(int(kind[1:]))
    raise Unfit(f"{kind} is no number")


def _primitive(of: str, budget: int) -> Strategy:
    if of == "bool":
        return st.booleans()
    if of == "char":
        return _characters()
    if of == "string":
        text = _text(0, min(_MOST, budget))
        snippets = st.lists(st.sampled_from(SNIPPETS), max_size=min(6, budget // 4)).map("".join)
        return text | snippets | _long(_text(1, 3), "", budget)
    if of in ("f32", "f64"):
        return _floats(int(of[1:]))
    bits = int(of[1:])
    return _integers(*((0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)))


def _integers(low: int, high: int) -> Strategy:
    return st.integers(low, high) | st.sampled_from((0, low, high)) | st.sampled_from(integers(low, high))


def _floats(bits: int) -> Strategy:
    edges = SINGLES if bits == 32 else FLOATS
    nans = st.sampled_from(NANS).map(_double)  # by their bits: Python takes NaNs of one identity for one value
    return st.floats(width=32 if bits == 32 else 64) | st.sampled_from(edges) | nans


def _double(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def _characters() -> Strategy:
    return st.characters(codec="utf-8") | st.sampled_from(CHARACTERS)


def _text(least: int, most: int) -> Strategy:
    # st.text() would take the union for one alphabet, of which the edges are a ten-thousandth.
    return st.lists(_characters(), min_size=least, max_size=most).map("".join)


def _long(unit: Strategy, empty: Any, most: int) -> Strategy:
    """Return repetitions of a unit, of the lengths at which buffers end; of none where there is no room for any."""
    if most < _LONG:
        return st.just(empty) if isinstance(empty, (bytes, str)) else st.builds(list)
    return st.builds(_repeated, unit, st.sampled_from([length for length in LENGTHS if 1 < length <= most]))


def _repeated(unit: Any, length: int) -> Any:
    return (unit * (length // len(unit) + 1))[:length]
