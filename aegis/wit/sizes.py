"""The sizes of WIT values as Python objects in bytes, for the limit ``value_bytes``.

The sizes are those of 64-bit CPython 3.11, including the headers of allocator and garbage collector, rounded up. A
value has a fixed part, the same for each value of its type (:func:`fixed_bytes`), and a variable part: the elements of
a list, the characters of a string, and the payload of an option, result or variant.
"""

from __future__ import annotations

from collections.abc import Sequence

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
)

__all__ = [
    "ERR_BYTES", "OK_BYTES", "REFERENCE_BYTES", "SOME_BYTES", "case_bytes", "element_bytes",
    "fixed_bytes", "largest_bytes", "text_bytes",
]  # fmt: skip

REFERENCE_BYTES = 8
"""One reference in a list or an object."""
SOME_BYTES = 40
"""``Some``. Added for every present option, whether or not Python wraps it: otherwise a small payload would count less
than a third of its guest bytes."""
OK_BYTES, ERR_BYTES = 48, 336
"""``Ok``, and ``Err``, which is an exception object."""
_PRIMITIVE_BYTES = {"bool": 0, "s64": 40, "u64": 40, "f32": 24, "f64": 24, "char": 80, "string": 56}
_INT_BYTES = 32
_BYTES_BYTES, _LIST_BYTES = 40, 64
_TUPLE_BYTES, _OBJECT_BYTES = 40, 32
_ENUM_BYTES = 8  # all values of a case share one object; between processes each is an integer
_FLAGS_BYTES = 144
_EMPTY_TEXT_BYTES = str.__sizeof__("")
_HANDLE_BYTES = 128


def element_bytes(of: WitType) -> int:
    """Return the bytes that one element of type ``of`` adds to a list, without its variable part."""
    return REFERENCE_BYTES + fixed_bytes(of)


def text_bytes(texts: Sequence[str]) -> int:
    """Return the bytes of the characters of all ``texts``, each text stored at the width of its widest character."""
    return sum(map(str.__sizeof__, texts)) - _EMPTY_TEXT_BYTES * len(texts)


def case_bytes(payload: WitType | None) -> int:
    """Return the bytes of a variant's case with this ``payload``, without its variable part."""
    return _OBJECT_BYTES + (0 if payload is None else element_bytes(payload))


def largest_bytes(of: WitType) -> int:
    """Return the maximum bytes of an element of type ``of`` in a list, not counting characters and list elements.

    An ``Err`` is counted as an ``Ok``; the code that creates one adds the difference.
    """
    return element_bytes(of) + _most_beyond(of)


def _most_beyond(of: WitType) -> int:
    """Return the maximum bytes of a value in addition to its fixed part."""
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
        case Own() | Borrow() | Stream() | Future():
            return _HANDLE_BYTES
    raise TypeError(f"a type without a size: {of!r}")
