"""A case: calls in order, in one fresh sandbox, and what the guest's imports answer. And what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aegis.errors import AegisError, Frame, GuestExit, GuestTrap, LimitExceeded
from aegis.observe.outcome import Outcome, Usage

__all__ = ["Case", "Finding", "Given", "Reply", "Seen", "Step", "signature_of"]


@dataclass(frozen=True, slots=True)
class Given:
    """Stands for a resource of the guest's in the arguments of a step: what step ``step`` of the case returned."""

    step: int


class Step(NamedTuple):
    """One call: an export by its name, and its arguments. ``[drop]`` drops a handle."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to a guest from its instantiation on.

    ``answers`` is the plan of its imports: one number for each call that it makes of them, the last for all that
    follow; 0 is the simplest answer, and none at all means 0 for each.
    """

    steps: tuple[Step, ...]
    answers: tuple[int, ...] = ()

    def without(self, start: int, stop: int) -> Case | None:
        """Return the case without these steps, ``None`` where later ones need them."""
        kept: list[Step] = []
        for number, step in enumerate(self.steps):
            if start <= number < stop:
                continue
            moved = []
            for argument in step.arguments:
                if isinstance(argument, Given):
                    if start <= argument.step < stop:
                        return None
                    argument = Given(argument.step - (stop - start if argument.step >= stop else 0))
                moved.append(argument)
            kept.append(Step(step.function, tuple(moved)))
        return Case(tuple(kept), self.answers)

    def with_step(self, number: int, step: Step) -> Case:
        """Return the case with another step in place of one."""
        return Case((*self.steps[:number], step, *self.steps[number + 1 :]), self.answers)

    def closure(self, number: int) -> Case:
        """Return a step with those alone that gave the handles it needs, and theirs."""
        needed, open_ = set[int](), [number]
        while open_:
            at = open_.pop()
            needed.add(at)
            open_ += [a.step for a in self.steps[at].arguments if isinstance(a, Given) and a.step not in needed]
        if len(needed) == 1:
            return Case((self.steps[number],), self.answers)
        places = {old: new for new, old in enumerate(sorted(needed))}
        return Case(tuple(_placed(self.steps[old], places) for old in places), self.answers)

    def repeated(self, times: int) -> Case:
        """Return the case with its steps done so many times over, each round on the handles of its own."""
        count = len(self.steps)
        steps = [_moved(step, count * n) for n in range(times) for step in self.steps]
        return Case(tuple(steps), self.answers)


def _placed(step: Step, places: Mapping[int, int]) -> Step:
    return Step(step.function, tuple(Given(places[a.step]) if isinstance(a, Given) else a for a in step.arguments))


def _moved(step: Step, by: int) -> Step:
    return Step(step.function, tuple(Given(a.step + by) if isinstance(a, Given) else a for a in step.arguments))


class Reply:
    """How one step ended and what it used: an :class:`~aegis.Outcome` that is made where somebody wants one."""

    __slots__ = ("declared", "error", "fuel", "host_calls", "memory", "status", "value", "whole")

    def __init__(
        self, value: Any = None, error: AegisError | None = None, fuel: int | None = None, host_calls: int = 0,
        memory: int = 0, *, declared: bool = False,
    ) -> None:  # fmt: skip
        ended = isinstance(error, GuestExit) and error.code == 0
        self.status = "returned" if error is None else error.kind
        self.value, self.error = value, None if ended else error
        self.fuel, self.host_calls, self.memory = fuel, host_calls, memory
        self.declared = declared
        self.whole: Outcome | None = None

    @property
    def ended(self) -> bool:
        """Whether the sandbox takes no further call after this one."""
        return self.status != "returned"

    @property
    def good(self) -> bool:
        """Whether it returned, and no declared error."""
        return self.error is None and not self.declared

    @property
    def outcome(self) -> Outcome:
        """The same as an outcome."""
        if self.whole is None:
            usage = Usage(fuel=self.fuel, host_calls=self.host_calls, peak_memory=self.memory)
            if self.error is not None:
                self.whole = Outcome.from_error(self.error, usage=usage)
            else:
                self.whole = Outcome(status=self.status, value=self.value, usage=usage)
        return self.whole


@dataclass(slots=True)
class Seen:
    """A case that was run: the reply of each step that was reached, the last of which may have ended it."""

    case: Case
    replies: list[Reply] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The number of the last step that was reached."""
        return len(self.replies) - 1

    def reached(self) -> Case:
        """Return the case as far as it came."""
        return Case(self.case.steps[: len(self.replies)], self.case.answers)

    def step(self, number: int) -> str:
        """Return the name of a step, for people."""
        return self.case.steps[number].function if number < len(self.case.steps) else "instantiation"


@dataclass(frozen=True, slots=True)
class Finding:
    """What an oracle objects to: which oracle, which kind of thing, why, and the case that shows it.

    Two findings of equal ``signature`` are one.
    """

    oracle: str
    signature: str
    text: str
    case: Case
    reply: Reply | None = None


def signature_of(reply: Reply) -> str:
    """Return what tells one ending from another: its kind, the trap's code, the deepest frames."""
    error = reply.error
    if error is None:
        return reply.status
    parts: list[str] = [reply.status]
    if isinstance(error, GuestTrap):
        parts.append(str(error.code))
        parts += _frames(error.frames)
    elif isinstance(error, LimitExceeded):
        parts.append(error.limit)
    return "/".join(parts)


def _frames(frames: Sequence[Frame]) -> Iterable[str]:
    for frame in frames[:3]:
        yield frame.name or str(frame.function_index)
