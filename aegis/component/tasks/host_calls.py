"""Calls of host functions by asynchronous components, which may complete later.

The steps are those of :mod:`aegis.component.trampoline`. A host function returns its result, an awaitable, or a
:class:`Later`; the guest goes on if it called asynchronously, and other tasks run meanwhile otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

from aegis.component.planning.world import ImportedFunction
from aegis.component.tasks.subtask import LoweredCall, Subtask, SubtaskState, views_at
from aegis.component.trampoline import answering, call_method
from aegis.engine.call.classify import host_failure
from aegis.engine.call.trampoline import report_call
from aegis.engine.native.signals import NEAR, secure_after
from aegis.engine.threads.await_result import awaited_later
from aegis.errors import CallError, HostError
from aegis.values import Interest
from aegis.wit.types import Result
from aegis.wit.values import Err

__all__ = ["Later", "host_call_body"]


@runtime_checkable
class Later(Protocol):
    """The result of a host function that is not complete yet."""

    def ready(self) -> bool:
        """Return whether :meth:`result` would not block."""

    def interest(self) -> Interest:
        """Return the events to wait for while it is not ready."""

    def result(self) -> Any:
        """Return the result, or raise the function's exception."""

    def cancel(self) -> None:
        """Give the call up, and release what it holds."""


class _HostOperation:
    """A call of a host function that is under way."""

    def __init__(self, state: Any, later: Later, resolve: Callable[[Callable[[], Any]], None]) -> None:
        self._state, self._later, self._resolve = state, later, resolve

    def ready(self) -> bool:
        return self._later.ready()

    def interest(self) -> Interest:
        return self._later.interest()

    def complete(self) -> None:
        self._resolve(self._later.result)

    def cancel(self) -> None:
        self._state.tasks.forget(self)
        self._later.cancel()


def host_call_body(call: LoweredCall, function: ImportedFunction, index: int) -> Callable[[Any, int], None]:
    """Return the body of a trampoline for an imported function; ``index`` is its index among the host functions."""
    method, fallible = function.method, isinstance(function.type.result, Result)
    now, called_or_answered = time.monotonic, answering(function)
    interface, name = function.interface or "(world)", function.name
    called = partial(call_method, method or "")

    def body(state: Any, address: int) -> None:
        door = state.door
        left = door.calls_left
        if left <= 0 or door.stop is not None or now() >= door.deadline:
            raise door.refused_call()
        door.calls_left = left - 1
        words = call.words(state, address)
        subtask, views = Subtask(), views_at(address)
        give = call.returner(state.contexts[call.context], words, views)
        args = subtask.start(state.handles, lambda: call.values.lift(state.contexts[call.context], words))
        target = called if method else state.functions[index]

        def resolve(outcome: Callable[[], Any]) -> None:
            """Complete the call; ``outcome`` returns the function's result or raises its exception."""
            resumed = perf_counter()
            try:
                complete(outcome)
            except BaseException as error:
                report(resumed, error)
                if later is None:
                    raise
                failure = host_failure(error, function)
                if failure is error:
                    raise
                raise failure from error
            report(resumed, None)

        def report(resumed: float, error: BaseException | None) -> None:
            """Report the call, which took until ``left_at``, waited, and went on at ``resumed``."""
            if watched:
                report_call(door, interface, name, begun, error, max(0.0, resumed - left_at))

        def complete(outcome: Callable[[], Any]) -> None:
            try:
                result = outcome()
            except Err as declared:
                if not fallible:
                    raise
                result = declared
            if call.lower is None and result is not None:
                raise HostError(
                    f"host function {function} returned {type(result).__name__}, but it has no result: return None"
                )
            try:
                give(result)
            except CallError as wrong:
                raise HostError(f"host function {function} returned an invalid result: {wrong}") from None
            if door.stop is not None or now() >= door.deadline:
                raise door.late(str(function))
            subtask.progress(SubtaskState.RETURNED)

        started, begun, watched = now(), perf_counter(), state.observed
        later: Any = None

        def first() -> Any:
            nonlocal later
            door.serving = function
            result = called_or_answered(door, target, args) if watched else target(*args)
            door.serving = None
            if isinstance(result, Later):
                later = result
            elif hasattr(type(result), "__await__"):
                later = awaited_later(door, result, str(function))
            return result

        try:
            outcome = _called(first)
        except BaseException as error:
            if watched:
                report_call(door, interface, name, begun, error)
            raise
        left_at = perf_counter()
        if now() - started > NEAR:
            secure_after(function)
        if later is None:
            resolve(outcome)
        else:
            operation = _HostOperation(state, later, resolve)
            if later.ready():
                operation.complete()
            else:

                def on_cancel() -> None:
                    """Cancel the function for the guest: it ends at once."""
                    resumed = perf_counter()
                    operation.cancel()
                    subtask.progress(SubtaskState.CANCELLED_BEFORE_RETURNED)
                    report(resumed, None)

                subtask.on_cancel = on_cancel
                state.tasks.expect(operation)
        call.finish(state, subtask, views)

    return body


def _called(function: Callable[[], Any]) -> Callable[[], Any]:
    """Call a function now; return the function that returns its result, or raises an ``Err`` that it raised."""
    try:
        value = function()
    except Err as declared:
        error = declared

        def fail() -> Any:
            raise error

        return fail
    return lambda: value
