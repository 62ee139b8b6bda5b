"""Oracles about how calls end: traps, exceeded limits, and user-defined predicates on outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from aegis.errors import PolicyError
from aegis.fuzz.case import Case, Finding, Step, StepResult, Trace
from aegis.fuzz.causes import RANDOM_ADDRESSES, signature_of
from aegis.fuzz.oracles.base import Stateless, Unexplained
from aegis.fuzz.oracles.refused_memory import TrapCheck
from aegis.observe.outcome import Outcome
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["NoLimit", "NoTrap", "Predicate"]

TRAPS = ("trap", "stack-exhausted")
LIMITS = ("out-of-fuel", "timeout", "memory-exceeded", "output-exceeded", "quota-exceeded")


class _Ending(Unexplained):
    """Base class of the oracles about endings: it attributes a trap after a refused growth to the limit of memory."""

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def __init__(self, *, thorough: bool = False) -> None:
        self._traps = TrapCheck(bounded=not thorough)

    def begin(self, chunk: int) -> None:
        """Forget the traps of earlier chunks."""
        self._traps.begin()

    def thorough(self) -> Self:
        """Return an oracle that checks every trap."""
        return type(self)(thorough=True)


class NoTrap(_Ending):
    """Reports a call that ended in a trap or exhausted its stack."""

    name: ClassVar[str] = "no-trap"
    sentence: ClassVar[str] = "No call traps, exhausts its stack or breaks the canonical ABI."

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        if trace.results[-1].status not in TRAPS:
            return None
        judged = self._traps.judged(target, trace)
        last = None if judged is None else judged.results[-1]
        return _ended(self.name, TRAPS, target, trace, last) if last is not None and last.status in TRAPS else None


class NoLimit(_Ending):
    """Reports a call that exceeded a limit: fuel, time, memory, output or a quota."""

    name: ClassVar[str] = "no-limit"
    sentence: ClassVar[str] = "No call exceeds a limit: fuel, time, memory, output, quotas."

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        last = trace.results[-1]
        if last.status == "trap":
            judged = self._traps.judged(target, trace)
            last = last if judged is None else judged.results[-1]
        return _ended(self.name, LIMITS, target, trace, last) if last.status in LIMITS else None


def _ended(oracle: str, kinds: Sequence[str], target: Target, trace: Trace, last: StepResult) -> Finding:
    """Return the finding of a trace whose last call ended in one of ``kinds``, with the result ``last``.

    A call with random addresses may write anything anywhere, so it explains whatever ends after it: such cases are one
    finding, unless they end the same way without these calls.
    """
    steps = trace.reached().steps
    trusted = tuple(step for step in steps if not _random_addresses(target, step))
    if len(trusted) == len(steps):
        return _found(oracle, trace, last)
    if trusted and trusted[-1] is steps[-1]:
        again = target.run(Case(trusted, trace.case.answers))
        if again.results[-1].status in kinds:
            return _found(oracle, again, again.results[-1])
    found = _found(oracle, trace, last)
    return replace(
        found, signature=RANDOM_ADDRESSES,
        text=f"{found.text}; addresses among its arguments, or those of the calls before it, are random",
    )  # fmt: skip


def _random_addresses(target: Target, step: Step) -> bool:
    export = target.exports.get(step.function)
    return export is not None and export.addresses


def _found(oracle: str, trace: Trace, last: StepResult) -> Finding:
    step = trace.step(trace.last)
    text = f"{printable(step)} ended as {last.status}: {last.error}"
    return Finding(oracle, f"{oracle} {step} {signature_of(last)}", text, trace.reached(), last)


class Predicate(Stateless):
    """A user-defined oracle: a function of the export's name, the arguments and the outcome.

    It rejects a call by returning ``False`` or raising ``AssertionError``. Any other exception ends the campaign with
    :class:`~aegis.errors.PolicyError`.
    """

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def __init__(self, name: str, holds: Callable[[str, tuple[Any, ...], Outcome], Any]) -> None:
        self.name, self._holds = name, holds
        self.sentence = (holds.__doc__ or f"{name} holds of every call.").strip().splitlines()[0]

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        for number, (step, result) in enumerate(zip(trace.case.steps, trace.results, strict=False)):
            try:
                held = self._holds(step.function, step.arguments, result.outcome)
                reason = "does not hold"
            except AssertionError as failure:
                held, reason = False, printable(str(failure) or "does not hold", 300)
            except Exception as error:
                cause = f"{type(error).__name__}: {printable(str(error), 200)}"
                raise PolicyError(f"oracle {self.name} raised {cause}") from error
            if held is False:
                case = Case(trace.case.steps[: number + 1], trace.case.answers)
                text = f"{self.name}: {printable(step.function)}: {reason}"
                return Finding(self.name, f"{self.name} {step.function}", text, case, result)
        return None
