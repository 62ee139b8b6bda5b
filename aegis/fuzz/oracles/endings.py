"""Oracles about how calls end: traps, limits, and what the user says of an outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.errors import PolicyError
from aegis.fuzz.case import Case, Finding, Reply, Seen, signature_of
from aegis.fuzz.oracles.base import Stateless
from aegis.observe.outcome import Outcome
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["NoLimit", "NoTrap", "Predicate"]

TRAPS = ("trap", "stack-exhausted")
LIMITS = ("out-of-fuel", "timeout", "memory-exceeded", "output-exceeded", "quota-exceeded")


class NoTrap(Stateless):
    """See the sentence."""

    name: ClassVar[str] = "no-trap"
    sentence: ClassVar[str] = "No call traps, exhausts its stack or breaks the canonical ABI."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        last = seen.replies[-1]
        return _ended(self.name, seen, last) if last.status in TRAPS else None


class NoLimit(Stateless):
    """See the sentence."""

    name: ClassVar[str] = "no-limit"
    sentence: ClassVar[str] = "No call runs into a limit: fuel, time, memory, output, quotas."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        last = seen.replies[-1]
        return _ended(self.name, seen, last) if last.status in LIMITS else None


def _ended(oracle: str, seen: Seen, last: Reply) -> Finding:
    step = seen.step(seen.last)
    text = f"{printable(step)} ended as {last.status}: {last.error}"
    return Finding(oracle, f"{oracle} {step} {signature_of(last)}", text, seen.reached(), last)


class Predicate(Stateless):
    """A predicate of the user's: a function of a step's name, arguments and outcome, which is false or raises."""

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def __init__(self, name: str, holds: Callable[[str, tuple[Any, ...], Outcome], Any]) -> None:
        self.name, self._holds = name, holds
        self.sentence = (holds.__doc__ or f"{name} holds of every call.").strip().splitlines()[0]

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        for number, (step, reply) in enumerate(zip(seen.case.steps, seen.replies, strict=False)):
            try:
                held = self._holds(step.function, step.arguments, reply.outcome)
                told = "does not hold"
            except AssertionError as failure:
                held, told = False, printable(str(failure) or "does not hold", 300)
            except Exception as error:
                what = f"{type(error).__name__}: {printable(str(error), 200)}"
                raise PolicyError(f"oracle {self.name} raised {what}") from error
            if held is False:
                case = Case(seen.case.steps[: number + 1], seen.case.answers)
                text = f"{self.name}: {printable(step.function)}: {told}"
                return Finding(self.name, f"{self.name} {step.function}", text, case, reply)
        return None
