"""The trampoline of components: every call from a component into the host comes through here.

In this order, as for modules: budget, deadline, event (start), lift, policy, call, validate the result,
lower, event (complete), deadline again. One native callback serves a whole linker; what it does for a function is
compiled when that function is first called, for a component imports far more than it uses.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from ctypes import c_size_t, c_uint32, c_void_p
from functools import partial
from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple

from aegis.engine.component.release import owns
from aegis.engine.convert.keys import images_of
from aegis.engine.convert.layout import FORMATS, KINDS, SLOT, Arena
from aegis.engine.convert.lift import lifting_of
from aegis.engine.convert.lower import result_lowering_of, scalar_expression, scalar_scope
from aegis.engine.convert.shape import Unfit, fit
from aegis.engine.door import Door
from aegis.engine.missing import MissingFunction
from aegis.engine.native import lib, pointer, windows
from aegis.engine.signals import NEAR, secure_after
from aegis.errors import CallError, GuestExit, HostError
from aegis.wit.naming import snake
from aegis.wit.results import as_result
from aegis.wit.types import Function, Result, WitType
from aegis.wit.values import Err, Ok

__all__ = ["HostSide", "ImportedFunction", "callback_for", "destructor", "refit", "sides", "undefined"]

_error_new = lib.wasmtime_error_new
_TEXT = ctypes.c_char_p.from_param(b"host")
_CALLBACK = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t)
_DESTRUCTOR = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_uint32)


class HostSide:
    """What the host is to one store: its door, and a callable for each import of the component."""

    __slots__ = ("door", "functions", "observed")

    def __init__(self, door: Door, functions: Sequence[Callable[..., Any]], observed: bool) -> None:
        self.door, self.functions, self.observed = door, functions, observed


sides: dict[int, HostSide] = {}
"""By the address of a store's context, while that store lives."""


class ImportedFunction(NamedTuple):
    """A function that a component imports: its interface (empty for the world's own), name and type.

    ``missing`` tells that nothing provides it, and that it is to trap when it is called.
    """

    interface: str
    name: str
    type: Function
    missing: bool = False

    @property
    def method(self) -> str | None:
        """The Python name of the method, if it is one that an object has: it is called on the object itself."""
        if self.missing or not self.name.startswith("[method]"):
            return None
        return snake(self.name.partition(".")[2])

    def __str__(self) -> str:
        return f"{self.interface}#{self.name}" if self.interface else self.name


def callback_for(functions: Sequence[ImportedFunction]) -> Any:
    """Return the native callback of a linker whose functions are numbered in this order, from one."""
    bodies: list[Any] = [None]

    def compile_at_first(number: int) -> Callable[[HostSide, int, int], None]:
        def body(side: HostSide, arguments: int, results: int) -> None:
            bodies[number] = made = _compile(functions[number - 1], number - 1)
            made(side, arguments, results)

        return body

    bodies += [compile_at_first(n) for n in range(1, len(functions) + 1)]

    def trampoline(
        number: int, context: int, kind: int, arguments: int, count: int, results: int, result_count: int
    ) -> int | None:
        try:
            bodies[number](sides[context], arguments, results)
            return None
        except BaseException as error:
            return _fail(context, functions, number, error)

    return _CALLBACK(trampoline)


def _fail(context: int, functions: Sequence[ImportedFunction], number: int, error: BaseException) -> int | None:
    """Keep the exception for the caller and answer with an error. Nothing may escape from here."""
    try:
        door = sides[context].door
        if isinstance(error, GuestExit):
            error = door.overdue() or error  # an exit that comes too late is no success
        if door.failure is None:
            door.failure = error
            if not isinstance(error, HostError):
                door.serving = str(functions[number - 1])
    except BaseException:
        pass
    return _error_new(_TEXT)  # type: ignore[no-any-return]


def _drop(number: int, context: int, rep: int) -> int | None:
    try:
        door = sides[context].door
        door.handles.dropped(rep)
        if door.stop is not None or time.monotonic() >= door.deadline:
            raise door.late("a resource's drop")
        secure_after("a resource's drop")
        return None
    except BaseException as error:
        try:
            door = sides[context].door
            if door.failure is None:
                door.failure = error
                door.serving = "a resource's drop"
        except BaseException:
            pass
        return _error_new(_TEXT)  # type: ignore[no-any-return]


destructor = _DESTRUCTOR(_drop)
"""Called by the engine when a guest drops an owned handle of a host object."""

_SOURCE = """
def body(side, arguments, results):
    door = side.door
    left = door.calls_left
    if left <= 0 or door.stop is not None or now() >= door.deadline:
        raise door.refused_call()
    door.calls_left = left - 1
{lift}
    started = now()
    if side.observed:
        result = observed(side, {target}, ({values}))
    else:
        {call}
    took = now() - started
{lower}
{in_time}
    if took > NEAR:
        secure(function)
"""
_IN_TIME = """
    if door.stop is not None or now() >= door.deadline:
        raise door.late(str(function))
"""


def _compile(function: ImportedFunction, index: int) -> Callable[[HostSide, int, int], None]:
    """Write what a call of one import does."""
    types = tuple(t for _, t in function.type.params)
    lifting = lifting_of(types, images_of(types))
    scope: dict[str, Any] = dict(lifting.scope)
    scope |= {
        "windows": windows, "observed": _observed(function), "Err": Err, "Ok": Ok, "unpack": lifting.unpack_from,
        "window": windows[lifting.size], "function": function,
        "now": time.monotonic, "NEAR": NEAR, "secure": secure_after,
    }  # fmt: skip
    names = [f"a{n}" for n in range(len(types))]
    lift = []
    if types:
        lift.append("    door.value_left = door.value_limit")
        lift.append(f"    {', '.join(lifting.words)}, = unpack(window(arguments))")
        lift += [f"    {name} = {expression}" for name, expression in zip(names, lifting.expressions, strict=True)]
    if not lifting.plain:
        lift.append("    if door.bytes_left < 0: raise door.overdrawn()")
    if _takes_objects(types):
        lift = ["    try:", *(f"    {line}" for line in lift), "    except BaseException:",
                "        door.handles.release_taken()", "        raise", "    door.handles.taken.clear()"]  # fmt: skip
    method = function.method
    target = f"a0.{method}" if method else f"side.functions[{index}]"
    values = names[1:] if method else names
    call = f"result = {target}({', '.join(values)})"
    if isinstance(function.type.result, Result):
        call = f"try: {call}\n        except Err as error: result = error"
    source = _SOURCE.format(
        lift="\n".join(lift), call=call, target=target, values="".join(f"{v}, " for v in values),
        lower=_lower(function, scope), in_time="" if "lower" in scope else _IN_TIME,
    )  # fmt: skip
    exec(source, scope)
    made: Callable[[HostSide, int, int], None] = scope["body"]
    return made


def _takes_objects(types: Sequence[WitType]) -> bool:
    """Tell whether lifting ``types`` may take objects from the guest. Any own handle may: a world's are not known."""
    return any(owns(of, _EVERY_KEY) for of in types)


_EVERY_KEY = 1 << 32


def _lower(function: ImportedFunction, scope: dict[str, Any]) -> str:
    of = function.type.result
    scope["refit"] = _refit(function)
    if of is None:
        return "    if result is not None: refit(result, door)"
    if isinstance(of, str) and of != "string":
        scope |= scalar_scope()
        scope["pack"] = Struct(f"=B7x{FORMATS[of]}").pack_into
        scope["struct_error"] = _STRUCT_ERRORS
        line = f"pack(windows[{SLOT}](results), 0, {KINDS[of]}, {{}})"
        return (
            f"    try: {line.format(scalar_expression(of, 'result'))}\n"
            f"    except struct_error: result = refit(result, door); {line.format(scalar_expression(of, 'result'))}"
        )
    scope["lower"] = _lowering(function)
    return "    lower(result, results, door)"


_STRUCT_ERRORS = (TypeError, ValueError, OverflowError, AttributeError, struct_error)
_UNFIT = (TypeError, ValueError, OverflowError, AttributeError, KeyError, Unfit)


def _lowering(function: ImportedFunction) -> Callable[[Any, int, Door], None]:
    """Return what gives a result to the engine: written into an arena of ours, then cloned into the engine's."""
    of = function.type.result
    assert of is not None
    lowering = result_lowering_of(of, images_of((of,)))
    settled, fitted = _settling(function), _fitting(function)
    free: list[tuple[Arena, Callable[..., None], Any]] = []
    clone, now = lib.wasmtime_component_val_clone, time.monotonic

    def lower(result: Any, results: int, door: Door) -> None:
        try:
            arena, write, source = free.pop()
        except IndexError:
            arena = Arena(lowering.layout, 1)
            write, source = lowering.make(arena), pointer(arena.base + lowering.first)
        keep: list[Any] = []
        handles = door.handles
        mark = len(handles.loans)
        try:
            try:
                write(result, keep, door)
            except CallError:
                raise
            except _UNFIT:
                handles.take_back(mark)
                result = settled(result, door)
                write(fitted(result), keep, door)
            if door.bytes_left < 0:
                raise door.overdrawn()
            if door.stop is not None or now() >= door.deadline:
                raise door.late(str(function))
        except BaseException as error:
            handles.withdraw(mark, of, result)
            if isinstance(error, CallError):
                raise HostError(f"host function {function} broke its type: {error}") from None
            raise
        clone(source, pointer(results))
        if len(handles.loans) > mark:
            handles.settle(mark)
        free.append((arena, write, source))

    return lower


def refit(function: ImportedFunction, result: Any, door: Door) -> Any:
    """Return a host function's result made fit; raise ``HostError`` that says what is wrong with it."""
    return _refit(function)(result, door)


def _refit(function: ImportedFunction) -> Callable[[Any, Door], Any]:
    """Return what makes a result fit that did not, or says what is wrong with it."""
    settled, fitted = _settling(function), _fitting(function)
    return lambda result, door: fitted(settled(result, door))


def _settling(function: ImportedFunction) -> Callable[[Any, Door], Any]:
    """Return what awaits a result that is to be awaited."""
    fallible, name = isinstance(function.type.result, Result), str(function)

    def settled(result: Any, door: Door) -> Any:
        try:
            return door.settled(result, name)
        except Err as declared:
            if not fallible:
                raise
            return declared

    return settled


def _fitting(function: ImportedFunction) -> Callable[[Any], Any]:
    """Return what makes a settled result of its type; it raises ``HostError`` for one that cannot be."""
    of = function.type.result

    def fitted(result: Any) -> Any:
        if of is None:
            if result is None:
                return None
            raise HostError(
                f"host function {function} returned {type(result).__name__}, but it has no result; return None"
            )
        try:
            return fit(of, as_result(result) if isinstance(of, Result) else result, "its result")
        except CallError as error:
            raise HostError(f"host function {function} broke its type: {error}") from None

    return fitted


def _observed(function: ImportedFunction) -> Callable[[HostSide, Callable[..., Any], tuple[Any, ...]], Any]:
    """Return what calls with the clock running, and tells of it."""
    module, name = function.interface or "(world)", function.name
    fallible = isinstance(function.type.result, Result)

    def observed(side: HostSide, call: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        door = side.door
        door.serving = str(function)
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            if door.faults is not None:
                return door.faults(module, name, function.type, partial(call, *values))
            return call(*values)
        except Err as declared:
            if not fallible:
                error = declared
                raise
            return declared
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.perf_counter() - started
            door.host_seconds += seconds
            if door.observe_call is not None:
                door.observe_call(module, name, seconds, error)
            if error is None:
                door.serving = None

    return observed


def undefined(function: ImportedFunction) -> Callable[..., Any]:
    """Return what stands for an import that nothing provides, where that was asked for: it traps."""
    return MissingFunction(str(function))
