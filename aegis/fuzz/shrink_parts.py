"""The numbers, texts and lists inside arguments, by their place, and the replacement of some of them.

A place is a path: the positions of list items and tuple elements, and the names of record fields. ``.value`` leads into
``Ok``, ``Err``, ``Some`` and the cases of variants, which all have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from aegis.fuzz.case import Case, HandleRef, Step
from aegis.fuzz.values.buffers import Buffer
from aegis.fuzz.values.core_signatures import CString, OutPointer
from aegis.wit.values import Err, Ok, Some

__all__ = ["Part", "parts_of", "with_parts"]

_MAX_PARTS = 64
"""Most parts of a case that are related to one another; a long list has many, and pairs grow with their square."""


class Part(NamedTuple):
    """A number, text, bytes or list in the arguments of a case: its path, from the number of the step on."""

    path: tuple[int | str, ...]
    value: Any


def parts_of(case: Case) -> list[Part]:
    """Return the parts of all arguments, each list before its items, up to a bound."""
    found: list[Part] = []
    for number, step in enumerate(case.steps):
        for place, argument in enumerate(step.arguments):
            for part in _parts((number, place), argument):
                if len(found) >= _MAX_PARTS:
                    return found
                found.append(part)
    return found


def _parts(path: tuple[int | str, ...], value: Any) -> Iterator[Part]:
    if isinstance(value, (HandleRef, CString, OutPointer)):  # a C string has no NUL, so its bytes cannot be any
        return
    if type(value) in (int, float, str, bytes):  # not bool, enumerations and flags, whose values have no neighbours
        yield Part(path, value)
    elif isinstance(value, Buffer):
        yield Part((*path, "data"), value.data)
    elif isinstance(value, (list, tuple)):
        if isinstance(value, list):
            yield Part(path, value)
        for place, item in enumerate(value):
            yield from _parts((*path, place), item)
    else:
        for name in _fields(value):
            yield from _parts((*path, name), getattr(value, name))


def _fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, (Ok, Err, Some)):
        return ("value",)
    return tuple(getattr(type(value), "__dataclass_fields__", ()))


def with_parts(case: Case, values: Mapping[tuple[int | str, ...], Any]) -> Case:
    """Return the case with other values at these paths."""
    steps = list(case.steps)
    for path, value in values.items():
        number = path[0]
        assert isinstance(number, int)
        step = steps[number]
        steps[number] = Step(step.function, _replaced(step.arguments, path[1:], value))
    return Case(tuple(steps), case.answers)


def _replaced(whole: Any, path: tuple[int | str, ...], value: Any) -> Any:
    if not path:
        return value
    first = path[0]
    if isinstance(first, int):
        items = list(whole)
        items[first] = _replaced(items[first], path[1:], value)
        return tuple(items) if isinstance(whole, tuple) else items
    inner = _replaced(getattr(whole, first), path[1:], value)
    if isinstance(whole, (Ok, Err, Some)):
        return type(whole)(inner)
    return replace(whole, **{first: inner})
