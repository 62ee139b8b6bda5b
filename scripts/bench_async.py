"""The benchmarks of asynchronous components: host calls, waits at once, streams, and files by streams of WASI 0.3."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
CALLS = """(component
  (import "host" (instance $host
    (export "plain" (func (param "a" u32) (result u32)))
    (export "ready" (func async (param "a" u32) (result u32)))))
  (core module $m (memory (export "m") 1))
  (core instance $memory (instantiate $m))
  (core func $plain (canon lower (func $host "plain")))
  (core func $ready (canon lower (func $host "ready") async (memory (core memory $memory "m"))))
  (core module $loops
    (import "" "m" (memory 1))
    (import "" "plain" (func $plain (param i32) (result i32)))
    (import "" "ready" (func $ready (param i32 i32) (result i32)))
    (func (export "plain") (param $n i32) (result i32)
      (loop $l
        (if (local.get $n) (then
          (drop (call $plain (local.get $n)))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $l))))
      (i32.const 0))
    (func (export "ready") (param $n i32) (result i32)
      (loop $l
        (if (local.get $n) (then
          (if (i32.ne (call $ready (local.get $n) (i32.const 8)) (i32.const 2)) (then (unreachable)))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $l))))
      (i32.load (i32.const 8))))
  (core instance $i (instantiate $loops (with "" (instance
    (export "m" (memory $memory "m")) (export "plain" (func $plain)) (export "ready" (func $ready))))))
  (func (export "plain") (param "n" u32) (result u32) (canon lift (core func $i "plain")))
  (func (export "ready") (param "n" u32) (result u32) (canon lift (core func $i "ready"))))"""


class _Host:
    def plain(self, a: int) -> int:
        return a

    def ready(self, a: int) -> int:
        return a


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _row(what: str, mine: float, other: float, most: float, unit: str = "s") -> Row:
    return Row(what, mine, other, mine / other, f"<= {most:g}x", mine <= most * other, unit)


def async_calls(rounds: int) -> list[Row]:
    """A call of an async host function whose result is there at once, against one of a synchronous function."""
    import aegis

    count = 20_000
    runtime = aegis.Aegis(cache=False)
    with runtime.sandbox(runtime.load_wat(CALLS), imports={"host": _Host()}) as sandbox:
        pairs = [
            (_timed(lambda: sandbox.call("ready", count)), _timed(lambda: sandbox.call("plain", count)))
            for _ in range(rounds)
        ]
    mine, other = (min(column) / count for column in zip(*pairs, strict=True))
    return [_row("async host call that is ready at once, against a synchronous one", mine, other, 5)]


def async_sleeps(rounds: int) -> list[Row]:
    """1,000 subtasks that each sleep 10 ms, against one of them."""
    import aegis

    runtime = aegis.Aegis(cache=False, clock=aegis.ClockCapability(mode="system"))
    artifact = runtime.load_file(ROOT / "guests" / "build" / "cat-async.wasm")
    pairs = []
    with runtime.sandbox(artifact) as sandbox:
        for _ in range(rounds):
            many = _timed(lambda: sandbox.call("sleep", 1000, 10_000_000))
            pairs.append((many, _timed(lambda: sandbox.call("sleep", 1, 10_000_000))))
    mine, other = (min(column) for column in zip(*pairs, strict=True))
    return [_row("1,000 sleeps of 10 ms at once, against one", mine, other, 6)]


def _command(runtime: Any, name: str) -> tuple[Any, str]:
    artifact = runtime.load_file(ROOT / "guests" / "build" / f"{name}.wasm")
    return artifact, next(name for name in artifact.callables() if "cli/run" in name)


def async_streams(rounds: int) -> list[Row]:
    """Bytes of standard input copied to standard output in pieces of 64 KiB, against a C program of WASI 0.2."""
    import aegis

    size = 64 << 20
    runtime = aegis.Aegis(cache=False, timeout="2m", stdout=None, host_bytes=None)
    stdio = aegis.StdioCapability(stdin=bytes(size))

    def copied(name: str) -> float:
        artifact, start = commands[name]
        with runtime.sandbox(artifact, args=["cat"], stdio=stdio) as sandbox:
            seconds = _timed(lambda: sandbox.call(start))
            assert len(sandbox.stdout) == size
        return seconds

    commands = {name: _command(runtime, name) for name in ("cat-async", "cat-component")}
    pairs = [(copied("cat-async"), copied("cat-component")) for _ in range(rounds)]
    mine, other = (min(column) for column in zip(*pairs, strict=True))
    return [_row("stream<u8>, 64 MiB there and back in 64 KiB pieces, against WASI 0.2", mine, other, 2)]


def async_files(rounds: int) -> list[Row]:
    """A program that copies a file in pieces of 64 KiB by streams, against a C program on native WASI 0.2."""
    from bench_components import native_copy, native_engine

    import aegis

    wasmtime, engine = native_engine()
    size = 200 << 20
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in").write_bytes(bytes(size))
        files = aegis.FilesystemCapability.read_write(f"{folder}::/d")
        runtime = aegis.Aegis(cache=False, filesystem=files, timeout="5m", disk_written=None)
        artifact, start = _command(runtime, "cat-async")
        other = native_copy(wasmtime, engine, folder)

        def mine() -> None:
            with runtime.sandbox(artifact) as sandbox:
                sandbox.call(start)

        mine()
        other()
        assert Path(folder, "out").stat().st_size == size
        pairs = [(_timed(mine), _timed(other)) for _ in range(rounds)]
    mine_, theirs = (min(column) for column in zip(*pairs, strict=True))
    return [_row("file copy by streams of WASI 0.3, 200 MiB, against native WASI 0.2", mine_, theirs, 1.7)]


PARTS = (async_calls, async_sleeps, async_streams, async_files)
