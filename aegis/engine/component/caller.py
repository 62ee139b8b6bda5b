"""Calls from the host into a component: one closure an exported function, written for its type (D4)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from struct import error as struct_error
from typing import Any

from aegis.engine.caller import IN_TIME, Style, around, make_closure
from aegis.engine.convert.keys import MOST_PARTS_KEPT, images_of, parts_of
from aegis.engine.convert.layout import SLOT, Arena
from aegis.engine.convert.lift import result_lifting_of
from aegis.engine.convert.lower import Lowering, lowering_of
from aegis.engine.convert.shape import Unfit, fit_arguments
from aegis.engine.native import lib, number, pointer
from aegis.errors import CallError
from aegis.memo import memoised
from aegis.wit.types import Borrow, Function, Own, WitType, children

__all__ = ["ComponentEntry", "ComponentFrame", "bind_component"]

_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, KeyError, struct_error, Unfit)
_FUNC = 32


class ComponentEntry:
    """One exported function under one plan: where it is, its type, and the arenas of ended stores."""

    __slots__ = ("_free", "function", "index", "lowering", "name", "types")

    def __init__(self, name: str, function: Function, index: int) -> None:
        self.name, self.function, self.index = name, function, index
        self.types = tuple(t for _, t in function.params)
        self.lowering: Lowering = lowering_of(self.types, images_of(self.types))
        self._free: list[ComponentFrame] = []

    def take_frame(self) -> ComponentFrame:
        """Return a frame, one that an ended store gave back if there is one."""
        try:
            return self._free.pop()
        except IndexError:
            return ComponentFrame(self)

    def give_back(self, frame: ComponentFrame) -> None:
        """Keep the frame of an ended store for the next one."""
        if len(self._free) < 16:
            self._free.append(frame)


class ComponentFrame:
    """Native space for one bound function: its handle, its result, and an arena for its arguments."""

    __slots__ = ("arena", "args", "buffer", "count", "entry", "func", "lower", "result", "result_pointer", "results")

    def __init__(self, entry: ComponentEntry) -> None:
        self.entry = entry
        self.buffer = (ctypes.c_char * (_FUNC + SLOT))()
        base = ctypes.addressof(self.buffer)
        self.func = pointer(base)
        self.result_pointer = pointer(base + _FUNC)
        self.result = memoryview(self.buffer).cast("B")[_FUNC:]
        self.results = number(0 if entry.function.result is None else 1)
        self.arena = Arena(entry.lowering.layout, 1)
        self.args = pointer(self.arena.base + entry.lowering.first)
        self.count = number(len(entry.types))
        self.lower = entry.lowering.make(self.arena)


def _has_handles(types: Sequence[WitType]) -> bool:
    return any(isinstance(t, (Own, Borrow)) or _has_handles(tuple(children(t))) for t in types)


_LOWER = """
            keep = []
            try:
                lower({values}keep, door)
            except UNFIT:
                lower(*fit_arguments(function, ({values})), keep, door)
"""
_LOWER_HANDLES = """
            keep = []
            handles = door.handles
            mark = len(handles.loans)
            try:
                try:
                    lower({values}keep, door)
                except CallError:
                    raise
                except UNFIT:
                    handles.take_back(mark)
                    lower(*fit_arguments(function, ({values})), keep, door)
            except BaseException:
                handles.take_back(mark)
                raise
"""
_CALL = """
            error = invoke(func, context, args, count, result_pointer, results)
            if error is not None:
                raise failed(error)
"""
_SCALAR_RESULT = """
            {words}, = unpack(result)
            value = {value}
{in_time}
            return value
"""
_RESULT = """
            door.value_left = door.value_limit
            try:
                {words}, = unpack(result)
                value = {value}
            except BaseException:
                door.handles.release_taken()
                raise
            finally:
                free(result_pointer)
                result[0] = 0
            {settle}
            if door.bytes_left < 0:
                raise door.overdrawn()
            door.handles.taken.clear()
{in_time}
            return value
"""


@memoised(MOST_PARTS_KEPT, lambda function, *_: 1 + parts_of(*(of for _, of in function.params), function.result))
def _maker(function: Function, images: tuple[type[Any], ...], style: int) -> Callable[..., Any]:
    del images
    types = tuple(t for _, t in function.params)
    names = [f"a{n}" for n in range(len(types))]
    handles = _has_handles(types)
    values = "".join(f"{name}, " for name in names)
    inner = "" if style in (Style.NESTING, Style.INNER) else "\n            begin()"
    inner += (_LOWER_HANDLES if handles else _LOWER).format(values=values) if types else ""
    inner += _CALL
    settle = "handles.settle(mark)" if handles else ""
    scope: dict[str, Any] = {}
    if function.result is None:
        inner += f"\n            {settle}\n{IN_TIME}" if settle else IN_TIME
    else:
        lifting = result_lifting_of(function.result, images_of((function.result,)))
        scope |= lifting.scope
        scope["unpack"] = lifting.unpack_from
        form = _SCALAR_RESULT if lifting.plain and not handles else _RESULT
        inner += form.format(
            words=", ".join(lifting.words), value=lifting.expressions[0], settle=settle, in_time=IN_TIME
        )
    scope |= {
        "UNFIT": _UNFIT, "CallError": CallError, "fit_arguments": fit_arguments, "function": function,
        "free": lib.wasmtime_component_val_delete,
    }  # fmt: skip
    views = "lower, result = frame.lower, frame.result; result_pointer, results = frame.result_pointer, frame.results"
    return around(style, ", ".join(names), inner, views, scope)


def bind_component(store: Any, frame: ComponentFrame, style: int) -> Callable[..., Any]:
    """Return the closure that calls the function in ``frame``; it takes the parameters by position."""
    entry = frame.entry
    types = (*entry.types, *(() if entry.function.result is None else (entry.function.result,)))
    make = _maker(entry.function, images_of(types), style)
    return make_closure(make, store, frame, style, lib.wasmtime_component_func_call)
