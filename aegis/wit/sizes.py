"""Sizes of the Python images of WIT values, in bytes: the unit of ``value_bytes``.

They are those of CPython 3.11 on 64 bits, with the allocator's and the collector's headers, rounded up. A value is
counted in two parts: a fixed one, the same for each value of the type (:func:`fixed_bytes`), and a variable one: the
elements of a list, the characters of a string, and the payload of an option, result or variant.
"""

from __future__ import annotations

from collections.abc import Sequence

from aegis.wit.types import Borrow, Enum, Flags, List, Option, Own, Record, Result, Tuple, Variant, WitType

__all__ = [
    "ERR_BYTES", "OK_BYTES", "PLACE_BYTES", "SOME_BYTES", "case_bytes", "element_bytes",
    "fixed_bytes", "largest_bytes", "text_bytes",
]  # fmt: skip

PLACE_BYTES = 8
"""A reference, in a list or an object."""
SOME_BYTES = 40
"""``Some``, and an option's payload that needs none: so it is never counted as less than a third of its plain data."""
OK_BYTES, ERR_BYTES = 48, 336
"""``Ok``, and ``Err``, which is an exception."""
_PRIMITIVE_BYTES = {"bool": 0, "s64": 40, "u64": 40, "f32": 24, "f64": 24, "char": 80, "string": 56}
_INT_BYTES = 32
_BYTES_BYTES, _LIST_BYTES = 40, 64
_TUPLE_BYTES, _OBJECT_BYTES = 40, 32
_ENUM_BYTES = 8  # a case is one object for all; here it is an integer while it passes between processes
_FLAGS_BYTES = 144
_EMPTY_TEXT_BYTES = str.__sizeof__("")
_HANDLE_BYTES = 128


def element_bytes(of: WitType) -> int:
    """Return the bytes that one more element of type ``of`` adds to a list, its variable part left out."""
    return PLACE_BYTES + fixed_bytes(of)


def text_bytes(texts: Sequence[str]) -> int:
    """Return the bytes of the characters of all ``texts``; those of one text are all as wide as its widest."""
    return sum(map(str.__sizeof__, texts)) - _EMPTY_TEXT_BYTES * len(texts)


def case_bytes(payload: WitType | None) -> int:
    """Return the bytes of a variant's case with this ``payload``, its variable part left out."""
    return _OBJECT_BYTES + (0 if payload is None else element_bytes(payload))


def largest_bytes(of: WitType) -> int:
    """Return the most that an element of type ``of`` takes in a list, besides its texts and what its lists hold.

    An ``Err`` is counted as ``Ok``: whoever makes one counts the rest of the exception that it is.
    """
    return element_bytes(of) + _most_beyond(of)


def _most_beyond(of: WitType) -> int:
    """Return the most that a value takes beyond what every value of its type does."""
    match of:
        case Option(element):
            return SOME_BYTES + _most(element)
        case Result(ok, err):
            return OK_BYTES + max(_most(ok), _most(err))
        case Variant():
            return max(case_bytes(t) + (0 if t is None else _most_beyond(t)) for _, t in of.cases)
        case Record():
            return sum(_most_beyond(field) for _, field in of.fields)
        case Tuple(elements):
            return sum(map(_most_beyond, elements))
    return 0


def _most(of: WitType | None) -> int:
    return 0 if of is None else fixed_bytes(of) + _most_beyond(of)


def fixed_bytes(of: WitType) -> int:
    """Return the bytes of the fixed part of each value of type ``of``."""
    match of:
        case str():
            return _PRIMITIVE_BYTES.get(of, _INT_BYTES)
        case List(element):
            return _BYTES_BYTES if element == "u8" else _LIST_BYTES
        case Record():
            return _OBJECT_BYTES + sum(element_bytes(field) for _, field in of.fields)
        case Tuple(elements):
            return _TUPLE_BYTES + sum(map(element_bytes, elements))
        case Option() | Result() | Variant():
            return 0
        case Enum():
            return _ENUM_BYTES
        case Flags():
            return _FLAGS_BYTES
        case Own() | Borrow():
            return _HANDLE_BYTES
