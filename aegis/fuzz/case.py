"""A case: calls in order, in one fresh sandbox, and what the guest's imports answer. And what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aegis.errors import AegisError, Frame, GuestTrap, LimitExceeded
from aegis.observe.outcome import Outcome

__all__ = ["Case", "Finding", "Given", "Seen", "Step", "signature_of"]


@dataclass(frozen=True, slots=True)
class Given:
    """Stands for a resource of the guest's in the arguments of a step: what step ``step`` of the case returned."""

    step: int


class Step(NamedTuple):
    """One call: an export by its name, and its arguments. A name that begins with ``drop`` drops a resource."""

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


@dataclass(slots=True)
class Seen:
    """A case that was run: the outcome of each step that was reached, the last of which may have ended it."""

    case: Case
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The number of the last step that was reached."""
        return len(self.outcomes) - 1

    def reached(self) -> Case:
        """Return the case as far as it came."""
        return Case(self.case.steps[: len(self.outcomes)], self.case.answers)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an oracle objects to: which oracle, which kind of thing, why, and the case that shows it.

    Two findings of equal ``signature`` are one.
    """

    oracle: str
    signature: str
    text: str
    case: Case
    outcome: Outcome | None = None


def signature_of(outcome: Outcome) -> str:
    """Return what tells one ending from another: its kind, the trap's code, the deepest frames."""
    return ending(outcome.status, outcome.error)


def ending(status: str, error: AegisError | None) -> str:
    """Return the same of a status and an error."""
    parts: list[str] = [status]
    if isinstance(error, GuestTrap):
        parts.append(str(error.code))
        parts += _frames(error.frames)
    elif isinstance(error, LimitExceeded):
        parts.append(error.limit)
    return "/".join(parts)


def _frames(frames: Sequence[Frame]) -> Iterable[str]:
    for frame in frames[:3]:
        yield frame.name or str(frame.function_index)
