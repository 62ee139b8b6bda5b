"""Create Python classes for WIT types at run time, with the same structure as generated bindings."""

from __future__ import annotations

import enum
from dataclasses import make_dataclass, replace
from typing import Any

from aegis.wit.flags import BitFlags
from aegis.wit.naming import constant, pascal, snake
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    Future,
    List,
    Option,
    Own,
    Record,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
)

__all__ = ["function_with_python_types", "nullable", "with_python_types"]


def with_python_types(of: WitType, made: dict[WitType, WitType] | None = None) -> WitType:
    """Return ``of`` with a Python class for each named type that has none.

    ``made`` maps types to their results, so that equal types share a class; pass the same dictionary for all types of a
    component.
    """
    known = {} if made is None else made
    match of:
        case List(element):
            return List(with_python_types(element, known))
        case Option(element):
            return Option(with_python_types(element, known))
        case Tuple(elements):
            return Tuple(tuple(with_python_types(e, known) for e in elements))
        case Result(ok, err):
            return Result(*(None if t is None else with_python_types(t, known) for t in (ok, err)))
        case Stream(element) | Future(element):
            return type(of)(None if element is None else with_python_types(element, known))
        case str() | Own() | Borrow():
            return of
    if of.python is not None:
        return of
    found = known.get(of)
    if found is None:
        found = known[of] = _named(of, known)
    return found


def function_with_python_types(of: Function, made: dict[WitType, WitType]) -> Function:
    """Return a function type whose parameter and result types have Python classes."""
    params = tuple((name, with_python_types(t, made)) for name, t in of.params)
    return replace(of, params=params, result=None if of.result is None else with_python_types(of.result, made))


def _named(of: Record | Variant | Enum | Flags, known: dict[WitType, WitType]) -> WitType:
    if isinstance(of, Record):
        fields = tuple((name, with_python_types(t, known)) for name, t in of.fields)
        return replace(of, fields=fields, python=_dataclass(pascal(of.name), [snake(name) for name, _ in fields]))
    if isinstance(of, Variant):
        cases = tuple((name, None if t is None else with_python_types(t, known)) for name, t in of.cases)
        prefix = pascal(of.name).rstrip("_")
        classes = tuple(_case(prefix + pascal(name).rstrip("_"), name, payload=t is not None) for name, t in cases)
        return replace(of, cases=cases, python=classes)
    if isinstance(of, Enum):
        members = {constant(name): name for name in of.cases}
        return replace(of, python=enum.Enum(pascal(of.name), members))  # type: ignore[arg-type]
    bits = {constant(name): 1 << n for n, name in enumerate(of.names)}
    return replace(of, python=BitFlags(pascal(of.name), bits))  # type: ignore[arg-type, call-arg]


def _dataclass(name: str, fields: list[str]) -> type[Any]:
    return make_dataclass(name, fields, frozen=True, slots=True)


def _case(name: str, case: str, *, payload: bool) -> type[Any]:
    """Create the class of a variant's case: ``case`` is its name in WIT, and ``value`` the payload or ``None``."""
    if payload:
        return make_dataclass(name, ["value"], namespace={"case": case}, frozen=True, slots=True)
    return make_dataclass(name, [], namespace={"case": case, "value": None}, frozen=True, slots=True)


def nullable(of: WitType) -> bool:
    """Return whether a Python value of type ``of`` can be ``None``, so that an option of it needs ``Some``."""
    return isinstance(of, Option)
