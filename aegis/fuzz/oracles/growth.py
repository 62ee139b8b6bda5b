"""Oracles about what calls cost: memory that is never given back, and work that grows faster than its input."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aegis.fuzz.case import Case, Finding, Given, Reply, Seen, Step
from aegis.fuzz.oracles.base import Stateless
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["Scales", "Steady"]

_TIMES = 96
_LONG = 4096
_LONG_EVERY = 8
_LONG_FUEL = 4000
_LONG_SIZE = 64
_SOME = 8


class Steady:
    """See the sentence. Judged by doing a call, with what gives its handles, many times over in one sandbox.

    In some chunks the first small calls of each function are made much more often, for leaks of a few bytes.
    """

    name: ClassVar[str] = "steady"
    sentence: ClassVar[str] = "The same call again and again needs no more memory."
    every: ClassVar[int] = 24
    cost: ClassVar[int] = 96

    def __init__(self, *, thorough: bool = False) -> None:
        self._always = thorough
        self._patient: set[tuple[str, bool]] | None = None

    def begin(self, chunk: int) -> None:
        """In each eighth chunk there is time for many calls."""
        self._patient = None if chunk % _LONG_EVERY else set()

    def thorough(self) -> Steady:
        """Return one that takes its time with every case."""
        return Steady(thorough=True)

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        last = seen.replies[-1]
        if not seen.case.steps or last.error is not None or last.ended or _program(target, seen):
            return None
        once = seen.case.closure(seen.last)
        step = once.steps[-1]
        times = max(8, _TIMES // len(once.steps))
        found = self._grown(target, once, times, last)
        if found is None and self._may_be_patient(target, step, last):
            found = self._grown(target, once, max(64, _LONG // len(once.steps)), last)
        return found

    def _may_be_patient(self, target: Target, step: Step, last: Reply) -> bool:
        subject = target.subjects.get(step.function)
        size = 0 if subject is None else subject.size(step.arguments)
        if (last.fuel or 0) > _LONG_FUEL or not 0 < size <= _LONG_SIZE:
            return False
        kind = step.function, size >= _SOME  # what is leaked may be the argument: then nothing is lost of an empty one
        if self._patient is not None and kind not in self._patient:
            self._patient.add(kind)
            return True
        return self._always

    def _grown(self, target: Target, once: Case, times: int, last: Reply) -> Finding | None:
        whole = target.tidy(once)
        many = target.run(Case(whole.repeated(times).steps, (0,)), target.watched)
        told = _growth(many.replies, len(whole.steps), times)
        if told is None:
            return None
        step = once.steps[-1]
        return Finding(self.name, f"{self.name} {step.function}", f"{printable(step.function)}: {told}", once, last)


def _program(target: Target, seen: Seen) -> bool:
    """Tell whether a whole program was run, which is done once in its life."""
    subject = target.subjects.get(seen.step(seen.last))
    return subject is not None and subject.program


def _growth(replies: Sequence[Reply], steps: int, times: int) -> str | None:
    """Return how memory grew over rounds of so many steps."""
    last = replies[-1]
    if len(replies) < steps * times or last.error is not None:
        rounds = -(-len(replies) // steps)
        return f"ended as {last.status} when called {rounds} times" if rounds > 1 and last.status in _ENDINGS else None
    memory = [reply.memory for reply in replies[steps - 1 :: steps]]
    quarter = times // 4
    marks = [memory[quarter * n - 1] for n in (1, 2, 3, 4)]
    if marks[0] < marks[1] < marks[2] < marks[3]:
        return f"its memory grew from {memory[0]:,} to {memory[-1]:,} bytes in {times} equal calls"
    return None


_ENOUGH = 1 << 24
"""Fuel at which the growth of a call is plain."""
_ENDINGS = ("trap", "memory-exceeded")


class Scales(Stateless):
    """See the sentence. Judged by doubling the arguments of a call that burned much for its size."""

    name: ClassVar[str] = "scales"
    sentence: ClassVar[str] = "An input of twice the size takes no more than about twice the fuel."
    every: ClassVar[int] = 0
    cost: ClassVar[int] = 14
    """It is asked about the worst calls at the end of a search, not about each."""
    _EXPONENT = 1.6
    """Between what is linear, with a logarithm, and what is quadratic."""

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        case = seen.reached()
        if not case.steps or seen.replies[-1].error is not None:
            return None
        step = case.steps[-1]
        if any(isinstance(argument, Given) for argument in step.arguments):
            return None
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
        text = (
            f"{printable(step.function)}: from size {size:,} to {large:,} the fuel grew from {fuel:,} to {most:,}, "
            f"as the size to the power of {exponent:.1f}"
        )
        return Finding(self.name, f"{self.name} {step.function}", text, Case((step,)), seen.replies[-1])

    def _points(self, target: Target, step: Step) -> Iterator[tuple[int, int]]:
        """Yield size and fuel of the step's arguments, doubled again and again."""
        subject = target.subjects[step.function]
        arguments = step.arguments
        for _ in range(14):
            reply = target.run(Case((Step(step.function, arguments),))).replies[-1]
            size = subject.size(arguments)
            if reply.status == "out-of-fuel" and target.fuel:
                yield size, target.fuel
                return
            if reply.error is not None or reply.fuel is None:
                return
            yield size, reply.fuel
            grown = tuple(_doubled(a) for a in arguments)
            if size > 1 << 15 or reply.fuel > _ENOUGH or all(g is a for g, a in zip(grown, arguments, strict=True)):
                return
            arguments = grown


def _start(value: Any) -> Any:
    return value[:64] if isinstance(value, (str, bytes, list)) else value


def _doubled(value: Any) -> Any:
    return value * 2 if isinstance(value, (str, bytes, list)) and value else value
