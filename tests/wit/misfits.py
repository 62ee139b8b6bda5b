"""Values that may not fit their type, for tests that two places treat them alike: functions that create the values.

A value that can be read only once, such as an iterator, must be created anew for each place.
"""

from __future__ import annotations

import enum
import random
from array import array
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

from aegis.wit.naming import snake
from aegis.wit.types import Enum, Flags, List, Option, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some

__all__ = ["ODD", "distorted"]

Make = Callable[[], Any]


class Level(enum.IntEnum):
    LOW = 3


class Colour(enum.Enum):
    RED = "red"


class Bits(enum.Flag):
    A = 1
    B = 2


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class Indexed:
    def __index__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "Indexed()"


class Encodable:
    """An object with an ``encode`` method like that of strings, which is not a string."""

    def encode(self) -> list[int]:
        return [1, 2, 3]

    def __repr__(self) -> str:
        return "Encodable()"


class Endless(list[Any]):
    """A list that contains itself."""

    def __init__(self) -> None:
        super().__init__([self])


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**7, 2**8 - 1, 2**8, -(2**7), 2**15, 2**16, -(2**15) - 1, 2**24 + 1, 2**31,
    2**32 - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40,
    0.1, -0.0, 1e39, -1e39, 3.4028235e38, 3.4028235677973366e38, 1e-46, float("inf"), float("-inf"), float("nan"),
    "", "a", "ab", "\0", "a\0b", "\U0001f600", "\ud800", "a\udfff", "é" * 3, "1.5", "red",
    b"", b"a", b"ab", bytearray(b"abc"), memoryview(b"abcd"), memoryview(b"abcdef")[::2],
    memoryview(array("H", [1, 2])), array("B", [1, 2]), array("i", [1, 2]), array("d", [0.5]),
    [], [1], [1, 2], [0.1], ["a"], [None], [[]], [300], [-1], [True], (), (1,), (1, 2), (1, 2, 3), range(3),
    {}, {"a": 1}, {1: 2}, {"value": 1}, set(), {1}, frozenset({"a"}),
    Some(None), Some(1), Some(Some(None)), Ok(None), Ok(1), Err(None), Err("x"), Ok(Err(1)), Err(Ok(1)),
    Level.LOW, Colour.RED, Bits.A, Bits.A | Bits.B, Text("text"), Number(0.1), Indexed(), Encodable(),
    Decimal("0.5"), Fraction(1, 2), 1j, SimpleNamespace(value=1), SimpleNamespace(value="red"), object, ...,
)  # fmt: skip
ODD: tuple[Make, ...] = (
    *((lambda value=value: value) for value in _VALUES),
    lambda: iter([]), lambda: iter([1, 2]), lambda: iter([1, "a"]), lambda: (x for x in (0.1, 2.0)),
    lambda: map(str, range(2)), lambda: iter([300]), lambda: reversed([1, 2]), lambda: {"a": 1}.keys(), Endless,
)  # fmt: skip


def distorted(of: WitType, value: Any, odd: float, draw: random.Random) -> Make:
    """Return a function that creates ``value``, a value of ``of``, in another form or with parts that may not fit.

    ``odd`` is the probability that a part is replaced.
    """
    if draw.random() < odd:
        return draw.choice(ODD)
    match of:
        case List(element) if element != "u8":
            made = [distorted(element, item, odd, draw) for item in value]
            return _gathering(made, draw.choice((list, list, tuple, iter)))
        case Tuple(elements):
            made = [distorted(t, item, odd, draw) for t, item in zip(elements, value, strict=True)]
            made = made[: len(made) - (draw.random() < odd)]
            return _gathering(made, draw.choice((tuple, tuple, list, iter)))
        case Option(element) if value is not None:
            wrapped = isinstance(value, Some)
            inner = distorted(element, value.value if wrapped else value, odd, draw)
            return (lambda: Some(inner())) if wrapped else inner
        case Result(ok, err):
            payload = ok if isinstance(value, Ok) else err
            inner = (lambda: None) if payload is None else distorted(payload, value.value, odd, draw)
            return lambda: type(value)(inner())
        case Record():
            return _record(of, value, odd, draw)
        case Variant():
            return _variant(of, value, odd, draw)
        case Enum():
            return draw.choice((lambda: value, lambda: value.value))
        case Flags():
            names = [name for n, name in enumerate(of.names) if value.value >> n & 1]
            return draw.choice((lambda: value, lambda: names, lambda: set(names[:1]), lambda: value.value))
    return lambda: value


def _gathering(made: list[Make], kind: Callable[[list[Any]], Any]) -> Make:
    return lambda: kind([make() for make in made])


def _record(of: Record, value: Any, odd: float, draw: random.Random) -> Make:
    fields = {name: distorted(t, getattr(value, snake(name)), odd, draw) for name, t in of.fields}
    way = draw.choice(("image", "image", "names", "python", "object", "more", "less"))
    if way == "image":
        return lambda: type(value)(*(make() for make in fields.values()))
    if way == "object":
        return lambda: SimpleNamespace(**{snake(name): make() for name, make in fields.items()})
    keys = {snake(name) if way == "python" else name: make for name, make in fields.items()}
    if way == "more":
        keys["no-such-field"] = lambda: 1
    if way == "less":
        keys.popitem()
    return lambda: {key: make() for key, make in keys.items()}


def _variant(of: Variant, value: Any, odd: float, draw: random.Random) -> Make:
    number = [*(of.python or ())].index(type(value))
    name, payload = of.cases[number]
    pair = draw.random() < 0.5
    if payload is None:
        return (lambda: name) if pair else (lambda: value)
    inner = distorted(payload, value.value, odd, draw)
    return (lambda: (name, inner())) if pair else (lambda: type(value)(inner()))
