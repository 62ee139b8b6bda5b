"""Fused modules: core modules that perform a whole call in one entry: realloc, copy, call, copy, post-return.

An entry into WebAssembly from Python costs about a hundred times as much as a call within WebAssembly, and a call with
a string needs three entries. A fused module imports the guest's realloc, the lifted core function, its post-return and
its memory, and exports one function that calls them in the specification's order ("canon lift"). It is small trusted
code; the engine validates it, and instantiation compares the types of all its imports.

Bytes pass as vectors: each 16 bytes of an argument are one v128 parameter, and each 16 bytes of the result are one v128
result. A v128 has the size of a core value in the engine's array, so the vectors lie contiguously there, and the host
accesses them as one buffer. A fused module therefore needs no memory, which would count towards the guest's limits. If
a value exceeds the vectors, or a result violates the canonical ABI, the module returns before post-return with a status
for which the host completes the call in single steps.

The host lifts the result after post-return has run. If the result is invalid and post-return traps as well, the call
therefore ends with the trap of post-return, where the specification's order would give the other error. Either ends
the guest.

Parameters: the core values of the lifted function; for each block its size in bytes, or -1 if the host has already
placed it; the vectors of each block. Results: the result of the lifted function; a status (:data:`_DONE` and
following); the vectors of the result's fixed-size part; the vectors of each string or list in it.
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
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.native.library import lib, pointer_into
from aegis.engine.store.own_module import OwnModule
from aegis.wit.types import List, Record, Tuple, WitType, children

if TYPE_CHECKING:
    from aegis.component.handles import InstanceState
    from aegis.component.planning.program import CanonLift
    from aegis.component.state import ComponentState, LiftLowerContext

__all__ = ["VECTOR", "Block", "FusedCall", "Piece", "Shape", "Stage", "fuse", "module_text", "pieces"]

VECTOR = RAW_VALUE_BYTES
"""Bytes of a v128: as many as of a core value in the engine's array."""
_DONE, _LEFT, _MISALIGNED, _BEYOND = range(4)
"""Status of a fused call: complete; the host must lift the result and call post-return; realloc returned a misaligned
address; realloc returned a range beyond the memory."""
_MAY_NOT_LEAVE, _MAY_LEAVE, _HAS_LEFT = range(3)
"""Values of the global ``phase``. The instance may not leave during realloc and post-return. The host stores
``_HAS_LEFT`` when the instance calls it. The first two equal the values of a may-leave flag."""
_MAX_RESULT_PARTS, _MAX_NESTING_DEPTH = 4, 8
_VECTORS, _OPTIONAL_VECTORS = 64, 16
"""Vectors shared by all arguments, and by a result: each costs time whether or not it is used. Strings and lists that
are present only in some cases, such as an error's text, share fewer."""
_MAX_CACHED_MODULES = 256
"""Fused modules cached by the process; functions of further shapes are called in single steps."""


class Block(NamedTuple):
    """A string or list among the arguments: the core value that is its address, that value's type, its alignment.

    ``optional``: the block belongs to a case of a variant.
    """

    slot: int
    core: str
    align: int
    optional: bool


class Piece(NamedTuple):
    """A string or list in a result: the offset of its pointer, and the size and alignment of its elements.

    It is present if all ``cases`` hold: the offset and size of a discriminant, and the value that it must have.
    """

    offset: int
    scale: int
    align: int
    cases: tuple[tuple[int, int, int], ...]


class Shape(NamedTuple):
    """All that the text of a fused module depends on. ``size``: bytes of a result in memory, 0 if there is none."""

    params: tuple[str, ...]
    result: str | None
    blocks: tuple[Block, ...]
    size: int
    align: int
    pieces: tuple[Piece, ...]
    post: bool

    @property
    def block_vectors(self) -> int:
        """The number of vectors for each block."""
        return (_OPTIONAL_VECTORS if all(b.optional for b in self.blocks) else _VECTORS) // max(1, len(self.blocks))

    @property
    def piece_vectors(self) -> int:
        """The number of vectors for each string or list of the result."""
        return (_OPTIONAL_VECTORS if all(p.cases for p in self.pieces) else _VECTORS) // max(1, len(self.pieces))

    @property
    def fixed_vectors(self) -> int:
        """The number of vectors for the fixed-size part of the result."""
        return align_up(self.size, VECTOR) // VECTOR

    def size_slot(self, block: int) -> int:
        """Return the index of the core value that holds a block's size."""
        return len(self.params) + block

    def block_at(self, block: int) -> int:
        """Return the byte offset of a block's vectors in the array of core values."""
        return RAW_VALUE_BYTES * (len(self.params) + len(self.blocks) + block * self.block_vectors)

    def piece_at(self, piece: int) -> int:
        """Return the byte offset, in the array of core values, of the vectors of a string or list of the result."""
        return RAW_VALUE_BYTES * (2 + self.fixed_vectors + piece * self.piece_vectors)

    @property
    def slots(self) -> int:
        """The number of core values that the array of a call needs, for the larger of parameters and results."""
        return max(self.block_at(len(self.blocks)), self.piece_at(len(self.pieces))) // RAW_VALUE_BYTES


def pieces(of: WitType, encoding: str) -> tuple[Piece, ...] | None:
    """Return the strings and lists of a result, in lifting order; ``None`` if a fused module cannot carry them.

    A fused module carries a bounded number of strings in UTF-8 and of lists whose elements contain no pointers.
    """
    if encoding != "utf8" and has_strings(of):
        return None
    found: list[Piece] = []
    try:
        _collect(of, 0, (), found)
    except _NotFusable:
        return None
    return tuple(found) if len(found) <= _MAX_RESULT_PARTS and layout(of).size <= 8 * VECTOR else None


def has_strings(of: WitType) -> bool:
    """Return whether values of the type can contain strings."""
    return of == "string" or any(map(has_strings, children(of)))


class _NotFusable(Exception):
    """A fused module cannot carry values of the type."""


def _collect(
    of: WitType, at: int, cases: tuple[tuple[int, int, int], ...], found: list[Piece], depth: int = 0
) -> None:  # fmt: skip
    if depth > _MAX_NESTING_DEPTH or len(found) > _MAX_RESULT_PARTS:
        raise _NotFusable
    if of == "string":
        found.append(Piece(at, 1, 1, cases))
    elif isinstance(of, List):
        inner = layout(of.element)
        if has_pointers(of.element) or has_handles(of.element) or inner.size > VECTOR:
            raise _NotFusable
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
    """Return the text of a fused module.

    ``shared``: adapters also use the instance's may-leave flag, so the module imports that global as its ``phase``
    instead of defining one.

    Order of the exported function ("canon lift"): clear may-leave; allocate and fill each block
    (``lower_flat_values``); set may-leave; call; clear may-leave; read the result; call post-return; set may-leave.
    """
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
        # The instance called the host during the call: the host completes the call in single steps.
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
    """Return the call of the lifted function; without a result, the caller adds the opening parenthesis."""
    given = "".join(f" (local.get $p{n})" for n in range(len(shape.params)))
    return f"(call $call{given}))" if shape.result else f"call $call{given})"


def _leave(status: int) -> str:
    return f"(local.set $status (i32.const {status})) (br $end)"


def _fits(size: str) -> str:
    """Return the condition that ``size`` bytes (an i64) at ``$at`` are within the memory; i64 avoids wrapping."""
    end = f"(i64.add (i64.extend_i32_u (local.get $at)) {size})"
    return f"(i64.le_u {end} (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))"


def _placed(shape: Shape, n: int, block: Block) -> list[str]:
    """Allocate a block with the guest's realloc, check the address, and store exactly ``$n`` bytes there.

    Whole vectors are stored first; the last, partial one is stored in parts of 8, 4, 2 and 1 bytes, because a full
    v128.store would write beyond the allocation.
    """
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
    """Run the lines of all vectors below ``number``, last to first: ``br_table`` jumps into an unrolled loop."""
    opened = "".join(f"(block $v{v} " for v in range(count + 1))
    table = " ".join(f"$v{v}" for v in range(count + 1))
    lines = [f"{opened}(br_table {table} {number}))"]
    lines += [f"{line(v)})" for v in reversed(range(count))]
    return lines


def _last(count: int, name: str) -> list[str]:
    """Set ``$last`` to the vector of which only a part is stored."""
    opened = "".join(f"(block $v{v} " for v in reversed(range(count)))
    table = " ".join(f"$v{v}" for v in range(count))
    lines = [f"(block $found {opened}(br_table {table} (i32.shr_u (local.get $n) (i32.const 4))))"]
    lines += [f"(local.set $last (local.get {name}{v})) (br $found))" for v in range(count - 1)]
    return [*lines, f"(local.set $last (local.get {name}{count - 1})))"]


def _rest() -> list[str]:
    """Store the first ``$n % 16`` bytes of ``$last``, in parts of 8, 4, 2 and 1 bytes."""
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
    """Load the fixed-size part of the result, and the bytes of the strings and lists in it.

    If the return pointer is misaligned or too close to the end of memory for whole vectors, leave the call to the host,
    which checks the exact bounds.
    """
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
        # $n becomes the number of vectors. They are loaded whole; the host uses only the bytes of the string or list.
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
    """Return the module of a shape; ``None`` if it is new and the process already caches the maximum number."""
    found = _modules.get((shape, shared))
    if found is None and len(_modules) < _MAX_CACHED_MODULES:
        made = OwnModule(text_to_binary(module_text(shape, shared=shared), "a fused module"))
        found = _modules.setdefault((shape, shared), made)
    return found


_global_get, _global_set = lib.wasmtime_global_get, lib.wasmtime_global_set
_VALUE_BYTES = 32
"""Size of ``wasmtime_val_t``: the kind is at offset 0, the value at 8. The kind of an i32 is 0, as in a new buffer."""


class Stage:
    """The context for lifting a result from vectors: the array of core values takes the place of linear memory."""

    __slots__ = ("buffer", "door", "handles", "lift_borrow", "lift_own", "memory", "view")

    def __init__(self, cx: LiftLowerContext, buffer: Any, view: memoryview) -> None:
        self.door, self.handles, self.buffer, self.view = cx.door, cx.handles, buffer, view
        self.lift_own, self.lift_borrow = cx.lift_own, cx.lift_borrow
        self.memory = self

    def need(self, end: int) -> memoryview:
        """Trap: a range beyond the vectors cannot be part of the result."""
        raise trap(f"out-of-bounds memory access: up to {end:,} of {len(self.view):,} bytes")


class FusedCall:
    """An instance of a fused module in a store.

    During a call it replaces the ``may_leave`` attribute of its component instance, and derives the flag from the
    global ``phase``. If adapters share the flag, the module uses that global as its phase; the object has no phase of
    its own and is always true.
    """

    __slots__ = ("_context", "_instance", "_phase", "_value", "_word", "function")

    def __init__(self, state: ComponentState, instance: InstanceState, function: Any, phase: Any) -> None:
        self._context, self._instance, self.function, self._phase = state.context, instance, function, phase
        self._value = (ctypes.c_char * _VALUE_BYTES)()
        self._word = memoryview(self._value).cast("B")[8:12].cast("I")

    def __bool__(self) -> bool:
        """Return whether the instance may leave; if so, record that it did, so that the host completes the call."""
        if self._phase is None:
            return True
        value = pointer_into(self._value)
        _global_get(self._context, self._phase, value)
        if self._word[0] != _MAY_LEAVE:
            return False
        self._word[0] = _HAS_LEFT
        _global_set(self._context, self._phase, value)
        self._instance.may_leave = True
        return True


def misplaced(state: ComponentState, status: int) -> BaseException:
    """Return the trap for an invalid address that the guest's realloc returned during a fused call."""
    if status == _MISALIGNED:
        return trap("realloc returned an address that is not aligned")
    return state.realloc_out_of_bounds()


def fuse(state: ComponentState, lifted: CanonLift, instance: InstanceState, shape: Shape) -> FusedCall | None:
    """Instantiate a fused module for a lifted function; return ``None`` if the store's instance limit is reached."""
    module, options = _module(shape, instance.leave is not None), lifted.options
    items = [lifted.core, *([options.realloc] if shape.blocks else ()), *([options.post_return] if shape.post else ())]
    items += [options.memory] if shape.blocks or shape.size else []
    if module is None or None in items:
        return None
    shared = [] if instance.leave is None else [instance.leave]
    items, names = items + shared, ("go",) if shared else ("go", "phase")
    found = state.own_instance(module.code(state.plan.config), items, names)
    return None if found is None else FusedCall(state, instance, found[0], found[1] if found[1:] else None)
