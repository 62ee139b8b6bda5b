"""Minimise the test case of a finding, as long as its oracle reports the same signature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aegis.errors import LimitExceeded
from aegis.fuzz.case import Case, Finding, HandleRef, Step, hurt
from aegis.fuzz.shrink_relations import flattened, related
from aegis.fuzz.stubs import NOTABLE

if TYPE_CHECKING:
    from aegis.fuzz.oracles import Oracle
    from aegis.fuzz.target import Target

__all__ = ["shrink"]

_MAX_CALLS = 20_000
_MAX_SECONDS = 10.0
_MAX_TAKEN_ANSWERS = 4
"""Most answers of the host that go with removed steps."""


def shrink(
    target: Target, oracle: Oracle, found: Finding, *, calls: int = _MAX_CALLS, seconds: float = _MAX_SECONDS,
    stopped: Callable[[], bool] = lambda: False, mend: Callable[[Case], Iterable[Case]] = lambda case: (),
    study: Callable[[Case], None] = lambda case: None,
) -> Finding:  # fmt: skip
    """Return the finding with the smallest test case that was found within ``calls`` oracle calls and ``seconds``.

    It ends early when ``stopped()`` is true. ``mend`` returns test cases with fields such as checksums computed again;
    ``study`` learns which fields there are, from a test case without steps that do not matter.

    Steps are removed first, then arguments are simplified, then the answer plan, then several values at once. If the
    oracle does not report the finding again in its normal mode, the shrinker uses its thorough mode, and always if that
    costs no more.
    """
    if oracle.cost == 1:
        return _Shrinker(target, oracle.thorough(), found, calls, seconds, stopped, mend).best(study)
    again = oracle.judge(target, target.run(found.case))
    shows = again is not None and again.signature == found.signature
    return _Shrinker(target, oracle if shows else oracle.thorough(), found, calls, seconds, stopped, mend).best(study)


class _Shrinker:
    def __init__(
        self, target: Target, oracle: Oracle, found: Finding, calls: int, seconds: float, stopped: Callable[[], bool],
        mend: Callable[[Case], Iterable[Case]],
    ) -> None:  # fmt: skip
        self.target, self.oracle, self.found, self.stopped = target, oracle, found, stopped
        self.mend = mend
        error = None if found.result is None else found.result.error
        self._endless = isinstance(error, LimitExceeded) and error.limit == "fuel"
        self.shorter_only = False
        """Whether test cases with fields computed again must be shorter."""
        self._accepted = [found.case]
        self.left = max(200, calls // oracle.cost)
        self.until = time.monotonic() + seconds

    def best(self, study: Callable[[Case], None]) -> Finding:
        """Apply all reductions in turn until none succeeds."""
        self.take(self.shorter)
        if self.more() and not self._endless:
            study(self.found.case)
        while True:
            before = self.found
            for candidates in (self.shorter, lambda: flattened(self.found.case), self.plainer, self.tamer):
                self.take(candidates)
            if self.found is before:
                self.shorter_only = True
                self.take(lambda: related(self.found.case))
                self.shorter_only = False
            if self.found is before or not self.more():
                return self.found

    def more(self) -> bool:
        return self.left > 0 and time.monotonic() < self.until and not self.stopped()

    def take(self, candidates: Any) -> None:
        """Accept the first candidate that shows the finding and start over, until no candidate does."""
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
        """Run a test case, and keep it if the oracle reports the same signature.

        If it does not, the test case may only need another checksum. One that was kept before is not kept again: a
        simpler checksum that is mended is the old one.
        """
        if case == self.found.case:
            return False
        if self._shows(case):
            return True
        return any(
            mended not in self._accepted and (not self.shorter_only or self._is_shorter(mended)) and self._shows(mended)
            for mended in self.mend(case)
        )

    def _is_shorter(self, case: Case) -> bool:
        """Return whether the arguments of a case are shorter. Related values and fields may else change in turns."""
        return _total(self.target, case) < _total(self.target, self.found.case)

    def _shows(self, case: Case) -> bool:
        self.left -= 1
        if self._endless and not hurt(self.target.run(case, self.target.hurried)):
            return False  # it ends with a 64th of the fuel: most candidates do, and the others take long
        trace = self.target.run(case)
        if not trace.results:
            return False
        found = self.oracle.judge(self.target, trace)
        if found is None or found.signature != self.found.signature:
            return False
        self.found = found
        self._accepted.append(case)
        return True

    # -- candidates ----------------------------------------------------------------------------

    def shorter(self) -> Iterator[Case]:
        """Yield the test case without some of its steps, halves first."""
        case = self.found.case
        span = len(case.steps) - 1
        while span > 0:
            for start in range(0, len(case.steps) - 1, span):
                fewer = case.without(start, min(start + span, len(case.steps) - 1))
                if fewer is not None and len(fewer.steps) < len(case.steps):
                    yield fewer
                    for taken in range(1, min(len(fewer.answers), _MAX_TAKEN_ANSWERS + 1)):
                        yield Case(fewer.steps, fewer.answers[taken:])  # those that the removed steps got
            span //= 2
        for number in range(len(case.steps) - 1):
            fewer = case.without_users(number)
            if fewer is not None:
                yield fewer

    def plainer(self) -> Iterator[Case]:
        """Yield the test case with one argument simplified."""
        case = self.found.case
        for number, step in enumerate(case.steps):
            export = self.target.exports.get(step.function)
            if export is None:
                continue
            for place, (shape, argument) in enumerate(zip(export.shapes, step.arguments, strict=True)):
                if isinstance(argument, HandleRef):
                    yield from self.earlier(number, place, argument)
                if shape is None or isinstance(argument, HandleRef):
                    continue
                for value in shape.simpler(argument):
                    arguments = (*step.arguments[:place], value, *step.arguments[place + 1 :])
                    yield case.with_step(number, Step(step.function, arguments))

    def earlier(self, number: int, place: int, used: HandleRef) -> Iterator[Case]:
        """Yield the test case with a handle of the same resource that an earlier step returned."""
        case = self.found.case
        step = case.steps[number]
        exports = [self.target.exports.get(other.function) for other in case.steps[: used.step + 1]]
        given = exports[used.step]
        for other, export in enumerate(exports[: used.step]):
            if given is not None and export is not None and export.gives == given.gives:
                arguments = (*step.arguments[:place], HandleRef(other), *step.arguments[place + 1 :])
                yield case.with_step(number, Step(step.function, arguments))

    def tamer(self) -> Iterator[Case]:
        """Yield the test case with a shorter or simpler answer plan."""
        case = self.found.case
        plan = case.answers
        if not plan:
            return
        for length in range(len(plan)):
            yield Case(case.steps, plan[:length])
        for place in range(len(plan) - 1):
            yield Case(case.steps, (*plan[:place], *plan[place + 1 :]))
        for place, number in enumerate(plan):
            for simpler in range(min(number, NOTABLE)):
                yield Case(case.steps, (*plan[:place], simpler, *plan[place + 1 :]))


def _total(target: Target, case: Case) -> int:
    exports = [(step, target.exports.get(step.function)) for step in case.steps]
    return sum(export.size(step.arguments) for step, export in exports if export is not None)
