"""Oracles: what a guest should never do, each a sentence and a judgement of one case that was run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from aegis.errors import PolicyError
from aegis.fuzz.case import Case, Finding, Given, Seen, Step, signature_of
from aegis.names import printable
from aegis.observe.outcome import Outcome
from aegis.wit.values import Err, Ok, ResourceHandle

if TYPE_CHECKING:
    from aegis.fuzz.target import Target
    from aegis.runtime import Aegis

__all__ = [
    "Deterministic",
    "Differential",
    "NoLimit",
    "NoTrap",
    "Oracle",
    "Predicate",
    "RoundTrip",
    "Steady",
]

TRAPS = ("trap", "stack-exhausted")
LIMITS = ("out-of-fuel", "timeout", "memory-exceeded", "output-exceeded", "quota-exceeded")


class Oracle(Protocol):
    """Judges a case that was run. ``every``: of how many cases one is judged; ``cost``: in how many calls."""

    @property
    def name(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def every(self) -> int: ...
    @property
    def cost(self) -> int: ...

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        """Return what there is to object to, or ``None``."""
        ...


class NoTrap:
    """See the sentence."""

    name: ClassVar[str] = "no-trap"
    sentence: ClassVar[str] = "No call traps, exhausts its stack or breaks the canonical ABI."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        last = seen.outcomes[-1]
        return _ended(self.name, seen, last) if last.status in TRAPS else None


class NoLimit:
    """See the sentence."""

    name: ClassVar[str] = "no-limit"
    sentence: ClassVar[str] = "No call runs into a limit: fuel, time, memory, output, quotas."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        last = seen.outcomes[-1]
        return _ended(self.name, seen, last) if last.status in LIMITS else None


def _ended(oracle: str, seen: Seen, last: Outcome) -> Finding:
    step = seen.case.steps[seen.last].function if seen.case.steps else "instantiation"
    text = f"{printable(step)} ended as {last.status}: {last.error}"
    return Finding(oracle, f"{oracle} {step} {signature_of(last)}", text, seen.reached(), last)


class Deterministic:
    """See the sentence. The second sandbox draws other random numbers, where the policy's are seeded."""

    name: ClassVar[str] = "deterministic"
    sentence: ClassVar[str] = "The same calls give the same results, and burn the same fuel, in two fresh sandboxes."
    every: ClassVar[int] = 16
    cost: ClassVar[int] = 2

    def __init__(self) -> None:
        self._other: Aegis | None = None

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        if seen.outcomes[-1].status == "timeout":
            return None
        again = target.run(seen.reached(), self._runtime(target))
        for number, (one, two) in enumerate(zip(seen.outcomes, again.outcomes, strict=False)):
            difference = _difference(one, two)
            if difference is not None:
                step = seen.case.steps[number].function if seen.case.steps else "instantiation"
                case = Case(seen.case.steps[: number + 1], seen.case.answers)
                kind = difference.partition(":")[0]
                return Finding(self.name, f"{self.name} {step} {kind}", f"{printable(step)}: {difference}", case, one)
        return None

    def _runtime(self, target: Target) -> Aegis:
        if self._other is None:
            self._other = _reseeded(target.runtime)
        return self._other


def _reseeded(runtime: Aegis) -> Aegis:
    from aegis.policy import RandomCapability
    from aegis.runtime import Aegis

    policy = runtime.policy
    if policy.random != RandomCapability():
        return runtime
    return Aegis(replace(policy, random=RandomCapability(seed=1)))


def _difference(one: Outcome, two: Outcome) -> str | None:
    """Return how two outcomes of one call differ."""
    if one.status != two.status:
        return f"status: {one.status} once, {two.status} again"
    if one.error is not None:
        return None
    if not same(one.value, two.value):
        return f"result: {printable(repr(one.value), 200)} once, {printable(repr(two.value), 200)} again"
    if one.usage.fuel != two.usage.fuel:
        return f"fuel: {one.usage.fuel} once, {two.usage.fuel} again"
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


class RoundTrip:
    """``decode(encode(x)) == x``, for two exports whose types allow to ask."""

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 2

    def __init__(self, encode: str, decode: str) -> None:
        self.encode, self.decode = encode, decode
        self.name = f"round-trip:{encode},{decode}"
        self.sentence = f"What {encode} makes of a value, {decode} makes into that value again."

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        number = next(
            (n for n, o in enumerate(seen.outcomes) if seen.case.steps[n].function == self.encode and _good(o)), None
        )
        if number is None:
            return None
        step = seen.case.steps[number]
        coded = _inside(seen.outcomes[number].value)
        back = target.run(Case((step, Step(self.decode, (coded,))), seen.case.answers))
        last = back.outcomes[-1]
        if len(back.outcomes) < 2 or not _good(last):
            told = f"{self.decode} refuses what {self.encode} made: {printable(str(last.error or last.value), 200)}"
        elif same(_inside(last.value), step.arguments[0]):
            return None
        else:
            told = f"{self.decode}({self.encode}(x)) is {printable(repr(_inside(last.value)), 200)}"
        return Finding(self.name, self.name, told, Case((step,), seen.case.answers), last)


def _good(outcome: Outcome) -> bool:
    return outcome.error is None and not isinstance(outcome.value, Err)


def _inside(value: Any) -> Any:
    return value.value if isinstance(value, Ok) else value


class Differential:
    """Another component of the same world does the same."""

    name: ClassVar[str] = "differential"
    sentence: ClassVar[str] = "Two components of one world give equal results and end alike."
    every: ClassVar[int] = 1
    cost: ClassVar[int] = 2

    def __init__(self, other: Target) -> None:
        self.other = other

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        theirs = self.other.run(seen.reached())
        for number, (one, two) in enumerate(zip(seen.outcomes, theirs.outcomes, strict=False)):
            if one.status != two.status:
                told = f"{one.status} here, {two.status} there"
            elif one.error is None and not alike(one.value, two.value):
                told = f"{printable(repr(one.value), 200)} here, {printable(repr(two.value), 200)} there"
            else:
                continue
            step = seen.case.steps[number].function if seen.case.steps else "instantiation"
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


class Predicate:
    """A predicate of the user's: a function of a step's name, arguments and outcome, which is false or raises."""

    every: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    def __init__(self, name: str, holds: Callable[[str, tuple[Any, ...], Outcome], Any]) -> None:
        self.name, self._holds = name, holds
        self.sentence = (holds.__doc__ or f"{name} holds of every call.").strip().splitlines()[0]

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        for number, outcome in enumerate(seen.outcomes):
            if number >= len(seen.case.steps):
                break
            step = seen.case.steps[number]
            try:
                held = self._holds(step.function, step.arguments, outcome)
                told = "does not hold"
            except AssertionError as failure:
                held, told = False, printable(str(failure) or "does not hold", 300)
            except Exception as error:
                what = f"{type(error).__name__}: {printable(str(error), 200)}"
                raise PolicyError(f"oracle {self.name} raised {what}") from error
            if held is False:
                case = Case(seen.case.steps[: number + 1], seen.case.answers)
                text = f"{self.name}: {printable(step.function)}: {told}"
                return Finding(self.name, f"{self.name} {step.function}", text, case, outcome)
        return None


class Steady:
    """See the sentence. Judged by making the latest call many times over, in one sandbox."""

    name: ClassVar[str] = "steady"
    sentence: ClassVar[str] = "The same call again and again needs no more memory, and no more fuel."
    every: ClassVar[int] = 24
    cost: ClassVar[int] = 96
    _TIMES = 96

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        last = seen.outcomes[-1]
        if not seen.case.steps or last.error is not None:
            return None
        step = seen.case.steps[seen.last]
        if any(isinstance(argument, Given) for argument in step.arguments):
            return None
        case = Case((step,) * self._TIMES, (0,))
        many = target.run(case, target.watched)
        told = _growth(many.outcomes, self._TIMES)
        if told is None:
            return None
        return Finding(
            self.name, f"{self.name} {step.function}", f"{printable(step.function)}: {told}", Case((step,)), last
        )


def _growth(outcomes: Sequence[Outcome], times: int) -> str | None:
    if len(outcomes) < times or outcomes[-1].error is not None:
        last = outcomes[-1]
        return f"ended as {last.status} when called {len(outcomes)} times" if last.error is not None else None
    memory = [o.usage.peak_memory for o in outcomes]
    quarter = times // 4
    marks = [memory[quarter * n - 1] for n in (1, 2, 3, 4)]
    if marks[0] < marks[1] < marks[2] < marks[3]:
        return f"its memory grew from {memory[0]:,} to {memory[-1]:,} bytes in {times} equal calls"
    return None


class Scales:
    """See the sentence. Judged by doubling the arguments of a call that burned much for its size."""

    name: ClassVar[str] = "scales"
    sentence: ClassVar[str] = "An input of twice the size takes no more than about twice the fuel."
    every: ClassVar[int] = 0
    cost: ClassVar[int] = 14
    """It is asked about the worst calls at the end of a search, not about each."""
    _EXPONENT = 1.6

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        case = seen.reached()
        if not case.steps or seen.outcomes[-1].error is not None:
            return None
        step = case.steps[-1]
        points = list(self._points(target, step))
        if len(points) < 4:  # it is large already: begin with some of it
            points = list(self._points(target, Step(step.function, tuple(map(_start, step.arguments)))))
        if len(points) < 4:
            return None
        (size, fuel), (large, most) = points[-4], points[-1]
        if fuel < 2000 or large < 2 * size:
            return None
        exponent = math.log(most / fuel) / math.log(large / size)
        if exponent < self._EXPONENT:
            return None
        step = case.steps[-1]
        text = (
            f"{printable(step.function)}: from size {size:,} to {large:,} the fuel grew from {fuel:,} to {most:,}, "
            f"as the size to the power of {exponent:.1f}"
        )
        return Finding(self.name, f"{self.name} {step.function}", text, Case((step,)), seen.outcomes[-1])

    def _points(self, target: Target, step: Step) -> Iterator[tuple[int, int]]:
        """Yield size and fuel of the step's arguments, doubled again and again."""
        subject = target.subjects[step.function]
        arguments = step.arguments
        for _ in range(14):
            outcome = target.run(Case((Step(step.function, arguments),))).outcomes[-1]
            size = subject.size(arguments)
            if outcome.status == "out-of-fuel" and target.fuel:
                yield size, target.fuel
                return
            if outcome.error is not None or outcome.usage.fuel is None:
                return
            yield size, outcome.usage.fuel
            grown = tuple(_doubled(a) for a in arguments)
            if size > 1 << 15 or all(g is a for g, a in zip(grown, arguments, strict=True)):
                return
            arguments = grown


def _start(value: Any) -> Any:
    return value[:64] if isinstance(value, (str, bytes, list)) else value


def _doubled(value: Any) -> Any:
    return value * 2 if isinstance(value, (str, bytes, list)) and value else value
