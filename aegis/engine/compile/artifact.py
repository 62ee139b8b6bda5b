"""Core modules: reading, admission, and validation of their bytes.

Admission runs before compilation, cheapest check first: size, magic bytes, then the types, imports and exports that
the module declares. The compiler receives only modules that pass all of these.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Sequence

from aegis.engine.compile.cache import Cache
from aegis.engine.compile.code import Artifact, first_line
from aegis.engine.compile.config import EngineConfig, engine_for
from aegis.engine.native.library import ByteVec, lib, take_bytes, take_error
from aegis.engine.threads.guest_thread import on_enough_stack
from aegis.errors import ArtifactError, ArtifactNotFound
from aegis.limits import TRUSTED, Limits, exceeded, format_bytes
from aegis.support.lean import Any
from aegis.text import count, printable
from aegis.values import FuncType
from aegis.wasm.binary import Export, Import, MemoryType, ModuleInfo, is_module, read_module

__all__ = [
    "Module",
    "admit_module",
    "admit_size",
    "is_text",
    "read_file",
    "require_enabled",
    "text_to_binary",
    "validate_module",
]


class Module(Artifact):
    """A compiled core module, shared by any number of sandboxes and threads."""

    kind = "module"
    _public = (*Artifact._public, "export", "sections", "signature")

    def __init__(self, data: bytes, info: ModuleInfo, digest: str, cache: Cache | None, limits: Limits) -> None:
        super().__init__(data, digest, cache, limits)
        self.plan: Any = None  # the latest plan of aegis.engine.store.plan; stored here to be freed with the module
        self.plan_before: Any = None  # the plan before the latest
        self.served: Any = None  # the imports, if Aegis implements all (aegis.sandbox.link_module); False otherwise
        self.info = info
        self.memory_exports = tuple(info.memory_exports)
        self.plain = not (info.imports or info.has_start or len(info.memories) > 1 or self.hides_growth())
        """Whether instantiation needs no imports, runs no guest code, and every growth of memory is visible."""
        memories = [name for name, _ in info.memory_exports]
        self.memory_name: str | None = "memory" if "memory" in memories else next(iter(memories), None)
        self._exports = {e.name: e for e in info.exports}
        begin, program = self._exports.get("_initialize"), self._exports.get("_start")
        self.reactor = begin is not None and begin.type == FuncType() and program is None
        """Whether ``_initialize`` must run before any other export (WASI application ABI, "reactor")."""

    def memories(self, most: int) -> list[MemoryType]:
        return self.info.memories

    def starts(self) -> bool:
        return self.info.has_start

    def hides_growth(self) -> bool:
        seen = {index for _, index in self.memory_exports}
        return any(m.minimum != m.maximum for n, m in enumerate(self.info.memories) if n not in seen)

    @property
    def imports(self) -> tuple[Import, ...]:
        """The module's imports, in declaration order."""
        return tuple(self.info.imports)

    @property
    def exports(self) -> tuple[Export, ...]:
        """The module's exports, in declaration order."""
        return tuple(self.info.exports)

    @property
    def sections(self) -> tuple[tuple[str, int], ...]:
        """The module's sections as ``(name, bytes)``; the name of a custom section includes its own name."""
        return tuple(self.info.sections)

    def export(self, name: str) -> Export | None:
        """Return the export ``name``, or ``None``."""
        return self._exports.get(name)

    def signature(self, name: str) -> FuncType:
        """Return the type of the exported function ``name``; the type without parameters and results if none exists."""
        export = self._exports.get(name)
        return export.type if export is not None and isinstance(export.type, FuncType) else FuncType()

    def __repr__(self) -> str:
        return f"<aegis module {self.digest[:12]} of {format_bytes(self.size)}>"


def admit_size(data: bytes, limits: Limits, what: str) -> None:
    """Raise ``ArtifactError`` if an artifact is empty or larger than ``limits.module_size``; ``what`` names it."""
    if limits.module_size is not None and len(data) > limits.module_size:
        size = len(data)
        # read_file stops one byte beyond the limit, so the real size is unknown.
        unit = "bytes, or more" if size == limits.module_size + 1 else ""
        message = exceeded("module_size", size, limits.module_size, unit=unit, remedy=TRUSTED)
        raise ArtifactError(f"{what}: {message}")
    if not data:
        raise ArtifactError(f"{what} is empty, not a WebAssembly module")


def _looks_like(data: bytes) -> str:
    if data.lstrip()[:7] == b"(module" or data.lstrip()[:2] == b";;":
        return "it is WebAssembly text: give the file a name that ends in .wat"
    if len(data) < 8 and (data[:4] == b"\0asm" or b"\0asm".startswith(data)):
        return f"it ends after {count(len(data), 'byte')}, but the header has 8: the file is truncated"
    if data[:4] == b"\0asm":
        return f"its version is {int.from_bytes(data[4:8], 'little')}; the only supported version is 1"
    if not any(data):
        return "it contains only zero bytes"
    return "it does not start with the magic bytes \\0asm"


def admit_module(data: bytes, what: str, proposals: Sequence[str] = ()) -> ModuleInfo:
    """Check the magic bytes and declarations of a module and return the declarations; ``what`` names it in errors.

    ``proposals`` are the optional ones that are enabled.

    Raise ``ArtifactError`` if it is malformed or not a core module.
    """
    if not is_module(data):
        raise ArtifactError(f"{what} is not a WebAssembly module: {_looks_like(data)}")
    try:
        info = read_module(data)
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None
    require_enabled(info.proposals, proposals, what)
    return info


def require_enabled(used: Collection[str], enabled: Collection[str], what: str) -> None:
    """Raise ``ArtifactError`` with the remedy unless all optional proposals in ``used`` are ``enabled``."""
    if not set(used) <= set(enabled):
        from aegis.support.proposals import needs

        raise ArtifactError(f"{what}: {needs(set(used) - set(enabled))}")


def validate_module(data: bytes, info: ModuleInfo, limits: Limits, config: EngineConfig, what: str) -> ModuleInfo:
    """Validate an admitted module without compiling it; return ``info``. Raise ``ArtifactError`` if it is invalid."""
    from aegis.wasm.admission import check_compile_cost

    try:
        check_compile_cost(data, limits, config.proposals)
    except ArtifactError as refused:
        raise ArtifactError(f"{what}: {refused}") from None
    error = lib.wasmtime_module_validate(engine_for(config).pointer, data, len(data))
    if error is not None:
        raise ArtifactError(f"{what}: not a module that Aegis admits: {first_line(take_error(error))}")
    return info


def text_to_binary(text: str | bytes, what: str = "the module") -> bytes:
    """Translate WebAssembly text to the binary format; raise ``ArtifactError`` for invalid text.

    The caller must check the size limit of both formats.
    """
    raw = text.encode() if isinstance(text, str) else text
    out = ByteVec()
    error = on_enough_stack(lambda: lib.wasmtime_wat2wasm(raw, len(raw), ctypes.byref(out)))
    if error is not None:
        raise _invalid_text(what, take_error(error))
    return take_bytes(out)


def _invalid_text(what: str, message: str) -> ArtifactError:
    """Return the error for invalid text, with line and column; the engine shows them as ``--> <anon>:3:13``."""
    head, _, place = message.partition("--> <anon>:")
    line, _, rest = place.partition(":")
    column = rest.partition("\n")[0].strip()
    if not (line.isdigit() and column.isdigit()):
        return ArtifactError(f"{what}: not valid WebAssembly text: {first_line(message)}")
    return ArtifactError(f"{what}:{line}:{column}: not valid WebAssembly text: {first_line(head)}")


def is_text(data: bytes) -> bool:
    """Return whether an artifact without a file name is WebAssembly text: it starts with a parenthesis or a comment."""
    return data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:2].startswith((b"(", b";;"))


def read_file(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """Read a module file, and translate it if its name ends in ``.wat``.

    Read at most one byte beyond ``limits.module_size``, so that the caller can reject a larger file. Raise
    ``ArtifactNotFound`` if the file cannot be read, and ``ArtifactError`` for a directory or invalid text.
    """
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
        raise ArtifactNotFound(f"{what}: cannot read the file: {reason}") from None
    if name.endswith(".wat"):
        admit_size(data, limits, what)
        return text_to_binary(data, what)
    return data
