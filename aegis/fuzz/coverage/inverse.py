"""Operands computed backwards: the value that an argument must have so that a comparison is true.

A key may be multiplied, rotated and mixed with itself before it is compared; then no small change of it brings the
operand nearer to the wanted one. The operations of one call are recorded with their operands. The operation that made
an operand is the one whose result it is, and most have an inverse. So the wanted value goes back from the comparison,
one operation after another, to a value that occurs in the arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from aegis.fuzz.coverage.operands import Pair

if TYPE_CHECKING:
    from aegis.wasm.comparisons import Operands

__all__ = ["LEAST_WIDE", "inverted"]

LEAST_WIDE = 1 << 16
"""Least value that is looked for among results of operations: smaller ones occur by chance."""
_MAX_VALUES = 96
"""Most values on the ways back from one comparison."""
_HALF = (1 << 32) - 1


def inverted(records: Sequence[Operands], bits: int, found: int, wanted: int) -> Iterator[Pair]:
    """Yield the values of a call that lead to the operand ``found``, each with the value that leads to ``wanted``."""
    made: dict[int, list[tuple[Operands, bool]]] = {}
    for one in records:
        forward = _FORWARD.get(one.kind)
        if forward is not None:
            result = forward(one.left, one.right, one.bits) & _mask(one.bits)
            made.setdefault(result, []).append((one, False))
            if result > _HALF:
                made.setdefault(result & _HALF, []).append((one, True))
    ways = deque([Pair(bits, False, found, wanted)])
    seen = {found}
    while ways and len(seen) < _MAX_VALUES:
        way = ways.popleft()
        yield way
        for one, wrapped in made.get(way.found, ()):
            goal = way.wanted
            if wrapped:  # the upper half of a result may be anything: keep it
                goal |= _FORWARD[one.kind](one.left, one.right, one.bits) & _mask(one.bits) & ~_HALF
            if goal > _mask(one.bits):
                continue
            for value, other in _back(one, goal, made):
                if value >= LEAST_WIDE and value not in seen:
                    seen.add(value)
                    ways.append(Pair(one.bits, False, value, other & _mask(one.bits)))


def _mask(bits: int) -> int:
    return (1 << bits) - 1


def _rotated(value: int, by: int, bits: int) -> int:
    by %= bits
    return (value << by | value >> (bits - by)) & _mask(bits)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


_FORWARD: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, bits: a + b,
    "sub": lambda a, b, bits: a - b,
    "mul": lambda a, b, bits: a * b,
    "and": lambda a, b, bits: a & b,
    "or": lambda a, b, bits: a | b,
    "xor": lambda a, b, bits: a ^ b,
    "shl": lambda a, b, bits: a << b % bits,
    "shr_u": lambda a, b, bits: a >> b % bits,
    "shr_s": lambda a, b, bits: _signed(a, bits) >> b % bits,
    "rotl": lambda a, b, bits: _rotated(a, b, bits),
    "rotr": lambda a, b, bits: _rotated(a, bits - b % bits, bits),
}


def _back(one: Operands, goal: int, made: dict[int, list[tuple[Operands, bool]]]) -> Iterator[tuple[int, int]]:
    """Yield an operand of an operation and the value for which its result is ``goal``, if the other one stays."""
    a, b, bits = one.left, one.right, one.bits
    mask, by = _mask(bits), b % bits
    match one.kind:
        case "add":
            yield from ((a, goal - b), (b, goal - a))
        case "sub":
            yield from ((a, goal + b), (b, a - goal))
        case "mul":
            for value, factor in ((a, b), (b, a)):
                zeros = (factor & -factor).bit_length() - 1
                if factor and goal % (1 << zeros) == 0:
                    yield value, (goal >> zeros) * pow(factor >> zeros, -1, 1 << bits)
        case "xor":
            for value, other in ((a, b), (b, a)):
                shift = _shift(value, other, made)
                yield value, goal ^ other if shift is None else _unmixed(goal, *shift, bits)
        case "or" if a & b == 0:
            for value, other in ((a, b), (b, a)):
                turned = _turned(value, other, made)
                if turned is not None:
                    yield turned[0], _rotated(goal, bits - turned[1], bits)
                elif goal & other == other:
                    yield value, goal & ~other
        case "and":
            for value, other in ((a, b), (b, a)):
                if goal & ~other == 0:
                    yield value, value & ~other | goal
        case "shl" if goal & _mask(by) == 0:
            yield a, goal >> by | a & ~(mask >> by)
        case "shr_u" | "shr_s" if goal >> (bits - by) == 0 or one.kind == "shr_s":
            yield a, goal << by | a & _mask(by)
        case "rotl":
            yield a, _rotated(goal, bits - by, bits)
        case "rotr":
            yield a, _rotated(goal, by, bits)


def _shift(value: int, other: int, made: dict[int, list[tuple[Operands, bool]]]) -> tuple[str, int] | None:
    """Return how ``other`` is ``value`` shifted, as in ``x ^ x >> 32``."""
    for one, wrapped in made.get(other, ()):
        if not wrapped and one.left == value and one.kind in ("shl", "shr_u") and one.right % one.bits:
            return one.kind, one.right % one.bits
    return None


def _unmixed(goal: int, kind: str, by: int, bits: int) -> int:
    """Return the x for which ``x ^ x << by``, or ``x ^ x >> by``, is ``goal``."""
    found = goal
    for _ in range(bits // by):
        found = goal ^ (found << by & _mask(bits) if kind == "shl" else found >> by)
    return found


def _turned(value: int, other: int, made: dict[int, list[tuple[Operands, bool]]]) -> tuple[int, int] | None:
    """Return x and a number of bits if ``value`` is x shifted left by it, and ``other`` the bits shifted out."""
    for one, _ in made.get(value, ()):
        for two, _ in made.get(other, ()):
            by, rest = one.right % one.bits, two.right % two.bits
            if (one.kind, two.kind, one.left, by + rest) == ("shl", "shr_u", two.left, one.bits):
                return one.left, by
    return None
