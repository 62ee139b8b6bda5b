"""The compiled modules that a command imports, in one file.

Python imports a module with some fifteen system calls. ``aegis run`` imports more than a hundred small modules, and
these calls take as long as the run of a small guest. The archive holds the code of the modules that earlier runs
imported, from Aegis and from the standard library. A module in it is imported with one system call, stat(2) of its
source.

The archive follows the rules of the files in ``__pycache__``, where it is too (PEP 3147, PEP 552). It is made from
them; code is used only while the source has the same time and size; nothing is written with ``-B`` or to a read-only
directory. An archive that is missing, or of another version or place of Python, is as good as none.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False  # an import here would come before the archive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
    from importlib.util import MAGIC_NUMBER
    from types import CodeType, ModuleType
    from typing import TypeAlias
else:  # importlib.machinery and importlib.util import more than these
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import MAGIC_NUMBER, PathFinder, SourceFileLoader

__all__ = ["ModuleArchive", "code_of", "read_file", "source_path"]

_PACKAGE = __name__.partition(".")[0]
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + "/"
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + "/"
_OTHERS = (f"{_LIBRARY}site-packages/", f"{_LIBRARY}dist-packages/")
_CACHED = f".{sys.implementation.cache_tag}.pyc"
_HEAD = b"aegis modules 1\n" + MAGIC_NUMBER + f"{_ROOT}\n{_LIBRARY}\n".encode("utf-8", "surrogateescape")
_SIZE_BYTES = 8
_PYC_HEADER_BYTES = 16
_LAST_STANDARD = 2
_CODE = (lambda: None).__code__.__class__
_DAMAGE = (ValueError, TypeError, EOFError, MemoryError)
"""The exceptions of :mod:`marshal` for bytes that it did not write."""
_Entry: TypeAlias = "tuple[int, int, str, str, int, int]"
"""A module in the archive: start and size of its code; folder of its source, and the file's name without suffix; the
source's time and size when it was compiled."""
_Code: TypeAlias = "tuple[bytes, int, int]"
"""Marshalled code, and the time and size of the source when it was compiled."""
_NO_ARCHIVE: tuple[int, int, dict[str, _Entry]] = (-1, 0, {})


class _ArchivedLoader(SourceFileLoader):
    """The loader of one module. It differs from that of the source file in where the code comes from."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code from the archive; from the usual place if the archive is damaged."""
        try:
            code = marshal.loads(self._code)
        except _DAMAGE:
            code = None
        return code if code.__class__ is _CODE else super().get_code(fullname)


class ModuleArchive:
    """An archive, and the finder of its modules for ``sys.meta_path``."""

    installed: ModuleArchive | None = None
    """The archive from which this process imports modules."""

    def __init__(self, path: str) -> None:
        """Open the archive ``path``; the new one is empty if there is none that this Python can use."""
        self._path = path
        self._imported_before = frozenset(sys.modules)
        self._found: set[str] = set()
        self.descriptor, self._begin, self._entries = _opened(path)

    @classmethod
    def install(cls) -> ModuleArchive | None:
        """Open the archive of this installation, and find modules in it before they are searched for in ``sys.path``.

        Return ``None`` if Python's options ask for other code than that in the usual ``.pyc`` files.
        """
        if sys.flags.optimize or sys.pycache_prefix is not None or PathFinder not in sys.meta_path:
            return None
        name = f"modules.{sys.implementation.cache_tag}.archive"
        archive = cls.installed = cls(f"{_ROOT}{_PACKAGE}/__pycache__/{name}")
        sys.meta_path.insert(sys.meta_path.index(PathFinder), archive)
        return archive

    def code(self, name: str) -> bytes | None:
        """Return the marshalled code of a module if the archive has it and the source has not changed since."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        start, size, folder, stem, written, length = entry
        if _state(f"{folder}/{stem}.py") != (written, length):
            return None
        try:
            code = os.pread(self.descriptor, size, self._begin + start)
        except OSError:
            return None
        return code if len(code) == size else None

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the specification of a module whose code the archive has."""
        code = self.code(name)
        if code is None:
            return None
        self._found.add(name)
        _, _, folder, stem, _, _ = self._entries[name]
        source, is_package = f"{folder}/{stem}.py", stem == "__init__"
        spec = ModuleSpec(name, _ArchivedLoader(name, source, code), origin=source, is_package=is_package)
        spec.has_location = True
        spec.cached = f"{folder}/__pycache__/{stem}{_CACHED}"
        if is_package:
            spec.submodule_search_locations = [folder]
        return spec

    def close(self) -> None:
        """Close the file; the archive is empty then."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self._begin, self._entries = _NO_ARCHIVE

    def save(self, further: Iterable[str] = ()) -> None:
        """Add the modules that this process imported without the archive, and those with the ``further`` names.

        Do nothing if it imported all of them from the archive. Modules of other packages are left out, and those
        without an up-to-date ``.pyc`` file.
        """
        others = sys.modules.keys() - self._found - self._imported_before
        new = [name for name in others if _is_ours(name, sys.modules[name])]
        if not new or sys.dont_write_bytecode:
            return
        codes = {name: (code, *self._entries[name][4:]) for name in self._entries if (code := self.code(name))}
        added = {name: found for name in (*new, *further) if name not in codes and (found := _compiled(name))}
        if added:
            from contextlib import suppress

            with suppress(OSError):  # a read-only installation, or a full disk
                _write(self._path, _packed({**codes, **added}))


def code_of(name: str) -> bytes:
    """Return the marshalled code of a module of Aegis or of the standard library, without importing the module.

    It is empty if neither the archive nor a ``.pyc`` file has the code of the present source.
    """
    archive = ModuleArchive.installed
    found = None if archive is None else archive.code(name)
    return found or (_compiled(name) or (b"", 0, 0))[0]


def source_path(name: str) -> str:
    """Return the path of the source file of a module of Aegis or of the standard library."""
    path = (_ROOT if name.partition(".")[0] == _PACKAGE else _LIBRARY) + name.replace(".", "/")
    return f"{path}/__init__.py" if os.path.isdir(path) else f"{path}.py"


def read_file(path: str) -> bytes:
    """Return the content of a regular file; raise ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _is_ours(name: str, module: ModuleType) -> bool:
    """Return whether an imported module is one of Aegis or of the standard library, from its source file."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if not isinstance(origin, str) or origin.startswith(_OTHERS):
        return False
    return origin.startswith((f"{_ROOT}{_PACKAGE}/", _LIBRARY)) and origin == source_path(name)


def _compiled(name: str) -> _Code | None:
    """Return the code of a module from its ``.pyc`` file; ``None`` if there is none that is up to date."""
    source = source_path(name)
    folder, _, file = source.rpartition("/")
    try:
        data = read_file(f"{folder}/__pycache__/{file.removesuffix('.py')}{_CACHED}")
    except OSError:
        return None
    written, length = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    usable = data[:8] == MAGIC_NUMBER + bytes(4) and _state(source) == (written, length)
    return (data[_PYC_HEADER_BYTES:], written, length) if usable else None


def _state(source: str) -> tuple[int, int] | None:
    """Return the time and size of a source file as ``.pyc`` files record them; ``None`` if there is no such file."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    return int(status.st_mtime) & 0xFFFF_FFFF, status.st_size & 0xFFFF_FFFF


def _packed(codes: dict[str, _Code]) -> bytes:
    entries: dict[str, _Entry] = {}
    start = 0
    for name, (code, written, length) in codes.items():
        folder, _, file = source_path(name).rpartition("/")
        entries[name] = (start, len(code), sys.intern(folder), file.removesuffix(".py"), written, length)
        start += len(code)
    index = marshal.dumps(entries)
    return b"".join([_HEAD, len(index).to_bytes(_SIZE_BYTES, "little"), index, *(code for code, *_ in codes.values())])


def _opened(path: str) -> tuple[int, int, dict[str, _Entry]]:
    """Return an archive's descriptor, the position of its codes and its entries; :data:`_NO_ARCHIVE` if it is unusable.

    A descriptor that would be a standard stream, because the process was started without one, is not kept.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe has no writer to wait for
    except OSError:
        return _NO_ARCHIVE
    begin = len(_HEAD) + _SIZE_BYTES
    try:
        head = os.pread(descriptor, begin, 0)
        if descriptor > _LAST_STANDARD and len(head) == begin and head.startswith(_HEAD):
            size = min(int.from_bytes(head[-_SIZE_BYTES:], "little"), os.fstat(descriptor).st_size)
            index = marshal.loads(os.pread(descriptor, size, begin))
            if index.__class__ is dict:
                return descriptor, begin + size, index
    except (OSError, *_DAMAGE):  # a directory, a pipe, or damaged
        pass
    os.close(descriptor)
    return _NO_ARCHIVE


def _write(path: str, data: bytes) -> None:
    """Replace the file at once, so that a command that reads it meanwhile has either the old or the new content."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
