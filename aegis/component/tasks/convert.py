"""Converters of arguments, results and stream elements, generated for their types.

The source of a synchronous call (:mod:`aegis.component.call_source`) converts and calls in one function. A task does so
at different times: arguments are lowered when it starts, the result is lifted when the guest calls ``task.return``, and
elements are copied when both ends of a stream are there. Each converter here is one function for one of these moments.

A view of core values is a mapping from formats to memoryviews, as :attr:`.ComponentFrame.views` is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple

from aegis.component.conversion.blocks import fill, store_at
from aegis.component.conversion.coerce import ConversionError, fit, fit_arguments
from aegis.component.conversion.layout import (
    FORMATS,
    MAX_FLAT_PARAMS,
    flat,
    has_handles,
    layout,
)
from aegis.component.conversion.lift import Lift
from aegis.component.conversion.lower import Lower
from aegis.component.conversion.lowered_text import lowered_text
from aegis.component.traps import unaligned
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.errors import CallError
from aegis.wit.results import as_result
from aegis.wit.types import Function, List, Result, Tuple, WitType, has_ends

__all__ = [
    "Elements",
    "HostElements",
    "LiftedValues",
    "Numbers",
    "elements",
    "lift_values",
    "lower_arguments",
    "lower_result",
]

Numbers = tuple[tuple[int, int], ...]
"""Pairs of a resource type's key and its number in the program."""
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, KeyError, struct_error, ConversionError)
_NUMBERS = frozenset(FORMATS) - {"bool", "char"}


def _indented(text: str, levels: int = 1) -> str:
    return textwrap.indent(text, "    " * levels)


def _begin(body: str) -> str:
    """Return the text that prepares the lowering in ``body``."""
    names = "memory = cx.memory\n" if "memory." in body.replace("cx.memory.", "") else ""
    names += "realloc = cx.realloc\n" if " realloc(" in body else ""
    return f"door = cx.door\n{names}door.guest_bytes_left = door.guest_bytes_limit\n"


def lower_arguments(
    function: Function, encoding: str, numbers: Numbers, *, raw: bool
) -> Callable[[Any, Any, tuple[Any, ...]], None]:
    """Return a function that lowers arguments: it takes the context, the views of the core values, and the values."""
    types = tuple(t for _, t in function.params)
    lower = Lower(encoding, raw=raw, numbers=numbers)
    if sum(len(flat(t)) for t in types) > MAX_FLAT_PARAMS:
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
    else:
        slot = 0
        for n, of in enumerate(types):
            slot = lower.flat_value(of, f"a{n}", slot)
    names = [f"a{n}" for n in range(len(types))]
    lower.uses(UNFIT=_UNFIT, CallError=CallError, fit_arguments=fit_arguments, function=function)
    first = lowered_text(lower, names, handles=any(map(has_handles, types)), raw=raw, ends=any(map(has_ends, types)))
    unpack = f"{', '.join(names)}, = args\n" if names else ""
    views = "".join(f"v{form} = views[{form!r}]\n" for form in lower.formats)
    body = first + "\n".join(lower.later)
    body = unpack + views + _begin(body) + body
    return lower.module(f"def lower(cx, views, args):\n{_indented(body)}\n")["lower"]  # type: ignore[no-any-return]


class LiftedValues(NamedTuple):
    """A converter of core values: the :class:`struct.Struct` that reads them, and the function that lifts them."""

    unpack: Callable[[Any], tuple[Any, ...]]
    lift: Callable[..., Any]


def lift_values(
    types: Sequence[WitType], most: int, encoding: str, numbers: Numbers, *, raw: bool, after: int = 0
) -> LiftedValues:
    """Return the converter of a list of values, in at most ``most`` core values or behind a pointer.

    ``lift(cx, words)`` returns a tuple. ``after`` is the number of i32 words behind the values, which it ignores. In a
    worker the values stay here, not in memory shared with the parent: the task goes on, and may send messages.
    """
    lift = Lift(encoding, raw=raw, numbers=numbers)
    spilled = sum(len(flat(t)) for t in types) > most
    formats = ["I"] if spilled else [form for t in types for form in lift.flat_formats(t)]
    words = [lift.fresh("w") for _ in formats]
    lines = [f"{', '.join(words)}, = words[:{len(words)}]"] if words else []
    lines.append("door = cx.door; door.value_left = door.value_limit")
    if spilled:
        whole = Tuple(tuple(types))
        size, align = layout(whole).size, layout(whole).align
        unpack, leaves = lift.unpacked(whole, f"memory.view, {words[0]}", "unpack_from")
        lift.uses(unaligned=unaligned)
        lines += [
            "memory = cx.memory",
            f"if {words[0]} & {align - 1}: raise unaligned()",
            f"if {words[0]} + {size} > len(memory.view): memory.need({words[0]} + {size})",
            f"{', '.join(leaves)}, = {unpack}",
        ]
        values = [lift.value(t, leaves) for t in types]
    else:
        values = [lift.flat_value(t, words) for t in types]
    returned = f"return ({''.join(f'{value}, ' for value in values)})"
    made = lift.module("\n".join(["def lift(cx, words):", *(f"    {line}" for line in [*lines, returned])]))["lift"]
    every = [*formats, *["I"] * after]
    form = "<" + "".join(f"{f}{RAW_VALUE_BYTES - _SIZES[f]}x" for f in every)
    cut = form[: form.rindex(every[-1]) + 1] if every else "<"
    return LiftedValues(Struct(cut).unpack_from, made)


def lower_result(
    of: WitType, encoding: str, numbers: Numbers, *, raw: bool, pointed: bool
) -> Callable[[Any, Any, int, Any], None]:
    """Return a function that lowers a result: it takes the context, the views of the core values, the return pointer
    (if ``pointed``) and the value. It raises ``CallError`` for a value that does not match the type.
    """
    lower = Lower(encoding, raw=raw, numbers=numbers)
    value = lower.bare_result(of, "value") if isinstance(of, Result) and not raw else "value"
    store = ""
    if pointed:
        lower.packed(of, value)
        lower.uses(store_at=store_at)
        store = f"store_at(cx, ret, {layout(of).align}, block, holes)"
    else:
        lower.flat_value(of, value, 0)
        store = "\n".join(lower.later)
    views = "".join(f"v{form} = views[{form!r}]\n" for form in lower.formats)
    first = "\n".join(lower.lines) + "\n"
    head = _begin(first + store) + views
    if raw:
        body = head + first + store + "\n"
    else:
        lower.uses(UNFIT=_UNFIT, CallError=CallError, fit=_fitting(of))
        tried = (
            f"    try:\n{_indented(first, 2)}    except CallError: raise\n    except UNFIT:\n"
            f"        cx.handles.take_back()\n        value = fit(value)\n{_indented(first, 2)}"
        )
        if has_ends(of):  # streams and futures can be given once, so there is no second try
            tried = f"    value = fit(value)\n{_indented(first)}"
        body = f"{head}try:\n{tried}except BaseException:\n    cx.handles.take_back()\n    raise\n{store}\n"
        if has_handles(of):
            body += "cx.handles.lowered()\n"
        else:
            body = body.replace("        cx.handles.take_back()\n", "").replace(
                "    cx.handles.take_back()\n", "    pass\n"
            )
    return lower.module(f"def lower(cx, views, ret, value):\n{_indented(body)}")["lower"]  # type: ignore[no-any-return]


def _fitting(of: WitType) -> Callable[[Any], Any]:
    return lambda value: fit(of, as_result(value) if isinstance(of, Result) else value, "its result")


class Elements(NamedTuple):
    """The converter of the elements of a stream or future in one direction pair.

    ``load(cx, at, count)`` returns the values of ``count`` elements in memory; ``store(cx, at, values)`` writes them.
    ``plain``: the elements are numbers, whose bytes can be copied as they are.
    """

    size: int
    align: int
    plain: bool
    load: Callable[[Any, int, int], Any]
    store: Callable[[Any, int, Any], None]


def elements(of: WitType | None, encoding: str, numbers: Numbers, *, raw: bool) -> Elements:
    """Return the converter of elements of the type ``of``; ``None`` is the type of elements without a value."""
    if of is None:
        return Elements(0, 1, True, lambda cx, at, count: [None] * count, lambda cx, at, values: None)
    many = List(of)
    lift, lower = Lift(encoding, raw=raw, numbers=numbers), Lower(encoding, raw=raw, numbers=numbers)
    load = lift.module(f"load = {lift.list_loader(many)}")["load"]
    block = lower.module(f"block = lambda cx, values: {lower.list_block(many)}")["block"]
    plain = isinstance(of, str) and of in _NUMBERS
    return Elements(layout(of).size, layout(of).align, plain, load, _storing(many, block, has_handles(of), raw))


def _storing(many: List, block: Any, handles: bool, raw: bool) -> Callable[[Any, int, Any], None]:
    size = layout(many.element).size
    once = not raw and has_ends(many)

    def store(cx: Any, at: int, values: Any) -> None:
        door = cx.door
        door.guest_bytes_left = door.guest_bytes_limit
        try:
            if once:
                values = fit(many, values, "the elements of the stream")
            try:
                made = block(cx, values)
            except CallError:
                raise
            except _UNFIT:
                if raw or once:
                    raise
                if handles:
                    cx.handles.take_back()
                made = block(cx, fit(many, values, "the elements of the stream"))
        except BaseException:
            if handles:
                cx.handles.take_back()
            raise
        data = made[0] if made.__class__ is tuple else made
        if made.__class__ is tuple and len(made) > 3:
            fill(cx, data, made[3])
        assert len(data) % size == 0
        cx.memory.view[at : at + len(data)] = data
        door.charge(len(data))
        if handles:
            cx.handles.lowered()

    return store


class HostElements:
    """The elements of a stream or future as the host has them: with the Python classes of their type.

    The host does not choose the encoding of strings in the memory of the guest with which it copies.
    """

    __slots__ = ("_made", "numbers", "of")

    def __init__(self, of: WitType | None, numbers: Numbers) -> None:
        self.of, self.numbers = of, numbers
        self._made: dict[str, Elements] = {}

    def fitted(self, values: Any) -> Any:
        """Return elements of the host as the host gets them: like those of a guest. Raise ``CallError`` if they do not
        match the type.
        """
        if self.of is None:
            return [None] * len(values)
        return bytes(values) if self.of == "u8" else fit(List(self.of), values, "the elements of the stream")

    def converter(self, encoding: str) -> Elements:
        """Return the converter for memory with strings in ``encoding``."""
        made = self._made.get(encoding)
        if made is None:
            made = self._made[encoding] = elements(self.of, encoding, self.numbers, raw=False)
        return made
