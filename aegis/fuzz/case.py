"""A test case: a sequence of calls in one fresh sandbox with an answer plan for the imports; its trace and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aegis.errors import AegisError, GuestExit, LimitExceeded
from aegis.observe.outcome import Outcome, Usage

__all__ = ["Case", "Finding", "HandleRef", "Step", "StepResult", "Trace", "hurt"]


@dataclass(frozen=True, slots=True)
class HandleRef:
    """An argument that refers to the guest resource returned by step number ``step`` of the same test case."""

    step: int


class Step(NamedTuple):
    """One call: the name of an export and its arguments. The name ``[drop]`` drops the handle in the first argument."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """The calls made to a guest after its instantiation, and the answer plan for its imports.

    ``answers`` has one number per call that the guest makes to a stubbed import. The last number also applies to every
    later call; 0 selects the simplest answer; an empty plan answers every call with 0.
    """

    steps: tuple[Step, ...]
    answers: tuple[int, ...] = ()

    def without(self, start: int, stop: int) -> Case | None:
        """Return the test case without steps ``start`` to ``stop`` - 1; ``None`` if a later step needs one of them."""
        kept: list[Step] = []
        for number, step in enumerate(self.steps):
            if start <= number < stop:
                continue
            moved = []
            for argument in step.arguments:
                if isinstance(argument, HandleRef):
                    if start <= argument.step < stop:
                        return None
                    argument = HandleRef(argument.step - (stop - start if argument.step >= stop else 0))
                moved.append(argument)
            kept.append(Step(step.function, tuple(moved)))
        return Case(tuple(kept), self.answers)

    def without_users(self, number: int) -> Case | None:
        """Return the test case without a step and the steps that use its handle; ``None`` if the last one is among."""
        gone = {number}
        for later, step in enumerate(self.steps):
            if any(isinstance(a, HandleRef) and a.step in gone for a in step.arguments):
                gone.add(later)
        if len(self.steps) - 1 in gone:
            return None
        places = {old: new for new, old in enumerate(n for n in range(len(self.steps)) if n not in gone)}
        return Case(tuple(_placed(self.steps[old], places) for old in places), self.answers)

    def first(self, count: int) -> Case:
        """Return the test case with its first ``count`` steps; these never need a later one."""
        return self if len(self.steps) <= count else Case(self.steps[:count], self.answers)

    def with_step(self, number: int, step: Step) -> Case:
        """Return the test case with step ``number`` replaced."""
        return Case((*self.steps[:number], step, *self.steps[number + 1 :]), self.answers)

    def closure(self, number: int) -> Case:
        """Return a test case of one step and, transitively, the steps that returned the handles it uses."""
        needed, open_ = set[int](), [number]
        while open_:
            at = open_.pop()
            needed.add(at)
            open_ += [a.step for a in self.steps[at].arguments if isinstance(a, HandleRef) and a.step not in needed]
        if len(needed) == 1:
            return Case((self.steps[number],), self.answers)
        places = {old: new for new, old in enumerate(sorted(needed))}
        return Case(tuple(_placed(self.steps[old], places) for old in places), self.answers)

    def repeated(self, times: int) -> Case:
        """Return the test case with its steps repeated ``times`` times. Each repetition uses its own handles."""
        count = len(self.steps)
        if not any(isinstance(argument, HandleRef) for step in self.steps for argument in step.arguments):
            return Case(self.steps * times, self.answers)
        steps = [_moved(step, count * n) for n in range(times) for step in self.steps]
        return Case(tuple(steps), self.answers)

    def moved(self, by: int) -> list[Step]:
        """Return the steps as they stand after ``by`` other steps."""
        return [_moved(step, by) for step in self.steps]


def _placed(step: Step, places: Mapping[int, int]) -> Step:
    return Step(
        step.function, tuple(HandleRef(places[a.step]) if isinstance(a, HandleRef) else a for a in step.arguments)
    )


def _moved(step: Step, by: int) -> Step:
    if not any(isinstance(a, HandleRef) for a in step.arguments):
        return step
    return Step(step.function, tuple(HandleRef(a.step + by) if isinstance(a, HandleRef) else a for a in step.arguments))


class StepResult:
    """Result of one step: its end and the resources it used. An :class:`~aegis.Outcome` is created on demand."""

    __slots__ = ("declared", "error", "fuel", "host_calls", "memory", "status", "value", "whole")

    def __init__(
        self, value: Any = None, error: AegisError | None = None, fuel: int | None = None, host_calls: int = 0,
        memory: int = 0, *, declared: bool = False,
    ) -> None:  # fmt: skip
        self.value, self.error = value, error
        self.fuel, self.host_calls, self.memory = fuel, host_calls, memory
        self.declared = declared
        self.whole: Outcome | None = None
        self.status = "returned" if error is None else error.kind
        if error is not None and isinstance(error, GuestExit) and error.code == 0:
            self.error = None

    @property
    def ended(self) -> bool:
        """Whether this step ended the sandbox, which then accepts no further call."""
        return self.status != "returned"

    @property
    def good(self) -> bool:
        """Whether the step returned, and not with a declared error."""
        return self.error is None and not self.declared

    @property
    def outcome(self) -> Outcome:
        """The result of the step as an outcome."""
        if self.whole is None:
            usage = Usage(fuel=self.fuel, host_calls=self.host_calls, peak_memory=self.memory)
            if self.error is not None:
                self.whole = Outcome.from_error(self.error, usage=usage)
            else:
                self.whole = Outcome(status=self.status, value=self.value, usage=usage)
        return self.whole


@dataclass(slots=True)
class Trace:
    """The run of a test case: one result per step that was executed. The last result may have ended the sandbox."""

    case: Case
    results: list[StepResult] = field(default_factory=list)
    exact: Trace | None = None
    """The trace with exact memory accounting, after :class:`~aegis.fuzz.oracles.refused_memory.TrapCheck` ran it."""

    @property
    def last(self) -> int:
        """The number of the last step that was executed."""
        return len(self.results) - 1

    def reached(self) -> Case:
        """Return the test case truncated after the last step that was executed."""
        return Case(self.case.steps[: len(self.results)], self.case.answers)

    def step(self, number: int) -> str:
        """Return the display name of a step."""
        return self.case.steps[number].function if number < len(self.case.steps) else "instantiation"


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation that an oracle reported, with the test case that shows it.

    Findings with equal ``signature`` are duplicates. ``text`` is the message for the report.
    """

    oracle: str
    signature: str
    text: str
    case: Case
    result: StepResult | None = None


def hurt(trace: Trace) -> bool:
    """Return whether a call met a limit of fuel, host calls or handles, which was lower than that of the campaign."""
    error = trace.results[-1].error if trace.results else None
    return isinstance(error, LimitExceeded) and error.limit in ("fuel", "host_calls", "handles")
