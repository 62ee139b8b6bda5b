"""The search: it generates test cases, mutates those that showed new behaviour, and minimises findings.

Behaviour (see :func:`behaviour`) needs no instrumentation: a campaign without coverage is guided by it alone, and
:class:`aegis.fuzz.coverage.guided.GuidedSearch` adds the edges of the guest's code. The search is a function of the
seed: a chunk of a campaign runs the same calls on every machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, Step, StepResult, Trace, hurt
from aegis.fuzz.case_maker import CaseMaker
from aegis.fuzz.causes import signature_of
from aegis.fuzz.oracles import Scales
from aegis.fuzz.oracles.base import Stateless
from aegis.fuzz.plan import MAX_ARGUMENT_ITEMS
from aegis.fuzz.shrink import shrink
from aegis.fuzz.values.sequences import BULK_ITEMS
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.oracles import Oracle
    from aegis.fuzz.target import Target

__all__ = ["Behaves", "Behaviour", "ChunkResult", "Search", "amounts", "behaviour"]

_EXACT_AMOUNTS = 64
"""Amounts of fuel and host calls below this are distinguished exactly; above it, eight classes per doubling."""
_MAX_SCALING_CALLS = 3
"""Most calls per function that the oracle ``scales`` checks at the end of a chunk."""
_MAX_SCALING_STEPS = 4
_COSTLY_FUEL = 100_000
"""Fuel from which the cost of a call with large arguments matters."""
_MAX_SEQUENCE_ATTEMPTS = 24
"""Most runs in which a sequence that leads to a new behaviour loses the steps that do not matter."""
_SEQUENCE_SHARE, _MIN_SEQUENCE_CALLS = 0.12, 150
"""Calls for this, as a share of the calls of the chunk, and how many there may be at its start."""
_MAX_REPEATED_ENTRIES = 1 << 16
_PAGE_BITS = 16
_MAX_ERROR_CHARACTERS = 200
_SHRINK_SECONDS, _MIN_SHRINK_SECONDS = 10.0, 2.0
"""Longest time for the minimisation of a finding, and the time it still gets when the campaign's time is over."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A new behaviour: its signature, the test case that showed it, and the resources that the last call used."""

    signature: str
    case: Case
    size: int
    fuel: int
    memory: int
    host_calls: int

    @property
    def step(self) -> Step:
        """The call that showed the behaviour. The steps before it return the handles it uses."""
        return self.case.steps[-1]

    @property
    def short(self) -> bool:
        """Whether the call needs at most a few earlier steps, such as the constructor of its handle."""
        return len(self.case.steps) <= _MAX_SCALING_STEPS


@dataclass(slots=True)
class ChunkResult:
    """The result of one chunk."""

    chunk: int
    cases: int = 0
    seconds: float = 0.0
    calls: dict[str, dict[str, int]] = field(default_factory=dict)
    """For each export, the number of its calls by status."""
    errors: dict[str, str] = field(default_factory=dict)
    """For each export, the first error that it declared."""
    behaviours: list[Behaviour] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    points: list[tuple[str, int, int]] = field(default_factory=list)
    """Function, argument size and fuel of the calls with new behaviour, for the plot."""
    edges: bytes = b""
    """The edges reached so far, as in :mod:`aegis.fuzz.coverage.edge_map`; empty without coverage."""
    fresh: dict[str, int] = field(default_factory=dict)
    """For each behaviour that reached new edges, by signature, their bits."""
    usual: list[str] = field(default_factory=list)
    """What calls used or how they trapped, for the first time, in the instrumented guest."""
    cost: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The cost of coverage, see :attr:`aegis.fuzz.coverage.guided.GuidedSearch.cost`."""


def behaviour(function: str, result: StepResult) -> str:
    """Return the signature of a behaviour: how the call ended, and classes of its fuel, host calls and memory."""
    declared = " declared" if result.declared else ""
    used = f"{_amount_class(result.fuel or 0)} {_amount_class(result.host_calls)} {result.memory >> _PAGE_BITS}"
    return f"{function} {signature_of(result)} {used}{declared}"


class Behaves(Stateless):
    """An oracle that rejects exactly one behaviour, so that the shrinker can minimise the test case that shows it."""

    name: ClassVar[str] = "behaves"
    sentence: ClassVar[str] = "The last call does not show this behaviour."
    every: ClassVar[int] = 0
    cost: ClassVar[int] = 1

    def __init__(self, signature: str) -> None:
        self.signature = signature

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        """Check the last step only."""
        if len(trace.results) < len(trace.case.steps) or not trace.case.steps:
            return None
        last = trace.results[-1]
        alike = behaviour(trace.step(trace.last), last) == self.signature
        return Finding(self.name, self.signature, "", trace.case, last) if alike else None


class Search:
    """The search over one target.

    ``known`` has the signatures of findings and behaviours that are not new; ``corpus`` the test cases to start from;
    ``largest`` bounds the size of generated arguments. When ``stopped()`` is true, the chunk ends at the next case.
    ``report(chunk, calls)`` is called after each case.
    """

    def __init__(
        self, target: Target, oracles: Sequence[Oracle], *, seed: int, goal: str = "",
        known: frozenset[str] = frozenset(), corpus: Sequence[Case] = (), largest: int = MAX_ARGUMENT_ITEMS,
        stopped: Callable[[], bool] = lambda: False, report: Callable[[int, int], None] = lambda chunk, calls: None,
    ) -> None:  # fmt: skip
        self.target, self.oracles, self.seed, self.goal = target, oracles, seed, goal
        self._stopped, self._report = stopped, report
        self._asked = [oracle for oracle in oracles if oracle.every]
        self._runtime = target.watched if goal == "big" else None
        self._exports = list(target.exports.values())
        self._known = set(known)
        self._seen: set[tuple[Any, ...]] = set()
        self._repeated: set[tuple[Any, ...]] = set()
        """Amounts, before they are put into classes, of calls that returned and showed nothing new."""
        self._endless = {name for name in target.exports if any(map(self._known.__contains__, _endings(name)))}
        """Exports of which a finding says that some calls do not end: further ones get less of these."""
        slow = frozenset(name for name in self._endless if _endings(name)[0] in self._known)
        self.maker = CaseMaker(target, largest=largest, goal=goal, slow=slow)
        self.maker.start_from(corpus)
        self._turn = 0
        self.sequence_calls = 0
        """Calls made by :meth:`whole`."""
        self._until = float("inf")

    # -- one chunk -----------------------------------------------------------------------------

    def run(self, chunk: int, cases: int, until: float = float("inf")) -> ChunkResult:
        """Run one chunk of ``cases`` calls, or until ``until`` on the monotonic clock."""
        rng = random.Random(f"{self.seed}/{chunk}")
        batch = ChunkResult(chunk)
        self._until = until
        self._turn = rng.getrandbits(16)  # selects the test cases that oracles with ``every`` > 1 check
        for oracle in self.oracles:
            oracle.begin(chunk)
        began = time.monotonic()
        while batch.cases < cases and not self.over():
            self.explore(self.next_case(rng).first(cases - batch.cases), batch)
            self._report(chunk, batch.cases)
        self._check_scaling(batch)
        self.finish(batch)
        batch.seconds = time.monotonic() - began
        return batch

    def over(self) -> bool:
        """Return whether the chunk ends early, because the time is over or the campaign is stopped."""
        return time.monotonic() >= self._until or self._stopped()

    def finish(self, batch: ChunkResult) -> None:
        """Write to the result of a chunk what the search learned; nothing without coverage."""

    def next_case(self, rng: random.Random) -> Case:
        """Return the next test case."""
        return self.maker.case(rng)

    def explore(self, case: Case, batch: ChunkResult) -> None:
        """Run a test case and judge it."""
        hurried = self.hurries(case)
        trace = self.target.run(case, self.target.hurried if hurried else self._runtime)
        if hurried and hurt(trace):
            self.count(trace, batch)
        else:
            self.judge(trace, batch)

    def hurries(self, case: Case) -> bool:
        """Return whether a test case runs with less fuel, and fewer host calls and handles.

        It does if one of its calls is known to reach these limits, which takes as long as many other test cases.
        """
        return not self.goal and bool(self._endless) and any(step.function in self._endless for step in case.steps)

    def judge(self, trace: Trace, batch: ChunkResult) -> None:
        """Count a trace, note its behaviours, and ask the oracles."""
        self.count(trace, batch)
        usual = self._repeated
        for number, (step, result) in enumerate(zip(trace.case.steps, trace.results, strict=False)):
            if (step[0], result.declared, result.fuel, result.host_calls, result.memory) not in usual or result.ended:
                self._note(trace, number, batch)
        for oracle in self.due(trace):
            self.ask(oracle, trace, batch)

    def count(self, trace: Trace, batch: ChunkResult) -> None:
        """Count the calls of a trace, by their endings."""
        batch.cases += max(1, len(trace.results))
        self._turn += bool(trace.results)
        calls = batch.calls
        for step, result in zip(trace.case.steps, trace.results, strict=False):
            function, fuel = step[0], result.fuel
            status: str = result.status
            if fuel is not None and fuel > _COSTLY_FUEL and function in self.target.exports:
                self.maker.charge(self.target.exports[function], step, fuel)
            if result.declared:
                status = "declared"
                if function not in batch.errors:
                    batch.errors[function] = printable(repr(result.value), _MAX_ERROR_CHARACTERS)
            elif status == "usage":  # an earlier step did not return the handle: the guest was not called
                continue
            try:
                calls[function][status] += 1
            except KeyError:
                calls.setdefault(function, {}).setdefault(status, 1)

    def due(self, trace: Trace) -> Iterator[Oracle]:
        """Yield the oracles whose turn it is to judge the trace that was counted last."""
        for oracle in self._asked if trace.results else ():
            if self._turn % oracle.every == 0:
                yield oracle

    def ask(self, oracle: Oracle, trace: Trace, batch: ChunkResult) -> None:
        """Ask an oracle, and minimise what it finds."""
        found = oracle.judge(self.target, trace)
        if found is not None and found.signature not in self._known:
            self._known.add(found.signature)
            seconds = min(_SHRINK_SECONDS, max(_MIN_SHRINK_SECONDS, self._until - time.monotonic()))
            least = shrink(
                self.target, oracle, found, seconds=seconds, stopped=self._stopped, mend=self.mend, study=self.study
            )
            small = oracle.explained(self.target, least)
            self._known.add(small.signature)
            batch.findings.append(small)
            function = small.case.steps[-1].function if small.case.steps else ""
            if found.signature in _endings(function):
                self._endless.add(function)

    def mend(self, case: Case) -> Iterable[Case]:
        """Return test cases with fields such as checksums computed again; without coverage, none are known."""
        return ()

    def study(self, case: Case) -> None:
        """Learn which fields of a test case are computed from others, for :meth:`mend`."""

    # -- new behaviour -------------------------------------------------------------------------

    def _note(self, trace: Trace, number: int, batch: ChunkResult) -> None:
        result, step = trace.results[number], trace.case.steps[number]
        if result.status == "usage":  # an earlier step did not return the handle: the guest was not called
            return
        if result.error is None and not self.goal:
            # Most calls repeat a behaviour: compare integers before formatting a signature.
            key = amounts(step, result)
            if key in self._seen:
                if len(self._repeated) >= _MAX_REPEATED_ENTRIES:
                    self._repeated.clear()
                self._repeated.add((step.function, result.declared, result.fuel, result.host_calls, result.memory))
                return
            self._seen.add(key)
        export = self.target.exports.get(step.function)
        if export is None:
            return
        signature = behaviour(step.function, result)
        new = signature not in self._known
        if new or self.goal:
            size = export.size(step.arguments)
            self._aim(trace, number, result, size)
        case = trace.case.closure(number)
        if new:
            self._known.add(signature)
            case = self.whole(trace, number, case, lambda one: self._shows(one, signature), batch)
            batch.behaviours.append(
                Behaviour(signature, case, size, result.fuel or 0, result.memory, result.host_calls)
            )
            batch.points.append((step.function, size, result.fuel or 0))
            self.maker.keep(case)
        self.maker.note_result(export, result, case)

    def whole(
        self, trace: Trace, number: int, case: Case, shows: Callable[[Case], bool], batch: ChunkResult
    ) -> Case:  # fmt: skip
        """Return the steps that lead to a behaviour: ``case``, or a longer sequence if other steps matter too.

        ``shows`` runs a test case, and returns whether its last step shows the behaviour.

        Such a sequence shows the state of the guest: the next state is reached from it, and hardly from the start.
        """
        spent = self.sequence_calls > max(_MIN_SEQUENCE_CALLS, batch.cases * _SEQUENCE_SHARE)
        # A state that depends on large arguments is that of an allocator, and each attempt takes long.
        if len(case.steps) > number or spent or any(map(self._large, trace.case.steps[: number + 1])) or shows(case):
            return case
        whole = Case(trace.case.steps[: number + 1], trace.case.answers)
        runs, span = _MAX_SEQUENCE_ATTEMPTS, number
        while span and runs:
            start = max(0, len(whole.steps) - 1 - span)
            while runs:
                fewer = whole.without(start, min(start + span, len(whole.steps) - 1))
                if fewer is not None and len(fewer.steps) < len(whole.steps):
                    runs -= 1
                    if shows(fewer):
                        whole = fewer
                if not start:
                    break
                start = max(0, start - span)
            span //= 2
        return whole

    def _large(self, step: Step) -> bool:
        export = self.target.exports.get(step.function)
        return export is not None and export.size(step.arguments) >= BULK_ITEMS

    def _shows(self, case: Case, signature: str) -> bool:
        results = self.target.run(case, self._runtime).results
        self.sequence_calls += len(results)
        return len(results) == len(case.steps) and behaviour(case.steps[-1].function, results[-1]) == signature

    def _aim(self, trace: Trace, number: int, result: StepResult, size: int) -> None:
        """Record the call of each function that comes closest to the goal."""
        step = trace.case.steps[number]
        score = score_of(self.goal, result, size)
        best = self.maker.best.get(step.function)
        if best is None or score > best[0]:
            self.maker.best[step.function] = (score, step)
            self.maker.keep(trace.case.closure(number))

    def _check_scaling(self, batch: ChunkResult) -> None:
        """Run the oracle ``scales`` on the calls that burned most fuel for their size."""
        oracle = next((o for o in self.oracles if isinstance(o, Scales)), None)
        if oracle is None:
            return
        for export in self._exports:
            worst = sorted(
                (b for b in batch.behaviours if b.step.function == export.name and b.size >= 8 and b.short),
                key=lambda b: (b.size < BULK_ITEMS, b.fuel / b.size), reverse=True,  # large ones take long
            )  # fmt: skip
            for one in worst[:_MAX_SCALING_CALLS]:
                if self.over():
                    return
                self.ask(oracle, self.target.run(one.case), batch)


def _endings(function: str) -> tuple[str, ...]:
    """Return the signatures of findings that an export used all of its fuel, its host calls or its handles."""
    quotas = (f"no-limit {function} quota-exceeded/{limit}" for limit in ("host_calls", "handles"))
    return f"no-limit {function} out-of-fuel/fuel", *quotas


def score_of(goal: str, result: StepResult, size: int) -> float:
    """Return the score of a call for a goal: memory in bytes for ``big``; else host calls or fuel per unit of input."""
    if goal == "big":
        return float(result.memory)
    if goal == "chatty":
        return float(result.host_calls) / size
    return float(result.fuel or 0) / size


def amounts(step: Step, result: StepResult) -> tuple[Any, ...]:
    """Return the behaviour of a call that returned, as a key: its export, and the classes of what it used."""
    fuel, calls = _amount_class(result.fuel or 0), _amount_class(result.host_calls)
    return step.function, result.declared, fuel, calls, result.memory >> _PAGE_BITS


def _amount_class(amount: int) -> int:
    """Return the class of an amount: the amount itself if it is small, above that eight classes per doubling."""
    if amount < _EXACT_AMOUNTS:
        return amount
    bits = amount.bit_length()
    return bits * 8 + ((amount >> (bits - 4)) & 7) + _EXACT_AMOUNTS
