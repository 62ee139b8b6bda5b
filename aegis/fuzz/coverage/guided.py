"""The search guided by the edges of the guest's code and by the operands that it compares.

Each test case runs in the copy of the guest that counts edges. Most repeat known edges, and use no more than calls did
before; they are only counted. All others also run in the original guest, and only there are behaviours noted and do
oracles judge. So findings, the fuel of behaviours, ``deterministic`` and ``scales`` never see instrumented code. The
results of both runs are the same. A test case that reached new edges is kept, and runs once more in the copy that
records operands; these suggest the next test cases.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from hashlib import blake2s
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aegis.errors import GuestTrap
from aegis.fuzz.case import Case, Step, StepResult, Trace
from aegis.fuzz.causes import signature_of
from aegis.fuzz.coverage.covers import EDGES
from aegis.fuzz.coverage.edge_map import EdgeMap, bits_of
from aegis.fuzz.coverage.operands import matched_cases, pairs_of
from aegis.fuzz.oracles import Differential, HostUntouched, NoLimit, NoTrap, RoundTrip, Steady
from aegis.fuzz.search import Behaviour, ChunkResult, Search

if TYPE_CHECKING:
    from aegis.fuzz.coverage.copies import Copies
    from aegis.fuzz.oracles import Oracle

__all__ = ["GuidedSearch"]

_VALUE_ORACLES = (NoTrap, NoLimit, RoundTrip, Differential, Steady, HostUntouched)
"""Oracles for which results and endings, which instrumentation does not change, decide whether to look closer."""
_MAX_SUGGESTED_CASES = 512
"""Most test cases that wait for their run; later ones replace the oldest."""
_MAX_NEW_CASES = 96
"""Most test cases that the comparisons of one test case suggest."""
_MAX_LEARNED_VALUES = 16
"""Most operands of one test case for the dictionary: those of loops would displace what the guest returned."""


class GuidedSearch(Search):
    """A search that is also guided by ``copies`` of the target; ``edges`` are those reached by earlier chunks.

    ``cost`` has three times in seconds: of instrumented runs whose test cases also ran in the original, of these runs
    in the original, and of all runs that a search without coverage does not make.
    """

    def __init__(self, copies: Copies, edges: bytes, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **options)
        self.copies = copies
        self._map = EdgeMap(copies.size, edges)
        self._usual: set[tuple[Any, ...]] = set()
        """What instrumented calls used that returned, and how others trapped."""
        self._new_usual: list[str] = []
        self._suggested: deque[Case] = deque(maxlen=_MAX_SUGGESTED_CASES)
        self._alternate = False
        self.cost = (0.0, 0.0, 0.0)

    def finish(self, batch: ChunkResult) -> None:
        batch.edges, batch.cost, batch.usual = self._map.bits(), self.cost, self._new_usual

    def next_case(self, rng: random.Random) -> Case:
        """Return a suggested test case every other time, if there is one."""
        self._alternate = not self._alternate
        if self._suggested and self._alternate:
            return self._suggested.popleft()
        return super().next_case(rng)

    def explore(self, case: Case, batch: ChunkResult) -> None:
        copy = self.copies.counting
        began = perf_counter()
        trace = copy.run(case)
        instrumented = perf_counter() - began
        written = list(copy.written)
        fresh = [(n, bits) for n, counters in enumerate(written) if (bits := self._map.fresh(counters))]
        if not fresh and self._is_usual(trace):
            self.count(trace, batch)
            due = list(self.due(trace))
            if all(isinstance(oracle, _VALUE_ORACLES) for oracle in due):
                self._ask_about_values(due, trace, batch)
                return
            original = self._again(case, instrumented)
            for oracle in due:
                self.ask(oracle, original, batch)
            return
        original = self._again(case, instrumented)
        self.judge(original, batch)
        for number, bits in fresh:
            if number < min(len(original.results), len(case.steps)):
                self._keep(original, number, bits, batch)

    def _again(self, case: Case, instrumented: float) -> Trace:
        """Run a test case in the original guest, and note what it cost."""
        began = perf_counter()
        trace = self.target.run(case)
        seconds = perf_counter() - began
        self.cost = self.cost[0] + instrumented, self.cost[1] + seconds, self.cost[2] + seconds
        return trace

    def _is_usual(self, trace: Trace) -> bool:
        """Return whether all calls used what calls used before, or trapped like an earlier one; remember both.

        A call that met a limit is not usual: without instrumentation it may return.
        """
        usual = bool(trace.results)
        for step, result in zip(trace.case.steps, trace.results, strict=False):
            if result.error is None:
                key = _magnitudes(step, result)
            elif isinstance(result.error, GuestTrap):
                key = step.function, signature_of(result)
            else:
                return False
            if key not in self._usual:
                self._usual.add(key)
                text = f"usual {' '.join(map(str, key))}"
                if text not in self._known:  # nor has an earlier chunk of the campaign seen it
                    self._known.add(text)
                    self._new_usual.append(text)
                    usual = False
        return usual

    def _ask_about_values(self, due: Sequence[Oracle], trace: Trace, batch: ChunkResult) -> None:
        """Ask oracles about an instrumented trace, and again about the original one before a finding counts."""
        original: Trace | None = None
        for oracle in due:
            found = oracle.judge(self.target, trace)
            if found is not None and found.signature not in self._known:
                original = original or self._again(trace.case, 0.0)
                self.ask(oracle, original, batch)

    # -- new edges -----------------------------------------------------------------------------

    def _keep(self, trace: Trace, number: int, bits: int, batch: ChunkResult) -> None:
        """Keep a test case that reached new edges, with the steps that matter."""
        step, result = trace.case.steps[number], trace.results[number]
        export = self.target.exports.get(step.function)
        if export is None or result.status == "usage":
            return
        began = perf_counter()
        digest = blake2s(bits.to_bytes(self._map.size, "little"), digest_size=8).hexdigest()
        signature = f"{step.function}{EDGES}{digest}"
        case = self.whole(trace, number, trace.case.closure(number), lambda one: self._reaches(one, bits), batch)
        size = export.size(step.arguments)
        batch.behaviours.append(Behaviour(signature, case, size, result.fuel or 0, result.memory, result.host_calls))
        batch.fresh[signature] = bits
        self._known.add(signature)
        self.maker.keep(case)
        self.maker.note_result(export, result, case)
        self._suggest(case)
        self.cost = self.cost[0], self.cost[1], self.cost[2] + perf_counter() - began

    def _reaches(self, case: Case, bits: int) -> bool:
        """Run a test case, and return whether its last step reaches edges."""
        copy = self.copies.counting
        copy.run(case)
        self.sequence_calls += len(copy.written)
        return len(copy.written) == len(case.steps) and bits_of(copy.written[-1]) & bits == bits

    def _suggest(self, case: Case) -> None:
        """Run a test case with records of comparisons, and suggest test cases for which operands would be equal."""
        copy = self.copies.comparing
        if copy is None:
            return
        copy.run(case)
        if len(copy.written) != len(case.steps):
            return
        pairs = pairs_of(self.copies.operands(copy.written[-1]))
        dictionary = self.target.dictionary
        suggested = []
        for one in matched_cases(case, pairs, self.target.exports):
            suggested.append(one)
            if len(suggested) >= _MAX_NEW_CASES:
                break
        self._suggested.extend(suggested)
        if dictionary is not None:
            for pair in pairs[:_MAX_LEARNED_VALUES]:
                if not pair.floating:
                    dictionary.learn_integer(pair.constant)


def _magnitudes(step: Step, result: StepResult) -> tuple[Any, ...]:
    """Return what a call used, by powers of two: edges tell smaller differences, and twice the fuel is worth a run."""
    return (
        step.function, result.declared, (result.fuel or 0).bit_length(), result.host_calls.bit_length(),
        result.memory.bit_length(),
    )  # fmt: skip
