"""Core modules that make a whole call in one entry: realloc, copy, call, copy, post-return.

An entry into WebAssembly from Python costs some hundred times what a call within WebAssembly does, and a call with a
string takes three. A fused module imports the guest's realloc, the lifted core function, its post-return and the
memory, and exports one function that calls them in the specification's order ("canon lift"). It is trusted code, small,
and validated by the engine, whose instantiation compares the types of everything that it imports.

Bytes cross in vectors: sixteen bytes of an argument are one parameter of the type v128, and sixteen bytes of the result
one result, so that they lie side by side among the core values that the host writes and reads. A fused module
therefore has no memory, which would count towards the guest's limits. What does not fit into the vectors, or is
not as it should be, is left to the ordinary way: the module returns before post-return, and says so.

The host lifts the result when post-return has run. Where a result cannot be lifted, and post-return would have trapped
as well, its trap is what the call ends with; step by step it is the other error. Both end the guest.

Parameters: the core values of the lifted function; for each block its size in bytes, or -1 where it is in place
already; the vectors of each block. Results: what the lifted function returned; a status (:data:`_DONE` and those
after it); the vectors of the result's fixed part; the vectors of each string or list in it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis.component.conversion.layout import (
    align_up,
    case_types,
    discriminant_size,
    has_handles,
    has_pointers,
    layout,
    parts,
    payload_offset,
)
from aegis.component.traps import trap
from aegis.engine.call.classify import OWN_MODULE
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.native.library import lib
from aegis.engine.store.own_module import OwnModule
from aegis.wit.types import List, Record, Tuple, WitType, children

if TYPE_CHECKING:
    from aegis.component.handles import Instance
    from aegis.component.planning.program import Lifted
    from aegis.component.state import ComponentState, Context

__all__ = ["SLOT", "VECTOR", "Block", "FusedCall", "Piece", "Shape", "Stage", "fuse", "module_text", "pieces"]

SLOT = VECTOR = 16
"""Bytes of a core value as the engine passes it, and of a vector: they are the same."""
_DONE, _LEFT, _MISALIGNED, _BEYOND = range(4)
"""How a fused call ended: whole; with the result to be read and post-return to be called; with an address from realloc
that is not aligned, or beyond the memory."""
_MAY_NOT_LEAVE, _MAY_LEAVE, _HAS_LEFT = range(3)
"""The phases of a call, in the global ``phase``: realloc and post-return may not call out of the component."""
_MOST_PIECES, _DEEPEST = 4, 8
_VECTORS, _FEW = 64, 16
"""How many vectors arguments have together, and a result: each takes time whether or not it is used. Strings and lists
that are not always there, such as an error's text, share fewer."""
_SHAPES_KEPT = 256


class Block(NamedTuple):
    """A string or list among the arguments: which core value is its address, of what type, aligned how.

    ``optional``: it belongs to a case of a variant.
    """

    slot: int
    core: str
    align: int
    optional: bool


class Piece(NamedTuple):
    """A string or list in a result: where its pointer and length are, and what its elements need.

    It is there if each of ``cases`` holds: offset and size of a discriminant, and its value.
    """

    offset: int
    scale: int
    align: int
    cases: tuple[tuple[int, int, int], ...]


class Shape(NamedTuple):
    """What the text of a fused module depends on. ``size`` is that of a result in memory, 0 of none."""

    params: tuple[str, ...]
    result: str | None
    blocks: tuple[Block, ...]
    size: int
    align: int
    pieces: tuple[Piece, ...]
    post: bool

    @property
    def block_vectors(self) -> int:
        """How many vectors each argument has."""
        return (_FEW if all(b.optional for b in self.blocks) else _VECTORS) // max(1, len(self.blocks))

    @property
    def piece_vectors(self) -> int:
        """How many vectors each string or list of the result has."""
        return (_FEW if all(p.cases for p in self.pieces) else _VECTORS) // max(1, len(self.pieces))

    @property
    def fixed_vectors(self) -> int:
        """How many vectors the fixed part of the result has."""
        return align_up(self.size, VECTOR) // VECTOR

    def size_slot(self, block: int) -> int:
        """Return the number of the core value that is a block's size."""
        return len(self.params) + block

    def block_at(self, block: int) -> int:
        """Return where a block's bytes begin among the core values, in bytes."""
        return SLOT * (len(self.params) + len(self.blocks) + block * self.block_vectors)

    def piece_at(self, piece: int) -> int:
        """Return where the bytes of a string or list of the result begin, in bytes."""
        return SLOT * (2 + self.fixed_vectors + piece * self.piece_vectors)

    @property
    def slots(self) -> int:
        """How many core values the call has room for."""
        return max(self.block_at(len(self.blocks)), self.piece_at(len(self.pieces))) // SLOT


def pieces(of: WitType, encoding: str) -> tuple[Piece, ...] | None:
    """Return the strings and lists of a result, in the order in which it is read; ``None`` if they are too many.

    Strings and lists within lists, and strings of other encodings than UTF-8, are not for fused modules.
    """
    if encoding != "utf8" and has_strings(of):
        return None
    found: list[Piece] = []
    try:
        _collect(of, 0, (), found)
    except _Unfit:
        return None
    return tuple(found) if len(found) <= _MOST_PIECES and layout(of).size <= 8 * VECTOR else None


def has_strings(of: WitType) -> bool:
    """Tell whether a value can hold strings."""
    return of == "string" or any(map(has_strings, children(of)))


class _Unfit(Exception):
    """A type has more than fused modules carry."""


def _collect(
    of: WitType, at: int, cases: tuple[tuple[int, int, int], ...], found: list[Piece], depth: int = 0
) -> None:  # fmt: skip
    if depth > _DEEPEST or len(found) > _MOST_PIECES:
        raise _Unfit
    if of == "string":
        found.append(Piece(at, 1, 1, cases))
    elif isinstance(of, List):
        inner = layout(of.element)
        if has_pointers(of.element) or has_handles(of.element) or inner.size > VECTOR:
            raise _Unfit
        found.append(Piece(at, inner.size, inner.align, cases))
    elif isinstance(of, (Record, Tuple)):
        for part in parts(of):
            at = align_up(at, layout(part).align)
            _collect(part, at, cases, found, depth + 1)
            at += layout(part).size
    else:
        payloads = case_types(of) or ()
        for case, payload in enumerate(payloads):
            if payload is not None and has_pointers(payload):
                size, start = discriminant_size(len(payloads)), at + payload_offset(of)
                _collect(payload, start, (*cases, (at, size, case)), found, depth + 1)


# -- the text of a module --------------------------------------------------------------------------


def module_text(shape: Shape, *, shared: bool = False) -> str:
    """Return a fused module as WebAssembly text; ``shared``: the phase is a global of the component instance's."""
    params = "".join(f" (param $p{n} {core})" for n, core in enumerate(shape.params))
    sizes = "".join(f" (param $n{n} i32)" for n in range(len(shape.blocks)))
    given = "".join(f" (param $b{n}.{v} v128)" for n in range(len(shape.blocks)) for v in range(shape.block_vectors))
    read = [f"$f{v}" for v in range(shape.fixed_vectors)]
    read += [f"$r{n}.{v}" for n in range(len(shape.pieces)) for v in range(shape.piece_vectors)]
    returned = shape.result or "i32"
    lifted = " ".join(("param", *shape.params))
    imports = [f'(import "" "call" (func $call ({lifted}){f" (result {shape.result})" if shape.result else ""}))']
    if shape.blocks:
        imports.append('(import "" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))')
    if shape.post:
        imports.append(f'(import "" "post-return" (func $post{f" (param {shape.result})" if shape.result else ""}))')
    if shape.blocks or shape.size:
        imports.append('(import "" "memory" (memory 0))')
    phase = f'(global $phase (export "phase") (mut i32) (i32.const {_MAY_NOT_LEAVE}))'
    lines = [
        f"(module ${OWN_MODULE}",
        *imports,
        '(import "" "phase" (global $phase (mut i32)))' if shared else phase,
        f'(func (export "go"){params}{sizes}{given} (result {returned} i32{" v128" * len(read)})',
        f"(local $value {returned}) (local $status i32) (local $at i32) (local $n i32) (local $last v128)",
        *(f"(local {name} v128)" for name in read),
        f"(global.set $phase (i32.const {_MAY_NOT_LEAVE}))",
        "(block $end",
        *(line for n, block in enumerate(shape.blocks) for line in _placed(shape, n, block)),
        f"(global.set $phase (i32.const {_MAY_LEAVE}))",
        f"{'(local.set $value ' if shape.result else '('}{_call(shape)}",
        # The host was called: from here on it goes its ordinary way.
        f"(if (i32.eq (global.get $phase) (i32.const {_HAS_LEFT})) (then (local.set $status (i32.const {_LEFT}))"
        " (br $end)))",
        f"(global.set $phase (i32.const {_MAY_NOT_LEAVE}))",
        *(_lifted(shape) if shape.size else ()),
        *([f"(call $post{' (local.get $value)' if shape.result else ''})"] if shape.post else ()),
        f") (global.set $phase (i32.const {_MAY_LEAVE}))" if shared else ")",
        " ".join(["(local.get $value) (local.get $status)", *(f"(local.get {name})" for name in read)]),
        "))",
    ]
    return "\n".join(lines)


def _call(shape: Shape) -> str:
    """Return the call of the lifted function, without its opening parenthesis where nothing takes the result."""
    given = "".join(f" (local.get $p{n})" for n in range(len(shape.params)))
    return f"(call $call{given}))" if shape.result else f"call $call{given})"


def _leave(status: int) -> str:
    return f"(local.set $status (i32.const {status})) (br $end)"


def _fits(size: str) -> str:
    """Return the condition that a range of ``size`` bytes, an i64, from ``$at`` on is in the memory."""
    end = f"(i64.add (i64.extend_i32_u (local.get $at)) {size})"
    return f"(i64.le_u {end} (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))"


def _placed(shape: Shape, n: int, block: Block) -> list[str]:
    """Have the guest give space for a block, and store its bytes there, no byte more."""
    name = f"$b{n}."
    address = "(local.get $at)" if block.core == "i32" else "(i64.extend_i32_u (local.get $at))"
    return [
        f"(if (i32.ne (local.get $n{n}) (i32.const -1)) (then",
        f"(local.set $n (local.get $n{n}))",
        f"(local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const {block.align}) (local.get $n)))",
        f"(if (i32.and (local.get $at) (i32.const {block.align - 1})) (then {_leave(_MISALIGNED)}))",
        f"(if (i32.eqz {_fits('(i64.extend_i32_u (local.get $n))')}) (then {_leave(_BEYOND)}))",
        f"(local.set $p{block.slot} {address})",
        *_each(
            shape.block_vectors,
            "(i32.shr_u (local.get $n) (i32.const 4))",
            lambda v: f"(v128.store offset={VECTOR * v} (local.get $at) (local.get {name}{v}))",
        ),
        "(if (i32.and (local.get $n) (i32.const 15)) (then",
        "(local.set $at (i32.add (local.get $at) (i32.and (local.get $n) (i32.const -16))))",
        *_last(shape.block_vectors, name),
        *_rest(),
        "))))",
    ]


def _each(count: int, number: str, line: Callable[[int], str]) -> list[str]:
    """Run the lines of all vectors below ``number``, from the last to the first: a jump into their midst."""
    opened = "".join(f"(block $v{v} " for v in range(count + 1))
    table = " ".join(f"$v{v}" for v in range(count + 1))
    lines = [f"{opened}(br_table {table} {number}))"]
    lines += [f"{line(v)})" for v in reversed(range(count))]
    return lines


def _last(count: int, name: str) -> list[str]:
    """Set ``$last`` to the vector that is stored in part."""
    opened = "".join(f"(block $v{v} " for v in reversed(range(count)))
    table = " ".join(f"$v{v}" for v in range(count))
    lines = [f"(block $found {opened}(br_table {table} (i32.shr_u (local.get $n) (i32.const 4))))"]
    lines += [f"(local.set $last (local.get {name}{v})) (br $found))" for v in range(count - 1)]
    return [*lines, f"(local.set $last (local.get {name}{count - 1})))"]


def _rest() -> list[str]:
    """Store as many bytes of ``$last`` as the size leaves over: eight, four, two and one."""
    lines = []
    for size in (8, 4, 2, 1):
        shifted = " ".join(str(min(n + size, VECTOR - 1)) for n in range(VECTOR))
        lines += [
            f"(if (i32.and (local.get $n) (i32.const {size})) (then",
            f"(v128.store{8 * size}_lane 0 (local.get $at) (local.get $last))",
            f"(local.set $last (i8x16.shuffle {shifted} (local.get $last) (local.get $last)))",
            f"(local.set $at (i32.add (local.get $at) (i32.const {size})))))",
        ]
    return lines


def _lifted(shape: Shape) -> list[str]:
    """Load the result's fixed part, and the bytes of the strings and lists in it."""
    reads = shape.fixed_vectors * VECTOR
    lines = ["(local.set $at (local.get $value))"]
    if shape.align > 1:
        lines.append(f"(if (i32.and (local.get $at) (i32.const {shape.align - 1})) (then {_leave(_LEFT)}))")
    lines.append(f"(if (i32.eqz {_fits(f'(i64.const {reads})')}) (then {_leave(_LEFT)}))")
    lines += [f"(local.set $f{v} (v128.load offset={VECTOR * v} (local.get $at)))" for v in range(shape.fixed_vectors)]
    for n, piece in enumerate(shape.pieces):
        lines += _piece(shape, n, piece)
    return lines


def _piece(shape: Shape, n: int, piece: Piece) -> list[str]:
    most = shape.piece_vectors * VECTOR // piece.scale
    load = {1: "i32.load8_u", 2: "i32.load16_u", 4: "i32.load"}
    conditions = [
        f"(i32.eq ({load[size]} offset={at} (local.get $value)) (i32.const {case}))" for at, size, case in piece.cases
    ]
    misplaced = f"(i32.and (local.get $at) (i32.const {piece.align - 1}))"
    lines = [f"(if {condition} (then" for condition in conditions]
    lines += [
        f"(local.set $at (i32.load offset={piece.offset} (local.get $value)))",
        f"(local.set $n (i32.load offset={piece.offset + 4} (local.get $value)))",
        f"(if (i32.gt_u (local.get $n) (i32.const {most})) (then {_leave(_LEFT)}))",
        *([f"(if {misplaced} (then {_leave(_LEFT)}))"] if piece.align > 1 else ()),
        # Whole vectors are read, and only the bytes of the range are looked at.
        f"(local.set $n (i32.shr_u (i32.add (i32.mul (local.get $n) (i32.const {piece.scale})) (i32.const 15))"
        " (i32.const 4)))",
        f"(if (i32.eqz {_fits('(i64.extend_i32_u (i32.shl (local.get $n) (i32.const 4)))')}) (then {_leave(_LEFT)}))",
        *_each(
            shape.piece_vectors,
            "(local.get $n)",
            lambda v: f"(local.set $r{n}.{v} (v128.load offset={VECTOR * v} (local.get $at)))",
        ),
    ]
    return [*lines, "))" * len(conditions)] if conditions else lines


# -- compiled, and in a store ----------------------------------------------------------------------


_modules: dict[tuple[Shape, bool], OwnModule] = {}


def _module(shape: Shape, shared: bool) -> OwnModule | None:
    """Return the module of a shape; ``None`` once the process has as many as it keeps."""
    found = _modules.get((shape, shared))
    if found is None and len(_modules) < _SHAPES_KEPT:
        made = OwnModule(text_to_binary(module_text(shape, shared=shared), "a fused module"))
        found = _modules.setdefault((shape, shared), made)
    return found


_global_get, _global_set = lib.wasmtime_global_get, lib.wasmtime_global_set
_VALUE_BYTES = 32
"""Room for a ``wasmtime_val_t``: the kind at 0, the value at 8. The kind of an i32 is 0."""


class Stage:
    """The vectors of a result, as the context from which it is lifted: its memory is the core values."""

    __slots__ = ("buffer", "door", "handles", "lift_borrow", "lift_own", "memory", "view")

    def __init__(self, cx: Context, buffer: Any, view: memoryview) -> None:
        self.door, self.handles, self.buffer, self.view = cx.door, cx.handles, buffer, view
        self.lift_own, self.lift_borrow = cx.lift_own, cx.lift_borrow
        self.memory = self

    def need(self, end: int) -> memoryview:
        """Trap: no range of a result reaches beyond its vectors."""
        raise trap(f"out-of-bounds memory access: up to {end:,} of {len(self.view):,} bytes")


class FusedCall:
    """A fused module in a store.

    It stands in ``may_leave`` of its component instance while a call is under way, and then finds out by the phase.
    Where adapters know whether the instance may leave, the phase is the flag itself, and is never asked for here.
    """

    __slots__ = ("_context", "_instance", "_phase", "_value", "_word", "function")

    def __init__(self, state: ComponentState, instance: Instance, function: Any, phase: Any) -> None:
        self._context, self._instance, self.function, self._phase = state.context, instance, function, phase
        self._value = (ctypes.c_char * _VALUE_BYTES)()
        self._word = memoryview(self._value).cast("B")[8:12].cast("I")

    def __bool__(self) -> bool:
        """Tell whether the instance may leave; if so, the module leaves the rest of the call to the host."""
        if self._phase is None:
            return True
        value = ctypes.addressof(self._value)
        _global_get(self._context, self._phase, value)
        if self._word[0] != _MAY_LEAVE:
            return False
        self._word[0] = _HAS_LEFT
        _global_set(self._context, self._phase, value)
        self._instance.may_leave = True
        return True


def misplaced(state: ComponentState, status: int) -> BaseException:
    """Return why the guest's realloc ended a fused call."""
    if status == _MISALIGNED:
        return trap("realloc returned an address that is not aligned")
    return state.realloc_out_of_bounds()


def fuse(state: ComponentState, lifted: Lifted, instance: Instance, shape: Shape) -> FusedCall | None:
    """Instantiate a fused module for a lifted function; ``None`` if the store may have no more instances."""
    module, options = _module(shape, instance.leave is not None), lifted.options
    items = [lifted.core, *([options.realloc] if shape.blocks else ()), *([options.post_return] if shape.post else ())]
    items += [options.memory] if shape.blocks or shape.size else []
    if module is None or None in items:
        return None
    shared = [] if instance.leave is None else [instance.leave]
    items, names = items + shared, ("go",) if shared else ("go", "phase")
    found = state.own_instance(module.code(state.plan.config), items, names)
    return None if found is None else FusedCall(state, instance, found[0], found[1] if found[1:] else None)
