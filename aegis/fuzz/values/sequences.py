"""Shapes of strings, bytes and lists."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from aegis.fuzz.values.documents import changed_document, new_document
from aegis.fuzz.values.draws import drawn, one_of
from aegis.fuzz.values.edges import AMOUNTS, BULK_LENGTHS, LENGTHS, SNIPPETS
from aegis.fuzz.values.fields import fields_changed
from aegis.fuzz.values.scalars import Char, Choice, FlagSet, Float, Integer
from aegis.fuzz.values.scripts import renormalised, script_text
from aegis.fuzz.values.shape import ValueShape

if TYPE_CHECKING:
    from aegis.fuzz.dictionary import Dictionary

__all__ = ["BULK_ITEMS", "Items", "Octets", "SequenceShape", "TextShape"]


_MAX_DISTINCT_ITEMS = 24
"""Most distinct items of a long value; a longer value repeats them, because generating each would be slow."""
_MAX_RANDOM_ITEMS = 1024
"""Items after which a long value repeats itself."""
_MAX_DOUBLED_ITEMS = 4096
"""Longest value that a mutation doubles. Longer values are generated, at the rate that the search allows."""
_MAX_BULK_PARTS = 64
"""Parts of a large value that are removed or simplified one by one: each attempt is a call with a large argument."""
_FIELDS_FROM = 0.94
"""The share of mutations from which on a text or bytes is changed by its fields."""
BULK_ITEMS = 8192
"""Size from which a value is large: its length is then mostly one of :data:`BULK_LENGTHS`."""


class SequenceShape(ABC):
    """Base class for strings, bytes and lists. ``join`` builds a value from items; a slice of a value is a value."""

    empty: Any = ()

    def simplest(self) -> Any:
        return self.empty

    @abstractmethod
    def item(self, rng: Random, size: int) -> Any:
        """Return one item."""

    def items(self, rng: Random, size: int, count: int) -> list[Any]:
        """Return several items."""
        return [self.item(rng, size) for _ in range(count)]

    def join(self, items: list[Any]) -> Any:
        return items

    @abstractmethod
    def plain(self, item: Any) -> Iterator[Any]:
        """Yield simpler items."""

    def random(self, rng: Random, size: int) -> Any:
        length = _length(rng, size)
        if length > 8 and rng.random() < 0.5:
            # Repetitive values trigger quadratic behaviour and overflows.
            unit = self.items(rng, 4, 1 + int(rng.random() * 3))
            return self.join((unit * (length // len(unit) + 1))[:length])
        each = max(1, size // max(1, length))
        if length <= _MAX_DISTINCT_ITEMS:
            return self.join(self.items(rng, each, length))
        block = drawn(rng, self.items(rng, each, _MAX_DISTINCT_ITEMS), min(length, _MAX_RANDOM_ITEMS))
        return self.join((block * (length // len(block) + 1))[:length])

    def mutate(self, rng: Random, value: Any) -> Any:
        length, draw = len(value), rng.random
        chance = draw()
        at = int(draw() * (length + 1))
        if chance < 0.03 and 1 < length < BULK_ITEMS:
            return _nested(rng, value)
        if chance < 0.25 or not length:
            return value[:at] + self.join(self.items(rng, 4, 1 + int(draw() ** 3 * 4))) + value[at:]
        until = at + 1 + int(draw() ** 2 * 8)
        if chance < 0.4:
            return value[:at] + value[until:]
        if chance < 0.6:
            start = min(at, length - 1)
            return value[:start] + self.join([self.changed(rng, value[start])]) + value[start + 1 :]
        if chance < 0.75:
            return value[:at] + value[at:until] * (2 + int(draw() * 6)) + value[until:]
        if chance < 0.85:
            return value + value if length <= _MAX_DOUBLED_ITEMS else value
        if chance < 0.93:
            wanted = LENGTHS[int(draw() * len(LENGTHS))]
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
        least = 0 if length < BULK_ITEMS else length // _MAX_BULK_PARTS
        yield from self._without(value, length // 2, coarse)
        # Before single items are removed: a uniform value has few that matter.
        yield from self._levelled(value, max(1, least))
        yield from self._without(value, coarse, least)
        level = self.level()
        for at in range(length if length < BULK_ITEMS else 0):
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

    def _levelled(self, value: Any, least: int) -> Iterator[Any]:
        """Yield the value with longer and shorter ranges replaced by the simplest item."""
        length = len(value)
        flat = self.join([self.level()]) * length
        span = length
        while span > 1 and span >= least:
            for at in range(0, length, span):
                if value[at : at + span] != flat[at : at + span]:
                    yield value[:at] + flat[at : at + span] + value[at + span :]
            span //= 2

    @abstractmethod
    def level(self) -> Any:
        """Return the simplest item."""

    def size(self, value: Any) -> int:
        return 1 + len(value)


def _nested(rng: Random, value: Any) -> Any:
    """Repeat an item, and as often a later one: brackets, tags and other things that come in pairs."""
    length = len(value)
    first = int(rng.random() * (length - 1))
    brackets = [at for at in range(min(length - 1, _MAX_NESTED_ITEMS)) if value[at : at + 1] in _OPENING]
    if brackets and rng.random() < 0.7:
        first = brackets[int(rng.random() * len(brackets))]
    last = first + 1 + int(rng.random() ** 2 * (length - first - 1))
    times = 1 << int(rng.random() * 7)
    opening, closing = value[first : first + 1] * times, value[last : last + 1] * times
    return value[:first] + opening + value[first:last] + closing + value[last:]


_MAX_NESTED_ITEMS = 64
_OPENING = ("(", "[", "{", "<", b"(", b"[", b"{", b"<")


def _length(rng: Random, size: int) -> int:
    if size >= BULK_ITEMS:
        if rng.random() < 0.7:
            return BULK_LENGTHS[int(rng.random() * bisect_right(BULK_LENGTHS, size))]
        return int(size ** (0.5 + rng.random() / 2))
    if rng.random() < 0.4:
        return min(size, LENGTHS[int(rng.random() * len(LENGTHS))])
    return int(rng.random() * rng.random() * (size + 1))


_SNIPPETS = list(SNIPPETS)


class TextShape(SequenceShape):
    """The shape of strings. With a dictionary, some are or contain its entries, or are documents of its words."""

    empty = ""

    def __init__(self, dictionary: Dictionary | None = None) -> None:
        self.char = Char()
        self.dictionary = dictionary

    def item(self, rng: Random, size: int) -> str:
        return self.char.random(rng, 1)

    def items(self, rng: Random, size: int, count: int) -> list[str]:
        return self.char.several(rng, count)

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
        if size >= BULK_ITEMS and chance < 0.8:
            unit = script_text(rng, 1 + int(rng.random() ** 2 * 16)) if chance < 0.5 else self.item(rng, 1)
            length = _length(rng, size)
            return (unit * (length // len(unit) + 1))[:length]
        if chance < 0.16:
            return "".join(drawn(rng, _SNIPPETS, 1 + int(rng.random() * 4)))[:size]
        if chance < 0.34:
            alphabet = self.char.several(rng, 1 + int(rng.random() * 4))
            return "".join(drawn(rng, alphabet, _length(rng, size)))
        if chance < 0.5:
            return script_text(rng, min(_length(rng, size), 512))
        if chance < 0.72 and self.dictionary is not None:
            found = self._from_dictionary(rng, self.dictionary)
            if found is not None:
                return found
        return super().random(rng, size)  # type: ignore[no-any-return]

    def _from_dictionary(self, rng: Random, dictionary: Dictionary) -> str | None:
        """Return a document, an entry, or entries and snippets joined; ``None`` if there is no entry."""
        if rng.random() < (0.6 if dictionary.documents else 0.3 if dictionary.json else 0.02):
            return new_document(rng, dictionary)
        found = dictionary.text(rng)
        if found is None or rng.random() < 0.5:
            return found
        parts = [found]
        for _ in range(int(rng.random() ** 2 * 4)):
            more = dictionary.text(rng) if rng.random() < 0.6 else SNIPPETS[int(rng.random() * len(SNIPPETS))]
            parts.insert(int(rng.random() * (len(parts) + 1)), more or "")
        return ("", " ", ",", "\n", ":")[int(rng.random() ** 2 * 5)].join(parts)

    def mutate(self, rng: Random, value: Any) -> str:
        chance = rng.random()
        if chance < 0.04:
            return renormalised(rng, value)
        if chance < 0.1:
            return _with_number(rng, value)
        if chance > _FIELDS_FROM:
            word = None if self.dictionary is None else self.dictionary.text(rng)
            return fields_changed(rng, value, word)  # type: ignore[no-any-return]
        if self.dictionary is not None and chance < 0.35:
            if chance < 0.25:
                document = changed_document(rng, value, self.dictionary)
                if document is not None:
                    return document
            entry = self.dictionary.text(rng)
            if entry is not None and chance < 0.31:
                at = int(rng.random() * (len(value) + 1))
                return f"{value[:at]}{entry}{value[at + (len(entry) if chance < 0.27 else 0) :]}"
        return super().mutate(rng, value)  # type: ignore[no-any-return]

    def size(self, value: str) -> int:
        return 1 + len(value)


_DIGITS = re.compile(r"\d+")


def _with_number(rng: Random, text: str) -> str:
    """Return the text with one of its decimal numbers replaced by another, or with a number in front."""
    number = str(AMOUNTS[int(rng.random() * len(AMOUNTS))] if rng.random() < 0.5 else int(rng.random() * 300) - 10)
    found = list(_DIGITS.finditer(text, 0, 4096))
    if not found:
        return number + text
    at = found[int(rng.random() * len(found))]
    start = at.start()
    if start and text[start - 1] == "-":
        start -= 1
    return text[:start] + number + text[at.end() :]


_OCTETS = (0, 1, 9, 10, 32, 34, 48, 65, 91, 92, 127, 128, 192, 254, 255)


class Octets(SequenceShape):
    """The shape of bytes, for ``list<u8>``. With a dictionary, some begin with or contain its entries."""

    empty = b""

    def __init__(self, dictionary: Dictionary | None = None) -> None:
        self.dictionary = dictionary
        self.text = TextShape(dictionary)

    def item(self, rng: Random, size: int) -> int:
        return int(rng.random() * 256) if rng.random() < 0.6 else one_of(rng, _OCTETS)

    def join(self, items: list[Any]) -> bytes:
        return bytes(items)

    def level(self) -> int:
        return 0

    def plain(self, item: int) -> Iterator[int]:
        for value in (0, 1, item // 2):
            if value < item:
                yield value

    def random(self, rng: Random, size: int) -> bytes:
        chance = rng.random()
        if chance < 0.25:
            return rng.randbytes(_length(rng, size))
        if chance < 0.35:
            return self.text.random(rng, size).encode("utf-8", "replace")[: max(size, 64)]
        if chance < 0.5 and self.dictionary is not None and size < BULK_ITEMS:
            entry = self.dictionary.word(rng)
            if entry is not None:
                rest = rng.randbytes(_length(rng, min(size, 64))) if chance < 0.47 else b""
                return entry + rest if chance < 0.44 else rest + entry
        found: bytes = super().random(rng, size)
        if self.dictionary is not None:
            self.dictionary.recent[len(found) & 7] = len(found)
        return found

    def mutate(self, rng: Random, value: Any) -> bytes:
        chance = rng.random()
        if chance < 0.08 and value:
            return _with_integer(rng, value)
        if chance > _FIELDS_FROM:
            word = None if self.dictionary is None else self.dictionary.word(rng)
            return fields_changed(rng, value, word)  # type: ignore[no-any-return]
        if chance < 0.25 and self.dictionary is not None:
            entry = self.dictionary.word(rng)
            if entry is not None:
                at = 0 if chance < 0.14 else int(rng.random() * (len(value) + 1))
                return value[:at] + entry + value[at + (len(entry) if rng.random() < 0.6 else 0) :]  # type: ignore[no-any-return]
        return super().mutate(rng, value)  # type: ignore[no-any-return]

    def changed(self, rng: Random, item: int) -> int:
        return item ^ (1 << int(rng.random() * 8)) if rng.random() < 0.5 else (item + one_of(rng, (-1, 1))) % 256


_WIDTHS = (1, 2, 4, 8)
_INTEGERS = {width: Integer(0, (1 << 8 * width) - 1) for width in _WIDTHS}


def _with_integer(rng: Random, value: bytes) -> bytes:
    """Return the bytes with an integer written over some of them: a length or an offset in a binary format."""
    width = _WIDTHS[int(rng.random() * 4)]
    at = int(rng.random() ** 2 * len(value))
    number = _INTEGERS[width].random(rng, 1)
    written = number.to_bytes(width, "little" if rng.random() < 0.6 else "big")
    return value[:at] + written + value[at + width :]


class Items(SequenceShape):
    """The shape of lists whose items are generated by ``element``."""

    def __init__(self, element: ValueShape, dictionary: Dictionary | None = None) -> None:
        self.element, self.dictionary = element, dictionary
        self.empty: Any = []
        self._units = isinstance(element, (Integer, Float, Choice, Char, FlagSet))

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

    def random(self, rng: Random, size: int) -> Any:
        found = super().random(rng, size)
        if isinstance(self.element, Integer) and rng.random() < 0.12:
            found.sort(reverse=rng.random() < 0.3)  # programs search and merge sorted lists
        if self.dictionary is not None:  # another argument may be the length of this one
            self.dictionary.recent[len(found) & 7] = len(found)
        return found

    def simpler(self, value: Any) -> Iterator[Any]:
        for smaller in super().simpler(value):
            yield list(smaller)

    def size(self, value: Any) -> int:
        return 1 + (len(value) if self._units else sum(map(self.element.size, value)))
