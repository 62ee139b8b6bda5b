"""Which parts of the arguments decide which comparisons: found by changing one part at a time.

A *cell* is a number, or one byte of a text or of bytes, in the arguments of the last call of a test case; text is taken
as UTF-8. Each cell is changed by one, and the case runs again with its comparisons recorded. As long as both runs make
the same comparisons, an operand that differs depends on the cell, and the difference is the weight of the cell in the
operand. Further runs lengthen a sequence at its end, and repeat one of its bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.fuzz.case import Case
from aegis.fuzz.shrink_parts import parts_of, with_parts
from aegis.fuzz.values.core_signatures import CString

if TYPE_CHECKING:
    from aegis.wasm.comparisons import Operands

__all__ = ["Cell", "Compared", "Leaf", "Run", "bit_places", "changed_case", "dependences", "leaves_of"]

_MAX_CELL_ENTRIES = 96
"""Most cells of a test case."""
_FIRST_CELLS, _LAST_CELLS = 48, 12
"""Cells at the start and at the end of a long sequence."""
_MAX_REPEATED_BYTES = 24
"""Longest sequence whose bytes are also repeated one by one."""
_MAX_SKIPPED_ENTRIES, _MIN_ALIKE_ENTRIES = 2, 4
"""Most comparisons in a row that only one of two runs recorded, and how many must be alike after them."""
_MAX_LEAF_BYTES = 2048
"""Longest sequence that has cells: changing a longer one costs as much as many calls."""

Run = Callable[[Case], "list[Operands] | None"]


class Leaf(NamedTuple):
    """A number, text or bytes in the arguments of the last call. A number is one cell, ``data`` is then empty."""

    path: tuple[int | str, ...]
    value: Any
    data: bytes

    @property
    def number(self) -> bool:
        """Whether the leaf is a number."""
        return type(self.value) is int

    def made(self, data: bytes) -> Any:
        """Return the value with other bytes; ``None`` if it cannot have them."""
        if isinstance(self.value, str):
            return _decoded(data)
        if isinstance(self.value, CString):
            return None if b"\0" in data else CString(data)
        return data


def _decoded(data: bytes) -> str:
    """Return bytes as text; those that are not UTF-8, such as the rest of a changed character, become letters."""
    while True:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            data = data[: error.start] + b"a" * (error.end - error.start) + data[error.end :]


class Cell(NamedTuple):
    """One cell: its leaf, its position in a sequence, and how it changed.

    ``way`` is ``value`` for another value, ``length`` for a longer sequence, ``repeat`` for one more of the same byte.
    """

    leaf: int
    at: int
    way: str
    step: int


class Compared(NamedTuple):
    """A comparison of a run, with the weights of the cells on which its left and its right operand depend."""

    operands: Operands
    place: int
    """The number of the comparison in the run."""
    left: dict[Cell, int]
    right: dict[Cell, int]


def leaves_of(case: Case) -> list[Leaf]:
    """Return the numbers, texts and bytes in the arguments of the last call."""
    last = len(case.steps) - 1
    found = []
    for path, value in parts_of(Case(case.steps[last:])):
        if type(value) is int:
            found.append(Leaf((last, *path[1:]), value, b""))
        elif isinstance(value, (str, bytes)) and len(value) <= _MAX_LEAF_BYTES:
            data = value.encode("utf-8", "replace") if isinstance(value, str) else value
            found.append(Leaf((last, *path[1:]), value, data))
    for place, value in enumerate(case.steps[last].arguments):
        if isinstance(value, CString) and len(value.data) <= _MAX_LEAF_BYTES:
            found.append(Leaf((last, place), value, value.data))
    return found


def dependences(
    case: Case, leaves: Sequence[Leaf], run: Run, calls: int, start: int = 0
) -> tuple[list[Compared], list[Compared]]:  # fmt: skip
    """Return the comparisons of a test case that depend on cells, in the order of execution.

    The second list has comparisons whose operands are equal in the test case, and differ if cells change.

    ``run`` runs a case, and returns the operands recorded in its last call; at most ``calls`` runs are made. Cells from
    the position ``start`` of a sequence on are first.
    """
    base = run(case)
    if base is None:
        return [], []
    met = _Met()
    found = [Compared(one, place, {}, {}) for place, one in enumerate(base)]
    for cell, changed in _changes(case, leaves, start):
        if calls <= 0:
            break
        calls -= 1
        differs, lost = _compare(found, run(changed), cell, met)
        leaf = leaves[cell.leaf]
        if cell.way != "value" or leaf.number or (differs and not lost):
            continue
        # The operands may have become equal, which is not recorded. Or the low bit does not matter: the byte may have
        # fields of bits, whose weights are unknown.
        byte = leaf.data[cell.at]
        other, step = (byte + 2 * cell.step, 2 * cell.step) if lost else (byte ^ _HIGH_BITS, 0)
        if 0 <= other < 0x100:
            calls -= 1
            value = leaf.made(leaf.data[: cell.at] + bytes((other,)) + leaf.data[cell.at + 1 :])
            _compare(found, run(with_parts(case, {leaf.path: value})), cell._replace(step=step), met)
    return [one for one in found if one.left or one.right], met.comparisons()


class _Met:
    """The comparisons whose operands became different by the change of one cell."""

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[Cell, Operands]]] = {}

    def add(self, cell: Cell, one: Operands) -> None:
        """Note the comparison at which a run parted from that of the test case."""
        self._seen.setdefault(one.site, []).append((cell, one))

    def comparisons(self) -> list[Compared]:
        """Return these comparisons with equal operands: the value that all changes but those of its own cells left."""
        found = []
        for seen in self._seen.values():
            values = Counter(value for _, one in seen for value in {one.left, one.right})
            value, times = values.most_common(1)[0]
            if times < max(2, len(seen) - 2):
                continue
            _, first = seen[0]
            compared = Compared(first._replace(left=value, right=value), 0, {}, {})
            for cell, one in seen:
                if one.right == value:
                    compared.left[cell._replace(step=1)] = _weight(_signed(one.left - value, one.bits), cell.step)
                elif one.left == value:
                    compared.right[cell._replace(step=1)] = _weight(_signed(one.right - value, one.bits), cell.step)
                else:
                    compared.left[cell._replace(step=1)] = compared.right[cell._replace(step=1)] = 0
            found.append(compared)
        return found


def _compare(
    found: Sequence[Compared], other: Sequence[Operands] | None, cell: Cell, met: _Met
) -> tuple[bool, bool]:  # fmt: skip
    """Note which operands of a run differ in another one, until the runs part.

    Return whether there is a difference, and whether a comparison may have become equal.
    """
    differs = lost = False
    for one, now in _aligned(found, () if other is None else other):
        if one is None or now is None or one.operands.site != now.site:
            differs = True
            if now is not None:
                met.add(cell, now)
            if one is not None:
                apart = abs(one.operands.left - one.operands.right)
                lost = lost or apart & (apart - 1) == 0
            continue
        before = one.operands
        for weights, old, new in ((one.left, before.left, now.left), (one.right, before.right, now.right)):
            if old != new:
                differs = True
                weights[cell._replace(step=1)] = _weight(_signed(new - old, before.bits), cell.step)
    return differs, lost


def _aligned(
    found: Sequence[Compared], other: Sequence[Operands]
) -> Iterator[tuple[Compared | None, Operands | None]]:  # fmt: skip
    """Yield the comparisons of two runs in pairs, until they part; a last pair has those at which they do.

    A comparison with equal operands is not recorded. So one run may have some that the other one lacks, although both
    go the same way: they are paired with nothing.
    """
    at = now = 0
    while at < len(found) and now < len(other):
        if found[at].operands.site == other[now].site:
            yield found[at], other[now]
            at, now = at + 1, now + 1
            continue
        for skipped in range(1, _MAX_SKIPPED_ENTRIES + 1):
            if _goes_on(found, at, other, now + skipped):
                yield from ((None, one) for one in other[now : now + skipped])
                now += skipped
                break
            if _goes_on(found, at + skipped, other, now):
                yield from ((one, None) for one in found[at : at + skipped])
                at += skipped
                break
        else:
            yield found[at], other[now]
            return
    if at < len(found):
        yield found[at], None
    elif now < len(other):
        yield None, other[now]


def _goes_on(found: Sequence[Compared], at: int, other: Sequence[Operands], now: int) -> bool:
    """Return whether the next comparisons of both runs are at the same sites. One alone may be so by chance.

    The last one of both is not, if one operand is the same: a loop may have had one more round before.
    """
    count = min(_MIN_ALIKE_ENTRIES, len(found) - at)
    ends = count == 1 and now == len(other) - 1 and _alike(found[at].operands, other[now])
    return (count > 1 or ends) and [one.operands.site for one in found[at : at + count]] == [
        one.site for one in other[now : now + count]
    ]


def _alike(one: Operands, other: Operands) -> bool:
    return one.left == other.left or one.right == other.right


def _weight(change: int, step: int) -> int:
    return change // step if step else 0


def _signed(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


def _changes(case: Case, leaves: Sequence[Leaf], start: int) -> Iterator[tuple[Cell, Case]]:
    """Yield a cell and the test case in which it is changed: all values first, then lengths, then repetitions."""
    left = _MAX_CELL_ENTRIES
    for number, leaf in enumerate(leaves):
        for at in sorted(_places(leaf), key=lambda at: at < start):
            if left <= 0:
                break
            changed = _stepped(leaf, at)
            if changed is not None:
                left -= 1
                yield Cell(number, at, "value", changed[0]), with_parts(case, {leaf.path: changed[1]})
    for number, leaf in enumerate(leaves):
        if not leaf.number:
            # Another byte than the last one: so a field at the end is seen to depend on the length.
            longer = leaf.made(leaf.data + (b"b" if leaf.data[-1:] == b"a" else b"a"))
            if longer is not None:
                yield Cell(number, len(leaf.data), "length", 1), with_parts(case, {leaf.path: longer})
    for number, leaf in enumerate(leaves):
        for at in range(len(leaf.data) if len(leaf.data) <= _MAX_REPEATED_BYTES else 0):
            if at and leaf.data[at] == leaf.data[at - 1]:
                continue
            longer = leaf.made(leaf.data[:at] + leaf.data[at : at + 1] + leaf.data[at:])
            if longer is not None:
                yield Cell(number, at, "repeat", 1), with_parts(case, {leaf.path: longer})


def _places(leaf: Leaf) -> Sequence[int]:
    if leaf.number:
        return (0,)
    size = len(leaf.data)
    if size <= _FIRST_CELLS + _LAST_CELLS:
        return range(size)
    return (*range(_FIRST_CELLS), *range(size - _LAST_CELLS, size))


def _stepped(leaf: Leaf, at: int) -> tuple[int, Any] | None:
    """Return the step by which a cell changes, and the changed value of its leaf."""
    if leaf.number:
        return (-1, leaf.value - 1) if leaf.value in _ENDS else (1, leaf.value + 1)
    byte = leaf.data[at]
    step = _step_of(byte)
    value = leaf.made(leaf.data[:at] + bytes((byte + step,)) + leaf.data[at + 1 :])
    return None if value is None else (step, value)


def _step_of(byte: int) -> int:
    return -1 if byte in (0xFF, 0x7F, 0x39, 0x7A, 0x5A) else 1  # 9, z and Z have no neighbour of their kind above


def bit_places(weights: Mapping[Cell, int], current: int, leaves: Sequence[Leaf]) -> dict[Cell, int]:
    """Return the bytes whose bits are bits of an operand, with the number of the bit that their lowest one is.

    The operand, which is ``current``, may combine them with anything else by an exclusive or.
    """
    found = {}
    for cell, weight in weights.items():
        leaf = leaves[cell.leaf]
        if cell.way != "value" or leaf.number:
            continue
        byte = leaf.data[cell.at]
        step = _step_of(byte)
        changed, bits = current ^ (current + weight * step) & _MASK, byte ^ (byte + step)
        for place in range(0, 64, 8):
            if changed & (0xFFFFFFFF if current >> 32 == 0 else _MASK) == bits << place:
                found[cell] = place
    return found


_MASK = (1 << 64) - 1
_HIGH_BITS = 0x48
"""The bits of a byte that are changed if its lowest one makes no difference."""
_ENDS = frozenset(end for bits in (8, 16, 32, 64) for end in ((1 << bits) - 1, (1 << (bits - 1)) - 1))
"""Greatest numbers of integer types, beyond which a value may not go."""


def changed_case(case: Case, leaves: Sequence[Leaf], changes: Mapping[int, Any]) -> Case:
    """Return the test case with other values of leaves, by their numbers."""
    return with_parts(case, {leaves[number].path: value for number, value in changes.items()})
