"""Make the test cases of a search: sequences of calls, from new values and from calls that were kept.

Calls that showed a new behaviour are kept and mutated. Sequences are kept too, where the earlier calls matter, and grow
by further calls. A handle comes from a call that is known to return one, verbatim, before its arguments are mutated: a
constructor that accepts one text in a million would leave its methods untested.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aegis.fuzz.case import Case, HandleRef, Step, StepResult
from aegis.fuzz.stubs import random_answers
from aegis.fuzz.target import DROP, TargetExport
from aegis.fuzz.values.core_signatures import Buffer
from aegis.fuzz.values.fields import fields_joined
from aegis.fuzz.values.sequences import BULK_ITEMS, SequenceShape
from aegis.wit.types import WitType

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["CaseMaker"]

_MAX_STEPS = 48
_MAX_POOL_CASES = 512
_MAX_PRODUCER_CASES = 32
"""Most kept calls that return handles of one resource."""
_MAX_VERIFIED_CASES = 8
"""Most calls of one constructor, from the corpus, that are run at the start of a chunk."""
_MAX_RETURNED_VALUES = 32
"""Most kept values of one type that calls returned."""
_VERBATIM_SHARE = 0.08
"""The share of generated calls that repeat a kept call as it is."""
_SPLICE_SHARE, _FIELD_SHARE, _AGAIN_SHARE = 0.24, 0.08, 0.65
"""The shares of mutated arguments that get a part of another one, that get fields of another one, and that are mutated
once only."""
_ALIKE_SHARE = 0.08
"""The share of mutated calls of which an argument becomes the value of another one of its type."""
_MAX_BULK_CASES = 3
"""Most kept calls of one function with large arguments."""
_BULK_SHARE = 0.003
"""The share of generated calls with a large argument, unless such calls are slow."""
_BULK_FUEL_PER_CALL = 12_500
"""Fuel of calls with large arguments for each ordinary call: they take about a fifth of the time."""
_HOST_FUEL = 50
"""Fuel that takes as long as the conversion of one list element."""


class CaseMaker:
    """Makes test cases for one target, and keeps calls for them.

    ``largest`` bounds the size of arguments. The exports ``slow`` get no large arguments at all.
    """

    def __init__(self, target: Target, *, largest: int, goal: str = "", slow: frozenset[str] = frozenset()) -> None:
        self.target, self.goal = target, goal
        self._exports = list(target.exports.values())
        self._calls = [s for s in self._exports if not s.program]
        self._wanted = {s.name: tuple(key for key in s.takes if key is not None) for s in self._calls}
        """For each export, the keys of the resources whose handles it takes."""
        self._simple = all(s.gives is None and not self._wanted[s.name] for s in self._calls)
        """Whether no call takes or returns a handle, so that any may follow any other."""
        self._largest = largest
        self._slow = slow
        self._made, self._large_from = 0, 0
        self.pool: dict[str, list[tuple[int, Step]]] = {}
        self.beginnings: list[Case] = []
        self.best: dict[str, tuple[float, Step]] = {}
        self._producers: dict[int, list[Case]] = {}
        self._returned: dict[WitType, list[Any]] = {}

    # -- kept calls ----------------------------------------------------------------------------

    def keep(self, case: Case) -> None:
        """Keep a test case: its last call, and the whole sequence if it has several."""
        step = case.steps[-1]
        pool = self.pool.setdefault(step.function, [])
        export = self.target.exports.get(step.function)
        size = 1 if export is None else export.size(step.arguments)
        if size >= BULK_ITEMS and sum(kept >= BULK_ITEMS for kept, _ in pool) >= _MAX_BULK_CASES:
            return
        if len(pool) >= _MAX_POOL_CASES:
            pool.pop(0)
        pool.append((size, step))
        if len(case.steps) > 1:
            self.beginnings.append(case)
            del self.beginnings[:-_MAX_POOL_CASES]

    def start_from(self, cases: Iterable[Case]) -> None:
        """Keep the test cases of earlier rounds. Calls that return handles are run, because some may fail."""
        for case in cases:
            self.keep(case)
            export = self.target.exports.get(case.steps[-1].function)
            if export is None or export.gives is None:
                continue
            if not export.fallible:
                self.keep_producer(export, case)
            elif len(self._producers.get(export.gives, ())) < _MAX_VERIFIED_CASES:
                results = self.target.run(case).results
                if len(results) == len(case.steps) and results[-1].good:
                    self.keep_producer(export, case)

    def keep_producer(self, export: TargetExport, case: Case) -> None:
        """Keep a test case whose last call returned a handle."""
        assert export.gives is not None
        kept = self._producers.setdefault(export.gives, [])
        if case not in kept:
            if len(kept) >= _MAX_PRODUCER_CASES:
                kept.pop(_MAX_PRODUCER_CASES // 2)  # the first ones are the simplest or examples, the last ones are new
            kept.append(case)

    def note_result(self, export: TargetExport, result: StepResult, case: Case) -> None:
        """Keep a handle's producer and a returned value, and add the texts in the value to the dictionary."""
        if result.good and export.gives is not None:
            self.keep_producer(export, case)
        dictionary = self.target.dictionary
        if dictionary is not None:
            _learn(dictionary, getattr(result.value, "value", result.value) if result.declared else result.value)
        of = export.returns
        if result.good and of is not None and (not isinstance(of, str) or of == "string") and _short(result.value):
            kept = self._returned.setdefault(of, [])
            if len(kept) >= _MAX_RETURNED_VALUES:
                kept.pop(0)
            kept.append(result.value)

    def charge(self, export: TargetExport, step: Step, fuel: int) -> None:
        """Delay the next large arguments in proportion to the cost of a call with large arguments."""
        size = export.size(step.arguments)
        if size >= BULK_ITEMS:
            fuel += sum(len(a) for a in step.arguments if isinstance(a, list)) * _HOST_FUEL
            self._large_from = max(self._large_from, self._made) + fuel // _BULK_FUEL_PER_CALL

    # -- test cases ----------------------------------------------------------------------------

    def case(self, rng: random.Random) -> Case:
        """Return a new test case."""
        steps: list[Step] = []
        if not self._calls or (len(self._calls) < len(self._exports) and rng.random() < 0.3):
            steps.append(self._program(rng))
        else:
            self._sequence(rng, steps)
        stubs = self.target.stubs
        if not stubs.any:
            return Case(tuple(steps))
        return Case(tuple(steps), random_answers(rng, hostile=stubs.step is not None))

    def _sequence(self, rng: random.Random, steps: list[Step]) -> None:
        count = 1 if rng.random() < 0.2 else rng.randint(2, _MAX_STEPS)
        held: dict[int, list[int]] = {}
        if self.beginnings and rng.random() < 0.3:
            # The latest sequences went furthest.
            back = rng.random() ** 2 if rng.random() < 0.5 else rng.random()
            steps += self.beginnings[-1 - int(back * len(self.beginnings))].steps
            held = self.target.held(steps)
        if self._simple:
            calls, draw = self._calls, rng.random
            for _ in range(count):
                export = calls[int(draw() * len(calls))]
                steps.append(Step(export.name, tuple(self._arguments(rng, export))))
            return
        for _ in range(count):
            step = self._step(rng, steps, held)
            if step is not None:
                steps.append(step)

    def _program(self, rng: random.Random) -> Step:
        """Return the single step of a test case that runs a whole program."""
        export = rng.choice([s for s in self._exports if s.program])
        return Step(export.name, tuple(self._arguments(rng, export)))

    def _step(self, rng: random.Random, steps: list[Step], held: dict[int, list[int]]) -> Step | None:
        """Return a step whose handles are available, and update ``held``; ``None`` if four attempts found no export.

        Calls that return missing handles are appended to ``steps``.
        """
        if held and rng.random() < 0.06:
            return _drop(rng, held)
        calls = self._calls
        for _ in range(4):
            export = calls[int(rng.random() * len(calls))]
            if export.gives is not None and export.fallible and rng.random() < 0.5:
                made = self._produced(rng, export.gives, steps, held)
                if made:
                    return None
            wanted = self._wanted[export.name]
            if not wanted or all(held.get(key) or self._produced(rng, key, steps, held) for key in wanted):
                break
        else:
            return None
        arguments = self._arguments(rng, export)
        if wanted and not _insert_handles(rng, export, arguments, held):
            return None
        if export.gives is not None:
            held.setdefault(export.gives, []).append(len(steps))
        return Step(export.name, tuple(arguments))

    def _produced(self, rng: random.Random, key: int, steps: list[Step], held: dict[int, list[int]]) -> bool:
        """Append the calls of a kept producer of the resource, verbatim; return whether there is one."""
        kept = self._producers.get(key)
        if not kept:
            return False
        case = kept[int(rng.random() * len(kept))]
        steps += case.moved(len(steps))
        for resource, numbers in self.target.held(case.steps).items():
            held.setdefault(resource, []).extend(len(steps) - len(case.steps) + n for n in numbers)
        return bool(held.get(key))

    # -- arguments -----------------------------------------------------------------------------

    def _arguments(self, rng: random.Random, export: TargetExport) -> list[Any]:
        shapes = export.shapes
        if not shapes:
            return []
        self._made += 1
        chance = rng.random()
        if self.goal and chance < 0.4:
            best = self.best.get(export.name)
            if best is not None:
                return self._mutated(rng, export, best[1])
        pool = self.pool.get(export.name)
        if pool and chance < 0.55:
            kept_size, step = _picked(rng, pool)
            if chance < _VERBATIM_SHARE and kept_size < BULK_ITEMS:
                return [None if shape is None else a for shape, a in zip(shapes, step.arguments, strict=True)]
            if kept_size < BULK_ITEMS or self._made >= self._large_from:
                return self._mutated(rng, export, step)
        size = int(2 ** (rng.random() * rng.random() * 13))
        if size > self._largest:
            size = self._largest
        found = [None if shape is None else shape.random(rng, size) for shape in shapes]
        if chance > 0.97:
            place = int(rng.random() * len(shapes))
            shape = shapes[place]
            if shape is not None:
                if chance > 1 - _BULK_SHARE:
                    if self._made >= self._large_from and export.name not in self._slow:
                        found[place] = shape.random(rng, self._largest)
                else:
                    found[place] = self._relation(rng, export, found, place)
        elif self._returned and chance > 0.85:
            self._reuse(rng, export, found)
        return found

    def _relation(self, rng: random.Random, export: TargetExport, found: list[Any], place: int) -> Any:
        """Return the value of another argument of the same shape, or a mutation of it: programs compare arguments."""
        shape = export.shapes[place]
        assert shape is not None
        alike = [n for n, other in enumerate(export.kinds) if n != place and other == export.kinds[place]]
        if not alike:
            return found[place]
        value = found[alike[int(rng.random() * len(alike))]]
        return shape.mutate(rng, value) if rng.random() < 0.6 else value

    def _reuse(self, rng: random.Random, export: TargetExport, found: list[Any]) -> None:
        """Replace arguments by values of the same type that calls returned, half of them mutated."""
        for place, of in enumerate(export.types):
            kept = self._returned.get(of)
            shape = export.shapes[place]
            if kept and shape is not None:
                value = kept[int(rng.random() * len(kept))]
                found[place] = shape.mutate(rng, value) if rng.random() < 0.5 else value

    def _mutated(self, rng: random.Random, export: TargetExport, step: Step) -> list[Any]:
        arguments = list(step.arguments)
        shapes = export.shapes
        chosen = int(rng.random() * len(shapes))
        if len(shapes) > 1 and shapes[chosen] is not None and rng.random() < _ALIKE_SHARE:
            arguments[chosen] = self._relation(rng, export, arguments, chosen)
            return [None if shape is None else a for shape, a in zip(shapes, arguments, strict=True)]
        for place, shape in enumerate(shapes):
            if shape is not None and (place == chosen or rng.random() < 0.2):
                arguments[place] = self._changed(rng, export, place, arguments[place])
            elif shape is None:
                arguments[place] = None
        return arguments

    def _changed(self, rng: random.Random, export: TargetExport, place: int, value: Any) -> Any:
        """Mutate an argument once or several times, or continue it with a part of another kept one."""
        shape = export.shapes[place]
        assert shape is not None
        chance = rng.random()
        if chance < _SPLICE_SHARE:
            other = _picked(rng, self.pool[export.name])[1].arguments[place]
            if isinstance(shape, SequenceShape):
                if chance < _FIELD_SHARE and not isinstance(value, list) and len(value) + len(other) <= BULK_ITEMS:
                    return fields_joined(rng, value, other)
                return _spliced(rng, value, other)
            if isinstance(value, Buffer):
                return Buffer(_spliced(rng, value.data, other.data))
        value = shape.mutate(rng, value)
        while chance > _AGAIN_SHARE and shape.size(value) < BULK_ITEMS:
            value = shape.mutate(rng, value)
            chance = rng.random()
        return value


def _spliced(rng: random.Random, one: Any, two: Any) -> Any:
    """Return the beginning of one sequence and the end of another one, or one with a part of the other inserted."""
    if len(one) + len(two) > BULK_ITEMS:
        return one
    at, start = int(rng.random() * (len(one) + 1)), int(rng.random() * (len(two) + 1))
    chance = rng.random()
    if chance < 0.5:  # lines and records often follow one another
        return one + two if chance < 0.2 else one[:at] + two if chance < 0.4 else one + two[start:]
    if chance < 0.75:
        return one[:at] + two[start:]
    return one[:at] + two[start : start + 1 + int(rng.random() ** 2 * len(two))] + one[at:]


def _short(value: Any) -> bool:
    """Return whether a returned value, and each part of it, may be kept."""
    if isinstance(value, (str, bytes)):
        return len(value) < BULK_ITEMS
    if isinstance(value, list):
        return len(value) < _MAX_KEPT_ITEMS and all(map(_short, value))
    fields = getattr(type(value), "__dataclass_fields__", ())
    return all(_short(getattr(value, name)) for name in fields)


_MAX_KEPT_ITEMS = 512
_MAX_LEARNED_PARTS = 16
_MAX_LEARNED_DEPTH = 4


def _learn(dictionary: Any, value: Any, depth: int = 0) -> None:
    """Add the integers, bytes and texts of a returned value to the dictionary."""
    if isinstance(value, str):
        dictionary.learn_text(value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        dictionary.learn_integer(value)
    elif isinstance(value, bytes):
        dictionary.learn_bytes(value)
    elif depth < _MAX_LEARNED_DEPTH:
        if isinstance(value, (list, tuple)):
            for part in value[:_MAX_LEARNED_PARTS]:
                _learn(dictionary, part, depth + 1)
        else:
            for name in list(getattr(type(value), "__dataclass_fields__", ()))[:_MAX_LEARNED_PARTS]:
                _learn(dictionary, getattr(value, name), depth + 1)


def _picked(rng: random.Random, pool: list[tuple[int, Step]]) -> tuple[int, Step]:
    """Choose a call from the pool, with a preference for recent and for small ones."""
    last, draw = len(pool) - 1, rng.random
    one, two = pool[last - int(last * draw() ** 2)], pool[last - int(last * draw() ** 2)]
    return one if one[0] <= two[0] or (one[0] < BULK_ITEMS and rng.random() < 0.2) else two


def _insert_handles(rng: random.Random, export: TargetExport, arguments: list[Any], held: dict[int, list[int]]) -> bool:
    """Insert handles into ``arguments``; return ``False`` if there are too few. Remove moved handles from ``held``."""
    gone: list[int] = []
    for place, key in enumerate(export.takes):
        if key is None:
            continue
        free = [step for step in held[key] if step not in gone]
        if place in export.consumes:  # a handle that is moved may not occur elsewhere in the same call
            free = [step for step in free if HandleRef(step) not in arguments]
        if not free:
            return False
        chosen = rng.choice(free)
        arguments[place] = HandleRef(chosen)
        if place in export.consumes:
            gone.append(chosen)
    if gone:
        for steps in held.values():
            steps[:] = [step for step in steps if step not in gone]
    return True


def _drop(rng: random.Random, held: dict[int, list[int]]) -> Step | None:
    keys = [key for key, steps in held.items() if steps]
    if not keys:
        return None
    key = rng.choice(keys)
    chosen = rng.choice(held[key])
    held[key].remove(chosen)
    return Step(DROP, (HandleRef(chosen),))
