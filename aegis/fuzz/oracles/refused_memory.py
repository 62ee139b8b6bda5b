"""Tell a trap after a refused ``memory.grow`` from other traps: it is an exceeded limit, not a fault of its own.

The engine reports a refused growth only to the guest, which usually traps then. A campaign runs without exact memory
accounting, which is slow, so a test case that trapped runs once more with it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aegis.errors import GuestTrap, MemoryExceeded
from aegis.fuzz.case import Trace
from aegis.fuzz.causes import signature_of

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["TrapCheck"]

_CODES = frozenset({"unreachable", "memory-out-of-bounds", "table-out-of-bounds"})
"""Trap codes of guests after a refused growth, as in :mod:`aegis.engine.call.classify`."""
_MAX_CHECKED_CALLS = 16
"""Most checks of traps with one signature in a chunk: a guest that often traps would be fuzzed at half the speed."""


class TrapCheck:
    """Runs test cases that trapped again, a bounded number of times; ``bounded=False`` always."""

    def __init__(self, *, bounded: bool = True) -> None:
        self._bounded = bounded
        self._checks: Counter[str] = Counter()
        self._true_traps: set[str] = set()

    def begin(self) -> None:
        """Start a chunk. Its checks must not depend on those of the chunks that this process ran before."""
        self._checks.clear()
        self._true_traps.clear()

    def judged(self, target: Target, trace: Trace) -> Trace | None:
        """Return the trace, with a :class:`~aegis.errors.MemoryExceeded` in place of a trap after a refused growth.

        Return ``None`` if all checked traps of this signature were refused growths: the finding is known then.
        """
        error = trace.results[-1].error
        if not isinstance(error, GuestTrap) or error.code not in _CODES or not target.grows:
            return trace
        if trace.exact is not None:
            return trace.exact
        signature = f"{trace.step(trace.last)} {signature_of(trace.results[-1])}"
        self._checks[signature] += 1
        if self._bounded and self._checks[signature] > _MAX_CHECKED_CALLS:
            return trace if signature in self._true_traps else None
        again = target.run(trace.reached(), target.counting)
        same_step = len(again.results) == len(trace.results)
        trace.exact = again if same_step and isinstance(again.results[-1].error, MemoryExceeded) else trace
        if trace.exact is trace:
            self._true_traps.add(signature)
        return trace.exact
