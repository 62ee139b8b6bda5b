"""A failed call leaves no large objects that only Python's garbage collector frees: it may not run for a long time.

Oracle: with the collector off, objects that hold the guest's data are freed with the error and the sandbox.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from aegis.errors import HostError, OutputExceeded
from tests.isolation.isolated import runtime

MIB = 1 << 20
WRITES = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 400)
  (func $all (param $fd i32) (result i32)
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 20000000))
    (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "write") (param $fd i32) (result i32) (call $all (local.get $fd)))
  (func (export "beyond") (result i32)
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const -16))
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"""


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def fails(x: int) -> int:
    data = bytes(20 * MIB)
    raise ValueError(len(data))


@pytest.mark.parametrize("name", ["call", "start"])
def test_a_failed_call_leaves_no_data_of_its_frames_to_the_garbage_collector(name: str, uncollected: None) -> None:
    text = """(module (import "env" "f" (func $f (param i32) (result i32)))
      (func $go (drop (call $f (i32.const 0)))) """
    text += '(export "go" (func $go)))' if name == "call" else "(start $go))"
    with runtime("in-process") as box:
        module = box.load_wat(text)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            sandbox = box.sandbox(imports={"env": {"f": fails}})
            with sandbox, pytest.raises(HostError):
                sandbox.load(module).call("go")
        assert tracemalloc.get_traced_memory()[0] - before < 10 * MIB


@pytest.mark.parametrize("stream", [1, 2])
def test_no_more_is_read_of_a_write_than_its_stream_may_take(stream: int, uncollected: None) -> None:
    with runtime("in-process", fuel=None) as box, box.sandbox(box.load_wat(WRITES)) as sandbox:
        before = tracemalloc.get_traced_memory()[0]
        outcome = sandbox.run("write", stream)
        assert isinstance(outcome.error, OutputExceeded)
        assert len(outcome.stdout + outcome.stderr) == outcome.error.allowed
        assert tracemalloc.get_traced_memory()[1] - before < 6 * MIB


def test_a_write_from_beyond_the_memory_is_refused_before_its_size_is_held_against_the_stream() -> None:
    fault = 21  # EFAULT of preview 1
    with runtime("in-process", fuel=None) as box, box.sandbox(box.load_wat(WRITES)) as sandbox:
        outcome = sandbox.run("beyond")
        assert (outcome.value, outcome.stdout) == (fault, b"")


LIVES = {
    "a module": ('(module (memory (export "memory") 1) (func (export "go")))', "go"),
    "a module that calls the host": (WRITES, "beyond"),
    "a component": ('(component (core module $m (func (export "go"))) (core instance $i (instantiate $m)) '
                    '(func (export "go") (canon lift (core func $i "go"))))', "go"),
    "a component that calls the host": ("""(component
      (import "wasi:cli/stdout@0.2.0" (instance $out
        (export "output-stream" (type (sub resource))) (export "get-stdout" (func (result (own 0))))))
      (core func $get (canon lower (func $out "get-stdout")))
      (core module $m (import "" "get" (func $get (result i32)))
        (func (export "go") (drop (call $get)) (drop (call $get))))
      (core instance $i (instantiate $m (with "" (instance (export "get" (func $get))))))
      (func (export "go") (canon lift (core func $i "go"))))""", "go"),
}  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("life", LIVES)
def test_a_sandbox_that_ends_leaves_none_of_its_objects_to_the_collector(life: str, end: str) -> None:
    """Oracle: with the collector off, ten sandboxes leave less behind than one sandbox with door and meter has."""
    text, function = LIVES[life]

    def live() -> None:
        sandbox = box.sandbox(artifact)
        outcome = sandbox.run(function)
        assert outcome.ok, outcome.error
        if end == "reset":
            sandbox.reset()
            assert sandbox.run(function).ok
        sandbox.close()

    with runtime("in-process", fuel=None) as box:
        artifact = box.load_wat(text)
        for _ in range(3):  # caches for the next sandbox are filled by now
            live()
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for _ in range(10):
                live()
            after = len(gc.get_objects())
        finally:
            gc.enable()
    assert after - before < 30, f"{life}: {after - before} objects more after ten lives"
