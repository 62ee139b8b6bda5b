"""Calls over columns into a component: the loop of :mod:`aegis.engine.call.columns` under the canonical ABI's rules.

Only functions whose values are all primitives of a fixed size qualify. Of ``canon lift``, a row then needs only two
things: lowering and lifting numbers, which the loop does, and post-return, during which the instance may not leave. The
loop records in its memory whether the function or post-return is running. :class:`_MayLeave` replaces the instance's
``may_leave`` attribute and reads that record. If the function calls the host, converting the values of the host call
may set ``may_leave`` itself; the loop then leaves the end of the row to the host and continues with the next row. If
adapters share the flag, it is a global (:mod:`aegis.component.shims.linked`), which the loop sets itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aegis.component.call import Callee, ComponentFrame
from aegis.component.traps import bad_char
from aegis.engine.call.columns import (
    BAD_RESULT,
    CALLING,
    HAS_LEFT,
    LoopShape,
    Room,
    RowLoop,
    call_rows,
    column_closure,
    loop_code,
)
from aegis.engine.compile.config import EngineConfig
from aegis.engine.native.library import lib, number
from aegis.support.buffers import SCALARS, ColumnBatch
from aegis.values import Rows
from aegis.wit.types import Function

if TYPE_CHECKING:
    from aegis.component.handles import InstanceState

__all__ = ["ComponentColumnEntry", "bind_columns", "shape_of"]

_invoke = lib.wasmtime_func_call_unchecked
_ONE, _NONE = number(1), number(0)


def shape_of(function: Function, *, post: bool, flagged: bool = False) -> LoopShape:
    """Return the row shape of a function whose values are all primitives of a fixed size."""
    kinds = [SCALARS[str(of)] for _, of in function.params]
    return LoopShape(
        tuple(kinds), None if function.result is None else SCALARS[str(function.result)], post, post and flagged
    )


class ComponentColumnEntry:
    """An exported function prepared for calls over columns: its row shape and the code of its loop."""

    __slots__ = ("callee", "code", "name", "shape")

    def __init__(self, name: Rows, callee: Callee, config: EngineConfig, *, flagged: bool = False) -> None:
        self.name, self.callee = name, callee
        self.shape = shape_of(callee.function, post=callee.lifted.options.post_return is not None, flagged=flagged)
        self.code = loop_code(self.shape, config)

    def take_frame(self) -> _ColumnFrame:
        """Return a new frame."""
        return _ColumnFrame(self)

    def give_back(self, frame: _ColumnFrame) -> None:
        """Drop the frame's references to a closed store."""
        frame.forget()


class _ColumnFrame(ComponentFrame):
    """The call frame of the function in one store."""

    __slots__ = ("columns", "shape")

    def __init__(self, entry: ComponentColumnEntry) -> None:
        super().__init__(entry.callee, entry)  # type: ignore[arg-type]
        self.columns, self.shape = entry, entry.shape


class _MayLeave:
    """Stands in for an instance's ``may_leave`` while the loop runs; evaluated when the instance calls the host."""

    __slots__ = ("_instance", "_words")

    def __init__(self, instance: InstanceState, words: memoryview) -> None:
        self._instance, self._words = instance, words

    def __bool__(self) -> bool:
        if self._words[1] != CALLING:
            return False
        self._words[1] = HAS_LEFT
        self._instance.may_leave = True
        return True


class _Rules:
    """Applies the may-enter and may-leave rules around rows, and ends the rows that the loop leaves to the host."""

    __slots__ = ("_entering", "_frame", "_leaving", "_stage", "_store")

    def __init__(self, store: Any, frame: _ColumnFrame, stage: RowLoop) -> None:
        self._store, self._frame, self._stage = store, frame, stage
        instances = frame.cx.handles.instances
        self._entering = [instances[n] for n in frame.callee.entering]
        watched = frame.shape.post and not frame.shape.flagged
        self._leaving = _MayLeave(frame.cx.instance, stage.memory.words) if watched else None

    def enter(self) -> None:
        """Mark the instances as entered, once for all rows: only guest code runs between the rows of one entry."""
        for instance in self._entering:
            instance.may_enter = False
        if self._leaving is not None:
            self._stage.memory.words[1] = CALLING
            self._frame.cx.instance.may_leave = self._leaving

    def leave(self) -> None:
        """Mark the instances as left, at the end of an entry or of a row that the loop left to the host."""
        if self._leaving is not None:
            self._frame.cx.instance.may_leave = True
        for instance in self._entering:
            instance.may_enter = True

    def left(self, status: int) -> None:
        """End a row that the loop left to the host: trap for an invalid result, or call post-return."""
        if status == BAD_RESULT:
            raise bad_char()
        instance, store, frame = self._frame.cx.instance, self._store, self._frame
        ctypes.memmove(frame.buffer, self._value(), 8)
        instance.may_leave = False
        count = _NONE if frame.shape.result is None else _ONE
        error = _invoke(store.context, frame.post, frame.args, count, store.trap_pointer)
        if error is not None or store.trap[0]:
            raise store.failed(error)
        self.leave()

    def _value(self) -> bytes:
        """Return the result that the loop saved, as the first 8 bytes of a core value."""
        return self._stage.memory.words[2:4].tobytes()


def _drive(store: Any, frame: _ColumnFrame, batch: ColumnBatch, room: Room) -> None:
    lifted, state = frame.callee.lifted, store.state
    items = [lifted.core, *([lifted.options.post_return] if frame.shape.post else ())]
    items += [frame.cx.instance.leave] if frame.shape.flagged else []
    with store.row_loops().taken(store, frame.columns, [state.extern(item) for item in items]) as stage:
        call_rows(store, stage, batch, room, _Rules(store, frame, stage))


def bind_columns(store: Any, frame: _ColumnFrame, style: int) -> Callable[..., Any]:
    """Return the closure that calls the function in ``frame`` once for each row of a batch."""
    return column_closure(style | store.plan.metered, _drive)(store, frame)  # type: ignore[no-any-return]
