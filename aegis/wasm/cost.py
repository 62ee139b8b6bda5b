"""Estimate the time to compile one function from its bytes.

Compilation time is about linear in the size of ordinary code. Three terms are not: locals times branches, because a
variable is carried past every branch in its live range (F19); block values times branches; and branches squared,
because the fuel counter is a variable that is live everywhere. Estimates are in microseconds on one core. The factors
were fitted to artificial worst cases, kept in ``tests/security/test_compiling.py``: superlinear work is overestimated;
straight-line code can take three times the estimate, and ``function_size`` bounds it. The cost of exceptions is
underestimated: only the limits of a compile worker bound it.
"""

from __future__ import annotations

from collections.abc import Sequence

from aegis.support.lean import NamedTuple
from aegis.wasm.binary import BinaryReader, Malformed
from aegis.wasm.instructions import BranchTable, Patterns, TryTable, runs
from aegis.wasm.liveness import Liveness

__all__ = ["CompileCost", "FunctionBody", "Weights", "compile_cost", "exact", "rough"]

_LOOP, _GROW = 3, 4
_EDGE_MICROSECONDS = 5
"""The cost of an exceptional edge in ordinary code. In the worst case it is 30 times as much for each local, so modules
with exceptions are compiled only in workers, whose time and memory are limited."""
_OPENING, _END = frozenset((0x02, 0x03, 0x04)), 0x0B
_THROWING = frozenset((0x08, 0x0A, 0x10, 0x11, 0x12, 0x13))
"""Calls and throws."""
_EXACT_FROM_MICROSECONDS = 100_000
"""Rough estimates above this are replaced by exact ones."""


class FunctionBody(NamedTuple):
    """The code of a function: start and end of its instructions, its size in bytes, and its locals and parameters."""

    start: int
    end: int
    size: int
    locals: int


class CompileCost(NamedTuple):
    """An estimate and its terms."""

    microseconds: int
    branches: int
    carried: int
    """Pairs of a local and a branch in its live range."""
    values: int
    """Parameters and results of all blocks."""
    depth: int
    """The nesting depth; in a rough estimate, an upper bound of it."""
    edges: int = 0
    """Pairs of a call and a catch clause around it."""


class Weights(dict[bytes, int]):
    """A cache of the weight of each token: branches in the low 32 bits, block values above.

    ``known`` has the patterns of the tokens.
    """

    def __init__(self, types: Sequence[int], known: Patterns) -> None:
        self.types, self.known = types, known

    def __missing__(self, token: bytes) -> int:
        weight = self[token] = _weight(token, self.types, tries=self.known.with_tries)
        return weight


def _weight(token: bytes, types: Sequence[int], *, tries: bool) -> int:
    if not token or token in (b"\x00", b"\x0b"):
        return 0
    match token[0]:
        case 0x02 | 0x03 | 0x04:
            return (_LOOP if token[0] == 3 else 1) + (_values(token, types) << 32)
        case 0x05 | 0x0C | 0x0D | 0x0F | 0x11 | 0x13 | 0x25 | 0x26:
            return 1
        case 0x08 | 0x0A if tries:
            return 1
        case 0x40:
            return _GROW
        case 0xFC if len(token) > 1:
            return _GROW if token[1] & 0x7F == 0x0F else 2  # the opcode may be padded
    raise Malformed("")


def _values(token: bytes, types: Sequence[int]) -> int:
    """Return the number of parameters and results of a block, from its block type (5.4.1)."""
    if len(token) == 2 and token[1] >= 0x40:
        return int(token[1] != 0x40)
    index = BinaryReader(token, 1).leb(33)
    return types[index] if index < len(types) else 0


def compile_cost(data: bytes, body: FunctionBody, weights: Weights, nesting: int) -> CompileCost:
    """Estimate a function roughly, and exactly if the rough estimate is high or the nesting may exceed its limit."""
    found = rough(data, body, weights)
    if found.microseconds > _EXACT_FROM_MICROSECONDS or found.branches > nesting:
        return exact(data, body, found, weights.known)
    return found


def rough(data: bytes, body: FunctionBody, weights: Weights) -> CompileCost:
    """Estimate with the assumption that every local is live in the whole function."""
    edges = 0
    try:
        total = sum(map(weights.__getitem__, weights.known.branches.findall(data, body.start, body.end)))
    except Malformed:  # a table of labels, or an unknown instruction
        total, edges = _with_tables(data, body, weights)
    branches, values = total & 0xFFFFFFFF, total >> 32
    carried = branches * min(body.locals, body.size // 2)
    return _estimate(body, branches, values, carried, carried, branches, edges)


def _with_tables(data: bytes, body: FunctionBody, weights: Weights) -> tuple[int, int]:
    """Return the total weight, and the number of exceptional edges."""
    total, tries = 0, False
    for run in runs(data, body.start, body.end, weights.known, weights.known.branches):
        if isinstance(run, BranchTable):
            total += run.branches
        elif isinstance(run, TryTable):
            total, tries = total + weights[run.block] + run.clauses, True
        else:
            total += sum(map(weights.__getitem__, run))
    return total, _caught(data, body, weights.known) if tries else 0


def _caught(data: bytes, body: FunctionBody, known: Patterns) -> int:
    """Return the number of pairs of a call and a catch clause around it: the compiler creates an edge for each."""
    edges = clauses = 0
    opened: list[int] = []
    for run in runs(data, body.start, body.end, known, known.tries):
        if isinstance(run, TryTable):
            opened.append(run.clauses)
            clauses += run.clauses
            continue
        for token in () if isinstance(run, BranchTable) else filter(None, run):
            if token[0] in _OPENING:
                opened.append(0)
            elif token[0] == _END:
                clauses -= opened.pop() if opened else 0
            elif token[0] in _THROWING:
                edges += clauses
    return edges


def _estimate(
    body: FunctionBody, branches: int, values: int, carried: int, merged: int, depth: int, edges: int
) -> CompileCost:  # fmt: skip
    live = carried // branches if branches else 0
    work = 50 + body.size // 2 + branches * 20 + values + edges * _EDGE_MICROSECONDS
    work += body.size**2 // 250_000 + branches**2 // 100
    work += carried * 6 // 10 + min(merged, carried) * live * 13 // 100 + values * branches * 4 // 100
    return CompileCost(work, branches, carried, values, depth, edges)


def exact(data: bytes, body: FunctionBody, found: CompileCost, known: Patterns) -> CompileCost:
    """Estimate with the live ranges of the locals, followed through blocks and loops."""
    lives = Liveness(body.locals)
    for run in runs(data, body.start, body.end, known, known.accesses):
        if isinstance(run, BranchTable):
            lives.branches += run.branches
        elif isinstance(run, TryTable):
            lives.read([run.block])
            lives.branches += run.clauses
        else:
            lives.read(run)
    return _estimate(body, lives.branches, found.values, lives.carried(), lives.merged, lives.deepest, found.edges)
