"""Trampolines: every call from a guest module to the host passes through one.

Steps, in order: budget, deadline, lift, answer, validate the result, lower, deadline again, event. Lifting means
reading the typed view. The policy is the host function itself, which holds only the grants of one sandbox. The host
function gives the answer, unless the door has a step in its place (:mod:`.answer`). The second check of the deadline
keeps a late result from the guest. The event comes last, so it says whether the guest received a result.

A trampoline catches ``BaseException`` around everything, because an exception that leaves a native callback is lost or
fatal (F8 to F10). It stores the exception in the door of the sandbox and returns a trap, never a value.

Trampolines are compiled once for each signature and shared by all sandboxes of the process. The engine passes a number
that identifies sandbox and function: the upper bits are an index into :data:`slots`, the lower bits the import's index.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from ctypes import c_char, c_char_p, c_size_t, c_void_p

from aegis.engine.call.answer import answered
from aegis.engine.call.core_values import RAW_VALUE_BYTES, coerce, coerced, formats, index_of, view_name
from aegis.engine.call.door import Door
from aegis.engine.native.library import lib, number
from aegis.engine.native.signals import secure_after
from aegis.engine.threads.await_result import await_result
from aegis.errors import CallError, GuestExit, HostError
from aegis.limits import Limits
from aegis.support.bounded_cache import WeightedCache
from aegis.support.lean import Any
from aegis.values import FuncType, HostFunction, ImportName

__all__ = [
    "CALLBACK", "IMPORT_BITS", "VIEWS_KEPT", "Slot", "fail_call", "fit_result", "free_slot", "host_callback",
    "report_call", "slots", "take_slot",
]  # fmt: skip

# Looked up and converted at import time: a failing call may have no room for it on the Python stack.
_trap_new = lib.wasmtime_trap_new
_TEXT, _LENGTH = c_char_p.from_param(b"host"), number(4)
CALLBACK = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
VIEWS_KEPT = 128
"""Addresses for which a trampoline keeps typed views."""
_MAX_CACHED_VALUES = 2048
"""Parameters and results of the signatures whose trampolines, with their views, are cached for the process."""

IMPORT_BITS = 20
"""Width of the import's index in the number that the engine passes to a callback; the upper bits are the store's slot.
A module has at most a million imports, which is the engine's limit."""
_MASK = (1 << IMPORT_BITS) - 1

Slot = tuple[Door, Any, Any, list[int]]
"""Entry of a store in :data:`slots`: its door, its host functions by import index, their names by import index, and the
numbers of the imports that the guest has called. A component has its state instead of functions, and no names."""

_VACANT: Slot = (Door(Limits()), (), (), [])  # its door rejects every host call
_VACANT[0].calls_left = 0
_UNKNOWN_IMPORT = _VACANT[0], None, ImportName("?", "?")
slots: list[Slot] = [_VACANT]
"""Slots by number; calls with a free number are rejected. The number 0 is never taken."""
_free: list[int] = []
_lock = threading.Lock()
_compiled: WeightedCache[Any] = WeightedCache(_MAX_CACHED_VALUES)


def _renew() -> None:
    """After fork, in the child: replace the lock, which a thread that does not exist there may hold."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - a system without fork has no such function
    os.register_at_fork(after_in_child=_renew)


class _ImportTable(dict[int, tuple[Door, Any, Any]]):
    """Door, function and name by the number that the engine passes, added on the first call of each import."""

    __slots__ = ()

    def __missing__(self, env: int) -> tuple[Door, Any, Any]:
        door, functions, names, called = slots[env >> IMPORT_BITS]
        if not names:
            return _UNKNOWN_IMPORT
        place = env & _MASK
        made = self[env] = door, functions[place], names[place]
        called.append(env)
        return made


_import_table = _ImportTable()


def take_slot(slot: Slot) -> int:
    """Store ``slot`` in :data:`slots`; return its number, never 0."""
    try:
        number = _free.pop()  # atomic: two threads never get the same number
    except IndexError:
        with _lock:
            slots.append(slot)
            return len(slots) - 1
    slots[number] = slot
    return number


def free_slot(number: int) -> None:
    """Free the slot of a closing store, and the cached functions of the imports that its guest called."""
    called = slots[number][3]
    slots[number] = _VACANT
    for env in called:
        _import_table.pop(env, None)
    _free.append(number)


def host_callback(signature: FuncType, *, observed: bool, starting: bool = False) -> Any:
    """Return the native callback for functions of ``signature``. The caller must keep a reference while stores use it.

    ``observed``: report events, measure host time, which costs two clock readings for each call, and let the door's
    step answer. ``starting``: the module has a start function, which can call the host before the instance exists; the
    callback then stores the engine's caller in the door.
    """
    key = (signature, observed, starting)
    made = _compiled.entries.get(key)
    if made is None:
        serve = _compile(signature, observed)
        made = CALLBACK(_storing_caller(serve) if starting else serve)
        made = _compiled.keep(key, made, 1 + len(signature.params) + len(signature.results))
    return made


def _storing_caller(serve: Callable[..., int | None]) -> Callable[..., int | None]:
    """Wrap a trampoline: keep the engine's caller in the door until the call returns, when it becomes invalid."""

    def trampoline(env: int, caller: int, address: int, count: int) -> int | None:
        try:
            door = slots[env >> IMPORT_BITS][0]
            door.caller = caller
            try:
                return serve(env, caller, address, count)
            finally:
                door.caller = None
        except BaseException as error:
            return fail_call(env, error)

    return trampoline


_SOURCE = """
def trampoline(env, caller, address, count):
    try:
        door, function, name = imports[env]
        entered = now()
        left = door.calls_left
        if left <= 0 or door.stop is not None or entered >= door.deadline:
            raise door.refused_call()
        door.calls_left = left - 1
        try:
            {views} = views[address]
        except KeyError:
            {views} = new_views(address)
{call}
    except BaseException as error:
        return fail(env, error)
"""
_PLAIN = """
        door.serving = name
        result = function({arguments})
        door.serving = None
{finish}
"""
_FINISH = """{store}
        ended = now()
        if door.stop is not None or ended >= door.deadline:
            raise door.late(str(name))
        if ended - entered > door.near:
            secure(name)
"""
_OBSERVED = """
        door.serving = name
        started = clock()
        try:
            if door.answer is None:
                result = function({arguments})
            else:
                result = answered(door, *name, signature, function, ({arguments}))
            door.serving = None
{finish}
        except BaseException as error:
            report(door, *name, started, error)
            raise
        report(door, *name, started, None)
        secure(name)  # a subscriber may have replaced handlers
"""


def _compile(signature: FuncType, observed: bool) -> Callable[..., int | None]:
    """Generate and compile the trampoline of a signature: a loop over the types would cost more than the call."""
    names = formats(signature)
    size = RAW_VALUE_BYTES * max(len(signature.params), len(signature.results), 1)
    array = c_char * size
    views: dict[int, Any] = {}

    def new_views(address: int) -> Any:
        if len(views) >= VIEWS_KEPT:
            views.clear()
        block = memoryview(array.from_address(address)).cast("B")
        opened = tuple(block.cast(f) for f in names)  # type: ignore[call-overload]
        made = views[address] = opened[0] if len(opened) == 1 else opened
        return made

    arguments = "".join(f"v{view_name(t)}[{index_of(t, n)}], " for n, t in enumerate(signature.params))
    finish = _FINISH.format(store=_store(signature.results))
    if observed:
        body = _OBSERVED.format(arguments=arguments, finish="    " + finish.rstrip().replace("\n", "\n    "))
    else:
        body = _PLAIN.format(arguments=arguments, finish=finish)
    target = ", ".join(f"v{name}" for name in names) or "_none"
    scope = {
        "imports": _import_table, "views": views, "new_views": new_views, "fail": fail_call,
        "clock": time.perf_counter,
        "report": report_call, "answered": answered, "signature": signature,
        "lower": _lower, "refuse_result": _refuse_result, "several": _several,
        "now": time.monotonic, "secure": secure_after,
    }  # fmt: skip
    exec(_SOURCE.format(views=target, call=body), scope)
    made = scope["trampoline"]
    assert callable(made)
    return made


def _store(results: tuple[str, ...]) -> str:
    if not results:
        return "        if result is not None:\n            refuse_result(door, *name, result)"
    if len(results) == 1:
        target = f"v{view_name(results[0])}[0]"
        lowered = f"lower({results[0]!r}, result, door, *name)"
        if results[0].startswith("f"):
            return f"        {target} = {coerced(results[0], 'result', lowered)}"
        return (
            f"        try:\n            {target} = {coerced(results[0], 'result', lowered)}\n"
            f"        except (TypeError, ValueError, OverflowError):\n"
            f"            {target} = {lowered}"
        )
    lines = [f"        result = several({len(results)}, result, door, *name)"]
    for n, t in enumerate(results):
        lower = f"lower({t!r}, result[{n}], door, *name)"
        lines.append(f"        v{view_name(t)}[{index_of(t, n)}] = {lower}")
    return "\n".join(lines)


def fit_result(function: HostFunction, result: Any, door: Door) -> Any:
    """Convert the ``result`` of a host function to core values; raise ``HostError`` if it does not match the type."""
    results, module, name = function.type.results, function.module, function.name
    if not results:
        return None if result is None else _refuse_result(door, module, name, result)
    if len(results) == 1:
        return _lower(results[0], result, door, module, name)
    values = _several(len(results), result, door, module, name)
    return [_lower(kind, value, door, module, name) for kind, value in zip(results, values, strict=True)]


def _lower(value_type: str, value: object, door: Door, module: str, name: str) -> int | float:
    value = await_result(door, value, f"{module}.{name}")
    try:
        return coerce(value_type, value, f"the result of {module}.{name}")
    except CallError as error:
        raise HostError(f"host function {module}.{name} returned an invalid result: {error}") from None


def _refuse_result(door: Door, module: str, name: str, result: object) -> None:
    result = await_result(door, result, f"{module}.{name}")
    if result is not None:
        raise HostError(
            f"host function {module}.{name} returned {type(result).__name__}, but the import has no result: return None"
        )


def _several(count: int, result: object, door: Door, module: str, name: str) -> tuple[Any, ...]:
    result = await_result(door, result, f"{module}.{name}")
    if not isinstance(result, tuple) or len(result) != count:
        shown = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise HostError(
            f"host function {module}.{name} returned {shown}, but the import has {count} results: "
            f"return a tuple of {count} values"
        )
    return result


def report_call(
    door: Door, module: str, name: str, started: float, error: BaseException | None, waited: float = 0.0
) -> None:
    """Report a host call that began at ``started`` (``time.perf_counter``): ``error`` ends the run, ``None`` none.

    ``waited`` are the seconds in which the guest or other host calls ran meanwhile.
    """
    seconds = time.perf_counter() - started
    door.host_seconds += seconds - waited
    if door.observe_call is not None:
        if isinstance(error, GuestExit):
            error = door.stop_reason() or error  # the run ends with this error, see fail_call()
        door.observe_call(module, name, seconds, error)


def fail_call(
    env: int, error: BaseException, bits: int = IMPORT_BITS, named: Callable[[int], str] | None = None
) -> int | None:
    """Store the exception in the door and return a trap. No exception may leave this function.

    The lower ``bits`` of ``env`` are the index of the function. ``named`` returns its name; without it, the slot does.
    """
    try:
        door, _, names, _ = slots[env >> bits]
        if isinstance(error, GuestExit):
            error = door.stop_reason() or error  # an exit after the deadline is not a success
        if door.failure is None:
            door.failure = error
            if not isinstance(error, HostError):
                index = env & ((1 << bits) - 1)
                door.serving = str(names[index]) if named is None else named(index)
    except BaseException:
        pass
    return _trap_new(_TEXT, _LENGTH)  # type: ignore[no-any-return]
