"""The host's view of linked component instances: their flags, and the reason for which an adapter trapped.

Both are globals of the flags module (:mod:`aegis.component.shims.adapters`), so that adapters access them without
leaving WebAssembly. An access from the host costs one short call into the engine.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aegis.component.handles import InstanceState
from aegis.component.planning.program import CoreExport
from aegis.component.shims.adapter_module import REASONS
from aegis.component.traps import cannot_enter, cannot_leave, trap, unaligned
from aegis.engine.native.library import lib, pointer_into

if TYPE_CHECKING:
    from aegis.component.state import ComponentState

__all__ = ["LinkedInstance", "breach"]

_global_get, _global_set = lib.wasmtime_global_get, lib.wasmtime_global_set
_VALUE_BYTES = 32
"""Size of ``wasmtime_val_t``: the kind is at offset 0, the value at 8. The kind of an i32 is 0, as in a new buffer."""


class LinkedInstance(InstanceState):
    """A component instance whose flags are globals that adapters also read and write.

    The first step creates the globals, before any guest code runs; each is looked up on first access.
    """

    __slots__ = ("_context", "_enter", "_found", "_held", "_plain_enter", "_plain_leave", "_state", "_word", "leave")

    def __init__(self, state: ComponentState, number: int, leaves: bool, enters: bool) -> None:
        self.table, self.free = [None], []
        self._state, self._context = weakref.ref(state), state.context
        self._found: dict[CoreExport, Any] = {}
        self.leave = CoreExport(0, f"leave-{number}", "global") if leaves else None
        self._enter = CoreExport(0, f"enter-{number}", "global") if enters else None
        self._plain_leave = self._plain_enter = True
        self._held = (ctypes.c_char * _VALUE_BYTES)()
        self._word = memoryview(self._held).cast("B")[8:12].cast("I")

    def _item(self, flag: CoreExport) -> Any:
        found = self._found.get(flag)
        if found is None:
            state = self._state()
            assert state is not None  # flags are accessed only during a call, which keeps the state alive
            found = self._found[flag] = state.item(flag)
        return found

    def _get(self, flag: CoreExport) -> bool:
        _global_get(self._context, self._item(flag), pointer_into(self._held))
        return bool(self._word[0])

    def _set(self, flag: CoreExport, value: bool) -> None:
        self._word[0] = 1 if value else 0
        _global_set(self._context, self._item(flag), pointer_into(self._held))

    @property
    def may_leave(self) -> bool:
        return self._plain_leave if self.leave is None else self._get(self.leave)

    @may_leave.setter
    def may_leave(self, value: bool) -> None:
        if self.leave is None:
            self._plain_leave = value
        else:
            self._set(self.leave, value)

    @property
    def may_enter(self) -> bool:
        return self._plain_enter if self._enter is None else self._get(self._enter)

    @may_enter.setter
    def may_enter(self, value: bool) -> None:
        if self._enter is None:
            self._plain_enter = value
        else:
            self._set(self._enter, value)


def breach(state: ComponentState) -> BaseException | None:
    """Return the trap that an adapter raised, by the global ``reason``; ``None`` if the trap is not an adapter's."""
    reason = REASONS[_number(state, "reason", "I")] if state.steps_done else ""
    match reason:
        case "":
            return None
        case "beyond":
            wanted, present = _number(state, "wanted", "Q"), _number(state, "present", "Q")
            return trap(f"out-of-bounds memory access: up to {wanted:,} of {present:,} bytes")
        case "realloc beyond":
            return state.realloc_out_of_bounds()
    return _BREACHES[reason]()


def _breaches() -> dict[str, Callable[[], BaseException]]:
    texts = {
        "char": "a char is not a Unicode scalar value", "case": "invalid variant discriminant",
        "realloc misaligned": "realloc returned an address that is not aligned", "utf8": "a string is not valid UTF-8",
        "utf16": "a string is not valid UTF-16", "too long": "a string is too long",
    }  # fmt: skip
    made: dict[str, Callable[[], BaseException]] = {reason: partial(trap, text) for reason, text in texts.items()}
    made["leave"], made["enter"] = cannot_leave, cannot_enter
    made["pointer"], made["list pointer"] = unaligned, lambda: unaligned("a list's pointer")
    return made


_BREACHES: dict[str, Callable[[], BaseException]] = _breaches()


def _number(state: ComponentState, name: str, form: str) -> int:
    """Return the value of a global of the flags module."""
    value = (ctypes.c_char * _VALUE_BYTES)()
    _global_get(state.context, state.item(CoreExport(0, name, "global")), pointer_into(value))
    return int(memoryview(value).cast("B")[8:16].cast(form)[0])  # type: ignore[call-overload]
