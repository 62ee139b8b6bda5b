"""The search: cases made at random and from what behaved in a new way, judged by oracles, shrunk when one objects.

It is a function of a seed: the same chunk of a campaign does the same wherever it runs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, Given, Reply, Seen, Step, signature_of
from aegis.fuzz.oracles import Scales
from aegis.fuzz.oracles.base import Stateless
from aegis.fuzz.shrink import shrunk
from aegis.fuzz.stubs import numbers
from aegis.fuzz.target import DROP, Subject

if TYPE_CHECKING:
    from aegis.fuzz.oracles import Oracle
    from aegis.fuzz.target import Target

__all__ = ["Batch", "Behaves", "Behaviour", "Search", "behaviour"]

_LONGEST = 48
_EXACT = 64
"""Amounts of fuel up to which each is a behaviour of its own; beyond, so many steps to each doubling."""
_SUSPECTS = 3
_POOL = 512
_PAGE = 16
_SHRINKING, _LEAST = 10.0, 2.0
"""Seconds for making a finding smaller, and those that it has when the time of the campaign is over."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A way in which a guest behaved that was new: what tells it apart, the call that showed it, what that used."""

    signature: str
    case: Case
    size: int
    fuel: int
    memory: int
    host_calls: int

    @property
    def step(self) -> Step:
        """The call that behaved so; the steps before it gave its handles."""
        return self.case.steps[-1]

    @property
    def alone(self) -> bool:
        """Whether the call needs no other before it."""
        return len(self.case.steps) == 1


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


def behaviour(function: str, reply: Reply) -> str:
    """Return what tells one way of behaving from another: how a call ended, and what it used, coarsely."""
    declared = " declared" if reply.declared else ""
    used = f"{_rung(reply.fuel or 0)} {_rung(reply.host_calls)} {reply.memory >> _PAGE}"
    return f"{function} {signature_of(reply)} {used}{declared}"


class Behaves(Stateless):
    """Objects to one way of behaving: with it the shrinker finds the smallest case that behaves so."""

    name: ClassVar[str] = "behaves"
    sentence: ClassVar[str] = "No call behaves so."
    every: ClassVar[int] = 0
    cost: ClassVar[int] = 1

    def __init__(self, signature: str) -> None:
        self.signature = signature

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        """Look at the last step alone."""
        if len(seen.replies) < len(seen.case.steps) or not seen.case.steps:
            return None
        last = seen.replies[-1]
        alike = behaviour(seen.step(seen.last), last) == self.signature
        return Finding(self.name, self.signature, "", seen.case, last) if alike else None


class Search:
    """Searches one target. ``known`` are signatures of findings and behaviours that are nothing new."""

    def __init__(
        self, target: Target, oracles: Sequence[Oracle], *, seed: int, goal: str = "",
        known: frozenset[str] = frozenset(), corpus: Sequence[Case] = (), largest: int = 4096,
    ) -> None:  # fmt: skip
        self.target, self.oracles, self.seed, self.goal = target, oracles, seed, goal
        self._asked = [oracle for oracle in oracles if oracle.every]
        self._runtime = target.watched if goal == "big" else None
        self._subjects = list(target.subjects.values())
        self._calls = [s for s in self._subjects if not s.program]
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

    def run(self, chunk: int, cases: int, until: float = float("inf")) -> Batch:
        """Run a chunk of so many calls; end early at ``until`` (monotonic)."""
        rng = random.Random(f"{self.seed}/{chunk}")
        batch = Batch(chunk)
        self._until = until
        self._turn = rng.getrandbits(16)  # which cases the costly oracles are asked about
        for oracle in self.oracles:
            oracle.begin(chunk)
        began = time.monotonic()
        while batch.cases < cases and time.monotonic() < until:
            self._judge(self.target.run(self._case(rng), self._runtime), batch)
        self._suspects(batch, until)
        batch.seconds = time.monotonic() - began
        return batch

    def again(self, case: Case, batch: Batch) -> None:
        """Run a case that was kept, before anything new."""
        self._judge(self.target.run(case, self._runtime), batch)

    def _judge(self, seen: Seen, batch: Batch) -> None:
        replies, steps = seen.replies, seen.case.steps
        batch.cases += max(1, len(replies))
        if not replies:
            return
        self._turn += 1
        for number in range(min(len(replies), len(steps))):
            self._note(seen, number, batch)
        for oracle in self._asked:
            if self._turn % oracle.every == 0:
                self._ask(oracle, seen, batch)

    def _ask(self, oracle: Oracle, seen: Seen, batch: Batch) -> None:
        found = oracle.judge(self.target, seen)
        if found is not None and found.signature not in self._known:
            self._known.add(found.signature)
            seconds = min(_SHRINKING, max(_LEAST, self._until - time.monotonic()))
            small = shrunk(self.target, oracle, found, seconds=seconds)
            self._known.add(small.signature)
            batch.findings.append(small)

    # -- what behaves in a new way -------------------------------------------------------------

    def _note(self, seen: Seen, number: int, batch: Batch) -> None:
        reply, step = seen.replies[number], seen.case.steps[number]
        declared = reply.declared
        if reply.status == "usage":  # a handle that no step gave: the guest was not asked
            return
        status = "declared" if declared else reply.status
        batch.statuses[status] = batch.statuses.get(status, 0) + 1
        if reply.error is None and not self.goal:
            key = (step.function, declared, _rung(reply.fuel or 0), _rung(reply.host_calls), reply.memory >> _PAGE)
            if key in self._seen:
                return
            self._seen.add(key)
        subject = self.target.subjects.get(step.function)
        if subject is None:
            return
        signature = behaviour(step.function, reply)
        new = signature not in self._known
        if new or self.goal:
            size = subject.size(step.arguments)
            self._aim(seen, number, reply, size)
        if new:
            self._known.add(signature)
            case = seen.case.closure(number)
            batch.behaviours.append(Behaviour(signature, case, size, reply.fuel or 0, reply.memory, reply.host_calls))
            batch.points.append((step.function, size, reply.fuel or 0))
            self._keep(case)

    def _keep(self, case: Case) -> None:
        step = case.steps[-1]
        pool = self._pool.setdefault(step.function, [])
        if len(pool) >= _POOL:
            pool.pop(0)
        subject = self.target.subjects.get(step.function)
        pool.append((1 if subject is None else subject.size(step.arguments), step))
        if len(case.steps) > 1:
            self._beginnings.append(case)
            del self._beginnings[:-_POOL]

    def _aim(self, seen: Seen, number: int, reply: Reply, size: int) -> None:
        """Remember the call that comes closest to the goal, for each function."""
        step = seen.case.steps[number]
        score = score_of(self.goal, reply, size)
        best = self._best.get(step.function)
        if best is None or score > best[0]:
            self._best[step.function] = (score, step)
            self._keep(seen.case.closure(number))

    def _suspects(self, batch: Batch, until: float) -> None:
        """Ask about the calls that burned most for their size whether they scale."""
        oracle = next((o for o in self.oracles if isinstance(o, Scales)), None)
        if oracle is None:
            return
        for subject in self._subjects:
            worst = sorted(
                (b for b in batch.behaviours if b.step.function == subject.name and b.size >= 8 and b.alone),
                key=lambda b: b.fuel / b.size, reverse=True,
            )  # fmt: skip
            for one in worst[:_SUSPECTS]:
                if time.monotonic() >= until:
                    return
                self._ask(oracle, self.target.run(one.case), batch)

    # -- cases ---------------------------------------------------------------------------------

    def _case(self, rng: random.Random) -> Case:
        steps: list[Step] = []
        if not self._calls or (len(self._calls) < len(self._subjects) and rng.random() < 0.3):
            steps.append(self._program(rng))
        else:
            count = 1 if rng.random() < 0.2 else rng.randint(2, _LONGEST)
            held: dict[int, list[int]] = {}
            if self._beginnings and rng.random() < 0.25:
                steps += self._beginnings[int(rng.random() * len(self._beginnings))].steps
                held = self.target.held(steps)
            for _ in range(count):
                step = self._step(rng, len(steps), held)
                if step is not None:
                    steps.append(step)
        answers = self.target.answers
        if not answers.any:
            return Case(tuple(steps))
        return Case(tuple(steps), numbers(rng, hostile=answers.faults is not None))

    def _program(self, rng: random.Random) -> Step:
        """Return the one step of a case that runs a whole program."""
        subject = rng.choice([s for s in self._subjects if s.program])
        return Step(subject.name, tuple(self._arguments(rng, subject)))

    def _step(self, rng: random.Random, number: int, held: dict[int, list[int]]) -> Step | None:
        """Return a step that can be made with the handles that there are, and note what it gives and takes."""
        if held and rng.random() < 0.06:
            return _drop(rng, held)
        calls = self._calls
        for _ in range(4):
            subject = calls[int(rng.random() * len(calls))]
            if not subject.takes or all(key is None or held.get(key) for key in subject.takes):
                break
        else:
            return None
        arguments = self._arguments(rng, subject)
        if subject.takes and not _hand(rng, subject, arguments, held):
            return None
        if subject.gives is not None:
            held.setdefault(subject.gives, []).append(number)
        return Step(subject.name, tuple(arguments))

    def _arguments(self, rng: random.Random, subject: Subject) -> list[Any]:
        if not subject.shapes:
            return []
        chance = rng.random()
        if self.goal and chance < 0.4:
            best = self._best.get(subject.name)
            if best is not None:
                return self._mutated(rng, subject, best[1])
        pool = self._pool.get(subject.name)
        if pool and chance < 0.6:
            return self._mutated(rng, subject, _picked(rng, pool))
        size = min(self._largest, int(2 ** (rng.random() * rng.random() * 13)))
        return [None if shape is None else shape.random(rng, size) for shape in subject.shapes]

    def _mutated(self, rng: random.Random, subject: Subject, step: Step) -> list[Any]:
        arguments = list(step.arguments)
        shapes = subject.shapes
        chosen = int(rng.random() * len(shapes))
        for place, shape in enumerate(shapes):
            if shape is not None and (place == chosen or rng.random() < 0.2):
                arguments[place] = shape.mutate(rng, arguments[place])
            elif shape is None:
                arguments[place] = None
        return arguments


def _picked(rng: random.Random, pool: list[tuple[int, Step]]) -> Step:
    """Return one of the kept calls: rather a late one, near what is not found yet, and rather a small one."""
    last = len(pool) - 1
    one, two = pool[last - int(last * rng.random() ** 2)], pool[last - int(last * rng.random() ** 2)]
    return (one if one[0] <= two[0] or rng.random() < 0.2 else two)[1]


def score_of(goal: str, reply: Reply, size: int) -> float:
    """Return how close a call comes to a goal: much fuel, memory or many host calls, for the size of its input."""
    if goal == "big":
        return float(reply.memory)
    if goal == "chatty":
        return float(reply.host_calls) / size
    return float(reply.fuel or 0) / size


def _hand(rng: random.Random, subject: Subject, arguments: list[Any], held: dict[int, list[int]]) -> bool:
    """Put handles in their places; tell whether there were enough. What is taken for good is held no longer."""
    gone: list[int] = []
    for place, key in enumerate(subject.takes):
        if key is None:
            continue
        free = [step for step in held[key] if step not in gone]
        if place in subject.consumes:  # nothing else of the call may have it too
            free = [step for step in free if Given(step) not in arguments]
        if not free:
            return False
        chosen = rng.choice(free)
        arguments[place] = Given(chosen)
        if place in subject.consumes:
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
    return Step(DROP, (Given(chosen),))


def _rung(amount: int) -> int:
    """Return an amount, coarsely: exact while it is small, then eight steps to a doubling."""
    if amount < _EXACT:
        return amount
    bits = amount.bit_length()
    return bits * 8 + ((amount >> (bits - 4)) & 7) + _EXACT
