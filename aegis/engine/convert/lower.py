"""Lowering: source that writes Python values into an arena, in the engine's form.

The source is optimistic. A view refuses what is out of range, an attribute that is not there raises, and
whoever runs the source then asks :mod:`~aegis.component.fit` what was wrong. Nothing is ever cut.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from aegis.component.keys import MOST_PARTS_KEPT, parts_of
from aegis.engine.convert.layout import FORMATS, SLOT, Arena, Layout, address_of, layout_of
from aegis.component.scalars import bad_bool, bad_char, exact, octets_of, single
from aegis.component.fit import Unfit, as_list, as_tuple
from aegis.memo import memoised
from aegis.wit.flags import COMBINATIONS_KEPT
from aegis.wit.images import nullable
from aegis.wit.naming import snake
from aegis.wit.types import Borrow, Enum, Flags, List, Option, Own, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some

__all__ = ["Lowering", "lowering_of", "result_lowering_of", "scalar_expression", "scalar_scope"]

_SHIFT = {"B": 0, "b": 0, "H": 1, "h": 1, "I": 2, "i": 2, "f": 2, "Q": 3, "q": 3, "d": 3}
_LARGEST = 3.4028234663852886e38


class Place(NamedTuple):
    """An offset in the arena: a variable, empty when the offset is known, and a constant."""

    variable: str
    constant: int

    def plus(self, more: int) -> Place:
        return Place(self.variable, self.constant + more)

    def text(self) -> str:
        return f"{self.variable}+{self.constant}" if self.variable else str(self.constant)

    def at(self, form: str, more: int = 8) -> str:
        """Return the index, in the view of format ``form``, of what lies ``more`` bytes behind."""
        shift, at = _SHIFT[form], self.constant + more
        if not self.variable:
            return str(at >> shift)
        return f"{self.variable}+{at}>>{shift}" if shift else f"{self.variable}+{at}"


class Lowering(NamedTuple):
    """How values of some types are written: ``make(arena)`` returns the function that does it.

    The function takes the values, then the list that keeps alive what they point to, and the sandbox's
    door. ``first`` is the offset of the first slot in an arena of ``layout``.
    """

    layout: Layout
    first: int
    make: Callable[[Arena], Callable[..., None]]
    scalar: bool


@memoised(MOST_PARTS_KEPT, lambda types, _: 1 + parts_of(types))
def lowering_of(types: tuple[WitType, ...], images: tuple[type[Any], ...]) -> Lowering:
    """Return the lowering of ``types``, in consecutive slots; ``images`` are all their Python classes.

    Types are equal when their images differ; the cache must not think so.
    """
    del images
    whole = layout_of(Tuple(types))
    source = _Source()
    values = [f"a{n}" for n in range(len(types))]
    for value, of, (slot, extension) in zip(values, types, whole.parts, strict=True):
        source.write(of, value, Place("", SLOT + slot), Place("", SLOT + extension))
    make = source.finish(values)
    return Lowering(whole, SLOT, make, all(isinstance(t, str) and t != "string" for t in types))


@memoised(MOST_PARTS_KEPT, lambda of, _: 1 + parts_of(of))
def result_lowering_of(of: WitType, images: tuple[type[Any], ...]) -> Lowering:
    """Return the lowering of a host function's result: of a ``result``, what is not ``Err`` is the good payload."""
    if not isinstance(of, Result):
        return lowering_of((of,), images)
    whole = layout_of(Tuple((of,)))
    source = _Source()
    (slot, extension), at = whole.parts[0], SLOT
    source.result(of, "a0", Place("", at + slot), Place("", at + extension), bare=True)
    return Lowering(whole, SLOT, source.finish(["a0"]), False)


def scalar_expression(of: str, x: str) -> str:
    """Return the expression that makes of ``x`` what the view of ``of`` takes; :func:`scalar_scope` has its names."""
    if of == "bool":
        return f"1 if {x} is True else 0 if {x} is False else bad_bool({x})"
    if of == "char":
        return f"ord({x}) if {x}.__class__ is str and not '\\ud800' <= {x} <= '\\udfff' else bad_char({x})"
    if of == "f64":
        return f"{x} if {x}.__class__ is float else exact({x})"
    if of == "f32":
        return f"{x} if {x}.__class__ is float and -{_LARGEST} <= {x} <= {_LARGEST} else single({x})"
    return x


def scalar_scope() -> dict[str, Any]:
    """Return the names that :func:`scalar_expression` uses."""
    return {"exact": exact, "single": single, "bad_bool": bad_bool, "bad_char": bad_char}


class _Source:
    """The source of one lowering function, and the names that it uses."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.formats: dict[str, None] = {}
        self.depth = 1
        self.count = 0
        self.scope: dict[str, Any] = {
            **scalar_scope(), "Ok": Ok, "Err": Err, "Some": Some, "Unfit": Unfit, "as_tuple": as_tuple,
            "Arena": Arena, "HEADER": address_of(b"") - id(b""), "encode": str.encode,
        }  # fmt: skip

    # -- text ----------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def name(self, value: Any) -> str:
        """Give ``value`` a name in the source's scope."""
        self.count += 1
        made = f"k{self.count}"
        self.scope[made] = value
        return made

    def words_of(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Return length and address of each name's bytes, which the source keeps."""
        kept = [name.encode() for name in names]
        self.name(kept)
        return [(len(data), address_of(data)) for data in kept]

    def enum(self, of: Enum) -> dict[Any, tuple[int, int]]:
        """Return the words of each case, by the member of the Python enum."""
        assert of.python is not None
        return dict(zip(map(of.python, of.cases), self.words_of(of.cases), strict=True))

    def fresh(self, expression: str) -> str:
        """Assign an expression to a variable of its own, unless it is one."""
        if expression.isidentifier():
            return expression
        self.count += 1
        made = f"x{self.count}"
        self.say(f"{made} = {expression}")
        return made

    def view(self, form: str) -> str:
        self.formats[form] = None
        return f"v{form}"

    def put(self, form: str, place: Place, more: int, expression: str) -> None:
        self.say(f"{self.view(form)}[{place.at(form, more)}] = {expression}")

    def finish(self, values: list[str]) -> Callable[[Arena], Callable[..., None]]:
        arguments = ", ".join([*values, "keep", "door"])
        body = self.lines or ["    pass"]
        views = [f"    v{form} = whole.cast({form!r})" for form in self.formats]
        lines = ["def make(arena):", "    whole = memoryview(arena.buffer)", "    base = arena.base", *views,
                 f"    def lower({arguments}):", *(f"    {line}" for line in body), "    return lower"]  # fmt: skip
        exec("\n".join(lines), self.scope)
        make: Callable[[Arena], Callable[..., None]] = self.scope["make"]
        return make

    def finish_list(self, layout: Layout) -> Callable[..., tuple[int, int]]:
        """Make the function of a list's elements, which brings its own arena."""
        views = [f"    v{form} = whole.cast({form!r})" for form in self.formats]
        lines = [
            "def lower(values, keep, door):", "    count = len(values)", "    if not count: return 0, 0",
            "    arena = Arena(layout, count)", "    keep.append(arena)", "    whole = memoryview(arena.buffer)",
            "    base = arena.base", *views, f"    at, ext = 0, {SLOT} * count", "    for value in values:",
            *(f"    {line}" for line in self.lines), f"        at += {SLOT}", f"        ext += {len(layout.extension)}",
            "    return count, base",
        ]  # fmt: skip
        self.scope["layout"] = layout
        exec("\n".join(lines), self.scope)
        made: Callable[..., tuple[int, int]] = self.scope["lower"]
        return made

    # -- one method a kind of type ---------------------------------------------------------------

    def write(self, of: WitType, value: str, at: Place, ext: Place) -> None:
        """Write ``value`` (an expression) of type ``of`` to its slot ``at`` and its extension ``ext``."""
        match of:
            case str():
                self.primitive(of, value, at)
            case List():
                self.list(of, value, at)
            case Record():
                self.record(of, self.fresh(value), ext)
            case Tuple():
                self.tuple(of, value, ext)
            case Option():
                self.option(of, self.fresh(value), at, ext)
            case Result():
                self.result(of, self.fresh(value), at, ext)
            case Variant():
                self.variant(of, self.fresh(value), at, ext)
            case Enum():
                self.words(at, f"{self.name(self.enum(of))}[{value}]")
            case Flags():
                self.flags(of, value, at, ext)
            case Own(resource):
                self.put("Q", at, 8, f"door.handles.lower_own({value}, {resource.key})")
            case Borrow(resource):
                self.put("Q", at, 8, f"door.handles.lower_borrow({value}, {resource.key})")

    def words(self, at: Place, pair: str) -> None:
        self.say(f"n, p = {pair}")
        self.put("Q", at, 8, "n")
        self.put("Q", at, 16, "p")

    def primitive(self, of: str, value: str, at: Place) -> None:
        if of == "string":
            self.say(f"s = encode({value})")  # str's own: an object's `encode` could return anything
            self.say("keep.append(s)")
            self.say("n = len(s)")
            self.say("door.bytes_left -= n")
            self.put("Q", at, 8, "n")
            self.put("Q", at, 16, "id(s) + HEADER")
        else:
            x = self.fresh(value) if of in ("bool", "char", "f32", "f64") else value
            self.put(FORMATS[of], at, 8, scalar_expression(of, x))

    def list(self, of: List, value: str, at: Place) -> None:
        if of.element == "u8":
            function: Callable[..., tuple[int, int]] = octets_of
        elif isinstance(of.element, str) and of.element in _PACKED:
            function = _packed(of.element)
        else:
            function = _elements(of.element)
        self.words(at, f"{self.name(function)}({value}, keep, door)")

    def record(self, of: Record, value: str, ext: Place) -> None:
        for (name, field), (slot, extension) in zip(of.fields, layout_of(of).parts, strict=True):
            self.write(field, f"{value}.{snake(name)}", ext.plus(slot), ext.plus(extension))

    def tuple(self, of: Tuple, value: str, ext: Place) -> None:
        x = self.fresh(value)
        parts = []
        for _ in of.elements:
            self.count += 1
            parts.append(f"x{self.count}")
        self.say(f"{', '.join(parts)}, = {x} if {x}.__class__ is tuple else as_tuple({x})")
        for part, field, (slot, extension) in zip(parts, of.elements, layout_of(of).parts, strict=True):
            self.write(field, part, ext.plus(slot), ext.plus(extension))

    def option(self, of: Option, value: str, at: Place, ext: Place) -> None:
        self.say(f"if {value} is None:")
        self.depth += 1
        self.put("Q", at, 8, "0")
        self.depth -= 1
        self.say("else:")
        self.depth += 1
        if nullable(of.element):
            self.say(f"if {value}.__class__ is not Some: raise Unfit")
            value = self.fresh(f"{value}.value")
        self.boxed(of, 0, of.element, value, at, 8, ext)
        self.depth -= 1

    def boxed(self, of: WitType, number: int, inner: WitType, value: str, at: Place, more: int, ext: Place) -> None:
        """Point to the payload ``number`` of ``of``, and write it."""
        slot, extension = layout_of(of).parts[number]
        self.put("Q", at, more, f"base + {ext.plus(slot).text()}")
        self.write(inner, value, ext.plus(slot), ext.plus(extension))

    def result(self, of: Result, value: str, at: Place, ext: Place, *, bare: bool = False) -> None:
        for number, (test, inner) in enumerate(
            ((f"{value}.__class__ is Ok", of.ok), (f"isinstance({value}, Err)", of.err))
        ):
            self.say(f"{'if' if not number else 'elif'} {test}:")
            self.depth += 1
            self.put("B", at, 8, str(1 - number))
            self.payload(of, number, inner, f"{value}.value", at, 16, ext)
            self.depth -= 1
        if not bare:
            self.say("else: raise Unfit")
            return
        self.say("else:")
        self.depth += 1
        self.put("B", at, 8, "1")
        if of.ok is None:
            self.say(f"if {value} is not None: raise Unfit")
        self.payload(of, 0, of.ok, value, at, 16, ext)
        self.depth -= 1

    def payload(
        self, of: WitType, number: int, inner: WitType | None, value: str, at: Place, more: int, ext: Place
    ) -> None:
        if inner is None:
            if value.endswith(".value"):
                self.say(f"if {value} is not None: raise Unfit")
            self.put("Q", at, more, "0")
        else:
            self.boxed(of, number, inner, self.fresh(value), at, more, ext)

    def variant(self, of: Variant, value: str, at: Place, ext: Place) -> None:
        classes = of.python or ()
        words = self.words_of([name for name, _ in of.cases])
        table = {cls: (*words[n], n) for n, cls in enumerate(classes)}
        self.say(f"n, p, k = {self.name(table)}[{value}.__class__]")
        self.put("Q", at, 8, "n")
        self.put("Q", at, 16, "p")
        self.put("Q", at, 24, "0")
        word = "if"
        for number, (_, inner) in enumerate(of.cases):
            if inner is not None:
                self.say(f"{word} k == {number}:")
                self.depth += 1
                self.boxed(of, number, inner, self.fresh(f"{value}.value"), at, 24, ext)
                self.depth -= 1
                word = "elif"

    def flags(self, of: Flags, value: str, at: Place, ext: Place) -> None:
        self.say(f"n, s = {self.name(_flag_blocks(of, self.words_of(of.names)))}({value})")
        self.put("Q", at, 8, "n")
        self.say(f"{self.view('B')}[{ext.text()}:{ext.text()}+(n<<4)] = s")


def _flag_blocks(of: Flags, names: list[tuple[int, int]]) -> Callable[[Any], tuple[int, bytes]]:
    """Return what gives, for a Python flag, how many names are set and the words of them all."""
    cls = of.python
    words = [b"".join(part.to_bytes(8, "little") for part in name) for name in names]
    known: dict[int, tuple[int, bytes]] = {}

    def block(value: Any) -> tuple[int, bytes]:
        if value.__class__ is not cls:
            raise Unfit
        bits = value.value
        found = known.get(bits)
        if found is None:
            if not 0 <= bits < 1 << len(words):
                raise Unfit
            parts = [word for n, word in enumerate(words) if bits >> n & 1]
            if len(known) >= COMBINATIONS_KEPT:
                known.clear()
            found = known[bits] = len(parts), b"".join(parts)
        return found

    return block


_PACKED = frozenset(FORMATS) - {"bool", "char", "u8"}
_STEPS = {"b": 32, "B": 32, "h": 16, "H": 16, "i": 8, "I": 8, "f": 8, "q": 4, "Q": 4, "d": 4}


@cache
def _packed(of: str) -> Callable[..., tuple[int, int]]:
    """Return what lowers a list of numbers, at the speed of an array's constructor."""
    form, step, layout = FORMATS[of], _STEPS[FORMATS[of]], layout_of(of)
    fit = {"f32": single, "f64": exact}.get(of)

    def lower(values: Any, keep: list[Any], door: Any) -> tuple[int, int]:
        values = as_list(values)
        if not values:
            return 0, 0
        if fit is not None and (of == "f32" or set(map(type, values)) != {float}):
            values = list(map(fit, values))
        packed = array(form, values)
        door.bytes_left -= len(packed) * packed.itemsize
        arena = Arena(layout, len(packed))
        memoryview(arena.buffer).cast(form)[step >> 2 :: step] = packed  # type: ignore[call-overload]
        keep.append(arena)
        return len(packed), arena.base

    return lower


def _elements(of: WitType) -> Callable[..., tuple[int, int]]:
    """Return what lowers a list of anything else."""
    layout = layout_of(of)
    source = _Source()
    source.write(of, "value", Place("at", 0), Place("ext", 0))
    inner = source.finish_list(layout)
    size = SLOT + len(layout.extension)

    def lower(values: Any, keep: list[Any], door: Any) -> tuple[int, int]:
        values = as_list(values)
        door.charge(len(values) * size)
        return inner(values, keep, door)

    return lower
