"""Lowering: generates source that lowers values to core values and linear memory (CanonicalABI.md, "Storing").

Lowering has two phases. The first converts and checks everything on the host: it packs numbers, encodes strings, and
turns lists into blocks of bytes. A value of the wrong type fails in this phase, before any guest code has run, so Aegis
can coerce the arguments and start over. The second phase calls the guest's realloc and copies the blocks, in the
specification's order of reallocs: a list before the strings and lists in its elements.

Until the second phase, a block that contains pointers has *holes*: a hole is the offset of a pointer and length in the
block, the function that places the data, and the data (:data:`~aegis.component.conversion.blocks.Hole`).

The source uses ``cx``, the context of the call (:class:`~aegis.component.state.LiftLowerContext`).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple

from aegis.component.conversion.blocks import (
    SHORT_BYTES,
    bytes_of,
    numbers,
    place_filled,
    place_list,
    place_texts,
    reject,
    sized,
    text_of,
)
from aegis.component.conversion.coerce import ConversionError, as_list, as_tuple
from aegis.component.conversion.layout import (
    FORMATS,
    align_up,
    case_types,
    discriminant_size,
    flat,
    has_pointers,
    layout,
    parts,
)
from aegis.component.conversion.layout import payload_offset as payload_at
from aegis.component.conversion.scalars import scalar, scalar_names
from aegis.component.conversion.source import Source
from aegis.component.conversion.strings import PLACERS, RAW_PLACERS, encode_text, encode_texts, place_bytes
from aegis.component.planning.type_keys import images_of
from aegis.support.pieces import MAX_WHOLE_BYTES, copy_bytes
from aegis.wit.naming import snake
from aegis.wit.python_types import nullable
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

__all__ = ["FlatBlock", "Lower"]

_CHUNK_ELEMENTS = 1 << 12
"""List elements converted between two deadline checks."""
_MAX_NESTED_CASES = 12
"""Nested variants, options and results in one function; deeper ones get a helper. CPython rejects more than about 90
levels of indentation."""
_MAX_CHAINED_CASES = 64
"""Cases written as an ``if … elif`` chain."""
_INTEGERS = {1: "B", 2: "H", 4: "I"}
_RAW_VALUE_BYTES = 16
"""Size of ``wasmtime_val_raw_t``."""
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
_RANGES = {"s8": (-128, 127), "u8": (0, 255), "s16": (-32768, 32767), "u16": (0, 65535)}
_NUMERIC = frozenset(FORMATS) - {"bool", "char"}


class FlatBlock(NamedTuple):
    """A string or list among flat values: the variable that holds its block, the core value of its address, its type.

    ``optional``: the block belongs to a case of a variant; the variable is ``None`` if the value is of another case.
    """

    name: str
    slot: int
    of: WitType
    optional: bool


class Lower(Source):
    """Source of a converter that lowers: :attr:`lines` is the first phase, :attr:`later` the second."""

    def __init__(self, encoding: str, **options: Any) -> None:
        super().__init__(encoding, **options)
        self.later: list[str] = []
        self.blocks: list[FlatBlock] = []
        self.formats: dict[str, None] = {}
        self._gathers = False
        """Whether strings are collected in ``texts`` and ``offsets``, to be placed by :func:`place_texts`."""
        self._conditional: list[str] | None = None
        """Variables of blocks that only some cases of the enclosing variant set; ``None`` outside of variants."""
        self.uses(
            **scalar_names(),
            encode=encode_text,
            encode_all=encode_texts,
            text_of=text_of,
            ConversionError=ConversionError,
            reject=reject,
        )

    # -- core values ------------------------------------------------------------------------------

    def put(self, form: str, slot: int, expression: str) -> None:
        """Store a core value through the memoryview of its format, which checks the type and range."""
        self.say(f"{self.view(form)}[{slot * _RAW_VALUE_BYTES // _SIZES[form]}] = {expression}")

    def view(self, form: str) -> str:
        """Return the name of the memoryview of the core values in the format ``form``."""
        self.formats[form] = None
        return f"v{form}"

    def flat_value(self, of: WitType, value: str, slot: int) -> int:
        """Lower ``value``, an expression, to core values from ``slot`` on; return the next slot ("Flat Lowering")."""
        match of:
            case "string" | List():
                self._flat_block(of, value, slot)
                return slot + 2
            case str():
                form, expression = self._core_scalar(of, value)
                self.put(form, slot, expression)
                return slot + 1
            case Own() | Borrow() | Enum() | Flags() | Stream() | Future():
                self.put("I", slot, self._small(of, value))
                return slot + 1
        cases = case_types(of)
        if cases is not None:
            self._flat_cases(of, self.variable(value), slot)
            return slot + len(flat(of))
        for part, item in self._parts(of, value):
            slot = self.flat_value(part, item, slot)
        return slot

    def _flat_block(self, of: WitType, value: str, slot: int) -> None:
        """Convert a string or list in the first phase; place it and store its address and length in the second."""
        block, address = self.fresh("b"), slot * _RAW_VALUE_BYTES // 4
        view = self.view("I")
        if of == "string" and self.encoding == "utf8" and not self.raw:
            lines = self._flat_text(block, value, address)
        else:
            place, expression = self._block(of, value)
            self.say(f"{block} = {expression}")
            lines = [f"{view}[{address}], {view}[{address + 4}] = {place}(cx, {block})"]
        self.blocks.append(FlatBlock(block, slot, of, self._conditional is not None))
        if self._conditional is not None:
            self._conditional.append(block)
            lines = [f"if {block} is not None:", *(f"    {line}" for line in lines)]
        self.later += lines

    def _flat_text(self, block: str, value: str, address: int) -> list[str]:
        """Inline :func:`~aegis.component.conversion.strings.place_bytes`: calling it would double its cost."""
        self.uses(copy_bytes=copy_bytes, utf8=str.encode)
        x = self.variable(value)
        long = f"{x}.__class__ is str and len({x}) > {MAX_WHOLE_BYTES}"
        self.say(f"{block} = encode({x}) if {long} else utf8({x})")
        self.say(f"if len({block}) > {SHORT_BYTES}: door.reserve_guest_bytes(len({block}))")
        return [
            f"size = len({block}); at = realloc(1, size)",
            f"if size > {MAX_WHOLE_BYTES}: copy_bytes(memory.view, at, {block})",
            f"else: memory.view[at : at + size] = {block}",
            f"vI[{address}] = at; vI[{address + 4}] = size",
            "door.bytes_left = left = door.bytes_left - size; door.bytes_out += size",
            "if left < door.check_below: door.check()",
        ]

    def _flat_cases(self, of: WitType, value: str, slot: int) -> None:
        outer = self._conditional
        mine: list[str] = []
        self._conditional = mine
        before = len(self.lines)
        count = len(flat(of))
        for number, payload, inner in self._each_case(of, value):
            self.put("I", slot, str(number))
            # ``lower_flat_variant``: slots beyond the payload, and the upper halves of widened ones, are zero.
            for n in range(slot + 1, slot + count):
                self.put("Q", n, "0")
            if inner is not None:
                self.flat_value(inner, payload, slot + 1)
        if mine:
            self.lines.insert(before, "    " * self.indent + " = ".join([*mine, "None"]))
        if outer is not None:
            outer += mine
        self._conditional = outer

    def _each_case(self, of: WitType, x: str) -> Iterator[tuple[int, str, WitType | None]]:
        """Yield the number, payload expression and payload type of each case; the caller writes the case's lines.

        More than :data:`_MAX_CHAINED_CASES` cases become separate ``if`` statements that each break out of a loop:
        CPython compiles an ``elif`` as an ``if`` nested in the one before, and cannot nest thousands.
        """
        cases = self._cases(of, x)
        many = len(cases) > _MAX_CHAINED_CASES
        if many:
            self.say("while True:")
            self.indent += 1
        for number, (condition, payload, inner) in enumerate(cases):
            self.say(f"{'elif' if number and not many else 'if'} {condition}:")
            self.indent += 1
            yield number, payload, inner
            if many:
                self.say("break")
            self.indent -= 1
        self.say(f"reject({x})" if many else f"else: reject({x})")
        if many:
            self.indent -= 1

    def _core_scalar(self, of: str, value: str) -> tuple[str, str]:
        """Return the format of the full core value, and the expression to store; small integers are range-checked."""
        if of in _RANGES:
            low, high = _RANGES[of]
            x = self.variable(value)
            fits = f"{low} <= {x} <= {high} and {x} is not True and {x} is not False"
            return "i" if low else "I", f"{x} if {fits} else reject({x})"
        form = "I" if of == "bool" else FORMATS[of]
        return form, scalar(of, self.variable(value))

    # -- small values, cases, parts ---------------------------------------------------------------

    def _small(self, of: WitType, value: str) -> str:
        """Return an expression for the integer of a handle, an enum or flags."""
        match of:
            case Stream() | Future():
                return self.variable_of(f"cx.lower_end({self.name(of)}, {value})")
            case Own(resource):
                return self.variable_of(f"cx.lower_own({self.number(resource)}, {value})")
            case Borrow(resource):
                return self.variable_of(f"cx.lower_borrow({self.number(resource)}, {value})")
        if self.raw:
            return value
        assert isinstance(of, (Enum, Flags))
        assert of.python is not None
        if isinstance(of, Enum):
            return f"{self.name({of.python(case): n for n, case in enumerate(of.cases)})}[{value}]"
        x = self.variable(value)
        bits = self.fresh()
        self.say(f"{bits} = {x}._value_ if {x}.__class__ is {self.name(of.python)} else reject({x})")
        self.say(f"if not 0 <= {bits} <= {(1 << len(of.names)) - 1}: reject({x})")
        return bits

    def variable_of(self, expression: str) -> str:
        """Assign an expression with a side effect to a variable, so that it is evaluated once and in order."""
        made = self.fresh("h")
        self.say(f"{made} = {expression}")
        return made

    def _parts(self, of: WitType, value: str) -> list[tuple[WitType, str]]:
        """Return the type and expression of each field of a record or element of a tuple."""
        if isinstance(of, Record) and not self.raw:
            x = self.variable(value)
            return [(t, f"{x}.{snake(name)}") for name, t in of.fields]
        types = parts(of)
        names = [self.fresh() for _ in types]
        x = self.variable(value)
        if not self.raw:
            self.uses(as_tuple=as_tuple)
            x = f"{x} if {x}.__class__ is tuple else as_tuple({x})"
        self.say(f"{', '.join(names)}, = {x}")
        return list(zip(types, names, strict=True))

    def _cases(self, of: WitType, x: str) -> list[tuple[str, str, WitType | None]]:
        """Return for each case the condition under which ``x`` is that case, its payload's expression and type."""
        types = case_types(of) or ()
        if self.raw:
            return [(f"{x}[0] == {n}", f"{x}[1]", t) for n, t in enumerate(types)]
        match of:
            case Option(element):
                if nullable(element):
                    self.uses(Some=Some)
                    return [(f"{x} is None", "", None), (f"{x}.__class__ is Some", f"{x}.value", element)]
                return [(f"{x} is None", "", None), ("True", x, element)]
            case Result(ok, err):
                self.uses(Ok=Ok, Err=Err)
                bad = f"isinstance({x}, Err)"
                return [
                    (f"{x}.__class__ is Ok{self._no_payload(ok, x)}", f"{x}.value", ok),
                    (f"{bad}{self._no_payload(err, x)}", f"{x}.value", err),
                ]
        assert isinstance(of, Variant)
        assert of.python is not None
        return [
            (f"{x}.__class__ is {self.name(cls)}", f"{x}.value", t) for cls, t in zip(of.python, types, strict=True)
        ]

    @staticmethod
    def _no_payload(of: WitType | None, x: str) -> str:
        return f" and {x}.value is None" if of is None else ""

    # -- blocks: strings and lists ----------------------------------------------------------------

    def _block(self, of: WitType, value: str) -> tuple[str, str]:
        """Return the name of the function that places a block, and the expression that builds it from ``value``."""
        if of == "string":
            place = self._place_text()
            return place, value if self.raw else f"text_of(cx, {value})"
        assert isinstance(of, List)
        element = of.element
        if element == "u8":
            self.uses(place_bytes=place_bytes, bytes_of=bytes_of)
            return "place_bytes", f"bytes_of(cx, {value})"
        self.uses(place_list=place_list)
        if isinstance(element, str) and element in _NUMERIC:
            return "place_list", f"{self.name(numbers(element))}(cx, {value})"
        if self.encoding == "utf8" and not self.raw and _has_only_texts(element):
            self.uses(place_texts=place_texts)
            made = self.helper(("texts", of, images_of((of,))), "cx, values", lambda: self._texts(element))
            return "place_texts", f"{made}(cx, {value})"
        made = self.helper(("list", of, images_of((of,))), "cx, values", lambda: self._elements(element))
        if has_pointers(element):
            self.uses(place_list=place_list, place_filled=place_filled)
            return "place_filled", f"{made}(cx, {value})"
        return "place_list", f"{made}(cx, {value})"

    def list_block(self, of: List) -> str:
        """Return the expression that builds the block of a list from ``values``: bytes, or a tuple of them, their
        alignment, the number of elements, and the holes if there are any.
        """
        element = of.element
        if element == "u8" or (isinstance(element, str) and element in _NUMERIC):
            return self._block(of, "values")[1]
        made = self.helper(("list", of, images_of((of,))), "cx, values", lambda: self._elements(element))
        return f"{made}(cx, values)"

    def _place_text(self) -> str:
        self.uses(place_text=(RAW_PLACERS if self.raw else PLACERS)[self.encoding])
        return "place_text"

    def _elements(self, element: WitType) -> None:
        """Write the first phase of a list: pack its elements into one block and collect their holes."""
        of, holes = layout(element), has_pointers(element)
        self.uses(as_list=as_list, sized=sized)
        self.say("values = as_list(values)")
        self.say(f"block = sized(cx, len(values), {of.size})")
        if holes:
            self.say("holes = []")
        self.say("at = 0; check_time = cx.door.check_time")
        self.say("for x in values:")
        self.indent = 2
        self.say(f"if not at % {_CHUNK_ELEMENTS * of.size}: check_time()")
        self._pack_into("block", "at", element, "x")
        self.say(f"at += {of.size}")
        self.indent = 1
        # Another thread, or Python code that converting an element ran, may have changed the length of the list.
        self.say("if at != len(block): reject(values)")
        self.say(f"return block, {of.align}, at // {of.size}{', holes' if holes else ''}")

    def _texts(self, element: WitType) -> None:
        """Write the first phase of a list whose elements contain no pointers except to strings.

        The second phase then allocates all strings in a few entries (:func:`~.blocks.place_texts`).
        """
        self.uses(as_list=as_list, sized=sized)
        of = layout(element)
        self.say("values = as_list(values)")
        self.say(f"block = sized(cx, len(values), {of.size})")
        if element == "string":
            self.say("texts = encode_all(values); cx.door.reserve_guest_bytes(sum(map(len, texts)))")
            self.say(f"if len(texts) * {of.size} != len(block): reject(values)")
            self.say(f"return block, {of.align}, len(texts), range(0, len(block), {of.size}), texts")
            return
        self.say("offsets = []; texts = []; at = 0; check_time = cx.door.check_time")
        self.say("for x in values:")
        self.indent, self._gathers = 2, True
        self.say(f"if not at % {_CHUNK_ELEMENTS * of.size}: check_time()")
        self._pack_into("block", "at", element, "x")
        self.say(f"at += {of.size}")
        self.indent, self._gathers = 1, False
        self.say("if at != len(block): reject(values)")
        self.say("cx.door.reserve_guest_bytes(sum(map(len, texts)))")
        self.say(f"return block, {of.align}, at // {of.size}, offsets, texts")

    # -- linear memory ----------------------------------------------------------------------------

    def packed(self, of: WitType, value: str) -> None:
        """Convert ``value`` into a block in the variable ``block`` and its holes in the variable ``holes``."""
        self.say(f"block = bytearray({layout(of).size}); holes = []")
        self._pack_into("block", "0", of, value)

    def _pack_into(self, block: str, at: str, of: WitType, value: str) -> None:
        leaves = self.leaves(of, value, at, 0, 0)
        pack = self.name(Struct(self._format(of)).pack_into)
        self.say(f"{pack}({block}, {at}, {', '.join(leaves)})")

    def _format(self, of: WitType) -> str:
        at, form = 0, "<"
        for code, offset, size in self._shape(of, 0, 0):
            form += f"{offset - at}x" if offset > at else ""
            form += code
            at = offset + size
        return form

    def _shape(self, of: WitType, at: int, depth: int) -> list[tuple[str, int, int]]:
        """Return format, offset and size of each leaf that :meth:`leaves` returns."""
        match of:
            case "string" | List():
                return [("8x", at, 8)]
            case str():
                return [(FORMATS[of], at, layout(of).size)]
            case Own() | Borrow() | Stream() | Future():
                return [("I", at, 4)]
            case Enum() | Flags():
                size = layout(of).size
                return [(_INTEGERS[size], at, size)]
        cases = case_types(of)
        if cases is not None:
            size = discriminant_size(len(cases))
            found = [(_INTEGERS[size], at, size)]
            payloads = [t for t in cases if t is not None]
            if len(payloads) == 1 and depth < _MAX_NESTED_CASES:
                return found + self._shape(payloads[0], at + payload_at(of), depth + 1)
            if payloads:
                most = max(layout(t).size for t in payloads)
                found.append((f"{most}s", at + payload_at(of), most))
            return found
        found = []
        for part in parts(of):
            inner = layout(part)
            at = align_up(at, inner.align)
            found += self._shape(part, at, depth)
            at += inner.size
        return found

    def leaves(self, of: WitType, value: str, base: str, at: int, depth: int) -> list[str]:
        """Return the expressions of a value's leaves, for a value at the offset ``base`` + ``at`` of its block."""
        match of:
            case "string" if self._gathers:
                self.say(f"offsets.append({self._offset(base, at)}); texts.append(encode({value}))")
                return []
            case "string" | List():
                place, expression = self._block(of, value)
                self.say(f"holes.append(({self._offset(base, at)}, {place}, {expression}))")
                return []
            case str():
                return [scalar(of, self.variable(value))]
            case Own() | Borrow() | Enum() | Flags() | Stream() | Future():
                return [self._small(of, value)]
        cases = case_types(of)
        if cases is None:
            return self._part_leaves(of, value, base, at, depth)
        payloads = [t for t in cases if t is not None]
        if len(payloads) == 1 and depth < _MAX_NESTED_CASES:
            return self._case_leaves(of, self.variable(value), base, at + payload_at(of), depth)
        if not payloads:
            return self._case_leaves(of, self.variable(value), base, at, depth)
        number, payload = self.fresh("d"), self.fresh("s")
        packer = self.helper(("case", of, images_of((of,))), "cx, x, holes, at", lambda: self._case_packer(of))
        holes = "holes" if has_pointers(of) else "None"  # without pointers the block has no list of holes
        self.say(f"{number}, {payload} = {packer}(cx, {value}, {holes}, {self._offset(base, at + payload_at(of))})")
        return [number, payload]

    @staticmethod
    def _offset(base: str, at: int) -> str:
        return str(int(base) + at) if base.isdigit() else f"{base} + {at}" if at else base

    def _part_leaves(self, of: WitType, value: str, base: str, at: int, depth: int) -> list[str]:
        found = []
        for part, item in self._parts(of, value):
            inner = layout(part)
            at = align_up(at, inner.align)
            found += self.leaves(part, item, base, at, depth)
            at += inner.size
        return found

    def _case_leaves(self, of: WitType, x: str, base: str, at: int, depth: int) -> list[str]:
        """Write a variant with at most one payload type: its discriminant, and the payload's leaves or zeros."""
        payload_type = next((t for t in case_types(of) or () if t is not None), None)
        shape = [] if payload_type is None else self._shape(payload_type, 0, depth + 1)
        shape = [s for s in shape if s[0] != "8x"]
        names = [self.fresh("d"), *(self.fresh("s") for _ in shape)]
        zeros = ["b''" if form.endswith("s") else "0" for form, _, _ in shape]
        for number, payload, inner in self._each_case(of, x):
            given = zeros if inner is None else self.leaves(inner, payload, base, at, depth + 1)
            self.say(f"{', '.join(names)}, = {', '.join([str(number), *given])},")
        return names

    def _case_packer(self, of: WitType) -> None:
        """Write the body of a helper that returns the number of the case and the bytes of its payload."""
        for condition, payload, inner, number in ((*case, number) for number, case in enumerate(self._cases(of, "x"))):
            self.say(f"if {condition}:")
            self.indent += 1
            if inner is None:
                self.say(f"return {number}, b''")
            else:
                leaves = self.leaves(inner, payload, "at", 0, 0)
                self.say(f"return {number}, {self.name(Struct(self._format(inner)).pack)}({', '.join(leaves)})")
            self.indent -= 1
        self.say("reject(x)")

    # -- the result of a host function ------------------------------------------------------------

    def bare_result(self, of: Result, value: str) -> str:
        """Return the variable of a result; a value other than ``Ok`` and ``Err`` becomes the payload of ``Ok``."""
        self.uses(Ok=Ok, Err=Err)
        x = self.variable(value)
        made = self.fresh()
        self.say(f"{made} = {x} if {x}.__class__ is Ok or isinstance({x}, Err) else Ok({x})")
        return made


def _has_only_texts(of: WitType) -> bool:
    """Return whether all pointers in the type are to strings, and unconditional (none in a case of a variant)."""
    return of == "string" or (
        has_pointers(of)
        and isinstance(of, (Record, Tuple))
        and all(_has_only_texts(part) or not has_pointers(part) for part in parts(of))
    )
