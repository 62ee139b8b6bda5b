"""Test cases in which comparisons have another outcome, made where their operands come from.

:mod:`aegis.fuzz.coverage.dependence` says which bytes and numbers of the arguments an operand depends on, and with
which weight. So an operand gets the value of the other one by arithmetic, which covers numbers of any width and byte
order, decimal and hexadecimal digits, sums, and lengths; and by substitution, of a number as text, or of a word that
goes on from the byte that was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case
from aegis.fuzz.coverage.dependence import Cell, Compared, Leaf, bit_places, changed_case
from aegis.wasm.comparisons import COMPARED, DIVIDED, SWITCHED
from aegis.wasm.rewrite import leb

if TYPE_CHECKING:
    from aegis.wasm.comparisons import Operands

__all__ = ["by_weights", "climb", "equal_cases", "goals_of", "solved_cases"]

_MAX_TARGET_ENTRIES = 24
"""Most targets of a ``br_table`` that are tried."""
_MAX_LENGTH_BYTES = 1 << 12
_MAX_REPEATED_BYTES = 4096
_MAX_OTHER_CASES = 16
"""Most further solutions of one comparison."""
_MAX_EQUAL_CASES = 3
"""Most solutions of a comparison that are tried to make its operands equal for the first time."""
_MAX_FIRST_WORD_ENTRIES = 2
"""Most inputs with words that are tried for one comparison before anything else."""
_MAX_WORD_ENTRIES = 4
"""Most words of the dictionary that are tried for one compared byte."""
_DIGITS = b"0123456789abcdefABCDEF"

Words = Callable[[bytes], Sequence[bytes]]
Goal = tuple[str, int]
"""The side of the operand that changes, ``left`` or ``right``, and its wanted value."""


def solved_cases(
    case: Case, leaves: Sequence[Leaf], compared: Sequence[Compared], words: Words, tried: dict[Any, int]
) -> Iterator[Case]:
    """Yield test cases in which one comparison, or all of them, have another outcome.

    Comparisons that were tried least come first, then the latest. ``tried`` counts the attempts by site and value.
    ``words`` returns the dictionary's words that begin with some bytes.
    """
    ordered = list(reversed(compared))
    ordered.sort(key=lambda one: tried.get(_key(one.operands), 0))
    for one in ordered:
        key = _key(one.operands)
        tried[key] = tried.get(key, 0) + 1
    together: dict[int, Any] = {}
    for one in compared:  # the earlier ones first: the later ones may not be reached otherwise
        for side, wanted in goals_of(one.operands):
            for changes in _by_weight(one, side, wanted, leaves):
                for number, value in changes.items():
                    together.setdefault(number, value)
                break
            break
    seen: set[Any] = set()
    for changes in _in_turn(ordered, leaves, words, together):
        values = tuple(changes.items())
        if values not in seen:
            seen.add(values)
            yield changed_case(case, leaves, changes)


def _in_turn(
    ordered: Sequence[Compared], leaves: Sequence[Leaf], words: Words, together: dict[int, Any]
) -> Iterator[dict[int, Any]]:
    """Yield words that begin with a wanted byte first, and the best solution of each comparison.

    Then come the others, and then those beside the wanted value.
    """
    for one in ordered:
        for side, wanted in goals_of(one.operands) if one.operands.kind == COMPARED else ():
            yield from islice(_words_for(one, side, wanted, leaves, words), _MAX_FIRST_WORD_ENTRIES)
    ways = [
        _solutions(one, side, wanted, leaves, words) for one in ordered for side, wanted in goals_of(one.operands)
    ]  # fmt: skip
    for way in ways:
        yield from islice(way, 1)
    if len(together) > 1:
        yield together
    for way in ways:
        yield from islice(way, _MAX_OTHER_CASES)
    for one in ordered:
        for side, wanted in goals_of(one.operands) if one.operands.kind == COMPARED else ():
            for near in (1, -1):
                goal = (wanted + near) % (1 << one.operands.bits)
                yield from islice(_solutions(one, side, goal, leaves, _no_words), 2)


def equal_cases(case: Case, leaves: Sequence[Leaf], compared: Sequence[Compared]) -> Iterator[tuple[Operands, Case]]:
    """Yield comparisons, each with a test case in which its operands are probably equal."""
    for one in compared:
        for side, wanted in goals_of(one.operands) if one.operands.kind == COMPARED else ():
            for changes in islice(_solutions(one, side, wanted, leaves, _no_words), _MAX_EQUAL_CASES):
                yield one.operands, changed_case(case, leaves, changes)


def climb(case: Case, leaves: Sequence[Leaf], one: Compared) -> tuple[Case, int] | None:
    """Return the test case in which a compared byte is the wanted one, and its position; ``None`` for no such byte."""
    if one.operands.kind != COMPARED or one.operands.floating:
        return None
    for side, wanted in goals_of(one.operands):
        weights: dict[Cell, int] = getattr(one, side)
        values = [cell for cell in weights if cell.way == "value"]
        if len(values) == 1 and wanted < 0x100 and not leaves[values[0].leaf].number:
            for changes in _by_weight(one, side, wanted, leaves):
                return changed_case(case, leaves, changes), values[0].at
    return None


def _no_words(beginning: bytes) -> Sequence[bytes]:
    return ()


def _key(one: Operands) -> tuple[int, int]:
    return one.site, min(one.left, one.right, key=lambda value: (value in (0, 1), value))


def goals_of(one: Operands) -> Iterator[Goal]:
    """Yield the wanted value of an operand: that of the other one, a target, or one that a division traps for."""
    if one.kind == SWITCHED:
        yield from (("left", target) for target in range(min(one.right + 1, _MAX_TARGET_ENTRIES)) if target != one.left)
    elif one.kind == DIVIDED:
        yield "right", 0
        yield "right", (1 << one.bits) - 1
        yield "left", 1 << (one.bits - 1)
    elif not one.floating:
        yield "left", one.right
        yield "right", one.left


def _solutions(one: Compared, side: str, wanted: int, leaves: Sequence[Leaf], words: Words) -> Iterator[dict[int, Any]]:
    """Yield new values of leaves, by the numbers of the leaves, for which an operand probably is the wanted one."""
    yield from _by_weight(one, side, wanted, leaves)
    weights: dict[Cell, int] = getattr(one, side)
    current: int = getattr(one.operands, side)
    values = [cell for cell in weights if cell.way == "value"]
    if len(values) == 1 and not leaves[values[0].leaf].number:
        (cell,) = values
        leaf = leaves[cell.leaf]
        byte = leaf.data[cell.at] ^ current ^ wanted
        if 0 <= byte < 0x100 and byte != leaf.data[cell.at]:
            yield from _changed(cell.leaf, leaf, leaf.data[: cell.at] + bytes((byte,)) + leaf.data[cell.at + 1 :])
        if weights[cell] == 0 or current < 0x100:
            yield from _fields(cell, leaf, current, wanted)
    yield from _by_bits(weights, current, wanted, leaves)
    yield from _words_for(one, side, wanted, leaves, words)
    yield from _written(weights, values, current, wanted, leaves)
    for cell in weights:
        if cell.way != "value":
            yield from _lengthened(cell, leaves[cell.leaf], weights[cell], current, wanted, one.operands.bits)


def _changed(number: int, leaf: Leaf, data: bytes) -> Iterator[dict[int, Any]]:
    value = leaf.made(data)
    if value is not None:
        yield {number: value}


def _by_weight(one: Compared, side: str, wanted: int, leaves: Sequence[Leaf]) -> Iterator[dict[int, Any]]:
    """Change cells by their weights, the heaviest first, until the operand is the wanted one."""
    weights: dict[Cell, int] = getattr(one, side)
    current: int = getattr(one.operands, side)
    deltas = set()
    for bits in {8, 16, one.operands.bits}:  # compilers mask bytes that wrap, as in ``(c - '0') & 255 < 10``
        if max(current, wanted) >> bits == 0:
            missing = (wanted - current) % (1 << bits)
            deltas |= {missing, missing - (1 << bits)}
    for delta in sorted(deltas, key=abs):
        yield from by_weights(weights, delta, leaves)


def by_weights(weights: dict[Cell, int], delta: int, leaves: Sequence[Leaf]) -> Iterator[dict[int, Any]]:
    """Yield the new values of leaves, by their numbers, that change a weighted sum of cells by ``delta``, if any do."""
    yield from _by_digits(weights, delta, leaves)
    data: dict[int, bytearray] = {}
    numbers: dict[int, int] = {}
    for cell in sorted(
        (c for c, weight in weights.items() if c.way == "value" and weight), key=lambda c: -abs(weights[c])
    ):
        if not delta:
            break
        leaf, weight = leaves[cell.leaf], weights[cell]
        amount = abs(delta) // abs(weight) * (1 if (delta > 0) == (weight > 0) else -1)
        if leaf.number:
            numbers[cell.leaf] = leaf.value + amount
        else:
            low, high = _range(leaf, cell.at)
            old = leaf.data[cell.at]
            amount = min(max(amount, low - old), high - old)
            data.setdefault(cell.leaf, bytearray(leaf.data))[cell.at] = old + amount
        delta -= amount * weight
    if delta or not (data or numbers):
        return
    changes: dict[int, Any] = dict(numbers)
    for number, octets in data.items():
        value = leaves[number].made(bytes(octets))
        if value is None:
            return
        changes[number] = value
    yield changes


def _by_digits(weights: dict[Cell, int], delta: int, leaves: Sequence[Leaf]) -> Iterator[dict[int, Any]]:
    """Add to the number that several bytes are, with carries from one byte to the next."""
    cells = sorted((c for c in weights if c.way == "value"), key=lambda cell: weights[cell])
    if len(cells) < 2 or len({cell.leaf for cell in cells}) > 1 or isinstance(leaves[cells[0].leaf].value, str):
        return
    leaf, least = leaves[cells[0].leaf], weights[cells[0]]
    if leaf.number or least <= 0 or delta % least:
        return
    if any(weights[cell] != least << 8 * place for place, cell in enumerate(cells)):
        return
    number = sum(leaf.data[cell.at] << 8 * place for place, cell in enumerate(cells)) + delta // least
    if not 0 <= number < 1 << 8 * len(cells):
        return
    data = bytearray(leaf.data)
    for place, cell in enumerate(cells):
        data[cell.at] = number >> 8 * place & 0xFF
    yield from _changed(cells[0].leaf, leaf, bytes(data))


def _by_bits(weights: dict[Cell, int], current: int, wanted: int, leaves: Sequence[Leaf]) -> Iterator[dict[int, Any]]:
    """Change the bytes whose bits are bits of the operand, such as a checksum that is xored with the right one."""
    places = bit_places(weights, current, leaves)
    numbers = {cell.leaf for cell in places}
    if len(places) < 2 or len(numbers) > 1:
        return
    (number,) = numbers
    data, delta = bytearray(leaves[number].data), current ^ wanted
    for cell, place in places.items():
        data[cell.at] ^= delta >> place & 0xFF
        delta &= ~(0xFF << place)
    if not delta:
        yield from _changed(number, leaves[number], bytes(data))


def _range(leaf: Leaf, at: int) -> tuple[int, int]:
    """Return the range of a byte: a digit of a number of several digits stays one, unlike a byte of a binary format."""
    if 0x30 <= leaf.data[at] <= 0x39 and (
        leaf.data[at - 1 : at].isdigit() or leaf.data[at + 1 : at + 2].isdigit()
    ):  # fmt: skip
        return 0x30, 0x39
    return 0, 0x7F if isinstance(leaf.value, str) else 0xFF


def _words_for(one: Compared, side: str, wanted: int, leaves: Sequence[Leaf], words: Words) -> Iterator[dict[int, Any]]:
    """Yield words for an operand that is one byte of the input."""
    weights: dict[Cell, int] = getattr(one, side)
    values = [cell for cell in weights if cell.way == "value"]
    if len(values) == 1 and not leaves[values[0].leaf].number and wanted < 0x100 and abs(weights[values[0]]) == 1:
        yield from _with_words(values[0], leaves[values[0].leaf], wanted, words)


def _with_words(cell: Cell, leaf: Leaf, wanted: int, words: Words) -> Iterator[dict[int, Any]]:
    """Put words where a byte was compared that begin with the bytes before it and the wanted one."""
    for back in range(min(cell.at, 16) + 1):
        start = cell.at - back
        for word in words(leaf.data[start : cell.at] + bytes((wanted,)))[:_MAX_WORD_ENTRIES]:
            yield from _changed(cell.leaf, leaf, leaf.data[:start] + word + leaf.data[start + len(word) :])
            yield from _changed(cell.leaf, leaf, leaf.data[:start] + word + leaf.data[cell.at :])


def _written(
    weights: dict[Cell, int], values: Sequence[Cell], current: int, wanted: int, leaves: Sequence[Leaf]
) -> Iterator[dict[int, Any]]:
    """Write a number in the notation of the bytes that an operand depends on, which may make them more or fewer.

    It is the wanted value itself, or the number that stands there plus the difference of the operands.
    """
    for number in dict.fromkeys(cell.leaf for cell in values):
        leaf = leaves[number]
        places = [cell.at for cell in values if cell.leaf == number]
        first, last = min(places), max(places) + 1
        span = leaf.data[first:last]
        if leaf.number or last - first > len(places):
            continue
        for read, write in _NOTATIONS:
            standing = read(span)
            for other in () if standing is None else dict.fromkeys((wanted, standing + wanted - current)):
                text = write(other, len(span)) if 0 <= other < 1 << 64 else span
                if text != span:
                    yield from _changed(number, leaf, leaf.data[:first] + text + leaf.data[last:])


def _read_digits(base: int) -> Callable[[bytes], int | None]:
    digits = _DIGITS[:base] if base == 10 else _DIGITS
    return lambda span: int(span, base) if span and all(byte in digits for byte in span) else None


def _read_groups(span: bytes) -> int | None:
    """Read an unsigned LEB128 number."""
    if not span or span[-1] & 0x80 or not all(byte & 0x80 for byte in span[:-1]):
        return None
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(span))


_NOTATIONS: tuple[tuple[Callable[[bytes], int | None], Callable[[int, int], bytes]], ...] = (
    (_read_digits(10), lambda number, size: b"%d" % number),
    (_read_digits(16), lambda number, size: b"%0*x" % (size, number)),
    (_read_groups, lambda number, size: leb(number)),
)
"""How numbers are written in inputs: how to read one, ``None`` for other bytes, and how to write one."""


def _fields(cell: Cell, leaf: Leaf, current: int, wanted: int) -> Iterator[dict[int, Any]]:
    """Change the bits of a byte that are the operand."""
    byte = leaf.data[cell.at]
    for shift in range(8):
        if byte >> shift == current or (byte >> shift and current and byte >> shift & current == current):
            high = current.bit_length() + 4
            other = byte & ~(((1 << high) - 1) << shift) | wanted << shift
            if 0 <= other < 0x100 and other != byte:
                yield from _changed(cell.leaf, leaf, leaf.data[: cell.at] + bytes((other,)) + leaf.data[cell.at + 1 :])


def _lengthened(
    cell: Cell, leaf: Leaf, weight: int, current: int, wanted: int, bits: int
) -> Iterator[dict[int, Any]]:  # fmt: skip
    """Change the length of a sequence, or repeat or remove equal bytes, so that the operand is the wanted one."""
    delta = (wanted - current) % (1 << bits)
    for missing in (delta, delta - (1 << bits)):
        if not weight or missing % weight:
            continue
        more, data = missing // weight, leaf.data
        if cell.way == "length":
            if -len(data) <= more < 0:
                yield from _changed(cell.leaf, leaf, data[:more])
            elif 0 < more <= _MAX_LENGTH_BYTES:
                fill = data[-1:] if data[-1:].isascii() else b"a"
                yield from _changed(cell.leaf, leaf, data + (fill or b"a") * more)
                if not isinstance(leaf.value, str):
                    yield from _changed(cell.leaf, leaf, data + bytes(more))
        elif 0 < more <= _MAX_REPEATED_BYTES:
            yield from _changed(
                cell.leaf, leaf, data[: cell.at] + data[cell.at : cell.at + 1] * more + data[cell.at :]
            )  # fmt: skip
