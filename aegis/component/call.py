"""Calls into a component: one closure an exported function, written for its type (D4).

The passage into the guest is that of core functions (:mod:`aegis.engine.call.caller`). In it: lower the arguments,
call, lift the result, call post-return. The call is unchecked, for the plan compared the core function's type with
the one that the function's type flattens to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aegis.component.conversion.layout import core_type
from aegis.component.passage import Passage, Way, passage
from aegis.component.planning.program import CanonLift, CoreItem
from aegis.component.planning.type_keys import images_of
from aegis.component.shims.fused_calls import SLOT, FusedCall, Shape, Stage, fuse
from aegis.engine.native.library import lib, number, pointer
from aegis.errors import AegisError
from aegis.wit.types import Borrow, Function, Own, WitType, children

__all__ = ["Callee", "ComponentEntry", "ComponentFrame", "bind_component", "bind_fused", "bind_guest", "numbering"]

_invoke, _export_get = lib.wasmtime_func_call_unchecked, lib.wasmtime_instance_export_get
EXTERN = 32
"""Bytes of ``wasmtime_extern_t``: the kind at 0, the item at 8."""


class Callee:
    """A lifted function under one plan: where its code is, and the context of its values."""

    __slots__ = ("context", "entering", "function", "lifted", "numbers", "raw", "slots")

    def __init__(
        self, lifted: CanonLift, function: Function, context: int, numbers: Sequence[int] | None, *, raw: bool
    ) -> None:
        self.lifted, self.function, self.context, self.numbers, self.raw = lifted, function, context, numbers, raw
        self.entering: tuple[int, ...] = ()
        """Component instances that the host enters by the call, where one of them could be entered again."""
        signature = core_type(function, lowered=False)
        self.slots = max(len(signature.params), len(signature.results), 1)

    def passage(self, style: int | None, way: Way = Way.PLAIN) -> Passage:
        """Return what makes closures; the style ``None`` stands for a call from another component instance."""
        types = [t for _, t in self.function.params]
        if self.function.result is not None:
            types.append(self.function.result)
        encoding, post = self.lifted.options.encoding, self.lifted.options.post_return is not None
        return passage(
            self.function, images_of(tuple(types)), style, encoding, post, self.raw, numbering(types, self.numbers),
            self.entering, way,
        )  # fmt: skip


def numbering(types: Iterable[WitType], numbers: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """Return the resources in ``types``: the key and the number of each, which are the same without ``numbers``."""
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
    """One exported function of the world under one plan, and the frames of ended stores."""

    __slots__ = ("_free", "_passages", "callee", "function", "name")

    def __init__(self, name: str, callee: Callee) -> None:
        self.name, self.callee, self.function = name, callee, callee.function
        self._free: list[ComponentFrame] = []
        self._passages: dict[tuple[int, Way], Passage] = {}

    def passage(self, style: int, way: Way) -> Passage:
        """Return what makes closures of ``style``."""
        made = self._passages.get((style, way))
        if made is None:
            made = self._passages[style, way] = self.callee.passage(style, way)
        return made

    def take_frame(self) -> ComponentFrame:
        """Return a frame, one that an ended store gave back if there is one."""
        try:
            return self._free.pop()
        except IndexError:
            return ComponentFrame(self.callee, self)

    def give_back(self, frame: ComponentFrame) -> None:
        """Keep the frame of an ended store for the next one."""
        frame.func = frame.cx = frame.post = None
        if len(self._free) < 16:
            self._free.append(frame)


class _Views(dict[str, memoryview]):
    """Views of a frame by their format, made when a function's code first asks for them: each uses few."""

    __slots__ = ("_block",)

    def __init__(self, block: memoryview) -> None:
        self._block = block

    def __missing__(self, form: str) -> memoryview:
        made: memoryview = self._block.cast(form)  # type: ignore[call-overload]
        self[form] = made
        return made


class ComponentFrame:
    """Native space for one bound function: its core arguments and results."""

    __slots__ = ("_core_at", "_post_at", "args", "buffer", "callee", "count", "cx", "entry", "func", "post", "views")

    func: Any
    cx: Any
    post: Any

    def __init__(self, callee: Callee, entry: ComponentEntry | None = None, slots: int = 0) -> None:
        self.callee, self.entry = callee, entry
        slots = slots or callee.slots
        size = SLOT * slots
        self.buffer = (ctypes.c_char * (size + 2 * EXTERN))()
        base = ctypes.addressof(self.buffer)
        self.args, self.count = pointer(base), number(slots)
        self._core_at, self._post_at = ((pointer(at), pointer(at + 8)) for at in (base + size, base + size + EXTERN))
        self.views = _Views(memoryview(self.buffer).cast("B")[:size])
        self.func = self.cx = self.post = None

    def bind(self, state: Any) -> ComponentFrame:
        """Look up in a store what the function needs."""
        callee = self.callee
        post = callee.lifted.options.post_return
        self.func = _item(state, callee.lifted.core, self._core_at)
        self.post = None if post is None else _item(state, post, self._post_at)
        self.cx = state.contexts[callee.context]
        return self

    def forget(self) -> None:
        """Let go of a store's own."""
        self.func = self.cx = self.post = None

    def fuse(self, store: Any, style: int) -> bool:
        """Have a store call the function through a fused module from now on; tell whether it does.

        The call that asks for it has returned: what is wrong with the module must not take its result.
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
    """Return the address of a core item in a store; an export is looked up into ``space``: an extern and its item."""
    if isinstance(item, int):
        return state.item(item)
    raw, length = state.plan.raw_names[item.name]
    if not _export_get(state.context, state.instance_pointer(item.step), raw, length, space[0]):
        raise state.plan.vanished(item.name)
    return space[1]


class FusedFrame(ComponentFrame):
    """Native space for one function of one store that is called through a fused module."""

    __slots__ = ("leaving", "stage")

    def __init__(self, frame: ComponentFrame, shape: Shape, leaving: FusedCall) -> None:
        super().__init__(frame.callee, frame.entry, shape.slots)
        self.func, self.cx, self.post, self.leaving = leaving.function, frame.cx, frame.post, leaving
        self.stage = Stage(self.cx, self.buffer, self.views["B"])


def bind_component(store: Any, frame: ComponentFrame, style: int) -> Callable[..., Any]:
    """Return the closure that calls the function in ``frame``; it takes the parameters by position."""
    assert frame.entry is not None
    plan = store.plan
    way = Way.COUNTING if plan.fuses else Way.PLAIN
    return frame.entry.passage(style | plan.metered, way).make(store, frame)  # type: ignore[no-any-return]


def bind_fused(store: Any, frame: ComponentFrame, style: int) -> Callable[..., Any] | None:
    """Return the closure that calls the function in ``frame`` through a fused module; ``None`` without one."""
    assert frame.entry is not None
    make, shape = frame.entry.passage(style | store.plan.metered, Way.FUSED)
    leaving = None if shape is None else fuse(store.state, frame.callee.lifted, frame.cx.instance, shape)
    if shape is None or leaving is None:
        return None
    return make(store, FusedFrame(frame, shape, leaving))  # type: ignore[no-any-return]


def bind_guest(state: Any, frame: ComponentFrame) -> Callable[..., Any]:
    """Return what calls the function in ``frame`` for another component instance, with values in raw form."""
    made: Callable[..., Any] = frame.callee.passage(None).make(state, frame, state.failed, _invoke)
    return made
