"""Both implementations of a granted directory for one test: beneath a host directory, and in memory.

A test takes the fixture ``either_folder`` (``tests/conftest.py``), builds its tree with the methods of
:class:`pathlib.Path` and grants it by its name; it runs once for each implementation. A rule that only one of them can
have (FIFOs, names that are not Unicode, single files) takes ``tmp_path``.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aegis.host.files import preopens, start_checks
from aegis.host.files.file_times import NewTimes
from aegis.host.files.memory import MemoryDirectory, MemoryFileSystem
from aegis.policy import FilesystemCapability

__all__ = [
    "IMPLEMENTATIONS",
    "Folder",
    "MemoryPath",
    "every_place",
    "in_memory",
    "new_folder",
    "set_times",
    "walked",
]

IMPLEMENTATIONS = ("host", "memory")

_NUMBERS = count(1)


class MemoryPath:
    """A path in a :class:`MemoryFileSystem`, with those methods of :class:`pathlib.Path` that tests use."""

    def __init__(self, system: MemoryFileSystem, top: str, path: str = "") -> None:
        self.system, self.top, self.path = system, top, path

    def __str__(self) -> str:
        return f"{self.top}/{self.path}".rstrip("/")

    def __repr__(self) -> str:
        return f"MemoryPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryPath) and str(self) == str(other)

    def __lt__(self, other: MemoryPath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> MemoryPath:
        return MemoryPath(self.system, self.top, f"{self.path}/{name}".strip("/"))

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> MemoryPath:
        return MemoryPath(self.system, self.top, self.path.rpartition("/")[0])

    @property
    def parents(self) -> list[MemoryPath]:
        return [self.parent, *self.parent.parents] if self.path else []

    @property
    def _at(self) -> str:
        return self.path or "."

    @property
    def _root(self) -> MemoryDirectory:
        return MemoryDirectory(self.system, writable=True)

    def directory(self, *, writable: bool) -> MemoryDirectory:
        """Return the directory as it would be granted."""
        opened = MemoryDirectory(self.system, writable=writable).open(self._at, follow=True, read=True, write=False)
        assert isinstance(opened, MemoryDirectory), "only directories are granted in memory"
        return opened

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        if parents and self.path and not self.parent.exists():
            self.parent.mkdir(parents=True)
        if not (exist_ok and self.is_dir()):
            self._root.mkdir(self._at)

    def write_bytes(self, data: bytes) -> None:
        opened = self._root.open(self._at, follow=True, read=False, write=True, create=True, truncate=True)
        assert not isinstance(opened, MemoryDirectory)
        opened.truncate(0)
        assert opened.write(data, 0) == len(data)
        opened.close()

    def read_bytes(self) -> bytes:
        opened = self._root.open(self._at, follow=True, read=True, write=False)
        assert not isinstance(opened, MemoryDirectory)
        with_all = opened.read(opened.status().st_size, 0)
        opened.close()
        return with_all

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def touch(self) -> None:
        if not self.exists():
            self.write_bytes(b"")

    def symlink_to(self, target: str) -> None:
        self.system.plant_link(str(target), self._at)

    def readlink(self) -> str:
        return self.system.link_target(self._at)

    def hardlink_to(self, target: MemoryPath) -> None:
        self._root.link(target.path, self._root, self._at)

    def unlink(self) -> None:
        self._root.unlink(self._at)

    def rmdir(self) -> None:
        self._root.rmdir(self._at)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._root.stat(self._at, follow=follow_symlinks)

    def lstat(self) -> os.stat_result:
        return self.stat(follow_symlinks=False)

    def _mode(self, *, follow: bool) -> int:
        try:
            return stat.S_IFMT(self.stat(follow_symlinks=follow).st_mode)
        except OSError:
            return 0

    def exists(self) -> bool:
        return self._mode(follow=True) != 0

    def is_dir(self) -> bool:
        return self._mode(follow=True) == stat.S_IFDIR

    def is_file(self) -> bool:
        return self._mode(follow=True) == stat.S_IFREG

    def is_symlink(self) -> bool:
        return self._mode(follow=False) == stat.S_IFLNK

    def samefile(self, other: MemoryPath) -> bool:
        return os.path.samestat(self.stat(), other.stat())

    def iterdir(self) -> Iterator[MemoryPath]:
        opened = self.directory(writable=False)
        return iter([self / name for name, _ in opened.entries()])

    def rglob(self, pattern: str) -> Iterator[MemoryPath]:
        """Yield everything beneath, links not followed."""
        assert pattern == "*"
        for path in self.iterdir():
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from path.rglob(pattern)


Folder = Path | MemoryPath


every_place = pytest.mark.parametrize(
    ("either_folder", "place"), [("host", "in-process"), ("host", "isolated"), ("memory", "in-process")],
    indirect=["either_folder"],
)  # fmt: skip
"""Runs a test for both implementations in process, and in a worker for the host's: policies grant no other yet."""


def set_times(path: Folder, access: int, change: int) -> None:
    """Set times of a file in nanoseconds, as the host would."""
    if isinstance(path, Path):
        os.utime(path, ns=(access, change))
    else:
        MemoryDirectory(path.system, writable=True).utime(path.path, NewTimes(access, change), follow=True)


def walked(root: Folder) -> dict[str, tuple[str, bytes]]:
    """Return the kind and contents, or target, of everything beneath ``root``."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in root.rglob("*"):
        key = str(path).removeprefix(f"{root}/")
        if path.is_symlink():
            # As it was written: pathlib would drop a slash at the end.
            found[key] = ("link", os.fsencode(os.readlink(path) if isinstance(path, Path) else path.readlink()))
        elif path.is_dir():
            found[key] = ("directory", b"")
        else:
            found[key] = ("file", path.read_bytes()) if path.is_file() else ("other", b"")
    return found


@contextmanager
def new_folder(implementation: str) -> Iterator[Folder]:
    """Return an empty directory of one implementation until the exit, for the examples of a property test."""
    if implementation == "memory":
        with in_memory() as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


@contextmanager
def in_memory() -> Iterator[MemoryPath]:
    """Return an empty directory in memory that policies can grant by its name, in this process, until the exit.

    Policies have no grants in memory yet: what acquires the grants of a sandbox is replaced.
    """
    system = MemoryFileSystem(max_bytes=1 << 26, max_entries=10_000)
    root = MemoryPath(system, f"/in-memory-{next(_NUMBERS)}")
    acquire = preopens.acquire_filesystem

    def acquire_either(capability: FilesystemCapability, *rest: Any, **more: Any) -> Sequence[preopens.Preopen]:
        if not all(f"{grant.host}/".startswith(f"{root}/") for grant in capability.paths):
            return acquire(capability, *rest, **more)
        found = []
        for grant in capability.paths:
            path = MemoryPath(system, root.top, grant.host.removeprefix(root.top).strip("/"))
            found.append(preopens.Preopen(grant.guest, path.directory(writable=grant.write)))
        return found

    check = start_checks.check_filesystem

    def check_either(capability: FilesystemCapability, *rest: Any) -> None:
        if not all(f"{grant.host}/".startswith(f"{root}/") for grant in capability.paths):
            check(capability, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preopens, "acquire_filesystem", acquire_either)
        patch.setattr(start_checks, "check_filesystem", check_either)
        yield root
