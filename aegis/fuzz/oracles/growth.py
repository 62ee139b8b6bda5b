"""Oracles about the cost of calls: memory leaks, and cost that grows faster than the input."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, HandleRef, Step, StepResult, Trace
from aegis.fuzz.oracles.base import Stateless, Unexplained
from aegis.fuzz.values.core_signatures import Buffer, CString, OutPointer
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["Scales", "Steady"]

_REPETITIONS = 96
_LEAK_REPETITIONS = 4096
"""Repetitions for leaks of a few bytes, which show only when they fill a page of 64 KiB."""
_CHUNKS_PER_LEAK_CHECK = 8
_MAX_REPEATED_FUEL = 4000
"""Most fuel of a call that is repeated that often."""
_MAX_REPEATED_UNITS = 64
"""Largest argument size of a call that is repeated that often."""
_MAX_REPETITION_FUEL = 20_000_000
"""Fuel that all repetitions may burn, unless eight of them need more."""
_NONEMPTY_SIZE = 8
_CONSTRUCTOR = re.compile(
    r"(^|[^a-z])(m?alloc|allocate|new|create|open|make|dup|clone|retain|init)([^a-z]|$)|alloc(ate)?$", re.IGNORECASE
)
"""Names of core functions that return memory which another function frees: they may grow with each call."""


class Steady(Unexplained):
    """Reports a memory leak: memory keeps growing while one sandbox repeats a call, with the steps it needs.

    In every eighth chunk, the first cheap calls of each function are repeated much more often, to find leaks of a few
    bytes.
    """

    name: ClassVar[str] = "steady"
    sentence: ClassVar[str] = "Repeating the same call needs no additional memory."
    every: ClassVar[int] = 24
    cost: ClassVar[int] = 96

    def __init__(self, *, thorough: bool = False) -> None:
        self._always = thorough
        self._patient: set[tuple[str, bool]] | None = None

    def begin(self, chunk: int) -> None:
        """Allow long checks in every eighth chunk."""
        self._patient = None if chunk % _CHUNKS_PER_LEAK_CHECK else set()

    def thorough(self) -> Steady:
        """Return an oracle that runs the long check on every test case."""
        return Steady(thorough=True)

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        last = trace.results[-1]
        if not trace.case.steps or last.error is not None or last.ended or _program(target, trace):
            return None
        once = trace.case.closure(trace.last)
        step = once.steps[-1]
        if _allocates(target, step) or _random_addresses(target, once):
            return None
        times = max(8, _REPETITIONS // len(once.steps))
        if last.fuel and last.fuel * times > _MAX_REPETITION_FUEL:
            times = max(8, _MAX_REPETITION_FUEL // last.fuel)
        found = self._grown(target, once, times, last)
        if found is None and self._may_be_patient(target, step, last):
            found = self._grown(target, once, max(64, _LEAK_REPETITIONS // len(once.steps)), last)
        return found

    def _may_be_patient(self, target: Target, step: Step, last: StepResult) -> bool:
        export = target.exports.get(step.function)
        size = 0 if export is None else export.size(step.arguments)
        if (last.fuel or 0) > _MAX_REPEATED_FUEL or not 0 < size <= _MAX_REPEATED_UNITS:
            return False
        # A function may leak its argument, and an empty argument leaks nothing: check both kinds of calls.
        kind = step.function, size >= _NONEMPTY_SIZE
        if self._patient is not None and kind not in self._patient:
            self._patient.add(kind)
            return True
        return self._always

    def _grown(self, target: Target, once: Case, times: int, last: StepResult) -> Finding | None:
        whole = target.tidy(once)
        steps = len(whole.steps)
        ends = [number * steps - 1 for number in (1, *_quarters(times), times)]
        many = target.run(Case(whole.repeated(times).steps, (0,)), target.watched, read=frozenset(ends))
        text = _growth(many.results, steps, times)
        if text is None:
            return None
        step = once.steps[-1]
        return Finding(self.name, f"{self.name} {step.function}", f"{printable(step.function)}: {text}", once, last)


def _random_addresses(target: Target, case: Case) -> bool:
    """Return whether a call gets random addresses: what it does again may be anything."""
    exports = (target.exports.get(step.function) for step in case.steps)
    return any(export is not None and export.addresses for export in exports)


def _allocates(target: Target, step: Step) -> bool:
    """Return whether the step calls a core function that is named like a constructor; components have handles."""
    return target.artifact.kind == "module" and _CONSTRUCTOR.search(step.function) is not None


def _program(target: Target, trace: Trace) -> bool:
    """Return whether the last step ran a whole program, which a sandbox can do only once."""
    export = target.exports.get(trace.step(trace.last))
    return export is not None and export.program


def _growth(results: Sequence[StepResult], steps: int, times: int) -> str | None:
    """Return a description of the growth over ``times`` rounds of ``steps`` steps, or ``None`` if memory is steady.

    Memory is sampled after each quarter of the rounds: an allocator may grow once or twice, a leak grows every time.
    """
    last = results[-1]
    if len(results) < steps * times or last.error is not None:
        rounds = -(-len(results) // steps)
        return f"ended as {last.status} when called {rounds} times" if rounds > 1 and last.status in _ENDINGS else None
    first, *marks, end = (results[steps * number - 1].memory for number in (1, *_quarters(times), times))
    if marks[0] < marks[1] < marks[2] < marks[3]:
        return f"memory grew from {first:,} to {end:,} bytes in {times} equal calls"
    return None


def _quarters(times: int) -> tuple[int, ...]:
    """Return the rounds that end the quarters of ``times`` rounds."""
    return tuple(times // 4 * quarter for quarter in (1, 2, 3, 4))


_ENOUGH_FUEL = 1 << 24
"""Fuel above which the arguments are not doubled further: the growth is clear by then."""
_ENDINGS = ("trap", "memory-exceeded")


class Scales(Stateless):
    """Reports superlinear cost, measured by repeatedly doubling the sequences in the arguments of an expensive call.

    A call whose cost is the product of the sizes of two sequences is linear in each of them, and not reported: if all
    of them together grow too fast, each grows alone. All together are reported if they cost more than that explains,
    such as those of a function that returns at once unless two lists have the same length.
    """

    name: ClassVar[str] = "scales"
    sentence: ClassVar[str] = "Doubling the input no more than about doubles the fuel."
    every: ClassVar[int] = 0
    cost: ClassVar[int] = 14
    _EXPONENT = 1.6
    """The threshold, between n log n and quadratic cost."""

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        case = trace.reached()
        if not case.steps or trace.results[-1].error is not None:
            return None
        case = case.closure(len(case.steps) - 1)
        if _random_addresses(target, case):
            return None
        step, chosen = case.steps[-1], None
        points = self._points(target, case, step, None)
        if len(points) < 4:  # the arguments are too large to double often: truncate them first
            step = Step(step.function, tuple(map(_start, step.arguments)))
            points = self._points(target, case, step, None)
        exponent = _exponent(points)
        if exponent < self._EXPONENT:
            return None
        count = _sequences(step.arguments)
        if count > 1:
            alone = [self._points(target, case, step, place) for place in range(min(count, _MAX_SEQUENCE_ENTRIES))]
            found = [_exponent(one) for one in alone]
            worst = max(range(len(found)), key=found.__getitem__)
            if found[worst] >= self._EXPONENT:
                points, exponent, chosen = alone[worst], found[worst], worst
            elif exponent - sum(max(0.0, one) for one in found) < self._EXPONENT - 1:
                return None
        (size, fuel), (large, most) = points[-4], points[-1]
        grown = "" if chosen is None else f", of which only sequence {chosen + 1} grew"
        text = (
            f"{printable(step.function)}: fuel grew from {fuel:,} to {most:,} between input sizes {size:,} and "
            f"{large:,}{grown}: about size^{exponent:.1f}"
        )
        return Finding(self.name, f"{self.name} {step.function}", text, case, trace.results[-1])

    def _points(self, target: Target, case: Case, step: Step, chosen: int | None) -> list[tuple[int, int]]:
        """Return size and fuel of the last call of ``case``, with the arguments of ``step``, doubled each time.

        Only the sequence number ``chosen`` is doubled, or all of them.
        """
        points = list(self._doublings(target, case, step, chosen))
        if len(points) > 4 and points[-1][1] == target.fuel:
            points.pop()  # the fuel limit cut the last call short
        return points

    def _doublings(self, target: Target, case: Case, step: Step, chosen: int | None) -> Iterator[tuple[int, int]]:
        export = target.exports[step.function]
        arguments = step.arguments
        for _ in range(14):
            called = Step(step.function, arguments)
            result = target.run(Case((*case.steps[:-1], called), case.answers)).results[-1]
            size = export.size(arguments)
            if result.status == "out-of-fuel" and target.fuel:
                yield size, target.fuel
                return
            if result.error is not None or result.fuel is None:
                return
            yield size, result.fuel
            grown = _doubled(arguments, chosen)
            if (
                size > 1 << 15
                or result.fuel > _ENOUGH_FUEL
                or all(g is a for g, a in zip(grown, arguments, strict=True))
            ):
                return
            arguments = grown


_MAX_SEQUENCE_ENTRIES = 8
"""Most sequences of which each grows alone."""
_LEAST_FUEL = 2000
"""Fuel below which the cost of a call says nothing about its growth."""


def _exponent(points: Sequence[tuple[int, int]]) -> float:
    """Return by which power of the size the fuel grew in the last three doublings; 0 for fewer, or little fuel.

    A jump in one of them, such as that of a header that is valid from some size on, is no growth.
    """
    if len(points) < 4 or points[-4][1] < _LEAST_FUEL:
        return 0.0
    fuel = [fuel for _, fuel in points[-4:]]
    steps = sorted(math.log2(after / before) for before, after in pairwise(fuel))
    whole = sum(steps) / 3
    return whole if steps[1] > 1 + (whole - 1) / 3 else steps[1]


_MAX_START_ITEMS = 64


def _start(value: Any) -> Any:
    """Return a value with every sequence in it truncated."""
    return _changed(value, lambda items: items[:_MAX_START_ITEMS])


def _sequences(arguments: Sequence[Any]) -> int:
    """Return the number of sequences with items that :func:`_doubled` doubles."""
    found: list[Any] = []
    for value in arguments:
        _changed(value, lambda items: found.append(None) or items if items else items)  # type: ignore[func-returns-value]
    return len(found)


def _doubled(arguments: tuple[Any, ...], chosen: int | None) -> tuple[Any, ...]:
    """Return arguments with every sequence repeated twice, or that number ``chosen`` of those with items.

    An argument without such a sequence stays the same object.
    """
    numbers = count()

    def double(items: Any) -> Any:
        return items * 2 if items and chosen in (None, next(numbers)) else items

    return tuple(_changed(value, double) for value in arguments)


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply ``change`` to the sequences in a value: texts, bytes, lists, those in buffers and in records."""
    if isinstance(value, (str, bytes, list)):
        return change(value)
    if isinstance(value, (Buffer, CString)):
        data = change(value.data)
        return value if data is value.data else type(value)(data)
    if isinstance(value, tuple):
        parts = tuple(_changed(part, change) for part in value)
        return value if all(one is two for one, two in zip(parts, value, strict=True)) else parts
    fields = getattr(type(value), "__dataclass_fields__", None)
    if not fields or isinstance(value, (HandleRef, OutPointer)):
        return value
    found = {name: _changed(getattr(value, name), change) for name in fields}
    if all(part is getattr(value, name) for name, part in found.items()):
        return value
    return replace(value, **found)
