"""The engine's signal handlers, by which a guest's bad access becomes a trap, and whether they are still installed.

Theory of operation. The engine compiles bounds checks, ``unreachable`` and integer division into instructions that
fault. Its handlers of SIGSEGV, SIGILL and SIGFPE turn such a fault into a trap; it installs them once, with the first
engine of the process. Whatever replaces one of them later makes the next trap kill the process (``SIG_DFL``,
``SIG_IGN``, ``faulthandler``) or repeat the faulting instruction for ever (a Python handler, which only sets a flag
and returns), past every deadline (F30, F45).

A thread that blocks one of these signals has no handler of it either: the kernel kills the process for a fault there
(sigprocmask(2)). Servers block all signals in threads of theirs, and what such a thread starts inherits that.

So before a guest runs, and before it goes on after a host call, :func:`secure` unblocks the signals in its thread,
compares the installed handlers with the engine's, and reinstalls those that were replaced. Asking the kernel takes one
system call a signal and one for the mask, some 0.2 µs each through :mod:`ctypes`. Callers therefore skip it when the
guest was left less than :data:`NEAR` seconds ago: replacing a handler takes longer than that. What another thread
replaces during a call, the ticker reinstalls.

A handler in native code that belongs neither to Python nor to the engine may serve another runtime in this process
(a JVM, a crash reporter), which breaks without it: such a handler stays, and the call is refused.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_char, c_char_p, c_int, c_void_p

from aegis.errors import HostError, SandboxStateError
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
else:  # what the module signal wraps, without its enumerations, which cost more of a start than all of this module
    import _signal as signal

__all__ = ["NEAR", "installed_by", "leave_to_ticks", "recording", "secure", "secure_after", "secure_at_tick"]

NEAR = 3e-7
"""Seconds; less than Python code needs to reach the system call that replaces a handler, and to return."""

_SIGNALS = {
    name: int(getattr(signal, name)) for name in ("SIGSEGV", "SIGILL", "SIGFPE", "SIGBUS") if hasattr(signal, name)
}
_STRUCT_BYTES = 256  # struct sigaction has 152 bytes on Linux and 16 on macOS; nothing here looks inside
_DEFAULT, _IGNORE = None, 1  # ctypes reads the null pointer as None


class _Location(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = (("file", c_char_p), ("base", c_void_p), ("symbol", c_char_p), ("address", c_void_p))


class _Handler:
    """One handler of the engine: its signal, its address, and the ``struct sigaction`` that reinstalls it."""

    __slots__ = ("action", "address", "name", "number")

    def __init__(self, name: str, address: int) -> None:
        self.name, self.address = name, address
        self.number = c_int.from_param(_SIGNALS[name])
        self.action = (c_char * _STRUCT_BYTES)()
        _library().sigaction(self.number, None, self.action)

    def reinstall(self) -> None:
        _library().sigaction(self.number, self.action, None)


def _unblocking() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the function that unblocks the signals of the engine's handlers in the calling thread, with arguments."""
    library, signals = _library(), (c_char * _STRUCT_BYTES)()
    library.sigemptyset(signals)
    for signum in _SIGNALS.values():
        library.sigaddset(signals, signum)
    return library.pthread_sigmask, (c_int.from_param(int(signal.SIG_UNBLOCK)), signals, None)


def _nothing() -> None:
    """Stands for unblocking where there are no handlers."""


_handlers: list[_Handler] = []
"""Empty before the first engine, and where the engine uses no signals (Windows, macOS)."""
_UNWATCHED: tuple[Callable[..., Any], tuple[Any, ...], list[Any], list[int | None]] = (_nothing, (), [], [])
_watched = _UNWATCHED
"""What :func:`secure` calls, and the signals and addresses of the handlers: a call of a sandbox waits for it."""
_between_ticks = _watched
"""The same for :func:`secure_at_tick`, where only that has something to compare."""
_logged: set[str] = set()
"""Names of the signals whose replacement was logged."""


def _library() -> Any:
    return ctypes.PyDLL(None)


def _question() -> Callable[[Any], int | None]:
    """Return the function that tells the handler of a signal: its address, ``None`` for default, 1 for ignored."""
    ask: Any = ctypes.pythonapi.PyOS_getsig
    ask.restype, ask.argtypes = c_void_p, None
    return ask  # type: ignore[no-any-return]


_installed = _question()


def recording(make_engine: Callable[[], int], library: ctypes.CDLL) -> int:
    """Return what ``make_engine`` returns, and record the signal handlers that it installed.

    Where the process used the engine's ``library`` before Aegis did, its handlers are known by their address.
    """
    if _handlers or sys.platform == "win32":
        return make_engine()
    before = {name: _installed(c_int.from_param(signum)) for name, signum in _SIGNALS.items()}
    made = make_engine()
    engine = _base_of(ctypes.cast(library.wasm_engine_delete, c_void_p).value)
    for name, old in before.items():
        address = _installed(c_int.from_param(_SIGNALS[name]))
        if address is not None and address != _IGNORE and (address != old or _base_of(address) == engine):
            _handlers.append(_Handler(name, address))
    if _handlers:
        global _watched, _between_ticks
        _watched = _between_ticks = (*_unblocking(), [h.number for h in _handlers], [h.address for h in _handlers])
    return made


def installed_by(library: ctypes.CDLL) -> bool:
    """Tell whether the engine's ``library`` has installed handlers before Aegis made an engine."""
    if sys.platform == "win32":
        return False
    engine = _base_of(ctypes.cast(library.wasm_engine_delete, c_void_p).value)
    found = [_installed(c_int.from_param(signum)) for signum in _SIGNALS.values()]
    return any(address not in (_DEFAULT, _IGNORE) and _base_of(address) == engine for address in found)


def _base_of(address: int | None) -> int | None:
    """Return where the library is loaded that holds ``address``, ``None`` if none does."""
    found = _Location()
    if not _library().dladdr(c_void_p(address), ctypes.byref(found)):
        return None
    base: int | None = found.base
    return base


def secure() -> None:
    """Reinstall the engine's handlers where they were replaced, and unblock their signals in this thread.

    Raise :class:`~aegis.errors.SandboxStateError` for a handler that belongs to another runtime.
    """
    unblock, arguments, numbers, addresses = _watched
    unblock(*arguments)
    if list(map(_installed, numbers)) != addresses:
        _reinstall()


def leave_to_ticks() -> None:
    """Do the same now, on the one thread that runs guests, and from now on at ticks only.

    For a worker process: it runs no code of an embedder, so nothing replaces a handler or blocks a signal between two
    calls. The five system calls take a tenth of the time of a call from the parent.
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


def _refuse_foreign(handler: _Handler, installed: int | None) -> None:
    python = _base_of(ctypes.cast(ctypes.pythonapi.PyOS_getsig, c_void_p).value)
    if installed not in (_DEFAULT, _IGNORE) and _base_of(installed) != python:
        raise SandboxStateError(
            f"native code replaced the engine's handler of {handler.name}, which turns a guest's fault into a trap: "
            "install it before the first sandbox is made, or run guests in workers (isolation)",
            state="signals",
        )


def _log(names: list[str]) -> None:
    """Log a replacement once for each signal. Raising a warning could end the call that it is about."""
    new = [name for name in names if name not in _logged]
    if new:
        _logged.update(new)
        from logging import getLogger  # costs start-up time that no other run needs

        getLogger("aegis").warning(
            "the engine's handlers of %s were replaced and are installed again, for a guest's trap needs them: "
            "install handlers of your own, and enable faulthandler, before the first sandbox is made", ", ".join(new),
        )  # fmt: skip


def secure_after(name: object) -> None:
    """Do the same after the host function ``name``; a handler of another runtime is that function's doing."""
    try:
        secure()
    except SandboxStateError as error:
        raise HostError(f"after the host function {name}: {error}") from None


def secure_at_tick() -> None:
    """Do the same during a call; a handler of another runtime is left to the next :func:`secure`."""
    unblock, arguments, numbers, addresses = _between_ticks
    unblock(*arguments)
    if list(map(_installed, numbers)) != addresses:
        with suppress(SandboxStateError):
            _reinstall()
