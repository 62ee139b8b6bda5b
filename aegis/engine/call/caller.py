"""The call path from the host into a guest: one closure for each export, generated for its signature (D4).

A closure performs these steps in order, and nothing else:

1. Check that this thread may run the guest, and that the Python stack has room for callbacks.
2. Take the store's token; fail if the sandbox is busy.
3. Start the byte budget (only if the guest can call the host), the deadline, and the fuel (only if it is limited).
4. Lower the arguments, call the function, check for a trap, lift the result, and check the deadline again.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from threading import get_ident, main_thread

from aegis.engine.call.core_values import RAW_VALUE_BYTES, coerce, coerced, formats, index_of, view_name
from aegis.engine.native.library import lib, number, pointer_into
from aegis.engine.native.signals import NEAR, secure
from aegis.engine.threads.guest_thread import DIRECT, NESTED, thread_state
from aegis.engine.threads.ticker import TICK, ticker
from aegis.errors import StackExhausted
from aegis.support.bounded_cache import memoised
from aegis.support.lean import TYPE_CHECKING, Any, Protocol
from aegis.values import FuncType

if TYPE_CHECKING:

    class CallableStore(Protocol):
        """The parts of a store that a closure uses."""

        armed: float
        owner: int
        door: Any
        plan: Any
        token: list[None]
        context: Any
        fuel: Any
        trap_pointer: Any
        trap: memoryview

        def arm(self) -> None: ...
        def failed(self, error: int | None) -> BaseException: ...
        def busy(self) -> Exception: ...


__all__ = [
    "IN_TIME",
    "CallFrame",
    "Elsewhere",
    "ExportEntry",
    "Style",
    "around_names",
    "around_text",
    "bind",
    "compile_caller",
    "room_for_callbacks",
    "room_inside",
]  # fmt: skip

_EXTERN = 32
"""Bytes of ``wasmtime_extern_t``."""
_MAX_CACHED_VALUES = 4096
"""Parameters and results of the signatures whose compiled closures are cached for the process."""
_MAX_FREE_FRAMES = 16
"""Frames of closed stores that are cached for each export."""
_MAIN_THREAD = main_thread().ident


class Elsewhere(Exception):
    """Signal that this closure cannot serve the call; the sandbox retries on another thread, store or closure."""


class ExportEntry:
    """An exported function of a module under one plan: the data for binding it, computed once for all stores."""

    __slots__ = ("_free", "_makers", "name", "name_length", "raw_name", "signature")

    def __init__(self, name: str, signature: FuncType) -> None:
        self.name = name
        self.signature = signature
        self.raw_name = name.encode()
        self.name_length = number(len(self.raw_name))
        self._free: list[CallFrame] = []
        self._makers: list[Callable[..., Any] | None] = [None] * (2 * Style.METERED)

    def take_frame(self) -> CallFrame:
        """Return a frame, reusing one of a closed store if possible."""
        try:
            return self._free.pop()
        except IndexError:
            return CallFrame(self)

    def give_back(self, frame: CallFrame) -> None:
        """Cache the frame of a closed store for the next store."""
        if len(self._free) < _MAX_FREE_FRAMES:
            self._free.append(frame)

    def maker(self, style: int) -> Callable[..., Any]:
        """Return the function that creates closures of ``style``."""
        made = self._makers[style]
        if made is None:
            made = self._makers[style] = compile_caller(self.signature, style)
        return made


class CallFrame:
    """The native buffer of one bound function: its ``wasmtime_extern_t``, then its arguments and results."""

    __slots__ = ("args", "buffer", "count", "entry", "extern", "func", "views")

    def __init__(self, entry: ExportEntry) -> None:
        signature = entry.signature
        slots = max(len(signature.params), len(signature.results), 1)
        self.entry = entry
        self.buffer = (ctypes.c_char * (_EXTERN + RAW_VALUE_BYTES * slots))()
        self.extern = pointer_into(self.buffer)
        self.func = pointer_into(self.buffer, 8)
        self.args = pointer_into(self.buffer, _EXTERN)
        self.count = number(slots)
        block = memoryview(self.buffer).cast("B")[_EXTERN:]
        self.views = {name: block.cast(name) for name in formats(signature)}  # type: ignore[call-overload]


class Style:
    """Constants for the kind of thread and guest that a closure is generated for.

    ``MAIN_ALONE``: on the main thread, for a guest that cannot call into Python; the engine's own epoch deadline
    stops it. ``ALONE``: the same guest on another thread. ``NESTING``: a guest with host functions, which may call
    back into guests. ``INNER``: a call made inside a host function of the same sandbox. ``METERED`` is added to any
    of them if fuel is limited: each call then starts with the full amount.
    """

    MAIN_ALONE, ALONE, NESTING, INNER = range(4)
    METERED = 4
    NESTINGS = (NESTING, NESTING + METERED)


_SOURCE = """
def make(store, frame):
    take, give = store.token.pop, store.token.append
    failed, arm, door = store.failed, store.arm, store.door
    {names}
    {views}
    def call({params}):
{body}
    return call
"""
_OUTER = """
        begun = door.entered_at = now()
        if begun - door.returned_at > NEAR:
            secure()
        if {elsewhere}:
            raise Elsewhere
        {room}
        try:
            take()
        except IndexError:
            raise store.busy() from None
        except BaseException:  # a signal handler raised immediately after the token was taken
            give(None)
            raise
        {enter}
        try:
            {begin}
            if ticker.now != store.armed or begun - store.armed > TICK:
                arm()
            {refuel}
{inner}
        finally:
            {leave}
            give(None)
"""
_INNER = """
        room()
        secure()
        outer, door.serving = door.serving, None
        try:
{inner}
        finally:
            door.serving = outer
"""
_LOWER = """
            try:
{plain}
            except (TypeError, ValueError, OverflowError):
{checked}
"""
_CALL = """
            error = invoke(context, func, args, count, trapped)
            if error is not None or trap[0]:
                raise failed(error)
            value = {result}
{in_time}
            return value
"""
IN_TIME = """
            door.returned_at = ended = now()
            if ended >= door.deadline or door.stop is not None:
                raise door.stop_reason() or door.timeout()
"""
"""Ends every call: discard the result and raise if the deadline has passed, even if the guest returned normally."""


def _compile(signature: FuncType, style: int) -> Callable[..., Any]:
    params = signature.params
    targets = [f"v{view_name(t)}[{index_of(t, n)}]" for n, t in enumerate(params)]
    checks = [f"coerce({t!r}, a{n}, 'argument {n + 1}')" for n, t in enumerate(params)]
    plain = [f"{target} = {coerced(params[n], f'a{n}', checks[n])}" for n, target in enumerate(targets)]
    checked = [f"{target} = {check}" for target, check in zip(targets, checks, strict=True)]
    inner = _CALL.format(result=_result(signature.results), in_time=IN_TIME)
    if params:
        inner = _LOWER.format(plain=_indent(plain, 16), checked=_indent(checked, 16)) + inner
    views = "; ".join(f"v{name} = frame.views[{name!r}]" for name in formats(signature)) or "pass"
    return around(style, ", ".join(f"a{n}" for n in range(len(params))), inner, views, {"coerce": coerce})


def around(style: int, params: str, inner: str, views: str, scope: dict[str, Any]) -> Callable[..., Any]:
    """Compile the text of :func:`around_text`, with the names of ``scope``; return its ``make`` function."""
    scope |= around_names(style)
    exec(around_text(style, params, inner, views), scope)
    return scope["make"]  # type: ignore[no-any-return]


def around_names(style: int) -> dict[str, Any]:
    """Return the names that the text of :func:`around_text` uses for ``style``, with their values."""
    return {
        "now": time.monotonic, "NEAR": NEAR, "secure": secure, "TICK": TICK, "MAIN_THREAD": _MAIN_THREAD,
        "Elsewhere": Elsewhere, "thread_state": thread_state, "ticker": ticker, "get_ident": get_ident,
        "set_fuel": _set_fuel, "invoke": _invoke, "room": _ROOMS[style % Style.METERED],
    }  # fmt: skip


def around_text(style: int, params: str, inner: str, views: str) -> str:
    """Return the source of ``make``, which creates closures of ``style``: the steps of a call around ``inner``.

    ``inner`` is the source that lowers the arguments, calls and lifts the result, indented by twelve spaces. ``views``
    is a line that binds the views of the frame that ``inner`` uses.
    """
    metered, style = style & Style.METERED, style % Style.METERED
    nesting = style == Style.NESTING
    if style == Style.INNER:
        body = _INNER.format(inner=inner)
    else:
        body = _OUTER.format(
            elsewhere="get_ident() != MAIN_THREAD" if style == Style.MAIN_ALONE else f"thread_state.mode != {DIRECT}",
            room="" if style == Style.MAIN_ALONE else "room()",
            enter=f"thread_state.mode = {NESTED}; store.owner = get_ident()" if nesting else "",
            begin="begin()" if nesting else "",
            refuel="set_fuel(context, fuel)" if metered else "",
            leave=f"thread_state.mode = {DIRECT}; store.owner = 0" if nesting else "",
            inner=inner,
        )
    names = {
        "context, trapped, trap = store.context, store.trap_pointer, store.trap": ("context", "trap"),
        "begin = door.begin": ("begin()",),
        "fuel = store.fuel": ("fuel)",),
        "func, args, count = frame.func, frame.args, frame.count": ("func,", "args,"),
    }
    used = [line for line, words in names.items() if any(word in body for word in words)]
    return _SOURCE.format(names="; ".join(used) or "pass", views=views, params=params, body=body)


def _indent(lines: list[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)


def _result(results: tuple[str, ...]) -> str:
    reads = [f"v{view_name(t)}[{index_of(t, n)}]" for n, t in enumerate(results)]
    return "None" if not reads else reads[0] if len(reads) == 1 else f"({', '.join(reads)})"


# Each probe calls the next one, so that calling _four fails unless that many more Python frames fit.


def _one() -> None:
    return None


def _two() -> None:
    _one()


def _three() -> None:
    _two()


def _four() -> None:
    _three()


def room_for_callbacks() -> None:
    """Raise ``RecursionError`` unless the Python stack has room for a native callback and its error handling.

    At Python's recursion limit a callback fails before its first instruction. Nothing can catch that error, and the
    engine would use an undefined return value. A trampoline needs frames for itself, for its failure path, and for the
    functions that these call. The epoch callback needs only its own frame: if it fails inside, it stops the guest.
    """
    _four()


def room_inside() -> None:
    """Raise ``StackExhausted`` if a nested call has no room for a native callback on the Python stack.

    This is :func:`room_for_callbacks` for a call inside a host function and for a component's realloc, where the guest
    controls the depth.
    """
    try:
        _four()
    except RecursionError:
        raise StackExhausted(_recursion_text(), limit="stack") from None


def _recursion_text() -> str:
    """Return the message for Python's own recursion limit, which no limit of Aegis can raise."""
    frames = sys.getrecursionlimit()
    return (
        f"Python's recursion limit exceeded ({frames:,}/{frames:,} frames) by nested calls between guest and host: "
        "nest fewer calls, or raise it with sys.setrecursionlimit"
    )


_ROOMS = (None, _one, room_for_callbacks, room_inside)


@memoised(_MAX_CACHED_VALUES, lambda signature, _: 1 + len(signature.params) + len(signature.results))
def compile_caller(signature: FuncType, style: int) -> Callable[..., Any]:
    """Return the function that creates closures of ``style`` for functions of ``signature``, compiled once."""
    return _compile(signature, style)


def bind(store: CallableStore, frame: CallFrame, style: int) -> Callable[..., Any]:
    """Return a closure that calls the function in ``frame``; it takes the arguments by position."""
    return frame.entry.maker(style | store.plan.metered)(store, frame)  # type: ignore[no-any-return]


_set_fuel = lib.wasmtime_context_set_fuel
_invoke = lib.wasmtime_func_call_unchecked
