"""A sandbox that is dropped without being closed is freed by the collector, with its store.

Oracle: weak references to the stores.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from aegis import Aegis
from tests.component.linked import NARROW

RANDOM = """(module (import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
  (memory (export "memory") 1) (func (export "go") (result i32) (call $r (i32.const 0) (i32.const 8))))"""
LOG = """(module (import "aegis" "log" (func $l (param i32 i32 i32))) (memory (export "memory") 1)
  (func (export "go") (call $l (i32.const 1) (i32.const 16) (i32.const 2))))"""
DOUBLE = """(module (import "env" "double" (func $d (param i32) (result i32)))
  (func (export "go") (drop (call $d (i32.const 21)))))"""
WASI = """(component
  (import "wasi:random/random@0.2.0" (instance $r (export "get-random-u64" (func (result u64)))))
  (core func $h (canon lower (func $r "get-random-u64")))
  (core module $m (import "" "h" (func $h (result i64))) (func (export "go") (drop (call $h))))
  (core instance $m (instantiate $m (with "" (instance (export "h" (func $h))))))
  (func (export "go") (canon lift (core func $m "go"))))"""
GUESTS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "preview 1": (RANDOM, {}, ()), "log": (LOG, {}, ()),
    "host function": (DOUBLE, {"env": {"double": lambda x: 2 * x}}, ()),
    "linked component": (NARROW, {}, (5,)), "component with WASI": (WASI, {}, ()),
}  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("name", GUESTS)
def test_a_dropped_sandbox_is_freed(name: str, called: bool) -> None:
    text, imports, arguments = GUESTS[name]
    runtime = Aegis(cache=False)
    artifact = runtime.load_wat(text)

    def dropped() -> weakref.ref[Any]:
        sandbox = runtime.sandbox(artifact, imports=imports)
        if called:
            sandbox.call("go", *arguments)
        return weakref.ref(sandbox._run.store)  # type: ignore[arg-type]

    stores = [dropped() for _ in range(3)]
    gc.collect()
    assert [store() for store in stores] == [None] * 3
