"""Engine configuration: a frozen list of WebAssembly proposals, and checked numbers.

A number out of range makes the engine abort the process (engine facts, "What kills the host"), so
:class:`EngineConfig` checks each number before it reaches native code.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Sequence

from aegis.engine.native.library import lib
from aegis.engine.native.signals import installed_by, recording
from aegis.engine.store import memory_accounting
from aegis.errors import AegisInternalError, PolicyError
from aegis.limits import MAX_STACK_BYTES, MIN_STACK_BYTES, Limits
from aegis.support.lean import dataclass, replace

__all__ = [
    "ADMITTED", "COMPILERS", "OPTIONAL", "REFUSED", "Engine", "EngineConfig", "compile_on_one_thread", "engine_for",
    "make_engine", "switch", "switch_proposals",
]  # fmt: skip

ADMITTED = (
    "bulk_memory",
    "component_model_implements",
    "multi_memory",
    "multi_value",
    "reference_types",
    "simd",
    "tail_call",
)
"""Enabled proposals. None of them gives a module access to more of the host or weakens a limit."""

REFUSED = (
    "component_model_async", "custom_page_sizes", "exceptions", "function_references", "gc", "memory64",
    "relaxed_simd", "stack_switching", "threads", "wide_arithmetic",
)  # fmt: skip
"""Disabled proposals. The engine enables several of them by default (F26). Each adds attack surface, escapes a limit
(shared memory, F18) or makes results depend on the machine (relaxed SIMD)."""

OPTIONAL: dict[str, tuple[str, ...]] = {
    "exceptions": ("exceptions",), "relaxed-simd": ("relaxed_simd",), "wide-arithmetic": ("wide_arithmetic",),
}  # fmt: skip
"""The disabled proposals that a policy can enable, with their settings. :mod:`aegis.support.proposals` has the reasons.
"""

_ON_HEAP = frozenset({"exceptions"})
"""Optional proposals whose objects live on a garbage-collected heap: the memory accounting must count the heap."""

COMPILERS: dict[str, tuple[tuple[str, int | bool], ...]] = {
    "": (),
    "speed": (("cranelift_nan_canonicalization", True),),
    "none": (("cranelift_nan_canonicalization", True), ("cranelift_opt_level", 0)),
    "size": (("cranelift_nan_canonicalization", True), ("cranelift_opt_level", 2)),
    "single-pass": (("cranelift_nan_canonicalization", True), ("cranelift_regalloc_algorithm", 1)),
    "bounds": (("cranelift_nan_canonicalization", True), ("memory_reservation", 1 << 28), ("memory_guard_size", 0)),
    "winch": (("cranelift_nan_canonicalization", True), ("strategy", 2)),
}
"""Compilers and their settings, whose code must behave alike. They make every NaN the same one, which the core
specification leaves open. ``bounds`` compares addresses by instructions instead of guard pages; a memory may grow up
to the address space that is reserved for it, 256 MiB there."""

_POOL_SLOTS = 256
_POOL_INSTANCES = 4 * _POOL_SLOTS
"""Core instances. A component has several, and Aegis adds its own; the pool counts them but reserves no slots."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The settings that compiled code depends on. Equal configurations share one engine and its code.

    ``stack``: bytes of guest stack. ``pooled``: the pooling allocator keeps memories for reuse, which makes sandboxes
    cheaper to create and costs address space, and resident memory for each slot in use. ``counted``: Aegis allocates
    the memories and counts their total bytes (:mod:`aegis.engine.store.memory_accounting`), without a pool. ``fuel``:
    guest code counts its instructions. ``epochs``: guest code checks for an expired epoch deadline. Both checks cost
    compute time (F46). Code without ``epochs`` cannot be interrupted except by ending its process, so only workers
    run it. ``proposals``: the enabled ones of :data:`OPTIONAL`, sorted. ``compiler``: one of :data:`COMPILERS`, for
    comparisons.
    """

    stack: int
    pooled: bool = False
    counted: bool = False
    fuel: bool = False
    epochs: bool = True
    proposals: tuple[str, ...] = ()
    compiler: str = ""

    def __post_init__(self) -> None:
        if self.compiler not in COMPILERS:
            raise AegisInternalError(f"no compiler {self.compiler!r}: use one of {', '.join(filter(None, COMPILERS))}")
        if not MIN_STACK_BYTES <= self.stack <= MAX_STACK_BYTES:
            raise PolicyError(f"stack: {self.stack} bytes is out of range; the least is 16 KiB, the most 2 MiB")

    @classmethod
    def from_limits(cls, limits: Limits, *, pooled: bool = False, proposals: tuple[str, ...] = ()) -> EngineConfig:
        """Return the configuration for ``limits``; with ``pooled``, use a pool if the limits fit it."""
        return cls(
            stack=limits.stack, pooled=pooled and _can_pool(limits), fuel=limits.fuel is not None, proposals=proposals
        )  # fmt: skip

    @property
    def heap(self) -> bool:
        """Whether stores may have a garbage-collected heap."""
        return not _ON_HEAP.isdisjoint(self.proposals)

    def without_pool(self) -> EngineConfig:
        """Return this configuration without a pool."""
        return replace(self, pooled=False)

    def with_count(self) -> EngineConfig:
        """Return this configuration with memory accounting."""
        return replace(self, pooled=False, counted=True)

    def for_workers(self) -> EngineConfig:
        """Return this configuration for workers: without fuel, the parent ends a guest by killing its process."""
        return replace(self, pooled=False, epochs=self.fuel)

    def fingerprint(self) -> str:
        """Return a string that is equal exactly for configurations whose compiled code is interchangeable."""
        checks = f"{' fuel' if self.fuel else ''}{' epoch' if self.epochs else ''}"
        images = " no-images" if self.counted else ""
        enabled = "".join(f" with-{name}" for name in self.proposals)
        compiler = f" by-{self.compiler}" if self.compiler else ""
        settings = f"stack={self.stack} on={','.join(ADMITTED)} off={','.join(REFUSED)} no-gc"
        return f"{settings}{enabled}{checks}{images}{compiler} v2"


def _can_pool(limits: Limits) -> bool:
    """Return whether a pool can serve these limits: its slots have a fixed size and need unlimited address space."""
    if sys.platform != "linux":
        return False
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return False
    return limits.table_elements is not None and limits.table_elements <= _POOL_TABLE_ELEMENTS


_POOL_TABLE_ELEMENTS = 20_000


class Engine:
    """A native engine. It is never freed, because code and stores refer to it until the process exits."""

    def __init__(self, config: EngineConfig, *, parallel: bool = True) -> None:
        self.config = config
        native = lib.wasm_config_new()
        _apply(native, config)
        if _one_thread or not parallel:
            switch(native, "parallel_compilation", False)
        self.pointer = make_engine(native)


def make_engine(native: int) -> int:
    """Create a native engine and return its pointer; the engine takes ownership of the configuration ``native``."""
    if not faulthandler.is_enabled() and sys.__stderr__ is not None and not installed_by(lib.loaded()):
        # The first engine installs signal handlers that turn guest faults into traps. If the application enabled
        # faulthandler afterwards, it would replace them (F30); enabling it first makes a later call a no-op. If the
        # application has already created an engine from the same library, it is too late for that.
        with contextlib.suppress(ValueError, OSError):
            faulthandler.enable(sys.__stderr__)
    pointer = recording(lambda: lib.wasm_engine_new_with_config(native), lib.loaded())
    if not pointer:
        raise AegisInternalError("the engine rejected its configuration")
    return pointer


def switch(native: int, name: str, on: bool) -> None:
    """Enable or disable a feature of a native configuration."""
    setter = getattr(lib, f"wasmtime_config_{name}_set")
    setter.argtypes, setter.restype = _SWITCH
    setter(native, on)


def switch_proposals(native: int, proposals: Sequence[str] = (), *, component_async: bool = False) -> None:
    """Enable or disable each proposal of a native configuration; ``component_async`` only in engines that validate.

    ``proposals`` are the enabled ones of :data:`OPTIONAL`.
    """
    enabled = {setting for name in proposals for setting in OPTIONAL[name]}
    for name in ADMITTED:
        switch(native, f"wasm_{name}", True)
    switch(native, "wasm_component_model_async", component_async)
    if component_async:
        switch(native, "wasm_component_model_async_stackful", True)
        switch(native, "wasm_component_model_more_async_builtins", True)
    if not component_async:
        switch(native, "concurrency_support", False)  # F1: aborts if component-model async is enabled
    for name in REFUSED:
        if name != "component_model_async":
            switch(native, f"wasm_{name}", name in enabled)
    # Also rejects externref. A single externref table or global would make the engine reserve a garbage-collected heap
    # of 4 GiB for the store, and would expose the engine's garbage collector to guests.
    switch(native, "gc_support", not _ON_HEAP.isdisjoint(proposals))
    switch(native, "shared_memory", False)


def _apply(native: int, config: EngineConfig) -> None:
    switch_proposals(native, config.proposals)
    switch(native, "consume_fuel", config.fuel)
    switch(native, "epoch_interruption", config.epochs)
    switch(native, "memory_may_move", False)  # cached pointers to a memory's base stay valid when it grows
    lib.wasmtime_config_max_wasm_stack_set(native, config.stack)
    for name, value in COMPILERS[config.compiler]:
        if isinstance(value, bool):
            switch(native, name, value)
        else:
            getattr(lib, f"wasmtime_config_{name}_set")(native, value)
    if config.pooled:
        _apply_pool(native)
    if config.counted:
        memory_accounting.install(native)


def _apply_pool(native: int) -> None:
    pool = lib.wasmtime_pooling_allocation_config_new()

    def pool_set(name: str, value: int) -> None:
        setter = getattr(lib, f"wasmtime_pooling_allocation_config_{name}_set")
        setter.argtypes, setter.restype = _NUMBER
        setter(pool, value)

    pool_set("total_core_instances", _POOL_INSTANCES)
    pool_set("total_memories", _POOL_SLOTS)
    pool_set("total_tables", _POOL_SLOTS)
    pool_set("max_memories_per_module", 10)
    pool_set("max_tables_per_module", 16)
    pool_set("table_elements", _POOL_TABLE_ELEMENTS)
    pool_set("linear_memory_keep_resident", 128 << 10)
    pool_set("table_keep_resident", 16 << 10)
    lib.wasmtime_pooling_allocation_strategy_set(native, pool)
    lib.wasmtime_pooling_allocation_config_delete(pool)


def _prototypes() -> tuple[tuple[list[object], None], tuple[list[object], None]]:
    from ctypes import c_bool, c_size_t, c_void_p

    return ([c_void_p, c_bool], None), ([c_void_p, c_size_t], None)


_SWITCH, _NUMBER = _prototypes()
_one_thread = False


def compile_on_one_thread() -> None:
    """Create all further engines without compiler threads: a fork server's threads do not exist in its children."""
    global _one_thread
    _one_thread = True


_engines: dict[EngineConfig, Engine] = {}
_serial: dict[EngineConfig, Engine] = {}
_lock = threading.Lock()
_made_in = os.getpid()


def engine_for(config: EngineConfig) -> Engine:
    """Return the process's engine for this configuration; create it on first use."""
    engine = _engines.get(config)
    if engine is None:
        with _lock:
            engine = _engines.get(config)
            if engine is None:
                engine = _engines[config] = Engine(config)
    return engine


def serial_engine(config: EngineConfig) -> Engine | None:
    """In a forked child, return an engine that compiles for ``config`` on the calling thread; otherwise ``None``.

    The compiler's thread pool does not exist after fork, and compiling with an inherited engine would wait for it
    forever.
    """
    if _one_thread or os.getpid() == _made_in:
        return None
    plain = config.without_pool()
    if plain not in _serial:
        _serial[plain] = Engine(plain, parallel=False)
    return _serial[plain]


def _renew() -> None:
    """After fork, in the child: replace the lock, which a thread of the parent may have held."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
