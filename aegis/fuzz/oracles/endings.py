"""Oracles about how calls end: traps, exceeded limits, and user-defined predicates on outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.errors import PolicyError
from aegis.fuzz.case import Case, Finding, Step, Trace, signature_of
from aegis.fuzz.oracles.base import Stateless
from aegis.observe.outcome import Outcome
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["RANDOM_ADDRESSES", "NoLimit", "NoTrap", "Predicate"]

TRAPS = ("trap", "stack-exhausted")
LIMITS = ("out-of-fuel", "timeout", "memory-exceeded", "output-exceeded", "quota-exceeded")


class NoTrap(Stateless):
    """Reports a call that ended in a trap or exhausted its stack."""

    name: ClassVar[str] = "no-trap"
    sentence: ClassVar[str] = "No call traps, exhausts its stack or breaks the canonical ABI."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        return _ended(self.name, TRAPS, target, trace)


class NoLimit(Stateless):
    """Reports a call that exceeded a limit: fuel, time, memory, output or a quota."""

    name: ClassVar[str] = "no-limit"
    sentence: ClassVar[str] = "No call exceeds a limit: fuel, time, memory, output, quotas."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        return _ended(self.name, LIMITS, target, trace)


RANDOM_ADDRESSES = "random-addresses"
"""The signature of the one finding of calls whose addresses are random: a function that gets them does no better."""


def _ended(oracle: str, kinds: Sequence[str], target: Target, trace: Trace) -> Finding | None:
    """Return a finding if the last call ended in one of ``kinds``.

    A call with random addresses may write anything anywhere, so it explains whatever ends after it: such cases are one
    finding, unless they end the same way without these calls.
    """
    if trace.results[-1].status not in kinds:
        return None
    steps = trace.reached().steps
    trusted = tuple(step for step in steps if not _random_addresses(target, step))
    if len(trusted) == len(steps):
        return _found(oracle, trace)
    if trusted and trusted[-1] is steps[-1]:
        again = target.run(Case(trusted, trace.case.answers))
        if again.results[-1].status in kinds:
            return _found(oracle, again)
    found = _found(oracle, trace)
    return replace(
        found, signature=RANDOM_ADDRESSES,
        text=f"{found.text}; addresses among its arguments, or those of the calls before it, are random",
    )  # fmt: skip


def _random_addresses(target: Target, step: Step) -> bool:
    export = target.exports.get(step.function)
    return export is not None and export.addresses


def _found(oracle: str, trace: Trace) -> Finding:
    last = trace.results[-1]
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
