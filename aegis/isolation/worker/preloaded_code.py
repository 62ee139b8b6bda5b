"""An importer for a worker that could not import all its modules before confinement: it reads their code instead.

A fork server imports all modules that a worker may need; a command that forks its worker itself has no time for that.
Its worker reads the modules' files before confinement, which takes a few milliseconds, and executes one when it is
imported. After confinement an import then opens no file.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import CodeType, ModuleType

from aegis.isolation.worker.importable import (
    COMPONENT_STDLIB_MODULES,
    LATE_AEGIS_MODULES,
    LATE_STDLIB_MODULES,
    NOT_PRELOADED,
)
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = ["PreloadedFinder"]

_HEADER_BYTES = 16
_builtins: Any = sys.modules["_frozen_importlib"].BuiltinImporter
_PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
_EXTENSIONS = ("unicodedata",)
"""Extension modules of the standard library. Only the dynamic linker can load them, so they are imported at once."""


class _PreloadedModule:
    """One module: its path, and its compiled code if that is up to date, otherwise its source."""

    __slots__ = ("code", "package", "path", "source")

    def __init__(self, path: str) -> None:
        self.path, self.package = path, os.path.basename(path) == "__init__.py"
        self.code = _compiled(path)
        self.source = b"" if self.code else _read(path)


class PreloadedFinder:
    """Finder and loader for ``sys.meta_path``, for modules whose code was read before confinement."""

    def __init__(self) -> None:
        self._held: dict[str, _PreloadedModule] = {}
        self._put((name, _file(_PACKAGE, name.split(".")[1:])) for name in LATE_AEGIS_MODULES)
        self._put((name, _file(_LIBRARY, name.split("."))) for name in LATE_STDLIB_MODULES)

    def add_components(self) -> None:
        """Read the other modules that running a component may import."""
        for name in _EXTENSIONS:
            with suppress(ImportError):
                __import__(name)
        self._put((name, _file(_LIBRARY, name.split("."))) for name in COMPONENT_STDLIB_MODULES)
        self._put(_modules())

    def _put(self, found: Iterable[tuple[str, str]]) -> None:
        for name, path in found:
            if name not in sys.modules and name not in self._held:
                with suppress(OSError):  # this version of Python does not have the module
                    self._held[name] = _PreloadedModule(path)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        held = self._held.get(name)
        if held is None:
            return _builtins.find_spec(name) if name in sys.builtin_module_names else None
        kind: Any = type(sys.modules["aegis"].__spec__)
        spec: ModuleSpec = kind(name, self, origin=held.path, is_package=held.package)
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # the default

    def exec_module(self, module: ModuleType) -> None:
        held = self._held[module.__name__]
        code: CodeType = marshal.loads(held.code) if held.code else compile(held.source, held.path, "exec")
        exec(code, module.__dict__)


def _modules() -> Iterator[tuple[str, str]]:
    """Yield the modules of Aegis that a fork server imports."""
    packages = ["aegis"]
    while packages:
        package = packages.pop()
        with os.scandir(os.path.join(_PACKAGE, *package.split(".")[1:])) as entries:
            for entry in entries:
                stem, extension = os.path.splitext(entry.name)
                name = package if stem == "__init__" else f"{package}.{stem}"
                if name in NOT_PRELOADED or stem == "__pycache__":
                    continue
                if extension == ".py":
                    yield name, entry.path
                elif entry.is_dir():
                    packages.append(name)


def _file(folder: str, parts: list[str]) -> str:
    """Return the path of a module's source file below ``folder``."""
    path = os.path.join(folder, *parts)
    return os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"


def _compiled(path: str) -> bytes:
    """Return the marshalled code of a source file; empty if there is none that is up to date (PEP 552)."""
    folder, name = os.path.split(path)
    tag = sys.implementation.cache_tag
    try:
        data = _read(os.path.join(folder, "__pycache__", f"{name[:-3]}.{tag}.pyc"))
        status = os.stat(path)
    except OSError:
        return b""
    written, size = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    fresh = (written, size) == (int(status.st_mtime) & 0xFFFF_FFFF, status.st_size & 0xFFFF_FFFF)
    magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    usable = fresh and data[:4] == magic and data[4:8] == bytes(4)
    return data[_HEADER_BYTES:] if usable else b""


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
