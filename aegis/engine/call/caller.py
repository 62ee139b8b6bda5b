"""The raw call path from the host into a guest: one closure an export, written for its signature (D4).

A closure does, in this order: is this thread right, is there room to be called back, is the sandbox free,
start the budget of bytes (where the guest can call the host), arm the deadline, arm the fuel (where it is counted),
lower the arguments, call, look at the trap, lift the result. Nothing else is on this path.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from threading import get_ident, main_thread

from aegis.engine.call.core_values import SLOT, coerce, coerced, formats, index_of, view_name
from aegis.engine.native.library import lib, number, pointer
from aegis.engine.native.signals import NEAR, secure
from aegis.engine.threads.guest_thread import DIRECT, NESTED, where
from aegis.engine.threads.ticker import TICK, ticker
from aegis.errors import StackExhausted
from aegis.support.bounded_cache import memoised
from aegis.support.lean import TYPE_CHECKING, Any, Protocol
from aegis.values import FuncType

if TYPE_CHECKING:

    class Callee(Protocol):
        """What a closure needs of its store."""

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
    "IN_TIME", "CallFrame", "Elsewhere", "Entry", "Style", "around_text", "bind", "compile_caller", "passage_names",
    "room_for_callbacks", "room_inside",
]  # fmt: skip

_EXTERN = 32
_MOST_TYPES_KEPT = 4096
"""Parameters and results of signatures whose closures are kept for the process."""
_MAIN_THREAD = main_thread().ident


class Elsewhere(Exception):
    """This closure may not run on this thread now; the sandbox finds another way."""


class Entry:
    """One exported function of a module under one plan: what binding it needs, worked out once."""

    __slots__ = ("_free", "_makers", "name", "name_length", "raw_name", "signature")

    def __init__(self, name: str, signature: FuncType) -> None:
        self.name = name
        self.signature = signature
        self.raw_name = name.encode()
        self.name_length = number(len(self.raw_name))
        self._free: list[CallFrame] = []
        self._makers: list[Callable[..., Any] | None] = [None] * (2 * Style.METERED)

    def take_frame(self) -> CallFrame:
        """Return a frame, one that an ended store gave back if there is one."""
        try:
            return self._free.pop()
        except IndexError:
            return CallFrame(self)

    def give_back(self, frame: CallFrame) -> None:
        """Keep the frame of an ended store for the next one."""
        if len(self._free) < 16:
            self._free.append(frame)

    def maker(self, style: int) -> Callable[..., Any]:
        """Return what makes closures of ``style``."""
        made = self._makers[style]
        if made is None:
            made = self._makers[style] = compile_caller(self.signature, style)
        return made


class CallFrame:
    """Native space for one bound function: its handle, then its arguments and results."""

    __slots__ = ("args", "buffer", "count", "entry", "extern", "func", "views")

    def __init__(self, entry: Entry) -> None:
        signature = entry.signature
        slots = max(len(signature.params), len(signature.results), 1)
        self.entry = entry
        self.buffer = (ctypes.c_char * (_EXTERN + SLOT * slots))()
        base = ctypes.addressof(self.buffer)
        self.extern = pointer(base)
        self.func = pointer(base + 8)
        self.args = pointer(base + _EXTERN)
        self.count = number(slots)
        block = memoryview(self.buffer).cast("B")[_EXTERN:]
        self.views = {name: block.cast(name) for name in formats(signature)}  # type: ignore[call-overload]


class Style:
    """How a closure treats its thread.

    ``MAIN_ALONE``: on the main thread, for a guest that cannot call into Python; the engine's own epoch
    deadline ends it. ``ALONE``: on another thread, same guest. ``NESTING``: a guest with host functions,
    which may call back into guests. ``INNER``: the call inside a host function of the same sandbox.
    ``METERED`` is added to any of them where fuel is counted: each call then begins with all of it.
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
        begun = now()
        if begun - door.left > NEAR:
            secure()
        if {elsewhere}:
            raise Elsewhere
        {room}
        try:
            take()
        except IndexError:
            raise store.busy() from None
        except BaseException:  # a signal's handler raised as soon as the token was taken
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
            door.left = left = now()
            if left >= door.deadline or door.stop is not None:
                raise door.overdue() or door.timeout()
"""
"""Closes each passage: a result that came too late is no result, whatever made it late."""


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
    """Return what makes closures of ``style``, with the names of ``scope`` (see :func:`around_text`)."""
    scope |= passage_names(style)
    exec(around_text(style, params, inner, views), scope)
    return scope["make"]  # type: ignore[no-any-return]


def passage_names(style: int) -> dict[str, Any]:
    """Return the names that the text of a passage of ``style`` uses."""
    return {
        "now": time.monotonic, "NEAR": NEAR, "secure": secure, "TICK": TICK, "MAIN_THREAD": _MAIN_THREAD,
        "Elsewhere": Elsewhere, "where": where, "ticker": ticker, "get_ident": get_ident, "set_fuel": _set_fuel,
        "invoke": _invoke, "room": _ROOMS[style % Style.METERED],
    }  # fmt: skip


def around_text(style: int, params: str, inner: str, views: str) -> str:
    """Return the text of ``make``, which makes closures of ``style``: the passage into the guest, around ``inner``.

    ``inner`` lowers, calls and lifts, indented by twelve; ``views`` names what it needs of its frame.
    """
    metered, style = style & Style.METERED, style % Style.METERED
    nesting = style == Style.NESTING
    if style == Style.INNER:
        body = "        room()\n        secure()" + inner.replace("\n    ", "\n")
    else:
        body = _OUTER.format(
            elsewhere="get_ident() != MAIN_THREAD" if style == Style.MAIN_ALONE else f"where.mode != {DIRECT}",
            room="" if style == Style.MAIN_ALONE else "room()",
            enter=f"where.mode = {NESTED}; store.owner = get_ident()" if nesting else "",
            begin="begin()" if nesting else "",
            refuel="set_fuel(context, fuel)" if metered else "",
            leave=f"where.mode = {DIRECT}; store.owner = 0" if nesting else "",
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


def _one() -> None:
    return None


def _two() -> None:
    _one()


def _three() -> None:
    _two()


def _four() -> None:
    _three()


def room_for_callbacks() -> None:
    """Raise ``RecursionError`` unless a native callback can be entered and answer from here.

    At the very limit of Python's recursion a callback fails before its first instruction, where nothing
    can catch it, and the engine would be given whatever lay on the stack. A trampoline needs itself, its
    way to fail, and what those call; the epoch's callback needs only itself, for what fails inside it
    stops the guest.
    """
    _four()


def room_inside() -> None:
    """The same for a call inside a host call, or of a component's realloc, where the guest chose how deep it is."""
    try:
        _four()
    except RecursionError:
        most = sys.getrecursionlimit()
        raise StackExhausted(
            f"Python's recursion limit exceeded ({most:,}/{most:,} frames) by calls between guest and host inside one "
            "another: nest fewer, or raise it with sys.setrecursionlimit",
            limit="stack",
        ) from None


_ROOMS = (None, _one, room_for_callbacks, room_inside)


@memoised(_MOST_TYPES_KEPT, lambda signature, _: 1 + len(signature.params) + len(signature.results))
def compile_caller(signature: FuncType, style: int) -> Callable[..., Any]:
    """Return what makes closures of ``style`` for functions of ``signature``."""
    return _compile(signature, style)


def bind(store: Callee, frame: CallFrame, style: int) -> Callable[..., Any]:
    """Return the closure that calls the function in ``frame``; it takes the parameters by position."""
    return frame.entry.maker(style | store.plan.metered)(store, frame)  # type: ignore[no-any-return]


_set_fuel = lib.wasmtime_context_set_fuel
_invoke = lib.wasmtime_func_call_unchecked
