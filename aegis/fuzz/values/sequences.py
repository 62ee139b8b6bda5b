"""Shapes of strings, bytes and lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from random import Random
from typing import Any

from aegis.fuzz.values.edges import LENGTHS, SNIPPETS
from aegis.fuzz.values.scalars import Char
from aegis.fuzz.values.shape import ValueShape

__all__ = ["Items", "Octets", "TextShape"]


_MAX_DISTINCT_ITEMS = 24
"""Most distinct items of a long value; a longer value repeats them, because generating each would be slow."""


class SequenceShape(ABC):
    """Base class for strings, bytes and lists. ``join`` builds a value from items; a slice of a value is a value."""

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
            # Repetitive values trigger quadratic behaviour and overflows.
            unit = [self.item(rng, 4) for _ in range(1 + int(rng.random() * 3))]
            return self.join((unit * (length // len(unit) + 1))[:length])
        each = max(1, size // max(1, length))
        if length <= _MAX_DISTINCT_ITEMS:
            return self.join([self.item(rng, each) for _ in range(length)])
        return self.join(rng.choices([self.item(rng, each) for _ in range(_MAX_DISTINCT_ITEMS)], k=length))

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
            yield value[: length - span]
            yield value[span:]
            span //= 2
        coarse = length // 16
        yield from self._without(value, length // 2, coarse)
        yield from self._levelled(value)  # before single items are removed: a uniform value has few that matter
        yield from self._without(value, coarse, 0)
        level = self.level()
        for at in range(length):
            for item in () if value[at] == level else self.plain(value[at]):
                yield value[:at] + self.join([item]) + value[at + 1 :]

    def _without(self, value: Any, span: int, least: int) -> Iterator[Any]:
        """Yield the value without a range of ``span`` items, then of half as many, down to more than ``least``."""
        length = len(value)
        while span > least:
            for at in range(0, length, span):
                # Without either of two equal neighbours the rest is the same: long, uniform values have many of them.
                if not at or value[at : at + span] != value[at - span : at]:
                    yield value[:at] + value[at + span :]
            span //= 2

    def _levelled(self, value: Any) -> Iterator[Any]:
        """Yield the value with longer and shorter ranges replaced by the simplest item."""
        length = len(value)
        flat = self.join([self.level()]) * length
        span = length
        while span > 1:
            for at in range(0, length, span):
                if value[at : at + span] != flat[at : at + span]:
                    yield value[:at] + flat[at : at + span] + value[at + span :]
            span //= 2

    @abstractmethod
    def level(self) -> Any:
        """Return the simplest item."""

    def size(self, value: Any) -> int:
        return 1 + len(value)


def _length(rng: Random, size: int) -> int:
    if rng.random() < 0.4:
        return min(size, LENGTHS[int(rng.random() * len(LENGTHS))])
    return int(rng.random() * rng.random() * (size + 1))


class TextShape(SequenceShape):
    """The shape of strings."""

    empty = ""

    def __init__(self) -> None:
        self.char = Char()

    def item(self, rng: Random, size: int) -> str:
        return self.char.random(rng, 1)

    def join(self, items: list[Any]) -> str:
        return "".join(items)

    def level(self) -> str:
        return self.char.simplest()

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
            return "".join(rng.choices(alphabet, k=_length(rng, size)))
        return super().random(rng, size)  # type: ignore[no-any-return]

    def size(self, value: str) -> int:
        return 1 + len(value)


_OCTETS = (0, 1, 9, 10, 32, 34, 48, 65, 91, 92, 127, 128, 192, 254, 255)


class Octets(SequenceShape):
    """The shape of bytes, for ``list<u8>``."""

    empty = b""

    def item(self, rng: Random, size: int) -> int:
        return int(rng.random() * 256) if rng.random() < 0.6 else rng.choice(_OCTETS)

    def join(self, items: list[Any]) -> bytes:
        return bytes(items)

    def level(self) -> int:
        return 0

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


class Items(SequenceShape):
    """The shape of lists whose items are generated by ``element``."""

    def __init__(self, element: ValueShape) -> None:
        self.element = element
        self.empty: Any = []

    def simplest(self) -> list[Any]:
        return []

    def item(self, rng: Random, size: int) -> Any:
        return self.element.random(rng, size)

    def level(self) -> Any:
        return self.element.simplest()

    def plain(self, item: Any) -> Iterator[Any]:
        return self.element.simpler(item)

    def changed(self, rng: Random, item: Any) -> Any:
        return self.element.mutate(rng, item)

    def simpler(self, value: Any) -> Iterator[Any]:
        for smaller in super().simpler(value):
            yield list(smaller)

    def size(self, value: Any) -> int:
        return 1 + sum(map(self.element.size, value))
