"""What a test case covers, for the corpus: it is minimised, and selected, by the edges that it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from aegis.fuzz.case import Case, Finding, Trace
from aegis.fuzz.coverage.edge_map import bits_of
from aegis.fuzz.oracles.base import Stateless

if TYPE_CHECKING:
    from aegis.fuzz.coverage.copies import Copies
    from aegis.fuzz.target import Target

__all__ = ["EDGES", "EQUAL", "FIRST", "Covers", "edges_of"]

EDGES = " edges "
"""A part of the signatures of behaviours that reached new edges."""
FIRST = f"{EDGES}first "
"""The same, if one of the edges had never been reached, and not only more often than before."""
EQUAL = " returned equal "
"""A part of the signatures of behaviours that made the operands of a comparison equal for the first time."""


def edges_of(copies: Copies, case: Case) -> set[str]:
    """Return the edges that a test case reaches, with the classes of how often, as names."""
    copies.counting.run(case)
    found = 0
    for counters in copies.counting.written:
        found |= bits_of(counters)
    names = set()
    while found:
        low = found & -found
        names.add(f"edge {low.bit_length() - 1}")
        found ^= low
    return names


class Covers(Stateless):
    """An oracle that rejects test cases whose last call reaches all edges of a given one, so that it can be minimised.

    It must reach them about as often, too: a class of a counter is a reason to keep a test case.
    """

    name: ClassVar[str] = "covers"
    sentence: ClassVar[str] = "The last call does not reach these edges."
    every: ClassVar[int] = 0
    cost: ClassVar[int] = 2

    def __init__(self, copies: Copies, case: Case) -> None:
        self._copies = copies
        self._function = case.steps[-1].function
        self._bits = self._reached(case)

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        case = trace.case
        if len(trace.results) < len(case.steps) or not case.steps or case.steps[-1].function != self._function:
            return None
        if not self._bits or self._bits & ~self._reached(case):
            return None
        return Finding(self.name, self.name, "", case, trace.results[-1])

    def _reached(self, case: Case) -> int:
        """Return the bits that the last call sets; 0 if it is not made."""
        copy = self._copies.counting
        copy.run(case)
        return bits_of(copy.written[-1]) if len(copy.written) == len(case.steps) and case.steps else 0
