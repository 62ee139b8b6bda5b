"""Calls out of a component instance in asynchronous components (CanonicalABI.md, ``canon lower``, "Subtask State")."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_char
from enum import IntEnum
from typing import Any

from aegis.component.conversion.layout import MAX_FLAT_ASYNC_PARAMS, MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, flat
from aegis.component.planning.program import CanonLower
from aegis.component.tasks.convert import LiftedValues, Numbers, lift_values, lower_result
from aegis.component.tasks.task import CANCELLED
from aegis.component.tasks.waitables import Event, EventCode, Waitable
from aegis.component.traps import cannot_leave, trap
from aegis.component.views import Views
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.wit.types import Function

__all__ = ["LoweredCall", "Subtask", "SubtaskState", "guest_call_body"]

STATE_BITS = 4


class SubtaskState(IntEnum):
    """The state of a call, as the caller sees it."""

    STARTING = 0
    STARTED = 1
    RETURNED = 2
    CANCELLED_BEFORE_STARTED = 3
    CANCELLED_BEFORE_RETURNED = 4


class Subtask(Waitable):
    """A call that has not delivered its result yet, as an entry of the caller's handle table."""

    __slots__ = ("cancel_requested", "index", "lenders", "on_cancel", "state")

    def __init__(self) -> None:
        super().__init__()
        self.state = SubtaskState.STARTING
        self.lenders: list[Any] | None = []
        """Handles lent to the callee; ``None`` after the caller has learned of the end."""
        self.cancel_requested = False
        self.on_cancel: Callable[[], None] | None = None
        self.index = 0

    def resolved(self) -> bool:
        """Return whether the call has ended."""
        return self.state >= SubtaskState.RETURNED

    def progress(self, state: SubtaskState) -> None:
        """Change the state, and notify a caller that has the subtask in its table."""
        self.state = state
        if self.index:
            self.notify(self._event)

    def _event(self) -> Event:
        if self.resolved():
            self.deliver()
        return EventCode.SUBTASK, self.index, self.state

    def deliver(self) -> None:
        """Note that the caller learns of the end: end the loans of the call."""
        assert self.lenders is not None
        for entry in self.lenders:
            entry.lends -= 1
        self.lenders = None

    def start(
        self, handles: Any, lift: Callable[[], tuple[Any, ...]], before: int | None = None
    ) -> tuple[Any, ...]:  # fmt: skip
        """Lift the arguments as the callee starts; the loans among them last until the end of the call.

        ``before`` is the number of loans before them, if the arguments were lifted already.
        """
        mark = len(handles.lent) if before is None else before
        args = lift()
        assert self.lenders is not None
        self.lenders += handles.lent[mark:]
        del handles.lent[mark:]
        self.progress(SubtaskState.STARTED)
        return args

    def close(self) -> None:
        """Drop the subtask; trap if the caller has not learned of its end."""
        if self.lenders is not None:
            raise trap("a subtask was dropped before its end was delivered")
        super().close()


class LoweredCall:
    """The converters of a lowered function. ``raw``: the callee is another component instance."""

    def __init__(self, lowered: CanonLower, function: Function, context: int, numbers: Numbers, *, raw: bool) -> None:
        options = lowered.options
        self.instance, self.context, self.is_async = lowered.instance, context, options.is_async
        types = tuple(t for _, t in function.params)
        of = function.result
        self.pointed = of is not None and (options.is_async or len(flat(of)) > MAX_FLAT_RESULTS)
        most = MAX_FLAT_ASYNC_PARAMS if options.is_async else MAX_FLAT_PARAMS
        self.values: LiftedValues = lift_values(
            types, most, options.encoding, numbers, raw=raw, after=1 if self.pointed else 0
        )
        count = sum(len(flat(t)) for t in types)
        self.return_word = 1 if count > most else count
        """The index of the return pointer among the core values."""
        self.size = RAW_VALUE_BYTES * (self.return_word + 1)
        self.lower = None if of is None else lower_result(of, options.encoding, numbers, raw=raw, pointed=self.pointed)

    def words(self, state: Any, address: int) -> tuple[Any, ...]:
        """Return the core values of a call, after checking that the instance may call out."""
        if not state.handles.instances[self.instance].may_leave:
            raise cannot_leave()
        return self.values.unpack((c_char * self.size).from_address(address))

    def returner(self, cx: Any, words: tuple[Any, ...], views: Views) -> Callable[[Any], None]:
        """Return the function that lowers the result, behind the return pointer or to the core result."""
        lower, pointed, word = self.lower, self.pointed, self.return_word

        def give(value: Any) -> None:
            if lower is not None:
                lower(cx, views, words[word] if pointed else 0, value)

        return give

    def finish(self, state: Any, subtask: Subtask, views: Views) -> None:
        """Return to the caller: with the result, or with the state of the call and the index of the subtask."""
        if not self.is_async:
            if not subtask.resolved():
                state.tasks.block(subtask.resolved)
            subtask.deliver()
        elif subtask.resolved():
            subtask.deliver()
            views["I"][0] = SubtaskState.RETURNED
        else:
            subtask.index = index = state.handles.enter(state.handles.instances[self.instance], subtask)
            views["I"][0] = subtask.state | index << STATE_BITS


def views_at(address: int) -> Views:
    """Return the views of the first core value at ``address``, where a result goes."""
    return Views(memoryview((c_char * RAW_VALUE_BYTES).from_address(address)).cast("B"))


def guest_call_body(call: LoweredCall, callee: int) -> Callable[[Any, int], None]:
    """Return the body of a trampoline for a call to another component instance."""

    def body(state: Any, address: int) -> None:
        words = call.words(state, address)
        cx, handles = state.contexts[call.context], state.handles
        subtask, views = Subtask(), views_at(address)
        give = call.returner(cx, words, views)

        def on_start() -> tuple[Any, ...]:
            return subtask.start(handles, lambda: call.values.lift(cx, words))

        def on_resolve(value: Any) -> None:
            if value is not CANCELLED:
                give(value)
                subtask.progress(SubtaskState.RETURNED)
            elif subtask.state is SubtaskState.STARTING:
                subtask.progress(SubtaskState.CANCELLED_BEFORE_STARTED)
            else:
                subtask.progress(SubtaskState.CANCELLED_BEFORE_RETURNED)

        tasks = state.tasks
        before = tasks.current
        tasks.callers.append(lambda: call.is_async or subtask.resolved())
        task = tasks.begin(state.task_callees[callee], on_start, on_resolve, call.instance)
        tasks.callers.pop()
        tasks.current = before
        subtask.on_cancel = lambda: task.request_cancel(call.instance)
        call.finish(state, subtask, views)

    return body
