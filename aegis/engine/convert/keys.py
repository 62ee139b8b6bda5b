"""The Python classes inside types: what tells two types apart that WIT holds to be equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aegis.wit.types import Enum, Flags, Record, Variant, WitType, children

__all__ = ["images_of"]


def images_of(types: tuple[WitType, ...]) -> tuple[type[Any], ...]:
    """Return every Python class in ``types``, in order."""
    return tuple(cls for of in types for cls in _walk(of))


def _walk(of: WitType) -> Iterator[type[Any]]:
    if isinstance(of, (Record, Enum, Flags)) and of.python is not None:
        yield of.python
    elif isinstance(of, Variant) and of.python is not None:
        yield from of.python
    for inner in children(of):
        yield from _walk(inner)
