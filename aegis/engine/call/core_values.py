"""Conversion of core values at the C boundary: their positions in the raw argument array, and range checks.

``wasmtime_val_raw_t`` has 16 bytes, and the value is at its start. Storing through a typed ``memoryview`` checks type
and range at no extra cost, so a value is never silently truncated (F6).
"""

from __future__ import annotations

from struct import Struct

from aegis.errors import CallError
from aegis.support.lean import Any
from aegis.text import shown
from aegis.values import FuncType

__all__ = ["RAW_VALUE_BYTES", "coerce", "coerced", "index_of", "scalar_types", "view_name"]

RAW_VALUE_BYTES = 16
"""Bytes of a core value in the engine's array, ``wasmtime_val_raw_t``."""
_FORMATS = {"i32": ("i", 4), "i64": ("q", 2), "f32": ("f", 4), "f64": ("d", 2)}
_BITS = {"i32": 32, "i64": 64}
_SINGLE = Struct("<f")
LARGEST_SINGLE = 3.4028234663852886e38
scalar_types = frozenset(_FORMATS)
"""The value types that Python can pass to a guest and receive from it."""


def view_name(value_type: str) -> str:
    """Return the format of the typed view that holds ``value_type``."""
    return _FORMATS[value_type][0]


def index_of(value_type: str, slot: int) -> int:
    """Return the index of the argument ``slot`` in the typed view of ``value_type``."""
    return slot * _FORMATS[value_type][1]


def formats(signature: FuncType) -> tuple[str, ...]:
    """Return the formats of the typed views that calls of ``signature`` need."""
    return tuple(dict.fromkeys(view_name(t) for t in (*signature.params, *signature.results)))


def coerced(value_type: str, value: str, otherwise: str) -> str:
    """Return the source of an expression that can be stored in the typed view: ``value``, or else ``otherwise``.

    For integers, storing checks type and range, but would accept a ``bool``. A view of floats does not check: it
    accepts every object that Python can convert to a float, and turns a number beyond the range of f32 into infinity.
    The expression evaluates ``otherwise``, which checks the value, for everything but an in-range ``float``.
    """
    if value_type in _BITS:
        return f"{value} if {value} is not True and {value} is not False else {otherwise}"
    fits = f" and -{LARGEST_SINGLE} <= {value} <= {LARGEST_SINGLE}" if value_type == "f32" else ""
    return f"{value} if {value}.__class__ is float{fits} else {otherwise}"


def coerce(value_type: str, value: Any, what: str) -> int | float:
    """Convert ``value`` to the number that the typed view of ``value_type`` stores.

    An integer may be signed or unsigned, within the width of the type; a ``bool`` is not an integer. A float may be
    given as an ``int``. An f32 is rounded; a number beyond its range is rejected, not turned into infinity.
    Raise :class:`~aegis.errors.CallError` for any other value; the message names it ``what``.
    """
    if value_type in _BITS:
        bits = _BITS[value_type]
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise CallError(f"{what} must be an integer for {value_type}, not {_name(value)}")
        number = value.__index__()
        if not -(1 << (bits - 1)) <= number < 1 << bits:
            raise CallError(f"{what}: {shown(number, 40)} is out of range for {value_type}")
        return int(number - (1 << bits) if number >= 1 << (bits - 1) else number)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CallError(f"{what} must be a number for {value_type}, not {_name(value)}")
    try:
        number = float(value)
        return float(_SINGLE.unpack(_SINGLE.pack(number))[0]) if value_type == "f32" else number
    except OverflowError:
        raise CallError(f"{what}: the number is out of range for {value_type}") from None


def _name(value: object) -> str:
    return f"{type(value).__name__} {shown(value, 40)}" if isinstance(value, str | float) else type(value).__name__
