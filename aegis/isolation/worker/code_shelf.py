"""In a worker that imported only what it begins with: the code of everything else, read before its doors closed.

A fork server imports all that a worker may come to need; a command that forks its worker itself has no time for that.
So the files are read, which takes a few milliseconds, and run when they are imported. A worker finds here what it would
find imported otherwise, and opens nothing for it.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import CodeType, ModuleType

from aegis.isolation.worker.reserve import BESIDE, LATER, LATER_BESIDE, NOT_NOW
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = ["Shelf"]

_HEADER_BYTES = 16
_builtins: Any = sys.modules["_frozen_importlib"].BuiltinImporter
_PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
_EXTENSIONS = ("unicodedata",)
"""Modules of the standard library in native code, which only the system's loader can load: imported at once."""


class _Book:
    """One module: its file, and its code if that is up to date, else its source."""

    __slots__ = ("code", "package", "path", "source")

    def __init__(self, path: str) -> None:
        self.path, self.package = path, os.path.basename(path) == "__init__.py"
        self.code = _compiled(path)
        self.source = b"" if self.code else _read(path)


class Shelf:
    """A finder of modules for ``sys.meta_path``, and their loader."""

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        self._put((name, _file(_PACKAGE, name.split(".")[1:])) for name in LATER)
        self._put((name, _file(_LIBRARY, name.split("."))) for name in LATER_BESIDE)

    def add_components(self) -> None:
        """Read what a component's run may import besides."""
        for name in _EXTENSIONS:
            with suppress(ImportError):
                __import__(name)
        self._put((name, _file(_LIBRARY, name.split("."))) for name in BESIDE)
        self._put(_modules())

    def _put(self, found: Iterable[tuple[str, str]]) -> None:
        for name, path in found:
            if name not in sys.modules and name not in self._books:
                with suppress(OSError):  # a version of Python without it
                    self._books[name] = _Book(path)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        book = self._books.get(name)
        if book is None:
            return _builtins.find_spec(name) if name in sys.builtin_module_names else None
        kind: Any = type(sys.modules["aegis"].__spec__)
        spec: ModuleSpec = kind(name, self, origin=book.path, is_package=book.package)
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # as import makes them

    def exec_module(self, module: ModuleType) -> None:
        book = self._books[module.__name__]
        code: CodeType = marshal.loads(book.code) if book.code else compile(book.source, book.path, "exec")
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
                if name in NOT_NOW or stem == "__pycache__":
                    continue
                if extension == ".py":
                    yield name, entry.path
                elif entry.is_dir():
                    packages.append(name)


def _file(folder: str, parts: list[str]) -> str:
    """Return the source file of a module beneath ``folder``."""
    path = os.path.join(folder, *parts)
    return os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"


def _compiled(path: str) -> bytes:
    """Return the compiled code of a source file, nothing where it is not up to date (PEP 552)."""
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
