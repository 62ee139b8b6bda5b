"""Keys for caches of converters: WIT types compare equal without their Python classes, which converters depend on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aegis.wit.types import Enum, Flags, Record, Variant, WitType, children

__all__ = ["images_of", "parts_of"]

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
