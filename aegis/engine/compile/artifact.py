"""From bytes to a module: admission, compiling, and the code that engines share.

Admission comes first and asks in the order of cost: size, magic, then what the module says of itself.
Nothing reaches the compiler that a cheaper check can refuse.
"""

from __future__ import annotations

import ctypes
import os

from aegis.engine.compile.cache import Cache
from aegis.engine.compile.code import Artifact, first_line
from aegis.engine.compile.config import EngineConfig, engine_for
from aegis.engine.native.library import ByteVec, lib, take_bytes, take_error
from aegis.engine.threads.guest_thread import on_enough_stack
from aegis.errors import ArtifactError, ArtifactNotFound
from aegis.limits import TRUSTED, Limits, exceeded, format_bytes
from aegis.support.lean import Any
from aegis.text import printable
from aegis.values import FuncType
from aegis.wasm.binary import Export, Import, MemoryType, ModuleInfo, is_module, read_module

__all__ = ["Module", "admit_module", "admit_size", "read_file", "text_to_binary", "validate_module"]


class Module(Artifact):
    """A compiled core module, shared by any number of sandboxes and threads."""

    kind = "module"

    def __init__(self, data: bytes, info: ModuleInfo, digest: str, cache: Cache | None, limits: Limits) -> None:
        super().__init__(data, digest, cache, limits)
        self.plan: Any = None  # plan.py's own, kept here so that it goes with the module
        self.served: Any = None  # linking.py's own, likewise
        self.info = info
        self.memory_exports = tuple(info.memory_exports)
        self.plain = not (info.imports or info.has_start or len(info.memories) > 1 or self.hides_growth())
        """Whether instantiating it needs no host function, runs no guest code and is never counted."""
        memories = [name for name, _ in info.memory_exports]
        self.memory_name: str | None = "memory" if "memory" in memories else next(iter(memories), None)
        self._exports = {e.name: e for e in info.exports}

    def memories(self, most: int) -> list[MemoryType]:
        return self.info.memories

    def starts(self) -> bool:
        return self.info.has_start

    def hides_growth(self) -> bool:
        seen = {index for _, index in self.memory_exports}
        return any(m.minimum != m.maximum for n, m in enumerate(self.info.memories) if n not in seen)

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

    def __repr__(self) -> str:
        return f"<aegis module {self.digest[:12]} of {format_bytes(self.size)}>"


def admit_size(data: bytes, limits: Limits, what: str) -> None:
    """Check how many bytes an artifact, called ``what`` in errors, has; raise ``ArtifactError``."""
    if limits.module_size is not None and len(data) > limits.module_size:
        size = len(data)
        unit = "bytes, or more" if size == limits.module_size + 1 else ""  # a file is read no further
        message = exceeded("module_size", size, limits.module_size, unit=unit, remedy=TRUSTED)
        raise ArtifactError(f"{what}: {message}")
    if not data:
        raise ArtifactError(f"{what} is empty, not a WebAssembly module")


def _looks_like(data: bytes) -> str:
    if data.lstrip()[:7] == b"(module" or data.lstrip()[:2] == b";;":
        return "it is WebAssembly text; give the file a name that ends in .wat"
    if data[:4] == b"\0asm":
        return f"its version is {int.from_bytes(data[4:8], 'little')}, and version 1 is what exists"
    if not any(data):
        return "it holds nothing but zeros"
    return "it does not start with the magic bytes \\0asm"


def admit_module(data: bytes, what: str) -> ModuleInfo:
    """Check magic and types of ``data``, called ``what`` in errors; return what the module says of itself."""
    if not is_module(data):
        raise ArtifactError(f"{what} is not a WebAssembly module: {_looks_like(data)}")
    try:
        return read_module(data)
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None


def validate_module(data: bytes, info: ModuleInfo, limits: Limits, config: EngineConfig, what: str) -> ModuleInfo:
    """Validate a binary module that is admitted, without compiling it; return ``info``."""
    from aegis.wasm.admission import check_compile_cost

    error = lib.wasmtime_module_validate(engine_for(config).pointer, data, len(data))
    if error is not None:
        raise ArtifactError(f"{what}: not a module that Aegis admits: {first_line(take_error(error))}")
    try:
        check_compile_cost(data, limits)
    except ArtifactError as refused:
        raise ArtifactError(f"{what}: {refused}") from None
    return info


def text_to_binary(text: str | bytes, what: str = "the module") -> bytes:
    """Translate WebAssembly text to a binary. The size limit is the caller's to check on both."""
    raw = text.encode() if isinstance(text, str) else text
    out = ByteVec()
    error = on_enough_stack(lambda: lib.wasmtime_wat2wasm(raw, len(raw), ctypes.byref(out)))
    if error is not None:
        raise ArtifactError(f"{what}: not valid WebAssembly text: {first_line(take_error(error))}")
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
        admit_size(data, limits, what)
        return text_to_binary(data, what)
    return data
