"""Calls into a component: one closure for each exported function, generated for its type (D4).

The steps around the call are those of core functions (:mod:`aegis.engine.call.caller`). The closure lowers the
arguments, calls, lifts the result, and calls post-return. The call is unchecked, because the plan has compared the core
function's type with the flattened type of the component function.

The way of an argument: :func:`bind_component` makes the closure from the source that :mod:`.call_source` writes; that
source has the code of :mod:`.conversion.lower`, which stores flat values itself and calls :mod:`.conversion.blocks` for
texts and lists; the blocks get guest memory from ``realloc`` of :mod:`.state`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aegis.component.call_source import CallMaker, Way, call_maker
from aegis.component.conversion.layout import core_type
from aegis.component.planning.program import CanonLift, CoreItem
from aegis.component.planning.type_keys import images_of
from aegis.component.shims.fused_calls import FusedCall, Shape, Stage, fuse
from aegis.component.state import EXTERN
from aegis.component.views import Views
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.native.library import lib, number, pointer_into
from aegis.errors import AegisError
from aegis.wit.types import Borrow, Function, Own, WitType, children

__all__ = ["Callee", "ComponentEntry", "ComponentFrame", "bind_component", "bind_fused", "bind_guest", "numbering"]

_invoke, _export_get = lib.wasmtime_func_call_unchecked, lib.wasmtime_instance_export_get


class Callee:
    """A lifted function under one plan: its core function, its type, and the context for its values."""

    __slots__ = ("context", "entering", "function", "lifted", "numbers", "raw", "slots")

    def __init__(
        self, lifted: CanonLift, function: Function, context: int, numbers: Sequence[int] | None, *, raw: bool
    ) -> None:
        self.lifted, self.function, self.context, self.numbers, self.raw = lifted, function, context, numbers, raw
        self.entering: tuple[int, ...] = ()
        """Component instances that a call by the host enters; empty if no instance can be re-entered."""
        signature = core_type(function, lowered=False)
        self.slots = max(len(signature.params), len(signature.results), 1)

    def maker(self, style: int | None, way: Way = Way.PLAIN) -> CallMaker:
        """Return the maker for ``style``; ``None`` is the style of calls from another component instance."""
        types = [t for _, t in self.function.params]
        if self.function.result is not None:
            types.append(self.function.result)
        encoding, post = self.lifted.options.encoding, self.lifted.options.post_return is not None
        return call_maker(
            self.function, images_of(tuple(types)), style, encoding, post, self.raw, numbering(types, self.numbers),
            self.entering, way,
        )  # fmt: skip


def numbering(types: Iterable[WitType], numbers: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """Return key and number of each resource in ``types``; without ``numbers``, the number equals the key."""
    found: dict[int, int] = {}
    left = list(types)
    while left:
        of = left.pop()
        if isinstance(of, (Own, Borrow)):
            key = of.resource.key
            found[key] = key if numbers is None else numbers[key]
        left += children(of)
    return tuple(sorted(found.items()))


class ComponentEntry:
    """An exported function of the world under one plan, with the cached frames of closed stores."""

    __slots__ = ("_free", "_makers", "callee", "function", "name")

    def __init__(self, name: str, callee: Callee) -> None:
        self.name, self.callee, self.function = name, callee, callee.function
        self._free: list[ComponentFrame] = []
        self._makers: dict[tuple[int, Way], CallMaker] = {}

    def maker(self, style: int, way: Way) -> CallMaker:
        """Return the maker for ``style`` and ``way``, generated once."""
        made = self._makers.get((style, way))
        if made is None:
            made = self._makers[style, way] = self.callee.maker(style, way)
        return made

    def take_frame(self) -> ComponentFrame:
        """Return a frame, reusing one of a closed store if possible."""
        try:
            return self._free.pop()
        except IndexError:
            return ComponentFrame(self.callee, self)

    def give_back(self, frame: ComponentFrame) -> None:
        """Cache the frame of a closed store for the next store."""
        frame.func = frame.cx = frame.post = None
        if len(self._free) < 16:
            self._free.append(frame)


class ComponentFrame:
    """The native buffer of one bound function: its core arguments and results, and its looked-up core items."""

    __slots__ = ("_core_at", "_post_at", "args", "buffer", "callee", "count", "cx", "entry", "func", "post", "views")

    func: Any
    cx: Any
    post: Any

    def __init__(self, callee: Callee, entry: ComponentEntry | None = None, slots: int = 0) -> None:
        self.callee, self.entry = callee, entry
        slots = slots or callee.slots
        size = RAW_VALUE_BYTES * slots
        self.buffer = (ctypes.c_char * (size + 2 * EXTERN))()
        self.args, self.count = pointer_into(self.buffer), number(slots)
        self._core_at, self._post_at = (
            (pointer_into(self.buffer, at), pointer_into(self.buffer, at + 8)) for at in (size, size + EXTERN)
        )
        self.views = Views(memoryview(self.buffer).cast("B")[:size])
        self.func = self.cx = self.post = None

    def bind(self, state: Any) -> ComponentFrame:
        """Look up the function, its post-return function and its context in a store."""
        callee = self.callee
        post = callee.lifted.options.post_return
        self.func = _item(state, callee.lifted.core, self._core_at)
        self.post = None if post is None else _item(state, post, self._post_at)
        self.cx = state.contexts[callee.context]
        return self

    def forget(self) -> None:
        """Drop the references to items of a store."""
        self.func = self.cx = self.post = None

    def fuse(self, store: Any, style: int) -> bool:
        """Replace the store's closure for the function by one with a fused module; return whether that succeeded.

        This runs after a call has returned. A failure to compile or instantiate the fused module must not discard the
        result of that call, so it is ignored.
        """
        try:
            made = bind_fused(store, self, style)
        except AegisError:
            return False
        if made is not None:
            assert self.entry is not None
            store.replace(self.entry.name, style, made)
        return made is not None


def _item(state: Any, item: CoreItem, space: tuple[Any, Any]) -> Any:
    """Return the address of a core item in a store; an export is written to ``space`` (extern, item)."""
    if isinstance(item, int):
        return state.item(item)
    raw, length = state.plan.raw_names[item.name]
    if not _export_get(state.context, state.instance_pointer(item.step), raw, length, space[0]):
        raise state.plan.missing_export(item.name)
    return space[1]


class FusedFrame(ComponentFrame):
    """The native buffer of a function that is called through a fused module, bound to one store."""

    __slots__ = ("leaving", "stage")

    def __init__(self, frame: ComponentFrame, shape: Shape, leaving: FusedCall) -> None:
        super().__init__(frame.callee, frame.entry, shape.slots)
        self.func, self.cx, self.post, self.leaving = leaving.function, frame.cx, frame.post, leaving
        self.stage = Stage(self.cx, self.buffer, self.views["B"])


def bind_component(store: Any, frame: ComponentFrame, style: int) -> Callable[..., Any]:
    """Return a closure that calls the function in ``frame``; it takes the arguments by position."""
    assert frame.entry is not None
    plan = store.plan
    way = Way.COUNTING if plan.fuses else Way.PLAIN
    return frame.entry.maker(style | plan.metered, way).make(store, frame)  # type: ignore[no-any-return]


def bind_fused(store: Any, frame: ComponentFrame, style: int) -> Callable[..., Any] | None:
    """Return a closure that calls the function through a fused module; ``None`` if there can be none."""
    assert frame.entry is not None
    make, shape = frame.entry.maker(style | store.plan.metered, Way.FUSED)
    leaving = None if shape is None else fuse(store.state, frame.callee.lifted, frame.cx.instance, shape)
    if shape is None or leaving is None:
        return None
    return make(store, FusedFrame(frame, shape, leaving))  # type: ignore[no-any-return]


def bind_guest(state: Any, frame: ComponentFrame) -> Callable[..., Any]:
    """Return a closure that calls the function in ``frame`` for another component instance, with values in raw form."""
    made: Callable[..., Any] = frame.callee.maker(None).make(state, frame, state.failed, _invoke)
    return made
