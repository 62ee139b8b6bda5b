"""Calls of an asynchronous component's exports by the host: each is a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from aegis.component.tasks.callee import BoundCallee, TaskCallee
from aegis.engine.call.caller import IN_TIME, around
from aegis.wit.types import Function, Result
from aegis.wit.values import Err, Ok

__all__ = ["TaskEntry", "bind_task", "bind_turn", "unwrapped"]


class TaskEntry:
    """An exported function of the world under one plan. It needs no frames: each store binds the function anew."""

    __slots__ = ("callee", "function", "name")

    def __init__(self, name: str, callee: TaskCallee) -> None:
        self.name, self.callee, self.function = name, callee, callee.function

    def take_frame(self) -> TaskFrame:
        """Return the frame of a store."""
        return TaskFrame(self)

    def give_back(self, frame: TaskFrame) -> None:
        """Drop what the frame refers to."""
        frame.bound = None


class TaskFrame:
    """The exported function in one store."""

    __slots__ = ("bound", "entry")

    def __init__(self, entry: TaskEntry) -> None:
        self.entry = entry
        self.bound: BoundCallee | None = None


_CALL = (
    """
            try:
                value = run_task(bound, args)
            except RecursionError:
                store.spent = True
                raise
"""
    + IN_TIME
    + """
            return returned(value)
"""
)


@cache
def _maker(style: int, fallible: bool) -> Callable[..., Any]:
    scope: dict[str, Any] = {"returned": _returned if fallible else _same}
    views = "bound = frame.bound; run_task = store.state.tasks.call"
    return around(style, "*args", _CALL, views, scope)


def _same(value: Any) -> Any:
    return value


def _returned(value: Any) -> Any:
    if isinstance(value, Ok):
        return value.value
    raise value if isinstance(value, Err) else Err(value)


def unwrapped(function: Function) -> Callable[[Any], Any]:
    """Return the function that makes a call's value of the result: it raises ``Err`` for the error case."""
    return _returned if isinstance(function.result, Result) else _same


def bind_task(store: Any, entry: TaskEntry, frame: TaskFrame, style: int) -> Callable[..., Any]:
    """Return a closure that calls the function; it takes the arguments by position."""
    frame.bound = BoundCallee(entry.callee, store.state)
    maker = _maker(style | store.plan.metered, isinstance(entry.function.result, Result))
    return maker(store, frame)  # type: ignore[no-any-return]


_TURN = (
    """
            value = function()
"""
    + IN_TIME
    + """
            return value
"""
)


@cache
def _turn_maker(style: int) -> Callable[..., Any]:
    return around(style, "function", _TURN, "pass", {})


def bind_turn(store: Any, style: int) -> Callable[[Callable[[], Any]], Any]:
    """Return a closure that calls a function of the host in the guest's turn, within the limits of a call."""
    return _turn_maker(style | store.plan.metered)(store, None)  # type: ignore[no-any-return]
