"""Shapes: they generate, mutate and shrink the values of one WIT type or core type. Independent of hypothesis.

Values are the Python values that a sandbox call takes. A size is a budget of characters, elements and parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from aegis.fuzz.values.scalars import Char, Choice, FlagSet, Float, Integer
from aegis.fuzz.values.sequences import BULK_ITEMS, Items, Octets, TextShape
from aegis.fuzz.values.shape import CannotGenerate, ValueShape
from aegis.wit.naming import snake
from aegis.wit.python_types import nullable
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    List,
    Option,
    Own,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
    show,
)
from aegis.wit.values import Err, Ok, Some

if TYPE_CHECKING:
    from aegis.fuzz.dictionary import Dictionary

__all__ = ["CannotGenerate", "ValueShape", "core_shape", "shape_of"]


def shape_of(
    of: WitType, overrides: Mapping[Any, ValueShape] | None = None, dictionary: Dictionary | None = None
) -> ValueShape:
    """Return the shape of a WIT type. Its named types must have their Python classes.

    ``overrides`` maps a type, or the name of a record, variant, enum or flags, to a shape. Some values are entries of
    the ``dictionary``. Raise :class:`CannotGenerate` for handles: a test case obtains them from the guest.
    """
    for key in (of, getattr(of, "name", None)):
        if overrides and key in overrides:
            return overrides[key]
    match of:
        case str():
            return _primitive(of, dictionary)
        case List("u8"):
            return Octets(dictionary)
        case List(element):
            return Items(shape_of(element, overrides, dictionary), dictionary)
        case Tuple(elements):
            return _Parts([shape_of(e, overrides, dictionary) for e in elements], _tuple, list)
        case Record():
            names = [snake(name) for name, _ in of.fields]
            cls: Any = of.python
            return _Parts(
                [shape_of(t, overrides, dictionary) for _, t in of.fields], lambda *parts: cls(*parts),
                lambda value: [getattr(value, name) for name in names],
            )  # fmt: skip
        case Option() | Result() | Variant():
            return _Cases(*_cases(of, overrides, dictionary))
        case Enum():
            return Choice([of.python(case) for case in of.cases])  # type: ignore[misc]
        case Flags():
            return FlagSet(of.python, len(of.names))
        case Own() | Borrow():
            raise CannotGenerate(f"{show(of)} is a handle inside another value, which cannot be generated")
    raise CannotGenerate(f"values of type {show(of)} cannot be generated")


def core_shape(kind: str, dictionary: Dictionary | None = None) -> ValueShape:
    """Return the shape of a core value type; raise :class:`CannotGenerate` for references and vectors."""
    if kind in ("i32", "i64"):
        bits = int(kind[1:])
        return Integer(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, dictionary)
    if kind in ("f32", "f64"):
        return Float(int(kind[1:]))
    raise CannotGenerate(f"values of type {kind} cannot be generated: only numbers can")


def _tuple(*parts: Any) -> tuple[Any, ...]:
    return parts


def _primitive(of: str, dictionary: Dictionary | None) -> ValueShape:
    if of == "bool":
        return Choice([False, True])
    if of == "char":
        return Char()
    if of == "string":
        return TextShape(dictionary)
    if of in ("f32", "f64"):
        return Float(int(of[1:]))
    bits = int(of[1:])
    low, high = (0, (1 << bits) - 1) if of[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return Integer(low, high, dictionary)


def _none(_: Any) -> None:
    return None


def _itself(value: Any) -> Any:
    return value


def _bare(cls: Any, _: Any) -> Any:
    return cls()


def _cases(
    of: Any, overrides: Mapping[Any, ValueShape] | None, dictionary: Dictionary | None
) -> tuple[list[tuple[Callable[[Any], Any], ValueShape | None]], Callable[[Any], tuple[int, Any]]]:
    """Return constructor and payload shape of each case, and a function from a value to its case and payload."""

    def shape(inner: WitType | None) -> ValueShape | None:
        return None if inner is None else shape_of(inner, overrides, dictionary)

    if isinstance(of, Option):
        inner = shape(of.element)
        if nullable(of.element):
            return [(_none, None), (Some, inner)], lambda value: (0, None) if value is None else (1, value.value)
        return [(_none, None), (_itself, inner)], lambda value: (0, None) if value is None else (1, value)
    if isinstance(of, Result):
        return (
            [(Ok, shape(of.ok)), (Err, shape(of.err))],
            lambda value: (int(isinstance(value, Err)), value.value),
        )
    classes: Sequence[Any] = of.python
    made = [
        (cls if payload is not None else partial(_bare, cls), shape(payload))
        for cls, (_, payload) in zip(classes, of.cases, strict=True)
    ]
    numbers = {cls: n for n, cls in enumerate(classes)}
    return made, lambda value: (numbers[type(value)], getattr(value, "value", None))


# -- compound types -------------------------------------------------------------------------------------


class _Parts:
    """The shape of records and tuples. ``make`` builds a value from its parts, ``take`` returns the parts."""

    def __init__(
        self, shapes: Sequence[ValueShape], make: Callable[..., Any], take: Callable[[Any], list[Any]]
    ) -> None:
        self.shapes, self.make, self.take = list(shapes), make, take

    def simplest(self) -> Any:
        return self.make(*(shape.simplest() for shape in self.shapes))

    def random(self, rng: Random, size: int) -> Any:
        count = max(1, len(self.shapes))
        if size < BULK_ITEMS:
            each = max(1, size // count)
            return self.make(*[shape.random(rng, each) for shape in self.shapes])
        large = int(rng.random() * count)  # one part gets the whole size, so that its length reaches the largest ones
        return self.make(*[shape.random(rng, size if n == large else 16) for n, shape in enumerate(self.shapes)])

    def mutate(self, rng: Random, value: Any) -> Any:
        parts = self.take(value)
        if parts:
            place = int(rng.random() * len(parts))
            parts[place] = self.shapes[place].mutate(rng, parts[place])
        return self.make(*parts)

    def simpler(self, value: Any) -> Iterator[Any]:
        parts = self.take(value)
        for place, shape in enumerate(self.shapes):
            for part in shape.simpler(parts[place]):
                yield self.make(*parts[:place], part, *parts[place + 1 :])

    def size(self, value: Any) -> int:
        return 1 + sum(shape.size(part) for shape, part in zip(self.shapes, self.take(value), strict=True))


class _Cases:
    """The shape of options, results and variants.

    ``made`` has a constructor and a payload shape per case; ``take`` returns the case number and payload of a value.
    """

    def __init__(
        self, made: Sequence[tuple[Callable[[Any], Any], ValueShape | None]], take: Callable[[Any], tuple[int, Any]]
    ) -> None:
        self.made, self.take = list(made), take

    def simplest(self) -> Any:
        make, shape = self.made[0]
        return make(None if shape is None else shape.simplest())

    def random(self, rng: Random, size: int) -> Any:
        make, shape = self.made[int(rng.random() * len(self.made))]
        return make(None if shape is None else shape.random(rng, size))

    def mutate(self, rng: Random, value: Any) -> Any:
        case, payload = self.take(value)
        make, shape = self.made[case]
        if shape is None or rng.random() < 0.25:
            return self.random(rng, 16)
        return make(shape.mutate(rng, payload))

    def simpler(self, value: Any) -> Iterator[Any]:
        case, payload = self.take(value)
        for make, shape in self.made[:case]:
            yield make(None if shape is None else shape.simplest())
        make, shape = self.made[case]
        if shape is not None:
            for part in shape.simpler(payload):
                yield make(part)

    def size(self, value: Any) -> int:
        case, payload = self.take(value)
        shape = self.made[case][1]
        return 1 + (0 if shape is None else shape.size(payload))
