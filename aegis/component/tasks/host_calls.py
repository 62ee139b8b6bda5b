"""Calls of host functions by asynchronous components, which may complete later.

The steps are those of :mod:`aegis.component.trampoline`. A host function returns its result, an awaitable, or a
:class:`Later`; the guest goes on if it called asynchronously, and other tasks run meanwhile otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

from aegis.component.planning.world import ImportedFunction
from aegis.component.tasks.subtask import LoweredCall, Subtask, SubtaskState, views_at
from aegis.component.trampoline import Overlap
from aegis.engine.call.classify import host_failure
from aegis.engine.call.trampoline import report_call
from aegis.engine.threads.await_result import awaited_later
from aegis.errors import CallError, HostError
from aegis.values import Interest
from aegis.wit.types import Result
from aegis.wit.values import Err

__all__ = ["Later", "is_later", "overlapping"]


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


def is_later(of: Any) -> bool:
    """Return whether objects of a class are :class:`Later`; a check by ``isinstance`` takes 20 µs in each call."""
    return _is_later(of)


@lru_cache(maxsize=256)
def _is_later(of: Hashable) -> bool:
    return isinstance(of, type) and issubclass(of, Later)


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


def overlapping(call: LoweredCall, function: ImportedFunction) -> Overlap:
    """Return how calls of a function that is async in WIT go on while the host function's result is pending."""
    fallible = isinstance(function.type.result, Result)
    interface, name, now = function.interface or "(world)", function.name, time.monotonic

    def pending(door: Any, result: Any) -> Any:
        """Return the operation for a result that is not there yet, ``None`` for a value."""
        of: Any = type(result)
        if hasattr(of, "__await__"):
            return awaited_later(door, result, str(function))
        return result if _is_later(of) else None

    def wait(state: Any, address: int, later: Later, lent: int, begun: float) -> None:
        """Complete the call when ``later`` is; return to the guest meanwhile if it called asynchronously."""
        door, handles, watched, left_at = state.door, state.handles, state.observed, perf_counter()
        words, views, subtask = call.words(state, address), views_at(address), Subtask()
        give = call.returner(state.contexts[call.context], words, views)
        subtask.start(handles, tuple, lent)

        def resolve(outcome: Callable[[], Any]) -> None:
            """Complete the call; ``outcome`` returns the function's result or raises its exception."""
            resumed = perf_counter()
            try:
                complete(outcome)
            except BaseException as error:
                report(resumed, error)
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

        def on_cancel() -> None:
            """Cancel the function for the guest: it ends at once."""
            resumed = perf_counter()
            operation.cancel()
            subtask.progress(SubtaskState.CANCELLED_BEFORE_RETURNED)
            report(resumed, None)

        operation = _HostOperation(state, later, resolve)
        if later.ready():
            operation.complete()
        else:
            subtask.on_cancel = on_cancel
            state.tasks.expect(operation)
        call.finish(state, subtask, views)

    return Overlap(call.is_async, pending, wait)
