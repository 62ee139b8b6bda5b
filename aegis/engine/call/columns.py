"""Calls over columns: a loop of Aegis in WebAssembly that calls a guest's function once for each row.

An entry into WebAssembly from Python costs some hundred times what a call within WebAssembly does. So a small module
of Aegis imports the function and a memory, and exports ``run(row, rows)``. The host copies the arguments of some
thousand rows into the memory, column by column, enters once, and copies the results out. The module is trusted code;
the engine compares the type of the function that it imports as it instantiates it, and bounds each access to the
memory. It is compiled as the guest is, so that epochs and fuel end the loop too: a row costs some units of fuel.

The memory is Aegis's own, of fixed size, made beside the limits of the store: no function of the guest can reach it,
and it does not count towards the guest's memory. Its first word is the row under way, which says after a trap how far
the loop came. One memory serves one call; a call inside a host function of the same guest gets another.

The whole call passes into the guest once, as a call of one row does (:mod:`aegis.engine.call.caller`): one token, one
deadline, one measure of fuel. Signals and a cancellation are noticed between two entries, and the number of rows of an
entry is chosen so that it takes some milliseconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from time import monotonic

from aegis.engine.call.caller import IN_TIME, Entry, Style, around
from aegis.engine.call.classify import OWN_MODULE
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.code import NativeCode
from aegis.engine.compile.config import EngineConfig
from aegis.engine.native.library import lib, number, pointer, take_error, view
from aegis.engine.store.own_module import OwnModule
from aegis.errors import AegisInternalError, CallError, SandboxStateError
from aegis.support.bounded_cache import memoised
from aegis.support.buffers import SCALARS, ColumnBatch, Scalar
from aegis.support.lean import Any, NamedTuple, Protocol
from aegis.text import printable
from aegis.values import FuncType, Rows

__all__ = ["BAD_RESULT", "CALLING", "HAS_LEFT", "POST_RETURN", "ColumnEntry", "Room", "RowRules", "Shape", "Stages",
           "call_rows", "column_closure", "loop_code", "module_text"]  # fmt: skip

_PAGES = 8
_PAGE = 1 << 16
_MEMORY_BYTES = _PAGES * _PAGE
_HEADER = 64
"""Bytes before the first column: the row under way, the phase of its call, and its result where it left."""
_PHASE_AT, _VALUE_AT = 4, 8
CALLING, POST_RETURN, HAS_LEFT = 0, 1, 2
"""Phases: the function runs; post-return runs; the function called the host, so the host ends the row."""
DONE, BAD_RESULT, LEFT = 0, 1, 2
"""What ``run`` returns: all rows are done; the row's result is no value of its type; the host ends the row."""
_MOST_ROWS = 1 << 16
_FIRST_ROWS = 64
_SHORT, _LONG = 0.002, 0.01
"""Seconds of an entry below which the next one has more rows, and above which it has fewer."""
_PARTS_KEPT = 4096


Room = Callable[[], None] | None
"""Raises at the limit of Python's recursion; ``None`` where the guest calls no Python."""


class Shape(NamedTuple):
    """The types of a function as the loop sees it; ``post``: the loop calls post-return after each row.

    ``flagged``: whether the instance may leave is in a global, which the loop then sets.
    """

    params: tuple[Scalar, ...]
    result: Scalar | None
    post: bool = False
    flagged: bool = False

    def most(self) -> int:
        """Return how many rows fit into the memory."""
        padding = _HEADER + 8 * (len(self.params) + 1)
        return min(_MOST_ROWS, (_MEMORY_BYTES - padding) // max(1, self.row_bytes()))

    def row_bytes(self) -> int:
        """Return how many bytes the arguments and the result of one row have."""
        return sum(of.width for of in self.params) + (0 if self.result is None else self.result.width)

    def offsets(self) -> list[int]:
        """Return where each column begins, the results last."""
        found, at, most = [], _HEADER, self.most()
        for of in (*self.params, *(() if self.result is None else (self.result,))):
            found.append(at)
            at += -(-of.width * most // 8) * 8
        return found


# -- the module ------------------------------------------------------------------------------------


def module_text(shape: Shape) -> str:
    """Return the module of a shape as text."""
    params = "".join(f" {of.core}" for of in shape.params)
    result = "" if shape.result is None else shape.result.core
    offsets = shape.offsets()
    arguments = " ".join(_loaded(of, at) for of, at in zip(shape.params, offsets, strict=False))
    call = f"(call $call {arguments})"
    lines = [
        f"(module ${OWN_MODULE}",
        f'(import "" "call" (func $call (param{params}) (result {result})))',
        f'(import "" "post" (func $post (param {result})))' if shape.post else "",
        '(import "" "leave" (global $leave (mut i32)))' if shape.flagged else "",
        f'(import "" "memory" (memory {_PAGES} {_PAGES}))',
        '(func (export "run") (param $row i32) (param $rows i32) (result i32)',
        f"(local $value {result})" if result else "",
        "(loop $next",
        f"(if (i32.ge_u (local.get $row) (local.get $rows)) (then (return (i32.const {DONE}))))",
        "(i32.store (i32.const 0) (local.get $row))",
        f"(local.set $value {call})" if result else call,
        *([] if shape.result is None else _stored(shape.result, offsets[-1])),
        *(_returned(shape) if shape.post else ()),
        "(local.set $row (i32.add (local.get $row) (i32.const 1)))",
        "(br $next))",
        "unreachable))",
    ]
    return "\n".join(lines).replace(" (result )", "").replace("(param)", "").replace("(param )", "")


def _at(width: int) -> str:
    """Return the address of the row's element in a column at 0."""
    shift = width.bit_length() - 1
    return f"(i32.shl (local.get $row) (i32.const {shift}))" if shift else "(local.get $row)"


def _loaded(of: Scalar, offset: int) -> str:
    """Return the row's argument as a core value. A bool is 0 or 1 whatever its byte is ("Flat Lowering")."""
    narrow = of.width < 4
    sign = "_s" if of.family == "signed" else "_u"
    load = f"{of.core}.load{f'{8 * of.width}{sign}' if narrow else ''} offset={offset}"
    value = f"({load} {_at(of.width)})"
    return f"(i32.ne {value} (i32.const 0))" if of.family == "bool" else value


def _stored(of: Scalar, offset: int) -> list[str]:
    """Store the row's result: its low bits; of a bool whether it is zero; a character only if it is one."""
    value = "(local.get $value)"
    if of.family == "bool":
        value = f"(i32.ne {value} (i32.const 0))"
    store = f"{of.core}.store{8 * of.width if of.width < 4 else ''} offset={offset}"
    lines = [f"({store} {_at(of.width)} {value})"]
    if of.family == "char":  # CanonicalABI.md, ``convert_i32_to_char``
        surrogate = f"(i32.eq (i32.and {value} (i32.const 0xfffff800)) (i32.const 0xd800))"
        wrong = f"(i32.or (i32.ge_u {value} (i32.const 0x110000)) {surrogate})"
        lines.insert(0, f"(if {wrong} (then (return (i32.const {BAD_RESULT}))))")
    return lines


def _returned(shape: Shape) -> list[str]:
    """Call post-return, or leave that to the host where the function called the host."""
    value = "" if shape.result is None else "(local.get $value)"
    keep = "" if shape.result is None else f"({shape.result.core}.store (i32.const {_VALUE_AT}) {value})"
    if shape.flagged:
        return ["(global.set $leave (i32.const 0))", f"(call $post {value})", "(global.set $leave (i32.const 1))"]
    phase = f"(i32.const {_PHASE_AT})"
    return [
        f"(if (i32.eq (i32.load {phase}) (i32.const {HAS_LEFT})) (then {keep} (return (i32.const {LEFT}))))",
        f"(i32.store {phase} (i32.const {POST_RETURN}))",
        f"(call $post {value})",
        f"(i32.store {phase} (i32.const {CALLING}))",
    ]


@memoised(_PARTS_KEPT, lambda shape: 2 + len(shape.params))
def _module(shape: Shape) -> OwnModule:
    return OwnModule(text_to_binary(module_text(shape), "a loop over rows"))


def loop_code(shape: Shape, config: EngineConfig) -> NativeCode:
    """Return the code of a shape's loop. Compiling takes milliseconds, so it is done before a call's time begins."""
    return _module(shape).code(config)


# -- in a store ------------------------------------------------------------------------------------

_EXTERN, _INSTANCE, _SLOT = 32, 16, 16
_MEMORY_KIND = b"\3"
_RUN, _RUN_LENGTH, _ARGUMENTS = b"run", number(3), number(2)
_invoke, _instance_new = lib.wasmtime_func_call_unchecked, lib.wasmtime_instance_new
_export_get, _memory_new = lib.wasmtime_instance_export_get, lib.wasmtime_memory_new


@cache
def _memory_type() -> Any:
    """Return the engine's image of the memory's type, kept for the process."""
    made = ctypes.c_void_p()
    error = lib.wasmtime_memorytype_new(_PAGES, True, _PAGES, False, False, 16, ctypes.byref(made))
    if error is not None:
        raise AegisInternalError(f"the engine refused a memory's type: {take_error(error)}")
    return pointer(made.value or 0)


class _Memory:
    """A linear memory of Aegis in a store: its ``wasmtime_extern_t``, and a view that holds until the store goes."""

    __slots__ = ("held", "view", "words")

    def __init__(self, context: Any) -> None:
        self.held = (ctypes.c_char * _EXTERN)(_MEMORY_KIND)
        item = pointer(ctypes.addressof(self.held) + 8)
        error = _memory_new(context, _memory_type(), item)
        if error is not None:
            raise AegisInternalError(f"the engine made no memory for rows: {take_error(error)}")
        self.view = view(lib.wasmtime_memory_data(context, item), _MEMORY_BYTES)
        self.words = self.view[:_HEADER].cast("I")

    def close(self) -> None:
        """Let go of the views: the store is deleted next, and an error's frames may hold them."""
        self.words.release()
        self.view.release()


class LoopEntry(Protocol):
    """What a loop needs to know of its function."""

    @property
    def name(self) -> Any: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def code(self) -> NativeCode: ...


class Stage:
    """The loop over the rows of one function in a store, instantiated with one memory."""

    __slots__ = ("_held", "arguments", "code", "columns", "function", "memory", "most", "results", "words")

    def __init__(self, store: Any, entry: LoopEntry, memory: _Memory, functions: Sequence[int]) -> None:
        shape = entry.shape
        self.memory, self.most, self.code = memory, shape.most(), entry.code
        given = len(functions) + 1
        self._held = (ctypes.c_char * (_INSTANCE + _EXTERN * (given + 1) + 2 * _SLOT))()
        base = ctypes.addressof(self._held)
        imports, found = base + _INSTANCE, base + _INSTANCE + given * _EXTERN
        for place, address in enumerate((*functions, ctypes.addressof(memory.held))):
            ctypes.memmove(imports + place * _EXTERN, address, _EXTERN)
        error = _instance_new(
            store.context, pointer(self.code.pointer or 0), pointer(imports), number(given), pointer(base),
            store.trap_pointer,
        )  # fmt: skip
        if error is not None:
            raise _no_instance(take_error(error))
        if not _export_get(store.context, pointer(base), _RUN, _RUN_LENGTH, pointer(found)):
            raise AegisInternalError("the loop over rows vanished")
        self.function, self.arguments = pointer(found + 8), pointer(found + _EXTERN)
        self.words = memoryview(self._held).cast("B")[-2 * _SLOT :].cast("I")
        widths, offsets = [of.width for of in shape.params], shape.offsets()
        self.columns = list(zip(widths, offsets, strict=False))
        self.results = None if shape.result is None else (shape.result.width, offsets[-1])

    def targets(self, rows: int) -> list[memoryview]:
        """Return where the arguments of so many rows go."""
        return [self.memory.view[at : at + rows * width] for width, at in self.columns]

    def taken(self, rows: int) -> memoryview:
        """Return the results of the first ``rows`` rows."""
        if self.results is None:
            return memoryview(b"")
        width, at = self.results
        return self.memory.view[at : at + rows * width]


def _no_instance(message: str) -> Exception:
    """Return the error for a loop that the engine did not instantiate."""
    if "maximum concurrent" in message:
        return SandboxStateError(
            "the engine's pool has no room for a call over columns: close sandboxes, or make the runtime without a "
            "pool (pooled=False)",
            state="pool",
        )
    return AegisInternalError(f"the engine made no instance for rows: {printable(message, 400)}")


class Stages:
    """The memories and loops of one store."""

    __slots__ = ("_free", "_made")

    def __init__(self) -> None:
        self._free: list[_Memory] = []
        self._made: dict[tuple[Any, int], Stage] = {}

    @contextmanager
    def taken(self, store: Any, entry: LoopEntry, functions: Sequence[int]) -> Iterator[Stage]:
        """Lend the loop of a function; ``functions`` are the addresses of what it imports."""
        name, memory = entry.name, self._free.pop() if self._free else None
        try:
            stage = None if memory is None else self._made.get((name, id(memory)))
            if stage is None:
                with store.beside_limits():
                    if memory is None:
                        memory = _Memory(store.context)
                    stage = self._made[name, id(memory)] = Stage(store, entry, memory, functions)
            yield stage
        finally:
            if memory is not None:
                self._free.append(memory)

    def close(self) -> None:
        """Forget the views of memories: their store is deleted next."""
        for memory in self._free:  # no call is under way, so these are all
            memory.close()
        self._free.clear()
        self._made.clear()


# -- the call --------------------------------------------------------------------------------------


class RowRules(Protocol):
    """What the component model asks for around the rows of an entry."""

    def enter(self) -> None:
        """Begin an entry."""

    def left(self, status: int) -> None:
        """End a row that the loop did not: ``status`` says why. Raise the trap if it is one."""

    def leave(self) -> None:
        """End an entry whose rows are done."""


def call_rows(store: Any, stage: Stage, batch: ColumnBatch, room: Room, rules: RowRules | None = None) -> None:
    """Call the function for all rows; whatever ends it, the results of the rows before are in ``batch``.

    ``room`` raises unless a native callback can be entered from where it is called.
    """
    if room is not None:
        _room_below(room)
    batch.begun = True
    metered = store.plan.metered  # an entry costs fuel, and how much a call costs must not depend on the time
    door, size, words = store.door, min(_FIRST_ROWS, stage.most), stage.memory.words
    while batch.done < batch.rows:
        rows = min(size, batch.rows - batch.done)
        door.charge(rows * batch.row_bytes)
        targets = stage.targets(rows)
        try:
            batch.load(batch.done, rows, targets)
        except CallError:
            store.spent = True  # rows before these have run
            raise
        finally:
            for target in targets:
                target.release()
        began = monotonic()
        done = words[0] = 0
        try:
            if rules is None:
                _enter(store, stage, 0, rows)
            else:
                _enter_by_rules(store, stage, rows, rules)
            done = rows
        except BaseException:
            done = min(words[0], rows)
            raise
        finally:
            with stage.taken(done) as results:
                batch.store(done, results)
        seconds = monotonic() - began
        if metered or seconds < _SHORT:
            size = min(4 * size, stage.most)
        elif seconds > _LONG:
            size = max(1, size // 2)


def _room_below(room: Callable[[], None]) -> None:
    """Look for room two frames deeper: as deep as what enters the loop, and ends rows for it."""
    _deeper(room)


def _deeper(room: Callable[[], None]) -> None:
    room()


def _enter(store: Any, stage: Stage, first: int, rows: int) -> int:
    """Enter the loop at the row ``first``; return why it ended."""
    words = stage.words
    words[0], words[4] = first, rows
    error = _invoke(store.context, stage.function, stage.arguments, _ARGUMENTS, store.trap_pointer)
    if error is not None or store.trap[0]:
        raise store.failed(error)
    return words[0]


def _enter_by_rules(store: Any, stage: Stage, rows: int, rules: RowRules) -> None:
    first = 0
    while first < rows:
        rules.enter()
        status = _enter(store, stage, first, rows)
        if status == DONE:
            rules.leave()
            return
        rules.left(status)
        first = stage.memory.words[0] + 1


_PASSAGE = """
            {begin}
            try:
                drive(store, frame, batch, room)
            except BaseException as error:
                batch.locate(error)
                raise
"""


@memoised(256, lambda *_: 1)
def column_closure(style: int, drive: Callable[[Any, Any, ColumnBatch, Room], None]) -> Callable[..., Any]:
    """Return what makes closures of ``style`` that take a batch and give it to ``drive``, with store and frame."""
    inner = style % Style.METERED == Style.INNER
    begin = "pass" if inner or style in Style.NESTINGS else "begin()"  # the passage does, or the outer call has
    return around(style, "batch", _PASSAGE.format(begin=begin) + IN_TIME, "pass", {"drive": drive})


def _drive(store: Any, frame: Any, batch: ColumnBatch, room: Room) -> None:
    entry = frame.entry
    with store.stages().taken(store, entry, [ctypes.addressof(frame.buffer)]) as stage:
        call_rows(store, stage, batch, room)


class ColumnEntry(Entry):
    """An exported function of a module as a call over columns needs it."""

    __slots__ = ("code", "shape")

    def __init__(self, name: Rows, signature: FuncType, config: EngineConfig) -> None:
        super().__init__(str(name), signature)
        self.name = name  # type: ignore[assignment]
        results = [SCALARS[of] for of in signature.results]
        self.shape = Shape(tuple(SCALARS[of] for of in signature.params), results[0] if results else None)
        self.code = loop_code(self.shape, config)

    def maker(self, style: int) -> Callable[..., Any]:
        """Return what makes closures of ``style``."""
        return column_closure(style, _drive)
