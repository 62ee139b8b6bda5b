"""A store: one instance of one module under its limits. The only owner of native run-time state.

Nothing here decides what a guest may reach: the host functions come in, bound to a sandbox's grants.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import c_uint64, c_void_p
from functools import partial
from itertools import repeat
from threading import get_ident
from weakref import ref

from aegis.engine.call.caller import Elsewhere, Style, bind, room_for_callbacks
from aegis.engine.call.classify import Evidence, classify
from aegis.engine.call.door import Door
from aegis.engine.call.trampoline import IMPORT_BITS, free_slot, slots, take_slot
from aegis.engine.native.library import lib, number, pointer, take_error
from aegis.engine.native.signals import secure
from aegis.engine.store.imports import Imports
from aegis.engine.store.memory import LinearMemory
from aegis.engine.store.memory_accounting import Account
from aegis.engine.threads.guest_thread import DIRECT, MAIN, NESTED, where
from aegis.engine.threads.ticker import TICK, ticker
from aegis.errors import AegisInternalError, HostError, MemoryExceeded, SandboxStateError
from aegis.limits import exceeded
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import printable
from aegis.values import ImportName
from aegis.wasm.binary import PAGE, GlobalType

if TYPE_CHECKING:
    from aegis.engine.call.columns import Stages

__all__ = ["PoolExhausted", "Store"]

_EXTERN = 32


class PoolExhausted(Exception):
    """The engine's pool has no free slot; another engine can still run the module."""


class _Workspace:
    """Native space of one store, recycled: its instance, a trap, the memory that it shares with its host."""

    __slots__ = ("buffer", "extern", "instance", "item", "trap", "trap_pointer")

    def __init__(self) -> None:
        self.buffer = (ctypes.c_char * 128)()
        base = ctypes.addressof(self.buffer)
        self.instance = pointer(base)
        self.trap_pointer = pointer(base + 16)
        self.trap = memoryview(self.buffer).cast("B")[16:24].cast("Q")
        self.extern, self.item = pointer(base + 32), pointer(base + 40)


def _taken() -> SandboxStateError:
    return SandboxStateError("the sandbox is busy: another thread has a call under way in it", state="busy")


def _unknown() -> int | None:
    """Stands for the size of what cannot be looked at."""
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

_workspaces: list[_Workspace] = []
_VALUE_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
_VALUE_CTYPES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "f32": ctypes.c_float, "f64": ctypes.c_double}


_EPOCH = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)


def _on_epoch(context: int, number: int, delta: int, kind: int) -> int | None:
    """Called by the engine at the first epoch check after a tick: go on for a tick, or stop the guest."""
    try:
        if slots[number][0].overdue() is None:
            c_uint64.from_address(delta).value = 1
            return None
    except BaseException:
        pass
    return _error_new(_STOPPED)  # type: ignore[no-any-return]


_epoch_callback = _EPOCH(_on_epoch)


class Store:
    """One instance with its budgets. Not thread-safe but for ``cancel``; ``lock`` is the owner's.

    Raise what the module's start function ended with, or
    :class:`~aegis.errors.MemoryExceeded` (phase ``initial``) when its memories or tables do not fit.
    """

    # Class attributes are the state of a new store: making one stores only what differs.
    owner = 0
    armed = math.inf
    memory: LinearMemory | None = None
    account: Account | None = None
    _beside: Account | None = None
    """The memories of Aegis in this store, where the engine asks for every memory."""
    _stages: Stages | None = None
    slot = 0
    """The number by which what the engine calls back finds this store's door, and what serves its imports."""
    _calls_python = False
    _ticks = False
    """Whether a callback decides at each tick."""
    _imports: Imports | None = None
    _frames: tuple[Any, ...] = ()
    _pointer: Any = None
    spent = False
    """Whether a call ended otherwise than by returning: the guest is in an unknown state, whatever it was."""
    _instantiated = False
    """Until it is, the engine aborts when it is asked for an export, and what is in its place is another store's."""

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
        self.token: list[None] = []
        self.alone = plan.bounded
        self._pointers: dict[str, Any] = {}
        self._closures: dict[tuple[str, int], Callable[..., Any]] = {}
        self._pointer = native = _pointer(_store_new(plan.engine_pointer, None, None))
        self.context = context = _pointer(_store_context(native))
        self._workspace = space = _workspaces.pop() if _workspaces else _Workspace()
        self.trap_pointer, self.trap = space.trap_pointer, space.trap
        _limiter(native, *plan.limiter)
        token = self.token
        ticker.tokens[id(token)] = token
        try:
            if functions or plan.calls_python or not plan.bounded:
                self._calls_python = bool(functions) or plan.calls_python
                self._watch()
                if plan.counted:
                    self.account = Account(plan.limits.memory, door)
            if memory is not None and plan.artifact.memory_name is not None:
                self.memory = memory
                mine = ref(self)  # host functions have the memory, and live until the store is closed or collected
                memory.attach(lambda: mine().find_memory())  # type: ignore[union-attr]
            self.arm()
            if plan.fuel is not None:
                _set_fuel(context, plan.fuel)
            if plan.starts:  # nothing else runs code of the guest before the first call
                secure()
            with standard_reserved():  # the engine keeps initial memories in files of its own
                error = self._instantiate(functions, observed) if self._calls_python else self._instantiate_alone()
            if error is not None or space.trap[0]:
                raise self._refused(error)
            self._instantiated = True
            if plan.limiter_at_rest is not None:
                _limiter(native, *plan.limiter_at_rest)
        except BaseException:
            self.token.append(None)
            self.close()
            raise
        self.token.append(None)

    def watch(self) -> None:
        """Let a callback decide at each tick, from the next call on: another thread than the main one makes it."""
        if not self.take_token():
            raise _taken()
        try:
            self._watch()
        finally:
            self.token.append(None)

    def _watch(self) -> None:
        """Let a callback of ours decide at each tick. Needed wherever a host function can be running."""
        if not self.plan.config.epochs:
            self.alone = False
        elif not self._ticks:
            self._ticks = True
            slot = self.slot or self._serve((), ())
            _set_callback(self._pointer, _epoch_callback, _number(slot), None)
            _set_epoch(self.context, _ONE)
            self.armed = math.inf
            self.alone = False

    def _instantiate_alone(self) -> int | None:
        plan, space = self.plan, self._workspace
        return _instance_new(  # type: ignore[no-any-return]
            self.context, plan.code_pointer, None, _NONE, space.instance, space.trap_pointer
        )

    def _instantiate(self, functions: Any, observed: bool) -> int | None:
        imports = self._imports = self.plan.imports(observed=observed)
        calls = functions if isinstance(functions, Mapping) else [function.call for function in functions]
        base, context, space = self._serve(calls, imports.names) << IMPORT_BITS, self.context, imports.take_space()
        # For each import, func_new(context, type, callback, number, no finalizer, where to): it returns nothing.
        numbers = map(_number, range(base, base + len(imports.names)))
        any(map(_func_new, repeat(context), imports.natives, imports.callbacks, numbers, repeat(None), space.targets))
        before = self._go_below()
        try:
            error: int | None = _instance_new(
                context, self.plan.code_pointer, space.at, imports.count, self._workspace.instance, self.trap_pointer
            )
        finally:
            self._come_back(before)
        imports.give_back(space)
        return error

    def _serve(self, functions: Any, names: Sequence[ImportName]) -> int:
        """Let the store's number stand for these functions; return it."""
        if self.slot:
            slots[self.slot] = (self.door, functions, names)
        else:
            self.slot = take_slot((self.door, functions, names))
        return self.slot

    def _go_below(self) -> tuple[int, Any]:
        """Note that a guest is below: a start function may call into Python. Return what was so before."""
        room_for_callbacks()
        before = where.mode, where.account
        where.mode, where.account, self.owner = NESTED, self.account, get_ident()
        return before

    def _come_back(self, before: tuple[int, Any]) -> None:
        (where.mode, where.account), self.owner = before, 0

    def _refused(self, error: int | None) -> BaseException:
        """Why instantiation failed: the start function's end, or an engine limit with only a message."""
        if error is not None and self.account is not None and self.account.unfit:
            return self._unfit(error, self.account)
        if error is not None and not self.trap[0] and self.door.failure is None and self.door.stop is None:
            message = take_error(error)
            if "maximum concurrent" in message:
                raise PoolExhausted
            if "memory" in message or "resource limit" in message or "mmap" in message:
                used = sum(memory.minimum for memory in self.plan.artifact.info.memories) * PAGE
                return self._starved(used, printable(message))
            return AegisInternalError(f"instantiation failed: {printable(message, 400)}")
        return self.failed(error)

    def _unfit(self, error: int, account: Account) -> BaseException:
        """Say which memory could not be made, after those before it."""
        take_error(error)
        wanted, limit = account.used + account.unfit, self.plan.limits.memory
        if account.starved:
            return self._starved(wanted, "the system has no address space left")
        text = exceeded("memory", wanted, limit, unit=f"bytes that the {self.plan.artifact.kind} begins with")
        return MemoryExceeded(text, limit="memory", phase="initial", used=wanted, allowed=limit)

    def _starved(self, used: int, reason: str) -> MemoryExceeded:
        """The limit admits what the process cannot have."""
        limit, kind = self.plan.limits.memory, self.plan.artifact.kind
        allowed = "no limit" if limit is None else f"{limit:,}"
        text = (
            f"the process cannot have the memory that the {kind} begins with ({used:,}/{allowed} bytes), although "
            f"memory and --memory-limit admit it: give the process more memory ({reason})"
        )
        return MemoryExceeded(text, limit="memory", phase="initial", used=used, allowed=limit)

    def take_token(self) -> bool:
        """Take the token, so that nobody enters until it is given back, if ever; tell whether it was free."""
        try:
            self.token.pop()
        except IndexError:
            return False
        except BaseException:  # a signal's handler raised as soon as the token was taken
            self.token.append(None)
            raise
        return True

    def close(self) -> None:
        """Free the store. Its token was taken, or nobody else ever knew of it."""
        native, self._pointer = self._pointer, None
        if native is None:
            return
        ticker.tokens.pop(id(self.token), None)
        if self.memory is not None:
            self.memory.detach()
        self._closures.clear()
        if self._stages is not None:
            self._stages.close()
        self._ended()
        if self.slot:
            free_slot(self.slot)
            self.slot = 0
        _store_delete(native)  # from here on another store may have this one's address
        if self.account is not None:
            self.account.close()
            if self._beside is not None:
                self._beside.close()
        for frame in self._frames:
            frame.entry.give_back(frame)
        if len(_workspaces) < 64:
            self.trap[0] = 0
            _workspaces.append(self._workspace)

    def _ended(self) -> None:
        """Forget what was kept for this store alone, while nobody else has its address."""

    def __del__(self) -> None:
        if self._pointer is not None and self.token:
            self.close()

    @property
    def closed(self) -> bool:
        return self._pointer is None

    # -- calls ---------------------------------------------------------------------------------

    def in_call(self) -> bool:
        """Tell whether a call is under way, on whatever thread."""
        return not self.token

    def entered_here(self) -> bool:
        """Tell whether the current thread is inside a host function of this guest."""
        return self.owner == get_ident()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep calls and ``close`` away while the embedder reads; inside a host function they are."""
        if self.entered_here():
            yield
            return
        if not self.take_token():
            raise _taken()
        try:
            yield
        finally:
            self.token.append(None)

    def arm(self) -> None:
        """Set the deadline of the call that begins now."""
        now = ticker.awake()
        self.armed = now
        timeout = self.plan.limits.timeout
        self.door.deadline = math.inf if timeout is None else now + timeout + TICK
        if self.alone:
            _set_epoch(self.context, self.plan.ticks_number)

    def closure_here(self, name: str) -> Callable[..., Any] | None:
        """Return what calls the exported function ``name``, or ``None`` if this thread may not run it.

        Raise :class:`~aegis.errors.CallError` when there is no such function.
        """
        mode = where.mode or where.settle()
        if mode == MAIN:
            return self._closure(name, Style.MAIN_ALONE) if self.alone else None
        if mode == DIRECT:
            if self.alone:
                self.watch()
            return self._closure(name, Style.NESTING if self._calls_python else Style.ALONE)
        if mode == NESTED and self.owner == get_ident():
            return self._closure(name, Style.INNER)
        return None

    def closure(self, name: str) -> Callable[..., Any]:
        """Return what calls ``name`` from the current thread, which is a guest thread of ours."""
        made = self.closure_here(name)
        if made is None:
            raise AegisInternalError("a guest thread may not run guests")
        return made

    def _closure(self, name: str, style: int) -> Callable[..., Any]:
        made = self._closures.get((name, style))
        if made is None:
            entry = self.plan.entry(name)
            if style == Style.INNER:
                return self._bind(entry, style)
            # As held() does, for a first call is on the way of every short-lived sandbox: nobody may
            # close the store between the question and its use.
            if not self.take_token():
                raise _taken()
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
            raise AegisInternalError(f"the export {printable(entry.name)!r} vanished")
        return bind(self, frame, style)

    def failed(self, error: int | None) -> BaseException:
        """Return why the call ended, from what the engine left behind."""
        self.spent = True
        trap = self.trap[0]
        self.trap[0] = 0
        try:
            return classify(error, trap, self._evidence())
        except (RecursionError, ctypes.ArgumentError):  # the latter is how ctypes wraps the former
            return HostError("the caller's stack has no room left to find out how the call ended: call from less deep")

    def _evidence(self) -> Evidence:
        if not self._instantiated:
            return Evidence(self.door, self.plan.limits, self.account, _unknown, _unknown)
        return Evidence(self.door, self.plan.limits, self.account, self._memory_full, self._table_full)

    def busy(self) -> Exception:
        """Return why a call cannot begin. A store that is gone sends it to the sandbox's present one."""
        if self._pointer is None:
            return Elsewhere()
        return _taken()

    def cancel(self) -> None:
        """Stop the call under way, from any thread; one that ends at this very moment has won."""
        self.door.cancel()
        if not self.in_call():
            self.door.stop = None
            return
        if self.alone:
            # Only a call on the main thread runs without our callback, so this reaches no other.
            ticker.advance(self.plan.engine, self.plan.ticks + 1)

    def fuel_left(self) -> int:
        """Return what is left of the latest call's fuel; 0 where it is not counted, for there the engine has none."""
        if self.fuel is None:
            return 0
        value = c_uint64()
        lib.wasmtime_context_get_fuel(self.context, ctypes.byref(value))
        return value.value

    # -- what Aegis makes here -------------------------------------------------------------------

    @contextmanager
    def beside_limits(self) -> Iterator[None]:
        """Let Aegis make instances and a memory of its own, which the guest's limits are not for.

        Making them runs no code of the guest.
        """
        before = where.account
        if self.account is not None:
            self._beside = where.account = self._beside or Account(None, self.door)
        _limiter(self._pointer, *_UNLIMITED)
        try:
            with standard_reserved():
                yield
        finally:
            _limiter(self._pointer, *(self.plan.limiter_at_rest or self.plan.limiter))
            where.account = before

    def stages(self) -> Stages:
        """Return the loops over rows of this store."""
        made = self._stages
        if made is None:
            from aegis.engine.call.columns import Stages  # few sandboxes make such calls

            made = self._stages = Stages()
        return made

    # -- what the instance holds ------------------------------------------------------------------

    def _export(self, name: str, out: Any) -> bool:
        raw = name.encode()
        if self._instantiated:
            return bool(_export_get(self.context, self._workspace.instance, raw, number(len(raw)), out))
        if self.door.caller is None:
            raise _taken()
        return bool(lib.wasmtime_caller_export_get(self.door.caller, raw, len(raw), out))

    def find_memory(self) -> tuple[Any, Any]:
        """Return the handle of the memory that the guest shares with its host."""
        name, space = self.plan.memory_name, self._workspace
        if not self._instantiated:
            return self.context, self._pointer_to(self.plan.artifact.memory_name)
        if not _export_get(self.context, space.instance, *name, space.extern):
            raise AegisInternalError("the exported memory vanished")
        return self.context, space.item

    def _pointer_to(self, name: str) -> Any:
        """Return the address of the exported item ``name``, kept for the store's life."""
        made = self._pointers.get(name)
        if made is None:
            held = (ctypes.c_char * _EXTERN)()
            if not self._export(name, ctypes.byref(held)):
                raise AegisInternalError(f"the export {printable(name)!r} vanished")
            made = self._pointers[name] = ctypes.byref(held, 8)  # which keeps `held` alive
        return made

    def bare_memory(self) -> LinearMemory:
        """Return access to the guest's memory that charges nothing: the copies are the embedder's."""
        memory = LinearMemory(None)
        if getattr(self.plan.artifact, "memory_name", None) is not None:
            memory.attach(self.find_memory)
        return memory

    def abandon(self) -> None:
        """The call under way does not return: its thread keeps this store."""

    def memory_size(self) -> int:
        """Bytes of all linear memories; one that is not exported counts at its initial size where nobody counts."""
        return sum(self._sizes()) if self.account is None else self.account.used

    def memory_reader(self) -> Callable[[], int]:
        """Return what :meth:`memory_size` does, with all that does not change looked up."""
        artifact, account = self.plan.artifact, self.account
        if account is not None or len(artifact.info.memories) > 1:
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
        held: Any = _VALUE_CTYPES[kind.value].from_address(ctypes.addressof(value) + 8)
        return held.value  # type: ignore[no-any-return]

    def global_set(self, name: str, kind: GlobalType, number: int | float) -> None:
        """Set an exported mutable global to a value already checked."""
        value = (ctypes.c_char * 32)()
        value[0] = bytes((_VALUE_KINDS[kind.value],))
        held: Any = _VALUE_CTYPES[kind.value].from_address(ctypes.addressof(value) + 8)
        held.value = number
        error = lib.wasmtime_global_set(self.context, self._pointer_to(name), value)
        if error is not None:
            raise AegisInternalError(f"setting the global failed: {printable(take_error(error))}")
