"""The comparisons that test cases make, read from a copy of the guest that records them.

The search runs most of these test cases again and again: in the same chunk, and in later ones, which start from nearly
the same test cases. A test case runs in a fresh sandbox, so its comparisons are the same each time, and are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case
from aegis.wit.types import WitType, children

if TYPE_CHECKING:
    from aegis.fuzz.coverage.instrumented import InstrumentedTarget
    from aegis.fuzz.target import TargetExport
    from aegis.wasm.comparisons import Operands

__all__ = ["Recorded"]

_MAX_KEPT_ENTRIES = 100_000
"""Comparisons that are kept, at about 200 bytes each; beyond, all are forgotten."""
_CASE_OPERANDS = 8
"""Comparisons that take as much memory as a test case."""


class Recorded:
    """The comparisons of test cases that run in ``copy``; ``read`` parses what it wrote in one step."""

    def __init__(self, copy: InstrumentedTarget, read: Callable[[bytes], Iterable[Operands]]) -> None:
        self._copy, self._read = copy, read
        self._kept: dict[Any, list[list[Operands]]] = {}
        self._size = 0
        self._floating = {name for name, export in copy.exports.items() if _has_floats(export)}

    def of(self, case: Case) -> list[list[Operands]]:
        """Return the comparisons of each call that was made. The lists are shared: do not change them.

        A call with an invalid argument is not made, such as that of a character that a change made two.
        """
        key = self._key(case)
        found = self._kept.get(key)
        if found is None:
            results = self._copy.run(case).results
            found = [list(self._read(written)) for written in self._copy.written]
            if len(found) == len(results) and results[-1].status == "usage":
                del found[-1]
            self._size += _CASE_OPERANDS + sum(map(len, found))
            if self._size > _MAX_KEPT_ENTRIES:
                self._kept.clear()
                self._size = _CASE_OPERANDS + sum(map(len, found))
            self._kept[key] = found
        return found

    def _key(self, case: Case) -> Any:
        """Return a key of a test case. Equal floats are different arguments: 0.0 and -0.0."""
        if not any(step.function in self._floating for step in case.steps):
            try:
                hash(case.steps)
            except TypeError:  # some argument is a list
                return repr(case)
            return case.steps, case.answers
        return repr(case)


def _has_floats(export: TargetExport) -> bool:
    return any(_is_floating(of) for of in (*export.kinds, *export.types))


def _is_floating(of: WitType) -> bool:
    return of in ("f32", "f64") if isinstance(of, str) else any(map(_is_floating, children(of)))
