"""Scalars that a view alone cannot judge: truth, characters, floats, and bytes in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

__all__ = ["NO_LISTS", "bad_bool", "bad_char", "exact", "octets", "scalar", "scalar_names", "single"]

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


_LARGEST_SINGLE = 3.4028234663852886e38


def scalar(of: str, x: str) -> str:
    """Return the expression that makes of the variable ``x`` a number that a view of ``of`` checks, or refuses."""
    if of == "bool":
        return f"(1 if {x} is True else 0 if {x} is False else bad_bool({x}))"
    if of == "char":
        return f"(ord({x}) if {x}.__class__ is str and not '\\ud800' <= {x} <= '\\udfff' else bad_char({x}))"
    if of == "f64":
        return f"({x} if {x}.__class__ is float else exact({x}))"
    if of == "f32":
        return f"({x} if {x}.__class__ is float and -{_LARGEST_SINGLE} <= {x} <= {_LARGEST_SINGLE} else single({x}))"
    return x


def scalar_names() -> dict[str, Any]:
    """Return the names that :func:`scalar` uses."""
    return {"exact": exact, "single": single, "bad_bool": bad_bool, "bad_char": bad_char}
