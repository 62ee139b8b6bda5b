"""Test cases for comparisons with a large constant, whose operand is computed backwards from the constant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from aegis.fuzz.coverage.dependence import Cell, Compared, Leaf, changed_case
from aegis.fuzz.coverage.inverse import LEAST_WIDE, inverted
from aegis.fuzz.coverage.operands import matched_cases
from aegis.fuzz.coverage.solve import goals_of
from aegis.wasm.comparisons import COMPARED

if TYPE_CHECKING:
    from aegis.fuzz.case import Case
    from aegis.fuzz.target import TargetExport
    from aegis.wasm.comparisons import Operands

__all__ = ["inverted_cases"]

_MAX_CASES = 96
"""Most test cases for one comparison."""
_DISTINCT = 0x3C6E_F372_5DB1_94A7
"""An integer whose parts are unlikely to occur in a run otherwise; arguments of fewer bits are its lower ones."""
_DISTINCT_STEP, _DISTINCT_START = 37, 100


def inverted_cases(
    case: Case, leaves: Sequence[Leaf], compared: Sequence[Compared], unsolved: Callable[[Operands], bool],
    run: Callable[[Case], list[Operands]], admitted: Callable[[Case], Case | None], exports: Mapping[str, TargetExport],
) -> Iterator[tuple[Operands, Case]]:  # fmt: skip
    """Yield comparisons that are ``unsolved``, each with test cases in which its operands are probably equal.

    ``run`` returns the operands of all operations of a test case, and ``admitted`` the test case with integers in
    range.
    """
    for one, cells, constant in _wide_goals(compared):
        if not unsolved(one):
            continue
        for base in filter(None, (admitted(_distinct(case, leaves, cells)), case)):
            records = run(base)
            for other in records:
                if (other.kind, other.bits) == (one.kind, one.bits) and constant in (other.left, other.right):
                    found = other.left if other.right == constant else other.right
                    pairs = list(inverted(records, one.bits, found, constant))
                    yield from ((one, made) for made in islice(matched_cases(base, pairs, exports), _MAX_CASES))
                    break


def _wide_goals(compared: Sequence[Compared]) -> Iterator[tuple[Operands, list[Cell], int]]:
    """Yield comparisons of a large constant with an operand that depends on cells: these, and the constant."""
    for one in compared:
        for side, wanted in goals_of(one.operands) if one.operands.kind == COMPARED else ():
            other = one.right if side == "left" else one.left
            cells = [cell for cell in getattr(one, side) if cell.way == "value"]
            if cells and not other and wanted >= LEAST_WIDE:
                yield one.operands, cells, wanted


def _distinct(case: Case, leaves: Sequence[Leaf], cells: Iterable[Cell]) -> Case:
    """Return the test case with cells of values that occur nowhere else in a run."""
    changes: dict[int, Any] = {}
    data: dict[int, bytearray] = {}
    for cell in cells:
        leaf = leaves[cell.leaf]
        if leaf.number:
            changes[cell.leaf] = _DISTINCT
        elif not isinstance(leaf.value, str):
            octets = data.setdefault(cell.leaf, bytearray(leaf.data))
            octets[cell.at] = 1 + (cell.at * _DISTINCT_STEP + _DISTINCT_START) % 0xFF
    for number, octets in data.items():
        value = leaves[number].made(bytes(octets))
        if value is not None:
            changes[number] = value
    return changed_case(case, leaves, changes)
