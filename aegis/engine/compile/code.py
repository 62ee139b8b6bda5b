"""Native code of an artifact: compiled at most once an engine, kept on disk, shared by every sandbox."""

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
from aegis.wasm.bounds import bounds
from aegis.wasm.caps import capped_exactly

__all__ = ["Artifact", "NativeCode", "UnfitForPool", "first_line"]

_MOST_MEMORIES = 1 << 16
_POOL = "pooling allocator requirements"
_GC_TYPES = "gc types are disallowed"
_OPEN_FILES = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


class UnfitForPool(Exception):
    """The artifact is larger in some way than the pool's slots; an engine without one can run it."""


class NativeCode:
    """Machine code of one artifact for one engine; freed with the last reference."""

    __slots__ = ("engine", "kind", "pointer")

    def __init__(self, engine: int, pointer: int, kind: str) -> None:
        self.engine = engine
        self.pointer: int | None = pointer
        self.kind = kind

    def __del__(self, library: Any = lib) -> None:  # at exit the module may be gone
        pointer, self.pointer = self.pointer, None
        if pointer is not None:
            getattr(library, f"wasmtime_{self.kind}_delete")(pointer)


class Artifact:
    """What modules and components have in common: bytes, a digest, and code for each kind of engine.

    ``digest`` is the SHA-256 of the binary form, in hexadecimal; ``size`` its length in bytes; ``cached``
    tells whether its code came from the cache, ``seconds`` how long that or compiling took.
    """

    kind: ClassVar[str]
    """``module`` or ``component``, as the engine's functions are called too."""

    def __init__(self, data: bytes, digest: str, cache: Cache | None, limits: Limits) -> None:
        self._data = data
        self._cache = cache
        self._limits = limits
        self._codes: dict[EngineConfig, NativeCode] = {}
        self._lock = ProcessLock()
        self.poolable = True
        self.isolated: dict[EngineConfig, Any] = {}  # the isolation tier's own, kept here so that it goes with it
        self.digest = digest
        self.size = len(data)
        self.cached = False
        self.seconds = 0.0
        self._counts: dict[tuple[int | None, bool], bool] = {}

    @property
    def binary(self) -> bytes:
        """The bytes that it was compiled from, text turned into binary."""
        return self._data

    def memories(self, most: int) -> Sequence[MemoryType]:
        """Return the memories of one instance, or the first ``most`` of them and one."""
        raise AegisInternalError(f"a {self.kind} does not tell its memories")

    def starts(self) -> bool:
        """Tell whether instantiating it runs guest code."""
        return True

    def hides_growth(self) -> bool:
        """Tell whether a memory can grow whose refused growth and peak only counting shows."""
        return True

    def counted(self, limits: Limits, *, watched: bool) -> bool:
        """Tell whether its memories are to be counted by us: to be limited in total, or, if ``watched``, to be seen."""
        key = (limits.memory, watched)
        found = self._counts.get(key)
        if found is None:
            exact = capped_exactly(self.memories(limits.memories or _MOST_MEMORIES), limits)
            found = self._counts[key] = available() and (not exact or (watched and self.hides_growth()))
        return found

    def code(self, config: EngineConfig) -> NativeCode:
        """Return the code for engines of ``config``, compiling at most once."""
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
        """Compile for what ``choose`` says, without the pool if it does not fit in there; raise ``ArtifactError``."""
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
        for other, code in self._codes.items():
            if other.fingerprint() == config.fingerprint() and code.pointer is not None:
                return self._load(engine, self._serialise(code.pointer)) or self._compile(engine)
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
        """Return the name under which a cache has the code that a process compiled for itself."""
        return cache.name(self.digest, f"{config.fingerprint()} {bounds(self._limits)}")

    def _kept(self, engine: Engine, cache: Cache, name: str) -> NativeCode | None:
        """Return the code that the cache has, mapped from its own file or read."""
        descriptor = cache.mapped(name)
        if descriptor is not None:
            try:
                return self._load_file(engine, descriptor)
            finally:
                os.close(descriptor)
        kept = cache.get(name)
        return self._load(engine, kept) if kept is not None else None

    def _load_file(self, engine: Engine, descriptor: int) -> NativeCode | None:
        """Load code from an open file. The engine wants a path, and this one names what was opened, whatever the
        file's own name leads to by now."""
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
        """Reject code that would take the compiler too long; raise ``ArtifactError``."""
        from aegis.wasm.admission import check_compile_cost  # code from the cache does without

        check_compile_cost(self._data, self._limits)

    def validate(self) -> None:
        """Have the engine validate it without compiling; raise ``ArtifactError``."""
        data, config = self._data, EngineConfig.from_limits(self._limits)
        error = lib.wasmtime_module_validate(engine_for(config).pointer, data, len(data))
        if error is not None:
            raise ArtifactError(f"not a {self.kind} that Aegis admits: {first_line(take_error(error))}")

    @staticmethod
    def _unloadable(engine: Engine) -> NativeCode:
        if engine.config.pooled:
            raise UnfitForPool
        raise ArtifactError("its code cannot be loaded in a forked process")

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
            raise ArtifactError(f"the compiled code cannot be kept: {first_line(take_error(error))}")
        return take_bytes(vector)


def first_line(message: str) -> str:
    """The engine's message ends with a chain of causes; the innermost says what is wrong."""
    if _GC_TYPES in message:
        return NO_EXTERNREF
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line.partition(":")[2].strip() if line[:1].isdigit() else line for line in lines if line != "Caused by:"]
    return printable("; ".join(dict.fromkeys(causes)), 300)
