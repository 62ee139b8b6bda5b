"""The run-time state of one instantiated component: core instances, memories, and the contexts of conversions.

Ownership of raw pointers: the store context and the handles of core items belong to the engine and are valid until the
store is deleted. Buffers that the engine writes belong to the objects of this module. A view of linear memory consists
of the engine's base address and the current size. Memories never move (``memory_may_move`` is off) and never shrink, so
a view stays valid until the store is deleted; :meth:`ComponentState.close` drops all views before that.
"""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from operator import add
from typing import TYPE_CHECKING, Any

from aegis.component.handles import HandleEntry
from aegis.component.planning.program import ContextPlan, CoreExport, CoreItem, Options
from aegis.component.planning.type_keys import shape_of
from aegis.component.shims.realloc_batch import BATCH, realloc_batch
from aegis.component.tasks.callee import BoundCallee
from aegis.component.tasks.copies import CopyEnd
from aegis.component.tasks.host_ends import take_end
from aegis.component.tasks.host_values import host_reader, host_shared
from aegis.component.tasks.operations import Operation
from aegis.component.tasks.scheduler import Scheduler
from aegis.component.traps import trap
from aegis.engine.call.caller import room_inside
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.native.library import lib, number, pointer, pointer_into, take_error, view
from aegis.errors import AegisInternalError

if TYPE_CHECKING:
    from aegis.component.handles import Handles, InstanceState
    from aegis.engine.call.door import Door
    from aegis.engine.compile.code import NativeCode
    from aegis.wit.values import ResourceHandle

__all__ = ["EXTERN", "ComponentState", "CoreMemory", "GuestContext", "LiftLowerContext"]

EXTERN = 32
"""Bytes of ``wasmtime_extern_t``: the kind at 0, the item at 8."""
_INSTANCE = 16
"""Bytes of ``wasmtime_instance_t``."""
_export_get = lib.wasmtime_instance_export_get
_invoke, _instance_new = lib.wasmtime_func_call_unchecked, lib.wasmtime_instance_new
_memory_data, _memory_size = lib.wasmtime_memory_data, lib.wasmtime_memory_data_size
_FOUR, _ONE = number(4), number(1)
_NOTHING = memoryview(bytearray())  # writable, so that writing zero bytes succeeds


class CoreMemory:
    """A linear memory of a component, with a view that :meth:`need` extends when a larger range is accessed."""

    __slots__ = ("_context", "_item", "view")

    def __init__(self, context: Any, item: Any) -> None:
        self._context, self._item = context, item
        self.view = _NOTHING

    def need(self, end: int) -> memoryview:
        """Return a view of at least ``end`` bytes; trap if the memory has fewer."""
        if end > len(self.view):
            size = self.size()
            if end > size:
                raise trap(f"out-of-bounds memory access: up to {end:,} of {size:,} bytes")
            self.view = view(_memory_data(self._context, self._item), size)
        return self.view

    def size(self) -> int:
        """Return the memory's current size in bytes."""
        return _memory_size(self._context, self._item)  # type: ignore[no-any-return]

    def reader(self) -> Callable[[], int]:
        """Return a faster :meth:`size`."""
        return partial(_memory_size, self._context, self._item)


class LiftLowerContext:
    """The context of conversions between the host and one component instance under one set of canonical options.

    It corresponds to ``LiftLowerContext`` in CanonicalABI.md.
    """

    __slots__ = (
        "_options", "_state", "door", "handles", "instance", "memory", "realloc", "realloc_many", "reallocate", "task",
    )  # fmt: skip

    memory: CoreMemory
    realloc: Callable[[int, int], int]
    """Allocate: take alignment and size in bytes; return an address whose range in :attr:`memory` has been checked."""
    reallocate: Callable[[int, int, int, int], int]
    """Reallocate: take old address, old size, alignment and new size; return an address as :attr:`realloc` does."""
    realloc_many: Callable[[int, list[int]], list[int]]
    """Allocate many ranges: take the alignment and a list of sizes; return their addresses."""

    def __init__(self, state: ComponentState, instance: InstanceState, options: Options) -> None:
        self._state, self._options = state, options
        self.door, self.handles, self.instance = state.door, state.handles, instance
        self.task: list[int] = [0]

    def __getattr__(self, name: str) -> Any:
        """Look up the memory or realloc on the first access, because calls that pass only numbers need neither."""
        if name == "memory":
            assert self._options.memory is not None
            self.memory = self._state.memory(self._options.memory)
        elif name in ("realloc", "reallocate"):
            assert self._options.realloc is not None
            self.realloc, self.reallocate = self._state.realloc(self._options.realloc, self)
        elif name == "realloc_many":
            assert self._options.realloc is not None
            self.realloc_many = self._state.realloc_many(self._options.realloc, self)
        else:
            raise AttributeError(name)
        return getattr(self, name)

    def lift_own(self, resource: int, index: int) -> Any:
        """Take an ``own`` handle from the guest; return the resource that it refers to."""
        return self.handles.lift_own(self.instance, resource, index)

    def lift_borrow(self, resource: int, index: int) -> Any:
        """Return the resource of a handle that the guest lends to the host."""
        return self.handles.lift_borrow(self.instance, resource, index)

    def lift_end(self, of: Any, index: int) -> Any:
        """Take the readable end of a stream or future from the guest; return it as the host has it."""
        plan = self._state.plan
        shared = take_end(self.instance, self.handles, index, plan.shape_of(of))
        return host_reader(shared, of, plan.host_type(of), self._state)

    def lower_end(self, of: Any, value: Any) -> int:
        """Give the guest the readable end of a stream or future; return the handle's index."""
        plan = self._state.plan
        shared = host_shared(value, of, plan.shape_of(of), plan.host_type(of), self._state)
        end = CopyEnd(shared, True)
        index = self.handles.enter(self.instance, end)
        self.handles.undo.append((self.instance, index, end))
        return index

    def lower_own(self, resource: int, value: Any) -> int:
        """Give the guest ownership of a resource; return the handle's index."""
        return self.handles.lower_own(self.instance, resource, value)

    def lower_borrow(self, resource: int, value: Any) -> int:
        """Lend the guest a resource until the current call returns; return the handle's index."""
        return self.handles.lower_borrow(self.instance, resource, value, self.task)


class GuestContext(LiftLowerContext):
    """The context of conversions between two component instances, where a resource is passed as its representation."""

    __slots__ = ()

    def lift_own(self, resource: int, index: int) -> Any:
        handles = self.handles
        rep = handles.take(self.instance, resource, index)
        if handles.hosted[resource]:
            handles.passing[id(rep)] = rep
        return rep

    def lift_end(self, of: Any, index: int) -> Any:
        return take_end(self.instance, self.handles, index, shape_of(of))

    def lower_end(self, of: Any, value: Any) -> int:
        return self.handles.enter(self.instance, CopyEnd(value, True))

    def lower_own(self, resource: int, value: Any) -> int:
        if self.handles.hosted[resource]:
            self.handles.passing.pop(id(value), None)
        return self.handles.add(self.instance, HandleEntry(resource, value, True))

    def lower_borrow(self, resource: int, value: Any) -> int:
        handles = self.handles
        home = handles.homes[resource]
        if home is not None and self.instance is handles.instances[home]:
            return int(value)
        index = handles.put_borrowed(self.instance, resource, value, self.task)
        handles.undo.clear()
        return index


class _LazyItems(dict[int, Any]):
    """Objects of a state by their number in the plan, created on first access."""

    __slots__ = ("state",)

    state: ComponentState | None

    def close(self) -> None:
        """Drop the objects and the reference to the state, which would otherwise form a reference cycle."""
        self.clear()
        self.state = None

    def _live(self) -> ComponentState:
        if self.state is None:
            raise AegisInternalError("the component's store is gone")
        return self.state


class _Contexts(_LazyItems):
    """The conversion contexts of a state."""

    __slots__ = ()

    def __missing__(self, index: int) -> LiftLowerContext:
        state = self._live()
        wanted: ContextPlan = state.plan.contexts[index]
        make = GuestContext if wanted.raw else LiftLowerContext
        made = self[index] = make(state, state.handles.instances[wanted.instance], wanted.options)
        return made


class _Callees(_LazyItems):
    """Closures that call a lifted function for another component instance."""

    __slots__ = ()

    def __missing__(self, index: int) -> Callable[..., Any]:
        state = self._live()
        made: Callable[..., Any] = state.plan.bind_callee(state, index)
        self[index] = made
        return made


class _TaskCallees(_LazyItems):
    """Lifted functions that tasks of other component instances call."""

    __slots__ = ()

    def __missing__(self, index: int) -> BoundCallee:
        state = self._live()
        made = self[index] = BoundCallee(state.plan.task_callees[index], state)
        return made


class ComponentState:
    """The data of one store that trampolines and calls use. It has only a weak reference to the store, its owner."""

    slot = 0
    """The number with which trampolines find this state."""
    _sized: Sequence[CoreMemory] = ()
    _sized_after = 0
    """How many steps were done when :attr:`_sized` was made."""
    steps_done = 0
    """Number of core modules instantiated so far."""
    callees: _Callees
    task_callees: _TaskCallees
    tasks: Scheduler
    outside: Any = None
    """Runs the guest for readers of its streams outside of calls; ``None`` until the sandbox is ready."""
    _owned: tuple[Any, ...] = ()
    """Buffers and code of instances of Aegis's own modules, kept until the store is deleted."""

    def __init__(
        self, store: Any, plan: Any, handles: Handles, pointers: Any, functions: Any = (), *, observed: bool = False
    ) -> None:
        """Create the state before linking; ``pointers`` point to the core instances in the store's ``LinkSpace``."""
        self.plan, self.handles = plan, handles
        self.door: Door = store.door
        self.context, self.trap_pointer, self.trap = store.context, store.trap_pointer, store.trap
        self.functions, self.observed = functions, observed
        self.contexts = contexts = _Contexts()
        contexts.state = self
        self._store = weakref.ref(store)
        self._pointers = pointers
        self._items: dict[CoreItem, tuple[Any, Any]] = {}
        self._memories: dict[CoreExport, CoreMemory] = {}

    def __getattr__(self, name: str) -> Any:
        """Create ``callees``, ``task_callees`` and ``tasks`` on first access, because few components need them."""
        made: Any
        if name == "callees":
            made = self.callees = _Callees()
            made.state = self
        elif name == "task_callees":
            made = self.task_callees = _TaskCallees()
            made.state = self
        elif name == "tasks":
            made = self.tasks = Scheduler(self)
        else:
            raise AttributeError(name)
        return made

    def wait_for(self, operations: Sequence[Operation]) -> None:
        """Wait until one of the operations may be ready, or the call must end."""
        self.door.wait_for([operation.interest() for operation in operations])

    def keep_instances(self, instances: Any) -> None:
        """Copy the core instances after linking, so that the ``LinkSpace`` can be reused."""
        self._kept = (ctypes.c_char * len(instances)).from_buffer_copy(instances)
        self._pointers = None

    # -- core items ----------------------------------------------------------------------------

    def instance_pointer(self, step: int) -> Any:
        """Return the address of the core instance of ``step``, which need not exist yet."""
        known = self._pointers
        return pointer_into(self._kept, _INSTANCE * step) if known is None else known[step]

    def fetch(self, item: CoreExport, target: Any) -> None:
        """Write the ``wasmtime_extern_t`` of an exported item to ``target``, a prepared argument."""
        raw, length = self.plan.raw_names[item.name]
        if not _export_get(self.context, self.instance_pointer(item.step), raw, length, target):
            raise self.plan.missing_export(item.name)

    def item(self, item: CoreItem) -> Any:
        """Return the address of a core item, as the engine's functions take it."""
        found = self._items.get(item)
        if found is None:
            held = (ctypes.c_char * EXTERN)()
            if isinstance(item, int):
                self.plan.make_function(self, item, pointer_into(held, 8))
            else:
                self.fetch(item, pointer_into(held))
            found = self._items[item] = (pointer_into(held, 8), held)
        return found[0]

    def extern(self, item: CoreItem) -> Any:
        """Return the buffer with the ``wasmtime_extern_t`` of a core item."""
        self.item(item)
        return self._items[item][1]

    def memory(self, item: CoreExport) -> CoreMemory:
        """Return a linear memory."""
        found = self._memories.get(item)
        if found is None:
            found = self._memories[item] = CoreMemory(self.context, self.item(item))
        return found

    def memory_sizes(self) -> list[int]:
        """Return the sizes of the memories in bytes, one for each that an instance defines and exports."""
        if self._sized_after != self.steps_done:
            self._sized_after = self.steps_done
            self._sized = [self.memory(item) for item in self.plan.memory_exports if item.step < self.steps_done]
        return [memory.size() for memory in self._sized]

    # -- contexts ------------------------------------------------------------------------------

    def realloc(self, item: CoreItem, cx: LiftLowerContext) -> tuple[Any, Any]:
        """Return closures that call a guest's realloc and check the range that it returns.

        The call is unchecked, because the plan has compared the function's type with (i32, i32, i32, i32) -> i32. The
        instance may not call out during realloc (CanonicalABI.md, ``reallocate``).
        """
        buffer = (ctypes.c_char * 64)()
        words = memoryview(buffer).cast("B").cast("I")
        function, arguments = self.item(item), pointer_into(buffer)
        context, trapped, trapping, failed = self.context, self.trap_pointer, self.trap, self.failed
        instance, memory = cx.instance, cx.memory

        def reallocate(old: int, old_size: int, align: int, size: int) -> int:
            room_inside()
            words[0], words[4], words[8], words[12] = old, old_size, align, size
            instance.may_leave = False
            error = _invoke(context, function, arguments, _FOUR, trapped)
            if error is not None or trapping[0]:
                raise failed(error)
            instance.may_leave = True
            at = words[0]
            if at & (align - 1):
                raise trap("realloc returned an address that is not aligned")
            if at + size > len(memory.view) and at + size > memory.size():
                raise self.realloc_out_of_bounds()
            memory.need(at + size)
            return at

        def realloc(align: int, size: int) -> int:
            room_inside()
            words[0] = words[4] = 0
            words[8], words[12] = align, size
            instance.may_leave = False
            error = _invoke(context, function, arguments, _FOUR, trapped)
            if error is not None or trapping[0]:
                raise failed(error)
            instance.may_leave = True
            at = words[0]
            if at & (align - 1):
                raise trap("realloc returned an address that is not aligned")
            end = at + size
            if end > len(memory.view):
                if end > memory.size():
                    raise self.realloc_out_of_bounds()
                memory.need(end)
            return at

        return realloc, reallocate

    def realloc_many(self, item: CoreItem, cx: LiftLowerContext) -> Callable[[int, list[int]], list[int]]:
        """Return a closure that calls a guest's realloc for many sizes, in batches through a module of Aegis.

        The engine checks the type of realloc when it instantiates that module. The module's export is called unchecked,
        with the number of values that the module defines.
        """
        batch: list[Any] = []
        context, trapped, trapping, failed = self.context, self.trap_pointer, self.trap, self.failed
        instance, memory, realloc = cx.instance, cx.memory, cx.realloc

        def many(align: int, sizes: list[int]) -> list[int]:
            room_inside()
            found: list[int] = []
            full = len(sizes) - len(sizes) % BATCH
            if full:
                if not batch:  # instantiated only now, because most lists are shorter than a batch
                    batch.extend(self._batch(item))
                function, arguments, count, words = batch
                if function is None:
                    full = 0
            instance.may_leave = False
            for at in range(0, full, BATCH):
                words[0] = align
                words[4::4] = array("I", sizes[at : at + BATCH])
                error = _invoke(context, function, arguments, count, trapped)
                if error is not None or trapping[0]:
                    raise failed(error)
                found += words[: 4 * BATCH : 4].tolist()
            instance.may_leave = True
            if full:
                self._check_ranges(memory, align, found, sizes)
            found += [realloc(align, size) for size in sizes[full:]]
            return found

        return many

    def _check_ranges(self, memory: CoreMemory, align: int, addresses: list[int], sizes: list[int]) -> None:
        if align > 1 and any(at & (align - 1) for at in addresses):
            raise trap("realloc returned an address that is not aligned")
        end = max(map(add, addresses, sizes))
        if end > len(memory.view):
            if end > memory.size():
                raise self.realloc_out_of_bounds()
            memory.need(end)

    def _batch(self, item: CoreItem) -> tuple[Any, Any, Any, memoryview]:
        """Instantiate the module for batches with a guest's realloc.

        Return its function (``None`` if the store may not have another instance), the address of the arguments, their
        number, and a view of the arguments as 32-bit words.
        """
        found = self.own_instance(realloc_batch(self.plan.config), [item], ("go",))
        values = (ctypes.c_char * (RAW_VALUE_BYTES * (BATCH + 1)))()
        words = memoryview(values).cast("B").cast("I")
        return None if found is None else found[0], pointer_into(values), number(BATCH + 1), words

    def own_instance(self, code: NativeCode, items: Sequence[CoreItem], names: Sequence[str]) -> list[Any] | None:
        """Instantiate a module of Aegis with the imports ``items``, in order; return its exports ``names``.

        Return ``None`` if the store may not have another instance. The engine checks the types of the imports.
        """
        made, given = _INSTANCE, max(1, len(items)) * EXTERN
        held = (ctypes.c_char * (made + given + len(names) * EXTERN))()
        for place, item in enumerate(items):
            ctypes.memmove(pointer_into(held, made + place * EXTERN), self.extern(item), EXTERN)
        instance, imports = pointer_into(held), pointer_into(held, made)
        error = _instance_new(
            self.context, pointer(code.pointer or 0), imports, number(len(items)), instance, self.trap_pointer
        )
        if error is not None:
            take_error(error)
            return None
        found = []
        for place, name in enumerate(names):
            target = made + given + place * EXTERN
            raw, length = self.plan.raw_names[name]
            if not _export_get(self.context, instance, raw, length, pointer_into(held, target)):
                raise self.plan.missing_export(name)
            found.append(pointer_into(held, target + 8))
        self._owned += ((code, held),)
        return found

    # -- resources -----------------------------------------------------------------------------

    def destroy(self, destructor: CoreItem, rep: int) -> None:
        """Call a destructor unchecked: the plan has compared its type with (i32) -> ()."""
        room_inside()
        words = (ctypes.c_uint32 * 4)(rep)
        error = _invoke(self.context, self.item(destructor), pointer_into(words), _ONE, self.trap_pointer)
        if error is not None or self.trap[0]:
            raise self.failed(error)

    def drop_handle(self, handle: ResourceHandle) -> None:
        """Drop a handle to a guest resource that the embedder holds, and run the destructor."""
        resource = self.plan.numbers[handle._type]
        destructor = self.plan.program.resources[resource].destructor
        rep, handle._native = handle._native, None
        self.handles.forget(handle)
        if destructor is not None:
            self.destroy(destructor, rep)

    # -- failures ------------------------------------------------------------------------------

    def failed(self, error: int | None) -> BaseException:
        """Return the exception for a failed core call, from the engine's error or trap."""
        store = self._store()
        assert store is not None  # a call is in progress
        return store.failed(error)  # type: ignore[no-any-return]

    def spend(self) -> None:
        """Note that guest code was left in the middle, so that the guest cannot be called again."""
        store = self._store()
        if store is not None:
            store.spent = True

    def realloc_out_of_bounds(self) -> BaseException:
        """Return the error for an address beyond the memory, which an allocator returns if its growth was refused."""
        store = self._store()
        assert store is not None
        refused: BaseException | None = store.refused_growth()
        return refused or trap("realloc returned an address beyond its memory")

    def close(self) -> None:
        """Drop all views of the guest's memory before the store is deleted."""
        for memory in self._memories.values():
            memory.view = _NOTHING
        self.contexts.close()
        made = vars(self)
        for name in ("callees", "task_callees", "tasks"):
            if name in made:
                made[name].close()
        self._items.clear()
