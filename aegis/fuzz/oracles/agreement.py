"""Oracles that compare two runs: the same calls twice, a round trip, or two components of one world."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, Step, StepResult, Trace
from aegis.fuzz.oracles.base import Stateless
from aegis.fuzz.oracles.differences import difference
from aegis.text import printable
from aegis.wit.values import Err, Ok, ResourceHandle

if TYPE_CHECKING:
    from aegis.fuzz.target import Target
    from aegis.runtime import Aegis

_THOROUGH_RUNS = 8
_OTHER_SEED = " (with another seed of the random numbers)"
_MAX_ROUND_TRIP_VALUES = 12
"""Most values of one test case that are encoded and decoded."""

__all__ = ["Deterministic", "Differential", "RoundTrip", "alike", "same"]


class Deterministic(Stateless):
    """Reports nondeterminism: the same calls differ between two fresh sandboxes.

    If the guest has imports, by which it may get random numbers, and the policy does not configure these, a third
    sandbox has another seed; there the results must agree, but not the fuel.
    """

    name: ClassVar[str] = "deterministic"
    sentence: ClassVar[str] = "The same calls give the same results, and burn the same fuel, in two fresh sandboxes."
    every: ClassVar[int] = 16
    cost: ClassVar[int] = 3

    def __init__(self, *, repetitions: int = 1) -> None:
        self._repetitions = repetitions
        self._other: Aegis | None = None

    def thorough(self) -> Deterministic:
        """Return an oracle that compares with several runs: a granted clock need not differ in each of them."""
        return Deterministic(repetitions=_THOROUGH_RUNS)

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        if trace.results[-1].status == "timeout":
            return None
        case = trace.reached()
        other = self._reseeded(target.runtime) if target.artifact.imports else target.runtime
        for _ in range(self._repetitions):
            found = _compared(self.name, trace, target.run(case), fuel=True)
            if found is None and other is not target.runtime:
                found = _compared(self.name, trace, target.run(case, other), fuel=False, why=_OTHER_SEED)
            if found is not None:
                return found
        return None

    def explained(self, target: Target, found: Finding) -> Finding:
        """Return the finding with the first answer of the host that differed, if one did."""
        again = self._reseeded(target.runtime) if found.text.endswith(_OTHER_SEED) else None
        one: list[str] = []
        two: list[str] = []
        target.run(found.case, host=one)
        target.run(found.case, again, host=two)
        for number, (first, second) in enumerate(zip(one, two, strict=False), 1):
            if first != second:
                text = f"; the first host answer that differed is number {number}: {first}, then {second}"
                return replace(found, text=found.text + text)
        return found

    def _reseeded(self, runtime: Aegis) -> Aegis:
        if self._other is None:
            self._other = _reseeded(runtime)
        return self._other


def _compared(oracle: str, trace: Trace, again: Trace, *, fuel: bool, why: str = "") -> Finding | None:
    for number, (one, two) in enumerate(zip(trace.results, again.results, strict=False)):
        difference = _difference(one, two, fuel)
        if difference is not None:
            step = trace.step(number)
            case = Case(trace.case.steps[: number + 1], trace.case.answers)
            kind = difference.partition(":")[0]
            return Finding(oracle, f"{oracle} {step} {kind}", f"{printable(step)}: {difference}{why}", case, one)
    return None


def _reseeded(runtime: Aegis) -> Aegis:
    from aegis.policy import RandomCapability
    from aegis.runtime import Aegis

    policy = runtime.policy
    if policy.random != RandomCapability():
        return runtime
    return Aegis(replace(policy, random=RandomCapability(seed=1)))


def _difference(one: StepResult, two: StepResult, fuel: bool) -> str | None:
    """Describe how two results of one call differ; ``None`` if they agree."""
    if one.status != two.status:
        return f"status: {one.status} in the first run, {two.status} in the second"
    if one.error is not None:
        return None
    found = difference(one.value, two.value, same)
    if found is not None:
        return f"result{found.place}: {found.first} in the first run, {found.second} in the second"
    if fuel and one.fuel != two.fuel:
        return f"fuel: {one.fuel:,} in the first run, {two.fuel:,} in the second, with equal results"
    return None


def same(one: Any, two: Any) -> bool:
    """Return whether two values are identical. NaN equals NaN, 0.0 differs from -0.0, and any two handles are equal."""
    if isinstance(one, ResourceHandle) and isinstance(two, ResourceHandle):
        return True
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return (one != one and two != two) or (one == two and math.copysign(1, one) == math.copysign(1, two))
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, (Ok, Err)):
        return same(one.value, two.value)
    fields = getattr(type(one), "__dataclass_fields__", None)
    if fields is not None:
        return all(same(getattr(one, name), getattr(two, name)) for name in fields)
    return bool(one == two)


class RoundTrip(Stateless):
    """Reports a value for which ``decode(encode(x)) == x`` does not hold."""

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 2

    def __init__(self, encode: str, decode: str) -> None:
        self.encode, self.decode = encode, decode
        self.name = f"round-trip:{encode},{decode}"
        self.sentence = f"{decode} returns the value that was passed to {encode}."

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        made = [n for n in range(len(trace.results)) if trace.step(n) == self.encode and trace.results[n].good]
        made = made[-_MAX_ROUND_TRIP_VALUES:]
        if not made:
            return None
        steps = [s for n in made for s in (trace.case.steps[n], Step(self.decode, (_inside(trace.results[n].value),)))]
        back = target.run(Case(tuple(steps), trace.case.answers)).results
        for place, number in enumerate(made):
            if len(back) < 2 * place + 2:  # encoding failed this time, which other oracles report
                return None
            last, step = back[2 * place + 1], trace.case.steps[number]
            if not last.good or not same(_inside(last.value), step.arguments[0]):
                return self._found(trace, number, last)
        return None

    def _found(self, trace: Trace, number: int, last: StepResult) -> Finding:
        text = f"{self.decode}({self.encode}(x)) is {printable(repr(_inside(last.value)), 200)}, not x"
        if not last.good:
            reason = printable(str(last.error or last.value), 200)
            text = f"{self.decode} rejects the value that {self.encode} returned: {reason}"
        return Finding(self.name, self.name, text, Case((trace.case.steps[number],), trace.case.answers), last)


def _inside(value: Any) -> Any:
    return value.value if isinstance(value, Ok) else value


class Differential(Stateless):
    """Reports a difference from another component of the same world."""

    name: ClassVar[str] = "differential"
    sentence: ClassVar[str] = "Two components of one world give equal results and end alike."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 2

    def __init__(self, other: Target) -> None:
        self.other = other

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        theirs = self.other.run(trace.reached())
        for number, (one, two) in enumerate(zip(trace.results, theirs.results, strict=False)):
            if one.status != two.status:
                text = f"{one.status} here, {two.status} in the other component"
            elif one.error is None and (found := difference(one.value, two.value, alike)) is not None:
                text = f"{found.at}{found.first} here, {found.second} in the other component"
            else:
                continue
            step = trace.step(number)
            case = Case(trace.case.steps[: number + 1], trace.case.answers)
            return Finding(self.name, f"{self.name} {step}", f"{printable(step)}: {text}", case, one)
        return None


def alike(one: Any, two: Any) -> bool:
    """Return whether values of two components are equal, although their Python classes differ."""
    return same(_plain(one), _plain(two))


def _plain(value: Any) -> Any:
    fields = getattr(type(value), "__dataclass_fields__", None)
    if isinstance(value, (Ok, Err)):
        return [type(value).__name__, _plain(value.value)]
    if fields is not None:
        return [type(value).__name__, *(_plain(getattr(value, name)) for name in fields)]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.value if hasattr(value, "value") and not isinstance(value, (int, float, str)) else value
