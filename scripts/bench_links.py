"""The benchmark of calls between the inner components of one component."""

from __future__ import annotations

import time
from typing import Any

from bench_components import native_engine
from bench_rows import Row

__all__ = ["PARTS"]

_CALLS = 100_000
_CALLEE = """(component $callee
    {types}
    (core module $m
      (memory (export "m") 4)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
      (func (export "f") (param {core}) (result i32) {body}))
    (core instance $m (instantiate $m))
    (func (export "f") {signature}
      (canon lift (core func $m "f") (memory (core memory $m "m")) (realloc (core func $m "realloc")))))"""
_CALLER = """(component $caller
    {types}
    (import "f" (func $f {signature}))
    (core module $memory (memory (export "m") 4)
      (data (i32.const 0) "sixteen letters.")
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f)
      (memory (core memory $memory "m")) (realloc (core func $memory "realloc"))))
    (core module $m
      (import "" "f" (func $f (param {lowered}) {returned}))
      (func (export "go") (param $n i32)
        (loop $again
          {call}
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br_if $again (local.get $n)))))
    (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "go") (param "n" u32) (canon lift (core func $m "go"))))"""
_RECORD = """(type $inner (record (field "a" u32) (field "b" s64) (field "c" f64) (field "d" bool) (field "e" u8)
      (field "f" string)))
    (import "r" (type $r (eq $inner)))"""
_FIELDS = "(i32.const 1) (i64.const -2) (f64.const 2.5) (i32.const 1) (i32.const 7) (i32.const 0) (i32.const 4)"


def linked_text(signature: str, core: str, body: str, given: str, types: str = "", *, by_pointer: bool = False) -> str:
    """Return a component of two, of which one calls the other's ``f`` as often as the argument of its export ``go``."""
    call = f"(call $f {given} (i32.const 512))" if by_pointer else f"(drop (call $f {given}))"
    filled = {
        "types": types, "signature": signature, "core": core, "body": body, "call": call,
        "lowered": f"{core} i32" if by_pointer else core, "returned": "" if by_pointer else "(result i32)",
    }  # fmt: skip
    outer = ' (with "r" (type $r))' if types else ""
    return f"""(component {types} {_CALLEE.format(**filled)} {_CALLER.format(**filled)}
  (instance $callee (instantiate $callee{outer}))
  (instance $caller (instantiate $caller (with "f" (func $callee "f")){outer}))
  (export "go" (func $caller "go")))"""


_ECHO = "(i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) (i32.const 8)"
_CASES: list[tuple[str, str, int, float | None]] = [
    ("u32", linked_text('(param "x" u32) (result u32)', "i32", "local.get 0", "(local.get $n)"), _CALLS, 1.2),
    (
        "string of 16",
        linked_text('(param "x" string) (result u32)', "i32 i32", "local.get 1", "(i32.const 0) (i32.const 16)"),
        _CALLS, 5,
    ),
    (
        "record of six",
        linked_text('(param "x" $r) (result u32)', "i32 i64 f64 i32 i32 i32 i32", "local.get 0", _FIELDS, _RECORD),
        _CALLS, 5,
    ),
    (
        "list<u8>, 64 KiB",
        linked_text('(param "x" (list u8)) (result u32)', "i32 i32", "local.get 1", "(i32.const 0) (i32.const 65536)"),
        _CALLS // 20, 2,
    ),
    (
        "string of 16, and back",
        linked_text(
            '(param "x" string) (result string)', "i32 i32", _ECHO, "(i32.const 0) (i32.const 16)", by_pointer=True
        ),
        _CALLS, None,
    ),
]  # fmt: skip


def links(rounds: int) -> list[Row]:
    """Calls from one component to another, against the engine's own adapters; the guests call in a loop."""
    import aegis

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    runtime = aegis.Aegis(cache=False, timeout="5m")
    rows = []
    for label, text, count, most in _CASES:
        store = wasmtime.Store(engine)
        go = native.Linker(engine).instantiate(store, native.Component(engine, text)).get_func(store, "go")
        with runtime.sandbox(runtime.load_wat(text)) as sandbox:

            def measured(call: Any = sandbox.call, count: int = count) -> None:
                call("go", count)

            def reference(go: Any = go, store: Any = store, count: int = count) -> None:
                go(store, count)
                go.post_return(store)

            measured()
            reference()
            pairs = [(_once(measured) / count, _once(reference) / count) for _ in range(2 * rounds)]
        mine, other = min(a for a, _ in pairs), min(b for _, b in pairs)
        gate = "" if most is None else f"<= {most:g}x"
        what = f"guest to guest: {label}, against the engine's adapter"
        rows.append(Row(what, mine, other, mine / other, gate, None if most is None else mine <= most * other))
    return rows


def _once(function: Any) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


PARTS = (links,)
