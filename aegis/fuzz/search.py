"""The search: cases made at random and from what behaved in a new way, judged by oracles, shrunk when one objects.

It is a function of a seed: the same chunk of a campaign does the same wherever it runs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, Finding, Given, Seen, Step, signature_of
from aegis.fuzz.oracles import Scales
from aegis.fuzz.shrink import shrunk
from aegis.fuzz.target import DROP, Subject
from aegis.observe.outcome import Outcome
from aegis.wit.values import Err

if TYPE_CHECKING:
    from aegis.fuzz.oracles import Oracle
    from aegis.fuzz.target import Target

__all__ = ["Batch", "Behaviour", "Search"]

_LONGEST = 24
_EXACT = 64
"""Amounts of fuel up to which each is a behaviour of its own; beyond, so many steps to each doubling."""
_SUSPECTS = 3
_POOL = 512


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A way in which a guest behaved that was new: what tells it apart, the call that showed it, what that used."""

    signature: str
    step: Step
    size: int
    fuel: int
    memory: int
    host_calls: int


@dataclass(slots=True)
class Batch:
    """What came of one chunk."""

    chunk: int
    cases: int = 0
    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    behaviours: list[Behaviour] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    points: list[tuple[str, int, int]] = field(default_factory=list)
    """Function, size and fuel of some of the calls, for the plot."""


class Search:
    """Searches one target. ``known`` are signatures of findings and behaviours that are nothing new."""

    def __init__(
        self, target: Target, oracles: Sequence[Oracle], *, seed: int, goal: str = "",
        known: frozenset[str] = frozenset(), corpus: Sequence[Step] = (), largest: int = 4096,
    ) -> None:  # fmt: skip
        self.target, self.oracles, self.seed, self.goal = target, oracles, seed, goal
        self._names = list(target.subjects)
        self._known = set(known)
        self._largest = largest
        self._pool: dict[str, list[Step]] = {}
        self._best: dict[str, tuple[float, Step]] = {}
        self._turn = 0
        for step in corpus:
            self._keep(step)

    # -- one chunk -----------------------------------------------------------------------------

    def run(self, chunk: int, cases: int, until: float = float("inf")) -> Batch:
        """Run a chunk of so many calls; end early at ``until`` (monotonic)."""
        rng = random.Random(f"{self.seed}/{chunk}")
        batch = Batch(chunk)
        self._turn = rng.getrandbits(16)  # which cases the costly oracles are asked about
        began = time.monotonic()
        while batch.cases < cases and time.monotonic() < until:
            self._one(rng, batch)
        self._suspects(batch, until)
        batch.seconds = time.monotonic() - began
        return batch

    def again(self, case: Case, batch: Batch) -> None:
        """Run a case that was kept, before anything new."""
        self._judge(self.target.run(case), batch)

    def _one(self, rng: random.Random, batch: Batch) -> None:
        case = self._case(rng)
        self._judge(self.target.run(case), batch)

    def _judge(self, seen: Seen, batch: Batch) -> None:
        batch.cases += max(1, len(seen.outcomes))
        if not seen.outcomes:
            return
        self._turn += 1
        for number, outcome in enumerate(seen.outcomes):
            if number < len(seen.case.steps):
                self._note(seen.case.steps[number], outcome, batch)
        for oracle in self.oracles:
            if oracle.every and self._turn % oracle.every == 0:
                self._ask(oracle, seen, batch)

    def _ask(self, oracle: Oracle, seen: Seen, batch: Batch) -> None:
        found = oracle.judge(self.target, seen)
        if found is not None and found.signature not in self._known:
            self._known.add(found.signature)
            small = shrunk(self.target, oracle, found)
            self._known.add(small.signature)
            batch.findings.append(small)

    # -- what behaves in a new way -------------------------------------------------------------

    def _note(self, step: Step, outcome: Outcome, batch: Batch) -> None:
        status = outcome.status if not isinstance(outcome.value, Err) else "declared"
        batch.statuses[status] = batch.statuses.get(status, 0) + 1
        usage = outcome.usage
        fuel = usage.fuel or 0
        used = f"{_rung(fuel)} {_rung(usage.host_calls)} {_rung(usage.peak_memory)}"
        signature = f"{step.function} {signature_of(outcome)} {used}"
        if isinstance(outcome.value, Err):
            signature += " declared"
        subject = self.target.subjects.get(step.function)
        if subject is None:
            return
        new = signature not in self._known
        if new or self.goal:
            size = subject.size(step.arguments)
            self._aim(step, usage, size)
        if new:
            self._known.add(signature)
            batch.behaviours.append(Behaviour(signature, step, size, fuel, usage.peak_memory, usage.host_calls))
            batch.points.append((step.function, size, fuel))
            self._keep(step)

    def _keep(self, step: Step) -> None:
        pool = self._pool.setdefault(step.function, [])
        if len(pool) >= _POOL:
            pool.pop(0)
        pool.append(step)

    def _aim(self, step: Step, usage: Any, size: int) -> None:
        """Remember the call that comes closest to the goal, for each function."""
        score = score_of(self.goal, usage, size)
        best = self._best.get(step.function)
        if best is None or score > best[0]:
            self._best[step.function] = (score, step)
            self._keep(step)

    def _suspects(self, batch: Batch, until: float) -> None:
        """Ask about the calls that burned most for their size whether they scale."""
        oracle = next((o for o in self.oracles if isinstance(o, Scales)), None)
        if oracle is None:
            return
        for name in self._names:
            worst = sorted(
                (b for b in batch.behaviours if b.step.function == name and b.size >= 8 and not _handles(b.step)),
                key=lambda b: b.fuel / b.size, reverse=True,
            )  # fmt: skip
            for behaviour in worst[:_SUSPECTS]:
                if time.monotonic() >= until:
                    return
                self._ask(oracle, self.target.run(Case((behaviour.step,))), batch)

    # -- cases ---------------------------------------------------------------------------------

    def _case(self, rng: random.Random) -> Case:
        count = 1 if rng.random() < 0.25 else rng.randint(2, _LONGEST)
        steps: list[Step] = []
        held: dict[int, list[int]] = {}
        for _ in range(count):
            step = self._step(rng, len(steps), held)
            if step is not None:
                steps.append(step)
        answers: tuple[int, ...] = ()
        if self.target.answers.any:
            answers = tuple(0 if rng.random() < 0.4 else rng.getrandbits(31) for _ in range(rng.randint(1, 6)))
        return Case(tuple(steps), answers)

    def _step(self, rng: random.Random, number: int, held: dict[int, list[int]]) -> Step | None:
        """Return a step that can be made with the handles that there are, and note what it gives and takes."""
        if held and rng.random() < 0.06:
            return _drop(rng, held)
        for _ in range(4):
            subject = self.target.subjects[rng.choice(self._names)]
            if all(key is None or held.get(key) for key in subject.takes):
                break
        else:
            return None
        arguments = self._arguments(rng, subject)
        gone: list[int] = []
        for place, key in enumerate(subject.takes):
            if key is None:
                continue
            free = [step for step in held[key] if step not in gone]
            if place in subject.consumes:  # nothing else of the call may have it too
                free = [step for step in free if Given(step) not in arguments]
            if not free:
                return None
            chosen = rng.choice(free)
            arguments[place] = Given(chosen)
            if place in subject.consumes:
                gone.append(chosen)
        for steps in held.values():
            steps[:] = [step for step in steps if step not in gone]
        if subject.gives is not None:
            held.setdefault(subject.gives, []).append(number)
        return Step(subject.name, tuple(arguments))

    def _arguments(self, rng: random.Random, subject: Subject) -> list[Any]:
        pool = self._pool.get(subject.name)
        best = self._best.get(subject.name)
        chance = rng.random()
        if best is not None and self.goal and chance < 0.4:
            return self._mutated(rng, subject, best[1])
        if pool and chance < 0.6:
            # What was found late is near what is not found yet.
            at = len(pool) - 1 - int(len(pool) * rng.random() ** 2)
            return self._mutated(rng, subject, pool[at])
        size = min(self._largest, int(2 ** (rng.random() * rng.random() * 13)))
        return [None if shape is None else shape.random(rng, size) for shape in subject.shapes]

    def _mutated(self, rng: random.Random, subject: Subject, step: Step) -> list[Any]:
        arguments = list(step.arguments)
        places = [n for n, shape in enumerate(subject.shapes) if shape is not None]
        if places:
            for place in {rng.choice(places), *(p for p in places if rng.random() < 0.2)}:
                arguments[place] = subject.shapes[place].mutate(rng, arguments[place])  # type: ignore[union-attr]
        return arguments


def score_of(goal: str, usage: Any, size: int) -> float:
    """Return how close a call comes to a goal: much fuel, memory or many host calls, for the size of its input."""
    if goal == "big":
        return float(usage.peak_memory)
    if goal == "chatty":
        return float(usage.host_calls) / size
    return float(usage.fuel or 0) / size


def _drop(rng: random.Random, held: dict[int, list[int]]) -> Step | None:
    keys = [key for key, steps in held.items() if steps]
    if not keys:
        return None
    key = rng.choice(keys)
    chosen = rng.choice(held[key])
    held[key].remove(chosen)
    return Step(f"{DROP}{key}", (Given(chosen),))


def _handles(step: Step) -> bool:
    return any(isinstance(argument, Given) for argument in step.arguments)


def _rung(amount: int) -> int:
    """Return an amount, coarsely: exact while it is small, then eight steps to a doubling."""
    if amount < _EXACT:
        return amount
    bits = amount.bit_length()
    return bits * 8 + ((amount >> (bits - 4)) & 7) + _EXACT
