"""Source of calls into a component: lower the arguments, call, lift the result, call post-return ("canon lift").

The generator writes a call in one of three ways. A plain call enters the guest for each of these steps. A counting call
does the same, and has itself replaced after a number of calls. The fused call that replaces it enters the guest only
once (:mod:`aegis.component.shims.fused_calls`), but handles values that are too large for that like a plain call.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from itertools import count
from struct import error as struct_error
from typing import Any, NamedTuple

from aegis.component.conversion.blocks import fill
from aegis.component.conversion.coerce import ConversionError, fit_arguments
from aegis.component.conversion.layout import (
    MAX_FLAT_PARAMS,
    MAX_FLAT_RESULTS,
    core_type,
    flat,
    has_handles,
    has_pointers,
    layout,
)
from aegis.component.conversion.lift import Lift
from aegis.component.conversion.lower import FlatBlock, Lower
from aegis.component.conversion.lowered_text import lowered_text
from aegis.component.planning.type_keys import parts_of
from aegis.component.shims.fused_calls import VECTOR, Block, Shape, misplaced, pieces
from aegis.component.traps import trap, unaligned
from aegis.engine.call.caller import IN_TIME, Style, around_names, around_text, room_inside
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.native.library import number
from aegis.errors import CallError
from aegis.support.bounded_cache import memoised
from aegis.wit.types import Borrow, Function, List, Result, Tuple, WitType, children
from aegis.wit.values import Err

__all__ = ["MAKER_PARTS_KEPT", "CallMaker", "Way", "call_maker", "has_borrows"]

MAKER_PARTS_KEPT = 8192
"""Parts of the types of functions whose makers are cached for the process."""
_CALLS_COUNTED = 256
"""Calls after which a function gets a fused module. Compiling it, once for the process, takes as long as some thousand
fused calls save; instantiating it takes as long as twenty calls save."""
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, KeyError, struct_error, ConversionError)
_ONE, _NONE = number(1), number(0)
_ABSENT = 0xFFFF_FFFF
"""The size that marks a block which the fused module need not place."""


class Way(IntEnum):
    """The way in which a call is written."""

    PLAIN = auto()
    COUNTING = auto()
    FUSED = auto()


class CallMaker(NamedTuple):
    """The function that creates the closures of a call, and the shape of its fused module, if one saves time."""

    make: Callable[..., Any]
    shape: Shape | None


def has_borrows(of: WitType) -> bool:
    """Return whether values of a type can contain borrowed handles."""
    return isinstance(of, Borrow) or any(map(has_borrows, children(of)))


@memoised(MAKER_PARTS_KEPT, lambda function, *_: 1 + parts_of(*(t for _, t in function.params), function.result))
def call_maker(
    function: Function, images: tuple[type[Any], ...], style: int | None, encoding: str, post: bool, raw: bool,
    numbers: tuple[tuple[int, int], ...], entering: tuple[int, ...], way: Way,
) -> CallMaker:  # fmt: skip
    """Generate the call of a function; ``style`` is ``None`` for a call from another component instance.

    ``images`` are the Python classes of its types, which are part of the cache key. ``numbers`` are the resources in
    these types. ``entering`` are the component instances that the call enters, if one of them can be re-entered.
    """
    del images
    lower = Lower(encoding, raw=raw, numbers=numbers)
    _lower_arguments(function, lower)
    shape = None if raw or way is Way.PLAIN else _shape(function, lower, post)
    if shape is None:
        way = Way.PLAIN
    else:
        lower.view("I")
    reading = _lift_result(function, Lift(encoding, raw=raw, numbers=numbers, beside=lower), lower)
    staged: list[str] = []
    if way is Way.FUSED and shape is not None and shape.size:
        staged = _lift_staged(function, Lift(encoding, raw=raw, numbers=numbers, beside=lower), shape)
    lower.uses(
        UNFIT=_UNFIT, CallError=CallError, fit_arguments=fit_arguments, function=function, abi_trap=trap,
        unaligned=unaligned, Err=Err, ONE=_ONE if function.result is not None else _NONE, misplaced=misplaced,
    )  # fmt: skip
    text = _Text(function, lower, reading, staged, shape if way is Way.FUSED else None, post, raw, style, entering)
    return CallMaker(text.compiled(way), shape)


# -- its parts -------------------------------------------------------------------------------------


def _lower_arguments(function: Function, lower: Lower) -> None:
    """Write both phases of lowering the parameters ``a0``, ``a1``, …"""
    types = tuple(t for _, t in function.params)
    if not _spilled(types):
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


def _spilled(types: Sequence[WitType]) -> bool:
    return sum(len(flat(t)) for t in types) > MAX_FLAT_PARAMS


def _in_memory(function: Function) -> bool:
    return function.result is not None and len(flat(function.result)) > MAX_FLAT_RESULTS


def _prepared(function: Function, lift: Lift) -> list[str]:
    """Configure a lift for the result of a function; return the lines that precede the value."""
    of = function.result
    lift.outward = not lift.raw
    if isinstance(of, Result) and not lift.raw:
        lift.top = of
    plain = isinstance(of, str) and of != "string"
    return [] if plain else ["door.value_left = door.value_limit"]


def _lift_result(function: Function, lift: Lift, lower: Lower) -> list[str]:
    """Return the lines that read the result into ``value``."""
    of = function.result
    if of is None:
        return ["value = None"]
    lines = _prepared(function, lift)
    if not _in_memory(function):
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


def _lift_staged(function: Function, lift: Lift, shape: Shape) -> list[str]:
    """Return the lines that read a result from the vectors of a fused module into ``value``."""
    of = function.result
    assert of is not None
    lines = _prepared(function, lift)
    lift.cx, lift.staged = "stage", (shape.piece_at(n) for n in count())
    if of == "string" or isinstance(of, List):
        return [*lines, f"value = {lift.value(of, ['0', f'vI[{2 * RAW_VALUE_BYTES // 4 + 1}]'])}"]
    unpack, names = lift.unpacked(of, f"stage.view, {2 * RAW_VALUE_BYTES}", "unpack_from")
    return [*lines, f"{', '.join(names)}, = {unpack}", f"value = {lift.value(of, list(names))}"]


def _shape(function: Function, lower: Lower, post: bool) -> Shape | None:
    """Return the shape of the fused module for a function; ``None`` if it would not save an entry into the guest."""
    signature, types = core_type(function, lowered=False), tuple(t for _, t in function.params)
    placed = [_block(b, signature.params, lower.encoding) for b in lower.blocks]
    blocks = () if _spilled(types) or len(placed) > 4 or None in placed else tuple(b for b in placed if b is not None)
    result = signature.results[0] if signature.results else None
    if not _in_memory(function):
        shape = Shape(signature.params, result, blocks, 0, 1, (), post)
    else:
        assert function.result is not None
        read, of = pieces(function.result, lower.encoding), layout(function.result)
        if read is None or not post:
            shape = Shape(signature.params, result, blocks, 0, 1, (), False)
        else:
            shape = Shape(signature.params, result, blocks, of.size, of.align, read, True)
    return shape if shape.blocks or shape.post else None


def _block(of: FlatBlock, params: Sequence[str], encoding: str) -> Block | None:
    """Return the block of an argument for a fused module; ``None`` if it contains pointers or must be encoded."""
    if of.of == "string" and encoding != "utf8":
        return None
    if isinstance(of.of, List):
        if has_pointers(of.of.element):
            return None
        return Block(of.slot, params[of.slot], layout(of.of.element).align, of.optional)
    return Block(of.slot, params[of.slot], 1, of.optional)


# -- the text of a call ----------------------------------------------------------------------------------

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
_FUSED = """instance.may_leave = leaving
error = invoke(context, func, args, count, trapped)
if error is not None or trap[0]:
    raise failed(error)
instance.may_leave = True
status = vI[4]
if status > 1: raise misplaced(state, status)
"""
_COUNTED = """nonlocal calls_left, replaced
if replaced: raise Elsewhere
calls_left -= 1
"""
_REPLACED = """if calls_left < 0:
    calls_left, replaced = FOREVER, frame.fuse(store, {style})
"""
_ENTER = "instances = cx.handles.instances\nfor entered in {}: instances[entered].may_enter = False\n"
_LEAVE = "for entered in {}: instances[entered].may_enter = True\n"
_SPENT = """try:
{}except RecursionError:
    store.spent = True
    raise
"""
"""A ``RecursionError`` from here on leaves the guest in an unknown state; before, the guest was not entered."""
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


def _indented(lines: Sequence[str], levels: int) -> str:
    return "".join("    " * levels + line + "\n" for line in lines)


class _Text(NamedTuple):
    """The parts of a call, from which :meth:`compiled` assembles its source."""

    function: Function
    lower: Lower
    reading: list[str]
    staged: list[str]
    shape: Shape | None
    post: bool
    raw: bool
    style: int | None
    entering: tuple[int, ...]

    def compiled(self, way: Way) -> Callable[..., Any]:
        """Return the function that creates closures."""
        body = self._body(way)
        names = ", ".join(f"a{n}" for n in range(len(self.function.params)))
        views = self._views(body, way)
        if self.style is None:
            self.lower.uses(room=room_inside)
            text = _BARE.format(views=views, params=names, body=textwrap.indent(body, "        "))
        else:
            text = around_text(self.style, names, "\n" + textwrap.indent(body, "            "), views)
            self.lower.uses(**around_names(self.style), FOREVER=1 << 62)
        return self.lower.module(text)["make"]  # type: ignore[no-any-return]

    def _views(self, body: str, way: Way) -> str:
        """Return the line that binds the names that the body uses."""
        views = [
            "cx, post = frame.cx, frame.post",
            *(f"v{f} = frame.views[{f!r}]" for f in self.lower.formats),
        ]
        if "instance." in body:
            views.append("instance = cx.instance")
        if "memory." in body:
            views.append("memory = cx.memory")
        if " realloc(" in body:
            views.append("realloc = cx.realloc")
        if way is Way.COUNTING:
            views.append(f"calls_left = {_CALLS_COUNTED}; replaced = False")
        if way is Way.FUSED:
            views.append(
                "state = store.state; leaving = frame.leaving; stage = frame.stage; block_view = frame.views['B']"
            )
        return "; ".join(views)

    def _body(self, way: Way) -> str:
        function, lower = self.function, self.lower
        types = [t for _, t in function.params]
        every = (*types, *([function.result] if function.result is not None else ()))
        plain = all(isinstance(t, str) and t != "string" for t in every)
        # For a guest that can call Python, around_text() writes the call of begin().
        body = _COUNTED if way is Way.COUNTING else ""
        body += "" if plain or self.raw or self.style in Style.NESTINGS else "begin()\n"
        if any(map(has_pointers, types)):
            body += "door.guest_bytes_left = door.guest_bytes_limit\n"
        if any(map(has_borrows, types)):
            body += "outer = cx.task; cx.task = task = [0]\n"
        names = [f"a{n}" for n in range(len(types))]
        body += lowered_text(lower, names, handles=any(map(has_handles, types)), raw=self.raw)
        inside = self._entered() + self._ended()
        if way is Way.COUNTING:
            inside += _REPLACED.format(style=self.style)
        inside += "return value\n"
        return body + (inside if self.raw else _SPENT.format(textwrap.indent(inside, "    ")))

    def _entered(self) -> str:
        """Return the text of the second phase of lowering, and of the call."""
        later = _indented(self.lower.later, 0)
        enter = _ENTER.format(self.entering) if self.entering else ""
        if self.shape is None:
            return later + enter + _INVOKE
        return (_staged(self.lower, self.shape, later) if self.shape.blocks else later) + enter + _FUSED

    def _ended(self) -> str:
        """Return the text after the call, up to returning the result."""
        function = self.function
        returned = _POST if self.post else ""
        if any(has_borrows(t) for _, t in function.params):
            returned = (
                "cx.task = outer\nif task[0]: raise abi_trap('borrow handles still remain at the end of the call')\n"
                + returned
            )
        ending = _indented(self.reading, 0)
        if self.shape is None or not self.shape.post:
            ending += returned
        elif self.staged:
            ordinary = textwrap.indent(ending, "    ")
            ending = f"if status:\n{ordinary}else:\n{_indented(self.staged, 1)}"
            ending += _unless_done(returned)
        else:
            ending += _unless_done(returned)
        ending += _LEAVE.format(self.entering) if self.entering else ""
        if not self.raw:
            ending += textwrap.dedent(IN_TIME)
            if isinstance(function.result, Result):
                ending += "if value.__class__ is Declared: raise Err(value.payload)\n"
        if function.result is not None and has_handles(function.result) and not self.raw:
            guarded = textwrap.indent(ending, "    ")
            ending = f"try:\n{guarded}except BaseException:\n    cx.handles.release_taken()\n    raise\n"
            ending += "cx.handles.taken.clear()\n"
        return ending


def _unless_done(returned: str) -> str:
    """Return the text that calls post-return unless the fused module has done so."""
    before, post, _ = returned.partition(_POST)
    return before + "if status:\n" + textwrap.indent(post, "    ")


def _staged(lower: Lower, shape: Shape, later: str) -> str:
    """Return the text that passes blocks to a fused module, or places them in memory if one is too large for it."""
    most = shape.block_vectors * VECTOR
    sizes, fits, lines = [], [], []
    for n, block in enumerate(lower.blocks):
        bytes_like = block.of == "string" or (isinstance(block.of, List) and block.of.element == "u8")
        data = block.name if bytes_like else f"{block.name}[0]"
        length = "size" if bytes_like else f"{block.name}[2]"
        at, size, slot = shape.block_at(n), f"vI[{4 * shape.size_slot(n)}]", 4 * (block.slot + 1)
        sizes.append(size)
        fits.append(f"{block.name} is None or len({data}) <= {most}" if block.optional else f"len({data}) <= {most}")
        given = [
            f"{size} = size = len({data}); vI[{slot}] = {length}",
            f"block_view[{at} : {at} + size] = {data}",
            "door.bytes_left = left = door.bytes_left - size; door.bytes_out += size",
            "if left < door.check_below: door.check()",
        ]
        if block.optional:
            given = [f"if {block.name} is None: {size} = {_ABSENT}", "else:", *(f"    {line}" for line in given)]
        lines += given
    condition = " and ".join(f"({one})" for one in fits)
    ordinary = textwrap.indent(later, "    ") + f"    {' = '.join(sizes)} = {_ABSENT}\n"
    return f"if {condition}:\n{_indented(lines, 1)}else:\n{ordinary}"
