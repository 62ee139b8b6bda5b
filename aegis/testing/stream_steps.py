"""Streams and futures in state machines: readers that calls returned, and drawn streams for arguments.

A reader is read in pieces of drawn sizes, closed early, or passed to a later call. An argument for ``stream<u8>`` comes
in pieces. All of this is deterministic: a read runs the guest until it has written, and sources have an end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from aegis.wit.naming import snake
from aegis.wit.types import Function, Future, List, Option, Record, Result, Stream, Tuple, WitType, has_ends, show
from aegis.wit.values import Ok

__all__ = ["COUNTS", "LiveEnd", "PickEnd", "ends_in", "read_member", "with_streams"]

COUNTS = st.sampled_from((1, 2, 3, 64, 1 << 16))
"""The number of elements of a read."""
_MAX_CUT_VALUES = 4


@dataclass(frozen=True, slots=True)
class LiveEnd:
    """An open reader that a call returned, its type, and its variable in the script."""

    reader: Any
    of: Stream | Future
    name: str

    @property
    def is_stream(self) -> bool:
        return isinstance(self.of, Stream)


@dataclass(frozen=True, slots=True)
class PickEnd:
    """A placeholder in drawn arguments: the live reader of this type with a number; without one, ``otherwise``."""

    number: int
    otherwise: Any

    def find(self, of: WitType, live: Sequence[LiveEnd]) -> LiveEnd | None:
        """Return the reader."""
        found = [end for end in live if end.of == of]
        return found[-1 - self.number % len(found)] if found else None


def with_streams(
    arguments: st.SearchStrategy[tuple[Any, ...]], function: Function, *, passes: bool
) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return a strategy for arguments whose streams of bytes are in pieces.

    ``passes``: readers of the guest's numbers may be passed back to it.
    """
    types = [of for _, of in function.params]
    if not any(isinstance(of, (Stream, Future)) for of in types):
        return arguments
    numbers = st.none() | st.integers(0, 3) if passes else st.none()
    cuts = st.lists(st.integers(1, 9), max_size=_MAX_CUT_VALUES)

    def made(drawn: tuple[tuple[Any, ...], list[tuple[int | None, list[int]]]]) -> tuple[Any, ...]:
        values, choices = drawn
        found = []
        for of, value, (number, sizes) in zip(types, values, choices, strict=True):
            given = list(_cut(value, sizes)) if of == Stream("u8") and isinstance(value, bytes) and sizes else value
            picks = number is not None and _may_return(of)
            found.append(PickEnd(number or 0, given) if picks else given)
        return tuple(found)

    choices = st.tuples(*(st.tuples(numbers, cuts) for _ in types)).map(list)
    return st.tuples(arguments, choices).map(made)


def _may_return(of: WitType) -> bool:
    """Return whether a component instance may read what it wrote: only elements without pointers and handles."""
    if not isinstance(of, (Stream, Future)):
        return False
    return of.element is None or (isinstance(of.element, str) and of.element not in ("bool", "char", "string"))


def _cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def read_member(end: LiveEnd) -> tuple[str, Function]:
    """Return the name of a read in reports, and its type."""
    element = end.of.element
    result = None if element is None else List(element) if end.is_stream else element
    return f"read {show(end.of)}", Function((), result)


def ends_in(value: Any, of: WitType | None, path: str = "") -> Iterator[tuple[str, Any, Stream | Future]]:
    """Yield the readers in a result: a Python path relative to the value, the reader, and its type."""
    if of is None or value is None or not has_ends(of):
        return
    match of:
        case Stream() | Future():
            yield path, value, of
        case List(element):
            for n, item in enumerate(value):
                yield from ends_in(item, element, f"{path}[{n}]")
        case Tuple(elements):
            for n, (item, t) in enumerate(zip(value, elements, strict=True)):
                yield from ends_in(item, t, f"{path}[{n}]")
        case Record():
            for name, t in of.fields:
                yield from ends_in(getattr(value, snake(name)), t, f"{path}.{snake(name)}")
        case Option(element):
            yield from ends_in(value, element, path)
        case Result(ok, _) if isinstance(value, Ok):
            yield from ends_in(value.value, ok, f"{path}.value")
