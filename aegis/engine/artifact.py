"""From bytes to a module: admission, compiling, and the code that engines share.

Admission comes first and asks in the order of cost: size, magic, then what the module says of itself.
Nothing reaches the compiler that a cheaper check can refuse.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from ctypes import c_void_p
from typing import Any

from aegis.engine.binary import Export, Import, ModuleInfo, is_component, is_module, read_module
from aegis.engine.cache import Cache
from aegis.engine.config import Engine, EngineConfig, engine_for
from aegis.engine.digest import sha256_hex
from aegis.engine.native import ByteVec, lib, take_bytes, take_error
from aegis.errors import ArtifactError, ArtifactNotFound
from aegis.limits import Limits, format_bytes
from aegis.names import printable
from aegis.values import FuncType

__all__ = ["Module", "NativeCode", "compile_module", "read_file", "text_to_binary", "validate_module"]


_POOL = "pooling allocator requirements"


class UnfitForPool(Exception):
    """The module is larger in some way than the pool's slots; an engine without one can run it."""


class NativeCode:
    """Machine code of one module for one engine; freed with the last reference."""

    __slots__ = ("engine", "pointer")

    def __init__(self, engine: int, pointer: int) -> None:
        self.engine = engine
        self.pointer: int | None = pointer

    def __del__(self) -> None:
        pointer, self.pointer = self.pointer, None
        if pointer is not None:
            lib.wasmtime_module_delete(pointer)


class Module:
    """A compiled core module, shared by any number of sandboxes and threads.

    ``digest`` is the SHA-256 of its binary form, in hexadecimal; ``size`` its length in bytes;
    ``cached`` tells whether its code came from the cache, ``seconds`` how long that or compiling took.
    """

    kind = "module"

    def __init__(self, data: bytes, info: ModuleInfo, digest: str, cache: Cache | None) -> None:
        self._data = data
        self._cache = cache
        self._codes: dict[EngineConfig, NativeCode] = {}
        self._lock = threading.Lock()
        self.poolable = True
        self.plan: Any = None  # plan.py's own, kept here so that it goes with the module
        self.info = info
        self.digest = digest
        self.size = len(data)
        self.cached = False
        self.seconds = 0.0
        self.plain = not info.imports and not info.has_start
        """Whether instantiating it needs no host function and runs no guest code."""
        self.memory_exports = tuple(info.memory_exports)
        memories = [name for name, _ in info.memory_exports]
        self.memory_name: str | None = "memory" if "memory" in memories else next(iter(memories), None)
        self._exports = {e.name: e for e in info.exports}

    @property
    def imports(self) -> tuple[Import, ...]:
        """What the module asks for, in its own order."""
        return tuple(self.info.imports)

    @property
    def exports(self) -> tuple[Export, ...]:
        """What the module offers, in its own order."""
        return tuple(self.info.exports)

    @property
    def sections(self) -> tuple[tuple[str, int], ...]:
        """The module's sections with their sizes in bytes; a custom one with its name."""
        return tuple(self.info.sections)

    def export(self, name: str) -> Export | None:
        """Return the export called ``name``, if there is one."""
        return self._exports.get(name)

    def signature(self, name: str) -> FuncType:
        """Return the type of the exported function ``name``; the empty type when there is none."""
        export = self._exports.get(name)
        return export.type if export is not None and isinstance(export.type, FuncType) else FuncType()

    def code(self, config: EngineConfig) -> NativeCode:
        """Return the module's code for engines of ``config``, compiling at most once."""
        code = self._codes.get(config)
        if code is None:
            with self._lock:
                code = self._codes.get(config)
                if code is None:
                    started = time.perf_counter()
                    code = self._codes[config] = self._build(config)
                    self.seconds = time.perf_counter() - started
        return code

    def _build(self, config: EngineConfig) -> NativeCode:
        engine = engine_for(config)
        for other, code in self._codes.items():
            if other.fingerprint() == config.fingerprint() and code.pointer is not None:
                return _load(engine, _serialise(code.pointer)) or _compile(engine, self._data)
        if self._cache is None:
            return _compile(engine, self._data)
        name = self._cache.name(self.digest, config.fingerprint())
        kept = self._cache.get(name)
        loaded = _load(engine, kept) if kept is not None else None
        if loaded is not None:
            self.cached = True
            return loaded
        made = _compile(engine, self._data)
        if made.pointer is not None:
            self._cache.put(name, _serialise(made.pointer))
        return made

    def __repr__(self) -> str:
        return f"<aegis module {self.digest[:12]} of {format_bytes(self.size)}>"


def _compile(engine: Engine, data: bytes) -> NativeCode:
    out = c_void_p()
    error = lib.wasmtime_module_new(engine.pointer, data, len(data), ctypes.byref(out))
    if error is not None:
        message = take_error(error)
        if engine.config.pooled and _POOL in message:
            raise UnfitForPool
        raise ArtifactError(f"not a module that Aegis admits: {_first_line(message)}")
    return NativeCode(engine.pointer, out.value or 0)


def _load(engine: Engine, code: bytes) -> NativeCode | None:
    out = c_void_p()
    error = lib.wasmtime_module_deserialize(engine.pointer, code, len(code), ctypes.byref(out))
    if error is not None:
        take_error(error)
        return None
    return NativeCode(engine.pointer, out.value or 0)


def _serialise(pointer: int) -> bytes:
    vector = ByteVec()
    error = lib.wasmtime_module_serialize(pointer, ctypes.byref(vector))
    if error is not None:
        raise ArtifactError(f"the compiled code cannot be kept: {_first_line(take_error(error))}")
    return take_bytes(vector)


def _first_line(message: str) -> str:
    """The engine's message ends with a chain of causes; the innermost says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line.partition(":")[2].strip() if line[:1].isdigit() else line for line in lines if line != "Caused by:"]
    return printable("; ".join(dict.fromkeys(causes)), 300)


def admit(data: bytes, limits: Limits, what: str) -> ModuleInfo:
    """Check size, magic and types of ``data``, called ``what`` in errors; return what it says of itself."""
    if limits.module_size is not None and len(data) > limits.module_size:
        least = "at least " if len(data) == limits.module_size + 1 else ""
        raise ArtifactError(
            f"{what} has {least}{len(data):,} bytes, more than the limit "
            f"of {format_bytes(limits.module_size)}; raise it with --module-size if you trust its origin"
        )
    if not data:
        raise ArtifactError(f"{what} is empty, not a WebAssembly module")
    if is_component(data):
        raise ArtifactError(f"{what} is a component; this version runs core modules, and components come next")
    if not is_module(data):
        raise ArtifactError(f"{what} is not a WebAssembly module: {_looks_like(data)}")
    try:
        return read_module(data)
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None


def _looks_like(data: bytes) -> str:
    if data.lstrip()[:7] == b"(module" or data.lstrip()[:2] == b";;":
        return "it is WebAssembly text; give the file a name that ends in .wat"
    if data[:4] == b"\0asm":
        return f"its version is {int.from_bytes(data[4:8], 'little')}, and version 1 is what exists"
    if not any(data):
        return "it holds nothing but zeros"
    return "it does not start with the magic bytes \\0asm"


def compile_module(
    data: bytes, limits: Limits, config: EngineConfig, cache: Cache | None, what: str = "the module"
) -> Module:
    """Admit and compile a binary module, without the pool if it does not fit in there.

    Raise :class:`~aegis.errors.ArtifactError` with the reason.
    """
    info = admit(data, limits, what)
    module = Module(data, info, sha256_hex(data), cache)
    try:
        try:
            module.code(config)
        except UnfitForPool:
            module.poolable = False
            module.code(config.without_pool())
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None
    return module


def validate_module(data: bytes, limits: Limits, config: EngineConfig, what: str = "the module") -> ModuleInfo:
    """Admit and validate a binary module without compiling it."""
    info = admit(data, limits, what)
    error = lib.wasmtime_module_validate(engine_for(config).pointer, data, len(data))
    if error is not None:
        raise ArtifactError(f"{what}: not a module that Aegis admits: {_first_line(take_error(error))}")
    return info


def text_to_binary(text: str | bytes, what: str = "the module") -> bytes:
    """Translate WebAssembly text to a binary. The size limit is the caller's to check on both."""
    raw = text.encode() if isinstance(text, str) else text
    out = ByteVec()
    error = lib.wasmtime_wat2wasm(raw, len(raw), ctypes.byref(out))
    if error is not None:
        raise ArtifactError(f"{what}: not valid WebAssembly text: {_first_line(take_error(error))}")
    return take_bytes(out)


def read_file(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """Read a module file, binary or ``.wat`` text, no further than the size limit, as a binary."""
    name = os.fspath(path)
    what = printable(name)
    try:
        with open(name, "rb") as file:
            most = -1 if limits.module_size is None else limits.module_size + 1
            data = file.read(most)
    except FileNotFoundError:
        raise ArtifactNotFound(f"{what}: no such file") from None
    except IsADirectoryError:
        raise ArtifactError(f"{what} is a directory, not a WebAssembly module") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtifactNotFound(f"{what}: cannot be read: {reason}") from None
    if name.endswith(".wat"):
        if limits.module_size is not None and len(data) > limits.module_size:
            admit(data, limits, what)
        return text_to_binary(data, what)
    return data
