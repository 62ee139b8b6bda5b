"""Oracles about two runs that should agree: the same again, there and back, and another component."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, Reply, Seen, Step
from aegis.fuzz.oracles.base import Stateless
from aegis.text import printable
from aegis.wit.values import Err, Ok, ResourceHandle

if TYPE_CHECKING:
    from aegis.fuzz.target import Target
    from aegis.runtime import Aegis

_PAIRS = 12
"""Values of one case that are taken there and back."""

__all__ = ["Deterministic", "Differential", "RoundTrip", "alike", "same"]


class Deterministic(Stateless):
    """See the sentence. A third sandbox draws other random numbers, where the policy's are seeded: fuel may differ."""

    name: ClassVar[str] = "deterministic"
    sentence: ClassVar[str] = "The same calls give the same results, and burn the same fuel, in two fresh sandboxes."
    every: ClassVar[int] = 16
    cost: ClassVar[int] = 3

    def __init__(self) -> None:
        self._other: Aegis | None = None

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        if seen.replies[-1].status == "timeout":
            return None
        case = seen.reached()
        other = self._reseeded(target.runtime)
        found = _compared(self.name, seen, target.run(case), fuel=True)
        if found is None and other is not target.runtime:
            found = _compared(self.name, seen, target.run(case, other), fuel=False)
        return found

    def _reseeded(self, runtime: Aegis) -> Aegis:
        if self._other is None:
            self._other = _reseeded(runtime)
        return self._other


def _compared(oracle: str, seen: Seen, again: Seen, *, fuel: bool) -> Finding | None:
    for number, (one, two) in enumerate(zip(seen.replies, again.replies, strict=False)):
        difference = _difference(one, two, fuel)
        if difference is not None:
            step = seen.step(number)
            case = Case(seen.case.steps[: number + 1], seen.case.answers)
            kind = difference.partition(":")[0]
            return Finding(oracle, f"{oracle} {step} {kind}", f"{printable(step)}: {difference}", case, one)
    return None


def _reseeded(runtime: Aegis) -> Aegis:
    from aegis.policy import RandomCapability
    from aegis.runtime import Aegis

    policy = runtime.policy
    if policy.random != RandomCapability():
        return runtime
    return Aegis(replace(policy, random=RandomCapability(seed=1)))


def _difference(one: Reply, two: Reply, fuel: bool) -> str | None:
    """Return how two replies to one call differ."""
    if one.status != two.status:
        return f"status: {one.status} once, {two.status} again"
    if one.error is not None:
        return None
    if not same(one.value, two.value):
        return f"result: {printable(repr(one.value), 200)} once, {printable(repr(two.value), 200)} again"
    if fuel and one.fuel != two.fuel:
        return f"fuel: {one.fuel} once, {two.fuel} again"
    return None


def same(one: Any, two: Any) -> bool:
    """Tell whether two values are the same: of equal parts, NaN as itself, 0.0 not -0.0; handles are alike."""
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
    """``decode(encode(x)) == x``, for two exports whose types allow to ask."""

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 2

    def __init__(self, encode: str, decode: str) -> None:
        self.encode, self.decode = encode, decode
        self.name = f"round-trip:{encode},{decode}"
        self.sentence = f"What {encode} makes of a value, {decode} makes into that value again."

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        made = [n for n in range(len(seen.replies)) if seen.step(n) == self.encode and seen.replies[n].good][-_PAIRS:]
        if not made:
            return None
        steps = [s for n in made for s in (seen.case.steps[n], Step(self.decode, (_inside(seen.replies[n].value),)))]
        back = target.run(Case(tuple(steps), seen.case.answers)).replies
        for place, number in enumerate(made):
            if len(back) < 2 * place + 2:  # it encodes no more, which is not what is asked here
                return None
            last, step = back[2 * place + 1], seen.case.steps[number]
            if not last.good or not same(_inside(last.value), step.arguments[0]):
                return self._found(seen, number, last)
        return None

    def _found(self, seen: Seen, number: int, last: Reply) -> Finding:
        told = f"{self.decode}({self.encode}(x)) is {printable(repr(_inside(last.value)), 200)}"
        if not last.good:
            told = f"{self.decode} refuses what {self.encode} made: {printable(str(last.error or last.value), 200)}"
        return Finding(self.name, self.name, told, Case((seen.case.steps[number],), seen.case.answers), last)


def _inside(value: Any) -> Any:
    return value.value if isinstance(value, Ok) else value


class Differential(Stateless):
    """Another component of the same world does the same."""

    name: ClassVar[str] = "differential"
    sentence: ClassVar[str] = "Two components of one world give equal results and end alike."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 2

    def __init__(self, other: Target) -> None:
        self.other = other

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        theirs = self.other.run(seen.reached())
        for number, (one, two) in enumerate(zip(seen.replies, theirs.replies, strict=False)):
            if one.status != two.status:
                told = f"{one.status} here, {two.status} there"
            elif one.error is None and not alike(one.value, two.value):
                told = f"{printable(repr(one.value), 200)} here, {printable(repr(two.value), 200)} there"
            else:
                continue
            step = seen.step(number)
            case = Case(seen.case.steps[: number + 1], seen.case.answers)
            return Finding(self.name, f"{self.name} {step}", f"{printable(step)}: {told}", case, one)
        return None


def alike(one: Any, two: Any) -> bool:
    """Tell whether values of two components are equal, whose classes are not the same."""
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
