"""Streams and futures as plain values, for tools that have no others: the command line, and the fuzzer.

A stream stands for the list of its elements, and a future for its value. A part without a value is an empty tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from aegis.errors import CallError
from aegis.wit.naming import snake
from aegis.wit.python_types import nullable
from aegis.wit.types import Future, List, Option, Record, Result, Stream, Tuple, Variant, WitType, has_ends
from aegis.wit.values import Err, Ok, Some

__all__ = ["collected", "collected_type", "replaced_ends"]

_NOTHING = Tuple(())


def collected_type(of: WitType) -> WitType:
    """Return the type of values of the type ``of`` whose streams and futures are read to their ends."""
    if not has_ends(of):
        return of
    match of:
        case Stream(element):
            return List(_NOTHING if element is None else collected_type(element))
        case Future(element):
            return _NOTHING if element is None else collected_type(element)
        case List(element):
            return List(collected_type(element))
        case Option(element):
            return Option(collected_type(element))
        case Tuple(elements):
            return Tuple(tuple(map(collected_type, elements)))
        case Result(ok, err):
            return Result(_part(ok), _part(err))
        case Record():
            return replace(of, fields=tuple((name, collected_type(t)) for name, t in of.fields))
        case Variant():
            return replace(of, cases=tuple((name, _part(t)) for name, t in of.cases))
    return of


def _part(of: WitType | None) -> WitType | None:
    return None if of is None else collected_type(of)


def collected(value: Any, of: WitType, most: int) -> Any:
    """Read the streams and futures in a value that a guest returned; return a value of :func:`collected_type`.

    Reading runs the guest, and raises its errors. Raise ``CallError`` for a stream of more than ``most`` elements or
    bytes.
    """

    def read(end: Any, of: Stream | Future) -> Any:
        element = of.element
        if isinstance(of, Future):
            given = end.result()
            return () if element is None else collected(given, element, most)
        if element == "u8":
            return b"".join(_bounded(end, most, len))
        found = _bounded(end, most, lambda _: 1)
        return [() if element is None else collected(item, element, most) for item in found]

    return replaced_ends(value, of, read)


def replaced_ends(value: Any, of: WitType, leaf: Callable[[Any, Stream | Future], Any]) -> Any:
    """Return a value of the type ``of`` with ``leaf(end, type)`` for each stream and future in it."""
    if not has_ends(of):
        return value
    match of:
        case Stream() | Future():
            return leaf(value, of)
        case List(element):
            return [replaced_ends(item, element, leaf) for item in value]
        case Tuple(elements):
            return tuple(replaced_ends(item, t, leaf) for item, t in zip(value, elements, strict=True))
        case Option(element):
            if value is None:
                return None
            inner = isinstance(value, Some) and nullable(element)
            made = replaced_ends(value.value if inner else value, element, leaf)
            return Some(made) if inner else made
        case Result(ok, err):
            side = ok if isinstance(value, Ok) else err
            return (
                value
                if side is None
                else (Ok if isinstance(value, Ok) else Err)(replaced_ends(value.value, side, leaf))
            )
        case Record():
            names = [(snake(name), t) for name, t in of.fields]
            return replace(value, **{name: replaced_ends(getattr(value, name), t, leaf) for name, t in names})
        case Variant():
            payload = next(t for name, t in of.cases if name == value.case)
            return value if payload is None else replace(value, value=replaced_ends(value.value, payload, leaf))
    return value


def _bounded(stream: Iterable[Any], most: int, size: Any) -> list[Any]:
    """Return what a reader yields; close it and raise if its sizes add up to more than ``most``."""
    found, total = [], 0
    with stream as reader:  # type: ignore[attr-defined]
        for item in reader:
            total += size(item)
            if total > most:
                raise CallError(
                    f"the stream has more elements than can be collected ({total:,}/{most:,}): read it from Python"
                )
            found.append(item)
    return found
