"""Component stores: the core instances, the handle tables and the budgets of one component."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import repeat
from typing import Any

from aegis.component.call import ComponentEntry, ComponentFrame, bind_component
from aegis.component.handles import Handles
from aegis.component.shims.linked import breach
from aegis.component.state import ComponentState
from aegis.component.tasks.entry import TaskEntry, bind_task, bind_turn
from aegis.engine.call.caller import IN_TIME, Style, around, room_for_callbacks
from aegis.engine.call.classify import Evidence, refused_growth
from aegis.engine.native.library import lib
from aegis.engine.store.memory import LinearMemory
from aegis.engine.store.store import ModuleStore
from aegis.engine.threads.guest_thread import DIRECT, MAIN, thread_state
from aegis.errors import AegisError, SandboxStateError
from aegis.values import Rows
from aegis.wasm.binary import ADDED_MEMORY
from aegis.wit.values import ResourceHandle

__all__ = ["ComponentStore"]

_func_new, _export_get = lib.wasmtime_func_new_unchecked, lib.wasmtime_instance_export_get
_instance_new = lib.wasmtime_instance_new
_set_fuel = lib.wasmtime_context_set_fuel


class ComponentStore(ModuleStore):
    """One instance of a component. ``functions`` are the host functions, in the order of the plan's functions.

    ``classes`` returns the Python class of handles to the guest resource with the given key.
    """

    handles: Handles
    state: ComponentState
    _space: Any = None
    """The ``LinkSpace`` of the store; a plan without imports leaves the core instances in it."""

    def __init__(
        self,
        plan: Any,
        door: Any,
        functions: Sequence[Callable[..., Any]] | Mapping[int, Callable[..., Any]] = (),
        *,
        observed: bool = False,
        classes: Callable[[int], Callable[..., ResourceHandle]] = lambda key: ResourceHandle,
    ) -> None:
        self._handle_classes = classes
        super().__init__(plan, door, functions, None, observed=observed)

    def _instantiate_alone(self) -> int | None:
        return self._link((), False)

    def _instantiate(self, functions: Any, observed: bool) -> int | None:
        room_for_callbacks()
        if not self.plan.starts and self.memory_budget is None:
            return self._link(functions, observed)
        before = self._enter_guest()
        try:
            return self._link(functions, observed)
        finally:
            self._leave_guest(before)

    def _link(self, functions: Any, observed: bool) -> int | None:
        """Instantiate the core modules in order; return the engine's error, if there is one."""
        plan = self.plan
        self.handles = self.door.handles = Handles(plan, self._handle_classes)
        self._space = space = plan.take_space()
        self.state = state = ComponentState(self, plan, self.handles, space.pointers, functions, observed=observed)
        if plan.links is not None:
            plan.links.attach(state)
        if plan.program.trampolines:
            state.slot = self._register(state, ())
            if space.store != state.slot:
                space.give_numbers(state.slot)
        callback, context = plan.callback, self.context
        trapped, trap = self.trap_pointer, self.trap
        for made, exports, code, imports, count, instance in space.steps:
            if made is not None:  # for each function: func_new(context, type, callback, number, None, target)
                natives, numbers, targets, _ = made
                any(map(_func_new, repeat(context), natives, repeat(callback), numbers, repeat(None), targets))
            if exports is not None and not all(map(_export_get, repeat(context), *exports)):
                names = [item.name for _, item in plan.linking[state.steps_done].exports]
                found = map(_export_get, repeat(context), *exports)
                raise plan.missing_export(next(name for name, one in zip(names, found, strict=True) if not one))
            error: int | None = _instance_new(context, code, imports, count, instance, trapped)
            if error is not None or trap[0]:
                return error
            state.steps_done += 1
        if not plan.keeps_space:
            state.keep_instances(space.instances)
            plan.give_back(space)
            self._space = None
        return None

    def added_memories(self) -> tuple[LinearMemory, ...]:
        state = self.state
        found = [item for item in self.plan.memory_exports if item.name == ADDED_MEMORY]
        return self._attached([partial(lambda item: (state.context, state.item(item)), item) for item in found])

    # -- failures ------------------------------------------------------------------------------

    def failed(self, error: int | None) -> BaseException:
        links, found = self.plan.links, None
        if links is not None and links.parts and self.trap[0] and self.door.failure is None:
            found = breach(self.state)
        ended = super().failed(error)
        return ended if found is None else found

    def _evidence(self) -> Evidence:
        return Evidence(
            self.door, self.plan.limits, self.memory_budget, self._memory_full, lambda: None, self._thrown()
        )

    def _tags(self) -> tuple[str, ...]:
        """Return no names: a component exports no tags."""
        return ()

    def _sizes(self) -> list[int]:
        return self.state.memory_sizes()

    def refused_growth(self) -> AegisError | None:
        """Return the error for a guest that got no more memory; ``None`` if its memory could still grow."""
        return refused_growth("unreachable", self._evidence())

    # -- calls ---------------------------------------------------------------------------------

    def replace(self, name: str, style: int, closure: Callable[..., Any]) -> None:
        """Use ``closure`` for calls of the function from now on."""
        self._closures[name, style] = closure

    def _bound(self, entry: ComponentEntry, frame: ComponentFrame, style: int) -> Callable[..., Any]:
        if style == Style.INNER:
            raise SandboxStateError(
                "a component cannot be entered while a call into it is under way, not even by its host functions: "
                "return first, or use another sandbox",
                state="busy",
            )
        if isinstance(entry, TaskEntry):
            return bind_task(self, entry, frame, style)
        if isinstance(entry.name, Rows):
            from aegis.component.shims.columns import bind_columns  # few sandboxes make such calls

            return bind_columns(self, frame.bind(self.state), style)
        return bind_component(self, frame.bind(self.state), style)

    def dropper(self) -> Callable[[ResourceHandle], None] | None:
        """Return a closure that drops a handle, or ``None`` if the current thread may not run guests."""
        mode = thread_state.mode or thread_state.detect_mode()
        if mode not in (MAIN, DIRECT) or (mode == MAIN and not self.calls_no_python):
            return None
        style = Style.MAIN_ALONE if mode == MAIN else Style.NESTING if self._calls_python else Style.ALONE
        if style != Style.MAIN_ALONE and self.calls_no_python:
            self.watch()
        made: Callable[[ResourceHandle], None] = _dropper(style | self.plan.metered)(self, None)
        return made

    def turn(self) -> Callable[[Callable[[], Any]], Any] | None:
        """Return a closure that calls a function of the host in the guest's turn, within the limits of a call.

        Return ``None`` if the current thread may not run guests.
        """
        mode = thread_state.mode or thread_state.detect_mode()
        if mode != DIRECT:
            return None
        if self.calls_no_python:
            self.watch()
        return bind_turn(self, Style.NESTING if self._calls_python else Style.ALONE)

    def renew_limits(self) -> None:
        """Give the guest its limits of fuel and host bytes anew, in the middle of a turn: another call begins."""
        self.door.begin()
        if self.fuel is not None:
            _set_fuel(self.context, self.fuel)

    def _ended(self) -> None:
        state = getattr(self, "state", None)
        if state is None:
            return
        state.close()

    def close(self) -> None:
        """Delete the store, and return its buffers to the plan."""
        was_open = self._pointer is not None
        super().close()
        space, self._space = self._space, None
        if space is not None:
            self.plan.give_back(space)
        if was_open and self.plan.artifact.kept_code is not None and not sys.is_finalizing():  # it may import modules
            self.plan.artifact.kept_code.add()

    def memory_size(self) -> int:
        """Return the bytes of all memories.

        Without accounting, a memory that is not exported counts with its initial size.
        """
        if self.memory_budget is not None:
            return self.memory_budget.used
        return sum(self.state.memory_sizes()) + self.plan.artifact.hidden_memory  # type: ignore[no-any-return]

    def memory_reader(self) -> Callable[[], int]:
        """Return a faster :meth:`memory_size`; all core instances exist by now, so their memories are looked up."""
        if self.memory_budget is not None or self.plan.artifact.hidden_memory:
            return self.memory_size
        readers = [self.state.memory(item).reader() for item in self.plan.memory_exports]
        if len(readers) == 1:
            return readers[0]
        return lambda: sum([read() for read in readers])


_DROP = (
    """
            store.state.drop_handle(handle)
"""
    + IN_TIME
)


@cache
def _dropper(style: int) -> Callable[..., Any]:
    """Return the function that creates closures of ``style`` that drop a handle."""
    return around(style, "handle", _DROP, "pass", {})
