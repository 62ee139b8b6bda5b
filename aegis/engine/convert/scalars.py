"""Scalars that a view alone cannot judge: truth, characters, floats, and bytes in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

from aegis.engine.convert.layout import Arena, layout_of

__all__ = ["NO_LISTS", "bad_bool", "bad_char", "exact", "octets", "octets_of", "single"]

NO_LISTS = (str, Mapping, set, frozenset)
"""Classes of iterables that are never taken for a list: text, and collections without an order or with keys."""
_SINGLE = Struct("<f")


def bad_bool(value: object) -> int:
    """Refuse what is not a bool; truth is not guessed."""
    raise TypeError(f"{type(value).__name__} is not a bool")


def bad_char(value: Any) -> int:
    """Return the code point of a character of a string subclass; refuse anything else, surrogates too."""
    if isinstance(value, str) and len(value) == 1 and not 0xD800 <= ord(value) <= 0xDFFF:
        return ord(value)
    raise ValueError("not one character")


def exact(value: Any) -> float:
    """Return a number as a float; an integer only if it is one exactly."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{type(value).__name__} is not a number")
    made = float(value)
    if isinstance(value, int) and int(made) != value:
        raise ValueError("the integer has no exact float")
    return made


def single(value: Any) -> float:
    """Return the f32 nearest to a number; an integer only if it is one exactly, and never an infinity for a number."""
    try:
        made: float = _SINGLE.unpack(_SINGLE.pack(exact(value)))[0]
    except OverflowError:
        raise ValueError("the number is out of range for f32") from None
    if isinstance(value, int) and int(made) != value:
        raise ValueError("the integer has no exact f32")
    return made


_OCTET = layout_of("u8")


def octets_of(value: Any, keep: list[Any], door: Any) -> tuple[int, int]:
    """Lower ``list<u8>`` from ``bytes``, another buffer, or a sequence of integers."""
    data = value if value.__class__ is bytes else octets(value)
    count = len(data)
    if not count:
        return 0, 0
    door.charge(count)
    arena = Arena(_OCTET, count)
    arena.buffer[8::32] = data
    keep.append(arena)
    return count, arena.base


def octets(value: Any) -> bytes:
    """Return a buffer, or a sequence of integers, as bytes; raise ``TypeError`` or ``ValueError`` for others."""
    try:
        with memoryview(value) as view:
            return view.tobytes()
    except TypeError:
        # An iterator is not read here: arguments are read a second time when one of them has to be made fit.
        if isinstance(value, NO_LISTS) or not hasattr(value, "__len__"):
            raise
        return bytes(list(value))
