"""Calls over columns: a loop in WebAssembly that calls a guest's function once for each row.

Entering WebAssembly from Python costs about a hundred times as much as a call within WebAssembly. So a small module of
Aegis imports the function and a memory, and exports ``run(row, rows)``. The host copies the arguments of some thousand
rows into the memory, column by column, enters the loop once, and copies the results out. The module is trusted code.
At instantiation the engine checks the type of the imported function, and it bounds every memory access. The module is
compiled with the guest's configuration, so epochs and fuel stop the loop as well; each row costs a few units of fuel.

The memory belongs to Aegis and has a fixed size. It is created outside the store's limits: no guest function can
access it, and it does not count towards the guest's memory. Its first word is the index of the current row, from which
the host learns after a trap how many rows are done. Each memory serves one call at a time; a call inside a host
function of the same guest gets another one.

A call over columns counts as one call (:mod:`aegis.engine.call.caller`): one token, one deadline, one amount of fuel.
Signals and cancellation take effect between two entries of the loop, so Aegis chooses the number of rows such that an
entry takes a few milliseconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from time import monotonic

from aegis.engine.call.caller import IN_TIME, ExportEntry, Style, around
from aegis.engine.call.classify import OWN_MODULE
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.code import NativeCode
from aegis.engine.compile.config import EngineConfig
from aegis.engine.native.library import lib, number, pointer, pointer_into, take_error, view
from aegis.engine.store.own_module import OwnModule
from aegis.errors import AegisInternalError, CallError, SandboxStateError
from aegis.support.bounded_cache import memoised
from aegis.support.buffers import SCALARS, ColumnBatch, Scalar
from aegis.support.lean import Any, NamedTuple, Protocol
from aegis.text import printable
from aegis.values import FuncType, Rows

__all__ = [
    "BAD_RESULT",
    "CALLING",
    "HAS_LEFT",
    "POST_RETURN",
    "ColumnEntry",
    "LoopShape",
    "Room",
    "RowLoops",
    "RowRules",
    "call_rows",
    "column_closure",
    "loop_code",
    "module_text",
]  # fmt: skip

_PAGES = 8
_PAGE = 1 << 16
_MEMORY_BYTES = _PAGES * _PAGE
_HEADER = 64
"""Bytes before the first column: the current row, the phase of its call, and its result if the host ends the row."""
_PHASE_AT, _VALUE_AT = 4, 8
CALLING, POST_RETURN, HAS_LEFT = 0, 1, 2
"""Phases of a row: the function runs; post-return runs; the function called the host, so the host ends the row."""
DONE, BAD_RESULT, LEFT = 0, 1, 2
"""Status from ``run``: all rows are done; the row's result is invalid for its type; the host must end the row."""
_MAX_ROWS = 1 << 16
_FIRST_ROWS = 64
_GROW_BELOW_SECONDS, _SHRINK_ABOVE_SECONDS = 0.002, 0.01
"""Duration of an entry below which the next entry gets more rows, and above which it gets fewer."""
_PARTS_KEPT = 4096
"""Parameters and results of the shapes whose loops are cached for the process."""


Room = Callable[[], None] | None
"""Raises if the Python stack has no room for a native callback; ``None`` if the guest cannot call Python."""


class LoopShape(NamedTuple):
    """The column types of a function. ``post``: the loop calls post-return after each row.

    ``flagged``: the instance's may-leave flag is a global, which the loop sets around post-return.
    """

    params: tuple[Scalar, ...]
    result: Scalar | None
    post: bool = False
    flagged: bool = False

    def max_rows(self) -> int:
        """Return the number of rows that fit into the memory."""
        padding = _HEADER + 8 * (len(self.params) + 1)
        return min(_MAX_ROWS, (_MEMORY_BYTES - padding) // max(1, self.row_bytes()))

    def row_bytes(self) -> int:
        """Return the size in bytes of the arguments and the result of one row."""
        return sum(of.width for of in self.params) + (0 if self.result is None else self.result.width)

    def offsets(self) -> list[int]:
        """Return the offset of each column in the memory, with the results last."""
        found, at, rows = [], _HEADER, self.max_rows()
        for of in (*self.params, *(() if self.result is None else (self.result,))):
            found.append(at)
            at += -(-of.width * rows // 8) * 8
        return found


# -- the module ------------------------------------------------------------------------------------


def module_text(shape: LoopShape) -> str:
    """Return the loop module of a shape in the WebAssembly text format."""
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
    """Return the expression for the offset of the current row in a column."""
    shift = width.bit_length() - 1
    return f"(i32.shl (local.get $row) (i32.const {shift}))" if shift else "(local.get $row)"


def _loaded(of: Scalar, offset: int) -> str:
    """Return the expression that loads an argument; a bool becomes 0 or 1 (CanonicalABI.md, "Flat Lowering")."""
    narrow = of.width < 4
    sign = "_s" if of.family == "signed" else "_u"
    load = f"{of.core}.load{f'{8 * of.width}{sign}' if narrow else ''} offset={offset}"
    value = f"({load} {_at(of.width)})"
    return f"(i32.ne {value} (i32.const 0))" if of.family == "bool" else value


def _stored(of: Scalar, offset: int) -> list[str]:
    """Return the lines that store a result: its low bits, a bool as 0 or 1, and a char only if it is valid."""
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


def _returned(shape: LoopShape) -> list[str]:
    """Return the lines that call post-return, or that leave this to the host if the function called the host."""
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
def _module(shape: LoopShape) -> OwnModule:
    return OwnModule(text_to_binary(module_text(shape), "a loop over rows"))


def loop_code(shape: LoopShape, config: EngineConfig) -> NativeCode:
    """Return the compiled loop of a shape. This takes milliseconds, so do it before the deadline of a call starts."""
    return _module(shape).code(config)


# -- in a store ------------------------------------------------------------------------------------

_EXTERN, _INSTANCE = 32, 16
_MEMORY_KIND = b"\3"
_RUN, _RUN_LENGTH, _ARGUMENTS = b"run", number(3), number(2)
_invoke, _instance_new = lib.wasmtime_func_call_unchecked, lib.wasmtime_instance_new
_export_get, _memory_new = lib.wasmtime_instance_export_get, lib.wasmtime_memory_new


@cache
def _memory_type() -> Any:
    """Return the engine's type of the memory, which is kept for the process."""
    made = ctypes.c_void_p()
    error = lib.wasmtime_memorytype_new(_PAGES, True, _PAGES, False, False, 16, ctypes.byref(made))
    if error is not None:
        raise AegisInternalError(f"the engine rejected the type of the memory for rows: {take_error(error)}")
    return pointer(made.value or 0)


class _RowMemory:
    """A linear memory of Aegis in a store: its ``wasmtime_extern_t``, and a view valid until the store is deleted."""

    __slots__ = ("held", "view", "words")

    def __init__(self, context: Any) -> None:
        self.held = (ctypes.c_char * _EXTERN)(_MEMORY_KIND)
        item = pointer_into(self.held, 8)
        error = _memory_new(context, _memory_type(), item)
        if error is not None:
            raise AegisInternalError(f"the engine could not create the memory for rows: {take_error(error)}")
        self.view = view(lib.wasmtime_memory_data(context, item), _MEMORY_BYTES)
        self.words = self.view[:_HEADER].cast("I")

    def close(self) -> None:
        """Release the views before the store is deleted; a traceback may still refer to this object."""
        self.words.release()
        self.view.release()


class LoopEntry(Protocol):
    """The data of a function from which its loop is instantiated."""

    @property
    def name(self) -> Any: ...
    @property
    def shape(self) -> LoopShape: ...
    @property
    def code(self) -> NativeCode: ...


class RowLoop:
    """An instance of the loop of one function in a store, with one memory."""

    __slots__ = ("_held", "arguments", "code", "columns", "function", "max_rows", "memory", "results", "words")

    def __init__(self, store: Any, entry: LoopEntry, memory: _RowMemory, functions: Sequence[Any]) -> None:
        shape = entry.shape
        self.memory, self.max_rows, self.code = memory, shape.max_rows(), entry.code
        given = len(functions) + 1
        self._held = (ctypes.c_char * (_INSTANCE + _EXTERN * (given + 1) + 2 * RAW_VALUE_BYTES))()
        instance, found = pointer_into(self._held), _INSTANCE + given * _EXTERN
        for place, buffer in enumerate((*functions, memory.held)):
            ctypes.memmove(pointer_into(self._held, _INSTANCE + place * _EXTERN), buffer, _EXTERN)
        error = _instance_new(
            store.context, pointer(self.code.pointer or 0), pointer_into(self._held, _INSTANCE), number(given),
            instance, store.trap_pointer,
        )  # fmt: skip
        if error is not None:
            raise _no_instance(take_error(error))
        if not _export_get(store.context, instance, _RUN, _RUN_LENGTH, pointer_into(self._held, found)):
            raise AegisInternalError("the engine did not find the export of the loop over rows")
        self.function, self.arguments = pointer_into(self._held, found + 8), pointer_into(self._held, found + _EXTERN)
        self.words = memoryview(self._held).cast("B")[-2 * RAW_VALUE_BYTES :].cast("I")
        widths, offsets = [of.width for of in shape.params], shape.offsets()
        self.columns = list(zip(widths, offsets, strict=False))
        self.results = None if shape.result is None else (shape.result.width, offsets[-1])

    def targets(self, rows: int) -> list[memoryview]:
        """Return the views into which the caller copies the arguments of ``rows`` rows."""
        return [self.memory.view[at : at + rows * width] for width, at in self.columns]

    def taken(self, rows: int) -> memoryview:
        """Return the results of the first ``rows`` rows."""
        if self.results is None:
            return memoryview(b"")
        width, at = self.results
        return self.memory.view[at : at + rows * width]


def _no_instance(message: str) -> Exception:
    """Return the error for a loop that the engine could not instantiate."""
    if "maximum concurrent" in message:
        return SandboxStateError(
            "the engine's pool has no room for a call over columns: close sandboxes, or create the runtime without "
            "a pool (pooled=False)",
            state="pool",
        )
    return AegisInternalError(f"the engine could not instantiate the loop over rows: {printable(message, 400)}")


class RowLoops:
    """The loop instances of one store, with their memories."""

    __slots__ = ("_free", "_made")

    def __init__(self) -> None:
        self._free: list[_RowMemory] = []
        self._made: dict[tuple[Any, int], RowLoop] = {}

    @contextmanager
    def taken(self, store: Any, entry: LoopEntry, functions: Sequence[Any]) -> Iterator[RowLoop]:
        """Lend a loop instance for one call; each of ``functions`` begins with a ``wasmtime_extern_t``."""
        name, memory = entry.name, self._free.pop() if self._free else None
        try:
            stage = None if memory is None else self._made.get((name, id(memory)))
            if stage is None:
                with store.without_limits():
                    if memory is None:
                        memory = _RowMemory(store.context)
                    stage = self._made[name, id(memory)] = RowLoop(store, entry, memory, functions)
            yield stage
        finally:
            if memory is not None:
                self._free.append(memory)

    def close(self) -> None:
        """Release the views of the memories before their store is deleted."""
        for memory in self._free:  # all memories: no call is active
            memory.close()
        self._free.clear()
        self._made.clear()


# -- the call --------------------------------------------------------------------------------------


class RowRules(Protocol):
    """The rules of the component model for calls of a loop."""

    def enter(self) -> None:
        """Prepare the entry into the loop."""

    def left(self, status: int) -> None:
        """Finish the row at which the loop stopped with ``status``; raise if the status is a trap."""

    def leave(self) -> None:
        """Finish an entry whose rows are all done."""


def call_rows(store: Any, stage: RowLoop, batch: ColumnBatch, room: Room, rules: RowRules | None = None) -> None:
    """Call the function for all rows. If a row fails, ``batch`` contains the results of the rows before it.

    ``room`` raises unless the Python stack has room for a native callback.
    """
    if room is not None:
        _room_below(room)
    batch.begun = True
    metered = store.plan.metered  # an entry costs fuel, so the number of entries must not depend on their duration
    door, size, words = store.door, min(_FIRST_ROWS, stage.max_rows), stage.memory.words
    while batch.done < batch.rows:
        rows = min(size, batch.rows - batch.done)
        door.charge(rows * batch.row_bytes)
        door.bytes_out += rows * (batch.row_bytes - batch.result_bytes)
        door.bytes_in += rows * batch.result_bytes
        targets = stage.targets(rows)
        try:
            batch.load(batch.done, rows, targets)
        except CallError:
            store.spent = True  # earlier rows have run
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
        if metered or seconds < _GROW_BELOW_SECONDS:
            size = min(4 * size, stage.max_rows)
        elif seconds > _SHRINK_ABOVE_SECONDS:
            size = max(1, size // 2)


def _room_below(room: Callable[[], None]) -> None:
    """Call ``room`` two frames deeper, at the depth of the functions that enter the loop and finish its rows."""
    _deeper(room)


def _deeper(room: Callable[[], None]) -> None:
    room()


def _enter(store: Any, stage: RowLoop, first: int, rows: int) -> int:
    """Enter the loop at the row ``first``; return its status."""
    words = stage.words
    words[0], words[4] = first, rows
    error = _invoke(store.context, stage.function, stage.arguments, _ARGUMENTS, store.trap_pointer)
    if error is not None or store.trap[0]:
        raise store.failed(error)
    return words[0]


def _enter_by_rules(store: Any, stage: RowLoop, rows: int, rules: RowRules) -> None:
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
    """Return the function that creates closures of ``style``, which pass a batch to ``drive`` with store and frame."""
    inner = style % Style.METERED == Style.INNER
    begin = "pass" if inner or style in Style.NESTINGS else "begin()"  # otherwise around() or the outer call does it
    return around(style, "batch", _PASSAGE.format(begin=begin) + IN_TIME, "pass", {"drive": drive})


def _drive(store: Any, frame: Any, batch: ColumnBatch, room: Room) -> None:
    entry = frame.entry
    with store.row_loops().taken(store, entry, [frame.buffer]) as stage:
        call_rows(store, stage, batch, room)


class ColumnEntry(ExportEntry):
    """An exported function of a module, prepared for calls over columns."""

    __slots__ = ("code", "shape")

    def __init__(self, name: Rows, signature: FuncType, config: EngineConfig) -> None:
        super().__init__(str(name), signature)
        self.name = name  # type: ignore[assignment]
        results = [SCALARS[of] for of in signature.results]
        self.shape = LoopShape(tuple(SCALARS[of] for of in signature.params), results[0] if results else None)
        self.code = loop_code(self.shape, config)

    def maker(self, style: int) -> Callable[..., Any]:
        """Return the function that creates closures of ``style``."""
        return column_closure(style, _drive)
