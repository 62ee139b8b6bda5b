"""Keys for caches of converters: WIT types compare equal without their Python classes, which converters depend on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
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
    children,
)

__all__ = ["images_of", "parts_of", "shape_of"]

_PARTS_PER_CLASS = 15
"""Parts that a Python class counts as: a generated dataclass takes about 12 KB."""


def images_of(types: tuple[WitType, ...]) -> tuple[type[Any], ...]:
    """Return the Python classes in ``types``, depth first."""
    return tuple(cls for of in types for cls in _walk(of))


def parts_of(*types: WitType | tuple[WitType, ...] | None) -> int:
    """Return the total weight of ``types`` in parts: type nodes, names of cases and flags, and Python classes."""
    found, left = 0, list(types)
    while left:
        of = left.pop()
        if isinstance(of, tuple):
            left += of
        elif of is not None:
            found += 1 + _beside(of)
            left += children(of)
    return found


def shape_of(of: WitType | None, numbers: Mapping[int, int] | None = None) -> Hashable:
    """Return a value that is equal for types that the component model considers equal, whatever their names.

    ``numbers`` maps keys of resource types to their numbers in the program; without it they are equal.
    """
    match of:
        case None | str():
            return of
        case Own(resource) | Borrow(resource):
            return type(of).__name__, resource.key if numbers is None else numbers[resource.key]
        case Record(_, fields):
            return "record", tuple([(label, shape_of(t, numbers)) for label, t in fields])
        case Variant(_, cases):
            return "variant", tuple([(label, shape_of(t, numbers)) for label, t in cases])
        case Enum(_, labels) | Flags(_, labels):
            return type(of).__name__, labels
        case Tuple(elements):
            return "tuple", tuple([shape_of(t, numbers) for t in elements])
        case Result(ok, err):
            return "result", shape_of(ok, numbers), shape_of(err, numbers)
        case List(element) | Option(element) | Stream(element) | Future(element):
            return type(of).__name__, shape_of(element, numbers)


def _beside(of: WitType) -> int:
    match of:
        case Record():
            return _PARTS_PER_CLASS
        case Variant():
            return (1 + _PARTS_PER_CLASS) * len(of.cases)
        case Enum():
            return _PARTS_PER_CLASS + len(of.cases)
        case Flags():
            return _PARTS_PER_CLASS + len(of.names)
    return 0


def _walk(of: WitType) -> Iterator[type[Any]]:
    if isinstance(of, (Record, Enum, Flags)) and of.python is not None:
        yield of.python
    elif isinstance(of, Variant) and of.python is not None:
        yield from of.python
    for inner in children(of):
        yield from _walk(inner)
