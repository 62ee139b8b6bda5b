"""Instrument a core module for coverage: count its edges.

Each function counts its entries, and each ``if``, ``br_if`` and ``br_table`` counts where it went. Together they tell
every edge of the control flow, except those of exceptions. A counter is a byte that stops at 255. The code is
branch-free. Results and traps of the guest stay the same; its fuel does not, because probes burn fuel too: take fuel
from the original module.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, NamedTuple

from aegis.wasm.instructions import BR_TABLE, IF
from aegis.wasm.rewrite import BR_IF, Probes, leb, memarg, rewritten, signed

__all__ = ["Counted", "Site", "count_edges"]

_MAX_TABLE_ENTRIES = 1024
"""Counters of one ``br_table``; the last counts all further targets."""


class Site(NamedTuple):
    """A place that counts: ``counters`` bytes from number ``first`` on.

    ``kind`` is ``entry``, ``if``, ``br_if`` or ``br_table``. The first counter of an ``if`` or a ``br_if`` is that of a
    true condition, the second that of a false one; those of a ``br_table`` are for its targets, the default last.
    ``offset`` is that of the instruction in the original module, of an entry that of the first instruction.
    """

    function: int
    offset: int
    kind: str
    first: int
    counters: int


class Counted(NamedTuple):
    """An instrumented module; ``counters`` is the number of bytes in use at the start of the added memory."""

    data: bytes
    sites: tuple[Site, ...]
    counters: int


def count_edges(data: bytes, proposals: Collection[str] = ()) -> Counted:
    """Return a module with counters of its edges; errors are those of :func:`aegis.wasm.rewrite.rewritten`."""
    edges = _Edges()
    made = rewritten(data, edges, proposals)
    return Counted(made, tuple(edges.sites), edges.counters)


class _Edges(Probes):
    opcodes: ClassVar[frozenset[int]] = frozenset((IF, BR_IF, BR_TABLE))
    locals: ClassVar[int] = 3  # the condition, the address of the counter, and its new value

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.counters = 0

    def entry(self, function: int, offset: int, local: int) -> bytes:
        return b"\x41\x00\x41\x00" + self._increment(self._site(function, offset, "entry", 1), local)

    def before(self, function: int, offset: int, op: int, targets: int, local: int) -> bytes:
        condition, address = leb(local), leb(local + 1)
        if op == BR_TABLE:
            count = min(targets + 1, _MAX_TABLE_ENTRIES)
            first = self._site(function, offset, "br_table", count)
            last = b"\x41" + signed(count - 1)
            # The smaller of the operand and the number of the last counter, by i32.lt_u and select.
            place = b"\x22" + condition + last + b"\x20" + condition + last + b"\x49\x1b"
        else:
            first = self._site(function, offset, "if" if op == IF else "br_if", 2)
            place = b"\x22" + condition + b"\x45"  # i32.eqz: 0 for true, 1 for false
        return place + b"\x22" + address + b"\x20" + address + self._increment(first, local) + b"\x20" + condition

    def _increment(self, counter: int, local: int) -> bytes:
        """Return code that increments a counter; the stack has the address twice."""
        at, value = memarg(self.memory, counter), leb(local + 2)
        # i32.load8_u, + 1, minus bit 8 of the sum, so that it stays 255, i32.store8
        return b"\x2d" + at + b"\x41\x01\x6a\x22" + value + b"\x20" + value + b"\x41\x08\x76\x6b\x3a" + at

    def _site(self, function: int, offset: int, kind: str, counters: int) -> int:
        first = self.counters
        self.sites.append(Site(function, offset, kind, first, counters))
        self.counters += counters
        return first

    def size(self) -> int:
        return self.counters
