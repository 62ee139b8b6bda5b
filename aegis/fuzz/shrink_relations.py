"""Simpler test cases that differ in several places at once.

A fault may need a relation between values: two equal numbers, a sum beyond a bound, a count that is the length of a
list. Then no simpler value of a single argument shows it. Each function yields cases that are simpler in a fixed order,
so that shrinking ends: a smaller total first, then smaller values in earlier places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from typing import Any

from aegis.fuzz.case import Case
from aegis.fuzz.shrink_parts import Part, parts_of, with_parts
from aegis.fuzz.values.scalars import Char, Float, Integer
from aegis.fuzz.values.sequences import Octets, TextShape

__all__ = ["flattened", "related"]

_MAX_PAIR_ITEMS = 40
"""Longest text of which pairs of characters are removed, such as brackets."""
_MAX_REPEATED_ITEMS = 16
"""Most distinct characters or bytes of a value that are replaced everywhere, the most frequent first."""
_MAX_FEW_ITEMS = 4
"""Most distinct characters of a text that are simplified everywhere first."""
_MAX_UNIFORM_ITEMS = 48
"""Most characters of which a text is made uniform."""
_MAX_FIELD_BYTES = 64
"""Longest bytes in which lengths and checksums are searched: the attempts grow with the third power."""
_WIDE = Integer(-(1 << 64), 1 << 64)


def related(case: Case) -> Iterator[Case]:
    """Yield simpler cases that differ in several places at once."""
    parts = parts_of(case)
    yield from _equal(case, parts)
    yield from _repeated(case, parts)
    yield from _shared(case, parts)
    yield from _widened(case, parts)
    yield from _gathered(case, parts)
    numbers = [part for part in parts if type(part.value) is int and part.value]
    lists = [part for part in parts if isinstance(part.value, (str, bytes, list)) and part.value]
    yield from _counted(case, numbers, lists)
    yield from _parallel(case, lists)
    yield from _lowered(case, numbers)
    yield from _moved(case, [part for part in parts if type(part.value) is int])
    yield from _scaled(case, numbers)
    yield from _ordered(case, lists)
    yield from _bracketed(case, lists)
    octets = [part for part in lists if isinstance(part.value, bytes) and len(part.value) <= _MAX_FIELD_BYTES]
    yield from _with_length(case, octets)
    yield from _with_checksum(case, octets)


def _simpler(value: Any) -> Iterator[Any]:
    """Yield simpler values of any part by its Python type. A value outside the type's range is rejected by the call."""
    if type(value) is int:
        return _WIDE.simpler(value)
    if isinstance(value, float):
        return Float(64).simpler(value)
    if isinstance(value, str):
        return TextShape().simpler(value)
    if isinstance(value, bytes):
        return Octets().simpler(value)
    return _cuts(value)


def _cuts(value: Any) -> Iterator[Any]:
    """Yield a sequence without some of its items, halves first."""
    span = len(value)
    while span:
        for at in range(0, len(value), span):
            yield value[:at] + value[at + span :]
        span //= 2


def _equal(case: Case, parts: Sequence[Part]) -> Iterator[Case]:
    """Simplify equal parts together: all of them, and each two of more than two."""
    groups: dict[tuple[type, str], list[Part]] = {}
    for part in parts:
        if part.value:
            groups.setdefault((type(part.value), repr(part.value)), []).append(part)
    for group in groups.values():
        if len(group) < 2 or _nested(group):
            continue
        for some in [group, *(combinations(group, 2) if 2 < len(group) <= 8 else ())]:
            for value in _simpler(group[0].value):
                yield with_parts(case, {part.path: value for part in some})


def _nested(group: Sequence[Part]) -> bool:
    """Return whether one part lies inside another."""
    return any(b.path[: len(a.path)] == a.path for a, b in combinations(group, 2))


def _repeated(case: Case, parts: Sequence[Part]) -> Iterator[Case]:
    """Replace all occurrences of a character or byte by a simpler one, also by another one of the same value."""
    for part in parts:
        value = part.value
        if isinstance(value, str):
            times = Counter(value)
            chars = sorted(times, key=lambda char: (-times[char], char))[:_MAX_REPEATED_ITEMS]
            for char in chars:
                others = [other for other in sorted(chars) if other < char]
                for plain in (*others, *(Char().simpler(char) if times[char] > 1 else ())):
                    yield with_parts(case, {part.path: value.replace(char, plain)})
        elif isinstance(value, bytes):
            counts = Counter(value)
            values = sorted(counts, key=lambda byte: (-counts[byte], byte))[:_MAX_REPEATED_ITEMS]
            for byte in values:
                below = [other for other in sorted(values) if other < byte]
                for smaller in (*below, *(range(min(byte, 64)) if counts[byte] > 1 else ())):
                    yield with_parts(case, {part.path: value.replace(bytes([byte]), bytes([smaller]))})


def _shared(case: Case, parts: Sequence[Part]) -> Iterator[Case]:
    """Replace all occurrences of a character by a simpler one in several texts, such as two versions to compare."""
    texts = [part for part in parts if isinstance(part.value, str)]
    times = Counter(char for part in texts for char in set(part.value))
    for char in sorted(char for char in times if times[char] > 1)[:_MAX_REPEATED_ITEMS]:
        some = [part for part in texts if char in part.value]
        for plain in Char().simpler(char):
            yield with_parts(case, {part.path: part.value.replace(char, plain) for part in some})


def flattened(case: Case) -> Iterator[Case]:
    """Yield cases with all characters of a text, or all bytes, equal."""
    for part in parts_of(case):
        value = part.value
        if isinstance(value, str) and len(set(value)) <= _MAX_FEW_ITEMS < len(value):
            yield from _repeated(case, [part])  # all of a kind at once, before one after another
        if isinstance(value, bytes):
            if any(value) and value != b"\1" * len(value):
                yield with_parts(case, {part.path: b"\1" * len(value)})
        elif isinstance(value, str) and value:
            plain = [char for char in "ab" if not set(value) <= set("ab"[: "ab".index(char) + 1])]
            for char in plain:
                yield with_parts(case, {part.path: char * len(value)})
                if not value.isascii():
                    yield with_parts(case, {part.path: char * len(value.encode("utf-8", "replace"))})
            if len(set(value)) > 2:  # two kinds may be needed for an exact size, and would take turns
                kinds = sorted(set(value))
                for char in kinds[:: -(-len(kinds) // _MAX_UNIFORM_ITEMS)]:  # some of each script
                    size = len(value.encode("utf-8", "replace")) // len(char.encode("utf-8", "replace"))
                    for length in sorted({len(value), size}):  # as many characters, or as many bytes
                        yield with_parts(case, {part.path: char * length})


def _widened(case: Case, parts: Sequence[Part]) -> Iterator[Case]:
    """Replace a character by as many plain ones as it has bytes: a place in bytes may matter."""
    for part in parts:
        value = part.value if isinstance(part.value, str) else ""
        for at in [at for at, char in enumerate(value[:_MAX_PAIR_ITEMS]) if not char.isascii()]:
            same = "a" * len(value[at].encode("utf-8", "replace"))
            yield with_parts(case, {part.path: value[:at] + same + value[at + 1 :]})


def _gathered(case: Case, parts: Sequence[Part]) -> Iterator[Case]:
    """Join the items of a list of sequences, and move a later sequence to the end of an earlier one."""
    for part in parts:
        items = part.value
        if isinstance(items, list) and len(items) > 1 and len(set(map(type, items))) == 1:
            joined: Any = None
            if isinstance(items[0], (str, bytes)):
                joined = items[0][:0].join(items)
            elif isinstance(items[0], list):
                joined = list(chain.from_iterable(items))
            if joined is not None:
                yield with_parts(case, {part.path: [joined]})
                yield with_parts(case, {part.path: [joined, *(item[:0] for item in items[1:])]})
    texts = [part for part in parts if isinstance(part.value, (str, bytes))][:_MAX_REPEATED_ITEMS]
    for one, two in combinations(texts, 2):
        if two.value and type(one.value) is type(two.value):
            for times in (1, 2):
                yield with_parts(case, {one.path: one.value + two.value * times, two.path: two.value[:0]})


def _steps(most: int) -> Iterator[int]:
    """Yield amounts to subtract from a number up to ``most``, the largest first."""
    while most:
        yield most
        most //= 2


def _lowered(case: Case, numbers: Sequence[Part]) -> Iterator[Case]:
    """Bring two numbers of one sign nearer to 0 by the same amount, which keeps their difference."""
    for one, two in combinations(numbers, 2):
        if (one.value < 0) != (two.value < 0):
            continue
        sign = -1 if one.value < 0 else 1
        for amount in _steps(min(abs(one.value), abs(two.value))):
            yield with_parts(case, {one.path: one.value - sign * amount, two.path: two.value - sign * amount})


def _moved(case: Case, numbers: Sequence[Part]) -> Iterator[Case]:
    """Lower a number and raise a later one by the same amount, which keeps their sum."""
    for one, two in combinations(numbers, 2):
        if one.value > 0 and two.value >= 0:
            for amount in _steps(one.value):
                yield with_parts(case, {one.path: one.value - amount, two.path: two.value + amount})


def _scaled(case: Case, numbers: Sequence[Part]) -> Iterator[Case]:
    """Lower a number and raise a later one, which keeps their product or makes it a little larger."""
    for one, two in combinations(numbers, 2):
        if one.value > 1 and two.value > 0:
            product = one.value * two.value
            for lower in (1, *(one.value - amount for amount in _steps(one.value - 1))):
                yield with_parts(case, {one.path: lower, two.path: -(-product // lower)})


def _counted(case: Case, numbers: Sequence[Part], lists: Sequence[Part]) -> Iterator[Case]:
    """Shorten a sequence and lower a number by the same amount: the number may be its length or an index."""
    for number in numbers:
        for some in lists:
            if number.path[: len(some.path)] == some.path or number.value < 0:
                continue
            for amount in _steps(min(number.value, len(some.value))):
                for shorter in (some.value[: len(some.value) - amount], some.value[amount:]):
                    yield with_parts(case, {number.path: number.value - amount, some.path: shorter})


def _parallel(case: Case, lists: Sequence[Part]) -> Iterator[Case]:
    """Remove the same range of two sequences of one length."""
    for one, two in combinations(lists, 2):
        if len(one.value) != len(two.value) or _nested([one, two]):
            continue
        for span in _steps(len(one.value)):
            for at in range(0, len(one.value), span):
                yield with_parts(
                    case, {part.path: part.value[:at] + part.value[at + span :] for part in (one, two)}
                )  # fmt: skip


def _ordered(case: Case, lists: Sequence[Part]) -> Iterator[Case]:
    """Sort the items of a list, of a text and of bytes."""
    for part in lists:
        value = part.value
        try:
            ordered = sorted(value)
        except TypeError:  # items without an order, such as records
            continue
        if list(value) != ordered:
            whole = (
                "".join(ordered) if isinstance(value, str) else bytes(ordered) if isinstance(value, bytes) else ordered
            )
            yield with_parts(case, {part.path: whole})


def _bracketed(case: Case, lists: Sequence[Part]) -> Iterator[Case]:
    """Remove two items of a short sequence that need each other, or any range of items."""
    for part in lists:
        value = part.value
        if len(value) > _MAX_PAIR_ITEMS:
            continue
        for one in range(len(value)):
            for two in range(one + 2, len(value)):
                yield with_parts(case, {part.path: value[:one] + value[one + 1 : two] + value[two + 1 :]})
                yield with_parts(case, {part.path: value[:one] + value[two + 1 :]})


def _with_length(case: Case, octets: Sequence[Part]) -> Iterator[Case]:
    """Remove bytes, and lower a number in the bytes before them by as much: a format has lengths."""
    for part in octets:
        value = part.value
        size = len(value)
        for span in _steps(size):
            for at in range(0, size - span + 1, max(1, span // 2)):
                rest = value[at + span :]
                for place in range(at):
                    for width in (4, 2, 1):
                        for order in ("little", "big") if width > 1 else ("little",):
                            number = int.from_bytes(value[place : place + width], order)
                            if place + width <= at and span <= number < 1 << 20:
                                lower = (number - span).to_bytes(width, order)
                                shorter = value[:place] + lower + value[place + width : at] + rest
                                yield with_parts(case, {part.path: shorter})


def _with_checksum(case: Case, octets: Sequence[Part]) -> Iterator[Case]:
    """Remove or simplify a byte, and change the last one so that a sum, or an exclusive or, of all stays the same."""
    for part in octets:
        value, last = part.value[:-1], part.value[-1]
        for at, byte in enumerate(value):
            for smaller in dict.fromkeys((None, 0, byte // 2, byte - 1)):
                if smaller is not None and not 0 <= smaller < byte:
                    continue
                now = smaller or 0
                middle = b"" if smaller is None else bytes((smaller,))
                for check in (last ^ byte ^ now, (last - byte + now) % 256, (last + byte - now) % 256):
                    yield with_parts(case, {part.path: value[:at] + middle + value[at + 1 :] + bytes((check,))})
