"""The control flow of one function: which of its code was executed, inferred from counters of its edges.

The instructions that change the control flow divide a body into runs of code. From the entry, the flow is followed
through each run to the next ones; after a condition, only along the edges that were counted. So a run counts as
executed if its first instruction was; a call in it that trapped may have ended it early. Flow by exceptions is unknown.

Source: core specification 3.0, section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from aegis.wasm.binary import BinaryReader, Malformed
from aegis.wasm.instructions import BLOCK, BR_TABLE, END, IF, LOOP, TRY_TABLE, up_to
from aegis.wasm.rewrite import BR_IF

__all__ = ["executed"]

_ELSE, _BR, _RETURN = 0x05, 0x0C, 0x0F
_STOPS = frozenset((0x00, 0x08, 0x0A, _RETURN, 0x12, 0x13))
"""Unreachable, throws, ``return`` and tail calls."""
_FLOW = frozenset((*_STOPS, BLOCK, LOOP, IF, _ELSE, END, _BR, BR_IF, BR_TABLE, TRY_TABLE))


class _CodeRun(NamedTuple):
    """A run of code that ends with the instruction ``op`` at the offset ``at``; ``labels`` are its branch depths."""

    start: int
    at: int
    end: int
    op: int
    labels: tuple[int, ...]


def executed(
    data: bytes, start: int, end: int, taken: Callable[[int], Collection[int]], proposals: Collection[str] = ()
) -> list[tuple[int, int]]:
    """Return the executed ranges of the function body from ``start`` to ``end`` in a module, ascending.

    ``taken`` returns, for the offset of a conditional instruction, the numbers of the edges that were counted, as
    :class:`aegis.wasm.edges.Site` numbers its counters. The function was entered.
    """
    nodes = _nodes(data, start, end, proposals)
    nexts = _successors(nodes, taken)
    seen = [False] * len(nodes)
    open_ = [0] if nodes else []
    while open_:
        place = open_.pop()
        if place < len(nodes) and not seen[place]:
            seen[place] = True
            open_ += nexts(place)
    return [(node.start, node.end) for node, was in zip(nodes, seen, strict=True) if was]


def _nodes(data: bytes, start: int, end: int, proposals: Collection[str]) -> list[_CodeRun]:
    r = BinaryReader(data, start, end)
    for _ in range(r.count()):  # the locals
        r.leb()
        r.byte()
    match = up_to(b"".join(b"\\x%02x" % op for op in sorted(_FLOW)), frozenset(proposals)).match
    found: list[_CodeRun] = []
    begin, at = start, r.at  # the first run has the declarations of locals, to which compilers give a line too
    while begin < end:
        run = match(data, at, end)
        at = run.end() if run else at
        if at >= end or data[at] not in _FLOW:
            raise Malformed(f"unknown instruction at byte {at:,}")
        op, labels, after = _read(BinaryReader(data, at, end))
        found.append(_CodeRun(begin, at, after, op, labels))
        begin = at = after
    return found


def _read(r: BinaryReader) -> tuple[int, tuple[int, ...], int]:
    op = r.byte()
    labels: tuple[int, ...] = ()
    if op in (BLOCK, LOOP, IF):
        r.leb(40)  # the block type, a signed integer
    elif op in (_BR, BR_IF):
        labels = (r.leb(),)
    elif op == BR_TABLE:
        labels = tuple(r.leb() for _ in range(r.count() + 1))
    elif op == TRY_TABLE:
        r.leb(40)
        for _ in range(r.count()):
            if r.byte() < 2:
                r.leb()
            r.leb()
    elif op in (0x08, 0x12):
        r.leb()
    elif op == 0x13:
        r.leb()
        r.leb()
    return op, labels, r.at


def _successors(
    nodes: list[_CodeRun], taken: Callable[[int], Collection[int]]
) -> Callable[[int], list[int]]:  # fmt: skip
    """Return the function from the number of a run to those of the runs that followed it."""
    ends: dict[int, int] = {}  # for each block, the number of its end; the function's own block is -1
    elses: dict[int, int] = {}
    innermost: list[int] = []  # for each run, the innermost block around its last instruction; -2 for none
    opened: list[int] = [-1]
    for place, node in enumerate(nodes):
        innermost.append(opened[-1] if opened else -2)
        if node.op in (BLOCK, LOOP, IF, TRY_TABLE):
            opened.append(place)
        elif node.op == _ELSE and len(opened) > 1:
            elses[opened[-1]] = place
        elif node.op == END and opened:
            ends[opened.pop()] = place

    def target(place: int, depth: int) -> int:
        block = innermost[place]
        while depth and block >= 0:
            block, depth = innermost[block], depth - 1
        if depth or block < -1:
            raise Malformed("a label does not exist")
        if block >= 0 and nodes[block].op == LOOP:
            return block + 1
        return ends.get(block, len(nodes)) + 1

    def nexts(place: int) -> list[int]:
        node = nodes[place]
        op = node.op
        if op in _STOPS:
            return []
        if op == _BR:
            return [target(place, node.labels[0])]
        if op == _ELSE:  # the end of the true branch
            return [ends.get(innermost[place], len(nodes)) + 1]
        if op == IF:
            false = elses.get(place, ends.get(place, len(nodes))) + 1
            return [(place + 1, false)[edge] for edge in taken(node.at) if edge < 2]
        if op == BR_IF:
            return [target(place, node.labels[0]) if edge == 0 else place + 1 for edge in taken(node.at)]
        if op == BR_TABLE:
            return [target(place, node.labels[min(edge, len(node.labels) - 1)]) for edge in taken(node.at)]
        return [place + 1]

    return nexts
