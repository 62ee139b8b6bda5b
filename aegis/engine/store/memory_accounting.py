"""Linear memories of our own making, so that the bytes of one store are counted all together.

The engine's own limit is for each memory alone, and it tells nobody of a growth (F28). An engine that is
*counted* asks here for every memory and every growth instead: the store's account says yes or no. That has
its price: no pool, data copied rather than mapped, and callbacks into Python, so that a guest whose memory
grows may not run directly on the main thread (F9).

Nothing here may fail towards the engine: what cannot be done is refused, and where a memory lies and how
large it is, is always known.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_int, c_size_t, c_void_p
from functools import cache

from aegis.engine.call.door import Door
from aegis.engine.native.library import lib
from aegis.engine.threads.guest_thread import where
from aegis.errors import MemoryExceeded
from aegis.limits import exceeded
from aegis.support.lean import Any

__all__ = ["Account", "available", "install"]

_NONE, _READ_WRITE = 0, 3
_FLAGS = {"linux": 0x02 | 0x20 | 0x4000, "darwin": 0x02 | 0x1000 | 0x40}  # private, anonymous, not reserved
_FIXED = 0x10
_FAILED = c_void_p(-1).value
_SPARE_KEPT = 16
_UNLIMITED = 1 << 62

_error_new: Any = None  # bound before the first engine that asks: a refusal may have no room to do it
_REFUSED = ctypes.c_char_p.from_param(b"the memory limit of the store")


@cache
def _system() -> Any:
    """Return the C library with what maps memory, or ``None`` where that is not to be had."""
    if sys.platform not in _FLAGS or ctypes.sizeof(c_size_t) != 8:
        return None
    library = ctypes.CDLL(None)
    try:
        library.mmap.restype = c_size_t
        library.mmap.argtypes = [c_size_t, c_size_t, c_int, c_int, c_int, ctypes.c_long]
        library.mprotect.argtypes = [c_size_t, c_size_t, c_int]
        library.munmap.argtypes = [c_size_t, c_size_t]
    except AttributeError:
        return None
    return library


def available() -> bool:
    """Tell whether memories can be counted here: on 64-bit Linux and macOS."""
    return _system() is not None


class Account:
    """The linear memories of one store. ``used`` is in bytes; memories never shrink, so it is the peak too.

    ``refused`` are the bytes of the latest request if the limit refused it, or 0; ``unfit`` those of a memory
    that could not be made, and ``starved`` tells that the system, not the limit, was why.
    """

    __slots__ = ("_door", "_patience", "_regions", "limit", "refused", "starved", "unfit", "used")

    def __init__(self, limit: int | None, door: Door) -> None:
        self.limit = _UNLIMITED if limit is None else limit
        self._door = door
        self._patience = door.limits.host_calls or _UNLIMITED
        self.used = self.refused = self.unfit = 0
        self.starved = False
        self._regions: list[_Region] = []

    def open(self, size: int, capacity: int, guard: int) -> _Region | None:
        """Return a new memory of ``size`` bytes that can grow to ``capacity``, or ``None``."""
        if not self._admits(size):
            self.unfit = size
            return None
        region = _take(capacity, guard)
        if region is None or not region.extend(size):
            self.unfit, self.starved = size, True
            return None
        self._regions.append(region)
        region.account = self
        self.used += size
        return region

    def grow(self, region: _Region, size: int) -> bool:
        """Let a memory grow to ``size`` bytes; tell whether it did."""
        more = size - region.size
        if not self._admits(more) or not region.extend(size):
            return False
        self.used += more
        return True

    def _admits(self, more: int) -> bool:
        fits = self.used + more <= self.limit
        self.refused = 0 if fits else more
        if not fits:
            self._refuse()
        return fits

    def _refuse(self) -> None:
        """A refusal costs about what a host call costs, and so there may be as many; then the next tick ends it."""
        self._patience -= 1
        if self._patience < 0 and self._door.stop is None:
            times = self._door.limits.host_calls or 0
            after = f" {times:,} times, as often as the guest may call the host"
            self._door.stop = MemoryExceeded(
                exceeded("memory", self.used, self.limit, after=after),
                limit="memory", phase="grown", used=self.used, allowed=self.limit,
            )  # fmt: skip

    def close(self) -> None:
        """Free the memories. Their store is gone."""
        while self._regions:
            _give_back(self._regions.pop())


class _Region:
    """Address space of one memory: a guard, its bytes, room to grow, a guard."""

    __slots__ = ("account", "base", "capacity", "length", "size", "start")

    def __init__(self, start: int, length: int, guard: int) -> None:
        self.start, self.length = start, length
        self.base, self.capacity = start + guard, length - 2 * guard
        self.size = 0
        self.account: Account | None = None

    def extend(self, size: int) -> bool:
        """Make the first ``size`` bytes accessible; those that were not read as zero."""
        if not self.size <= size <= self.capacity:
            return False
        if size > self.size and _system().mprotect(self.base + self.size, _whole(size - self.size), _READ_WRITE):
            return False
        self.size = size
        return True

    def clean(self) -> bool:
        """Replace what was accessible by fresh address space; tell whether that worked."""
        size, self.size, self.account = self.size, 0, None
        fresh = _FLAGS[sys.platform] | _FIXED
        return not size or _system().mmap(self.base, _whole(size), _NONE, fresh, -1, 0) == self.base


def _whole(size: int) -> int:
    """Round up to the system's largest page."""
    return -(-size // 65536) * 65536


_regions: dict[int, _Region] = {}
"""Memories in use, by their first byte's address: what the engine names them by."""
_spare: list[_Region] = []


def _take(capacity: int, guard: int) -> _Region | None:
    try:
        region = _spare.pop()
    except IndexError:
        return _reserve(capacity, guard)
    if region.capacity == capacity and region.base - region.start == guard:
        return region
    _unmap(region)
    return _reserve(capacity, guard)


def _reserve(capacity: int, guard: int) -> _Region | None:
    # The engine asks for a guard behind a memory. Before it there is one too, as before its own.
    length = capacity + 2 * guard
    start = _system().mmap(0, length, _NONE, _FLAGS[sys.platform], -1, 0)
    return None if start == _FAILED else _Region(start, length, guard)


def _give_back(region: _Region) -> None:
    """Keep a region for the next memory, as clean as a new one, or unmap it."""
    _regions.pop(region.base, None)
    if region.clean() and len(_spare) < _SPARE_KEPT:
        _spare.append(region)
    else:
        _unmap(region)


def _unmap(region: _Region) -> None:
    _system().munmap(region.start, region.length)


# -- what the engine calls --------------------------------------------------------------------------

_GET = ctypes.CFUNCTYPE(c_size_t, c_size_t, c_size_t, c_size_t)
_GROW = ctypes.CFUNCTYPE(c_void_p, c_size_t, c_size_t)
_NEW = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_size_t, c_size_t, c_size_t, c_size_t, c_size_t)


class _Memory(ctypes.Structure):
    """``wasmtime_linear_memory_t``, without a finalizer: a store's memories are freed when it is gone."""

    _fields_ = (("env", c_size_t), ("get", _GET), ("grow", _GROW), ("finalizer", c_void_p))


class _Creator(ctypes.Structure):
    """``wasmtime_memory_creator_t``."""

    _fields_ = (("env", c_void_p), ("new", _NEW), ("finalizer", c_void_p))


def _new(env: int, kind: int, minimum: int, maximum: int, reserved: int, guard: int, out: int) -> int | None:
    """Make a memory of ``minimum`` bytes, for the store that is being instantiated on this thread."""
    try:
        account = where.account
        region = None if account is None else account.open(minimum, _whole(reserved), _whole(guard))
        if region is not None:
            _regions[region.base] = region
            memory = _Memory.from_address(out)
            memory.env, memory.get, memory.grow, memory.finalizer = region.base, _get_callback, _grow_callback, None
            return None
    except BaseException:
        pass
    return _error_new(_REFUSED)  # type: ignore[no-any-return]


def _get(base: int, size: int, capacity: int) -> int:
    """Tell where the memory is; that it is given as its own name leaves nothing to find."""
    try:
        region = _regions[base]
        c_size_t.from_address(size).value = region.size
        c_size_t.from_address(capacity).value = region.capacity
    except BaseException:
        pass
    return base


def _grow(base: int, size: int) -> int | None:
    """Grow a memory, or refuse: then the guest sees -1."""
    try:
        region = _regions[base]
        account = region.account
        if account is not None and account.grow(region, size):
            return None
    except BaseException:
        pass
    return _error_new(_REFUSED)  # type: ignore[no-any-return]


_new_callback, _get_callback, _grow_callback = _NEW(_new), _GET(_get), _GROW(_grow)
_creator = _Creator(None, _new_callback, None)


def install(config: int) -> None:
    """Have engines of a native configuration ask here for every memory."""
    global _error_new
    _error_new = lib.wasmtime_error_new
    lib.wasmtime_config_memory_init_cow_set(config, False)  # with it, a data image aborts the process
    lib.wasmtime_config_host_memory_creator_set(config, ctypes.byref(_creator))
