"""The benchmark of compute: programs under the default limits, against bare wasmtime.

Bare means without fuel, epochs and limits. The deadline is longer than the default's, for a loaded machine; it costs
the same. The default counts no fuel; a row without a gate shows the cost of counting it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
LOOPS = (("SHA-256", "sha256_bench", 16_384), ("n-body", "nbody", 800_000), ("sieve", "sieve", 9_000_000))
TURNS = "8000000"
"""Rounds of the loop in CPython: most of a second, so that the start of the interpreter does not matter."""
TIERS = (
    ("compute", {}, 1.35, 1.2),
    ("compute, isolated", {"isolation": True}, 1.08, None),
    ("compute with fuel", {"fuel": "1e15"}, None, None),
)  # fmt: skip
"""A name, the differences from the default policy, and the largest ratio permitted for each row and for their median.
"""


def _row(what: str, measured: float, reference: float, most: float | None) -> Row:
    ratio = measured / reference
    return Row(
        what,
        measured,
        reference,
        ratio,
        "" if most is None else f"<= {most:g}x",
        None if most is None else ratio <= most,
    )


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def compute(rounds: int) -> list[Row]:
    """Run every configuration and bare wasmtime alternately; use the best of each, because noise only ever adds."""
    rows: dict[str, list[Row]] = {name: [] for name, *_ in TIERS}
    for label, reference, measured in chain(_loops(), _cpython()):
        best, bare = dict.fromkeys(rows, float("inf")), float("inf")
        for _ in range(rounds):
            bare = min(bare, reference())
            best = {name: min(before, measured[name]()) for name, before in best.items()}
        for name, _, most, _ in TIERS:
            rows[name].append(_row(f"{name}: {label}", best[name], bare, most))
    for name, _, _, most in TIERS:
        measured, reference, middle = (
            f([row[n] for row in rows[name]]) for n, f in ((1, sum), (2, sum), (3, statistics.median))
        )
        gate, met = ("", None) if most is None else (f"<= {most:g}x", middle <= most)
        rows[name].append(
            Row(f"{name}: the times together, the median of the ratios", measured, reference, middle, gate, met)
        )
    return [row for found in rows.values() for row in found]


Workload = tuple[str, Callable[[], float], dict[str, Callable[[], float]]]


def _loops() -> Iterator[Workload]:
    """Exports of a C module that imports nothing."""
    import wasmtime

    import aegis

    path = str(ROOT / "guests" / "build" / "bench.wasm")
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    exports: Any = wasmtime.Instance(store, wasmtime.Module.from_file(engine, path), []).exports(store)
    boxes = {}
    for name, policy, *_ in TIERS:
        runtime = aegis.Aegis(timeout="5m", **policy)
        boxes[name] = runtime.sandbox(runtime.load_file(path))
    for label, function, argument in LOOPS:

        def reference(function: str = function, argument: int = argument) -> float:
            return _seconds(lambda: exports[function](store, argument))

        def measured(box: Any, function: str = function, argument: int = argument) -> float:
            return _seconds(lambda: box.call(function, argument))

        yield label, reference, {name: lambda box=box, measured=measured: measured(box) for name, box in boxes.items()}  # type: ignore[misc]
    for box in boxes.values():
        box.close()


def _cpython() -> Iterator[Workload]:
    """A loop of the CPython interpreter in a component, against the engine's own component runtime and WASI."""
    from bench_components import native_engine

    import aegis

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    path = ROOT / "guests" / "build" / "py-hello.wasm"
    words = ["py-hello", "loop", TURNS]
    reference = native.Component.from_file(engine, str(path))
    linker = native.Linker(engine)
    linker.add_wasip2()
    loaded = {}
    for name, policy, *_ in TIERS:
        runtime = aegis.Aegis(timeout="5m", pooled=False, **policy)
        loaded[name] = runtime, runtime.load_file(path)
    start = next(name for name in loaded["compute"][1].callables() if "cli/run" in name)  # type: ignore[union-attr]

    def bare() -> float:
        store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = words
        store.set_wasi(wasi)
        instance = linker.instantiate(store, reference)
        outer = instance.get_export_index(store, start.partition("#")[0])
        function = instance.get_func(store, instance.get_export_index(store, "run", outer))
        return _seconds(lambda: function(store))

    def mine(name: str) -> float:
        runtime, component = loaded[name]
        with runtime.sandbox(component, args=words) as sandbox:
            return _seconds(lambda: sandbox.call(start))

    yield "a loop in CPython", bare, {name: lambda name=name: mine(name) for name in loaded}  # type: ignore[misc]


PARTS = (compute,)
