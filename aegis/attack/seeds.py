"""The seed corpus that inputs are derived from: files and directories named by the user, or built-in artifacts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from aegis.engine.compile.artifact import read_file, text_to_binary
from aegis.errors import ArtifactError, ArtifactNotFound, PolicyError
from aegis.limits import Limits
from aegis.text import count, printable

__all__ = ["MAX_SEED_BYTES", "built_in", "read_seeds"]

MAX_SEED_BYTES = 256 << 10
"""Largest seed artifact: large ones compile slowly, so a campaign would run few inputs."""
_MAX_SEEDS = 1000
_SUFFIXES = (".wasm", ".wat")

_TEXTS = {
    "numbers": """(module
      (memory (export "memory") 1 4) (table (export "t") 2 4 funcref) (global $g (export "g") (mut i64) (i64.const 7))
      (type $f (func (param i32) (result i32))) (elem (i32.const 0) $twice $spin)
      (func $twice (export "twice") (type $f) (i32.mul (local.get 0) (i32.const 2)))
      (func $spin (export "spin") (type $f) (loop $again (br_if $again (local.get 0))) (i32.const 1))
      (func (export "through") (param i32 i32) (result i32)
        (call_indirect (type $f) (local.get 0) (local.get 1)))
      (func (export "read") (param i32) (result f64) (f64.load offset=65528 (local.get 0)))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "pair") (param i64) (result i64 f32)
        (global.set $g (local.get 0)) (global.get $g) (f32.const nan))
      (data (i32.const 8) "seed"))""",
    "preview1": """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00hello")
      (func (export "_start")
        (drop (call $args (i32.const 64) (i32.const 68)))
        (drop (call $random (i32.const 128) (i32.const 32)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 1)
          (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 72)))
        (drop (call $list (i32.const 3) (i32.const 256) (i32.const 128) (i64.const 0) (i32.const 76)))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
        (drop (call $poll (i32.const 512) (i32.const 640) (i32.const 1) (i32.const 36)))
        (call $exit (i32.const 3))))""",
    "host": """(module
      (import "env" "log" (func $log (param i32 f64) (result i64)))
      (memory 1) (func $begin (drop (memory.grow (i32.const 1)))) (start $begin)
      (func (export "call") (param i32) (result i64) (call $log (local.get 0) (f64.const 1.5))))""",
    "text": """(component
      (core module $m
        (memory (export "memory") 1) (global $at (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          (local $here i32) (local.set $here (global.get $at))
          (global.set $at (i32.add (global.get $at) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
          (block $fits
            (br_if $fits (i32.lt_u (global.get $at) (i32.const 65536)))
            (drop (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get 3) (i32.const 65536))))))
          (local.get $here))
        (func (export "same") (param i32 i32) (result i32)
          (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))
        (func (export "count") (param i32 i32) (result i32) (local.get 1))
        (func (export "after") (param i32)))
      (core instance $i (instantiate $m))
      (func (export "same") (param "text" string) (result string)
        (canon lift (core func $i "same") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
          (post-return (core func $i "after"))))
      (type $p (tuple u8 (option (list u32)))) (type $r (result $p (error string))) (type $l (list $r))
      (func (export "sum") (param "parts" $l) (result u32)
        (canon lift (core func $i "count") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))""",
    "resource": """(component
      (core module $d (func (export "dtor") (param i32)))
      (core instance $d (instantiate $d))
      (type $r (resource (rep i32) (dtor (core func $d "dtor"))))
      (core func $new (canon resource.new $r)) (core func $rep (canon resource.rep $r))
      (core func $drop (canon resource.drop $r))
      (core module $m
        (import "h" "new" (func $new (param i32) (result i32))) (import "h" "rep" (func $rep (param i32) (result i32)))
        (import "h" "drop" (func $drop (param i32)))
        (func (export "make") (result i32) (call $new (i32.const 42)))
        (func (export "look") (param i32) (result i32) (local.get 0))
        (func (export "end") (param i32) (call $drop (local.get 0))))
      (core instance $i (instantiate $m (with "h" (instance (export "new" (func $new)) (export "rep" (func $rep))
        (export "drop" (func $drop))))))
      (export $e "thing" (type $r))
      (func (export "make") (result (own $e)) (canon lift (core func $i "make")))
      (func (export "look") (param "self" (borrow $e)) (result u32) (canon lift (core func $i "look")))
      (func (export "end") (param "thing" (own $e)) (canon lift (core func $i "end"))))""",
}  # fmt: skip


def built_in() -> list[tuple[str, bytes]]:
    """Return the built-in seed corpus: small modules and components of several kinds."""
    return [(name, text_to_binary(text, name)) for name, text in _TEXTS.items()]


def read_seeds(paths: Iterable[str]) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    """Read seed artifacts from files and directories. Return them, and the files that were skipped with the reason.

    Files need not be valid artifacts. Raise :class:`~aegis.errors.ArtifactNotFound` for a path that does not exist, and
    :class:`~aegis.errors.PolicyError` if no file is usable.
    """
    found: list[tuple[str, bytes]] = []
    left_out: dict[str, str] = {}
    for path in paths:
        for file in _files(path):
            try:
                data = read_file(file, Limits(module_size=MAX_SEED_BYTES))
            except ArtifactNotFound:
                raise
            except ArtifactError as error:
                left_out[str(file)] = str(error)
                continue
            if len(data) > MAX_SEED_BYTES:
                left_out[str(file)] = f"larger than {MAX_SEED_BYTES:,} bytes"
            elif len(found) < _MAX_SEEDS:
                found.append((str(file), data))
    if not found:
        reasons = "".join(f"; {printable(name)}: {reason}" for name, reason in list(left_out.items())[:3])
        raise PolicyError(f"no usable seed artifact among {count(len(left_out), 'file')}{reasons}")
    return found, left_out


def _files(path: str) -> Iterator[Path]:
    folder = Path(path)
    if not path:
        raise ArtifactNotFound("the name of a seed artifact is empty: name a file or a directory")
    if os.path.isdir(folder):
        yield from sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    elif os.path.exists(folder) and not os.path.isfile(folder):
        raise ArtifactNotFound(f"{printable(path)} is neither a regular file nor a directory: name one")
    else:
        yield folder
