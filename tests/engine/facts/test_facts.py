"""Facts about the engine that Aegis relies on or guards against, tested with plain wasmtime-py, by fact number.

A test that fails here after an upgrade of wasmtime identifies a guard of Aegis that can be removed, or that must be
reconsidered. Behaviour that ends the process is tested in a separate process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import wasmtime
from wasmtime import Config, Engine, Instance, Module, Store, Trap, WasmtimeError

from aegis.engine.native.library import MAJOR, library_version

IMPORTS = "import faulthandler, threading\nfrom wasmtime import *\n"


def dies(program: str) -> bool:
    """Return whether a program that uses wasmtime-py ends its process instead of raising."""
    done = subprocess.run([sys.executable, "-c", IMPORTS + program], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0 or done.stdout == b"alive\n", done.stderr
    return done.returncode < 0


def instance(text: str, *, fuel: int | None = None, **limits: int) -> tuple[Store, Instance]:
    config = Config()
    config.consume_fuel = fuel is not None
    store = Store(Engine(config))
    if fuel is not None:
        store.set_fuel(fuel)
    store.set_limits(**limits)
    return store, Instance(store, Module(store.engine, text), [])


def test_the_major_version_is_the_tested_one() -> None:
    assert library_version().split(".")[0] == str(MAJOR) == "50"


def test_f17_without_a_deadline_an_epoch_traps_at_once() -> None:
    config = Config()
    config.epoch_interruption = True
    store = Store(Engine(config))
    go = Instance(store, Module(store.engine, '(module (func (export "go")))'), []).exports(store)["go"]
    with pytest.raises(Trap, match="interrupt"):
        go(store)  # type: ignore[operator]


@pytest.mark.parametrize("setting", ["consume_fuel", "epoch_interruption"])
def test_code_with_checks_and_code_without_them_are_not_loaded_for_one_another(setting: str) -> None:
    """Cache entries are keyed by the names of the code too."""
    configs = Config(), Config()
    setattr(configs[1], setting, True)
    engines = [Engine(config) for config in configs]
    for one, other in (engines, engines[::-1]):
        code = Module(one, '(module (func (export "go")))').serialize()
        assert Module.deserialize(one, code)
        with pytest.raises(WasmtimeError):
            Module.deserialize(other, code)


def test_f28_the_limit_is_per_memory_and_only_the_guest_sees_a_refused_growth() -> None:
    text = '(module (memory 10) (memory 10) (func (export "grow") (result i32) (memory.grow 0 (i32.const 7))))'
    store, made = instance(text, memory_size=16 * 65536)
    assert made.exports(store)["grow"](store) == -1  # type: ignore[operator]
    with pytest.raises(WasmtimeError, match="exceeds memory limits"):
        instance("(module (memory 17))", memory_size=16 * 65536)


def test_f28_tables_are_unlimited_unless_set() -> None:
    text = """(module (table 0 funcref)
      (func (export "grow") (result i32) (table.grow (ref.null func) (i32.const 1000000))))"""
    store, made = instance(text, memory_size=65536)
    assert made.exports(store)["grow"](store) == 0  # type: ignore[operator]


def test_f29_recursion_on_a_small_stack_ends_the_process() -> None:
    assert dies("""
store = Store(Engine())
text = '(module (func $f (export "f") (param i32) (result i32) (call $f (i32.add (local.get 0) (i32.const 1)))))'
f = Instance(store, Module(store.engine, text), []).exports(store)["f"]
threading.stack_size(256 * 1024)
worker = threading.Thread(target=lambda: f(store, 0))
worker.start()
worker.join()
""")


def test_f29_a_stack_of_nothing_aborts() -> None:
    assert dies("c = Config()\nc.max_wasm_stack = 0\nEngine(c)")


def test_f30_a_late_faulthandler_makes_a_bad_access_fatal() -> None:
    assert dies("""
store = Store(Engine())
text = '(module (memory 1) (func (export "f") (result i32) (i32.load (i32.const 99999999))))'
f = Instance(store, Module(store.engine, text), []).exports(store)["f"]
faulthandler.enable()
try:
    f(store)
except Trap:
    print("alive")
""")


def test_f32_fuel_charges_a_bulk_instruction_after_it_was_done() -> None:
    text = """(module (memory (export "m") 1)
      (func (export "fill") (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536))))"""
    store, made = instance(text, fuel=1000)
    exports = made.exports(store)
    with pytest.raises(Trap, match="fuel"):
        exports["fill"](store)  # type: ignore[operator]
    memory = exports["m"]
    assert isinstance(memory, wasmtime.Memory)
    assert memory.read(store, 65535, 65536) == b"\x07"


def test_f33_reflecting_a_vector_type_ends_the_process() -> None:
    assert dies("""
module = Module(Engine(), '(module (import "env" "f" (func (param v128))))')
print([str(p) for i in module.imports for p in i.type.params] and "alive")
""")


def test_f38_text_in_bytes_is_taken_for_a_module() -> None:
    Module(Engine(), b"(module)")


def test_a_function_type_belongs_to_the_engine_that_used_it_first() -> None:
    assert dies("""
kind = FuncType([], [])
Func(Store(Engine()), kind, lambda: None)
Func(Store(Engine()), kind, lambda: None)
print("alive")
""")


def test_a_memory_does_not_move_as_it_grows() -> None:
    text = '(module (memory (export "m") 1) (func (export "grow") (drop (memory.grow (i32.const 500)))))'
    store, made = instance(text)
    memory = made.exports(store)["m"]
    assert isinstance(memory, wasmtime.Memory)

    def address() -> int:
        import ctypes

        return ctypes.addressof(memory.data_ptr(store).contents)

    before = address()
    made.exports(store)["grow"](store)  # type: ignore[operator]
    assert address() == before


COLLECTED = """
import sys
from ctypes import c_bool, c_void_p
from wasmtime import Config, Engine, Instance, Module, Store
from wasmtime import _ffi as ffi

def size():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmSize")) >> 10

def grown(body, on):
    config = Config()
    ffi.wasmtime_config_gc_support_set(config.ptr(), on)
    engine = Engine(config)
    module = Module(engine, f"(module (memory 1) {body})")
    store, before = Store(engine), size()
    Instance(store, module, [])
    return size() - before

print(*(grown(body, True) for body in ("", "(table 1 funcref)", "(table 1 externref)")))
"""


def test_externref_in_a_table_alone_reserves_a_collected_heap() -> None:
    """F48: the engine reserves 4 GiB in addition to the memory, so Aegis disables garbage-collected types."""
    if sys.platform != "linux":
        pytest.skip("address space is measured on Linux")
    done = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=60, check=True)
    nothing, functions, table = map(int, done.stdout.split())
    assert functions <= nothing + 1000
    assert table >= functions + 4000, done.stdout


THROWN = (
    """
from tests.engine.facts.memory_creator import *

text = """
    + repr(
        """(module (tag $t (param i32)) (memory 1) (table $kept 50000 exnref)
    (func (export "f") (param $n i32) (local $i i32)
        (loop $l
            (local.get $i)
            (block $h (result exnref) (try_table (catch_all_ref $h) (throw $t (i32.const 1))) unreachable)
            (table.set $kept)
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))))"""
    )
    + """
store, made = instance(text, cow=False)
made.exports(store)["f"](store, 50000)
print([size for kind, size in seen if kind == "new"], max(size for kind, size in seen if kind == "grow"))
"""
)


def test_the_memory_creator_makes_and_grows_the_heap_of_exceptions() -> None:
    """F49: the heap is one more memory, of 0 bytes at first, so Aegis counts it."""
    if sys.platform != "linux":
        pytest.skip("the creator in this test is for Linux")
    done = subprocess.run([sys.executable, "-c", THROWN], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    sizes, _, largest = done.stdout.strip().rpartition(" ")
    assert sizes in ("[0, 65536]", "[65536, 0]")
    assert int(largest) > 50000 * 8
