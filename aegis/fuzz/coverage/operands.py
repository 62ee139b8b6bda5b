"""Test cases made from the operands of comparisons: the input-to-state correspondence.

If one operand of a comparison occurs in the arguments of a call, and the other replaces it there, then the comparison
is probably true in the next run. Values are searched for integers, for floats, for characters, for bytes of either
order, and for lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aegis.fuzz.case import Case, HandleRef, Step
from aegis.fuzz.values.buffers import Buffer
from aegis.fuzz.values.core_signatures import CString, OutPointer
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.fuzz.target import TargetExport
    from aegis.wasm.comparisons import Operands

__all__ = ["Pair", "matched_cases", "pairs_of", "related", "replaced"]

_MAX_PAIRED_VALUES = 256
_FIRST_RESULTS, _MAX_RESULTS = 4, 48
"""Most replacements of one operand in one value, and how many of them are tried before those of other operands."""
_MAX_ELEMENTS = 1 << 17
_MAX_ITEMS = 64
"""Most items of a list in which operands are searched."""
_MAX_DEPTH = 6
_MAX_DISTANCE_BYTES = 64
"""Farthest distance of an operand from a length, or from a number in bytes, that counts as related."""
_MAX_PLACE_BYTES = 128
"""Bytes at the start of a value in which related numbers are searched."""
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


class Pair(NamedTuple):
    """Two operands that differed: ``found`` is to be replaced by ``wanted``."""

    bits: int
    floating: bool
    found: int
    wanted: int

    @property
    def constant(self) -> int:
        """The wanted operand as a signed integer."""
        return _signed(self.wanted, self.bits)


def pairs_of(records: Iterable[Operands]) -> list[Pair]:
    """Return the operands of comparisons in both directions, without repetitions, those of rare comparisons first."""
    found: dict[Pair, int] = {}
    sites: dict[int, int] = {}
    for one in records:
        sites[one.site] = sites.get(one.site, 0) + 1
        for a, b in ((one.left, one.right), (one.right, one.left)):
            found.setdefault(Pair(one.bits, one.floating, a, b), one.site)
    return sorted(found, key=lambda pair: sites[found[pair]])[:_MAX_PAIRED_VALUES]


def matched_cases(case: Case, pairs: Iterable[Pair], exports: Mapping[str, TargetExport]) -> Iterator[Case]:
    """Yield test cases in which an operand in an argument of the last call is replaced by the other one.

    For each operand, some replacements of the whole value come first, then some guesses by a sum or factor.
    """
    number = len(case.steps) - 1
    step = case.steps[number]
    if step.function not in exports:
        return
    found = list(pairs)
    ways = (replaced, related)
    for first, last in ((0, _FIRST_RESULTS), (_FIRST_RESULTS, _MAX_RESULTS)):
        for change, pair in product(ways, found):
            for place, argument in enumerate(step.arguments):
                if not isinstance(argument, HandleRef):
                    for value in islice(change(argument, pair), first, last):
                        arguments = (*step.arguments[:place], value, *step.arguments[place + 1 :])
                        yield case.with_step(number, Step(step.function, arguments))


def related(value: Any, pair: Pair) -> Iterator[Any]:
    """Yield values for which the operand is the wanted one, if it is a part of the value plus, or times, a constant.

    Compilers turn ``first <= x && x < last`` into one comparison of ``x - first``, and formats count bytes from the end
    of a header.
    """
    if pair.floating or isinstance(value, bool):
        return
    if isinstance(value, int):
        yield from _related_integers(value, pair)
    elif isinstance(value, Buffer):
        yield from map(Buffer, _related_octets(value.data, pair))
    elif isinstance(value, CString):
        yield from _c_strings(_related_octets(value.data, pair))
    elif isinstance(value, (bytes, bytearray)):
        yield from _related_octets(bytes(value), pair)
    elif isinstance(value, (str, list)):
        yield from _related_lengths(value, pair)


def _c_strings(found: Iterable[bytes]) -> Iterator[CString]:
    return (CString(data) for data in found if b"\0" not in data)


def _related_octets(value: bytes, pair: Pair) -> Iterator[bytes]:
    """Yield bytes with a number near the operand moved by as much as the operand should be."""
    found = pair.found
    for width in (4, 8, 2):
        for at in range(min(len(value) - width + 1, _MAX_PLACE_BYTES)):
            for order in _ORDERS:
                number = int.from_bytes(value[at : at + width], order)
                distance = found - number
                if not -_MAX_DISTANCE_BYTES <= distance <= _MAX_DISTANCE_BYTES < number or not distance:
                    continue
                moved = pair.wanted - distance
                if 0 <= moved < 1 << (8 * width):
                    yield value[:at] + moved.to_bytes(width, order) + value[at + width :]
    yield from _related_lengths(value, pair)


def _related_lengths(value: Any, pair: Pair) -> Iterator[Any]:
    distance = pair.found - len(value)
    if 0 < abs(distance) <= _MAX_DISTANCE_BYTES:
        yield from _lengths(value, pair._replace(found=len(value), wanted=max(0, pair.wanted - distance)))


def _related_integers(value: int, pair: Pair) -> Iterator[int]:
    size = 1 << pair.bits
    if not -(size >> 1) <= value < size or value % size == pair.found:
        return
    for wanted in (pair.wanted, pair.wanted - 1):
        moved = (value - pair.found + wanted) % size
        yield _signed(moved, pair.bits) if value < 0 or abs(value) < size >> 1 else moved
    if value > 1 and pair.found and pair.found % value == 0:
        yield pair.wanted // (pair.found // value)
        yield pair.wanted // (pair.found // value) + 1


def replaced(value: Any, pair: Pair, depth: int = 0) -> Iterator[Any]:
    """Yield copies of a value with one occurrence of an operand replaced by the other one."""
    if depth > _MAX_DEPTH or isinstance(value, (bool, OutPointer)) or value is None:  # the size of a result is fixed
        return
    if isinstance(value, int):
        yield from _integers(value, pair)
    elif isinstance(value, float):
        yield from _floats(value, pair)
    elif isinstance(value, str):
        yield from _texts(value, pair)
    elif isinstance(value, (bytes, bytearray)):
        yield from _octets(bytes(value), pair)
    elif isinstance(value, Buffer):
        yield from map(Buffer, _octets(value.data, pair))
    elif isinstance(value, CString):
        yield from _c_strings(_octets(value.data, pair))
    elif isinstance(value, (list, tuple)):
        yield from _items(value, pair, depth)
    elif isinstance(value, (Ok, Err)):
        yield from (type(value)(inner) for inner in replaced(value.value, pair, depth + 1))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for inner in replaced(getattr(value, field.name), pair, depth + 1):
                yield replace(value, **{field.name: inner})


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> (bits - 1) else number


def _integers(value: int, pair: Pair) -> Iterator[int]:
    if pair.floating or not -(1 << (pair.bits - 1)) <= value < 1 << pair.bits:
        return
    if value & ((1 << pair.bits) - 1) != pair.found:
        return
    wanted = _signed(pair.wanted, pair.bits) if value < 0 or pair.wanted >> (pair.bits - 1) == 0 else pair.wanted
    yield from (wanted, wanted + 1, wanted - 1)
    if wanted != pair.constant:
        yield pair.constant


def _floats(value: float, pair: Pair) -> Iterator[float]:
    form = "<f" if pair.bits == 32 else "<d"
    try:
        bits = int.from_bytes(struct.pack(form, value), "little")
    except OverflowError:
        return
    if pair.floating and bits == pair.found:
        yield struct.unpack(form, pair.wanted.to_bytes(pair.bits // 8, "little"))[0]


def _texts(value: str, pair: Pair) -> Iterator[str]:
    if pair.floating:
        return
    for data in _octets(value.encode("utf-8", "surrogatepass"), pair):
        try:
            yield data.decode()
        except UnicodeDecodeError:
            continue
    if 0x80 <= max(pair.found, pair.wanted) < 0x110000 and not 0xD800 <= pair.wanted < 0xE000 and pair.found < 0x110000:
        at = value.find(chr(pair.found))
        if at >= 0:
            yield value[:at] + chr(pair.wanted) + value[at + 1 :]


def _octets(value: bytes, pair: Pair) -> Iterator[bytes]:
    if pair.floating:
        return
    for width in (8, 4, 2, 1):
        if width * 8 > pair.bits or max(pair.found, pair.wanted) >> (8 * width):
            continue
        for order in ("little", "big") if width > 1 else ("little",):
            old, new = (n.to_bytes(width, order) for n in (pair.found, pair.wanted))
            at, places = value.find(old), 0
            while at >= 0 and places < _MAX_RESULTS:
                yield value[:at] + new + value[at + width :]
                at, places = value.find(old, at + 1), places + 1
    yield from _lengths(value, pair)


def _lengths(value: Any, pair: Pair) -> Iterator[Any]:
    """Yield the value with another length, if its length is the operand."""
    if pair.found == len(value) and not pair.floating and pair.wanted <= _MAX_ELEMENTS:
        for length in (pair.wanted, pair.wanted + 1, pair.wanted - 1):
            if 0 <= length <= _MAX_ELEMENTS and (value or not length):
                yield (value * (length // len(value) + 1))[:length] if length else value[:0]


def _items(value: list[Any] | tuple[Any, ...], pair: Pair, depth: int) -> Iterator[Any]:
    for at, item in enumerate(value[:_MAX_ITEMS]):
        for new in replaced(item, pair, depth + 1):
            if isinstance(value, list):
                yield [*value[:at], new, *value[at + 1 :]]
            elif type(value) is tuple:
                yield (*value[:at], new, *value[at + 1 :])
            else:  # a record that is a named tuple
                yield value._replace(**{value._fields[at]: new})  # type: ignore[attr-defined]
    if isinstance(value, list):
        yield from _lengths(value, pair)
