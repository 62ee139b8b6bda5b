"""Component plans: the data for creating stores of one component, computed once, and the linking of its core modules.

A plan belongs to a component under given limits and bindings, and all sandboxes of that component share it. It contains
no host functions: those belong to the store that makes the call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from aegis.component.call import Callee, ComponentEntry, ComponentFrame, bind_guest, numbering
from aegis.component.planning.artifact import Component
from aegis.component.planning.builtins import trampoline_type
from aegis.component.planning.program import (
    AsyncFunction,
    CanonLift,
    CanonLower,
    ContextPlan,
    CoreExport,
    Imported,
    Options,
)
from aegis.component.planning.type_keys import shape_of
from aegis.component.planning.world import (
    Lacking,
    Typing,
    check_export,
    imported_functions,
    nothing_lacks,
    typed_export,
)
from aegis.component.shims.entering import can_reenter, entering_set, is_async, uses_host
from aegis.component.state import EXTERN, ComponentState
from aegis.component.tasks.builtins import builtin_body
from aegis.component.tasks.callee import TaskCallee
from aegis.component.tasks.convert import HostElements, Numbers
from aegis.component.tasks.entry import TaskEntry
from aegis.component.tasks.host_calls import host_call_body
from aegis.component.tasks.subtask import LoweredCall, guest_call_body
from aegis.component.trampoline import (
    TRAMPOLINE_BITS,
    Body,
    guest_body,
    host_body,
    native_callback,
    refused_body,
    resource_body,
)
from aegis.engine.compile.code import NativeCode
from aegis.engine.compile.config import EngineConfig
from aegis.engine.native.library import lib, number, pointer, pointer_into
from aegis.engine.store.imports import NativeType
from aegis.engine.store.plan import BasePlan
from aegis.errors import AegisInternalError, CallError
from aegis.limits import KIB, Limits
from aegis.text import printable
from aegis.values import FuncType, Rows
from aegis.wit.types import Borrow, Function, Interface, Own, WitType, children

__all__ = ["ComponentPlan", "LinkSpace"]

_func_new, _export_get = lib.wasmtime_func_new_unchecked, lib.wasmtime_instance_export_get
_instance_new = lib.wasmtime_instance_new
_INSTANCE = 16
"""Bytes of ``wasmtime_instance_t``."""
_SPACES_KEPT = 16
_MIN_FUSED_STACK_BYTES = 128 * KIB


class _LinkStep(NamedTuple):
    """The instantiation of one core module: the offset and the kinds of its imports in the shared array."""

    number: int
    offset: int
    size: int
    functions: tuple[tuple[int, int], ...]
    """Imports that are trampolines: their index among the imports, and their number in the program."""
    exports: tuple[tuple[int, CoreExport], ...]
    """Imports that are exports of earlier core instances: their index among the imports, and the export."""


class LinkSpace:
    """The native buffers for linking one store: all imports, all core instances, and arguments that point to them."""

    __slots__ = ("_imports", "instances", "pointers", "steps", "store")

    def __init__(self, plan: ComponentPlan) -> None:
        total = sum(step.size for step in plan.linking)
        self._imports = (ctypes.c_char * (EXTERN * max(1, total)))()
        self.instances = (ctypes.c_char * (_INSTANCE * max(1, len(plan.linking))))()
        self.pointers = [pointer_into(self.instances, _INSTANCE * n) for n in range(len(plan.linking))]
        """The address of each core instance."""
        self.store = 0
        """The slot of the store for which the numbers of the functions were computed."""
        self.steps = [self._arguments(plan, step) for step in plan.linking]

    def _arguments(self, plan: ComponentPlan, step: _LinkStep) -> tuple[Any, ...]:
        given, at = self._imports, EXTERN * step.offset
        functions = [
            (plan.native_type(k), number(k), pointer_into(given, at + EXTERN * n + 8), k) for n, k in step.functions
        ]
        exports = []
        for n, item in step.exports:
            raw, length = plan.raw_names[item.name]
            exports.append((self.pointers[item.step], raw, length, pointer_into(given, at + EXTERN * n)))
        code = plan.parts[plan.program.steps[step.number].module].pointer or 0
        # As columns, which map() consumes without Python code: a large component has thousands of imports.
        made, taken = ([*zip(*rows, strict=True)] or None for rows in (functions, exports))
        return made, taken, pointer(code), pointer_into(given, at), number(step.size), self.pointers[step.number]

    def give_numbers(self, store: int) -> None:
        """Compute the numbers that the engine passes to the callback for the store in this slot."""
        base, self.store = store << TRAMPOLINE_BITS, store
        for made, *_ in self.steps:
            if made is not None:
                made[1] = [number(base | k) for k in made[3]]


class ComponentPlan(BasePlan):
    """Engine arguments for stores of ``component``; ``typed`` adds the Python classes to the types of a function."""

    __slots__ = (
        "__weakref__",
        "_bodies",
        "_entering",
        "_host_types",
        "_native_types",
        "_spaces",
        "artifact",
        "callback",
        "callees",
        "calls_python",
        "contexts",
        "direct",
        "functions",
        "fuses",
        "homes",
        "hosted",
        "is_async",
        "keeps_space",
        "keys",
        "linking",
        "links",
        "memory_exports",
        "numbers",
        "parts",
        "program",
        "raw_names",
        "reenters",
        "task_callees",
        "trampoline_contexts",
        "typed",
    )  # fmt: skip

    @property
    def own_instances(self) -> int:  # type: ignore[override]
        return 4 + (0 if self.links is None else self.links.instances)

    def __init__(
        self, component: Component, config: EngineConfig, limits: Limits, typed: Typing,
        lacking: Lacking = nothing_lacks,
    ) -> None:  # fmt: skip
        memories = component.structure.memories(limits.memories or 1 << 16)
        tables = component.structure.tables(limits.tables or 1 << 16)
        component.code(config)
        self.links = component.links_for(config)
        super().__init__(component, config, limits, memories, tables)
        self.artifact, self.typed = component, typed
        self.parts: dict[int, NativeCode] = component.code(config).parts  # type: ignore[attr-defined]
        self.program = program = component.program
        self.memory_exports = component.memory_exports
        if self.links is not None:
            steps = self.links.steps
            self.program = program = self.links.program
            self.parts = {**self.parts, **self.links.parts}
            self.memory_exports = tuple(item._replace(step=steps[item.step]) for item in self.memory_exports)
        self.reenters = can_reenter(program)
        self.is_async = is_async(program)
        """Whether calls are tasks: the component has asynchronous functions, streams or futures."""
        self.task_callees: list[TaskCallee] = []
        self._host_types: dict[WitType, HostElements] = {}
        self._entering: dict[tuple[int, int | None], tuple[int, ...]] = {}
        self.functions = imported_functions(component, typed, lacking)
        self.calls_python = self.counted or bool(program.trampolines if self.links is None else uses_host(program))
        self.direct = not (self.functions or self.calls_python or self.starts)
        """Whether instantiation needs no host functions, and runs neither guest code nor Python code."""
        self.fuses = not self.metered and config.epochs and limits.stack >= _MIN_FUSED_STACK_BYTES
        """Whether functions that are called often get a fused module.

        Not if fuel is limited, because the fuel of a call would depend on the number of earlier calls. Not with a small
        stack, because the vectors occupy some of it. Not in workers, which have little memory for compiling, and whose
        calls are dominated by other costs.
        """
        self.hosted = tuple(of.instance is None for of in program.resources)
        self.homes = tuple(of.instance for of in program.resources)
        self.numbers, self.keys = _numbered(component)
        self.contexts: list[ContextPlan] = []
        self.callees: list[Callee] = []
        self.raw_names: dict[str, tuple[Any, Any]] = _Names()
        self.linking = list(self._link())
        self.keeps_space = not any(step.size for step in self.linking)
        """Whether a store keeps its ``LinkSpace``: without imports, it contains only the core instances."""
        self._native_types: dict[FuncType, NativeType] = {}
        self._spaces: list[LinkSpace] = []
        self._bodies: list[Body | None] = [None] * len(program.trampolines)
        self.callback = native_callback(self._bodies, self._body, self._called)

    def _link(self) -> Any:
        offset = 0
        for n, step in enumerate(self.program.steps):
            functions = tuple((place, item) for place, item in enumerate(step.imports) if isinstance(item, int))
            exports = tuple((place, item) for place, item in enumerate(step.imports) if isinstance(item, CoreExport))
            yield _LinkStep(n, offset, len(step.imports), functions, exports)
            offset += len(step.imports)

    # -- native space --------------------------------------------------------------------------

    def take_space(self) -> LinkSpace:
        """Return buffers for linking, reusing those of a closed store if possible."""
        try:
            return self._spaces.pop()
        except IndexError:
            return LinkSpace(self)

    def give_back(self, space: LinkSpace) -> None:
        """Cache the buffers of a closed store for the next store."""
        if len(self._spaces) < _SPACES_KEPT:
            self._spaces.append(space)

    def native_type(self, trampoline: int) -> Any:
        """Return the engine's type of a trampoline."""
        of = self.program.trampolines[trampoline]
        signature = trampoline_type(of)
        made = self._native_types.get(signature)
        if made is None:
            # If two threads create one, both must use the same: replacing it would delete the type that the other uses.
            made = self._native_types.setdefault(signature, NativeType(signature))
        return made.pointer

    def make_function(self, state: ComponentState, trampoline: int, target: Any) -> None:
        """Write the ``wasmtime_func_t`` of a trampoline of one store to ``target``, a prepared argument."""
        env = state.slot << TRAMPOLINE_BITS | trampoline
        _func_new(state.context, self.native_type(trampoline), self.callback, number(env), None, target)

    def bind_callee(self, state: ComponentState, index: int) -> Callable[..., Any]:
        """Return a closure that calls a lifted function of one store for another component instance."""
        return bind_guest(state, ComponentFrame(self.callees[index]).bind(state))

    def missing_export(self, name: str) -> BaseException:
        """Return the error for an export that the engine does not find."""
        return AegisInternalError(f"the engine did not find the core export {printable(name)!r}")

    # -- trampolines ---------------------------------------------------------------------------

    def context(self, instance: int, options: Options, *, raw: bool) -> int:
        """Return the index of a conversion context; equal contexts share an index."""
        wanted = ContextPlan(instance, options._replace(post_return=None), raw)
        if wanted not in self.contexts:
            self.contexts.append(wanted)
        return self.contexts.index(wanted)  # not the last index: another thread may have appended too

    def _body(self, trampoline: int) -> Body:
        of = self.program.trampolines[trampoline]
        if isinstance(of, AsyncFunction):
            return builtin_body(of, self)
        if not isinstance(of, CanonLower):
            return resource_body(of, self)
        if isinstance(of.function, CanonLift):
            lifted = of.function
            if lifted.instance == of.instance:
                return refused_body
            if self.is_async:
                return self._task_body(of, lifted)
            callee = Callee(
                lifted, lifted.type, self.context(lifted.instance, lifted.options, raw=True), None, raw=True
            )
            self.callees.append(callee)
            place = self.callees.index(callee)  # not the last index: another thread may have appended too
            context = self.context(of.instance, of.options, raw=True)
            return guest_body(of, context, place, self.entering(lifted.instance, of.instance))
        index = self._index(of.function)
        context = self.context(of.instance, of.options, raw=False)
        if self.is_async and (of.options.is_async or of.function.type.is_async):
            function = self.functions[index]
            types = [*(t for _, t in function.type.params), *([function.type.result] if function.type.result else [])]
            call = LoweredCall(of, function.type, context, numbering(types, self.numbers), raw=False)
            return host_call_body(call, function, index)
        return host_body(self.functions[index], index, of, context, self.numbers)

    def _task_body(self, of: CanonLower, lifted: CanonLift) -> Body:
        """Return the body for a call between component instances that is a task."""
        callee = self.task_callee(lifted, lifted.type, None, raw=True)
        self.task_callees.append(callee)
        place = self.task_callees.index(callee)  # not the last index: another thread may have appended too
        context = self.context(of.instance, of.options, raw=True)
        call = LoweredCall(of, lifted.type, context, callee.numbers, raw=True)
        return guest_call_body(call, place)

    def task_callee(
        self, lifted: CanonLift, function: Function, numbers: Sequence[int] | None, *, raw: bool
    ) -> TaskCallee:
        """Return a lifted function as tasks call it."""
        context = self.context(lifted.instance, lifted.options, raw=raw)
        types = [*(t for _, t in function.params), *(() if function.result is None else (function.result,))]
        return TaskCallee(lifted, function, context, numbering(types, numbers), raw=raw)

    def own_numbers(self, of: WitType) -> Numbers:
        """Return the numbers of the resources in a type of the program, where each is its own number."""
        return numbering([of], None)

    def host_type(self, of: Any) -> HostElements:
        """Return the elements of a stream or future type of the world, as the host has them."""
        made = self._host_types.get(of)
        if made is None:
            made = self._host_types[of] = HostElements(of.element, numbering([of], self.numbers))
        return made

    def shape_of(self, of: Any) -> Hashable:
        """Return the shape of a type of the world, with the program's numbers of its resources."""
        return shape_of(of, dict(numbering([of], self.numbers)))

    def entering_all(self, instance: int, caller: int | None) -> tuple[int, ...]:
        """Return the component instances that a call enters, from a table."""
        made = self._entering.get((instance, caller))
        if made is None:
            made = self._entering[instance, caller] = entering_set(self.program, instance, caller)
        return made

    def _index(self, function: Imported) -> int:
        for n, known in enumerate(self.functions):
            if known.interface == function.interface and known.name == function.name:
                return n
        raise AegisInternalError(f"the component has no import {printable(function.name)!r}")

    def _called(self, trampoline: int) -> str:
        of = self.program.trampolines[trampoline]
        if isinstance(of, CanonLower) and isinstance(of.function, Imported):
            return str(self.functions[self._index(of.function)])
        if isinstance(of, CanonLower):
            return "a function of another component"
        if isinstance(of, AsyncFunction):
            return of.name
        return "a resource's drop" if of.operation == "drop" else f"resource.{of.operation}"

    def entering(self, instance: int, caller: int | None) -> tuple[int, ...]:
        """Return the component instances that a call enters (CanonicalABI.md, ``entering_set``)."""
        return entering_set(self.program, instance, caller)

    # -- exports -------------------------------------------------------------------------------

    def entry(self, name: Any) -> Any:
        """Return the entry of the exported function ``name``; raise ``CallError`` if it cannot be called.

        ``name`` is a function of the world, or ``interface#function``; the interface's version may be omitted if that
        is unambiguous. If ``name`` has an attribute ``table``, values are instances of the classes in it. The entry for
        :class:`~aegis.values.Rows` of a name is for calls over columns.
        """
        made = self.entries.get(name)
        if made is None:
            asked = name.function if isinstance(name, Rows) else name
            callee = self._callee(*typed_export(self.artifact, asked, self.typed))
            if isinstance(name, Rows):
                from aegis.component.shims.columns import ComponentColumnEntry  # few sandboxes make such calls

                flagged = self.links is not None and callee.lifted.instance in self.links.leaves
                made = ComponentColumnEntry(name, callee, self.config, flagged=flagged)
            else:
                made = ComponentEntry(str(name), callee)
            if self.is_async:
                made = TaskEntry(str(name), self.task_callee(callee.lifted, callee.function, self.numbers, raw=False))
            self.entries[name] = made
        return made

    def _callee(self, interface: str, function: str, typed: Function) -> Callee:
        owner: Any = self.program.exports.get(interface, {}) if interface else self.program.exports
        lifted = owner.get(function) if isinstance(owner, Mapping) else None
        if not isinstance(lifted, CanonLift):
            name = f"{interface}#{function}" if interface else function
            raise CallError(f"the export {printable(name)!r} is a type, which cannot be called")
        context = self.context(lifted.instance, lifted.options, raw=False)
        callee = Callee(lifted, typed, context, self.numbers, raw=False)
        if self.reenters:
            callee.entering = self.entering(lifted.instance, None)
        return callee

    def check(self, interface: str, function: str, table: Interface) -> None:
        """Raise ``LinkError`` unless an exported function has the type that the bindings declare."""
        check_export(self.artifact, interface, function, table)


class _Names(dict[str, tuple[Any, Any]]):
    """Names as ctypes arguments: the bytes and their length."""

    def __missing__(self, name: str) -> tuple[Any, Any]:
        raw = name.encode()
        made = self[name] = ctypes.c_char_p.from_param(raw), number(len(raw))
        return made


def _numbered(component: Component) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the program's number of each resource by its key in the world, and the key of each number.

    This walks the world's and the program's types of the same functions in parallel. A resource that occurs in no
    function's type is never passed; its number is -1.
    """
    world, program = component.world, component.program
    numbers = [-1] * len(world.resources)
    keys = [-1] * len(program.resources)
    for of_world, of_program in _pairs(component):
        stack: list[tuple[Any, Any]] = [*zip(_types(of_world), _types(of_program), strict=True)]
        while stack:
            a, b = stack.pop()
            if isinstance(a, (Own, Borrow)):
                numbers[a.resource.key], keys[b.resource.key] = b.resource.key, a.resource.key
            stack += zip(children(a), children(b), strict=True)
    return tuple(numbers), tuple(keys)


def _types(of: Function) -> Sequence[WitType]:
    return [*(t for _, t in of.params), *(() if of.result is None else (of.result,))]


def _pairs(component: Component) -> Any:
    """Yield each imported and exported function's type in the world with its type in the program."""
    program, world = component.program, component.world
    imported = {(f.interface, f.name): f.type for f in program.imported}
    for name, item in world.imports.items():
        functions = {name: item} if isinstance(item, Function) else item.functions
        for member, function in functions.items():
            known = imported.get(("" if isinstance(item, Function) else name, member))
            if known is not None:
                yield function, known
    for name, item in world.exports.items():
        exported = program.exports.get(name)
        if isinstance(item, Function):
            if not isinstance(exported, Mapping) and exported is not None:
                yield item, exported.type
            continue
        for member, function in item.functions.items():
            if isinstance(exported, Mapping) and member in exported:
                yield function, exported[member].type
