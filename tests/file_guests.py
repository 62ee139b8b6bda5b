"""Guests that perform file operations chosen by a test, in process and in a worker: for preview 1 and for WASI 0.2.

The guest of preview 1 is a module that forwards each import, which a test drives like the functions themselves
(:class:`tests.host.harness.Driver`). The guest of 0.2 is a component with a few functions on its first preopen.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from aegis import Aegis, FilesystemCapability, PathGrant, Sandbox
from aegis.bindings.wasi_filesystem_types import ErrorCode
from aegis.host.preview1 import MODULE
from aegis.host.preview1.abi import SIGNATURES
from tests.directories import Folder
from tests.host.harness import PAGES, Driver
from tests.isolation.isolated import runtime

__all__ = ["ERRORS", "Preview1", "Preview2", "grants"]

ERRORS = [code.value for code in ErrorCode]


def grants(*paths: tuple[Folder, str, bool]) -> FilesystemCapability:
    """Return the grant of each (host, guest's name, whether it writes)."""
    return FilesystemCapability(paths=tuple(PathGrant(host=str(h), guest=g, write=w) for h, g, w in paths))


@cache
def forwarding() -> str:
    """Return a module that exports its memory and every function of preview 1 that it imports."""
    imports, functions = [], []
    for name, kind in SIGNATURES.items():
        params = f"(param {' '.join(kind.params)})" if kind.params else ""
        results = f"(result {' '.join(kind.results)})" if kind.results else ""
        imports.append(f'(import "{MODULE}" "{name}" (func ${name} {params} {results}))')
        gets = " ".join(f"(local.get {n})" for n in range(len(kind.params)))
        functions.append(f'(func (export "{name}") {params} {results} (call ${name} {gets}))')
    trap = '(func (export "trap") unreachable) (func (export "spin") (loop (br 0)))'
    return "\n".join(("(module", *imports, f'(memory (export "memory") {PAGES})', *functions, trap, ")"))


class Guest:
    """A guest in a sandbox, in process or isolated. ``aegis`` is the runtime to use; by default it has its own."""

    text = ""

    def __init__(self, place: str, capability: FilesystemCapability, aegis: Aegis | None = None, **policy: Any) -> None:
        self._own = None if aegis is not None else runtime(place, filesystem=capability, **policy)
        made = aegis or self._own
        assert made is not None
        try:
            self.sandbox: Sandbox = made.sandbox(made.load_wat(self.text))
        except BaseException:
            self.end()
            raise

    def close(self) -> None:
        self.sandbox.close()
        self.end()

    def end(self) -> None:
        """Stop the workers."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Preview1(Guest, Driver):
    """A guest of preview 1."""

    text = forwarding()

    def call(self, name: str, *args: int) -> int:
        answer = self.sandbox.call(name, *args)
        return 0 if answer is None else int(answer)

    def peek(self, offset: int, length: int) -> bytes:
        return self.sandbox.memory.read(offset, length)

    def poke(self, offset: int, data: bytes) -> None:
        self.sandbox.memory.write(offset, data)


_METHODS = {  # name: parameters as WIT text, result, core parameters after the descriptor
    "symlink-at": ('(param "old-path" string) (param "new-path" string)', "(result (error $code))", 4),
    "rename-at": (
        '(param "old-path" string) (param "new-descriptor" (borrow $descriptor)) (param "new-path" string)',
        "(result (error $code))",
        5,
    ),
    "link-at": (
        '(param "old-path-flags" $path-flags) (param "old-path" string) '
        '(param "new-descriptor" (borrow $descriptor)) (param "new-path" string)',
        "(result (error $code))",
        6,
    ),
    "open-at": (
        '(param "path-flags" $path-flags) (param "path" string) (param "open-flags" $open-flags) '
        '(param "flags" $flags)',
        "(result (own $descriptor) (error $code))",
        5,
    ),
    "stat-at": ('(param "path-flags" $path-flags) (param "path" string)', "(result $stat (error $code))", 3),
    "metadata-hash-at": (
        '(param "path-flags" $path-flags) (param "path" string)',
        "(result $hash (error $code))",
        3,
    ),
}
_USES = '(memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))'
_TYPES = {
    "error-code": ("code", "(enum " + " ".join(f'"{name}"' for name in ERRORS) + ")"),
    "path-flags": ("path-flags", '(flags "symlink-follow")'),
    "open-flags": ("open-flags", '(flags "create" "directory" "exclusive" "truncate")'),
    "descriptor-flags": (
        "flags",
        '(flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync" "mutate-directory")',
    ),
    "descriptor-type": (
        "kind",
        '(enum "unknown" "block-device" "character-device" "directory" "fifo" "symbolic-link" "regular-file" "socket")',
    ),
    "descriptor-stat": (
        "stat",
        '(record (field "type" $kind) (field "link-count" u64) (field "size" u64) '
        '(field "data-access-timestamp" (option $time)) (field "data-modification-timestamp" (option $time)) '
        '(field "status-change-timestamp" (option $time)))',
    ),
    "metadata-hash-value": ("hash", '(record (field "lower" u64) (field "upper" u64))'),
}


def component() -> str:
    """Return the component."""
    types = "\n".join(
        f'(type ${short}-is {text}) (export "{name}" (type ${short} (eq ${short}-is)))'
        for name, (short, text) in _TYPES.items()
    )
    methods = "\n".join(
        f'(export "[method]descriptor.{name}" (func (param "self" (borrow $descriptor)) {params} (result {result})))'
        for name, (params, result, _) in _METHODS.items()
    )
    aliases = "\n".join(
        f'(alias export $types "[method]descriptor.{name}" (func ${name}))\n'
        f"(core func ${name}-core (canon lower (func ${name}) {_USES}))"
        for name in _METHODS
    )
    imports = "\n".join(
        f'(import "host" "{name}" (func ${name} (param i32 {"i32 " * count} i32)))'
        for name, (_, _, count) in _METHODS.items()
    )
    given = "\n".join(f'(export "{name}" (func ${name}-core))' for name in _METHODS)
    return f"""(component
      (import "wasi:clocks/wall-clock@0.2.0" (instance $clock
        (type $time-is (record (field "seconds" u64) (field "nanoseconds" u32)))
        (export "datetime" (type (eq $time-is)))))
      (alias export $clock "datetime" (type $datetime))
      (import "wasi:filesystem/types@0.2.0" (instance $types
        (export "descriptor" (type $descriptor (sub resource)))
        (alias outer 1 $datetime (type $time-outer)) (export "datetime" (type $time (eq $time-outer)))
        {types}
        {methods}))
      (alias export $types "descriptor" (type $descriptor))
      (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
        (alias outer 1 $descriptor (type $outer)) (export "descriptor" (type $own (eq $outer)))
        (export "get-directories" (func (result (list (tuple (own $own) string)))))))
      (core module $memory
        (memory (export "memory") 4) (global $top (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          (global.set $top (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
          (global.get $top)
          (global.set $top (i32.add (global.get $top) (local.get 3)))
          (if (i32.gt_u (global.get $top) (i32.const 200000)) (then (global.set $top (i32.const 4096))))))
      (core instance $mem (instantiate $memory))
      {aliases}
      (alias export $preopens "get-directories" (func $get))
      (core func $get-core (canon lower (func $get) {_USES}))
      (core module $main
        (import "mem" "memory" (memory 1))
        (import "host" "get" (func $get (param i32)))
        {imports}
        (global $top (mut i32) (i32.const 0))
        (func $dir (result i32)
          (if (i32.eqz (global.get $top)) (then
            (call $get (i32.const 0))
            (global.set $top (i32.load (i32.load (i32.const 0))))))
          (global.get $top))
        (func $code (result i32) ;; 0, or 1 and the error's number
          (if (result i32) (i32.load8_u (i32.const 64))
            (then (i32.add (i32.load8_u (i32.const 65)) (i32.const 1))) (else (i32.const 0))))
        (func (export "symlink") (param i32 i32 i32 i32) (result i32)
          (call $symlink-at (call $dir) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 64))
          (call $code))
        (func (export "rename") (param i32 i32 i32 i32) (result i32)
          (call $rename-at (call $dir) (local.get 0) (local.get 1) (call $dir) (local.get 2) (local.get 3)
            (i32.const 64))
          (call $code))
        (func (export "link") (param i32 i32 i32 i32) (result i32)
          (call $link-at (call $dir) (i32.const 0) (local.get 0) (local.get 1) (call $dir) (local.get 2)
            (local.get 3) (i32.const 64))
          (call $code))
        (func $open (param i32 i32 i32 i32)
          (call $open-at (call $dir) (i32.const 0) (local.get 0) (local.get 1) (local.get 2) (local.get 3)
            (i32.const 64)))
        (func (export "open") (param i32 i32 i32 i32) (result i32)
          (call $open (local.get 0) (local.get 1) (local.get 2) (local.get 3))
          (if (result i32) (i32.load8_u (i32.const 64))
            (then (i32.add (i32.load8_u (i32.const 68)) (i32.const 1))) (else (i32.const 0))))
        (func (export "modified") (param i32 i32) (result i64) ;; nanoseconds
          (call $stat-at (call $dir) (i32.const 0) (local.get 0) (local.get 1) (i32.const 64))
          (if (i32.load8_u (i32.const 64)) (then unreachable))
          (i64.add (i64.mul (i64.load (i32.const 128)) (i64.const 1000000000))
            (i64.load32_u (i32.const 136))))
        (func (export "number") (param i32 i32) (result i64)
          (call $metadata-hash-at (call $dir) (i32.const 0) (local.get 0) (local.get 1) (i32.const 64))
          (if (i32.load8_u (i32.const 64)) (then unreachable))
          (i64.load (i32.const 72)))
        (func (export "trap") unreachable)
        (func (export "spin") (loop (br 0))))
      (core instance $m (instantiate $main
        (with "mem" (instance $mem))
        (with "host" (instance (export "get" (func $get-core)) {given}))))
      {_lifted()})"""


def _lifted() -> str:
    two, place = '(param "a" string) (param "b" string)', '(param "a" string)'
    functions = {
        "symlink": f"{two} (result u32)", "rename": f"{two} (result u32)", "link": f"{two} (result u32)",
        "open": f'{place} (param "open-flags" u32) (param "flags" u32) (result u32)',
        "modified": f"{place} (result u64)", "number": f"{place} (result u64)", "trap": "", "spin": "",
    }  # fmt: skip
    return "\n".join(
        f'(func (export "{name}") {type_} (canon lift (core func $m "{name}") {_USES}))'
        for name, type_ in functions.items()
    )


class Preview2(Guest):
    """A guest of WASI 0.2. Functions that can fail return ``""`` or the name of the error."""

    text = component()

    def _answer(self, name: str, *args: Any) -> str:
        number = self.sandbox.call(name, *args)
        return ERRORS[number - 1] if number else ""

    def symlink(self, target: str, path: str) -> str:
        return self._answer("symlink", target, path)

    def rename(self, old: str, new: str) -> str:
        return self._answer("rename", old, new)

    def link(self, old: str, new: str) -> str:
        return self._answer("link", old, new)

    def open(self, path: str, open_flags: int = 0, flags: int = 1) -> str:
        """Open a file and keep it open."""
        return self._answer("open", path, open_flags, flags)
