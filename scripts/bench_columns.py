"""The benchmark of calls over columns: the time of a row against a call of wasmtime-py."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

ADD = """(module (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))"""
COMPONENT = """(component
  (core module $m (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
  (core instance $i (instantiate $m))
  (func (export "add") (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add"))))"""
ROWS = 1_000_000
_CALLS = 3000
_LEAST = 1500


def _native() -> Callable[[], float]:
    """Return a function that measures a call of wasmtime-py."""
    import wasmtime

    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    add = wasmtime.Instance(store, wasmtime.Module(engine, ADD), []).exports(store)["add"]

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(_CALLS):
            add(store, 2, 3)
        return (time.perf_counter() - started) / _CALLS

    return seconds


def columns(rounds: int) -> list[Row]:
    """A row of a million, of a module and of a component, in process and in a worker, with every default limit on."""
    import aegis

    native = _native()
    a, b, out = array("i", range(ROWS)), array("i", [1]) * ROWS, array("i", [0]) * ROWS
    found = []

    def measured(what: str, runtime: Any, text: str, least: int | None) -> None:
        with runtime.sandbox(runtime.load_wat(text)) as sandbox:

            def measured() -> float:
                started = time.perf_counter()
                sandbox.call_many("add", [a, b], out)
                return (time.perf_counter() - started) / ROWS

            pairs = [(measured(), native()) for _ in range(rounds)]
            assert out[-1] == ROWS
        best, reference = min(x for x, _ in pairs), min(y for _, y in pairs)
        ratio = reference / best
        gate = "" if least is None else f">= {least:g}x faster"
        found.append(Row(what, best, reference, ratio, gate, None if least is None else ratio >= least))

    measured("call_many add(i32, i32), 1e6 rows, a row", aegis.Aegis(cache=False), ADD, _LEAST)
    measured("the same with fuel", aegis.Aegis(cache=False, fuel=1 << 40), ADD, None)
    measured("the same of a component", aegis.Aegis(cache=False), COMPONENT, None)
    measured("the same in a worker", aegis.Aegis(cache=False, isolation=True), ADD, None)
    return found


PARTS = (columns,)
