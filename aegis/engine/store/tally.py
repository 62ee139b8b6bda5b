"""Read what a call used: fuel, host calls and memory, in as little time as possible."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_uint64

from aegis.engine.native.library import lib
from aegis.support.lean import Any

__all__ = ["Tally", "tally_reader"]

Tally = tuple[int | None, int, int]
"""The fuel of the latest call (``None`` if it is not limited), host calls so far, and bytes of memory."""


def tally_reader(store: Any, run: Any, otherwise: Callable[[], Tally]) -> Callable[[], Tally]:
    """Return a function that reads the tally of the ``ModuleStore`` of a run.

    While another thread has the store, and as soon as the run has let go of it, the function returns the result of
    ``otherwise``. A store may be deleted from then on, also by the thread of a host function that returned late.
    """
    door = store.door
    take, give = store.token.pop, store.token.append
    size, fuel = store.memory_reader(), store.plan.limits.fuel
    most = door.limits.host_calls
    most = 1 << 62 if most is None else most
    left, context, get_fuel = c_uint64(), store.context, lib.wasmtime_context_get_fuel
    into = byref(left)

    def read() -> Tally:
        try:
            take()
        except IndexError:
            return otherwise()
        except BaseException:  # a signal handler raised immediately after the token was taken
            give(None)
            raise
        try:
            if run.store is not store:
                return otherwise()
            if fuel is None:
                return None, most - door.calls_left, size()
            get_fuel(context, into)
            return fuel - left.value, most - door.calls_left, size()
        finally:
            give(None)

    return read
