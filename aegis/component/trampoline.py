"""Trampolines of components: every call out of a component instance passes through one.

The steps for a host function are those for modules, in this order: budget, deadline, lift, answer, validate the result,
lower, deadline again, event (:mod:`aegis.engine.call.trampoline`). One native callback serves all trampolines of a
plan; the number that the engine passes identifies store and trampoline. The code of a trampoline is generated at its
first call, because a component imports far more functions than it uses.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from ctypes import c_char
from functools import partial
from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple

from aegis.component.call import numbering
from aegis.component.call_source import has_borrows
from aegis.component.conversion.blocks import store_at
from aegis.component.conversion.coerce import ConversionError, fit
from aegis.component.conversion.layout import (
    MAX_FLAT_ASYNC_PARAMS,
    MAX_FLAT_PARAMS,
    MAX_FLAT_RESULTS,
    flat,
    has_handles,
    has_pointers,
    layout,
)
from aegis.component.conversion.lift import Lift
from aegis.component.conversion.lower import Lower
from aegis.component.handles import HandleEntry
from aegis.component.planning.program import CanonLower, ResourceFunction
from aegis.component.planning.world import ImportedFunction
from aegis.component.release import drop_object, owns
from aegis.component.traps import cannot_enter, cannot_leave, unaligned
from aegis.engine.call.answer import answered
from aegis.engine.call.core_values import RAW_VALUE_BYTES
from aegis.engine.call.door import Door
from aegis.engine.call.trampoline import CALLBACK, VIEWS_KEPT, fail_call, report_call, slots
from aegis.engine.native.signals import secure_after
from aegis.engine.threads.await_result import await_result
from aegis.errors import CallError, HostError
from aegis.wit.results import as_result
from aegis.wit.types import Result, Tuple, WitType
from aegis.wit.values import Err, Ok

__all__ = [
    "TRAMPOLINE_BITS",
    "Body",
    "Overlap",
    "answering",
    "call_method",
    "guest_body",
    "host_body",
    "native_callback",
    "refit",
    "refused_body",
    "resource_body",
    "secured_body",
]

Body = Callable[[Any, int], None]
"""The code of a trampoline: takes the state of the calling component, and the address of the core values."""

TRAMPOLINE_BITS = 16
"""Width of the trampoline's index in the number that the engine passes; the upper bits are the store's slot."""
_MASK = (1 << TRAMPOLINE_BITS) - 1
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, KeyError, struct_error, ConversionError)


def native_callback(bodies: list[Body | None], make: Callable[[int], Body], named: Callable[[int], str]) -> Any:
    """Return the native callback of a plan. ``make`` generates the body of a trampoline; ``named`` returns its name."""

    def trampoline(env: int, caller: int, address: int, count: int) -> int | None:
        try:
            which = env & _MASK
            body = bodies[which]
            if body is None:
                body = bodies[which] = make(which)
            body(slots[env >> TRAMPOLINE_BITS][1], address)
            return None
        except BaseException as error:
            return fail_call(env, error, TRAMPOLINE_BITS, named)

    return CALLBACK(trampoline)


def secured_body(body: Body, name: str) -> Body:
    """Return the body of a built-in that may run code of the application, such as its iterators, in the middle.

    Afterwards it checks the engine's signal handlers, as after a host function.
    """

    def secured(state: Any, address: int) -> None:
        started = time.monotonic()
        body(state, address)
        if time.monotonic() - started > state.door.near:
            secure_after(name)

    return secured


# -- functions of the host -------------------------------------------------------------------------

_HOST = """
def body(state, address):
    door = state.door
    left = door.calls_left
    if left <= 0 or door.stop is not None or now() >= door.deadline:
        raise door.refused_call()
    door.calls_left = left - 1
    cx = state.contexts[{context}]
    if not cx.instance.may_leave:
        raise cannot_leave()
    try:
        {views}= views[address]
    except KeyError:
        {views}= new_views(address)
{lift}
    started = now()
    watched = state.observed
    try:
        if watched:
            begun = clock()
            result = answering(door, {called}, ({values}))
        else:
            door.serving = function
            {call}
            door.serving = None
{pending}
        returned = now()
{ended}
{lower}
{store}
        if returned - started > door.near:
            secure(function)
    except BaseException as error:
        if watched: report(door, interface, named, begun, error)
        raise
    if watched:
        report(door, interface, named, begun, None)
        secure(function)  # a subscriber may have replaced handlers
"""
_PENDING = """
        if result.__class__ not in READY:
            later = pending(door, result)
            if later is not None:
                wait(state, address, later, {lent}, begun if watched else 0.0)
                return
"""
_READY = frozenset({bool, bytes, dict, float, int, list, str, tuple, type(None), Ok, Err})
"""Classes of results that are complete when the host function returns."""
_RETURNED = 2
"""The state of a subtask that has returned (CanonicalABI.md, ``Subtask.State``)."""


class Overlap(NamedTuple):
    """The way in which calls of a function that is async in WIT go on while its result is pending.

    ``is_async`` is the canonical option ``async``. ``pending(door, result)`` returns the operation that a host function
    returned instead of a result, or ``None``. ``wait(state, address, operation, lent, begun)`` completes the call when
    the operation does; ``lent`` is the number of handles that were lent before the call.
    """

    is_async: bool
    pending: Callable[[Any, Any], Any]
    wait: Callable[[Any, int, Any, int, float], None]


def host_body(
    function: ImportedFunction, index: int, lowered: CanonLower, context: int, numbers: Sequence[int],
    overlap: Overlap | None = None,
) -> Body:  # fmt: skip
    """Generate the body for an imported function; ``index`` is its index among the store's host functions.

    ``overlap`` is for a function that is async in WIT.
    """
    types = tuple(t for _, t in function.type.params)
    result = function.type.result
    numbered = numbering((*types, *(() if result is None else (result,))), numbers)
    lift = Lift(lowered.options.encoding, numbers=numbered)
    is_async = overlap is not None and overlap.is_async
    most = MAX_FLAT_ASYNC_PARAMS if is_async else MAX_FLAT_PARAMS
    pointed = result is not None and (is_async or len(flat(result)) > MAX_FLAT_RESULTS)
    lines, names = _lift_arguments(lift, types, most, pointed=pointed)
    lower = Lower(lowered.options.encoding, numbers=numbered, beside=lift)
    method = function.method
    target = f"{names[0]}.{method}" if method else f"state.functions[{index}]"
    call = f"result = {target}({', '.join(names[1:] if method else names)})"
    if isinstance(result, Result):
        call = f"try: {call}\n            except Err as error: result = error"
    first, store = _lower_result(function, lower, pointed)
    if is_async:
        store += f"{lower.view('I')}[0] = {_RETURNED}\n"
    ended = pending = ""
    lends = any(map(has_borrows, types))
    if lends:
        lines.insert(0, "lent = len(cx.handles.lent)")
        ended = "cx.handles.unlend(lent)"
    if overlap is not None:
        pending = _PENDING.format(lent="lent" if lends else "len(cx.handles.lent)")
        lift.uses(READY=_READY, pending=overlap.pending, wait=overlap.wait)
    lift.uses(
        answering=answering(function), report=report_call, interface=function.interface or "(world)",
        named=function.name, clock=time.perf_counter, Err=Err, Ok=Ok, function=function, now=time.monotonic,
        secure=secure_after, cannot_leave=cannot_leave, unaligned=unaligned, UNFIT=_UNFIT, CallError=CallError,
        broken=_broken, method=partial(call_method, method or ""),
    )  # fmt: skip
    text = _HOST.format(
        context=context, views=_views(lift, lower, types, most, pointed=pointed), pending=pending,
        lift=_indented(lines), call=call,
        called="method" if method else target, values="".join(f"{v}, " for v in names),
        ended=textwrap.indent(ended, " " * 8), lower=textwrap.indent(first, " " * 8),
        store=textwrap.indent(store, " " * 8),
    )  # fmt: skip
    return lift.module(text)["body"]  # type: ignore[no-any-return]


def _indented(lines: Sequence[str]) -> str:
    return textwrap.indent("\n".join(lines), "    ")


def _views(lift: Lift, lower: Lower, types: Sequence[WitType], most: int, *, pointed: bool) -> str:
    """Add the function that opens views of the core values at an address; return the view names, each with a comma.

    Calls from the same depth of the guest's stack pass the same address, so a small cache of views suffices.
    """
    count = sum(len(flat(t)) for t in types)
    size = RAW_VALUE_BYTES * max(1, (1 if count > most else count) + pointed)
    array, formats, views = c_char * size, list(lower.formats), {}  # type: ignore[var-annotated]

    def new_views(address: int) -> tuple[memoryview, ...]:
        if len(views) >= VIEWS_KEPT:
            views.clear()
        block = memoryview(array.from_address(address)).cast("B")
        made = views[address] = (block, *(block.cast(f) for f in formats))  # type: ignore[call-overload]
        return made

    lift.uses(views=views, new_views=new_views)
    return "".join(f"{name}, " for name in ("frame", *(f"v{f}" for f in formats)))


_FORMAT_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}


def _lift_arguments(lift: Lift, types: tuple[WitType, ...], most: int, *, pointed: bool) -> tuple[list[str], list[str]]:
    """Return the lines that read the arguments, and their variables.

    More than ``most`` flat values lie behind a pointer. ``pointed``: the result goes to an address.
    """
    spilled = sum(len(flat(t)) for t in types) > most
    formats = ["I"] if spilled else [form for t in types for form in lift.flat_formats(t)]
    words = [lift.fresh("w") for _ in formats]
    all_words, all_formats = [*words, *(["ret"] if pointed else [])], [*formats, *(["I"] if pointed else [])]
    lines = []
    if all_words:
        form = "<" + "".join(f"{f}{RAW_VALUE_BYTES - _FORMAT_SIZES[f]}x" for f in all_formats)
        unpack = lift.name(Struct(form[: form.rindex(all_formats[-1]) + 1]).unpack_from)
        lines.append(f"{', '.join(all_words)}, = {unpack}(frame)")
    plain = all(isinstance(t, str) and t != "string" for t in types)
    # Between instances, nested calls share one budget, because the values of an outer call are alive during inner ones.
    reading: list[str] = [] if plain or lift.raw else ["door.value_left = door.value_limit"]
    names = [f"a{n}" for n in range(len(types))]
    if spilled:
        whole = Tuple(types)
        unpack, leaves = lift.unpacked(whole, f"memory.view, {words[0]}", "unpack_from")
        size, align = layout(whole).size, layout(whole).align
        reading += [
            "memory = cx.memory",
            f"if {words[0]} & {align - 1}: raise unaligned()",
            f"if {words[0]} + {size} > len(memory.view): memory.need({words[0]} + {size})",
            f"{', '.join(leaves)}, = {unpack}",
        ]
        values = [lift.value(t, leaves) for t in types]
    else:
        values = [lift.flat_value(t, words) for t in types]
    reading += [f"{name} = {value}" for name, value in zip(names, values, strict=True)]
    if any(owns(t, _EVERY_KEY) for t in types):
        reading = ["try:", *(f"    {line}" for line in reading), "except BaseException:",
                   "    cx.handles.release_taken()", "    raise", "cx.handles.taken.clear()"]  # fmt: skip
    return lines + reading, names


_EVERY_KEY = 1 << 32
_IN_TIME = """if door.stop is not None or {} >= door.deadline:
    raise door.late(str(function))
"""
_RESULT = """try:
{first}except CallError as wrong:
    raise broken(function, wrong) from None
except UNFIT:
    result = fitted(awaited(result, door))
    returned = now()
{again}{in_time}"""
_RESULT_HANDLES = """try:
    try:
{first}    except CallError:
        raise
    except UNFIT:
        cx.handles.take_back()
        result = awaited(result, door)
        result = fitted(result)
{again}{in_time}except BaseException as wrong:
    cx.handles.withdraw({type}, result, {every})
    if isinstance(wrong, CallError): raise broken(function, wrong) from None
    raise
"""


def _lower_result(function: ImportedFunction, lower: Lower, pointed: bool) -> tuple[str, str]:
    """Return the text that converts and checks the result, and the text that stores it for the guest."""
    of = function.type.result
    lower.uses(refit=_refit(function), awaited=_awaiting(function), fitted=_fitting(function), store_at=store_at)
    if of is None:
        return f"if result is not None: refit(result, door)\n{_IN_TIME.format('now()')}", ""
    # Lowering a number takes no time, so the clock need not be read again.
    in_time = _IN_TIME.format("returned" if isinstance(of, str) and of != "string" else "now()")
    if has_pointers(of):
        lower.say("door.guest_bytes_left = door.guest_bytes_limit")
    value = lower.bare_result(of, "result") if isinstance(of, Result) else "result"
    store = ""
    if pointed:
        lower.packed(of, value)
        store = f"store_at(cx, ret, {layout(of).align}, block, holes)\n"
    else:
        lower.flat_value(of, value, 0)
    lines = "\n".join(lower.lines) + "\n"
    one, two = textwrap.indent(lines, "    "), textwrap.indent(lines, "        ")
    if not has_handles(of):
        return _RESULT.format(first=one, again=one, in_time=in_time), store
    text = _RESULT_HANDLES.format(
        first=two, again=two, in_time=textwrap.indent(in_time, "    "), type=lower.name(of), every=_EVERY_KEY
    )
    return text, store + "cx.handles.lowered()\n"


def _broken(function: ImportedFunction, wrong: CallError) -> HostError:
    return HostError(f"host function {function} returned an invalid result: {wrong}")


def refit(function: ImportedFunction, result: Any) -> Any:
    """Convert a host function's result, which was awaited; raise ``HostError`` if it does not match the type."""
    return _fitting(function)(result)


def _refit(function: ImportedFunction) -> Callable[[Any, Door], Any]:
    """Return the function that awaits and converts a result which the direct path could not lower."""
    awaited, fitted = _awaiting(function), _fitting(function)
    return lambda result, door: fitted(awaited(result, door))


def _awaiting(function: ImportedFunction) -> Callable[[Any, Door], Any]:
    """Return the function that awaits a result if it is awaitable."""
    fallible, name = isinstance(function.type.result, Result), str(function)

    def awaited(result: Any, door: Door) -> Any:
        try:
            return await_result(door, result, name)
        except Err as declared:
            if not fallible:
                raise
            return declared

    return awaited


def _fitting(function: ImportedFunction) -> Callable[[Any], Any]:
    """Return the function that converts an awaited result to its type, or raises ``HostError``."""
    of = function.type.result

    def fitted(result: Any) -> Any:
        if of is None:
            if result is None:
                return None
            raise HostError(
                f"host function {function} returned {type(result).__name__}, but it has no result: return None"
            )
        try:
            return fit(of, as_result(result) if isinstance(of, Result) else result, "its result")
        except CallError as error:
            raise _broken(function, error) from None

    return fitted


def call_method(method: str, value: Any, *arguments: Any) -> Any:
    """Call a method of a resource. A step in place of the host function may give objects that lack it."""
    return getattr(value, method)(*arguments)


def answering(function: ImportedFunction) -> Callable[[Door, Callable[..., Any], tuple[Any, ...]], Any]:
    """Return the function that answers a host call of an observed store: the door's step can, instead of the host."""
    interface, name = function.interface, function.name
    fallible = isinstance(function.type.result, Result)

    def call_or_answer(door: Door, call: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        door.serving = function
        try:
            result = (
                call(*values) if door.answer is None else answered(door, interface, name, function.type, call, values)
            )
        except Err as declared:
            if not fallible:
                raise
            result = declared
        door.serving = None
        return result

    return call_or_answer


# -- from one component instance to another --------------------------------------------------------

_GUEST = """
def body(state, address):
    cx = state.contexts[{context}]
    if not cx.instance.may_leave:
        raise cannot_leave()
    try:
        {views}= views[address]
    except KeyError:
        {views}= new_views(address)
    door = state.door
    allowed = door.value_left
    instances = state.handles.instances
    for entered in {entering}:
        if not instances[entered].may_enter: raise cannot_enter()
    for entered in {entering}: instances[entered].may_enter = False
{lift}
    callee = state.callees[{callee}]
    result = callee({values})
    for entered in {entering}: instances[entered].may_enter = True
{ended}
{lower}
{store}
    door.value_left = allowed
"""


def refused_body(state: Any, address: int) -> None:
    """Trap: the instance calls its own function, which it both lifted and lowered, and so re-enters itself."""
    raise cannot_enter()


def guest_body(lowered: CanonLower, context: int, callee: int, entering: tuple[int, ...]) -> Body:
    """Generate the body for a call to another component instance; ``entering`` are the instances that it enters."""
    of = lowered.function.type
    types, result = tuple(t for _, t in of.params), of.result
    numbered = numbering((*types, *(() if result is None else (result,))), None)
    lift = Lift(lowered.options.encoding, raw=True, numbers=numbered)
    pointed = result is not None and len(flat(result)) > MAX_FLAT_RESULTS
    lines, names = _lift_arguments(lift, types, MAX_FLAT_PARAMS, pointed=pointed)
    lower = Lower(lowered.options.encoding, raw=True, numbers=numbered, beside=lift)
    store = ""
    if result is not None:
        lower.say("door.guest_bytes_left = door.guest_bytes_limit")
        if pointed:
            lower.packed(result, "result")
            store = f"store_at(cx, ret, {layout(result).align}, block, holes)"
        else:
            lower.flat_value(result, "result", 0)
    ended = ""
    if any(map(has_borrows, types)):
        lines.insert(0, "lent = len(cx.handles.lent)")
        ended = "cx.handles.unlend(lent)"
    lift.uses(cannot_leave=cannot_leave, cannot_enter=cannot_enter, unaligned=unaligned, store_at=store_at)
    text = _GUEST.format(
        context=context, views=_views(lift, lower, types, MAX_FLAT_PARAMS, pointed=pointed), entering=entering,
        lift=_indented(lines),
        callee=callee, values=", ".join(names), ended=textwrap.indent(ended, "    "),
        lower=_indented(lower.lines), store=textwrap.indent(store, "    "),
    )  # fmt: skip
    return lift.module(text)["body"]  # type: ignore[no-any-return]


# -- resources -------------------------------------------------------------------------------------


def resource_body(function: ResourceFunction, state_plan: Any) -> Body:
    """Return the body for a canonical function of a resource (CanonicalABI.md, ``canon resource.*``)."""
    resource, home = function.resource, function.instance
    if function.operation == "drop":
        return _drop_body(resource, home, state_plan)
    words = _Words()

    def new(state: Any, address: int) -> None:
        handles = state.handles
        instance = handles.instances[home]
        if not instance.may_leave:
            raise cannot_leave()
        view = words[address]
        view[0] = handles.add(instance, HandleEntry(resource, view[0], True))

    def rep(state: Any, address: int) -> None:
        view = words[address]
        view[0] = state.handles.instances[home].get(view[0], resource).rep

    return new if function.operation == "new" else rep


class _Words(dict[int, memoryview]):
    """Views of one core value as an unsigned i32, by address."""

    def __missing__(self, address: int) -> memoryview:
        if len(self) >= VIEWS_KEPT:
            self.clear()
        array = c_char * 4
        made = self[address] = memoryview(array.from_address(address)).cast("B").cast("I")
        return made


def _drop_body(resource: int, home: int, plan: Any) -> Body:
    of = plan.program.resources[resource]
    words = _Words()
    entering = () if of.instance is None else plan.entering(of.instance, home)

    def drop(state: Any, address: int) -> None:
        handles = state.handles
        instances = handles.instances
        if not instances[home].may_leave:
            raise cannot_leave()
        entry = handles.drop(instances[home], resource, words[address][0])
        if not entry.own:
            return
        if of.instance is None:
            _drop_object(state, entry.rep)
            return
        for entered in entering:
            if not instances[entered].may_enter:
                raise cannot_enter()
        if of.destructor is not None:
            for entered in entering:
                instances[entered].may_enter = False
            state.destroy(of.destructor, entry.rep)
            for entered in entering:
                instances[entered].may_enter = True

    return drop


def _drop_object(state: Any, value: Any) -> None:
    door = state.door
    door.serving = "a resource's drop"
    started = time.monotonic()
    drop_object(value, door)
    door.serving = None
    ended = time.monotonic()
    if door.stop is not None or ended >= door.deadline:
        raise door.late("a resource's drop")
    if ended - started > door.near:
        secure_after("a resource's drop")
