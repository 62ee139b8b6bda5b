"""The engine's signal handlers, which turn a guest's fault into a trap, and checks that they are still installed.

Theory of operation. The engine compiles bounds checks, ``unreachable`` and integer division into instructions that
fault. Its handlers for SIGSEGV, SIGILL and SIGFPE turn such a fault into a trap. The engine installs them once, with
the first engine of the process. If one is replaced later, the next trap kills the process (``SIG_DFL``, ``SIG_IGN``,
``faulthandler``) or repeats the faulting instruction forever (a Python handler, which only sets a flag and returns),
past every deadline (F30, F45).

Handlers do not run in a thread that blocks their signal: a fault there makes the kernel kill the process
(sigprocmask(2)). Servers block all signals in some of their threads, and threads started by those inherit the mask.

Before a guest runs, and before it resumes after a host call, :func:`secure` therefore unblocks the signals in the
current thread, compares the installed handlers with the engine's, and reinstalls any that were replaced. This takes
one system call for each signal and one for the mask, 0.2 to 0.4 µs each through :mod:`ctypes`. Callers skip it if the
guest was left less than :data:`NEAR` seconds ago, which is too short to replace a handler. If another thread replaces a
handler during a call, the ticker reinstalls it.

A native handler that belongs neither to Python nor to the engine may belong to another runtime in this process, such as
a JVM or a crash reporter, which needs it. Aegis leaves such a handler in place and rejects the call.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_char, c_char_p, c_int, c_void_p
from time import monotonic

from aegis.errors import HostError, SandboxStateError
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
else:  # the C module behind signal: importing signal creates enumerations, which takes longer than this module's import
    import _signal as signal

__all__ = [
    "NEAR",
    "OWN_CODE",
    "installed_by",
    "leave_to_ticks",
    "recording",
    "secure",
    "secure_after",
    "secure_at_tick",
    "unblock_signals",
]


class _CallPath:
    """Mimics :meth:`aegis.Sandbox.call`, with nothing but the reads of the clock in its closure."""

    def __init__(self) -> None:
        self._fast = {"": _timed_call}

    def call(self, name: str, *args: Any) -> tuple[float, float]:
        """Return when the call began and when it ended."""
        try:
            return self._fast[name](*args)
        except KeyError:
            raise AssertionError from None


def _timed_call(*_: Any) -> tuple[float, float]:
    began = monotonic()
    try:
        return began, monotonic()
    finally:
        _nothing()


def _nothing() -> None:
    """Do nothing; also takes the place of pthread_sigmask while there are no handlers."""


def _shortest_gap() -> float:
    """Return the least seconds between two calls of a guest if the program makes one system call.

    getppid(2) is the shortest one that Python has a function for; sigaction(2) takes longer.
    """
    path, shortest = _CallPath(), math.inf
    for _ in range(_MEASUREMENTS):
        _, ended = path.call("", 1, 2)
        os.getppid()
        began, _ = path.call("", 1, 2)
        shortest = min(shortest, began - ended)
    return shortest


_MEASUREMENTS = 128
NEAR = min(max(3e-7, 1.1 * _shortest_gap()), 5.2e-7)
"""Seconds; Python code needs longer than this to call sigaction(2) between two calls of a guest, or in a host function.
The slower the system calls of a machine, the more calls need no check; a measurement under load must not exempt all."""
OWN_CODE = 1e-4
"""Seconds, in place of :data:`NEAR`, for host functions that run no code of the application: they replace no handler.
One that takes longer has waited, and other threads ran meanwhile."""

_SIGNALS = {
    name: int(getattr(signal, name)) for name in ("SIGSEGV", "SIGILL", "SIGFPE", "SIGBUS") if hasattr(signal, name)
}
_STRUCT_BYTES = 256  # at least sizeof(struct sigaction): 152 on Linux, 16 on macOS; the content is opaque here
_DEFAULT, _IGNORE = None, 1  # SIG_DFL is the null pointer, which ctypes returns as None


class _Location(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = (("file", c_char_p), ("base", c_void_p), ("symbol", c_char_p), ("address", c_void_p))


class _EngineHandler:
    """One of the engine's handlers: its signal, its address, and the ``struct sigaction`` that reinstalls it."""

    __slots__ = ("action", "address", "name", "number")

    def __init__(self, name: str, address: int) -> None:
        self.name, self.address = name, address
        self.number = c_int.from_param(_SIGNALS[name])
        self.action = (c_char * _STRUCT_BYTES)()
        _library().sigaction(self.number, None, self.action)

    def reinstall(self) -> None:
        _library().sigaction(self.number, self.action, None)


def _unblocking() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return pthread_sigmask(3) and the arguments that unblock the engine's signals in the calling thread."""
    library, signals = _library(), (c_char * _STRUCT_BYTES)()
    library.sigemptyset(signals)
    for signum in _SIGNALS.values():
        library.sigaddset(signals, signum)
    return library.pthread_sigmask, (c_int.from_param(int(signal.SIG_UNBLOCK)), signals, None)


_handlers: list[_EngineHandler] = []
"""Empty before the first engine, and on systems where the engine uses no signals (Windows, macOS)."""
_UNWATCHED: tuple[Callable[..., Any], tuple[Any, ...], list[Any], list[int | None]] = (_nothing, (), [], [])
_watched = _UNWATCHED
"""The data that :func:`secure` needs, in the form that it uses fastest, since every call of a sandbox runs it: the
function that unblocks the signals, its arguments, the signals, and the addresses of their handlers."""
_between_ticks = _watched
"""The data that :func:`secure_at_tick` needs, which stays when only ticks compare the handlers."""
_logged: set[str] = set()
"""Signals for which a replaced handler was already logged."""


def _library() -> Any:
    return ctypes.PyDLL(None)


def _question() -> Callable[[Any], int | None]:
    """Return the function that returns a signal's handler: its address, ``None`` for SIG_DFL, or 1 for SIG_IGN."""
    ask: Any = ctypes.pythonapi.PyOS_getsig
    ask.restype, ask.argtypes = c_void_p, None
    return ask  # type: ignore[no-any-return]


_installed = _question()


def recording(make_engine: Callable[[], int], library: ctypes.CDLL) -> int:
    """Call ``make_engine``, record the signal handlers that it installed, and return its result.

    If the application created an engine of ``library`` before, the handlers are already installed; they are recognised
    because their addresses lie in the library.
    """
    if _handlers or sys.platform == "win32":
        return make_engine()
    before = {name: _installed(c_int.from_param(signum)) for name, signum in _SIGNALS.items()}
    made = make_engine()
    engine = _base_of(ctypes.cast(library.wasm_engine_delete, c_void_p).value)
    for name, old in before.items():
        address = _installed(c_int.from_param(_SIGNALS[name]))
        if address is not None and address != _IGNORE and (address != old or _base_of(address) == engine):
            _handlers.append(_EngineHandler(name, address))
    if _handlers:
        global _watched, _between_ticks
        _watched = _between_ticks = (*_unblocking(), [h.number for h in _handlers], [h.address for h in _handlers])
    return made


def installed_by(library: ctypes.CDLL) -> bool:
    """Return whether handlers of the engine's ``library`` are already installed."""
    if sys.platform == "win32":
        return False
    engine = _base_of(ctypes.cast(library.wasm_engine_delete, c_void_p).value)
    found = [_installed(c_int.from_param(signum)) for signum in _SIGNALS.values()]
    return any(address not in (_DEFAULT, _IGNORE) and _base_of(address) == engine for address in found)


def _base_of(address: int | None) -> int | None:
    """Return the base address of the library that contains ``address`` (dladdr(3)), or ``None``."""
    found = _Location()
    if not _library().dladdr(c_void_p(address), ctypes.byref(found)):
        return None
    base: int | None = found.base
    return base


def secure() -> None:
    """Unblock the engine's signals in this thread and reinstall handlers that were replaced.

    Raise :class:`~aegis.errors.SandboxStateError` if a handler was replaced by that of another runtime.
    """
    watched = _watched
    if watched is _UNWATCHED:
        return
    unblock, arguments, numbers, addresses = watched
    unblock(*arguments)
    if list(map(_installed, numbers)) != addresses:
        _reinstall()


def unblock_signals() -> None:
    """Unblock the engine's signals in this thread, and in those that it starts later; also before the first engine."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS.values())


def leave_to_ticks() -> None:
    """Call :func:`secure` now; from now on, only ticks compare the handlers.

    For a worker process: it runs no code of an embedder, so nothing replaces a handler or blocks a signal between two
    calls. The threads that run guests are this one, and others after :func:`unblock_signals`. The five system calls
    take a tenth of the time of a call from the parent.
    """
    global _watched
    secure()
    _watched = _UNWATCHED


def _reinstall() -> None:
    replaced = []
    for handler in _handlers:
        installed = _installed(handler.number)
        if installed != handler.address:
            _refuse_foreign(handler, installed)
            handler.reinstall()
            replaced.append(handler.name)
    if replaced:
        _log(replaced)


def _refuse_foreign(handler: _EngineHandler, installed: int | None) -> None:
    python = _base_of(ctypes.cast(ctypes.pythonapi.PyOS_getsig, c_void_p).value)
    if installed not in (_DEFAULT, _IGNORE) and _base_of(installed) != python:
        raise SandboxStateError(
            f"native code replaced the engine's handler for {handler.name}, which turns a guest's fault into a trap: "
            "install that code before creating the first sandbox, or run guests in workers (isolation)",
            state="signals",
        )


def _log(names: list[str]) -> None:
    """Log a replaced handler once for each signal. A Python warning could be turned into an error and end the call."""
    new = [name for name in names if name not in _logged]
    if new:
        _logged.update(new)
        from logging import getLogger  # imported only when needed, to keep start-up fast

        getLogger("aegis").warning(
            "the engine's handlers for %s were replaced; Aegis reinstalled them, because guest traps need them: "
            "install signal handlers and enable faulthandler before creating the first sandbox", ", ".join(new),
        )  # fmt: skip


def secure_after(name: object) -> None:
    """Call :func:`secure` after the host function ``name``; blame it for a handler of another runtime.

    Raise :class:`~aegis.errors.HostError` in that case.
    """
    unblock, arguments, numbers, addresses = _watched  # the body of secure(): this runs after most host calls
    unblock(*arguments)
    if list(map(_installed, numbers)) != addresses:
        try:
            _reinstall()
        except SandboxStateError as error:
            raise HostError(f"after the host function {name}: {error}") from None


def secure_at_tick() -> None:
    """Call :func:`secure` on the ticker's thread; leave a handler of another runtime to the next :func:`secure`."""
    unblock, arguments, numbers, addresses = _between_ticks
    unblock(*arguments)
    if list(map(_installed, numbers)) != addresses:
        with suppress(SandboxStateError):
            _reinstall()
