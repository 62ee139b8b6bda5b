"""The Python classes inside types: what tells two types apart that WIT holds to be equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aegis.wit.types import Enum, Flags, Record, Variant, WitType, children

__all__ = ["images_of", "parts_of"]

_CLASS = 15
"""Parts that a Python class counts for, a dataclass of some 12 KB."""


def images_of(types: tuple[WitType, ...]) -> tuple[type[Any], ...]:
    """Return every Python class in ``types``, in order."""
    return tuple(cls for of in types for cls in _walk(of))


def parts_of(*types: WitType | tuple[WitType, ...] | None) -> int:
    """Return the weight of ``types`` together: their parts, names of cases and flags, and Python classes."""
    found, left = 0, list(types)
    while left:
        of = left.pop()
        if isinstance(of, tuple):
            left += of
        elif of is not None:
            found += 1 + _beside(of)
            left += children(of)
    return found


def _beside(of: WitType) -> int:
    match of:
        case Record():
            return _CLASS
        case Variant():
            return (1 + _CLASS) * len(of.cases)
        case Enum():
            return _CLASS + len(of.cases)
        case Flags():
            return _CLASS + len(of.names)
    return 0


def _walk(of: WitType) -> Iterator[type[Any]]:
    if isinstance(of, (Record, Enum, Flags)) and of.python is not None:
        yield of.python
    elif isinstance(of, Variant) and of.python is not None:
        yield from of.python
    for inner in children(of):
        yield from _walk(inner)
