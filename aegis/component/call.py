"""Calls into a component: one closure an exported function, written for its type (D4).

The passage into the guest is that of core functions (:mod:`aegis.engine.caller`). In it: lower the arguments, call,
lift the result, call post-return. The call is unchecked, for the plan compared the core function's type with the one
that the function's type flattens to.
"""

from __future__ import annotations

import ctypes
import textwrap
from collections.abc import Callable, Iterable, Sequence
from struct import error as struct_error
from typing import Any

from aegis.component.abi import MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, core_type, flat, has_handles, has_pointers, layout
from aegis.component.fit import Unfit, fit_arguments
from aegis.component.keys import images_of, parts_of
from aegis.component.lift import Lift
from aegis.component.lower import Lower, fill
from aegis.component.program import Lifted
from aegis.component.traps import trap, unaligned
from aegis.engine.caller import IN_TIME, Style, around_text, make_closure, passage_names, room_inside
from aegis.engine.native import lib, number, pointer
from aegis.errors import CallError
from aegis.memo import memoised
from aegis.wit.types import Borrow, Function, Own, Result, Tuple, WitType, children
from aegis.wit.values import Err

__all__ = [
    "MAKER_PARTS_KEPT", "Callee", "ComponentEntry", "ComponentFrame", "bind_component", "bind_guest", "has_borrows",
    "numbering",
]  # fmt: skip

_SLOT = 16
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, KeyError, struct_error, Unfit)
MAKER_PARTS_KEPT = 8192
"""Parts of types of functions whose makers are kept for the process."""
_invoke = lib.wasmtime_func_call_unchecked


def has_borrows(of: WitType) -> bool:
    """Tell whether a value can hold borrowed handles."""
    return isinstance(of, Borrow) or any(map(has_borrows, children(of)))


class Callee:
    """A lifted function under one plan: where its code is, and the context of its values."""

    __slots__ = ("context", "entering", "function", "lifted", "numbers", "raw", "slots")

    def __init__(
        self, lifted: Lifted, function: Function, context: int, numbers: Sequence[int] | None, *, raw: bool
    ) -> None:
        self.lifted, self.function, self.context, self.numbers, self.raw = lifted, function, context, numbers, raw
        self.entering: tuple[int, ...] = ()
        """Component instances that the host enters by the call, where one of them could be entered again."""
        signature = core_type(function, lowered=False)
        self.slots = max(len(signature.params), len(signature.results), 1)

    def maker(self, style: int | None) -> Callable[..., Any]:
        """Return what makes closures; ``None`` stands for a call from another component instance."""
        types = [t for _, t in self.function.params]
        if self.function.result is not None:
            types.append(self.function.result)
        encoding, post = self.lifted.options.encoding, self.lifted.options.post_return is not None
        return _maker(
            self.function, images_of(tuple(types)), style, encoding, post, self.raw, numbering(types, self.numbers),
            self.entering,
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

    __slots__ = ("_free", "_makers", "callee", "function", "name")

    def __init__(self, name: str, callee: Callee) -> None:
        self.name, self.callee, self.function = name, callee, callee.function
        self._free: list[ComponentFrame] = []
        self._makers: dict[int, Callable[..., Any]] = {}

    def maker(self, style: int) -> Callable[..., Any]:
        """Return what makes closures of ``style``."""
        made = self._makers.get(style)
        if made is None:
            made = self._makers[style] = self.callee.maker(style)
        return made

    def take_frame(self) -> ComponentFrame:
        """Return a frame, one that an ended store gave back if there is one."""
        try:
            return self._free.pop()
        except IndexError:
            return ComponentFrame(self.callee, self)

    def give_back(self, frame: ComponentFrame) -> None:
        """Keep the frame of an ended store for the next one."""
        frame.forget()
        if len(self._free) < 16:
            self._free.append(frame)


class ComponentFrame:
    """Native space for one bound function: its core arguments and results."""

    __slots__ = ("args", "buffer", "callee", "count", "cx", "entry", "func", "post", "views")

    def __init__(self, callee: Callee, entry: ComponentEntry | None = None) -> None:
        self.callee, self.entry = callee, entry
        self.buffer = (ctypes.c_char * (_SLOT * callee.slots))()
        self.args, self.count = pointer(ctypes.addressof(self.buffer)), number(callee.slots)
        block = memoryview(self.buffer).cast("B")
        self.views = {form: block.cast(form) for form in "bBhHiIqQfd"}  # type: ignore[call-overload]
        self.forget()

    def bind(self, state: Any) -> ComponentFrame:
        """Look up in a store what the function needs."""
        callee = self.callee
        self.func = state.item(callee.lifted.core)
        self.cx = state.contexts[callee.context]
        post = callee.lifted.options.post_return
        self.post = None if post is None else state.item(post)
        return self

    def forget(self) -> None:
        """Let go of a store's own."""
        self.func = self.cx = self.post = None


_ONE, _NONE = number(1), number(0)
_MANY_LINES = 12
"""Lines of the first phase from which they are not written twice."""


def _indented(lines: list[str], levels: int) -> str:
    return "".join("    " * levels + line + "\n" for line in lines)


@memoised(MAKER_PARTS_KEPT, lambda function, *_: 1 + parts_of(*(t for _, t in function.params), function.result))
def _maker(
    function: Function, images: tuple[type[Any], ...], style: int | None, encoding: str, post: bool, raw: bool,
    numbers: tuple[tuple[int, int], ...], entering: tuple[int, ...],
) -> Callable[..., Any]:  # fmt: skip
    del images
    lower = Lower(encoding, raw=raw, numbers=numbers)
    _lower_arguments(function, lower)
    lift = Lift(encoding, raw=raw, numbers=numbers, beside=lower)
    reading = _lift_result(function, lift, lower)
    lower.uses(
        UNFIT=_UNFIT, CallError=CallError, fit_arguments=fit_arguments, function=function, abi_trap=trap,
        unaligned=unaligned, Err=Err, ONE=_ONE if function.result is not None else _NONE,
    )  # fmt: skip
    return _make(function, lower, reading, post=post, raw=raw, style=style, entering=entering)


def _lower_arguments(function: Function, lower: Lower) -> None:
    """Write both phases of lowering the parameters ``a0``, ``a1``, …"""
    types = tuple(t for _, t in function.params)
    if sum(len(flat(t)) for t in types) <= MAX_FLAT_PARAMS:
        slot = 0
        for n, of in enumerate(types):
            slot = lower.flat_value(of, f"a{n}", slot)
        return
    whole = Tuple(types)
    size, view = layout(whole).size, lower.view("I")
    lower.uses(fill=fill)
    lower.say(f"whole = ({''.join(f'a{n}, ' for n in range(len(types)))})")
    lower.packed(whole, "whole")
    lower.later += [
        f"at = cx.realloc({layout(whole).align}, {size})",
        "fill(cx, block, holes)",
        f"cx.memory.view[at : at + {size}] = block",
        f"{view}[0] = at",
    ]


def _lift_result(function: Function, lift: Lift, lower: Lower) -> list[str]:
    """Return the lines that read the result into ``value``."""
    of = function.result
    if of is None:
        return ["value = None"]
    lift.outward = not lift.raw
    if isinstance(of, Result) and not lift.raw:
        lift.top = of
    plain = isinstance(of, str) and of != "string"
    lines = [] if plain else ["door.value_left = door.value_limit"]
    if len(flat(of)) <= MAX_FLAT_RESULTS:
        word = lift.fresh("w")
        lines.append(f"{word} = {lower.view(lift.flat_formats(of)[0])}[0]")
        return [*lines, f"value = {lift.flat_value(of, [word])}"]
    size, align = layout(of).size, layout(of).align
    unpack, names = lift.unpacked(of, "memory.view, at", "unpack_from")
    lines.append(f"at = {lower.view('I')}[0]")
    if align > 1:
        lines.append(f"if at & {align - 1}: raise unaligned()")
    return [
        *lines,
        f"if at + {size} > len(memory.view): memory.need(at + {size})",
        f"{', '.join(names)}, = {unpack}",
        f"value = {lift.value(of, list(names))}",
    ]


_CHECKED = """try:
{first}except CallError: raise
except UNFIT:
{take_back}    {names}= fit_arguments(function, ({names}))
{again}"""
_LOOP = """for fitted in (False, True):
    try:
{first}        break
    except CallError: raise
    except UNFIT:
        if fitted: raise
{take_back}        {names}= fit_arguments(function, ({names}))
"""
_INVOKE = """error = invoke(context, func, args, count, trapped)
if error is not None or trap[0]:
    raise failed(error)
"""
_POST = """instance.may_leave = False
error = invoke(context, post, args, ONE, trapped)
if error is not None or trap[0]:
    raise failed(error)
instance.may_leave = True
"""
_ENTER = "instances = cx.handles.instances\nfor entered in {}: instances[entered].may_enter = False\n"
_LEAVE = "for entered in {}: instances[entered].may_enter = True\n"
_SPENT = """try:
{}except RecursionError:
    store.spent = True
    raise
"""
"""Without room before the guest was entered nothing has happened; later the guest is in an unknown state."""
_BARE = """
def make(state, frame, failed, invoke):
    context, trapped, trap, door = state.context, state.trap_pointer, state.trap, state.door
    func, args, count = frame.func, frame.args, frame.count
    {views}
    def call({params}):
        room()
{body}
    return call
"""


def _make(
    function: Function, lower: Lower, reading: list[str], *, post: bool, raw: bool, style: int | None,
    entering: tuple[int, ...],
) -> Callable[..., Any]:  # fmt: skip
    types = [t for _, t in function.params]
    names = [f"a{n}" for n in range(len(types))]
    borrows = any(map(has_borrows, types))
    owns = function.result is not None and has_handles(function.result)
    plain = all(isinstance(t, str) and t != "string" for t in (*types, *([function.result] if function.result else ())))
    # A guest that calls Python starts its budget in the passage.
    body = "" if plain or raw or style in Style.NESTINGS else "begin()\n"
    if any(map(has_pointers, types)):
        body += "door.lower_left = door.lower_limit\n"
    if borrows:
        body += "outer = cx.task; cx.task = task = [0]\n"
    body += _lowered(lower, names, handles=any(map(has_handles, types)), raw=raw)
    inside = _indented(lower.later, 0) + (_ENTER.format(entering) if entering else "") + _INVOKE
    ending = _indented(reading, 0)
    if borrows:
        ending += "cx.task = outer\nif task[0]: raise abi_trap('borrow handles still remain at the end of the call')\n"
    ending += _POST if post else ""
    ending += _LEAVE.format(entering) if entering else ""
    if not raw:
        ending += textwrap.dedent(IN_TIME)
        if isinstance(function.result, Result):
            ending += "if value.__class__ is Declared: raise Err(value.payload)\n"
    if owns and not raw:
        guarded = textwrap.indent(ending, "    ")
        ending = f"try:\n{guarded}except BaseException:\n    cx.handles.release_taken()\n    raise\n"
        ending += "cx.handles.taken.clear()\n"
    inside += ending + "return value\n"
    body += inside if raw else _SPENT.format(textwrap.indent(inside, "    "))
    views = "; ".join(["cx, post = frame.cx, frame.post", *(f"v{f} = frame.views[{f!r}]" for f in lower.formats)])
    views += "; instance = cx.instance" if post else ""
    views += "; memory = cx.memory" if "memory." in body else ""
    views += "; realloc = cx.realloc" if " realloc(" in body else ""
    if style is None:
        lower.uses(room=room_inside)
        text = _BARE.format(views=views, params=", ".join(names), body=textwrap.indent(body, "        "))
        return lower.module(text)["make"]  # type: ignore[no-any-return]
    text = around_text(style, ", ".join(names), "\n" + textwrap.indent(body, "            "), views)
    lower.uses(**passage_names())
    return lower.module(text)["make"]  # type: ignore[no-any-return]


def _lowered(lower: Lower, names: list[str], *, handles: bool, raw: bool) -> str:
    """Return the text of the first phase of lowering."""
    first = lower.lines
    if not first or raw:
        return _indented(first, 0)
    parameters = "".join(f"{name}, " for name in names)
    take_back = "    cx.handles.take_back()\n" if handles else ""
    if len(first) > _MANY_LINES:
        text = _LOOP.format(first=_indented(first, 2), names=parameters, take_back=textwrap.indent(take_back, "    "))
    else:
        text = _CHECKED.format(
            first=_indented(first, 1), again=_indented(first, 1), names=parameters, take_back=take_back
        )
    if handles:
        inside = textwrap.indent(text, "    ")
        text = f"try:\n{inside}except BaseException:\n    cx.handles.take_back()\n    raise\ncx.handles.lowered()\n"
    return text


def bind_component(store: Any, frame: ComponentFrame, style: int) -> Callable[..., Any]:
    """Return the closure that calls the function in ``frame``; it takes the parameters by position."""
    assert frame.entry is not None
    return make_closure(frame.entry.maker(style | store.plan.metered), store, frame, style, _invoke)


def bind_guest(state: Any, frame: ComponentFrame) -> Callable[..., Any]:
    """Return what calls the function in ``frame`` for another component instance, with values in raw form."""
    made: Callable[..., Any] = frame.callee.maker(None)(state, frame, state.failed, _invoke)
    return made
