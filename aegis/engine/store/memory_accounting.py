"""Accounting of linear memories: Aegis allocates them itself and limits the total bytes of a store.

The engine's own limit applies to each memory separately, and the engine does not report a growth (F28). An engine with
``counted`` memories calls this module to create and to grow each memory, and the store's budget decides. The costs: no
instance pool, initial data that is copied rather than mapped, and callbacks into Python, so that a guest whose memory
grows may not run directly on the main thread (F9).

No exception may leave a callback: a request that fails is answered with an engine error. A memory's address and size
are always known, so the callback that returns them cannot fail.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_int, c_size_t, c_void_p
from functools import cache

from aegis.engine.call.door import Door
from aegis.engine.native.library import lib
from aegis.engine.threads.guest_thread import thread_state
from aegis.errors import MemoryExceeded
from aegis.limits import exceeded
from aegis.support.lean import Any

__all__ = ["MemoryBudget", "available", "install"]

_NONE, _READ_WRITE = 0, 3
_LARGEST_PAGE_BYTES = 65536
_FLAGS = {"linux": 0x02 | 0x20 | 0x4000, "darwin": 0x02 | 0x1000 | 0x40}  # private, anonymous, no swap reserved
_FIXED = 0x10
_FAILED = c_void_p(-1).value
_SPARE_KEPT = 16
"""Regions of freed memories that are cached for the next stores."""
_UNLIMITED = 1 << 62

_error_new: Any = None  # looked up by install(): a refusal may have no room for that on the Python stack
_REFUSED = ctypes.c_char_p.from_param(b"the memory limit of the store")


@cache
def _system() -> Any:
    """Return the C library with ``mmap``, ``mprotect`` and ``munmap`` declared; ``None`` on an unsupported system."""
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
    """Return whether Aegis can account for memories on this system: 64-bit Linux and macOS."""
    return _system() is not None


class MemoryBudget:
    """The memory budget of one store, and its linear memories.

    ``used`` is the current total in bytes, and also the peak, because memories never shrink. ``refused`` is the size in
    bytes of the latest growth if the limit refused it, otherwise 0. ``unfit`` is the size of a memory that could not be
    created; ``starved``: the system refused it, not the limit.
    """

    __slots__ = ("_door", "_refusals_left", "_refused_in", "_regions", "limit", "refused", "starved", "unfit", "used")

    def __init__(self, limit: int | None, door: Door) -> None:
        self.limit = _UNLIMITED if limit is None else limit
        self._door = door
        self._refusals_left = door.limits.host_calls or _UNLIMITED
        self.used = self.refused = self.unfit = 0
        self.starved = False
        self._refused_in: float | None = None
        """When the call began in which the latest growth was refused."""
        self._regions: list[_MemoryRegion] = []

    @property
    def refused_now(self) -> int:
        """The size in bytes of the latest growth if it was refused during the call that is under way, otherwise 0."""
        return self.refused if self._refused_in == self._door.entered_at else 0

    def open(self, size: int, capacity: int, guard: int) -> _MemoryRegion | None:
        """Create a memory of ``size`` bytes that can grow to ``capacity``; ``None`` if it is refused."""
        if not self._admits(size):
            self.unfit = size
            return None
        region = _take(capacity, guard)
        if region is None or not region.extend(size):
            self.unfit, self.starved = size, True
            return None
        self._regions.append(region)
        region.memory_budget = self
        self.used += size
        return region

    def grow(self, region: _MemoryRegion, size: int) -> bool:
        """Grow a memory to ``size`` bytes; return whether it grew."""
        more = size - region.size
        if not self._admits(more) or not region.extend(size):
            return False
        self.used += more
        return True

    def _admits(self, more: int) -> bool:
        fits = self.used + more <= self.limit
        self.refused = 0 if fits else more
        if not fits:
            self._refused_in = self._door.entered_at
            self._refuse()
        return fits

    def _refuse(self) -> None:
        """Count a refusal. It costs about as much as a host call, so stop the guest after ``host_calls`` refusals."""
        self._refusals_left -= 1
        if self._refusals_left < 0 and self._door.stop is None:
            times = self._door.limits.host_calls or 0
            after = f" {times:,} times, the limit of host calls"
            self._door.stop = MemoryExceeded(
                exceeded("memory", self.used, self.limit, after=after),
                limit="memory", phase="grown", used=self.used, allowed=self.limit,
            )  # fmt: skip

    def close(self) -> None:
        """Free the memories. Call this after the store is deleted."""
        while self._regions:
            _give_back(self._regions.pop())


class _MemoryRegion:
    """The address space of one memory: a guard, the accessible bytes, space to grow, and a guard."""

    __slots__ = ("base", "capacity", "length", "memory_budget", "size", "start")

    def __init__(self, start: int, length: int, guard: int) -> None:
        self.start, self.length = start, length
        self.base, self.capacity = start + guard, length - 2 * guard
        self.size = 0
        self.memory_budget: MemoryBudget | None = None

    def extend(self, size: int) -> bool:
        """Make the first ``size`` bytes accessible, new ones as zero; return whether that succeeded."""
        if not self.size <= size <= self.capacity:
            return False
        if size > self.size and _system().mprotect(self.base + self.size, _whole(size - self.size), _READ_WRITE):
            return False
        self.size = size
        return True

    def clean(self) -> bool:
        """Replace the accessible bytes with new inaccessible address space; return whether that succeeded."""
        size, self.size, self.memory_budget = self.size, 0, None
        fresh = _FLAGS[sys.platform] | _FIXED
        return not size or _system().mmap(self.base, _whole(size), _NONE, fresh, -1, 0) == self.base


def _whole(size: int) -> int:
    """Round up to a multiple of the largest page size of supported systems."""
    return -(-size // _LARGEST_PAGE_BYTES) * _LARGEST_PAGE_BYTES


_regions: dict[int, _MemoryRegion] = {}
"""Memories in use by the address of their first byte, which the engine passes to the callbacks."""
_spare: list[_MemoryRegion] = []


def _take(capacity: int, guard: int) -> _MemoryRegion | None:
    try:
        region = _spare.pop()
    except IndexError:
        return _reserve(capacity, guard)
    if region.capacity == capacity and region.base - region.start == guard:
        return region
    _unmap(region)
    return _reserve(capacity, guard)


def _reserve(capacity: int, guard: int) -> _MemoryRegion | None:
    # The engine requests a guard after a memory. Add one before it too, as the engine does for its own memories.
    length = capacity + 2 * guard
    start = _system().mmap(0, length, _NONE, _FLAGS[sys.platform], -1, 0)
    return None if start == _FAILED else _MemoryRegion(start, length, guard)


def _give_back(region: _MemoryRegion) -> None:
    """Clear a region and cache it for the next memory, or unmap it."""
    _regions.pop(region.base, None)
    if region.clean() and len(_spare) < _SPARE_KEPT:
        _spare.append(region)
    else:
        _unmap(region)


def _unmap(region: _MemoryRegion) -> None:
    _system().munmap(region.start, region.length)


# -- engine callbacks -----------------------------------------------------------------------------

_GET = ctypes.CFUNCTYPE(c_size_t, c_size_t, c_size_t, c_size_t)
_GROW = ctypes.CFUNCTYPE(c_void_p, c_size_t, c_size_t)
_NEW = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_size_t, c_size_t, c_size_t, c_size_t, c_size_t)


class _NativeMemory(ctypes.Structure):
    """``wasmtime_linear_memory_t``, without a finalizer: the budget frees the memories after the store is deleted."""

    _fields_ = (("env", c_size_t), ("get", _GET), ("grow", _GROW), ("finalizer", c_void_p))


class _MemoryCreator(ctypes.Structure):
    """``wasmtime_memory_creator_t``."""

    _fields_ = (("env", c_void_p), ("new", _NEW), ("finalizer", c_void_p))


def _new(env: int, kind: int, minimum: int, maximum: int, reserved: int, guard: int, out: int) -> int | None:
    """Create a memory of ``minimum`` bytes for the store that is being instantiated on this thread."""
    try:
        memory_budget = thread_state.memory_budget
        region = None if memory_budget is None else memory_budget.open(minimum, _whole(reserved), _whole(guard))
        if region is not None:
            _regions[region.base] = region
            memory = _NativeMemory.from_address(out)
            memory.env, memory.get, memory.grow, memory.finalizer = region.base, _get_callback, _grow_callback, None
            return None
    except BaseException:
        pass
    return _error_new(_REFUSED)  # type: ignore[no-any-return]


def _get(base: int, size: int, capacity: int) -> int:
    """Write the size and capacity of a memory; return its address, which is also the key, so this cannot fail."""
    try:
        region = _regions[base]
        c_size_t.from_address(size).value = region.size
        c_size_t.from_address(capacity).value = region.capacity
    except BaseException:
        pass
    return base


def _grow(base: int, size: int) -> int | None:
    """Grow a memory, or return an error, upon which ``memory.grow`` returns -1 to the guest."""
    try:
        region = _regions[base]
        memory_budget = region.memory_budget
        if memory_budget is not None and memory_budget.grow(region, size):
            return None
    except BaseException:
        pass
    return _error_new(_REFUSED)  # type: ignore[no-any-return]


_new_callback, _get_callback, _grow_callback = _NEW(_new), _GET(_get), _GROW(_grow)
_creator = _MemoryCreator(None, _new_callback, None)


def install(config: int) -> None:
    """Make engines of a native configuration allocate memories through this module."""
    global _error_new
    _error_new = lib.wasmtime_error_new
    lib.wasmtime_config_memory_init_cow_set(config, False)  # with copy-on-write, a data image aborts the process
    lib.wasmtime_config_host_memory_creator_set(config, ctypes.byref(_creator))
