"""Two hosts of WASI preview 1 behind one interface: Aegis, called directly, and wasmtime's native one.

A driver acts as the guest: it writes paths and buffers to memory, calls a function by name, and returns the error
number with the results from memory. ``AegisDriver`` needs no engine; ``Native`` calls through a small module that
forwards every import.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import wasmtime

from aegis.host import acquire
from aegis.host.preview1 import MODULE, preview1_functions
from aegis.host.preview1.abi import ALL_RIGHTS, SIGNATURES, Errno
from aegis.policy import FilesystemCapability, PathGrant, Policy
from aegis.policy.remedies import explained
from aegis.values import Decision, MemoryFault
from tests.directories import Folder, walked

PAGES = 4
FIRST = 3  # the first preopen
ALL = ALL_RIGHTS
_PATH, _SECOND, _IOVS, _OUT, _BUFFER = 0x100, 0x1200, 0x2400, 0x2800, 0x3000


NAMES = {int(number): name for name, number in vars(Errno).items() if isinstance(number, int)}
"""The name of each error number."""


class Memory:
    """A guest's memory that checks bounds like a real one, without an engine."""

    def __init__(self, size: int = PAGES * 65536) -> None:
        self.data = bytearray(size)

    def size(self) -> int:
        return len(self.data)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > len(self.data):
            raise MemoryFault(f"{length} bytes at {offset}")

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check(offset, len(data))
        self.data[offset : offset + len(data)] = data


class Scope:
    """A call context without a deadline. It records decisions, log lines and waits."""

    LONGEST = 0.05
    listens = True

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.decisions: list[Decision] = []
        self.lines: list[tuple[str, str]] = []
        self.waits: list[float | None] = []

    def remaining(self) -> float | None:
        return None

    def wait(
        self, seconds: float | None = None, *, read: Sequence[int] = (), write: Sequence[int] = ()
    ) -> tuple[list[int], list[int]]:
        self.waits.append(seconds)
        longest = self.LONGEST if seconds is None else min(seconds, self.LONGEST)
        readable, writable, _ = select.select(list(read), list(write), [], longest)
        return readable, writable

    def decided(self, decision: Decision) -> None:
        self.decisions.append(explained(self.policy, decision))

    def logged(self, level: str, message: str) -> None:
        self.lines.append((level, message))


class Filestat(NamedTuple):
    """The fields of a ``filestat``."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int


class Fdstat(NamedTuple):
    """The fields of an ``fdstat``."""

    filetype: int
    flags: int
    rights: int
    inheriting: int


class Dirent(NamedTuple):
    """An entry of a directory."""

    next: int
    ino: int
    filetype: int
    name: str


class Driver:
    """A guest that calls preview 1. Every method returns the error number first."""

    def call(self, name: str, *args: int) -> int:
        raise NotImplementedError

    def peek(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def poke(self, offset: int, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    # -- scratch -------------------------------------------------------------------------------

    def _text(self, path: str | bytes, at: int = _PATH) -> tuple[int, int]:
        raw = path if isinstance(path, bytes) else path.encode()
        self.poke(at, raw)
        return at, len(raw)

    def _u32(self, at: int = _OUT) -> int:
        return int.from_bytes(self.peek(at, 4), "little")

    def _u64(self, at: int = _OUT) -> int:
        return int.from_bytes(self.peek(at, 8), "little")

    def _vector(self, *lengths: int) -> tuple[int, int]:
        at, pairs = _BUFFER, b""
        for length in lengths:
            pairs += struct.pack("<II", at, length)
            at += length
        self.poke(_IOVS, pairs)
        return _IOVS, len(lengths)

    # -- descriptors ---------------------------------------------------------------------------

    def fd_close(self, fd: int) -> int:
        return self.call("fd_close", fd)

    def fd_renumber(self, fd: int, to: int) -> int:
        return self.call("fd_renumber", fd, to)

    def fd_read(self, fd: int, *lengths: int) -> tuple[int, bytes]:
        number = self.call("fd_read", fd, *self._vector(*lengths), _OUT)
        return number, b"" if number else self.peek(_BUFFER, self._u32())

    def fd_pread(self, fd: int, length: int, offset: int) -> tuple[int, bytes]:
        number = self.call("fd_pread", fd, *self._vector(length), offset, _OUT)
        return number, b"" if number else self.peek(_BUFFER, self._u32())

    def fd_write(self, fd: int, *pieces: bytes) -> tuple[int, int]:
        self.poke(_BUFFER, b"".join(pieces))
        number = self.call("fd_write", fd, *self._vector(*map(len, pieces)), _OUT)
        return number, 0 if number else self._u32()

    def fd_pwrite(self, fd: int, data: bytes, offset: int) -> tuple[int, int]:
        self.poke(_BUFFER, data)
        number = self.call("fd_pwrite", fd, *self._vector(len(data)), offset, _OUT)
        return number, 0 if number else self._u32()

    def fd_seek(self, fd: int, offset: int, whence: int) -> tuple[int, int]:
        number = self.call("fd_seek", fd, offset, whence, _OUT)
        return number, 0 if number else self._u64()

    def fd_tell(self, fd: int) -> tuple[int, int]:
        number = self.call("fd_tell", fd, _OUT)
        return number, 0 if number else self._u64()

    def fd_filestat_get(self, fd: int) -> tuple[int, Filestat | None]:
        number = self.call("fd_filestat_get", fd, _BUFFER)
        return number, None if number else self._filestat()

    def _filestat(self) -> Filestat:
        return Filestat(*struct.unpack("<QQB7xQQQQQ", self.peek(_BUFFER, 64)))

    def fd_fdstat_get(self, fd: int) -> tuple[int, Fdstat | None]:
        number = self.call("fd_fdstat_get", fd, _BUFFER)
        return number, None if number else Fdstat(*struct.unpack("<BxH4xQQ", self.peek(_BUFFER, 24)))

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        return self.call("fd_fdstat_set_flags", fd, flags)

    def fd_fdstat_set_rights(self, fd: int, rights: int, inheriting: int) -> int:
        return self.call("fd_fdstat_set_rights", fd, rights, inheriting)

    def fd_filestat_set_size(self, fd: int, size: int) -> int:
        return self.call("fd_filestat_set_size", fd, size)

    def fd_filestat_set_times(self, fd: int, atim: int, mtim: int, flags: int) -> int:
        return self.call("fd_filestat_set_times", fd, atim, mtim, flags)

    def fd_allocate(self, fd: int, offset: int, length: int) -> int:
        return self.call("fd_allocate", fd, offset, length)

    def fd_readdir(self, fd: int, length: int = 4096, cookie: int = 0) -> tuple[int, list[Dirent], int]:
        """Return the complete entries in the buffer, and the number of bytes used."""
        number = self.call("fd_readdir", fd, _BUFFER, length, cookie, _OUT)
        used = 0 if number else self._u32()
        return number, _entries(self.peek(_BUFFER, used)), used

    def fd_prestat_get(self, fd: int) -> tuple[int, int]:
        number = self.call("fd_prestat_get", fd, _BUFFER)
        return number, 0 if number else struct.unpack("<B3xI", self.peek(_BUFFER, 8))[1]

    def fd_prestat_dir_name(self, fd: int, length: int) -> tuple[int, bytes]:
        self.poke(_BUFFER, b"\xee" * max(length, 1))
        number = self.call("fd_prestat_dir_name", fd, _BUFFER, length)
        return number, b"" if number else self.peek(_BUFFER, length)

    # -- paths ---------------------------------------------------------------------------------

    def path_open(
        self, fd: int, lookup: int, path: str | bytes, oflags: int = 0, rights: int = ALL, inheriting: int = ALL,
        fdflags: int = 0,
    ) -> tuple[int, int]:  # fmt: skip
        args = (fd, lookup, *self._text(path), oflags, rights, inheriting, fdflags, _OUT)
        number = self.call("path_open", *args)
        return number, -1 if number else self._u32()

    def path_filestat_get(self, fd: int, lookup: int, path: str | bytes) -> tuple[int, Filestat | None]:
        number = self.call("path_filestat_get", fd, lookup, *self._text(path), _BUFFER)
        return number, None if number else self._filestat()

    def path_filestat_set_times(self, fd: int, lookup: int, path: str, atim: int, mtim: int, flags: int) -> int:
        return self.call("path_filestat_set_times", fd, lookup, *self._text(path), atim, mtim, flags)

    def path_create_directory(self, fd: int, path: str | bytes) -> int:
        return self.call("path_create_directory", fd, *self._text(path))

    def path_remove_directory(self, fd: int, path: str | bytes) -> int:
        return self.call("path_remove_directory", fd, *self._text(path))

    def path_unlink_file(self, fd: int, path: str | bytes) -> int:
        return self.call("path_unlink_file", fd, *self._text(path))

    def path_symlink(self, target: str, fd: int, path: str | bytes) -> int:
        return self.call("path_symlink", *self._text(target, _SECOND), fd, *self._text(path))

    def path_readlink(self, fd: int, path: str | bytes, room: int = 512) -> tuple[int, bytes]:
        number = self.call("path_readlink", fd, *self._text(path), _BUFFER, room, _OUT)
        return number, b"" if number else self.peek(_BUFFER, self._u32())

    def path_rename(self, fd: int, path: str, new_fd: int, new: str) -> int:
        return self.call("path_rename", fd, *self._text(path), new_fd, *self._text(new, _SECOND))

    def path_link(self, fd: int, lookup: int, path: str, new_fd: int, new: str) -> int:
        return self.call("path_link", fd, lookup, *self._text(path), new_fd, *self._text(new, _SECOND))

    # -- the rest ------------------------------------------------------------------------------

    def poll_oneoff(self, *subscriptions: bytes) -> tuple[int, list[tuple[int, int, int, int]]]:
        """Return (userdata, errno, kind, bytes) of each event."""
        self.poke(_IOVS, b"".join(subscriptions))
        number = self.call("poll_oneoff", _IOVS, _BUFFER, len(subscriptions), _OUT)
        found = [] if number else struct.iter_unpack("<QHB5xQH6x", self.peek(_BUFFER, 32 * self._u32()))
        return number, [(user, error, kind, count) for user, error, kind, count, _ in found]

    def clock_time_get(self, clock: int) -> tuple[int, int]:
        number = self.call("clock_time_get", clock, 0, _OUT)
        return number, 0 if number else self._u64()

    # -- for tests that need the success -------------------------------------------------------

    def opened(self, path: str, oflags: int = 0, rights: int = ALL, *, fd: int = FIRST, **more: int) -> int:
        """Open ``path`` or fail the test."""
        number, new = self.path_open(fd, more.pop("lookup", 0), path, oflags, rights, **more)
        assert number == 0, f"{path!r}: {NAMES[number]}"
        return new

    def listed(self, fd: int, room: int = 4096) -> list[Dirent]:
        """Return all entries of a directory, calling again as long as the buffer is full."""
        found: list[Dirent] = []
        while True:
            number, entries, used = self.fd_readdir(fd, room, found[-1].next if found else 0)
            assert number == 0, NAMES[number]
            found += entries
            if used < room:
                return found
            assert entries, "the buffer holds not even one entry"


def _entries(raw: bytes) -> list[Dirent]:
    found: list[Dirent] = []
    at = 0
    while at + 24 <= len(raw):
        following, ino, length, kind = struct.unpack_from("<QQIB3x", raw, at)
        at += 24 + length
        if at <= len(raw):
            found.append(Dirent(following, ino, kind, raw[at - length : at].decode()))
    return found


def clock_event(userdata: int, nanoseconds: int, *, clock: int = 1, absolute: bool = False) -> bytes:
    """Return a subscription to a clock."""
    return struct.pack("<QB7xI4xQQH6x", userdata, 0, clock, nanoseconds, 0, int(absolute))


def fd_event(userdata: int, fd: int, *, write: bool = False) -> bytes:
    """Return a subscription to a descriptor."""
    return struct.pack("<QB7xI28x", userdata, 2 if write else 1, fd)


class AegisDriver(Driver):
    """Aegis' functions on the directories and files that ``capability`` or ``roots`` grant."""

    def __init__(self, *roots: Folder, capability: FilesystemCapability | None = None, **policy: Any) -> None:
        if capability is None:
            names = [".", *(f"dir{n}" for n in range(1, len(roots)))]
            grants = tuple(PathGrant(host=str(r), guest=n, write=True) for r, n in zip(roots, names, strict=False))
            capability = FilesystemCapability(paths=grants)
        self.policy = Policy.from_keywords(filesystem=capability, **policy)
        self.scope = Scope(self.policy)
        self.memory = Memory()
        self.grants = acquire(self.policy, scope=self.scope)
        functions = preview1_functions(self.grants, self.memory, self.scope, self.policy.limits, SIGNATURES)
        self.functions = {f.name: f.call for f in functions}

    def call(self, name: str, *args: int) -> int:
        return int(self.functions[name](*args))

    def peek(self, offset: int, length: int) -> bytes:
        return self.memory.read(offset, length)

    def poke(self, offset: int, data: bytes) -> None:
        self.memory.write(offset, data)

    def close(self) -> None:
        self.grants.close()


@cache
def _forwarding() -> wasmtime.Module:
    """A module that exports its memory and every function of preview 1 that it imports."""
    imports, functions = [], []
    for name, kind in SIGNATURES.items():
        params = f"(param {' '.join(kind.params)})" if kind.params else ""
        results = f"(result {' '.join(kind.results)})" if kind.results else ""
        imports.append(f'(import "{MODULE}" "{name}" (func ${name} {params} {results}))')
        gets = " ".join(f"(local.get {n})" for n in range(len(kind.params)))
        functions.append(f'(func (export "{name}") {params} {results} (call ${name} {gets}))')
    text = "\n".join(("(module", *imports, f'(memory (export "memory") {PAGES})', *functions, ")"))
    return wasmtime.Module(_engine(), text)


@cache
def _engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@cache
def _linker() -> wasmtime.Linker:
    linker = wasmtime.Linker(_engine())
    linker.define_wasi()
    return linker


class Native(Driver):
    """wasmtime's own preview 1 on one writable directory."""

    def __init__(self, root: Path) -> None:
        self.store = wasmtime.Store(_engine())
        config = wasmtime.WasiConfig()
        config.preopen_dir(str(root), ".")
        self.store.set_wasi(config)
        exports = _linker().instantiate(self.store, _forwarding()).exports(self.store)
        self.memory: Any = exports["memory"]
        self.functions: dict[str, Any] = {name: exports[name] for name in SIGNATURES}

    def call(self, name: str, *args: int) -> int:
        signed = [_signed(value, kind) for value, kind in zip(args, SIGNATURES[name].params, strict=True)]
        return int(self.functions[name](self.store, *signed))

    def peek(self, offset: int, length: int) -> bytes:
        return bytes(self.memory.read(self.store, offset, offset + length))

    def poke(self, offset: int, data: bytes) -> None:
        self.memory.write(self.store, data, offset)

    def close(self) -> None:
        self.store.close()


def _signed(value: int, kind: str) -> int:
    bits = 32 if kind == "i32" else 64
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def tree(root: Folder) -> dict[str, tuple[str, bytes]]:
    """Return the kind and contents, or target, of everything beneath ``root``."""
    if not isinstance(root, Path):
        return walked(root)
    found: dict[str, tuple[str, bytes]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("link", os.fsencode(os.readlink(path)))
            elif path.is_dir():
                found[key] = ("directory", b"")
            elif path.is_file():
                found[key] = ("file", path.read_bytes())
            else:
                found[key] = ("other", b"")
    return found
