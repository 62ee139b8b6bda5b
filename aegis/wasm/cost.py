"""How much work the compiler has with one function, estimated from its bytes.

Compiling is about linear in the size of sane code. What is not: a variable is carried past every branch within its
life, so locals times branches (F19), values of blocks times branches, and branches times themselves, for fuel is a
variable that lives everywhere. Estimates are in microseconds on one core. The factors were fitted to bombs of each
kind, which ``tests/security/test_compiling.py`` keeps: where work grows faster than the code they err upwards; straight
code can take three times as long, and is bounded by its size.
"""

from __future__ import annotations

from collections.abc import Sequence

from aegis.support.lean import NamedTuple
from aegis.wasm.binary import Malformed, Reader
from aegis.wasm.instructions import ACCESSES, BRANCHES, Table, runs
from aegis.wasm.liveness import Lives

__all__ = ["Body", "Effort", "Weights", "effort", "exact", "rough"]

_LOOP, _GROW = 3, 4
_EXACT_FROM = 100_000
"""Microseconds from which a rough estimate is not good enough."""


class Body(NamedTuple):
    """Where a function's code lies, how many bytes it has with its locals, and how many locals and parameters."""

    start: int
    end: int
    size: int
    locals: int


class Effort(NamedTuple):
    """An estimate, and what it is made of."""

    microseconds: int
    branches: int
    carried: int
    """Locals carried past branches: the sum over both."""
    values: int
    """Parameters and results of blocks."""
    depth: int
    """The deepest nesting, or something larger when nobody counted."""


class Weights(dict[bytes, int]):
    """What each token counts for: branches in the low 32 bits, values of blocks above. Learned as they come."""

    def __init__(self, types: Sequence[int]) -> None:
        self.types = types

    def __missing__(self, token: bytes) -> int:
        weight = self[token] = _weight(token, self.types)
        return weight


def _weight(token: bytes, types: Sequence[int]) -> int:
    if not token or token in (b"\x00", b"\x0b"):
        return 0
    match token[0]:
        case 0x02 | 0x03 | 0x04:
            return (_LOOP if token[0] == 3 else 1) + (_values(token, types) << 32)
        case 0x05 | 0x0C | 0x0D | 0x0F | 0x11 | 0x13 | 0x25 | 0x26:
            return 1
        case 0x40:
            return _GROW
        case 0xFC if len(token) > 1:
            return _GROW if token[1] == 0x0F else 2
    raise Malformed("")


def _values(token: bytes, types: Sequence[int]) -> int:
    """The parameters and results of a block: none, one, or a type's (5.4.1)."""
    if len(token) == 2 and token[1] >= 0x40:
        return int(token[1] != 0x40)
    index = Reader(token, 1).leb(33)
    return types[index] if index < len(types) else 0


def effort(data: bytes, body: Body, weights: Weights, nesting: int) -> Effort:
    """Estimate a function: roughly, and exactly where that says too much, or where nesting might be too deep."""
    found = rough(data, body, weights)
    if found.microseconds > _EXACT_FROM or found.branches > nesting:
        return exact(data, body, found)
    return found


def rough(data: bytes, body: Body, weights: Weights) -> Effort:
    """Estimate as if every local lived from the first instruction to the last."""
    try:
        total = sum(map(weights.__getitem__, BRANCHES.findall(data, body.start, body.end)))
    except Malformed:  # a br_table, or what is no instruction
        total = _with_tables(data, body, weights)
    branches, values = total & 0xFFFFFFFF, total >> 32
    carried = branches * min(body.locals, body.size // 2)
    return _estimate(body, branches, values, carried, carried, branches)


def _with_tables(data: bytes, body: Body, weights: Weights) -> int:
    total = 0
    for run in runs(data, body.start, body.end, BRANCHES):
        total += run.branches if isinstance(run, Table) else sum(map(weights.__getitem__, run))
    return total


def _estimate(body: Body, branches: int, values: int, carried: int, merged: int, depth: int) -> Effort:
    live = carried // branches if branches else 0
    work = 50 + body.size // 2 + branches * 20 + values
    work += body.size**2 // 250_000 + branches**2 // 100
    work += carried * 6 // 10 + min(merged, carried) * live * 13 // 100 + values * branches * 4 // 100
    return Effort(work, branches, carried, values, depth)


def exact(data: bytes, body: Body, found: Effort) -> Effort:
    """Estimate with the life of each local followed through blocks and loops."""
    lives = Lives(body.locals)
    for run in runs(data, body.start, body.end, ACCESSES):
        if isinstance(run, Table):
            lives.branches += run.branches
        else:
            lives.read(run)
    return _estimate(body, lives.branches, found.values, lives.carried(), lives.merged, lives.deepest)
