"""Shapes of single values: numbers, characters, choices, flags."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from aegis.fuzz.values.draws import one_of
from aegis.fuzz.values.edges import AMOUNTS, CHARACTERS, FLOATS, SINGLES, integers
from aegis.fuzz.values.scripts import character

if TYPE_CHECKING:
    from aegis.fuzz.dictionary import Dictionary

__all__ = ["Char", "Choice", "FlagSet", "Float", "Integer"]


class Integer:
    """The shape of integers from ``low`` to ``high``; 0 is the simplest.

    Random values have all magnitudes, with both signs if the range has them. With a dictionary, some are its entries,
    and some are near a value that was generated before, because programs compare their arguments with each other.
    """

    def __init__(self, low: int, high: int, dictionary: Dictionary | None = None) -> None:
        self.low, self.high, self.edges = low, high, integers(low, high)
        self.dictionary = dictionary
        self.bits = (high - low).bit_length()
        self.ends = tuple({0, self.fit(1), self.fit(-1), low, high})
        # A range without zero, such as 10 to 20, has magnitudes above its lower end.
        self.base = 0 if low <= 0 <= high else low
        self._up, self._down = (high - self.base).bit_length(), (self.base - low).bit_length()
        self._amounts = tuple(value for value in AMOUNTS if low <= value <= high) or self.edges
        if low < 0:
            self._amounts += tuple(-value for value in self._amounts if low <= -value <= high and value < 10**6)

    def simplest(self) -> int:
        return 0

    def random(self, rng: Random, size: int) -> int:
        chance = rng.random()
        if chance < 0.08:
            return self.ends[int(rng.random() * len(self.ends))]
        if chance < 0.24:
            value = self.edges[int(rng.random() * len(self.edges))]
        elif chance < 0.36:
            value = self.fit(self.base + (int(rng.random() * 256) if self.low >= 0 else int(rng.random() * 512) - 256))
        elif chance < 0.46:
            value = self._amounts[int(rng.random() * len(self._amounts))]
        elif chance < 0.49:
            value = self.fit(_timestamp(rng))
        elif chance < 0.68 and self.dictionary is not None:
            if chance < 0.57:
                return self._related(rng, self.dictionary.recent)
            found = self.dictionary.integer(rng, self.low, self.high)
            value = self.magnitude(rng) if found is None else found
        elif chance < 0.95:
            value = self.magnitude(rng)
        else:
            value = self.low + rng.getrandbits(self.bits) % (self.high - self.low + 1)
        if self.dictionary is not None:
            recent = self.dictionary.recent
            recent[value & 7] = value
        return value

    def magnitude(self, rng: Random) -> int:
        """Return a value whose number of bits, and whose sign, is drawn first."""
        negative = self._down and (not self._up or rng.random() < 0.5)
        bits = 1 + int(rng.random() * (self._down if negative else self._up))
        size = rng.getrandbits(bits) | 1 << (bits - 1)
        return self.fit(self.base - size if negative else self.base + size)

    def _related(self, rng: Random, recent: list[int]) -> int:
        """Return a value equal to, near to, or computed from values that were generated before."""
        one = recent[int(rng.random() * 8)]
        chance = rng.random()
        if chance < 0.3:
            return self.fit(one)
        if chance < 0.7:
            return self.fit(one + int(rng.random() * 9) - 4)
        two = recent[int(rng.random() * 8)]
        return self.fit(one + two if chance < 0.8 else one - two if chance < 0.9 else -one)

    def fit(self, value: int) -> int:
        return self.low if value < self.low else self.high if value > self.high else value

    def mutate(self, rng: Random, value: int) -> int:
        chance = rng.random()
        if chance < 0.45:
            return self.fit(value + one_of(rng, (-16, -8, -4, -2, -1, 1, 2, 4, 8, 16)))
        if chance < 0.62:
            return self.fit(value * 2 if rng.random() < 0.5 else value // 2)
        if chance < 0.75:
            return self.fit(self.low + ((value - self.low) ^ (1 << int(rng.random() * self.bits))))
        if chance < 0.8:
            return self.fit(-value if rng.random() < 0.5 else value * 10)
        return self.random(rng, 1)

    def simpler(self, value: int) -> Iterator[int]:
        if value == 0:
            return
        yield 0
        if value < 0:
            if -value <= self.high:
                yield -value
            for bits in range(1, self.high.bit_length() + 1):  # the low bits, which a mask may test
                yield value & ((1 << bits) - 1)
        sign = 1 if value > 0 else -1
        for smaller in _nearer(abs(value)):
            yield sign * smaller

    def size(self, value: int) -> int:
        return 1


_TIME_UNITS = (1, 1, 1000, 1_000_000, 1_000_000_000)


def _timestamp(rng: Random) -> int:
    """Return a time between 2001 and 2039 since the Unix epoch, in seconds or a smaller unit."""
    return int((1e9 + rng.random() * 1.2e9) * _TIME_UNITS[int(rng.random() * 5)])


def _nearer(size: int) -> Iterator[int]:
    """Yield smaller positive integers: by bits, by halving steps, and by powers of two and ten.

    Clearing bits and subtracting powers of two keep the low bits, so that a predicate on them (a mask, an alignment)
    still holds; powers of ten do the same for decimal digits.
    """
    bits = size.bit_length()
    for place in range(1, bits):
        yield (1 << place) - 1
    for place in reversed(range(bits)):
        if size >> place & 1 and size != 1 << place:
            yield size & ~(1 << place)
    step = size // 2
    while step:
        yield size - step
        step //= 2
    for place in reversed(range(bits - 1)):
        yield size - (1 << place)
    power = 10
    while power < size:
        yield size - power
        power *= 10
    for factor in _PRIMES:  # a multiple of any number
        if size % factor == 0 and size > factor:
            yield size // factor
    yield from range(1, min(size, _TRIED_BELOW))


_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
_TRIED_BELOW = 256
"""Integers below this are all tried in the end."""


class Float:
    """The shape of floats of 32 or 64 ``bits``, including NaN and infinities."""

    def __init__(self, bits: int) -> None:
        self.single = bits == 32
        self.edges = SINGLES if self.single else FLOATS

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
        if chance < 0.3:
            return self.edges[int(rng.random() * len(self.edges))]
        if chance < 0.5:
            return float(int(rng.random() * 2000) - 1000)
        if chance < 0.65:
            return self.fit(int(rng.random() * 2_000_000 - 1_000_000) / (10.0 ** int(1 + rng.random() * 6)))
        if chance < 0.75:
            return self.fit(float(AMOUNTS[int(rng.random() * len(AMOUNTS))]) * (1 if chance < 0.72 else -1))
        return self.by_exponent(rng)

    def by_exponent(self, rng: Random) -> float:
        """Return a float whose exponent is drawn first, of all that there are, with a short or a random fraction."""
        exponents, places, form, whole = (0x100, 23, "<f", "<I") if self.single else (0x800, 52, "<d", "<Q")
        fraction = (0, (1 << places) - 1, 1, 1 << (places - 1), rng.getrandbits(places))[int(rng.random() * 5)]
        bits = int(rng.random() * exponents) << places | fraction
        if rng.random() < 0.4:
            bits |= exponents << places  # the sign
        value: float = struct.unpack(form, struct.pack(whole, bits))[0]
        return math.nan if value != value else value

    def mutate(self, rng: Random, value: float) -> float:
        chance = rng.random()
        if chance < 0.3 and math.isfinite(value):
            return self.fit(value + one_of(rng, (-1.0, 1.0, 0.5, -0.5)))
        if chance < 0.6:
            return -value
        if chance < 0.8 and math.isfinite(value):
            return self.fit(value * one_of(rng, (2.0, 0.5, 10.0)))
        if chance < 0.9 and not self.single:
            return math.nextafter(value, math.inf if rng.random() < 0.5 else -math.inf)
        return self.random(rng, 1)

    def simpler(self, value: float) -> Iterator[float]:
        at = _rank(value)
        for plain in (0.0, 1.0, -0.0, -1.0, 2.0, math.inf, -math.inf, math.nan):
            if _rank(plain) < at:
                yield plain
        if math.isfinite(value):
            whole = int(value)
            near = () if abs(whole) < 2 else _nearer(abs(whole))
            sign = -1 if value < 0 else 1
            for plain in (float(whole), abs(value), *(float(sign * size) for size in near), *_shorter(value)):
                if _rank(self.fit(plain)) < at:
                    yield self.fit(plain)

    def size(self, value: float) -> int:
        return 1


def _shorter(value: float) -> Iterator[float]:
    """Yield values near a fraction that have fewer binary digits after the point."""
    whole = math.floor(abs(value))
    if abs(value) == whole or whole >= 1 << 52:
        return
    sign = -1.0 if value < 0 else 1.0
    yield sign * (whole + 1)
    for digits in range(1, 11):
        scaled = abs(value) * (1 << digits)
        for rounded in (math.floor(scaled), math.ceil(scaled)):
            yield sign * rounded / (1 << digits)


def _rank(value: float) -> tuple[int, float]:
    """Return the sort key of a float: 0 and 1 are simplest, integers precede fractions, small precede large values."""
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


class Choice:
    """The shape of an enumeration of values; the first is the simplest."""

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


class FlagSet:
    """The shape of flags with ``count`` names; values are of the class ``python``."""

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


class Char:
    """The shape of Unicode scalar values."""

    def simplest(self) -> str:
        return "a"

    def random(self, rng: Random, size: int) -> str:
        return self.several(rng, 1)[0]

    def several(self, rng: Random, count: int) -> list[str]:
        """Return random values."""
        draw, found = rng.random, []
        for _ in range(count):
            chance = draw()
            if chance < 0.45:
                found.append(CHARACTERS[int(draw() * len(CHARACTERS))])
            elif chance < 0.65:
                found.append(character(rng))
            elif chance < 0.82:
                found.append(chr(32 + int(draw() * 95)))
            else:
                point = int(draw() * (0x110000 if chance < 0.93 else 0x3000))
                found.append(chr(point) if not 0xD800 <= point < 0xE000 else "\ufffd")
        return found

    def mutate(self, rng: Random, value: str) -> str:
        point = ord(value) + one_of(rng, (-1, 1))
        if rng.random() < 0.5 and 0 <= point < 0x110000 and not 0xD800 <= point < 0xE000:
            return chr(point)
        return self.random(rng, 1)

    def simpler(self, value: str) -> Iterator[str]:
        at = _plainness(value)
        for plain in "ab0A ":
            if _plainness(plain) < at:
                yield plain
        for point in _nearer(ord(value)):
            if point > 32 and not 0xD800 <= point < 0xE000 and _plainness(chr(point)) < at:
                yield chr(point)

    def size(self, value: str) -> int:
        return 1


def _plainness(char: str) -> tuple[int, int]:
    place = "ab0A ".find(char)
    return (0, place) if place >= 0 else (1, ord(char))
