"""Values of WIT types and of core WebAssembly: made at random, changed a little, made simpler. Without hypothesis.

A *shape* does all of it for one type. Values are Python images as the engine takes them; a size is a budget of
characters, elements and parts.
"""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Protocol

from aegis.errors import CallError
from aegis.fuzz.edges import CHARACTERS, FLOATS, LENGTHS, SNIPPETS, integers
from aegis.wit.images import nullable
from aegis.wit.naming import snake
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    List,
    Option,
    Own,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
    show,
)
from aegis.wit.values import Err, Ok, Some

__all__ = ["Shape", "Unfit", "core_shape", "shape_of"]

_DEEPEST = 6


class Unfit(CallError):
    """A type of which no value can be made here."""


class Shape(Protocol):
    """How values of one type are made, changed and made simpler."""

    def simplest(self) -> Any:
        """Return the value that nothing is simpler than."""
        ...

    def random(self, rng: Random, size: int) -> Any:
        """Return any value, of about ``size`` characters, elements and parts at most."""
        ...

    def mutate(self, rng: Random, value: Any) -> Any:
        """Return a neighbour of ``value``."""
        ...

    def simpler(self, value: Any) -> Iterator[Any]:
        """Yield strictly simpler values, the most drastic first; taking one again and again ends."""
        ...

    def size(self, value: Any) -> int:
        """Return how many characters, elements and parts it has, at least 1."""
        ...


def shape_of(of: WitType, overrides: Mapping[Any, Shape] | None = None, depth: int = 0) -> Shape:
    """Return the shape of a type, whose named types have their Python classes.

    ``overrides`` gives shapes by type, or by the name of a record, variant, enum or flags. Raise :class:`Unfit` for
    handles, which a case gets from the guest.
    """
    for key in (of, getattr(of, "name", None)):
        if overrides and key in overrides:
            return overrides[key]
    match of:
        case str():
            return _primitive(of)
        case List("u8"):
            return _Bytes()
        case List(element):
            return _List(shape_of(element, overrides, depth + 1))
        case Tuple(elements):
            return _Parts([shape_of(e, overrides, depth + 1) for e in elements], _tuple, list)
        case Record():
            names = [snake(name) for name, _ in of.fields]
            cls: Any = of.python
            return _Parts(
                [shape_of(t, overrides, depth + 1) for _, t in of.fields], lambda *parts: cls(*parts),
                lambda value: [getattr(value, name) for name in names],
            )  # fmt: skip
        case Option() | Result() | Variant():
            return _Cases(*_cases(of, overrides, depth))
        case Enum():
            return _Choice([of.python(case) for case in of.cases])  # type: ignore[misc]
        case Flags():
            return _Flags(of.python, len(of.names))
        case Own() | Borrow():
            raise Unfit(f"{show(of)} is a handle inside another value, which no case can give")
    raise Unfit(f"{show(of)} cannot be made")


def core_shape(kind: str) -> Shape:
    """Return the shape of a core value type; raise :class:`Unfit` for references and vectors."""
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        return _Integer(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if kind in ("f32", "f64"):
        return _Float(int(kind[1:]))
    raise Unfit(f"{kind} is no number")


def _tuple(*parts: Any) -> tuple[Any, ...]:
    return parts


def _primitive(of: str) -> Shape:
    if of == "bool":
        return _Choice([False, True])
    if of == "char":
        return _Char()
    if of == "string":
        return _Text()
    if of in ("f32", "f64"):
        return _Float(int(of[1:]))
    bits = int(of[1:])
    return _Integer(0, (1 << bits) - 1) if of[0] == "u" else _Integer(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _none(_: Any) -> None:
    return None


def _itself(value: Any) -> Any:
    return value


def _bare(cls: Any, _: Any) -> Any:
    return cls()


def _cases(
    of: Any, overrides: Mapping[Any, Shape] | None, depth: int
) -> tuple[list[tuple[Callable[[Any], Any], Shape | None]], Callable[[Any], tuple[int, Any]]]:
    """Return how values of each case are made, with their payloads' shapes, and how a value is taken apart."""

    def shape(inner: WitType | None) -> Shape | None:
        return None if inner is None else shape_of(inner, overrides, depth + 1)

    if isinstance(of, Option):
        inner = shape(of.element)
        if nullable(of.element):
            return [(_none, None), (Some, inner)], lambda value: (0, None) if value is None else (1, value.value)
        return [(_none, None), (_itself, inner)], lambda value: (0, None) if value is None else (1, value)
    if isinstance(of, Result):
        return (
            [(Ok, shape(of.ok)), (Err, shape(of.err))],
            lambda value: (int(isinstance(value, Err)), value.value),
        )
    classes: Sequence[Any] = of.python
    made = [
        (cls if payload is not None else partial(_bare, cls), shape(payload))
        for cls, (_, payload) in zip(classes, of.cases, strict=True)
    ]
    numbers = {cls: n for n, cls in enumerate(classes)}
    return made, lambda value: (numbers[type(value)], getattr(value, "value", None))


# -- numbers ------------------------------------------------------------------------------------------


class _Integer:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high, self.edges = low, high, integers(low, high)
        self.bits = (high - low).bit_length()

    def simplest(self) -> int:
        return 0

    def random(self, rng: Random, size: int) -> int:
        chance = rng.random()
        if chance < 0.4:
            return self.edges[int(rng.random() * len(self.edges))]
        if chance < 0.7:
            return self.fit(int(rng.random() * 256))
        return self.low + rng.getrandbits(1 + int(rng.random() * self.bits)) % (self.high - self.low + 1)

    def fit(self, value: int) -> int:
        return self.low if value < self.low else self.high if value > self.high else value

    def mutate(self, rng: Random, value: int) -> int:
        chance = rng.random()
        if chance < 0.5:
            return self.fit(value + rng.choice((-16, -8, -4, -2, -1, 1, 2, 4, 8, 16)))
        if chance < 0.7:
            return self.fit(value * 2 if rng.random() < 0.5 else value // 2)
        if chance < 0.85:
            return self.fit(value ^ (1 << int(rng.random() * self.bits)))
        return self.random(rng, 1)

    def simpler(self, value: int) -> Iterator[int]:
        if value == 0:
            return
        yield 0
        if value < 0 and -value <= self.high:
            yield -value
        step = abs(value) // 2
        sign = 1 if value > 0 else -1
        while step:
            yield value - sign * step
            step //= 2

    def size(self, value: int) -> int:
        return 1


class _Float:
    def __init__(self, bits: int) -> None:
        self.single = bits == 32
        self.edges = tuple(self.fit(value) for value in FLOATS)

    def fit(self, value: float) -> float:
        if not self.single:
            return value
        try:
            return float(struct.unpack("<f", struct.pack("<f", value))[0])
        except OverflowError:
            return math.copysign(math.inf, value)

    def simplest(self) -> float:
        return 0.0

    def random(self, rng: Random, size: int) -> float:
        chance = rng.random()
        if chance < 0.5:
            return self.edges[int(rng.random() * len(self.edges))]
        if chance < 0.75:
            return float(int(rng.random() * 2000) - 1000)
        return self.fit(rng.uniform(-1, 1) * 2.0 ** rng.randint(-60, 60))

    def mutate(self, rng: Random, value: float) -> float:
        chance = rng.random()
        if chance < 0.3 and math.isfinite(value):
            return self.fit(value + rng.choice((-1.0, 1.0, 0.5, -0.5)))
        if chance < 0.6:
            return -value
        if chance < 0.8 and math.isfinite(value):
            return self.fit(value * rng.choice((2.0, 0.5, 10.0)))
        return self.random(rng, 1)

    def simpler(self, value: float) -> Iterator[float]:
        at = _rank(value)
        for plain in (0.0, 1.0, -0.0, -1.0, 2.0, math.inf, -math.inf, math.nan):
            if _rank(plain) < at:
                yield plain
        if math.isfinite(value):
            for plain in (float(int(value)), abs(value), float(int(value / 2))):
                if _rank(plain) < at:
                    yield plain

    def size(self, value: float) -> int:
        return 1


def _rank(value: float) -> tuple[int, float]:
    """Return how simple a float is: few are special, whole numbers come before others, small before large."""
    special = (0.0, 1.0)
    if value in special and math.copysign(1, value) > 0:
        return 0, value
    if value != value:
        return 6, 0.0
    if math.isinf(value):
        return 5, -value
    if value == 0:
        return 1, 0.0
    return (2 if value == int(value) else 4), abs(value) + (0.25 if value < 0 else 0)


class _Choice:
    """One of a few values, the first of which is the simplest."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)

    def simplest(self) -> Any:
        return self.values[0]

    def random(self, rng: Random, size: int) -> Any:
        return self.values[int(rng.random() * len(self.values))]

    def mutate(self, rng: Random, value: Any) -> Any:
        return self.random(rng, 1)

    def simpler(self, value: Any) -> Iterator[Any]:
        yield from self.values[: self.values.index(value)]

    def size(self, value: Any) -> int:
        return 1


class _Flags:
    def __init__(self, python: Any, count: int) -> None:
        self.python, self.count = python, count

    def simplest(self) -> Any:
        return self.python(0)

    def random(self, rng: Random, size: int) -> Any:
        chance = rng.random()
        if chance < 0.2:
            return self.python((1 << self.count) - 1)
        return self.python(rng.getrandbits(self.count) & (rng.getrandbits(self.count) if chance < 0.6 else -1))

    def mutate(self, rng: Random, value: Any) -> Any:
        return self.python(value.value ^ (1 << int(rng.random() * self.count)))

    def simpler(self, value: Any) -> Iterator[Any]:
        bits = value.value
        if bits:
            yield self.python(0)
        for place in range(self.count):
            if bits >> place & 1:
                yield self.python(bits & ~(1 << place))

    def size(self, value: Any) -> int:
        return 1


# -- texts, bytes, lists ------------------------------------------------------------------------------


class _Char:
    def simplest(self) -> str:
        return "a"

    def random(self, rng: Random, size: int) -> str:
        chance = rng.random()
        if chance < 0.6:
            return CHARACTERS[int(rng.random() * len(CHARACTERS))]
        if chance < 0.8:
            return chr(32 + int(rng.random() * 95))
        point = int(rng.random() * (0x110000 if chance < 0.9 else 0x3000))
        return chr(point) if not 0xD800 <= point < 0xE000 else "\ufffd"

    def mutate(self, rng: Random, value: str) -> str:
        point = ord(value) + rng.choice((-1, 1))
        if rng.random() < 0.5 and 0 <= point < 0x110000 and not 0xD800 <= point < 0xE000:
            return chr(point)
        return self.random(rng, 1)

    def simpler(self, value: str) -> Iterator[str]:
        at = _plainness(value)
        for plain in "ab0A ":
            if _plainness(plain) < at:
                yield plain

    def size(self, value: str) -> int:
        return 1


def _plainness(char: str) -> tuple[int, int]:
    place = "ab0A ".find(char)
    return (0, place) if place >= 0 else (1, ord(char))


class _Series(ABC):
    """What texts, bytes and lists share: ``join`` makes one of items, and slices are of its kind."""

    empty: Any = ()

    def simplest(self) -> Any:
        return self.empty

    @abstractmethod
    def item(self, rng: Random, size: int) -> Any:
        """Return one item."""

    def join(self, items: list[Any]) -> Any:
        return items

    @abstractmethod
    def plain(self, item: Any) -> Iterator[Any]:
        """Yield simpler items."""

    def random(self, rng: Random, size: int) -> Any:
        length = _length(rng, size)
        if length > 8 and rng.random() < 0.5:
            # The same again and again: what is quadratic, or overflows, does so on these.
            unit = [self.item(rng, 4) for _ in range(1 + int(rng.random() * 3))]
            return self.join((unit * (length // len(unit) + 1))[:length])
        each = max(1, size // max(1, length))
        return self.join([self.item(rng, each) for _ in range(length)])

    def mutate(self, rng: Random, value: Any) -> Any:
        length = len(value)
        chance = rng.random()
        at = int(rng.random() * (length + 1))
        if chance < 0.25 or not length:
            return (
                value[:at] + self.join([self.item(rng, 4) for _ in range(1 + int(rng.random() ** 3 * 4))]) + value[at:]
            )
        until = min(length, at + 1 + int(rng.random() ** 2 * 8))
        if chance < 0.4:
            return value[:at] + value[until:]
        if chance < 0.6:
            start = min(at, length - 1)
            return value[:start] + self.join([self.changed(rng, value[start])]) + value[start + 1 :]
        if chance < 0.75:
            return value[:at] + value[at:until] * (2 + int(rng.random() * 6)) + value[until:]
        if chance < 0.85:
            return (value + value)[:8192]
        if chance < 0.93:
            wanted = LENGTHS[int(rng.random() * len(LENGTHS))]
            return (value * (wanted // length + 1))[:wanted] if wanted < 2 * length + 64 else value
        return value[at:] + value[:at]

    def changed(self, rng: Random, item: Any) -> Any:
        return self.item(rng, 4)

    def simpler(self, value: Any) -> Iterator[Any]:
        length = len(value)
        if not length:
            return
        yield self.empty
        span = length // 2
        while span:
            for at in range(0, length, span):
                yield value[:at] + value[at + span :]
            span //= 2
        for at in range(length):
            for item in self.plain(value[at]):
                yield value[:at] + self.join([item]) + value[at + 1 :]

    def size(self, value: Any) -> int:
        return 1 + len(value)


def _length(rng: Random, size: int) -> int:
    if rng.random() < 0.4:
        return min(size, LENGTHS[int(rng.random() * len(LENGTHS))])
    return int(rng.random() * rng.random() * (size + 1))


class _Text(_Series):
    empty = ""

    def __init__(self) -> None:
        self.char = _Char()

    def item(self, rng: Random, size: int) -> str:
        return self.char.random(rng, 1)

    def join(self, items: list[Any]) -> str:
        return "".join(items)

    def plain(self, item: str) -> Iterator[str]:
        return self.char.simpler(item)

    def changed(self, rng: Random, item: str) -> str:
        return self.char.mutate(rng, item)

    def random(self, rng: Random, size: int) -> str:
        chance = rng.random()
        if chance < 0.25:
            return "".join(SNIPPETS[int(rng.random() * len(SNIPPETS))] for _ in range(1 + int(rng.random() * 4)))[:size]
        if chance < 0.5:
            alphabet = [self.item(rng, 1) for _ in range(1 + int(rng.random() * 4))]
            return "".join(alphabet[int(rng.random() * len(alphabet))] for _ in range(_length(rng, size)))
        return super().random(rng, size)  # type: ignore[no-any-return]

    def size(self, value: str) -> int:
        return 1 + len(value)


_OCTETS = (0, 1, 9, 10, 32, 34, 48, 65, 91, 92, 127, 128, 192, 254, 255)


class _Bytes(_Series):
    empty = b""

    def item(self, rng: Random, size: int) -> int:
        return (
            int(rng.random() * 256)
            if rng.random() < 0.6
            else rng.choice((0, 1, 9, 10, 32, 34, 48, 65, 91, 92, 127, 128, 192, 254, 255))
        )

    def join(self, items: list[Any]) -> bytes:
        return bytes(items)

    def plain(self, item: int) -> Iterator[int]:
        for value in (0, 1, item // 2):
            if value < item:
                yield value

    def random(self, rng: Random, size: int) -> bytes:
        if rng.random() < 0.3:
            return rng.randbytes(_length(rng, size))
        return super().random(rng, size)  # type: ignore[no-any-return]

    def changed(self, rng: Random, item: int) -> int:
        return item ^ (1 << int(rng.random() * 8)) if rng.random() < 0.5 else (item + rng.choice((-1, 1))) % 256


class _List(_Series):
    def __init__(self, element: Shape) -> None:
        self.element = element
        self.empty: Any = []

    def simplest(self) -> list[Any]:
        return []

    def item(self, rng: Random, size: int) -> Any:
        return self.element.random(rng, size)

    def plain(self, item: Any) -> Iterator[Any]:
        return self.element.simpler(item)

    def changed(self, rng: Random, item: Any) -> Any:
        return self.element.mutate(rng, item)

    def simpler(self, value: Any) -> Iterator[Any]:
        for smaller in super().simpler(value):
            yield list(smaller)

    def size(self, value: Any) -> int:
        return 1 + sum(map(self.element.size, value))


# -- what is made of parts ------------------------------------------------------------------------------


class _Parts:
    """Records and tuples: ``make`` puts parts together, ``take`` takes a value apart."""

    def __init__(self, shapes: Sequence[Shape], make: Callable[..., Any], take: Callable[[Any], list[Any]]) -> None:
        self.shapes, self.make, self.take = list(shapes), make, take

    def simplest(self) -> Any:
        return self.make(*(shape.simplest() for shape in self.shapes))

    def random(self, rng: Random, size: int) -> Any:
        each = max(1, size // max(1, len(self.shapes)))
        return self.make(*[shape.random(rng, each) for shape in self.shapes])

    def mutate(self, rng: Random, value: Any) -> Any:
        parts = self.take(value)
        if parts:
            place = int(rng.random() * len(parts))
            parts[place] = self.shapes[place].mutate(rng, parts[place])
        return self.make(*parts)

    def simpler(self, value: Any) -> Iterator[Any]:
        parts = self.take(value)
        for place, shape in enumerate(self.shapes):
            for part in shape.simpler(parts[place]):
                yield self.make(*parts[:place], part, *parts[place + 1 :])

    def size(self, value: Any) -> int:
        return 1 + sum(shape.size(part) for shape, part in zip(self.shapes, self.take(value), strict=True))


class _Cases:
    """Options, results, variants: ``made`` how each case is made of its payload, ``take`` which case a value is."""

    def __init__(
        self, made: Sequence[tuple[Callable[[Any], Any], Shape | None]], take: Callable[[Any], tuple[int, Any]]
    ) -> None:
        self.made, self.take = list(made), take

    def simplest(self) -> Any:
        make, shape = self.made[0]
        return make(None if shape is None else shape.simplest())

    def random(self, rng: Random, size: int) -> Any:
        make, shape = self.made[int(rng.random() * len(self.made))]
        return make(None if shape is None else shape.random(rng, size))

    def mutate(self, rng: Random, value: Any) -> Any:
        case, payload = self.take(value)
        make, shape = self.made[case]
        if shape is None or rng.random() < 0.25:
            return self.random(rng, 16)
        return make(shape.mutate(rng, payload))

    def simpler(self, value: Any) -> Iterator[Any]:
        case, payload = self.take(value)
        for make, shape in self.made[:case]:
            yield make(None if shape is None else shape.simplest())
        make, shape = self.made[case]
        if shape is not None:
            for part in shape.simpler(payload):
                yield make(part)

    def size(self, value: Any) -> int:
        case, payload = self.take(value)
        shape = self.made[case][1]
        return 1 + (0 if shape is None else shape.size(payload))
