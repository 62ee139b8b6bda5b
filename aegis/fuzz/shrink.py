"""Making a finding's case smaller while the same oracle objects to the same thing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, Finding, Given, Step
from aegis.fuzz.stubs import NOTABLE

if TYPE_CHECKING:
    from aegis.fuzz.oracles import Oracle
    from aegis.fuzz.target import Target

__all__ = ["shrunk"]

_CALLS = 20_000
_SECONDS = 10.0


def shrunk(
    target: Target, oracle: Oracle, found: Finding, *, calls: int = _CALLS, seconds: float = _SECONDS
) -> Finding:
    """Return the smallest case found by simplifying one that an oracle objects to, within so many calls and seconds.

    It has fewer steps before simpler arguments, and simpler answers of the imports last.
    """
    again = oracle.judge(target, target.run(found.case))
    shows = again is not None and again.signature == found.signature
    return _Shrinker(target, oracle if shows else oracle.thorough(), found, calls, seconds).best()


class _Shrinker:
    def __init__(self, target: Target, oracle: Oracle, found: Finding, calls: int, seconds: float) -> None:
        self.target, self.oracle, self.found = target, oracle, found
        self.left = max(200, calls // oracle.cost)
        self.until = time.monotonic() + seconds

    def best(self) -> Finding:
        """Simplify in turn until nothing helps any more."""
        while True:
            before = self.found
            for candidates in (self.shorter, self.plainer, self.tamer):
                self.take(candidates)
            if self.found is before or not self.more():
                return self.found

    def more(self) -> bool:
        return self.left > 0 and time.monotonic() < self.until

    def take(self, candidates: Any) -> None:
        """Go over to the first candidate that shows the same, and start over, until none does."""
        again = True
        while again and self.more():
            again = False
            for case in candidates():
                if not self.more():
                    return
                if self.shows(case):
                    again = True
                    break

    def shows(self, case: Case) -> bool:
        """Run a case; keep it if the oracle objects to the same thing."""
        self.left -= 1
        seen = self.target.run(case)
        if not seen.replies:
            return False
        found = self.oracle.judge(self.target, seen)
        if found is None or found.signature != self.found.signature:
            return False
        self.found = found
        return True

    # -- candidates ----------------------------------------------------------------------------

    def shorter(self) -> Iterator[Case]:
        """Yield the case without some of its steps, halves first."""
        case = self.found.case
        span = len(case.steps) - 1
        while span > 0:
            for start in range(0, len(case.steps) - 1, span):
                fewer = case.without(start, min(start + span, len(case.steps) - 1))
                if fewer is not None and len(fewer.steps) < len(case.steps):
                    yield fewer
            span //= 2

    def plainer(self) -> Iterator[Case]:
        """Yield the case with a simpler argument in one place."""
        case = self.found.case
        for number, step in enumerate(case.steps):
            subject = self.target.subjects.get(step.function)
            if subject is None:
                continue
            for place, (shape, argument) in enumerate(zip(subject.shapes, step.arguments, strict=True)):
                if shape is None or isinstance(argument, Given):
                    continue
                for value in shape.simpler(argument):
                    arguments = (*step.arguments[:place], value, *step.arguments[place + 1 :])
                    yield case.with_step(number, Step(step.function, arguments))

    def tamer(self) -> Iterator[Case]:
        """Yield the case with a simpler plan of answers."""
        case = self.found.case
        plan = case.answers
        if not plan:
            return
        for length in range(len(plan)):
            yield Case(case.steps, plan[:length])
        for place, number in enumerate(plan):
            for simpler in range(min(number, NOTABLE)):
                yield Case(case.steps, (*plan[:place], simpler, *plan[place + 1 :]))
