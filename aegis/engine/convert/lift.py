"""Lifting: source that reads the engine's slots and returns Python values.

It copies the bytes of one value at a time and unpacks them; it never holds a view of memory that is not
ours. What a value copies out of the guest is charged to ``host_bytes`` before it is copied, and what Python makes
of it to ``value_bytes``: an element of a list counts with all its parts, as in lowering. Long lists are read
in pieces, with a look at the deadline between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ctypes import c_char
from struct import Struct
from typing import Any, NamedTuple, NoReturn

from aegis.engine.convert.keys import MOST_PARTS_KEPT, parts_of
from aegis.engine.convert.layout import FORMATS, SLOT, layout_of
from aegis.engine.native import peek, windows
from aegis.memo import memoised
from aegis.wit.flags import COMBINATIONS_KEPT
from aegis.wit.images import nullable
from aegis.wit.naming import constant
from aegis.wit.types import Borrow, Enum, Flags, List, Option, Own, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some

__all__ = ["Lifting", "lifting_of", "result_lifting_of"]

_WORDS = "QQ8x"
_CONTENT: dict[Any, tuple[str, int]] = {
    "string": (_WORDS, 2), List: (_WORDS, 2), Record: (_WORDS, 2), Tuple: (_WORDS, 2), Enum: (_WORDS, 2),
    Flags: (_WORDS, 2), Option: ("Q16x", 1), Result: ("?7xQ8x", 2), Variant: ("QQQ", 3), Own: ("Q16x", 1),
    Borrow: ("Q16x", 1),
}  # fmt: skip
_WINDOW = 1 << 16
_PIECE, _NUMBERS = 1 << 12, 1 << 16
"""Elements that are read between two looks at the time: of anything, and of numbers, which are quick."""
_SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}


class Lifting(NamedTuple):
    """How consecutive slots are read: unpack their bytes to ``words``, then each expression is a value.

    The expressions are source, for whoever writes the call; what they name is in ``scope``, and ``door`` is
    the sandbox's.
    """

    size: int
    unpack_from: Callable[[Any], tuple[Any, ...]]
    expressions: tuple[str, ...]
    words: tuple[str, ...]
    scope: dict[str, Any]
    plain: bool
    """Whether the slots own nothing that the engine must be told to free."""


def _form(of: WitType) -> str:
    """Return the format of a scalar's view; a bool reads as one."""
    assert isinstance(of, str)
    return "?" if of == "bool" else FORMATS[of]


def _content(of: WitType) -> tuple[str, int]:
    """Return the format of a slot's content, 24 bytes, and how many words it gives."""
    if isinstance(of, str) and of != "string":
        form = _form(of)
        return f"{form}{24 - _SIZES[form]}x", 1
    return _CONTENT[of if isinstance(of, str) else type(of)]


@memoised(MOST_PARTS_KEPT, lambda types, _: 1 + parts_of(types))
def lifting_of(types: tuple[WitType, ...], images: tuple[type[Any], ...]) -> Lifting:
    """Return the lifting of ``types`` from consecutive slots; ``images`` as for lowering."""
    del images
    source = _Source()
    form, words, expressions = "=", [], []
    for of in types:
        fragment, count = _content(of)
        form += "8x" + fragment
        mine = source.fresh(count)
        words += mine
        expressions.append(source.read(of, mine))
    plain = all(isinstance(t, str) and t != "string" for t in types)
    return Lifting(SLOT * len(types), Struct(form).unpack_from, tuple(expressions), tuple(words), source.scope, plain)


@memoised(MOST_PARTS_KEPT, lambda of, _: 1 + parts_of(of))
def result_lifting_of(of: WitType, images: tuple[type[Any], ...]) -> Lifting:
    """Return the lifting of a function's result: of a ``result`` the good payload, or the bad one raised."""
    if not isinstance(of, Result):
        return lifting_of((of,), images)
    source = _Source()
    words = source.fresh(2)
    source.scope["bad"] = _raise
    good, bad = ("None" if inner is None else f"{source.boxed(inner)}({words[1]}, door)" for inner in (of.ok, of.err))
    expression = f"({good} if {words[0]} else bad({bad}))"
    return Lifting(SLOT, Struct("=8x?7xQ8x").unpack_from, (expression,), tuple(words), source.scope, False)


def _raise(value: Any) -> NoReturn:
    raise Err(value)


def _text(address: int, size: int, door: Any) -> str:
    """Read a string. Whoever lifts looks at what is left of the budget when all is lifted: one call is bounded."""
    if size > 1024:
        return _long_text(address, size, door)
    door.bytes_left -= size
    door.hold(size)
    return windows[size](address).raw.decode()  # type: ignore[no-any-return]


def _long_text(address: int, size: int, door: Any) -> str:
    door.charge(size)
    door.hold(size)
    raw = peek(address, size)
    if size > _WINDOW and not raw.isascii():
        door.hold(size * (3 if _ASTRAL.search(raw) else 1))  # one such character makes all of them as wide
    return raw.decode()


_ASTRAL = re.compile(rb"[\xf0-\xf4]")


def _in_pieces(
    read: Callable[[int, int, Any], list[Any]], count: int, address: int, door: Any, cost: int, piece: int = _PIECE
) -> list[Any]:
    """Read a long list, each element of which takes ``cost`` bytes of ours: never more at once than a piece."""
    door.hold(count * cost)  # all of it must fit, or none is read
    door.value_left += count * cost  # each piece takes its own
    made: list[Any] = []
    for at in range(0, count, piece):
        made += read(min(piece, count - at), address + at * SLOT, door)
    return made


class _Source:
    """Functions that read one type each, and expressions that call them."""

    def __init__(self) -> None:
        self.count = 0
        self.scope: dict[str, Any] = {"text": _text, "peek": peek, "windows": windows, "in_pieces": _in_pieces}

    def name(self, value: Any) -> str:
        self.count += 1
        made = f"f{self.count}"
        self.scope[made] = value
        return made

    def fresh(self, count: int) -> list[str]:
        made = [f"w{self.count + n + 1}" for n in range(count)]
        self.count += count
        return made

    def function(self, parameters: str, lines: list[str]) -> str:
        self.count += 1
        made = f"f{self.count}"
        exec(f"def {made}({parameters}):\n" + "\n".join(f"    {line}" for line in lines), self.scope)
        return made

    def read(self, of: WitType, words: list[str]) -> str:
        """Return the expression of a value of type ``of`` whose content is ``words``."""
        match of:
            case "string":
                return f"text({words[1]}, {words[0]}, door)"
            case "char":
                return f"chr({words[0]})"
            case str():
                return words[0]
            case List():
                return f"{self.list(of)}({words[0]}, {words[1]}, door)"
            case Record():
                return f"{self.record(of)}({words[1]}, door)"
            case Tuple():
                return f"{self.tuple(of)}({words[1]}, door)"
            case Option(element):
                reader = self.boxed(element, "Some" if nullable(element) else "")
                return f"(None if {words[0]} == 0 else {reader}({words[0]}, door))"
            case Result():
                return self.result(of, words)
            case Variant():
                return f"{self.variant(of)}({', '.join(words)}, door)"
            case Enum():
                assert of.python is not None
                return f"{self.name({n.encode(): of.python(n) for n in of.cases})}[windows[{words[0]}]({words[1]}).raw]"
            case Flags():
                return f"{self.name(_flags_reader(of))}({words[0]}, {words[1]})"
            case Own(resource):
                return f"door.handles.lift_own({words[0]}, {resource.key})"
            case Borrow(resource):
                return f"door.handles.lift_borrow({words[0]}, {resource.key})"

    def boxed(self, of: WitType, wrapper: str = "") -> str:
        """Return a function that reads the slot at an address."""
        fragment, count = _content(of)
        unpack = self.unpack(f"=8x{fragment}")
        words = self.fresh(count)
        value = self.read(of, words)
        if wrapper:
            value = f"{self.name({'Some': Some, 'Ok': Ok, 'Err': Err}[wrapper])}({value})"
        return self.function("p, door", [f"{', '.join(words)}, = {unpack}", f"return {value}"])

    def unpack(self, form: str) -> str:
        """Return the expression that unpacks what lies at ``p``."""
        packed = Struct(form)
        return f"{self.name(packed.unpack_from)}({self.name(windows[packed.size])}(p))"

    def result(self, of: Result, words: list[str]) -> str:
        sides = []
        for wrapper, inner in (("Ok", of.ok), ("Err", of.err)):
            made = self.name({"Ok": Ok, "Err": Err}[wrapper])
            sides.append(f"{made}(None)" if inner is None else f"{self.boxed(inner, wrapper)}({words[1]}, door)")
        return f"({sides[0]} if {words[0]} else {sides[1]})"

    def record(self, of: Record) -> str:
        fields = [t for _, t in of.fields]
        return self.parts(fields, "24x", f"{self.name(of.python)}({{}})")

    def tuple(self, of: Tuple) -> str:
        return self.parts(list(of.elements), "8x", "({},)")

    def parts(self, types: list[WitType], lead: str, made: str) -> str:
        """Return a function that reads slots in a row and makes one value of theirs."""
        form, words, values = "=", [], []
        for of in types:
            fragment, count = _content(of)
            form += lead + fragment
            mine = self.fresh(count)
            words += mine
            values.append(self.read(of, mine))
        lines = [f"{', '.join(words)}, = {self.unpack(form)}", f"return {made.format(', '.join(values))}"]
        return self.function("p, door", lines)

    def variant(self, of: Variant) -> str:
        readers: dict[bytes, Any] = {}
        for (name, inner), cls in zip(of.cases, of.python or (), strict=True):
            if inner is None:
                value = cls()
                readers[name.encode()] = lambda p, door, value=value: value
            else:
                fragment, count = _content(inner)
                words = self.fresh(count)
                read = f"{self.name(cls)}({self.read(inner, words)})"
                lines = [f"{', '.join(words)}, = {self.unpack(f'=8x{fragment}')}", f"return {read}"]
                made = self.function("p, door", lines)
                readers[name.encode()] = self.scope[made]
        table = self.name(readers)
        return self.function("n, q, p, door", [f"return {table}[windows[n](q).raw](p, door)"])

    def list(self, of: List) -> str:
        element = of.element
        if element == "u8":
            return self.name(_octets)
        if isinstance(element, str) and element not in ("string", "char"):
            return self.name(_numbers(_form(element)))
        fragment, count = _content(element)
        each = self.name(Struct(f"=8x{fragment}").iter_unpack)
        words = self.fresh(count)
        value = self.read(element, words)
        # More handles than may be held cannot all be meant, and each costs more to read than anything else.
        bound = ["door.handles.many(n)"] if isinstance(element, (Own, Borrow)) else []
        cost = SLOT + len(layout_of(element).extension)
        lines = [
            *bound,
            f"if n > {_PIECE}: return in_pieces(f{self.count + 1}, n, p, door, {cost})",
            f"door.charge(n * {SLOT})",
            f"door.hold(n * {cost})",
            f"return [{value} for {', '.join(words)}, in {each}(peek(p, n * {SLOT}))] if n else []",
        ]
        return self.function("n, p, door", lines)


def _octets(count: int, address: int, door: Any) -> bytes:
    if not count:
        return b""
    door.charge(count)
    door.hold(count)
    size = count * SLOT
    window = windows[size] if size <= _WINDOW else (c_char * size).from_address
    octets = window(address)[8::SLOT]
    assert isinstance(octets, bytes)
    return octets


def _numbers(form: str) -> Callable[[int, int, Any], list[Any]]:
    size = _SIZES[form]
    first, step = 8 // size, SLOT // size
    cost = 8 if form == "?" else 40  # a place in the list, and a number

    def read(count: int, address: int, door: Any) -> list[Any]:
        if count > _NUMBERS:
            return _in_pieces(read, count, address, door, cost, _NUMBERS)
        if not count:
            return []
        door.charge(count * size)
        door.hold(count * cost)
        view = memoryview(peek(address, count * SLOT)).cast(form)  # type: ignore[call-overload]
        return view[first::step].tolist()  # type: ignore[no-any-return]

    return read


def _flags_reader(of: Flags) -> Callable[[int, int], Any]:
    cls = of.python
    assert cls is not None
    bits = {name.encode(): cls[constant(name)].value for name in of.names}
    known: dict[int, Any] = {}

    def read(count: int, address: int) -> Any:
        value = 0
        if count:
            words = memoryview(peek(address, 16 * count)).cast("Q")
            for n in range(0, 2 * count, 2):
                value |= bits[windows[words[n]](words[n + 1]).raw]
        found = known.get(value)
        if found is None:
            found = cls(value)
            if len(known) < COMBINATIONS_KEPT:
                known[value] = found
        return found

    return read
