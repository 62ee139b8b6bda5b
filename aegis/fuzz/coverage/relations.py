"""Relations that a format demands between its parts, such as a checksum, or a length at the start.

If one operand of a comparison depends on a few bytes, and the other one on other bytes or on a length, then these few
bytes are a field that must agree with the rest. Any other change of the input breaks it, and the guest looks no
further: so the field is computed again, from the operands that the guest itself compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.fuzz.case import Case, Step
from aegis.fuzz.coverage.dependence import Cell, Compared, Leaf, Run, bit_places, changed_case, leaves_of
from aegis.fuzz.coverage.solve import by_weights
from aegis.wasm.comparisons import COMPARED

if TYPE_CHECKING:
    from aegis.wasm.comparisons import Operands

__all__ = ["Relations"]

_MAX_FIELD_BYTES = 10
"""Most bytes of a field: a number of 64 bits in groups of seven has ten."""
_LAST_RECORDS = 2
"""Comparisons at the end of a call that may be the one for which it gave up."""
_MIN_FOUND_BYTES = 2
"""Fewest bytes of a field that is searched by its number, and how many of them are distinct and not 0."""
_MAX_PLACE_ENTRIES = 4
"""Most places of one relation, the latest first."""
_MAX_RELATION_ENTRIES = 64
_MARK_STEP, _MARKS = 37, 127
"""The difference of neighbouring marks, and after how many they repeat."""


class _FormatField(NamedTuple):
    """The bytes of a field: the path of their sequence, and their weights by position, from the end if negative.

    A field may also be a number: a checksum that is an argument of its own.

    If it is ``plain``, the operand on its ``side`` is the number in these bytes. So the field of another part of the
    input, such as the checksum of its second chunk, is found by its number.
    """

    side: str
    path: tuple[int | str, ...]
    weights: tuple[tuple[int, int], ...]
    plain: bool
    mixed: bool = False
    """Whether the guest compares the exclusive or of the field and the rest with a constant."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two fields have in common that differ in their place."""
        first = min(place for place, _ in self.weights)
        return self.side, self.path, tuple((place - first, weight) for place, weight in self.weights)

    @property
    def even(self) -> bool:
        """Whether each byte of the operand is, or is changed by, one of several bytes in a row."""
        places = sorted(self.weights)
        powers = all(weight.bit_length() % 8 == 1 and weight.bit_count() == 1 for _, weight in places)
        row = places[-1][0] - places[0][0] == len(places) - 1
        return (self.plain or self.mixed) and powers and row and len(places) >= _MIN_FOUND_BYTES

    def written(self, number: int) -> bytes | None:
        """Return a number as the bytes of this field; ``None`` if they are too few to be found, or of another kind."""
        places = sorted(self.weights)
        at = places[0][0]
        if not self.plain or len(places) < _MIN_FOUND_BYTES or places[-1][0] - at != len(places) - 1:
            return None
        return bytes(number // weight & 0xFF for _, weight in places)


class Relations:
    """The relations that one chunk of a campaign has seen, by function and site of their comparison."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[int, list[_FormatField]]] = {}
        self._passed: set[tuple[str, int, bool]] = set()
        """Comparisons after which calls went on: their function, their site, and whether the left operand was larger.

        The length of a part must not exceed the rest of the input. It need not be equal.
        """

    def __bool__(self) -> bool:
        return bool(self._fields)

    def learn(self, function: str, leaves: Sequence[Leaf], compared: Sequence[Compared]) -> bool:
        """Keep the relations among the comparisons of a call; return whether one is new."""
        new = False
        for one in compared:
            field = _field(one, leaves)
            if field is None:
                continue
            known = self._fields.setdefault(function, {})
            if one.operands.site not in known and len(known) >= _MAX_RELATION_ENTRIES:
                continue
            before = known.setdefault(one.operands.site, [])
            if not before or before[0] != field:
                new = new or all(field.shape != other.shape for other in before)
                before[:] = [field, *(other for other in before if other != field)][:_MAX_PLACE_ENTRIES]
        return new

    def known(self, steps: Sequence[Step]) -> bool:
        """Return whether relations of one of the calls are known."""
        return bool(self._fields) and any(step.function in self._fields for step in steps)

    def mended(self, case: Case, records: Sequence[Sequence[Operands]]) -> list[Case]:
        """Return test cases with the fields changed that made calls give up; empty if there are none.

        The guest may demand a relation at several places: there is a test case for each of them. ``records`` has the
        comparisons of each call.
        """
        ways: list[list[Step]] = [[]]
        for step, made in zip_longest(case.steps, records[: len(case.steps)], fillvalue=()):
            assert isinstance(step, Step)
            found = self._mended_steps(step, made) or [step]
            while len(ways) < len(found):
                ways.append(list(ways[0]))
            for number, way in enumerate(ways):
                way.append(found[min(number, len(found) - 1)])
        return [Case(tuple(way), case.answers) for way in ways if way != list(case.steps)]

    def unfulfilled(self, case: Case, records: Sequence[Sequence[Operands]]) -> int:
        """Return the number of calls that gave up for a known relation."""
        return sum(bool(self._mended_steps(step, made)) for step, made in zip(case.steps, records, strict=False))

    def locate(self, case: Case, records: Sequence[Sequence[Operands]], run: Run) -> bool:
        """Find the place of a field for which the last call gave up, and remember it; return whether it was found.

        A length in the input moves the fields after it. Bytes from a place on are changed, and the change of the
        operand says where its bytes are; a checksum also changes with the bytes before them, so it takes some runs.
        """
        step = case.steps[-1]
        if len(records) < len(case.steps):
            return False
        for one in reversed(records[-1][-_LAST_RECORDS:]):
            known = self._fields.get(step.function, {}).get(one.site, [])
            field = next((field for field in known if field.even), None)
            if field is None:
                continue
            found = _located(case, field, one, sum(other.site == one.site for other in records[-1]), run)
            if found is not None and found not in known:
                known[:] = [found, *known][:_MAX_PLACE_ENTRIES]
                return True
        return False

    def _mended_steps(self, step: Step, made: Sequence[Operands]) -> list[Step]:
        fields = self._fields.get(step.function, {})
        for one in made[:-_LAST_RECORDS]:
            if one.site in fields:
                self._passed.add((step.function, one.site, one.left > one.right))
        for one in reversed(made[-_LAST_RECORDS:]):
            if (step.function, one.site, one.left > one.right) in self._passed:
                continue
            better = [case for field in fields.get(one.site, ()) for case in _agreeing(Case((step,)), field, one)]
            found: list[Step] = []
            for case in better:
                if case.steps[0] != step and case.steps[0] not in found:
                    found.append(case.steps[0])
            if found:
                return found[:_MAX_PLACE_ENTRIES]
        return []


def _field(one: Compared, leaves: Sequence[Leaf]) -> _FormatField | None:
    """Return the field that a comparison compares with something that depends on other bytes or a length."""
    if one.operands.kind != COMPARED or one.operands.floating:
        return None
    for side, own, other in (("left", one.left, one.right), ("right", one.right, one.left)):
        if own and not other:
            mixed = _mixed_field(side, own, getattr(one.operands, side), leaves)
            if mixed is not None:
                return mixed
        # A byte on which both depend, such as a length before a checksum, moves the field and is none of it.
        cells = [cell for cell in own if cell.way == "value" and cell not in other]
        strangers = [cell for cell in other if cell not in own and cell.way != "repeat"]
        if not 0 < len(cells) <= _MAX_FIELD_BYTES or not strangers or len({cell.leaf for cell in cells}) > 1:
            continue
        if any(cell.way == "value" for cell in strangers) and len(strangers) <= len(cells):
            continue  # two fields of one size, such as a magic number that is repeated
        leaf = leaves[cells[0].leaf]
        if leaf.number:
            if not any(cell.way == "value" for cell in strangers):
                continue  # a bound of a length, which other values fulfil too
            return _FormatField(side, leaf.path[1:], ((0, own[cells[0]]),), plain=False)
        last = max(cell.at for cell in cells) == len(leaf.data) - 1
        moves = last or any(cell.way == "length" for cell in own)  # it is at the end
        weights = tuple((c.at - len(leaf.data) if moves else c.at, own[c]) for c in cells)
        number = sum(leaf.data[cell.at] * own[cell] for cell in cells) % (1 << one.operands.bits)
        powers = all(own[c] > 0 and own[c].bit_length() % 8 == 1 and own[c].bit_count() == 1 for c in cells)
        plain = powers and number == getattr(one.operands, side)
        return _FormatField(side, leaf.path[1:], weights, plain)
    return None


def _mixed_field(side: str, own: dict[Cell, int], current: int, leaves: Sequence[Leaf]) -> _FormatField | None:
    """Return the bytes whose bits are bits of an operand that also depends on more other bytes."""
    places = bit_places(own, current, leaves)
    cells = sorted(places)
    rest = sum(cell.way == "value" for cell in own) - len(cells)
    if not _MIN_FOUND_BYTES <= len(cells) <= _MAX_FIELD_BYTES or rest < len(cells):
        return None
    leaf = leaves[cells[0].leaf]
    apart = len({cell.leaf for cell in cells}) > 1 or cells[-1].at - cells[0].at != len(cells) - 1
    if apart or len(set(places.values())) < len(cells):
        return None
    at_end = cells[-1].at == len(leaf.data) - 1
    weights = tuple((c.at - len(leaf.data) if at_end else c.at, 1 << places[c]) for c in cells)
    return _FormatField(side, leaf.path[1:], weights, plain=False, mixed=True)


def _exclusive(case: Case, leaves: Sequence[Leaf], number: int, field: _FormatField, operands: Operands) -> Case | None:
    """Return the test case with the bits of a mixed field changed in which the operands differ."""
    data, delta = bytearray(leaves[number].data), operands.left ^ operands.right
    for place, weight in field.weights:
        at = place if place >= 0 else len(data) + place
        if not 0 <= at < len(data):
            return None
        data[at] ^= delta // weight & 0xFF
        delta &= ~(0xFF * weight)
    value = leaves[number].made(bytes(data))
    return None if delta or value is None else changed_case(case, leaves, {number: value})


def _placed(field: _FormatField, data: bytes, number: int) -> list[list[tuple[int, int]]]:
    """Return the weights of a field by position in ``data``, for each place where it may be; the known one is first.

    The field of another part of the input is where its number is. There is no place if that is not unique.
    """
    places = [(place if place >= 0 else len(data) + place, weight) for place, weight in field.weights]
    written = field.written(number)
    if written is None:
        return [places]
    first = min(place for place, _ in places)
    starts = [first] if data[max(0, first) : max(0, first) + len(written)] == written else []
    if len(set(written) - {0}) >= _MIN_FOUND_BYTES:
        at = data.rfind(written)  # of equal fields, the guest read the later one last
        while at >= 0 and len(starts) < _MAX_PLACE_ENTRIES:
            starts += [] if at in starts else [at]
            at = data.rfind(written, 0, at + len(written) - 1)
    return [[(place - first + start, weight) for place, weight in places] for start in starts]


def _agreeing(case: Case, field: _FormatField, operands: Operands) -> Iterator[Case]:
    """Yield the test case of one call with the field changed so that the operands are equal, for each of its places."""
    leaves = leaves_of(case)
    number = next((n for n, leaf in enumerate(leaves) if leaf.path[1:] == field.path), None)
    if number is None:
        return
    if leaves[number].number:
        yield from _equal_number(case, leaves, number, field, operands)
        return
    if field.mixed:
        mixed = _exclusive(case, leaves, number, field, operands)
        yield from () if mixed is None else (mixed,)
        return
    data = leaves[number].data
    own, other = getattr(operands, field.side), operands.right if field.side == "left" else operands.left
    for place in _placed(field, data, own):
        if any(not 0 <= at < len(data) for at, _ in place):
            continue
        weights = {Cell(number, at, "value", 1): weight for at, weight in place}
        missing = (other - own) % (1 << operands.bits)
        yield from islice(
            (
                changed_case(case, leaves, changes)
                for delta in (missing, missing - (1 << operands.bits))
                for changes in by_weights(weights, delta, leaves)
            ),
            1,
        )


def _equal_number(
    case: Case, leaves: Sequence[Leaf], number: int, field: _FormatField, operands: Operands
) -> Iterator[Case]:
    """Yield the test case of one call with the number changed that an argument is, if it stays of its sign."""
    ((_, weight),) = field.weights[:1]
    own, other = (operands.left, operands.right) if field.side == "left" else (operands.right, operands.left)
    missing, value = (other - own) % (1 << operands.bits), leaves[number].value
    for delta in sorted((missing, missing - (1 << operands.bits)), key=abs):
        if weight and delta % weight == 0 and (value < 0) == (value + delta // weight < 0):
            yield changed_case(case, leaves, {number: value + delta // weight})
            return


def _located(case: Case, field: _FormatField, one: Operands, number: int, run: Run) -> _FormatField | None:
    """Return a field at the place where its bytes are in the last call; ``None`` if that is not found.

    ``one`` is the operands of the comparison when it was made for the ``number``-th time.
    """
    leaves = leaves_of(case)
    chosen = next((n for n, leaf in enumerate(leaves) if leaf.path[1:] == field.path and not leaf.number), None)
    if chosen is None:
        return None
    leaf, own = leaves[chosen], getattr(one, field.side)
    weights = [weight for _, weight in sorted(field.weights)]
    size, low, high = len(leaf.data), 0, len(leaf.data)
    while low < high:
        start = (low + high) // 2
        marks = [0 if at < start else 1 + at * _MARK_STEP % _MARKS for at in range(size)]
        value = leaf.made(bytes(byte ^ mark for byte, mark in zip(leaf.data, marks, strict=True)))
        made = None if value is None else run(changed_case(case, leaves, {chosen: value}))
        same = [other for other in made or () if other.site == one.site][number - 1 : number]
        if not same:
            low = start + 1
            continue
        change = own ^ getattr(same[0], field.side)
        if not change:
            high = start
            continue
        wanted = [change // weight & 0xFF for weight in weights]
        for at in range(max(0, start - len(weights) + 1), size - len(weights) + 1):
            if marks[at : at + len(weights)] == wanted:
                end = at - size if at + len(weights) == size else at
                places = tuple((end + place, weight) for place, weight in enumerate(weights))
                return field._replace(path=leaf.path[1:], weights=places)
        low = start + 1
    return None
