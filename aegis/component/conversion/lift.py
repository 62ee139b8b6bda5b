"""Lifting: generates source that lifts values from core values and linear memory.

Source: CanonicalABI.md, "Loading" and "Flat Lifting".

The fixed-size part of a value is unpacked by one :mod:`struct` call into *leaves*: its numbers, pointers, lengths,
discriminants and handles. An expression over the leaves then builds the Python value. If two or more cases of a variant
have payloads, its leaf is the payload as bytes, which the code of each case unpacks. Evaluating the expression reads
strings and lists: it first checks each range against the memory's current size and then, before allocating, charges
``host_bytes`` for the bytes copied and ``value_bytes`` for the Python objects.

The expressions use ``cx``, the context of the call (:class:`~aegis.component.state.LiftLowerContext`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from struct import Struct
from typing import Any

from aegis.component.conversion.construct import constructor
from aegis.component.conversion.layout import (
    FORMATS,
    align_up,
    case_types,
    discriminant_size,
    flat,
    layout,
    parts,
    payload_offset,
)
from aegis.component.conversion.source import Source
from aegis.component.conversion.strings import LOADERS, RAW_LOADERS, load_many_utf8, load_staged
from aegis.component.planning.type_keys import images_of
from aegis.component.traps import bad_case, bad_char, unaligned
from aegis.wit.flags import MAX_CACHED_COMBINATIONS
from aegis.wit.python_types import nullable
from aegis.wit.sizes import ERR_BYTES, OK_BYTES, element_bytes, largest_bytes
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Future,
    List,
    Option,
    Own,
    Record,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
)
from aegis.wit.values import Err, Ok, Some

__all__ = ["Declared", "Lift"]

_CHUNK_ELEMENTS, _CHUNK_NUMBERS = 1 << 12, 1 << 16
"""List elements lifted between two deadline checks: of any type, and of numbers, which are faster."""
_MAX_EXPRESSION_DEPTH = 12
"""Levels of types in one expression; deeper types get a function of their own. CPython's parser rejects more than about
90 nested parentheses."""
_MAX_CHAINED_CASES = 64
"""Cases selected by a chain of conditional expressions; more are selected by binary search."""
_BITS = {"b": 8, "B": 8, "h": 16, "H": 16, "i": 32, "I": 32, "q": 64, "Q": 64}
_INTEGERS = {1: "B", 2: "H", 4: "I"}
_SLOT_FORMATS = {"i32": "I", "i64": "Q", "f32": "f", "f64": "d"}
_NUMERIC = frozenset(FORMATS) - {"bool", "char"}


class Declared:
    """The payload of the error case of an exported function's result, until Aegis raises it as ``Err``."""

    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class Lift(Source):
    """Source of a converter that lifts.

    A value of the result type :attr:`top` becomes its ok payload alone, or a :class:`Declared` with its error payload.
    """

    top: Result | None = None
    outward = False
    """Whether the values go to the caller of an exported function, which may have supplied a buffer for bytes."""
    cx = "cx"
    """The name of the variable that holds the context where the expression is evaluated."""
    staged: Iterator[int] | None = None
    """Offsets that replace the pointers of the value's strings and lists, in order, when a fused module has copied
    their bytes (:mod:`aegis.component.shims.fused_calls`)."""

    def helper(self, key: Hashable, parameters: str, write: Callable[[], None]) -> str:
        outer, self.cx = self.cx, "cx"
        try:
            return super().helper(key, parameters, write)
        finally:
            self.cx = outer

    def _pointer(self, leaf: str) -> str:
        return leaf if self.staged is None else str(next(self.staged))

    # -- leaves in linear memory ------------------------------------------------------------------

    def leaves(self, of: WitType, at: int = 0) -> list[tuple[str, int, int]]:
        """Return format, offset and size of each leaf of a value at the offset ``at``, in order."""
        match of:
            case "string" | List():
                return [("I", at, 4), ("I", at + 4, 4)]
            case str():
                return [(FORMATS[of], at, layout(of).size)]
            case Own() | Borrow() | Stream() | Future():
                return [("I", at, 4)]
            case Enum() | Flags():
                size = layout(of).size
                return [(_INTEGERS[size], at, size)]
        cases = case_types(of)
        if cases is not None:
            return self._case_leaves(of, cases, at)
        found = []
        for part in parts(of):
            inner = layout(part)
            at = align_up(at, inner.align)
            found += self.leaves(part, at)
            at += inner.size
        return found

    def _case_leaves(self, of: WitType, cases: Sequence[WitType | None], at: int) -> list[tuple[str, int, int]]:
        size = discriminant_size(len(cases))
        found = [(_INTEGERS[size], at, size)]
        payloads = [t for t in cases if t is not None]
        start = at + payload_offset(of)
        if len(payloads) == 1:
            return found + self.leaves(payloads[0], start)
        if payloads:
            most = max(layout(t).size for t in payloads)
            found.append((f"{most}s", start, most))
        return found

    def format(self, of: WitType) -> str:
        """Return the :mod:`struct` format that unpacks the leaves of a value."""
        at, form = 0, "<"
        for code, offset, size in self.leaves(of):
            form += f"{offset - at}x" if offset > at else ""
            form += code
            at = offset + size
        rest = layout(of).size - at
        return form + (f"{rest}x" if rest else "")

    def unpacked(self, of: WitType, source: str, method: str) -> tuple[str, list[str]]:
        """Return an expression that unpacks the leaves from ``source``, and new names for the leaves."""
        names = [self.fresh("w") for _ in self.leaves(of)]
        return f"{self.name(getattr(Struct(self.format(of)), method))}({source})", names

    # -- values from leaves -----------------------------------------------------------------------

    def value(self, of: WitType, leaves: list[str], depth: int = 0) -> str:
        """Return the expression that builds a value; remove its leaves from the front of ``leaves``."""
        match of:
            case str():
                return self._primitive(of, leaves)
            case List():
                pointer = self._pointer(leaves.pop(0))
                return f"{self._list(of)}({self.cx}, {pointer}, {leaves.pop(0)})"
            case Own(resource):
                return f"{self.cx}.lift_own({self.number(resource)}, {leaves.pop(0)})"
            case Borrow(resource):
                return f"{self.cx}.lift_borrow({self.number(resource)}, {leaves.pop(0)})"
            case Stream() | Future():
                return f"{self.cx}.lift_end({self.name(of)}, {leaves.pop(0)})"
            case Enum():
                return self._enum(of, leaves.pop(0))
            case Flags():
                return self._flags(of, leaves.pop(0))
        if depth >= _MAX_EXPRESSION_DEPTH:
            return self._apart(of, leaves)
        cases = case_types(of)
        if cases is not None:
            return self._case(of, cases, leaves, depth + 1)
        return self._build(of, [self.value(part, leaves, depth + 1) for part in parts(of)])

    def _apart(self, of: WitType, leaves: list[str]) -> str:
        """Build a value in a helper function that takes the leaves as arguments."""
        count = len(self.leaves(of))
        mine = leaves[:count]
        del leaves[:count]
        names = [f"w{n}_" for n in range(count)]

        def write() -> None:
            self.say(f"return {self.value(of, list(names))}")

        made = self.helper(("value", of, images_of((of,))), ", ".join(["cx", *names]), write)
        return f"{made}({self.cx}, {', '.join(mine)})"

    def _primitive(self, of: str, leaves: list[str]) -> str:
        if of == "string" and self.staged is not None:
            self.uses(load_staged=load_staged)
            return f"load_staged({self.cx}, {self._pointer(leaves.pop(0))}, {leaves.pop(0)})"
        if of == "string":
            self.uses(load_string=(RAW_LOADERS if self.raw else LOADERS)[self.encoding])
            pointer = self._pointer(leaves.pop(0))
            return f"load_string({self.cx}, {pointer}, {leaves.pop(0)})"
        leaf = leaves.pop(0)
        if of == "bool":
            return f"({leaf} != 0)"
        if of == "char":
            self.uses(char=_char)
            return f"char({leaf})"
        return leaf

    def _enum(self, of: Enum, leaf: str) -> str:
        if self.raw:
            self.uses(below=_below)
            return f"below({leaf}, {len(of.cases)})"
        assert of.python is not None
        self.uses(case_of=_case_of)
        return f"case_of({self.name(tuple(map(of.python, of.cases)))}, {leaf})"

    def _flags(self, of: Flags, leaf: str) -> str:
        masked = f"{leaf} & {(1 << len(of.names)) - 1}"
        return f"({masked})" if self.raw else f"{self.name(_flags_of(of.python))}[{masked}]"

    def _build(self, of: WitType, values: list[str]) -> str:
        if isinstance(of, Record) and not self.raw:
            return f"{self.name(constructor(of.python))}({', '.join(values)})"
        return f"({''.join(f'{v}, ' for v in values)})"

    def _case(self, of: WitType, cases: Sequence[WitType | None], leaves: list[str], depth: int) -> str:
        discriminant = leaves.pop(0)
        payloads = [t for t in cases if t is not None]
        if len(payloads) > 1:
            return f"{self._payloads(of, cases)}({self.cx}, {discriminant}, {leaves.pop(0)})"
        inner = self.value(payloads[0], leaves, depth) if payloads else "None"
        return self.choose(of, discriminant, [inner if t is not None else None for t in cases])

    def choose(self, of: WitType, discriminant: str, payloads: Sequence[str | None]) -> str:
        """Return an expression that selects the case by ``discriminant`` and traps for an invalid one.

        ``payloads`` has each case's payload expression, ``None`` for a case without payload.
        """
        self.uses(bad_case=bad_case)
        if sum(p is not None for p in payloads) <= 1 and len(payloads) > 3:
            return self._few_payloads(of, discriminant, payloads)
        if len(payloads) > _MAX_CHAINED_CASES:
            made = self._halves(of, discriminant, payloads, 0, len(payloads))
            return f"({made} if {discriminant} < {len(payloads)} else bad_case())"
        made = "bad_case()"
        for number in reversed(range(len(payloads))):
            made = f"{self.wrapped(of, number, payloads[number])} if {discriminant} == {number} else {made}"
        return f"({made})"

    def _halves(
        self, of: WitType, discriminant: str, payloads: Sequence[str | None], first: int, behind: int
    ) -> str:  # fmt: skip
        """Select one of many cases by binary search: a chain would nest too deep for CPython's compiler."""
        if behind - first == 1:
            return self.wrapped(of, first, payloads[first])
        middle = (first + behind) // 2
        low = self._halves(of, discriminant, payloads, first, middle)
        return f"({low} if {discriminant} < {middle} else {self._halves(of, discriminant, payloads, middle, behind)})"

    def _few_payloads(self, of: WitType, discriminant: str, payloads: Sequence[str | None]) -> str:
        """Select by lookup in a tuple, for a variant with at most one payload; it can have hundreds of cases."""
        self.uses(case_of=_case_of)
        plain = self.name(tuple(None if p is not None else self._plain_case(of, n) for n, p in enumerate(payloads)))
        made = f"case_of({plain}, {discriminant})"
        for number, payload in enumerate(payloads):
            if payload is not None:
                made = f"{self.wrapped(of, number, payload)} if {discriminant} == {number} else {made}"
        return f"({made})"

    def _plain_case(self, of: WitType, number: int) -> Any:
        assert isinstance(of, Variant)
        if self.raw:
            return number, None
        assert of.python is not None
        return of.python[number]()

    def wrapped(self, of: WitType, number: int, payload: str | None) -> str:
        """Return the expression that builds case ``number`` from its payload expression."""
        if self.raw:
            return f"({number}, {payload})"
        if of is self.top:
            self.uses(Declared=Declared)
            return f"Declared({payload})" if number else f"{payload}"
        match of:
            case Option(element):
                if not number:
                    return "None"
                self.uses(make_some=_SOME)
                return f"make_some({payload})" if nullable(element) else f"{payload}"
            case Result():
                self.uses(make_ok=_OK, Err=Err)
                if number:
                    return f"({self.cx}.door.hold({ERR_BYTES - OK_BYTES}) or Err({payload}))"
                return f"make_ok({payload})"
        assert isinstance(of, Variant)
        if payload is None:
            return self.name(self._plain_case(of, number))
        assert of.python is not None
        return f"{self.name(constructor(of.python[number]))}({payload})"

    def _payloads(self, of: WitType, cases: Sequence[WitType | None]) -> str:
        """Return a helper that builds a variant from its discriminant and the bytes of its payload."""

        def write() -> None:
            self.uses(bad_case=bad_case)
            for number, payload in enumerate(cases):
                self.say(f"if d == {number}:")
                self.indent += 1
                inner = None
                if payload is not None:
                    unpack, names = self.unpacked(payload, "b", "unpack_from")
                    self.say(f"{', '.join(names)}, = {unpack}")
                    inner = self.value(payload, names)
                self.say(f"return {self.wrapped(of, number, inner)}")
                self.indent -= 1
            self.say("bad_case()")

        # Staged strings have their offsets in the source, so two values of one type cannot share a helper.
        key = ("payloads", of, images_of((of,))) if self.staged is None else self.fresh()
        return self.helper(key, "cx, d, b", write)

    # -- lists ------------------------------------------------------------------------------------

    def list_loader(self, of: List) -> str:
        """Return the name of a function that loads a list: it takes the context, the address and the length."""
        return self._list(of)

    def _list(self, of: List) -> str:
        element = of.element
        if element == "u8":
            self.uses(load_bytes=_load_outward if self.outward else _load_bytes)
            return "load_bytes"
        if isinstance(element, str) and element in _NUMERIC:
            return self.name(_number_loader(element))
        if element == "string" and self.encoding == "utf8" and not self.raw:
            self.uses(load_texts=_load_texts)
            return "load_texts"
        return self.helper(("list", of, images_of((of,))), "cx, p, n", lambda: self._elements(element))

    def _elements(self, element: WitType) -> None:
        of = layout(element)
        names = [self.fresh("w") for _ in self.leaves(element)]
        each = self.name(Struct(self.format(element)).iter_unpack)
        self.uses(range_of=_range_of)
        if isinstance(element, (Own, Borrow)):
            self.say("cx.handles.many(n)")
        self.say(f"v = range_of(cx, p, n, {of.size}, {of.align}, {largest_bytes(element)})")
        value = self.value(element, list(names))
        listed = f"[{value} for {', '.join(names)}, in {each}({{}})]"
        # bytes(v) copies: iter_unpack exports the buffer, and the traceback of an exception in the expression keeps
        # the iterator alive. The garbage collector of CPython before 3.13 crashes on a memoryview with exports.
        self.say(f"if n <= {_CHUNK_ELEMENTS}: return {listed.format('bytes(v)')}")
        step = _CHUNK_ELEMENTS * of.size
        self.say("made = []; check_time = cx.door.check_time")
        self.say(f"for at in range(0, n * {of.size}, {step}):")
        self.say(f"    made += {listed.format(f'bytes(v[at : at + {step}])')}; check_time()")
        self.say("return made")

    # -- flat values ------------------------------------------------------------------------------

    def flat_formats(self, of: WitType) -> list[str]:
        """Return one :mod:`struct` format for each flat core value of a type.

        A small integer is read in its own size, which ignores the higher bits of its core value ("Flat Lifting").
        """
        match of:
            case "string" | List():
                return ["I", "I"]
            case "bool":
                return ["I"]
            case str():
                return [FORMATS[of]]
            case Own() | Borrow() | Enum() | Flags() | Stream() | Future():
                return ["I"]
        cases = case_types(of)
        if cases is None:
            return [form for part in parts(of) for form in self.flat_formats(part)]
        payloads = [t for t in cases if t is not None]
        if len(payloads) == 1:
            return ["I", *self.flat_formats(payloads[0])]
        return [_SLOT_FORMATS[core] for core in flat(of)]

    def flat_value(self, of: WitType, words: list[str], depth: int = 0) -> str:
        """Return the expression that builds a value; remove its core values from the front of ``words``."""
        cases = case_types(of)
        if cases is None:
            if not isinstance(of, (Record, Tuple)):
                return self.value(of, words)
            if depth >= _MAX_EXPRESSION_DEPTH:
                return self._flat_apart(of, words)
            return self._build(of, [self.flat_value(part, words, depth + 1) for part in parts(of)])
        if depth >= _MAX_EXPRESSION_DEPTH:
            return self._flat_apart(of, words)
        discriminant = words.pop(0)
        payloads = [t for t in cases if t is not None]
        if len(payloads) <= 1:
            inner = self.flat_value(payloads[0], words, depth + 1) if payloads else "None"
            return self.choose(of, discriminant, [inner if t is not None else None for t in cases])
        joined = flat(of)[1:]
        mine = [words.pop(0) for _ in joined]
        return self.choose(
            of, discriminant, [None if t is None else self._joined(t, mine, joined, depth + 1) for t in cases]
        )

    def _joined(self, of: WitType, words: list[str], joined: Sequence[str], depth: int) -> str:
        """Return the expression of a payload whose core values have the joined types of all cases (``join``)."""
        own = [
            self._narrowed(self._unjoined(word, core, wanted), form)
            for word, core, wanted, form in zip(words, joined, flat(of), self.flat_formats(of), strict=False)
        ]
        return self.flat_value(of, own, depth)

    def _unjoined(self, word: str, core: str, wanted: str) -> str:
        if core == wanted:
            return word
        if wanted == "i32":
            return f"({word} & 0xffffffff)"
        if wanted == "f32":
            self.uses(as_f32=_as_f32)
            return f"as_f32({word})"
        self.uses(as_f64=_as_f64)
        return f"as_f64({word})"

    def _narrowed(self, word: str, form: str) -> str:
        """Return the expression that truncates an unsigned core integer as reading it with ``form`` would."""
        bits = _BITS.get(form)
        if bits is None or form in "IQ":
            return word
        if form.isupper():
            return f"({word} & {(1 << bits) - 1:#x})"
        half = 1 << (bits - 1)
        return f"((({word} & {2 * half - 1:#x}) ^ {half:#x}) - {half:#x})"

    def _flat_apart(self, of: WitType, words: list[str]) -> str:
        count = len(flat(of))
        mine = words[:count]
        del words[:count]
        names = [f"w{n}_" for n in range(count)]

        def write() -> None:
            self.say(f"return {self.flat_value(of, list(names))}")

        reader = self.helper(("flat", of, images_of((of,))), ", ".join(["cx", *names]), write)
        return f"{reader}({self.cx}, {', '.join(mine)})"


# -- functions that generated source calls ---------------------------------------------------------


def _char(code: int) -> str:
    if code >= 0x110000 or 0xD800 <= code < 0xE000:
        raise bad_char()
    return chr(code)


def _below(number: int, count: int) -> int:
    if number >= count:
        bad_case()
    return number


def _case_of(cases: Sequence[Any], number: int) -> Any:
    try:
        return cases[number]
    except IndexError:
        bad_case()


class _flags_of(dict[int, Any]):
    """Instances of a flags class by their bits; at most ``COMBINATIONS_KEPT`` are cached, since guests choose them."""

    def __init__(self, cls: Any) -> None:
        super().__init__()
        self.cls = cls

    def __missing__(self, bits: int) -> Any:
        made = self.cls(bits)
        if len(self) < MAX_CACHED_COMBINATIONS:
            self[bits] = made
        return made


def _range_of(cx: Any, at: int, count: int, size: int, align: int, cost: int) -> memoryview:
    """Return a view of a list's elements.

    Trap if the list is misaligned or out of bounds, then charge the copy to ``host_bytes`` and ``cost`` bytes for each
    element to ``value_bytes``. The view is valid until guest code runs next.
    """
    if at & (align - 1):
        raise unaligned("a list's pointer")
    end = at + count * size
    view: memoryview = cx.memory.view
    if end > len(view):
        view = cx.memory.need(end)
    door = cx.door
    door.hold(count * cost)
    door.charge_lifted(end - at)
    return view[at:end]


def _load_bytes(cx: Any, at: int, count: int) -> bytes:
    memory = cx.memory
    view, end = memory.view, at + count
    if end > len(view):
        view = memory.need(end)
    door = cx.door
    door.hold(count)
    door.charge_lifted(count)
    return bytes(view[at:end])


def _load_outward(cx: Any, at: int, count: int) -> Any:
    memory = cx.memory
    view, end = memory.view, at + count
    if end > len(view):
        view = memory.need(end)
    door = cx.door
    door.hold(count)
    door.charge_lifted(count)
    return door.keep(view[at:end])


def _number_loader(of: str) -> Callable[[Any, int, int], list[Any]]:
    form, cost = FORMATS[of], element_bytes(of)
    size = Struct(form).size

    def load(cx: Any, at: int, count: int) -> list[Any]:
        view = _range_of(cx, at, count, size, size, cost).cast(form)  # type: ignore[call-overload]
        if count <= _CHUNK_NUMBERS:
            return view.tolist()  # type: ignore[no-any-return]
        made: list[Any] = []
        for start in range(0, count, _CHUNK_NUMBERS):
            made += view[start : start + _CHUNK_NUMBERS].tolist()
            cx.door.check_time()
        return made

    return load


def _load_texts(cx: Any, at: int, count: int) -> list[str]:
    words = _range_of(cx, at, count, 8, 4, largest_bytes("string")).cast("I")
    if not count:
        return []
    if count <= _CHUNK_ELEMENTS:
        return load_many_utf8(cx, words.tolist())
    made: list[str] = []
    for start in range(0, 2 * count, 2 * _CHUNK_ELEMENTS):
        made += load_many_utf8(cx, words[start : start + 2 * _CHUNK_ELEMENTS].tolist())
        cx.door.check_time()
    return made


_OK, _SOME = constructor(Ok), constructor(Some)
_F32, _I32, _F64, _I64 = (Struct(f"<{form}") for form in "fIdQ")


def _as_f32(bits: int) -> float:
    return _F32.unpack(_I32.pack(bits & 0xFFFF_FFFF))[0]  # type: ignore[no-any-return]


def _as_f64(bits: int) -> float:
    return _F64.unpack(_I64.pack(bits))[0]  # type: ignore[no-any-return]
