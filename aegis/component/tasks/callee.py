"""Lifted functions as tasks call them: their core functions, buffers for core values, and converters."""

from __future__ import annotations

import ctypes
from typing import Any

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, MAX_FLAT_RESULTS
from aegis.component.planning.builtins import lifted_type
from aegis.component.planning.program import CanonLift
from aegis.component.tasks.convert import LiftedValues, Numbers, lift_values, lower_arguments
from aegis.component.tasks.waitables import Event
from aegis.component.views import Views
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.native.library import lib, number, pointer_into
from aegis.wit.types import Function, has_ends

__all__ = ["BoundCallee", "TaskCallee"]

_invoke = lib.wasmtime_func_call_unchecked


class TaskCallee:
    """A lifted function under one plan.

    ``function`` is its type: with Python classes for calls by the host, as in the program (``raw``) for calls between
    component instances. ``context`` is the index of the context for its values.
    """

    def __init__(self, lifted: CanonLift, function: Function, context: int, numbers: Numbers, *, raw: bool) -> None:
        self.lifted, self.function, self.context, self.raw, self.numbers = lifted, function, context, raw, numbers
        signature = lifted_type(lifted)
        self.slots = max(len(signature.params), len(signature.results), 1)
        self.gives_streams = function.result is not None and has_ends(function.result)
        """Whether the result has streams or futures, which the caller reads while the task goes on."""
        encoding = lifted.options.encoding
        self.lower = lower_arguments(function, encoding, numbers, raw=raw)
        results = () if function.result is None else (function.result,)
        most = MAX_FLAT_PARAMS if lifted.options.is_async else MAX_FLAT_RESULTS
        self.result: LiftedValues = lift_values(results, most, encoding, numbers, raw=raw)
        """The converter of the arguments of ``task.return``, or of the results of a function that is lifted as sync."""


class BoundCallee:
    """A lifted function in one store."""

    __slots__ = (
        "_args", "_callback_args", "_count", "_state", "_views", "buffers", "callback", "cx", "exclusive", "function",
        "instance", "is_async", "lifted", "plan",
    )  # fmt: skip

    def __init__(self, plan: TaskCallee, state: Any) -> None:
        self.plan, self.lifted, self._state = plan, plan.lifted, state
        self.instance = state.handles.instances[plan.lifted.instance]
        self.is_async = plan.function.is_async
        options = plan.lifted.options
        self.exclusive = not options.is_async or options.callback is not None
        """Whether at most one task of the instance may be in this function's code (``needs_exclusive``)."""
        self.cx = state.contexts[plan.context]
        self.function = state.item(plan.lifted.core)
        self.callback = None if options.callback is None else state.item(options.callback)
        self.buffers = (ctypes.c_char * (RAW_VALUE_BYTES * plan.slots))(), (ctypes.c_char * (RAW_VALUE_BYTES * 3))()
        self._args, self._callback_args = map(pointer_into, self.buffers)
        self._views, self._count = Views(memoryview(self.buffers[0]).cast("B")), number(plan.slots)

    def lower(self, task: Any, values: tuple[Any, ...]) -> None:
        """Lower the arguments; borrowed handles among them belong to ``task``."""
        self.cx.task = task.borrows
        self.plan.lower(self.cx, self._views, values)

    def start(self) -> int:
        """Call the core function; return its first result as an unsigned i32, if it has one."""
        self._enter(self.function, self._args, self._count)
        return self._views["I"][0]

    def call_back(self, event: Event) -> int:
        """Call the callback with an event; return its packed code."""
        words = memoryview(self.buffers[1]).cast("B").cast("I")
        words[0], words[4], words[8] = event
        self._enter(self.callback, self._callback_args, _THREE)
        return words[0]

    def _enter(self, function: Any, args: Any, count: Any) -> None:
        state = self._state
        error = _invoke(state.context, function, args, count, state.trap_pointer)
        if error is not None or state.trap[0]:
            raise state.failed(error)

    def lift_result(self) -> Any:
        """Lift the result of a function that is lifted as sync."""
        unpack, lift = self.plan.result
        values = lift(self.cx, unpack(self.buffers[0]))
        return values[0] if values else None

    def post_return(self) -> None:
        """Call the post-return function, if there is one."""
        post = self.lifted.options.post_return
        if post is not None:
            self.instance.may_leave = False
            self._enter(self._state.item(post), self._args, _ONE if self.plan.function.result is not None else _NONE)
            self.instance.may_leave = True


_THREE, _ONE, _NONE = number(3), number(1), number(0)
