"""A store of one component: its instance, its handles, its budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aegis.engine.caller import IN_TIME, Style, around, make_closure
from aegis.engine.classify import Evidence, classify_component
from aegis.engine.component.caller import ComponentEntry, ComponentFrame, bind_component
from aegis.engine.component.handles import Handles
from aegis.engine.component.trampoline import HostSide, sides
from aegis.engine.native import lib, pointer
from aegis.engine.store import PoolExhausted, Store
from aegis.engine.threads import DIRECT, MAIN, where
from aegis.errors import CallError, GuestTrap, MemoryExceeded, SandboxStateError
from aegis.names import printable
from aegis.wit.values import ResourceHandle

__all__ = ["ComponentStore"]

_store_context = lib.wasmtime_store_context
_linker_instantiate = lib.wasmtime_component_linker_instantiate


class ComponentStore(Store):
    """One instance of a component. ``functions`` are callables, in the order of the plan's functions.

    ``classes`` gives the Python class of handles of the guest's resource with a key.
    """

    handles: Handles
    _address = 0

    def __init__(
        self,
        plan: Any,
        door: Any,
        functions: Sequence[Callable[..., Any]] = (),
        *,
        observed: bool = False,
        classes: Callable[[int], Callable[..., ResourceHandle]] = lambda key: ResourceHandle,
    ) -> None:
        self._handle_classes = classes
        super().__init__(plan, door, functions, None, observed=observed)

    def _prepare(self) -> None:
        imported = self.plan.artifact.world.imported
        self.handles = self.door.handles = Handles(
            self.context, imported, self.plan.limits.handles, self._handle_classes
        )

    def _instantiate_alone(self) -> int | None:
        self._prepare()
        plan = self.plan
        return _linker_instantiate(  # type: ignore[no-any-return]
            plan.linker, self.context, plan.code_pointer, self._workspace.instance
        )

    def _instantiate(self, functions: Sequence[Any], observed: bool) -> int | None:
        self._prepare()
        self._address = address = _store_context(self._pointer)
        sides[address] = HostSide(self.door, functions, observed)
        with self._below():
            return _linker_instantiate(  # type: ignore[no-any-return]
                self.plan.linker, self.context, self.plan.code_pointer, self._workspace.instance
            )

    def failed(self, error: int | None) -> BaseException:
        return classify_component(error, self._evidence())

    def _refused(self, error: int | None) -> BaseException:
        """Why instantiation failed: what the guest's own start did, or a limit of the engine's, told by message."""
        if error is not None and self.account is not None and self.account.unfit:
            return self._unfit(error, self.account)
        found = self.failed(error)
        if not isinstance(found, GuestTrap) or found.code != "abi" or found.frames:
            return found  # with frames it was the guest's own start that failed, whatever words the engine has for it
        message = str(found)
        if "maximum concurrent" in message:
            return PoolExhausted()
        if "memory" in message or "resource limit" in message or "table" in message:
            text = f"the component does not fit its limits: {message.partition(': ')[2]}"
            return MemoryExceeded(text, limit="memory", phase="initial", allowed=self.plan.limits.memory)
        return found

    def _evidence(self) -> Evidence:
        return Evidence(self.door, self.plan.limits, self.account, lambda: None, lambda: None)

    def _bound(self, entry: ComponentEntry, frame: ComponentFrame, style: int) -> Callable[..., Any]:
        if style == Style.INNER:
            raise SandboxStateError(
                "a component cannot be entered while a call into it is under way, not even by its host functions",
                state="busy",
            )
        get = lib.wasmtime_component_instance_get_func
        if not get(self._workspace.instance, self.context, pointer(entry.index), frame.func):
            raise CallError(f"the export {printable(entry.name)!r} is the type of a function, not a function")
        return bind_component(self, frame, style)

    def dropper(self) -> Callable[[ResourceHandle], None] | None:
        """Return what drops a handle from the current thread, or ``None`` if it may not run guests."""
        mode = where.mode or where.settle()
        if mode not in (MAIN, DIRECT) or (mode == MAIN and not self.alone):
            return None
        style = Style.MAIN_ALONE if mode == MAIN else Style.NESTING if self._calls_python else Style.ALONE
        if style != Style.MAIN_ALONE and self.alone:
            with self.held():
                self._watch()
        made: Callable[[ResourceHandle], None] = make_closure(
            _DROPPERS[style], self, _DropFrame, style, lib.wasmtime_component_resource_any_drop
        )
        return made

    def _ended(self) -> None:
        if self._address:
            sides.pop(self._address, None)

    def memory_size(self) -> int:
        """Bytes that its memories have, at least: the engine does not tell of a component's unless we count."""
        if self.account is not None:
            return self.account.used
        return self.plan.artifact.least_memory  # type: ignore[no-any-return]


class _DropFrame:
    """Stands for a frame where none is needed."""

    func = args = count = None


_DROP = (
    """
            error = invoke(context, pointer(handle._native))
            if error is not None:
                raise failed(error)
            handle._owner.forget(handle)
"""
    + IN_TIME
)
_DROPPERS = [around(style, "handle", _DROP, "pass", {"pointer": pointer}) for style in range(3)]
