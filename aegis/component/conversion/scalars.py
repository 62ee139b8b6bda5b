"""Checks of scalars that assigning to a typed memoryview does not make: bool, char, floats; and bytes in bulk.

Assigning to a memoryview of an integer format raises for a value of the wrong type or range, so integers need no
check of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

__all__ = [
    "NO_LISTS",
    "bad_bool",
    "bad_char",
    "bad_integer",
    "exact",
    "octets",
    "scalar",
    "scalar_names",
    "single",
]

NO_LISTS = (str, Mapping, set, frozenset)
"""Iterables that are never accepted as a list: text, mappings, and unordered collections."""
_SINGLE = Struct("<f")


def bad_bool(value: object) -> int:
    """Raise ``TypeError``: a bool parameter accepts only ``True`` and ``False``, not any truthy value."""
    raise TypeError(f"{type(value).__name__} is not a bool")


def bad_integer(value: object) -> int:
    """Raise ``TypeError``: a ``bool`` is not an integer of WIT, although it is one of Python."""
    raise TypeError(f"{type(value).__name__} is not an integer")


def bad_char(value: Any) -> int:
    """Return the code point if ``value`` is one character of a ``str`` subclass; otherwise raise ``ValueError``."""
    if isinstance(value, str) and len(value) == 1 and not 0xD800 <= ord(value) <= 0xDFFF:
        return ord(value)
    raise ValueError("not one character")


def exact(value: Any) -> float:
    """Return a number as a float; raise ``ValueError`` for an integer that a float cannot represent exactly."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{type(value).__name__} is not a number")
    made = float(value)
    if isinstance(value, int) and int(made) != value:
        raise ValueError("the integer has no exact float")
    return made


def single(value: Any) -> float:
    """Return the nearest f32 value of a number.

    Raise ``ValueError`` if a finite number overflows f32 or an integer has no exact f32, ``TypeError`` for no number.
    """
    try:
        made: float = _SINGLE.unpack(_SINGLE.pack(exact(value)))[0]
    except OverflowError:
        raise ValueError("the number is out of range for f32") from None
    if isinstance(value, int) and int(made) != value:
        raise ValueError("the integer has no exact f32")
    return made


def octets(value: Any) -> bytes:
    """Return a buffer or a sequence of integers as bytes; raise ``TypeError`` or ``ValueError`` otherwise."""
    try:
        with memoryview(value) as view:
            return view.tobytes()
    except TypeError:
        # Reject iterators: if another argument needs coercion, all arguments are read a second time.
        if isinstance(value, NO_LISTS) or not hasattr(value, "__len__"):
            raise
        return bytes(list(value))


_LARGEST_SINGLE = 3.4028234663852886e38


def scalar(of: str, x: str) -> str:
    """Return an expression for the number to store for the variable ``x``; it raises if ``x`` is not an ``of``.

    For integers it only rejects ``bool``, which Python counts among them: the memoryview or :mod:`struct` checks type
    and range.
    """
    if of == "bool":
        return f"(1 if {x} is True else 0 if {x} is False else bad_bool({x}))"
    if of == "char":
        return f"(ord({x}) if {x}.__class__ is str and not '\\ud800' <= {x} <= '\\udfff' else bad_char({x}))"
    if of == "f64":
        return f"({x} if {x}.__class__ is float else exact({x}))"
    if of == "f32":
        return f"({x} if {x}.__class__ is float and -{_LARGEST_SINGLE} <= {x} <= {_LARGEST_SINGLE} else single({x}))"
    return f"({x} if {x} is not True and {x} is not False else bad_integer({x}))"


def scalar_names() -> dict[str, Any]:
    """Return the names that expressions of :func:`scalar` refer to."""
    return {
        "exact": exact, "single": single, "bad_bool": bad_bool, "bad_char": bad_char, "bad_integer": bad_integer,
    }  # fmt: skip
