"""Scalars that a view alone cannot judge: truth, characters, floats, and bytes in bulk."""

from __future__ import annotations

from typing import Any

from aegis.engine.convert.layout import Arena, layout_of

__all__ = ["bad_bool", "bad_char", "exact", "octets_of", "single"]

_LARGEST = 3.4028234663852886e38


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
    """Return a number for an f32: rounded as floats are, but never made infinite."""
    made = exact(value)
    if made - made == 0 and not -_LARGEST <= made <= _LARGEST:
        raise ValueError("the number is out of range for f32")
    if isinstance(value, int) and abs(value) > 1 << 24 and not _is_single(value):
        raise ValueError("the integer has no exact f32")
    return made


def _is_single(value: int) -> bool:
    size = abs(value)
    return size % (1 << max(0, size.bit_length() - 24)) == 0


_OCTET = layout_of("u8")


def octets_of(value: Any, keep: list[Any], door: Any) -> tuple[int, int]:
    """Lower ``list<u8>`` from ``bytes`` or what is like them."""
    data = value if value.__class__ is bytes else _bytes(value)
    count = len(data)
    if not count:
        return 0, 0
    door.charge(count)
    arena = Arena(_OCTET, count)
    arena.buffer[8::32] = data
    keep.append(arena)
    return count, arena.base


def _bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, int)):
        raise TypeError(f"{type(value).__name__} is not bytes")
    try:
        with memoryview(value) as view:
            return view.tobytes()
    except TypeError:
        return bytes(list(value))
