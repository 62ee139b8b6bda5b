"""The benchmark of components: values, callbacks, the cache, files."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS", "native_engine"]

ROOT = Path(__file__).resolve().parent.parent


def _faster(what: str, measured: float, reference: float, least: float | None) -> Row:
    ratio = reference / measured
    gate = "" if least is None else f">= {least:g}x faster"
    return Row(what, measured, reference, ratio, gate, None if least is None else ratio >= least)


def _best(function: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - started) / count


def _in_turns(
    measured: Callable[[], object], reference: Callable[[], object], count: int, rounds: int
) -> tuple[float, float]:
    """Run both alternately and return the best of each, because noise only ever adds.

    The reference runs a tenth as often, and less often where it takes seconds.
    """
    often = max(1, min(count // 10, int(2 / _best(reference, 1))))
    pairs = [(_best(measured, count), _best(reference, often)) for _ in range(rounds)]
    return min(a for a, _ in pairs), min(b for _, b in pairs)


def native_engine() -> tuple[Any, Any]:
    """Return wasmtime-py and an engine with the defaults of versions 46 to 49; with those of 50, some calls trap."""
    import wasmtime
    from wasmtime import _ffi as ffi

    config = wasmtime.Config()
    ffi.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    ffi.wasmtime_config_concurrency_support_set(config.ptr(), False)
    return wasmtime, wasmtime.Engine(config)


def _on_a_thread(function: Callable[[], list[Row]]) -> list[Row]:
    """Run where a guest with host functions runs directly: on a thread with a large stack, not the main one."""
    found: list[Row] = []
    before = threading.stack_size(16 << 20)
    worker = threading.Thread(target=lambda: found.extend(function()))
    worker.start()
    threading.stack_size(before)
    worker.join()
    return found


def values(rounds: int) -> list[Row]:
    """A guest that returns its argument, for each kind of type."""
    import aegis
    from aegis.component.conversion.coerce import fit
    from aegis.wit.types import Enum, Flags, List, Option, Record, Result, Tuple, Variant
    from tests.echo import own_echo_component

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    fields = {"a": 1, "b": -2, "c": 2.5, "d": True, "e": 7, "f": "text"}
    record = Record("r", (("a", "u32"), ("b", "s64"), ("c", "f64"), ("d", "bool"), ("e", "u8"), ("f", "string")))
    variant = Variant("v", (("nothing", None), ("text", "string"), ("number", "u32")))
    enum = Enum("e", ("red", "dark-green", "blue"))
    flags = Flags("f", tuple(f"f{n}" for n in range(8)))
    theirs_record = native.Record()
    for name, value in fields.items():
        setattr(theirs_record, name, value)
    text = "sixteen letters."
    cases: list[tuple[str, Any, Any, Any, int, float | None]] = [
        ("u32", "u32", 7, 7, 5000, 11.5),
        ("f64", "f64", 1.5, 1.5, 5000, 11.5),
        ("string of 16", "string", text, text, 5000, None),
        ("enum", enum, "dark-green", "dark-green", 3000, 14),
        ("flags, 3 of 8", flags, ["f1", "f3", "f5"], {"f1", "f3", "f5"}, 3000, 14),
        ("tuple of 2", Tuple(("u32", "u32")), (1, 2), (1, 2), 3000, None),
        ("option", Option("u32"), 3, 3, 3000, 18),
        ("result", Tuple((Result("u32", "string"),)), (aegis.Ok(3),), (3,), 3000, 18),
        ("variant", variant, ("text", text), text, 3000, 18),
        ("record of six", record, fields, theirs_record, 3000, 24),
        ("list<record> of 1000", List(record), [fields] * 1000, [theirs_record] * 1000, 20, 40),
        ("list<u32> of 10000", List("u32"), list(range(10000)), list(range(10000)), 20, 65),
        ("list<string> of 1000", List("string"), ["some text"] * 1000, ["some text"] * 1000, 20, None),
        ("list<u8>, 1 KiB", List("u8"), b"x" * 1024, b"x" * 1024, 1000, 400),
        ("list<u8>, 64 KiB", List("u8"), b"x" * 65536, b"x" * 65536, 200, 10_000),
        ("list<u8>, 1 MiB", List("u8"), b"x" * (1 << 20), b"x" * (1 << 20), 200, 12_000),
    ]
    runtime = aegis.Aegis(cache=False, value_bytes=None, timeout="5m")
    rows = []
    for label, of, mine, reference, count, least in cases:
        _trim()
        wat = own_echo_component(of)
        store = wasmtime.Store(engine)
        function = native.Linker(engine).instantiate(store, native.Component(engine, wat)).get_func(store, "echo-back")
        component = runtime.load_wat(wat)
        with runtime.sandbox(component) as sandbox:
            typed = component.with_python_types(component.exports["echo-back"]).params[0][1]  # type: ignore[union-attr, arg-type]
            image = fit(typed, mine, "x")

            def measured(call: Any = sandbox.call, image: Any = image) -> None:
                call("echo-back", image)

            def other(function: Any = function, store: Any = store, value: Any = reference) -> None:
                function(store, value)
                function.post_return(store)

            pair = _in_turns(measured, other, count, rounds)
        rows.append(_faster(f"component echo: {label}", *pair, least))
    return rows


def _trim() -> None:
    """Return freed memory to the system: leftovers of earlier rows make the C library map and unmap large blocks."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


LOOP = """(component
  (import "f" (func $f (param "a" u32) (param "b" u32) (result u32)))
  (core func $f (canon lower (func $f)))
  (core module $m
    (import "" "f" (func $f (param i32 i32) (result i32)))
    (func (export "go") (param $n i32) (result i32) (local $x i32)
      (loop $again
        (local.set $x (call $f (local.get $x) (i32.const 1)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $again (local.get $n)))
      local.get $x))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "n" u32) (result u32) (canon lift (core func $i "go"))))"""


def large_values(rounds: int) -> list[Row]:
    """Bytes to and from a guest that returns its argument, against two copies in memory."""
    import aegis
    from aegis.wit.types import List
    from tests.echo import own_echo_component

    rows = []
    for label, size, count, gate in (("1 MiB", 1 << 20, 50, 3.0), ("256 MiB", 1 << 28, 1, None)):
        _trim()
        data, target = bytes(size), bytearray(size)
        runtime = aegis.Aegis(
            cache=False, pooled=False, memory="1GiB", host_bytes=None, value_bytes="1GiB", timeout="5m"
        )
        with runtime.sandbox(runtime.load_wat(own_echo_component(List("u8")))) as sandbox:

            def measured(call: Any = sandbox.call, data: bytes = data) -> None:
                call("echo-back", data)

            def copies(target: bytearray = target, data: bytes = data) -> None:
                target[:] = data
                target[:] = data

            measured()
            pairs = [(_best(measured, count), _best(copies, count)) for _ in range(rounds)]
        mine, reference = min(a for a, _ in pairs), min(b for _, b in pairs)
        met = None if gate is None else mine <= gate * reference
        what = f"component echo: list<u8>, {label}, over two copies in memory"
        rows.append(Row(what, mine, reference, mine / reference, "" if gate is None else f"<= {gate:g}x", met))
    return rows


def component_callbacks(rounds: int) -> list[Row]:
    """A component that calls a Python function (u32, u32) -> u32."""
    return _on_a_thread(lambda: _callbacks(rounds))


def _callbacks(rounds: int) -> list[Row]:
    import aegis

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    count = 20_000
    runtime = aegis.Aegis(cache=False, timeout="5m", host_calls=None)
    store = wasmtime.Store(engine)
    linker = native.Linker(engine)
    with linker.root() as root:
        root.add_func("f", lambda store, a, b: a + b)
    go = linker.instantiate(store, native.Component(engine, LOOP)).get_func(store, "go")
    with runtime.sandbox(runtime.load_wat(LOOP), imports={"f": lambda a, b: a + b}) as sandbox:

        def reference() -> None:
            go(store, count // 10)
            go.post_return(store)

        pairs = [
            (_best(lambda: sandbox.call("go", count), 1) / count, _best(reference, 1) / (count // 10))
            for _ in range(rounds)
        ]
    row = _faster("component callback (u32, u32) -> u32", min(a for a, _ in pairs), min(b for _, b in pairs), 14)
    return [row, _byte_callback(rounds)]


BYTES_LOOP = """(component
  (import "f" (func $f (param "data" (list u8)) (result u32)))
  (core module $memory (memory (export "m") 4))
  (core instance $memory (instantiate $memory))
  (core func $f (canon lower (func $f) (memory (core memory $memory "m"))))
  (core module $m
    (import "" "f" (func $f (param i32 i32) (result i32)))
    (func (export "go") (param $n i32) (result i32) (local $x i32)
      (loop $again
        (local.set $x (call $f (i32.const 0) (i32.const 65536)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $again (local.get $n)))
      local.get $x))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "n" u32) (result u32) (canon lift (core func $i "go"))))"""


def _byte_callback(rounds: int) -> Row:
    """A component that calls a Python function with 64 KiB."""
    import aegis

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    runtime = aegis.Aegis(cache=False, timeout="5m", host_calls=None, host_bytes=None)
    store = wasmtime.Store(engine)
    linker = native.Linker(engine)
    with linker.root() as root:
        root.add_func("f", lambda store, data: len(data))
    go = linker.instantiate(store, native.Component(engine, BYTES_LOOP)).get_func(store, "go")
    with runtime.sandbox(runtime.load_wat(BYTES_LOOP), imports={"f": len}) as sandbox:

        def reference() -> None:
            go(store, 1)
            go.post_return(store)

        pairs = [(_best(lambda: sandbox.call("go", 500), 1) / 500, _best(reference, 1)) for _ in range(rounds)]
    what = "component callback (list<u8> of 64 KiB) -> u32"
    return _faster(what, min(a for a, _ in pairs), min(b for _, b in pairs), 8000)


def component_life(rounds: int) -> list[Row]:
    """Create, call and close a component without imports."""
    import aegis
    from tests.echo import own_echo_component

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    runtime = aegis.Aegis(cache=False)
    component = runtime.load_wat(own_echo_component("u32"))
    reference = native.Component(engine, own_echo_component("u32"))
    linker = native.Linker(engine)

    def mine() -> None:
        with runtime.sandbox(component) as sandbox:
            sandbox.call("echo-back", 1)

    def other() -> None:
        with wasmtime.Store(engine) as store:
            function = linker.instantiate(store, reference).get_func(store, "echo-back")
            function(store, 1)
            function.post_return(store)

    return [_faster("component: create + call + close", *_in_turns(mine, other, 500, rounds), None)]


def cold_component(rounds: int) -> list[Row]:
    """A large Python component: loading its code from the cache against compiling it."""
    import aegis

    path = ROOT / "guests" / "build" / "py-hello.wasm"
    if not path.exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        compiled = aegis.Aegis(cache=folder, pooled=False).load_file(path)
        cached = [aegis.Aegis(cache=folder, pooled=False).load_file(path).seconds for _ in range(rounds)]
        started = time.perf_counter()
        aegis.Aegis(cache=folder, pooled=False).load_file(path)
        whole = time.perf_counter() - started
    rows = [_faster("code of an 18 MB Python component: cache, against compiling", min(cached), compiled.seconds, 500)]
    return [*rows, _faster("the same with reading, hashing and reflecting it", whole, compiled.seconds, None)]


COPY = ["cat", "-o", "/d/out", "/d/in"]


def native_copy(wasmtime: Any, engine: Any, folder: str) -> Callable[[], None]:
    """Return a function that runs the C program which copies the file ``in`` of a folder to ``out``, on native WASI."""
    from wasmtime import component as native

    reference = native.Component.from_file(engine, str(ROOT / "guests" / "build" / "cat-component.wasm"))
    linker = native.Linker(engine)
    linker.add_wasip2()

    def copy() -> None:
        store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = COPY
        wasi.preopen_dir(folder, "/d")
        store.set_wasi(wasi)
        instance = linker.instantiate(store, reference)
        exported = next(n for n in reference.type.exports(engine) if "cli/run" in n)
        outer = instance.get_export_index(store, exported)
        function = instance.get_func(store, instance.get_export_index(store, "run", outer))
        function(store)

    return copy


def file_copy(rounds: int) -> list[Row]:
    """A C program that copies a file in chunks of 64 KiB through ``wasi:filesystem``, against native WASI."""
    import aegis

    wasmtime, engine = native_engine()
    path = ROOT / "guests" / "build" / "cat-component.wasm"
    size = 200 << 20
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in").write_bytes(bytes(size))
        files = aegis.FilesystemCapability.read_write(f"{folder}::/d")
        runtime = aegis.Aegis(cache=False, pooled=False, filesystem=files, timeout="5m", disk_written=None)
        measured = runtime.load_file(path)
        start = next(name for name in measured.callables() if "cli/run" in name)  # type: ignore[union-attr]
        other = native_copy(wasmtime, engine, folder)

        def mine() -> None:
            with runtime.sandbox(measured, args=COPY) as sandbox:
                sandbox.call(start)

        mine()
        other()
        assert Path(folder, "out").stat().st_size == size
        pairs = [(_best(mine, 1), _best(other, 1)) for _ in range(rounds)]
    mine_, theirs_ = min(a for a, _ in pairs), min(b for _, b in pairs)
    what = "file copy, 200 MiB in 64 KiB pieces, against native WASI"
    return [Row(what, mine_, theirs_, mine_ / theirs_, "<= 1.5x", mine_ <= 1.5 * theirs_)]


PARTS = (values, large_values, component_callbacks, component_life, cold_component, file_copy)
