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
from aegis.support.module_archive import code_of, read_file, source_path

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = ["PreloadedFinder"]

_builtins: Any = sys.modules["_frozen_importlib"].BuiltinImporter
_PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
_EXTENSIONS = ("unicodedata",)
"""Extension modules of the standard library. Only the dynamic linker can load them, so they are imported at once."""


class _PreloadedModule:
    """One module: its path, and its compiled code if that is up to date, otherwise its source."""

    __slots__ = ("code", "package", "path", "source")

    def __init__(self, name: str) -> None:
        self.path = path = source_path(name)
        self.package = os.path.basename(path) == "__init__.py"
        self.code = code_of(name)
        self.source = b"" if self.code else read_file(path)


class PreloadedFinder:
    """Finder and loader for ``sys.meta_path``, for modules whose code was read before confinement."""

    def __init__(self) -> None:
        self._held: dict[str, _PreloadedModule] = {}
        self._put(LATE_AEGIS_MODULES)
        self._put(LATE_STDLIB_MODULES)

    def add_components(self) -> None:
        """Read the other modules that running a component may import."""
        for name in _EXTENSIONS:
            with suppress(ImportError):
                __import__(name)
        self._put(COMPONENT_STDLIB_MODULES)
        self._put(_modules())

    def _put(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in sys.modules and name not in self._held:
                with suppress(OSError):  # this version of Python does not have the module
                    self._held[name] = _PreloadedModule(name)

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


def _modules() -> Iterator[str]:
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
                    yield name
                elif entry.is_dir():
                    packages.append(name)
