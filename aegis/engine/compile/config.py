"""How the engine is configured: a frozen list of proposals, validated before native code sees it.

Nobody can hand an unchecked number to the engine: out of range it aborts the process (the table "What
kills the host" in the engine facts), so :class:`EngineConfig` refuses first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading

from aegis.engine.native.library import lib
from aegis.engine.native.signals import installed_by, recording
from aegis.engine.store import memory_accounting
from aegis.errors import AegisInternalError, PolicyError
from aegis.limits import MAX_STACK_BYTES, MIN_STACK_BYTES, Limits
from aegis.support.lean import dataclass, replace

__all__ = [
    "ADMITTED", "REFUSED", "Engine", "EngineConfig", "compile_on_one_thread", "engine_for", "make_engine", "switch",
    "switch_proposals",
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
"""Proposals that are on: they change neither what a module can reach nor what the limits mean."""

REFUSED = (
    "component_model_async", "custom_page_sizes", "exceptions", "function_references", "gc", "memory64",
    "relaxed_simd", "stack_switching", "threads", "wide_arithmetic",
)  # fmt: skip
"""Proposals that are off. Several are on in the engine's defaults (F26): each is more attack surface,
escapes a limit (shared memory, F18) or lets two machines compute different results (relaxed SIMD)."""

_POOL_SLOTS = 256
_POOL_INSTANCES = 4 * _POOL_SLOTS
"""A component has several, and Aegis adds some of its own. The pool only counts them: they need no slots."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What code generation depends on. Two equal configurations share one engine and its code.

    ``stack`` is in bytes; ``pooled`` keeps memories ready for reuse, which makes creating a sandbox
    cheaper and costs address space, and some resident memory for each slot in use. ``counted`` has the bytes of a
    store's memories counted in total (:mod:`aegis.engine.store.memory_accounting`), without a pool. ``fuel`` has
    guest code count its instructions, and ``epochs`` has it look for the end of its time: both cost compute time
    (F46). Code without ``epochs`` is ended only with its process, so it runs in workers alone.
    """

    stack: int
    pooled: bool = False
    counted: bool = False
    fuel: bool = False
    epochs: bool = True

    def __post_init__(self) -> None:
        if not MIN_STACK_BYTES <= self.stack <= MAX_STACK_BYTES:
            raise PolicyError(f"stack: {self.stack} bytes is out of range; the least is 16 KiB, the most 2 MiB")

    @classmethod
    def from_limits(cls, limits: Limits, *, pooled: bool = False) -> EngineConfig:
        """Return the configuration that these limits need."""
        return cls(stack=limits.stack, pooled=pooled and _can_pool(limits), fuel=limits.fuel is not None)

    def without_pool(self) -> EngineConfig:
        """Return the same configuration for an engine that has no pool."""
        return replace(self, pooled=False)

    def with_count(self) -> EngineConfig:
        """Return the same configuration for an engine that counts memory in total."""
        return replace(self, pooled=False, counted=True)

    def for_workers(self) -> EngineConfig:
        """Return the same configuration for workers: without fuel, the end of the process is what ends the guest."""
        return replace(self, pooled=False, epochs=self.fuel)

    def fingerprint(self) -> str:
        """Return what makes compiled code of this configuration different from another's."""
        checks = f"{' fuel' if self.fuel else ''}{' epoch' if self.epochs else ''}"
        images = " no-images" if self.counted else ""
        return f"stack={self.stack} on={','.join(ADMITTED)} off={','.join(REFUSED)} no-gc{checks}{images} v2"


def _can_pool(limits: Limits) -> bool:
    """The pool's slots are of fixed size, and reserving them needs address space without a cap."""
    if sys.platform != "linux":
        return False
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return False
    return limits.table_elements is not None and limits.table_elements <= _POOL_TABLE_ELEMENTS


_POOL_TABLE_ELEMENTS = 20_000


class Engine:
    """A native engine; it lives as long as the process, for code and stores refer to it."""

    def __init__(self, config: EngineConfig, *, parallel: bool = True) -> None:
        self.config = config
        native = lib.wasm_config_new()
        _apply(native, config)
        if _one_thread or not parallel:
            switch(native, "parallel_compilation", False)
        self.pointer = make_engine(native)


def make_engine(native: int) -> int:
    """Return a native engine of a native configuration, which it takes."""
    if not faulthandler.is_enabled() and sys.__stderr__ is not None and not installed_by(lib.loaded()):
        # Enabled later, it would take over the signal that turns a guest's bad access into a
        # trap (F30); enabled once, a later call changes nothing. Where the application has made an engine of its own
        # from the same library, it is later already.
        with contextlib.suppress(ValueError, OSError):
            faulthandler.enable(sys.__stderr__)
    pointer = recording(lambda: lib.wasm_engine_new_with_config(native), lib.loaded())
    if not pointer:
        raise AegisInternalError("the engine refused its configuration")
    return pointer


def switch(native: int, name: str, on: bool) -> None:
    """Turn a feature of a native configuration on or off."""
    setter = getattr(lib, f"wasmtime_config_{name}_set")
    setter.argtypes, setter.restype = _SWITCH
    setter(native, on)


def switch_proposals(native: int, *, component_async: bool = False) -> None:
    """Turn each proposal of a native configuration on or off; ``component_async`` is for engines that only validate."""
    for name in ADMITTED:
        switch(native, f"wasm_{name}", True)
    switch(native, "wasm_component_model_async", component_async)
    if not component_async:
        switch(native, "concurrency_support", False)  # F1: with async on, this aborts
    for name in REFUSED:
        if name != "component_model_async":
            switch(native, f"wasm_{name}", False)
    # With it off, externref is rejected too. An externref table or global alone makes the engine reserve a
    # garbage-collected heap of 4 GiB for the store, with all code that can be wrong about one.
    switch(native, "gc_support", False)
    switch(native, "shared_memory", False)


def _apply(native: int, config: EngineConfig) -> None:
    switch_proposals(native)
    switch(native, "consume_fuel", config.fuel)
    switch(native, "epoch_interruption", config.epochs)
    switch(native, "memory_may_move", False)  # the base address of a memory then holds for its life
    lib.wasmtime_config_max_wasm_stack_set(native, config.stack)
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
    pool_set("linear_memory_keep_resident", 64 << 10)
    pool_set("table_keep_resident", 16 << 10)
    lib.wasmtime_pooling_allocation_strategy_set(native, pool)
    lib.wasmtime_pooling_allocation_config_delete(pool)


def _prototypes() -> tuple[tuple[list[object], None], tuple[list[object], None]]:
    from ctypes import c_bool, c_size_t, c_void_p

    return ([c_void_p, c_bool], None), ([c_void_p, c_size_t], None)


_SWITCH, _NUMBER = _prototypes()
_one_thread = False


def compile_on_one_thread() -> None:
    """Let engines made from now on start no threads: those of a fork server's engine do not exist in its children."""
    global _one_thread
    _one_thread = True


_engines: dict[EngineConfig, Engine] = {}
_serial: dict[EngineConfig, Engine] = {}
_lock = threading.Lock()
_made_in = os.getpid()


def engine_for(config: EngineConfig) -> Engine:
    """Return the process's engine of this configuration."""
    engine = _engines.get(config)
    if engine is None:
        with _lock:
            engine = _engines.get(config)
            if engine is None:
                engine = _engines[config] = Engine(config)
    return engine


def serial_engine(config: EngineConfig) -> Engine | None:
    """Return an engine that compiles for ``config`` on the calling thread alone, where nothing else can.

    The compiler's threads stay behind in a fork, and the child would wait for them for ever. Elsewhere, ``None``.
    """
    if _one_thread or os.getpid() == _made_in:
        return None
    plain = config.without_pool()
    if plain not in _serial:
        _serial[plain] = Engine(plain, parallel=False)
    return _serial[plain]


def _renew() -> None:
    """In a forked child: nobody is left to release what another thread held."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
