"""WebAssembly text of adapters: functions through which component instances call each other without the host.

Theory of operation. An adapter implements ``canon lower`` of a lifted function (CanonicalABI.md, "canon lower" and
"canon lift"). The caller's core module imports the adapter, and the adapter calls the lifted core function:

1. trap unless the caller's may-leave flag and the callee's may-enter flags are set; clear the latter;
2. lift each argument from the caller's core values or memory, check it, and lower it into the callee's;
3. call the core function;
4. lift and lower the result in the opposite direction;
5. call post-return with may-leave cleared; set the may-enter flags again.

Adapters are trusted code. The engine compares the types of everything they import at instantiation, and they have no
memory of their own. Before trapping, an adapter stores the reason's number in the global ``reason``.

An adapter checks each value while copying it. If a call violates the canonical ABI in two ways, it may therefore report
a different violation first than the specification's order of steps would. Values with handles need the host's handle
tables, so calls that pass handles have no adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from aegis.component.conversion.layout import (
    MAX_FLAT_PARAMS,
    MAX_FLAT_RESULTS,
    align_up,
    case_types,
    core_type,
    discriminant_size,
    flat,
    layout,
    parts,
    payload_offset,
)
from aegis.component.planning.program import CanonLift, CanonLower, CoreExport
from aegis.component.shims.adapter_module import AdapterModule, AdapterSide
from aegis.component.shims.adapter_strings import text_helper
from aegis.values import FuncType
from aegis.wit.types import Enum, Flags, List, Tuple, WitType

__all__ = ["Link", "write_adapter"]

_LOADS = {
    "bool": "i32.load8_u", "u8": "i32.load8_u", "s8": "i32.load8_s", "u16": "i32.load16_u", "s16": "i32.load16_s",
    "u32": "i32.load", "s32": "i32.load", "char": "i32.load", "u64": "i64.load", "s64": "i64.load", "f32": "f32.load",
    "f64": "f64.load",
}  # fmt: skip
_STORES = {1: "i32.store8", 2: "i32.store16"}
_INTEGERS = {1: "u8", 2: "u16", 4: "u32"}
_NARROW = {
    "u8": "(i32.and {} (i32.const 255))", "u16": "(i32.and {} (i32.const 65535))", "s8": "(i32.extend8_s {})",
    "s16": "(i32.extend16_s {})",
}  # fmt: skip
_COPIED = frozenset(_LOADS) - {"bool", "char"}
"""Types of which every bit pattern is a valid value, so that they can be copied unchecked."""
_WHOLE = ("u32", "s32", "u64", "s64", "f32", "f64")
"""Types of which every core value is a valid flat value: they pass unchanged."""
_MAX_COMPARED_CASES = 4
"""Cases with payloads that are selected by comparisons; more are selected by ``br_table``."""
# Conversions between a case's own core type and the joined type of all cases (``lower_flat_variant``,
# ``lift_flat_variant``).
_TO_JOINED = {
    ("i32", "i64"): "(i64.extend_i32_u {})", ("f32", "i32"): "(i32.reinterpret_f32 {})",
    ("f32", "i64"): "(i64.extend_i32_u (i32.reinterpret_f32 {}))", ("f64", "i64"): "(i64.reinterpret_f64 {})",
}  # fmt: skip
_FROM_JOINED = {
    ("i64", "i32"): "(i32.wrap_i64 {})", ("i32", "f32"): "(f32.reinterpret_i32 {})",
    ("i64", "f32"): "(f32.reinterpret_i32 (i32.wrap_i64 {}))", ("i64", "f64"): "(f64.reinterpret_i64 {})",
}  # fmt: skip


class Link(NamedTuple):
    """A call between two component instances: the number of its trampoline, and the function on both sides.

    ``entering`` lists the instances that the call enters and whose may-enter flag adapters maintain.
    """

    trampoline: int
    lowered: CanonLower
    lifted: CanonLift
    entering: tuple[int, ...]


class _InMemory(NamedTuple):
    """Values in linear memory, at a constant offset from the address expression ``base``."""

    memory: str
    base: str
    offset: int

    def at(self, offset: int) -> _InMemory:
        return self._replace(offset=self.offset + offset)


class _FlatValues(NamedTuple):
    """Values as flat core values: expressions to read, or locals to write, and their core types."""

    names: Sequence[str]
    cores: Sequence[str]

    def part(self, first: int, count: int) -> _FlatValues:
        return _FlatValues(self.names[first : first + count], self.cores[first : first + count])


_Location = _InMemory | _FlatValues


def needs_adapter(link: Link, leaves: frozenset[int]) -> bool:
    """Return whether a call needs an adapter, because it has to convert, check or clean up anything.

    ``leaves`` are the instances whose may-leave flag adapters maintain.
    """
    params = [t for _, t in link.lifted.type.params]
    whole = len(params) <= MAX_FLAT_PARAMS and all(t in _WHOLE for t in params)
    return link.lowered.instance in leaves or not whole or not _passes_on(link)


def _passes_on(link: Link) -> bool:
    """Return whether the adapter can tail-call: the result passes unchanged, and nothing follows the call."""
    result = link.lifted.type.result
    nothing = link.lifted.options.post_return is None and not link.entering
    return nothing and (result is None or result in _WHOLE)


def write_adapter(module: AdapterModule, link: Link, leaves: frozenset[int]) -> None:
    """Add the adapter of a link to a module, exported under the trampoline's number."""
    lowered, lifted = link.lowered, link.lifted
    caller = AdapterSide(lowered.instance, lowered.options, lowered.instance in leaves)
    callee = AdapterSide(lifted.instance, lifted.options, lifted.instance in leaves)
    _AdapterWriter(module, link, caller, callee).write()


class _Body:
    """The body of a function under construction."""

    def __init__(self, module: AdapterModule) -> None:
        self.module = module
        self.lines: list[str] = []
        self.locals: list[str] = []

    def say(self, *lines: str) -> None:
        self.module.spend(len(lines))
        self.lines += lines

    def local(self, core: str = "i32") -> str:
        """Declare a local and return its name."""
        name = f"$x{len(self.locals)}"
        self.module.spend(1)
        self.locals.append(f"(local {name} {core})")
        return name

    def kept(self, expression: str, core: str = "i32") -> str:
        """Store the value of an expression in a local, unless it reads one; return the expression that reads it."""
        if expression.startswith("(local.get"):
            return expression
        name = self.local(core)
        self.say(f"(local.set {name} {expression})")
        return f"(local.get {name})"

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Run the lines written inside the ``with`` block only if the condition holds."""
        self.say(f"{condition} if")
        yield
        self.say("end")

    def trap_if(self, condition: str, reason: str) -> None:
        self.say(f"{condition} if {self.module.trap(reason)} end")


class _Converter(_Body):
    """Writes the lines that lift values from the source side and lower them into the target side."""

    def __init__(self, module: AdapterModule, source: AdapterSide, target: AdapterSide) -> None:
        super().__init__(module)
        self.source, self.target = source, target

    # -- core values and memory -------------------------------------------------------------------

    def _read(self, of: str, place: _Location) -> str:
        """Return the expression that reads a primitive, un-joined and truncated to its type ("Flat Lifting")."""
        if isinstance(place, _InMemory):
            return f"({_LOADS[of]} {place.memory} offset={place.offset} {place.base})"
        word = place.names[0]
        core = flat(of)[0]
        if place.cores[0] != core:
            word = _FROM_JOINED[place.cores[0], core].format(word)
        return _NARROW[of].format(word) if of in _NARROW else word

    def _write(self, expression: str, size: int, core: str, place: _Location) -> None:
        if isinstance(place, _InMemory):
            store = _STORES.get(size, f"{core}.store")
            self.say(f"({store} {place.memory} offset={place.offset} {place.base} {expression})")
            return
        if place.cores[0] != core:
            expression = _TO_JOINED[core, place.cores[0]].format(expression)
        self.say(f"(local.set {place.names[0]} {expression})")

    # -- values -----------------------------------------------------------------------------------

    def convert(self, of: WitType, source: _Location, target: _Location) -> None:
        """Write the lines that read a value, check it, and store it ("Loading", "Storing", and their flat forms)."""
        match of:
            case "string" | List():
                self._block(of, source, target)
            case str():
                self._write(self._scalar(of, source), layout(of).size, flat(of)[0], target)
            case Enum():
                size = layout(of).size
                word = self.kept(self._read(_whole(size, source), source))
                self.trap_if(f"(i32.ge_u {word} (i32.const {len(of.cases)}))", "case")
                self._write(word, size, "i32", target)
            case Flags():
                size, count = layout(of).size, len(of.names)
                word = self._read(_whole(size, source), source)
                if count < 32:
                    word = f"(i32.and {word} (i32.const {(1 << count) - 1}))"
                self._write(word, size, "i32", target)
            case _:
                cases = case_types(of)
                if cases is None:
                    self._parts(parts(of), source, target)
                else:
                    self._cases(of, cases, source, target)

    def _scalar(self, of: str, source: _Location) -> str:
        word = self._read(of, source)
        if of == "bool":
            return f"(i32.ne {word} (i32.const 0))"
        if of == "char":
            word = self.kept(word)
            surrogate = f"(i32.lt_u (i32.sub {word} (i32.const 0xd800)) (i32.const 0x800))"
            self.trap_if(f"(i32.or (i32.ge_u {word} (i32.const 0x110000)) {surrogate})", "char")
        return word

    def _parts(self, types: Sequence[WitType], source: _Location, target: _Location) -> None:
        offset = slot = 0
        for part in types:
            of, count = layout(part), len(flat(part))
            offset = align_up(offset, of.align)
            self.convert(part, _part(source, offset, slot, count), _part(target, offset, slot, count))
            offset, slot = offset + of.size, slot + count

    def _cases(self, of: WitType, cases: Sequence[WitType | None], source: _Location, target: _Location) -> None:
        size = discriminant_size(len(cases))
        case = self.kept(self._read(_whole(size, source), source))
        self.trap_if(f"(i32.ge_u {case} (i32.const {len(cases)}))", "case")
        self._write(case, size, "i32", target)
        slots = len(flat(of)) - 1
        source, target = (_part(place, payload_offset(of), 1, slots) for place in (source, target))
        full = [(n, payload) for n, payload in enumerate(cases) if payload is not None]
        if len(full) > _MAX_COMPARED_CASES:
            self._many_cases(case, len(cases), full, source, target)
            return
        for number, payload in full:
            with self.when(f"(i32.eq {case} (i32.const {number}))"):
                self.convert(payload, source, target)

    def _many_cases(
        self, case: str, count: int, full: Sequence[tuple[int, WitType]], source: _Location, target: _Location
    ) -> None:  # fmt: skip
        """Select the case of the payload with ``br_table``; cases without payload jump to the end."""
        label = self.module.label()
        names = {number: f"{label}.{number}" for number, _ in full}
        self.say(f"block {label}", *(f"block {names[number]}" for number, _ in reversed(full)))
        self.say(f"(br_table {' '.join(names.get(n, label) for n in range(count))} {label} {case})")
        for number, payload in full:
            self.say(f"end ;; case {number}")
            self.convert(payload, source, target)
            self.say(f"(br {label})")
        self.say("end")

    # -- strings and lists ------------------------------------------------------------------------

    def _block(self, of: WitType, source: _Location, target: _Location) -> None:
        """Call the helper function that copies a string or list; store the address and length that it returns."""
        pointer = self._read("u32", source)
        length = self._read("u32", _part(source, 4, 1, 1))
        made = text_helper(self.module, self.source, self.target) if of == "string" else self._list(of)
        at, count = self.local(), self.local()
        self.say(f"(call {made} {pointer} {length}) (local.set {count}) (local.set {at})")
        self._write(f"(local.get {at})", 4, "i32", target)
        self._write(f"(local.get {count})", 4, "i32", _part(target, 4, 1, 1))

    def _list(self, of: WitType) -> str:
        assert isinstance(of, List)
        key = ("list", of, self.source, self.target)
        return self.module.function(key, lambda name: _write_list(self.module, name, of.element, self))


def _whole(size: int, source: _Location) -> str:
    """Return the type with which a discriminant or flags are read: their own size in memory, u32 as a core value.

    A discriminant passed as a core value is not truncated: the specification compares all 32 bits with the cases.
    """
    return _INTEGERS[size] if isinstance(source, _InMemory) else "u32"


def _part(place: _Location, offset: int, first: int, count: int) -> _Location:
    return place.at(offset) if isinstance(place, _InMemory) else place.part(first, count)


def _solid(of: WitType) -> bool:
    """Return whether values can be copied as bytes: every bit pattern is valid and there is no padding."""
    if isinstance(of, str):
        return of in _COPIED
    if case_types(of) is not None or isinstance(of, (List, Enum, Flags)):
        return False
    inside = parts(of)
    return all(map(_solid, inside)) and sum(layout(t).size for t in inside) == layout(of).size


def _write_list(module: AdapterModule, name: str, element: WitType, by: _Converter) -> None:
    """Write the function that copies a list (``load_list_from_range``, ``store_list_into_range``).

    It takes an address ``$at`` and a length ``$count`` and returns those of the copy. In order: alignment, bounds of
    the source, maximum byte length, realloc, elements.
    """
    of, source, target = layout(element), by.source, by.target
    body = _Converter(module, source, target)
    read, write = module.memory(source), module.memory(target)
    if of.align > 1:
        body.trap_if(f"(i32.and (local.get $at) (i32.const {of.align - 1}))", "list pointer")
    body.say(
        f"(local.set $size (i64.mul (i64.extend_i32_u (local.get $count)) (i64.const {of.size})))",
        f"(call {module.need(read)} (i64.add (i64.extend_i32_u (local.get $at)) (local.get $size)))",
    )
    body.trap_if("(i64.gt_u (local.get $size) (i64.const 0xffffffff))", "too long")
    body.say(
        f"(local.set $to (call {module.realloc(target)} (i32.const 0) (i32.const 0) (i32.const {of.align})"
        " (i32.wrap_i64 (local.get $size))))"
    )
    if _solid(element):
        body.say(
            f"(memory.copy {write} {read} (local.get $to) (local.get $at) (i32.wrap_i64 (local.get $size)))",
            "(local.get $to) (local.get $count)",
        )
    else:
        body.say("(local.set $next (local.get $to)) (local.set $left (local.get $count))", "block $end", "loop $more")
        body.say("(br_if $end (i32.eqz (local.get $left)))")
        body.convert(element, _InMemory(read, "(local.get $at)", 0), _InMemory(write, "(local.get $next)", 0))
        body.say(
            f"(local.set $at (i32.add (local.get $at) (i32.const {of.size})))",
            f"(local.set $next (i32.add (local.get $next) (i32.const {of.size})))",
            "(local.set $left (i32.sub (local.get $left) (i32.const 1))) (br $more)",
            "end", "end",
            "(local.get $to) (local.get $count)",
        )  # fmt: skip
    module.define(
        f"(func {name} (param $at i32) (param $count i32) (result i32 i32)",
        "(local $size i64) (local $to i32) (local $next i32) (local $left i32)", *body.locals, *body.lines, ")",
    )  # fmt: skip


# -- the adapter itself ----------------------------------------------------------------------------


class _AdapterWriter:
    """Writes one adapter function; see the module for its steps."""

    def __init__(self, module: AdapterModule, link: Link, caller: AdapterSide, callee: AdapterSide) -> None:
        self.module, self.link, self.lifted, self.caller, self.callee = module, link, link.lifted, caller, callee
        self.there = _Converter(module, caller, callee)
        self.back = _Converter(module, callee, caller)
        self.back.locals, self.back.lines = self.there.locals, self.there.lines  # both write the same body

    def write(self) -> None:
        """Write the adapter function."""
        module, body, of = self.module, self.there, self.lifted.type
        outer, inner = core_type(of, lowered=True), core_type(of, lowered=False)
        self._enter()
        given = self._arguments([t for _, t in of.params], outer.params, inner.params)
        assert isinstance(self.lifted.core, CoreExport)
        target = module.core_function(self.lifted.core, inner.params, inner.results)
        call = f"(call {target} {' '.join(given)})"
        if _passes_on(self.link):
            body.say(f"(return_{call[1:]}")
            self._define(outer)
            return
        raw = None
        if inner.results:
            raw = body.local(inner.results[0])
            call = f"(local.set {raw} {call})"
        body.say(call)
        returned = self._result(of.result, outer.params, raw)
        self._leave(inner.results, raw)
        if returned is not None:
            body.say(f"(local.get {returned})")
        self._define(outer)

    def _define(self, outer: FuncType) -> None:
        module, body = self.module, self.there
        params = "".join(f" (param $p{n} {core})" for n, core in enumerate(outer.params))
        result = "".join(f" (result {core})" for core in outer.results)
        name = str(self.link.trampoline)
        module.define(f'(func (export "{name}"){params}{result}', *body.locals, *body.lines, ")")

    def _enter(self) -> None:
        """Trap unless the caller may leave and each instance of the entering set may be entered; mark these entered."""
        body, module = self.there, self.module
        if self.caller.flagged:
            flag = module.flag("leave", self.caller.instance)
            body.trap_if(f"(i32.eqz (global.get {flag}))", "leave")
        flags = [module.flag("enter", n) for n in self.link.entering]
        for flag in flags:
            body.trap_if(f"(i32.eqz (global.get {flag}))", "enter")
        body.say(*(f"(global.set {flag} (i32.const 0))" for flag in flags))

    def _leave(self, results: Sequence[str], raw: str | None) -> None:
        """Call post-return with may-leave cleared, then mark the entered instances as enterable again."""
        body, module = self.there, self.module
        post = self.lifted.options.post_return
        if post is not None:
            assert isinstance(post, CoreExport)
            call = f"(call {module.core_function(post, results, ())}{'' if raw is None else f' (local.get {raw})'})"
            if self.callee.flagged:
                flag = module.flag("leave", self.callee.instance)
                body.say(f"(global.set {flag} (i32.const 0))", call, f"(global.set {flag} (i32.const 1))")
            else:
                body.say(call)
        body.say(*(f"(global.set {module.flag('enter', n)} (i32.const 1))" for n in self.link.entering))

    def _arguments(self, types: Sequence[WitType], outer: Sequence[str], inner: Sequence[str]) -> list[str]:
        """Convert the arguments; return expressions for the core arguments of the lifted function.

        More than ``MAX_FLAT_PARAMS`` core values pass as one tuple in memory, whose address is the only argument; the
        copy is allocated with the callee's realloc (``lift_flat_values``, ``lower_flat_values``).
        """
        body, module, whole = self.there, self.module, Tuple(tuple(types))
        if sum(len(flat(t)) for t in types) > MAX_FLAT_PARAMS:
            source = self._area(body, self.caller, "(local.get $p0)", whole)
            of = layout(whole)
            at = body.kept(
                f"(call {module.realloc(self.callee)} (i32.const 0) (i32.const 0) (i32.const {of.align})"
                f" (i32.const {of.size}))"
            )
            body.convert(whole, source, _InMemory(module.memory(self.callee), at, 0))
            return [at]
        names = [body.local(core) for core in inner]
        words = [f"(local.get $p{n})" for n in range(len(inner))]
        body.convert(whole, _FlatValues(words, inner), _FlatValues(names, inner))
        return [f"(local.get {name})" for name in names]

    def _result(self, of: WitType | None, outer: Sequence[str], raw: str | None) -> str | None:
        """Convert the result; return the local that holds the adapter's result, or ``None`` if it has none.

        A result of more than ``MAX_FLAT_RESULTS`` core values is in memory: the lifted function returns its address,
        and the caller passes the address for the copy as its last argument.
        """
        if of is None or raw is None:
            return None
        body, cores = self.back, flat(of)
        if len(cores) > MAX_FLAT_RESULTS:
            source = self._area(body, self.callee, f"(local.get {raw})", of)
            target = self._area(body, self.caller, f"(local.get $p{len(outer) - 1})", of)
            body.convert(of, source, target)
            return None
        made = body.local(cores[0])
        body.convert(of, _FlatValues([f"(local.get {raw})"], cores), _FlatValues([made], cores))
        return made

    def _area(self, body: _Converter, side: AdapterSide, at: str, of: WitType) -> _InMemory:
        """Trap unless the address ``at`` is aligned for the type and the value is within the side's memory."""
        module, made = self.module, layout(of)
        memory = module.memory(side)
        if made.align > 1:
            body.trap_if(f"(i32.and {at} (i32.const {made.align - 1}))", "pointer")
        body.say(f"(call {module.need(memory)} (i64.add (i64.extend_i32_u {at}) (i64.const {made.size})))")
        return _InMemory(memory, at, 0)
