"""Module stores: one instance of one core module under its limits. Stores own all native run-time state.

A store does not decide about access: it receives host functions that are bound to the grants of a sandbox.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import c_uint64, c_void_p
from functools import partial
from itertools import repeat
from threading import get_ident
from weakref import ref

from aegis.engine.call.caller import Elsewhere, Style, bind, room_for_callbacks
from aegis.engine.call.classify import Evidence, classify
from aegis.engine.call.door import Door
from aegis.engine.call.trampoline import free_slot, slots, take_slot
from aegis.engine.native.library import lib, number, take_error
from aegis.engine.native.signals import secure
from aegis.engine.store.imports import Imports
from aegis.engine.store.memory import LinearMemory
from aegis.engine.store.memory_accounting import MemoryBudget
from aegis.engine.store.tally import Tally, tally_reader
from aegis.engine.store.token import TokenHolder, busy_error
from aegis.engine.store.workspace import WORKSPACES_KEPT, Workspace, workspaces
from aegis.engine.threads.guest_thread import DIRECT, MAIN, NESTED, thread_state
from aegis.engine.threads.ticker import TICK, ticker
from aegis.errors import AegisInternalError, HostError, MemoryExceeded
from aegis.limits import exceeded
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import printable
from aegis.values import ImportName
from aegis.wasm.binary import ADDED_MEMORY, PAGE, GlobalType

if TYPE_CHECKING:
    from aegis.engine.call.columns import RowLoops

__all__ = ["ModuleStore", "PoolExhausted"]

_EXTERN = 32
"""Bytes of ``wasmtime_extern_t``."""


class PoolExhausted(Exception):
    """The engine's pool has no free slot; another engine can still run the module."""


def _no_size() -> int | None:
    """Return no size: before instantiation the engine cannot be asked for an export."""
    return None


_ONE, _NONE = number(1), number(0)
_UNLIMITED = (number(-1),) * 5
_pointer = c_void_p.from_param
_error_new = lib.wasmtime_error_new
_STOPPED = ctypes.c_char_p.from_param(b"stopped")
_store_new = lib.wasmtime_store_new
_store_context = lib.wasmtime_store_context
_store_delete = lib.wasmtime_store_delete
_limiter = lib.wasmtime_store_limiter
_set_fuel = lib.wasmtime_context_set_fuel
_set_callback = lib.wasmtime_store_epoch_deadline_callback
_set_epoch = lib.wasmtime_context_set_epoch_deadline
_func_new = lib.wasmtime_func_new_unchecked
_instance_new = lib.wasmtime_instance_new
_number = c_uint64.from_param
_export_get = lib.wasmtime_instance_export_get

_VALUE_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
_VALUE_CTYPES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "f32": ctypes.c_float, "f64": ctypes.c_double}


_EPOCH = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)


def _on_epoch(context: int, number: int, delta: int, kind: int) -> int | None:
    """Continue for another tick, or stop the guest. The engine calls this at the first epoch check after a tick."""
    try:
        if slots[number][0].stop_reason() is None:
            c_uint64.from_address(delta).value = 1
            return None
    except BaseException:
        pass
    return _error_new(_STOPPED)  # type: ignore[no-any-return]


_epoch_callback = _EPOCH(_on_epoch)


class ModuleStore(TokenHolder):
    """One instance of a module with its budgets. Only ``cancel`` may be called from any thread at any time.

    Every other access to the instance requires the token, an element of the list ``token``: ``list.pop`` is atomic, so
    one thread gets it. ``owner`` is the thread that may call while the token is taken: from a host function.

    Raise the error of the module's start function, or :class:`~aegis.errors.MemoryExceeded` (phase ``initial``) if its
    memories or tables do not fit. Raise :class:`PoolExhausted` if the engine's pool has no free slot.
    """

    # The class attributes are the state of a new store, so that creating one stores only the differences.
    armed = math.inf
    memory: LinearMemory | None = None
    memory_budget: MemoryBudget | None = None
    _own_budget: MemoryBudget | None = None
    """The budget of Aegis's own memories in this store, if Aegis allocates all memories."""
    _row_loops: RowLoops | None = None
    _added: tuple[LinearMemory, ...] = ()
    slot = 0
    """The number with which callbacks of the engine find this store's door and host functions; 0 if there is none."""
    _calls_python = False
    _ticks = False
    """Whether a callback runs at each tick and decides whether the guest continues."""
    _imports: Imports | None = None
    _frames: tuple[Any, ...] = ()
    _pointers: dict[str, Any] | None = None
    _pointer: Any = None
    layers: tuple[tuple[str, bool, str], ...] = ()
    """The layers that confine the guest's process; none, because the guest runs in this process."""
    spent = False
    """Whether a call did not return normally: the state of the guest is unknown."""
    _instantiated = False
    """Whether the workspace contains this store's instance. Until then it may contain that of a closed store, and
    asking the engine for an export would abort the process."""

    def __init__(
        self,
        plan: Any,
        door: Door,
        functions: Sequence[Any] | Mapping[int, Callable[..., Any]] = (),
        memory: LinearMemory | None = None,
        *,
        observed: bool = False,
    ) -> None:
        self.plan = plan
        self.door = door
        self.fuel = plan.fuel
        token: list[None] = []
        self.token = token
        self.calls_no_python = plan.bounded
        self._closures: dict[tuple[str, int], Callable[..., Any]] = {}
        self._pointer = native = _pointer(_store_new(plan.engine_pointer, None, None))
        self.context = context = _pointer(_store_context(native))
        self._workspace = space = workspaces.pop() if workspaces else Workspace()
        self.trap_pointer, self.trap = space.trap_pointer, space.trap
        _limiter(native, *plan.limiter)
        ticker.tokens[id(token)] = token
        observed = observed or door.answer is not None  # the other trampolines call the host functions directly
        try:
            calls_python = plan.calls_python or bool(functions)
            if calls_python or not plan.bounded:
                self._calls_python = calls_python
                self._watch()
                if plan.counted:
                    self.memory_budget = MemoryBudget(plan.limits.memory, door)
            if memory is not None and plan.artifact.memory_name is not None:
                self.memory = memory
                mine = ref(self)  # weak: host functions refer to the memory, and the store refers to them
                memory.attach(lambda: mine().find_memory())  # type: ignore[union-attr]
            if plan.fuel is not None:
                _set_fuel(context, plan.fuel)
            if plan.starts:  # otherwise no guest code runs before the first call, which sets its own deadline
                self.arm()
                door.entered_at = self.armed
                secure()
            elif self.calls_no_python:  # the engine's code that initialises segments and tables checks the epoch too
                _set_epoch(context, plan.ticks_number)
            if plan.mapped:
                error = self._instantiate(functions, observed) if calls_python else self._instantiate_alone()
            else:
                with standard_reserved():  # the engine opens files for the initial memories
                    error = self._instantiate(functions, observed) if calls_python else self._instantiate_alone()
            if error is not None or space.trap[0]:
                raise self._instantiation_error(error)
            self._instantiated = True
            plan.mapped = not plan.counted
            if plan.limiter_at_rest is not None:
                _limiter(native, *plan.limiter_at_rest)
        except BaseException:
            self.token.append(None)
            self.close()
            raise
        self.token.append(None)

    def watch(self) -> None:
        """Stop calls by a callback at each tick from now on, because a thread other than the main one will call."""
        if not self.take_token():
            raise busy_error()
        try:
            self._watch()
        finally:
            self.token.append(None)

    def _watch(self) -> None:
        """Install the epoch callback. It is required whenever host functions can run during a call."""
        self.calls_no_python = False
        if self.plan.config.epochs and not self._ticks:
            self._ticks = True
            slot = self.slot
            if not slot:
                slot = self.slot = take_slot((self.door, (), (), []))
            _set_callback(self._pointer, _epoch_callback, _number(slot), None)
            _set_epoch(self.context, _ONE)
            self.armed = math.inf

    def _instantiate_alone(self) -> int | None:
        plan, space = self.plan, self._workspace
        return _instance_new(  # type: ignore[no-any-return]
            self.context, plan.code_pointer, None, _NONE, space.instance, space.trap_pointer
        )

    def _instantiate(self, functions: Any, observed: bool) -> int | None:
        plan, context = self.plan, self.context
        imports = self._imports = plan.imports(observed=observed)
        if not isinstance(functions, dict) and not isinstance(functions, Mapping):
            functions = [function.call for function in functions]
        store, space = self._register(functions, imports.names), imports.take_space()
        if space.store != store:
            space.give_numbers(store)
        # For each import: wasmtime_func_new_unchecked(context, type, callback, number, no finalizer, target). It
        # returns None, so any() consumes the whole map without Python code for each import.
        natives, callbacks = imports.natives, imports.callbacks
        any(map(_func_new, repeat(context), natives, callbacks, space.numbers, repeat(None), space.targets))
        room_for_callbacks()
        before = self._enter_guest() if plan.starts or self.memory_budget is not None else None
        try:
            error: int | None = _instance_new(
                context, plan.code_pointer, space.at, imports.count, self._workspace.instance, self.trap_pointer
            )
        finally:
            if before is not None:
                self._leave_guest(before)
        imports.give_back(space)
        return error

    def _register(self, functions: Any, names: Sequence[ImportName]) -> int:
        """Register these functions in the store's slot; return its number."""
        slot = self.slot
        if slot:
            slots[slot] = (self.door, functions, names, [])
        else:
            slot = self.slot = take_slot((self.door, functions, names, []))
        return slot

    def _enter_guest(self) -> tuple[int, Any]:
        """Mark this thread as running a guest, whose start function may call Python; return the previous state."""
        before = thread_state.mode, thread_state.memory_budget
        thread_state.mode, thread_state.memory_budget, self.owner = NESTED, self.memory_budget, get_ident()
        return before

    def _leave_guest(self, before: tuple[int, Any]) -> None:
        """Restore the state that :meth:`_enter_guest` returned."""
        (thread_state.mode, thread_state.memory_budget), self.owner = before, 0

    def _instantiation_error(self, error: int | None) -> BaseException:
        """Return the error of a failed instantiation: that of the start function, or of a limit of the engine.

        The engine reports the latter only by a message (F40).
        """
        if error is not None and self.memory_budget is not None and self.memory_budget.unfit:
            return self._refused_memory(error, self.memory_budget)
        if self.plan.config.heap and self._ended_by_exceptions():
            return self.failed(error)
        if error is not None and not self.trap[0] and self.door.failure is None and self.door.stop is None:
            message = take_error(error)
            if "maximum concurrent" in message:
                raise PoolExhausted
            if "memory" in message or "resource limit" in message or "mmap" in message:
                used = sum(memory.minimum for memory in self.plan.artifact.info.memories) * PAGE
                return self._no_system_memory(used, printable(message))
            return AegisInternalError(f"instantiation failed: {printable(message, 400)}")
        return self.failed(error)

    def _refused_memory(self, error: int, memory_budget: MemoryBudget) -> BaseException:
        """Return the error for a memory that Aegis could not allocate."""
        take_error(error)
        wanted, limit = memory_budget.used + memory_budget.unfit, self.plan.limits.memory
        if memory_budget.starved:
            return self._no_system_memory(wanted, "the system has no address space left")
        text = exceeded("memory", wanted, limit, unit=f"bytes of initial memory of the {self.plan.artifact.kind}")
        return MemoryExceeded(text, limit="memory", phase="initial", used=wanted, allowed=limit)

    def _no_system_memory(self, used: int, reason: str) -> MemoryExceeded:
        """Return the error for memory that the limit permits but the system refuses to the process."""
        limit, kind = self.plan.limits.memory, self.plan.artifact.kind
        allowed = "no limit" if limit is None else f"{limit:,}"
        text = (
            f"the system refuses the initial memory of the {kind} ({used:,}/{allowed} bytes), although memory and "
            f"--memory-limit permit it: give the process more memory ({reason})"
        )
        return MemoryExceeded(text, limit="memory", phase="initial", used=used, allowed=limit)

    def close(self) -> None:
        """Delete the store. The caller has taken the token, or holds the only reference."""
        native, self._pointer = self._pointer, None
        if native is None:
            return
        ticker.tokens.pop(id(self.token), None)
        if self.memory is not None:
            self.memory.detach()
        for added in self._added:
            added.detach()
        self._closures.clear()
        if self._row_loops is not None:
            self._row_loops.close()
        self._ended()
        if self.slot:
            free_slot(self.slot)
            self.slot = 0
        _store_delete(native)  # from here on, a new store may get the same address
        if self.memory_budget is not None:
            self.memory_budget.close()
            if self._own_budget is not None:
                self._own_budget.close()
        for frame in self._frames:
            frame.entry.give_back(frame)
        if len(workspaces) < WORKSPACES_KEPT:
            self.trap[0] = 0
            workspaces.append(self._workspace)

    def _ended(self) -> None:
        """Release data of this store before it is deleted, while its address is still unique. For subclasses."""

    def __del__(self) -> None:
        if self._pointer is not None and self.token:
            self.close()

    @property
    def closed(self) -> bool:
        return self._pointer is None

    # -- calls ---------------------------------------------------------------------------------

    def arm(self) -> None:
        """Set the deadline of a call that starts now."""
        now = ticker.awake()
        self.armed = now
        timeout = self.plan.limits.timeout
        # ``now`` is the latest tick, up to TICK old: without TICK a call could get less than its timeout.
        self.door.deadline = math.inf if timeout is None else now + timeout + TICK
        if self.calls_no_python:
            _set_epoch(self.context, self.plan.ticks_number)

    def closure_here(self, name: str) -> Callable[..., Any] | None:
        """Return the closure for the exported function ``name``, or ``None`` if this thread may not run it.

        Raise :class:`~aegis.errors.CallError` if there is no such function.
        """
        mode = thread_state.mode or thread_state.detect_mode()
        if mode == MAIN:
            return self._closure(name, Style.MAIN_ALONE) if self.calls_no_python else None
        if mode == DIRECT:
            if self.calls_no_python:
                self.watch()
            return self._closure(name, Style.NESTING if self._calls_python else Style.ALONE)
        if mode == NESTED and self.owner == get_ident():
            return self._closure(name, Style.INNER)
        return None

    def closure(self, name: str) -> Callable[..., Any]:
        """Return the closure for ``name`` on the current thread, which is a guest thread."""
        made = self.closure_here(name)
        if made is None:
            raise AegisInternalError("the current guest thread cannot run this guest")
        return made

    def _closure(self, name: str, style: int) -> Callable[..., Any]:
        made = self._closures.get((name, style))
        if made is None:
            entry = self.plan.entry(name)
            if style == Style.INNER:
                return self._bind(entry, style)
            # Like held(), but faster, because every short-lived sandbox passes here: no other thread may close the
            # store while the export is looked up.
            if not self.take_token():
                raise busy_error()
            try:
                made = self._bind(entry, style)
            finally:
                self.token.append(None)
        return made

    def _bind(self, entry: Any, style: int) -> Callable[..., Any]:
        frame = entry.take_frame()
        self._frames += (frame,)
        made = self._closures[entry.name, style] = self._bound(entry, frame, style)
        return made

    def _bound(self, entry: Any, frame: Any, style: int) -> Callable[..., Any]:
        if not _export_get(self.context, self._workspace.instance, entry.raw_name, entry.name_length, frame.extern):
            raise AegisInternalError(f"the engine did not find the export {printable(entry.name)!r}")
        return bind(self, frame, style)

    def failed(self, error: int | None) -> BaseException:
        """Return the exception for a failed call, from the engine's ``error`` or the trap in the workspace."""
        self.spent = True
        trap = self.trap[0]
        self.trap[0] = 0
        try:
            return classify(error, trap, self._evidence())
        except (RecursionError, ctypes.ArgumentError):  # ctypes wraps a RecursionError in an ArgumentError
            return HostError("the stack has no room left to find out how the call ended: call from a less deep stack")

    def _evidence(self) -> Evidence:
        memory, table = (self._memory_full, self._table_full) if self._instantiated else (_no_size, _no_size)
        budget, heap = self.memory_budget, self.plan.config.heap
        return Evidence(self.door, self.plan.limits, budget, memory, table, self._thrown(), heap=heap)

    def _ended_by_exceptions(self) -> bool:
        """Return whether a start function ended by an exception, or because the heap of exceptions is full."""
        from aegis.engine.call.exceptions import has_exception

        return has_exception(self.context) or bool(self.memory_budget and self.memory_budget.refused)

    def _thrown(self) -> str | None:
        """Take an exception that no handler caught out of the store; return its tag's name, ``""`` if not exported."""
        if not self.plan.config.heap:
            return None
        from aegis.engine.call.exceptions import take_exception

        return take_exception(self.context, self._tags() if self._instantiated else (), self._pointer_to)

    def _tags(self) -> Iterable[str]:
        """Return the names of the exported tags."""
        return (export.name for export in self.plan.artifact.info.exports if export.kind == "tag")

    def busy(self) -> Exception:
        """Return the error for a call without the token; ``Elsewhere`` if this store is closed and was replaced."""
        if self._pointer is None:
            return Elsewhere()
        return busy_error()

    def cancel(self) -> None:
        """Stop the current call, from any thread. A call that ends at the same time is not stopped."""
        self.door.cancel()
        if not self.in_call():
            self.door.stop = None
            return
        if self.calls_no_python:
            # Without an epoch callback only a call on the main thread runs, so this affects no other call.
            ticker.advance(self.plan.engine, self.plan.ticks + 1)

    def fuel_left(self) -> int:
        """Return the fuel that the latest call left; 0 if fuel is not limited and so not counted."""
        if self.fuel is None:
            return 0
        left = c_uint64()
        lib.wasmtime_context_get_fuel(self.context, ctypes.byref(left))
        return left.value

    def tally_reader(self, run: Any, otherwise: Callable[[], Tally]) -> Callable[[], Tally]:
        """Return a function that reads what calls used; see :meth:`aegis.Sandbox.tally_reader`."""
        return tally_reader(self, run, otherwise)

    # -- modules of Aegis ----------------------------------------------------------------------

    @contextmanager
    def without_limits(self) -> Iterator[None]:
        """Lift the guest's limits while Aegis creates instances of its own modules, and memory for them.

        Creating these runs no code of the guest.
        """
        before = thread_state.memory_budget
        if self.memory_budget is not None:
            self._own_budget = thread_state.memory_budget = self._own_budget or MemoryBudget(None, self.door)
        _limiter(self._pointer, *_UNLIMITED)
        try:
            with standard_reserved():
                yield
        finally:
            _limiter(self._pointer, *(self.plan.limiter_at_rest or self.plan.limiter))
            thread_state.memory_budget = before

    def row_loops(self) -> RowLoops:
        """Return the loop instances of this store (:mod:`aegis.engine.call.columns`)."""
        made = self._row_loops
        if made is None:
            from aegis.engine.call.columns import RowLoops  # few sandboxes make such calls

            made = self._row_loops = RowLoops()
        return made

    # -- the instance's exports -------------------------------------------------------------------

    def _export(self, name: str, out: Any) -> bool:
        raw = name.encode()
        if self._instantiated:
            return bool(_export_get(self.context, self._workspace.instance, raw, number(len(raw)), out))
        if self.door.caller is None:
            raise busy_error()
        return bool(lib.wasmtime_caller_export_get(self.door.caller, raw, len(raw), out))

    def find_memory(self) -> tuple[Any, Any]:
        """Return the handle of the exported memory that host functions access."""
        name, space = self.plan.memory_name, self._workspace
        if not self._instantiated:
            return self.context, self._pointer_to(self.plan.artifact.memory_name)
        if not _export_get(self.context, space.instance, *name, space.extern):
            raise AegisInternalError("the engine did not find the exported memory")
        return self.context, space.item

    def _pointer_to(self, name: str) -> Any:
        """Return the address of the exported item ``name``; its buffer is kept until the store is closed."""
        if self._pointers is None:
            self._pointers = {}
        made = self._pointers.get(name)
        if made is None:
            held = (ctypes.c_char * _EXTERN)()
            if not self._export(name, ctypes.byref(held)):
                raise AegisInternalError(f"the engine did not find the export {printable(name)!r}")
            made = self._pointers[name] = ctypes.byref(held, 8)  # which keeps `held` alive
        return made

    def bare_memory(self) -> LinearMemory:
        """Return access to the guest's memory for the embedder, whose copies are not charged to the guest's limits."""
        memory = LinearMemory(None)
        if getattr(self.plan.artifact, "memory_name", None) is not None:
            memory.attach(self.find_memory)
        return memory

    def added_memories(self) -> tuple[LinearMemory, ...]:
        """Return access to the memories that instrumentation added, one for each instance of an instrumented module."""
        if any(name == ADDED_MEMORY for name, _ in self.plan.artifact.memory_exports):
            return self._attached([lambda: (self.context, self._pointer_to(ADDED_MEMORY))])
        return ()

    def _attached(self, finders: Sequence[Callable[[], tuple[Any, Any]]]) -> tuple[LinearMemory, ...]:
        """Return access to memories until this store is closed."""
        made = tuple(LinearMemory(None) for _ in finders)
        for memory, find in zip(made, finders, strict=True):
            memory.attach(find)
        self._added += made
        return made

    def abandon(self) -> None:
        """Give up a call that does not return; its thread keeps this store alive."""

    def memory_size(self) -> int:
        """Return the bytes of all linear memories.

        Without accounting, a memory that is not exported counts with its initial size.
        """
        return sum(self._sizes()) if self.memory_budget is None else self.memory_budget.used

    def memory_reader(self) -> Callable[[], int]:
        """Return a faster :meth:`memory_size`, for which everything constant is looked up now."""
        artifact, memory_budget = self.plan.artifact, self.memory_budget
        if memory_budget is not None or len(artifact.info.memories) > 1:
            return self.memory_size
        if not artifact.memory_exports:
            size = self.memory_size()
            return lambda: size
        ((name, _),) = artifact.memory_exports
        return partial(lib.wasmtime_memory_data_size, self.context, self._pointer_to(name))

    def _sizes(self) -> list[int]:
        sizes = [m.minimum * PAGE for m in self.plan.artifact.info.memories]
        for name, index in self.plan.artifact.memory_exports:
            sizes[index] = int(lib.wasmtime_memory_data_size(self.context, self._pointer_to(name)))
        return sizes

    def _memory_full(self) -> int | None:
        cap = self.plan.memory_cap
        if cap is None:
            return None
        for size in self._sizes():
            if size + PAGE > cap:
                return size
        return None

    def _table_full(self) -> int | None:
        cap = self.plan.table_cap
        for export in self.plan.artifact.info.exports:
            if export.kind == "table" and cap is not None:
                size = int(lib.wasmtime_table_size(self.context, self._pointer_to(export.name)))
                if size >= cap:
                    return size
        return None

    def global_get(self, name: str, kind: GlobalType) -> int | float:
        """Return the value of an exported global."""
        value = (ctypes.c_char * 32)()
        lib.wasmtime_global_get(self.context, self._pointer_to(name), value)
        held: Any = _VALUE_CTYPES[kind.value].from_buffer(value, 8)
        return held.value  # type: ignore[no-any-return]

    def global_set(self, name: str, kind: GlobalType, number: int | float) -> None:
        """Set an exported mutable global to ``number``, which the caller has checked."""
        value = (ctypes.c_char * 32)()
        value[0] = bytes((_VALUE_KINDS[kind.value],))
        held: Any = _VALUE_CTYPES[kind.value].from_buffer(value, 8)
        held.value = number
        error = lib.wasmtime_global_set(self.context, self._pointer_to(name), value)
        if error is not None:
            raise AegisInternalError(f"setting the global failed: {printable(take_error(error))}")
