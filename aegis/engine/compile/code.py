"""Native code of modules and components: compiled at most once for each engine, cached on disk, shared by sandboxes."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Sequence
from ctypes import c_void_p

from aegis.engine.compile.cache import Cache
from aegis.engine.compile.config import Engine, EngineConfig, engine_for, serial_engine
from aegis.engine.native.library import ByteVec, lib, take_bytes, take_error
from aegis.engine.native.process_lock import ProcessLock
from aegis.engine.store.memory_accounting import available
from aegis.engine.threads.guest_thread import on_enough_stack
from aegis.errors import AegisInternalError, ArtifactError
from aegis.limits import Limits
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any, ClassVar
from aegis.text import printable
from aegis.wasm.binary import NO_EXTERNREF, MemoryType
from aegis.wasm.caps import capped_exactly
from aegis.wasm.compile_limits import cache_key_part

__all__ = ["Artifact", "NativeCode", "UnfitForPool", "first_line"]

_MAX_MEMORIES = 1 << 16
# Parts of the engine's error messages, which have no codes.
_POOL = "pooling allocator requirements"
_GC_TYPES = "gc types are disallowed"
_EXCEPTION_TYPES = "exception refs not supported"
_OPEN_FILES = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


class UnfitForPool(Exception):
    """The artifact exceeds the slots of the pooling allocator; an engine without a pool can run it."""


class NativeCode:
    """Machine code of one artifact for one engine. The object owns ``pointer`` and frees it when it is deleted."""

    __slots__ = ("engine", "kind", "pointer")

    def __init__(self, engine: int, pointer: int, kind: str) -> None:
        self.engine = engine
        self.pointer: int | None = pointer
        self.kind = kind

    def __del__(self, library: Any = lib) -> None:  # at interpreter exit, module globals may already be None
        pointer, self.pointer = self.pointer, None
        if pointer is not None:
            getattr(library, f"wasmtime_{self.kind}_delete")(pointer)


class Artifact:
    """A module or component: its bytes, its digest, and its native code for each engine configuration.

    ``digest`` is the SHA-256 of the binary format, in hexadecimal; ``size`` its length in bytes; ``cached`` whether
    the code came from the cache on disk; ``seconds`` how long loading or compiling took.
    """

    kind: ClassVar[str]
    """``module`` or ``component``, as in the names of the engine's functions."""
    _public: ClassVar[tuple[str, ...]] = (
        "binary", "cached", "digest", "exports", "imports", "kind", "seconds", "size",
    )  # fmt: skip
    """The attributes for embedders; the others belong to the engine."""

    def __dir__(self) -> list[str]:
        """Return the public attributes, for completion."""
        return [*(name for name in object.__dir__(self) if name.startswith("__")), *self._public]

    proposals: tuple[str, ...] = ()
    """The optional proposals that were enabled when the artifact was admitted."""

    def __init__(self, data: bytes, digest: str, cache: Cache | None, limits: Limits) -> None:
        self._data = data
        self._cache = cache
        self._limits = limits
        self._codes: dict[EngineConfig, NativeCode] = {}
        self._lock = ProcessLock()
        self.poolable = True
        self.isolated: dict[EngineConfig, Any] = {}  # code for workers; stored here to be freed with the artifact
        self.digest = digest
        self.size = len(data)
        self.cached = False
        self.seconds = 0.0
        self._counts: dict[tuple[int | None, bool, bool], bool] = {}

    @property
    def binary(self) -> bytes:
        """The artifact in the binary format; WebAssembly text has been translated."""
        return self._data

    @property
    def admitted_under(self) -> Limits:
        """The limits under which the artifact was admitted and its code is compiled."""
        return self._limits

    @property
    def lock(self) -> ProcessLock:
        """The lock to hold while code or a description of the artifact is created."""
        return self._lock

    def use(self, config: EngineConfig, code: NativeCode) -> None:
        """Use ``code``, compiled by another process, for engines of ``config``."""
        self._codes[config] = code

    def serialised(self, config: EngineConfig) -> bytes | None:
        """Return the loaded code for engines like those of ``config`` as the engine writes it; ``None`` without any."""
        for other, code in self._codes.items():
            if other.fingerprint() == config.fingerprint() and code.pointer is not None:
                return self._serialise(code.pointer)
        return None

    def compile_to_bytes(self, config: EngineConfig) -> bytes:
        """Return the code for engines of ``config`` as the engine writes it, and unload it. Raise as :meth:`code`."""
        code = self._serialise(self.code(config).pointer or 0)
        self._codes.clear()
        return code

    def memories(self, most: int) -> Sequence[MemoryType]:
        """Return the memory types of one instance; with more than ``most`` memories, the first ``most`` + 1."""
        raise AegisInternalError(f"the memories of a {self.kind} are not known")

    def starts(self) -> bool:
        """Return whether instantiation runs guest code."""
        return True

    def hides_growth(self) -> bool:
        """Return whether a memory that is not exported can grow: only memory accounting observes its growth."""
        return True

    def counted(self, limits: Limits, *, watched: bool, refusals: bool = False) -> bool:
        """Return whether Aegis must allocate and count the artifact's memories itself.

        It must if per-memory caps cannot enforce ``limits.memory`` exactly, or if the sandbox is ``watched`` and a
        memory can grow unobserved. With ``refusals`` it must if a memory can grow: the size of an exported memory is
        seen, but not a growth that was refused.
        """
        key = (limits.memory, watched, refusals)
        found = self._counts.get(key)
        if found is None:
            exact = capped_exactly(self.memories(limits.memories or _MAX_MEMORIES), limits)
            hidden = watched and self.hides_growth()
            grows = refusals and any(m.minimum != m.maximum for m in self.memories(_MAX_MEMORIES))
            found = self._counts[key] = available() and (not exact or hidden or grows)
        return found

    def code(self, config: EngineConfig) -> NativeCode:
        """Return the native code for engines of ``config``; load or compile it on first use.

        Raise ``ArtifactError`` if the engine rejects the artifact, and :class:`UnfitForPool` if it exceeds the pool.
        """
        code = self._codes.get(config)
        if code is None:
            with self._lock:
                code = self._codes.get(config)
                if code is None:
                    started = time.perf_counter()
                    with standard_reserved():
                        code = self._codes[config] = on_enough_stack(lambda: self._build(config))
                    self.seconds = time.perf_counter() - started
        return code

    def prepare(self, choose: Callable[[Artifact], EngineConfig], what: str) -> None:
        """Compile for the configuration that ``choose`` returns, without a pool if the artifact exceeds its slots.

        ``what`` names the artifact in errors. Raise ``ArtifactError`` if the engine rejects it.
        """
        config = choose(self)
        try:
            try:
                self.code(config)
            except UnfitForPool:
                self.poolable = False
                self.code(config.without_pool())
        except ArtifactError as error:
            raise ArtifactError(f"{what}: {error}") from None

    def _build(self, config: EngineConfig) -> NativeCode:
        engine = engine_for(config)
        loaded_code = self.serialised(config)
        if loaded_code is not None:
            return self._load(engine, loaded_code) or self._compile(engine)
        if self._cache is None:
            return self._compile(engine)
        name = self.name_in(self._cache, config)
        loaded = self._kept(engine, self._cache, name)
        if loaded is not None:
            self.cached = True
            return loaded
        made = self._compile(engine)
        if made.pointer is not None:
            self._cache.put(name, self._serialise(made.pointer))
        return made

    def name_in(self, cache: Cache, config: EngineConfig) -> str:
        """Return the name of the cache entry for code that a process compiles for its own use."""
        return cache.name(self.digest, f"{config.fingerprint()} {cache_key_part(self._limits)}")

    def _kept(self, engine: Engine, cache: Cache, name: str) -> NativeCode | None:
        """Load the code from the cache, by mapping its file or reading its entry; return ``None`` for a miss."""
        descriptor = cache.mapped(name)
        if descriptor is not None:
            try:
                return self.load_file(engine, descriptor)
            finally:
                os.close(descriptor)
        kept = cache.get(name)
        return self._load(engine, kept) if kept is not None else None

    def load_file(self, engine: Engine, descriptor: int) -> NativeCode | None:
        """Load code from an open file.

        The engine accepts only a path. A path in ``/proc/self/fd`` refers to the open file that was authenticated,
        even if its name has been replaced since.
        """
        out = c_void_p()
        load = getattr(lib, f"wasmtime_{self.kind}_deserialize_file")
        error = load(engine.pointer, f"{_OPEN_FILES}/{descriptor}".encode(), ctypes.byref(out))
        if error is not None:
            take_error(error)
            return None
        return NativeCode(engine.pointer, out.value or 0, self.kind)

    def _compile(self, engine: Engine) -> NativeCode:
        if not self._codes:
            self._bound()
        serial = serial_engine(engine.config)
        if serial is None:
            return self._compiled(engine)
        made = self._compiled(serial)
        assert made.pointer is not None
        return self._load(engine, self._serialise(made.pointer)) or self._unloadable(engine)

    def _bound(self) -> None:
        """Raise ``ArtifactError`` if compilation would take too long."""
        from aegis.wasm.admission import (
            check_compile_cost,  # not needed, so not imported, when the code comes from the cache
        )

        check_compile_cost(self._data, self._limits, self.proposals)

    def validate(self) -> None:
        """Validate the artifact without compiling it; raise ``ArtifactError`` if it is invalid."""
        data, config = self._data, EngineConfig.from_limits(self._limits, proposals=self.proposals)
        error = lib.wasmtime_module_validate(engine_for(config).pointer, data, len(data))
        if error is not None:
            raise ArtifactError(f"not a {self.kind} that Aegis admits: {first_line(take_error(error))}")

    @staticmethod
    def _unloadable(engine: Engine) -> NativeCode:
        if engine.config.pooled:
            raise UnfitForPool
        raise ArtifactError("the engine cannot load the compiled code in a forked process")

    def _compiled(self, engine: Engine) -> NativeCode:
        out = c_void_p()
        new = getattr(lib, f"wasmtime_{self.kind}_new")
        error = new(engine.pointer, self._data, len(self._data), ctypes.byref(out))
        if error is not None:
            message = take_error(error)
            if engine.config.pooled and _POOL in message:
                raise UnfitForPool
            raise ArtifactError(f"not a {self.kind} that Aegis admits: {first_line(message)}")
        return NativeCode(engine.pointer, out.value or 0, self.kind)

    def _load(self, engine: Engine, code: bytes) -> NativeCode | None:
        out = c_void_p()
        load = getattr(lib, f"wasmtime_{self.kind}_deserialize")
        error = load(engine.pointer, code, len(code), ctypes.byref(out))
        if error is not None:
            take_error(error)
            return None
        return NativeCode(engine.pointer, out.value or 0, self.kind)

    def _serialise(self, pointer: int) -> bytes:
        vector = ByteVec()
        error = getattr(lib, f"wasmtime_{self.kind}_serialize")(pointer, ctypes.byref(vector))
        if error is not None:
            raise ArtifactError(f"the engine cannot serialise the compiled code: {first_line(take_error(error))}")
        return take_bytes(vector)


def first_line(message: str) -> str:
    """Join the lines of an engine error, which ends with a numbered chain of causes, to one printable line."""
    if _GC_TYPES in message:
        return NO_EXTERNREF
    if _EXCEPTION_TYPES in message:
        from aegis.support.proposals import needs

        return needs(["exceptions"])
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line.partition(":")[2].strip() if line[:1].isdigit() else line for line in lines if line != "Caused by:"]
    return printable("; ".join(dict.fromkeys(causes)), 300)
