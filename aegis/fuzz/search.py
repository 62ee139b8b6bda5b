"""The search: it generates test cases, mutates those that showed new behaviour, and minimises findings.

Behaviour (see :func:`behaviour`) takes the place of code coverage, for which Aegis does not instrument guests. The
search is a function of the seed: a chunk of a campaign runs the same calls on every machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, HandleRef, Step, StepResult, Trace
from aegis.fuzz.causes import signature_of
from aegis.fuzz.oracles import Scales
from aegis.fuzz.oracles.base import Stateless
from aegis.fuzz.shrink import shrink
from aegis.fuzz.stubs import random_answers
from aegis.fuzz.target import DROP, TargetExport
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.oracles import Oracle
    from aegis.fuzz.target import Target

__all__ = ["Behaves", "Behaviour", "ChunkResult", "Search", "behaviour"]

_MAX_STEPS = 48
_EXACT_AMOUNTS = 64
"""Amounts of fuel and host calls below this are distinguished exactly; above it, eight classes per doubling."""
_MAX_SCALING_CALLS = 3
"""Most calls per function that the oracle ``scales`` checks at the end of a chunk."""
_MAX_POOL_CASES = 512
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
    def alone(self) -> bool:
        """Whether the call needs no handle from an earlier step."""
        return len(self.case.steps) == 1


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
    ``largest`` bounds the size of generated arguments.
    """

    def __init__(
        self, target: Target, oracles: Sequence[Oracle], *, seed: int, goal: str = "",
        known: frozenset[str] = frozenset(), corpus: Sequence[Case] = (), largest: int = 4096,
    ) -> None:  # fmt: skip
        self.target, self.oracles, self.seed, self.goal = target, oracles, seed, goal
        self._asked = [oracle for oracle in oracles if oracle.every]
        self._runtime = target.watched if goal == "big" else None
        self._exports = list(target.exports.values())
        self._calls = [s for s in self._exports if not s.program]
        self._known = set(known)
        self._seen: set[tuple[Any, ...]] = set()
        self._largest = largest
        self._pool: dict[str, list[tuple[int, Step]]] = {}
        self._beginnings: list[Case] = []
        self._best: dict[str, tuple[float, Step]] = {}
        self._turn = 0
        self._until = float("inf")
        for case in corpus:
            self._keep(case)

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
        while batch.cases < cases and time.monotonic() < until:
            case = self._case(rng).first(cases - batch.cases)
            self._judge(self.target.run(case, self._runtime), batch)
        self._check_scaling(batch, until)
        batch.seconds = time.monotonic() - began
        return batch

    def again(self, case: Case, batch: ChunkResult) -> None:
        """Replay a test case of the corpus."""
        self._judge(self.target.run(case, self._runtime), batch)

    def _judge(self, trace: Trace, batch: ChunkResult) -> None:
        results, steps = trace.results, trace.case.steps
        batch.cases += max(1, len(results))
        if not results:
            return
        self._turn += 1
        for number in range(min(len(results), len(steps))):
            self._note(trace, number, batch)
        for oracle in self._asked:
            if self._turn % oracle.every == 0:
                self._ask(oracle, trace, batch)

    def _ask(self, oracle: Oracle, trace: Trace, batch: ChunkResult) -> None:
        found = oracle.judge(self.target, trace)
        if found is not None and found.signature not in self._known:
            self._known.add(found.signature)
            seconds = min(_SHRINK_SECONDS, max(_MIN_SHRINK_SECONDS, self._until - time.monotonic()))
            small = shrink(self.target, oracle, found, seconds=seconds)
            self._known.add(small.signature)
            batch.findings.append(small)

    # -- new behaviour -------------------------------------------------------------------------

    def _note(self, trace: Trace, number: int, batch: ChunkResult) -> None:
        result, step = trace.results[number], trace.case.steps[number]
        declared = result.declared
        if result.status == "usage":  # an earlier step did not return the handle: the guest was not called
            return
        status = "declared" if declared else result.status
        counts = batch.calls.get(step.function)
        if counts is None:
            counts = batch.calls[step.function] = {}
        counts[status] = counts.get(status, 0) + 1
        if declared and step.function not in batch.errors:
            batch.errors[step.function] = printable(repr(result.value), _MAX_ERROR_CHARACTERS)
        if result.error is None and not self.goal:
            # Most calls repeat a behaviour: compare integers before formatting a signature.
            fuel, calls = _amount_class(result.fuel or 0), _amount_class(result.host_calls)
            key = (step.function, declared, fuel, calls, result.memory >> _PAGE_BITS)
            if key in self._seen:
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
        if new:
            self._known.add(signature)
            case = trace.case.closure(number)
            batch.behaviours.append(
                Behaviour(signature, case, size, result.fuel or 0, result.memory, result.host_calls)
            )
            batch.points.append((step.function, size, result.fuel or 0))
            self._keep(case)

    def _keep(self, case: Case) -> None:
        step = case.steps[-1]
        pool = self._pool.setdefault(step.function, [])
        if len(pool) >= _MAX_POOL_CASES:
            pool.pop(0)
        export = self.target.exports.get(step.function)
        pool.append((1 if export is None else export.size(step.arguments), step))
        if len(case.steps) > 1:
            self._beginnings.append(case)
            del self._beginnings[:-_MAX_POOL_CASES]

    def _aim(self, trace: Trace, number: int, result: StepResult, size: int) -> None:
        """Record the call of each function that comes closest to the goal."""
        step = trace.case.steps[number]
        score = score_of(self.goal, result, size)
        best = self._best.get(step.function)
        if best is None or score > best[0]:
            self._best[step.function] = (score, step)
            self._keep(trace.case.closure(number))

    def _check_scaling(self, batch: ChunkResult, until: float) -> None:
        """Run the oracle ``scales`` on the calls that burned most fuel for their size."""
        oracle = next((o for o in self.oracles if isinstance(o, Scales)), None)
        if oracle is None:
            return
        for export in self._exports:
            worst = sorted(
                (b for b in batch.behaviours if b.step.function == export.name and b.size >= 8 and b.alone),
                key=lambda b: b.fuel / b.size, reverse=True,
            )  # fmt: skip
            for one in worst[:_MAX_SCALING_CALLS]:
                if time.monotonic() >= until:
                    return
                self._ask(oracle, self.target.run(one.case), batch)

    # -- test cases ----------------------------------------------------------------------------

    def _case(self, rng: random.Random) -> Case:
        steps: list[Step] = []
        if not self._calls or (len(self._calls) < len(self._exports) and rng.random() < 0.3):
            steps.append(self._program(rng))
        else:
            count = 1 if rng.random() < 0.2 else rng.randint(2, _MAX_STEPS)
            held: dict[int, list[int]] = {}
            if self._beginnings and rng.random() < 0.25:
                steps += self._beginnings[int(rng.random() * len(self._beginnings))].steps
                held = self.target.held(steps)
            for _ in range(count):
                step = self._step(rng, len(steps), held)
                if step is not None:
                    steps.append(step)
        stubs = self.target.stubs
        if not stubs.any:
            return Case(tuple(steps))
        return Case(tuple(steps), random_answers(rng, hostile=stubs.step is not None))

    def _program(self, rng: random.Random) -> Step:
        """Return the single step of a test case that runs a whole program."""
        export = rng.choice([s for s in self._exports if s.program])
        return Step(export.name, tuple(self._arguments(rng, export)))

    def _step(self, rng: random.Random, number: int, held: dict[int, list[int]]) -> Step | None:
        """Return a step whose handles are available, and update ``held``; ``None`` if four attempts found no export."""
        if held and rng.random() < 0.06:
            return _drop(rng, held)
        calls = self._calls
        for _ in range(4):
            export = calls[int(rng.random() * len(calls))]
            if not export.takes or all(key is None or held.get(key) for key in export.takes):
                break
        else:
            return None
        arguments = self._arguments(rng, export)
        if export.takes and not _insert_handles(rng, export, arguments, held):
            return None
        if export.gives is not None:
            held.setdefault(export.gives, []).append(number)
        return Step(export.name, tuple(arguments))

    def _arguments(self, rng: random.Random, export: TargetExport) -> list[Any]:
        if not export.shapes:
            return []
        chance = rng.random()
        if self.goal and chance < 0.4:
            best = self._best.get(export.name)
            if best is not None:
                return self._mutated(rng, export, best[1])
        pool = self._pool.get(export.name)
        if pool and chance < 0.6:
            return self._mutated(rng, export, _picked(rng, pool))
        size = min(self._largest, int(2 ** (rng.random() * rng.random() * 13)))
        return [None if shape is None else shape.random(rng, size) for shape in export.shapes]

    def _mutated(self, rng: random.Random, export: TargetExport, step: Step) -> list[Any]:
        arguments = list(step.arguments)
        shapes = export.shapes
        chosen = int(rng.random() * len(shapes))
        for place, shape in enumerate(shapes):
            if shape is not None and (place == chosen or rng.random() < 0.2):
                arguments[place] = shape.mutate(rng, arguments[place])
            elif shape is None:
                arguments[place] = None
        return arguments


def _picked(rng: random.Random, pool: list[tuple[int, Step]]) -> Step:
    """Choose a call from the pool, with a preference for recent and for small ones."""
    last = len(pool) - 1
    one, two = pool[last - int(last * rng.random() ** 2)], pool[last - int(last * rng.random() ** 2)]
    return (one if one[0] <= two[0] or rng.random() < 0.2 else two)[1]


def score_of(goal: str, result: StepResult, size: int) -> float:
    """Return the score of a call for a goal: memory in bytes for ``big``; else host calls or fuel per unit of input."""
    if goal == "big":
        return float(result.memory)
    if goal == "chatty":
        return float(result.host_calls) / size
    return float(result.fuel or 0) / size


def _insert_handles(rng: random.Random, export: TargetExport, arguments: list[Any], held: dict[int, list[int]]) -> bool:
    """Insert handles into ``arguments``; return ``False`` if there are too few. Remove moved handles from ``held``."""
    gone: list[int] = []
    for place, key in enumerate(export.takes):
        if key is None:
            continue
        free = [step for step in held[key] if step not in gone]
        if place in export.consumes:  # a handle that is moved may not occur elsewhere in the same call
            free = [step for step in free if HandleRef(step) not in arguments]
        if not free:
            return False
        chosen = rng.choice(free)
        arguments[place] = HandleRef(chosen)
        if place in export.consumes:
            gone.append(chosen)
    if gone:
        for steps in held.values():
            steps[:] = [step for step in steps if step not in gone]
    return True


def _drop(rng: random.Random, held: dict[int, list[int]]) -> Step | None:
    keys = [key for key, steps in held.items() if steps]
    if not keys:
        return None
    key = rng.choice(keys)
    chosen = rng.choice(held[key])
    held[key].remove(chosen)
    return Step(DROP, (HandleRef(chosen),))


def _amount_class(amount: int) -> int:
    """Return the class of an amount: the amount itself if it is small, above that eight classes per doubling."""
    if amount < _EXACT_AMOUNTS:
        return amount
    bits = amount.bit_length()
    return bits * 8 + ((amount >> (bits - 4)) & 7) + _EXACT_AMOUNTS
