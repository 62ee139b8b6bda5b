"""Failures before an instance exists: segments out of bounds, and actions of a start function.

Until a module is instantiated, the engine aborts the process if it is asked for one of its exports, so Aegis must not
ask. Oracle: each instantiation ends as its row states, and the next guest in the same process runs normally.
"""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, AegisError, Caller, GuestTrap, HostError
from aegis.engine.call import trampoline
from aegis.engine.call.door import Door
from aegis.engine.native.library import lib
from aegis.limits import Limits
from aegis.values import ImportName
from tests.isolation.isolated import PLACES, shared

TRAPS = {
    "a data segment beyond its memory": '(memory (export "m") 1) (data (i32.const 65536) "x")',
    "a data segment of an empty memory": '(memory (export "m") 0) (data (i32.const 0) "x")',
    "an element beyond its table": '(table (export "t") 1 funcref) (func $f) (elem (i32.const 1) func $f)',
    "a start function that traps": '(memory (export "m") 1) (func $s unreachable) (start $s)',
    "a start function that traps beside a table": '(table (export "t") 1 funcref) (func $s unreachable) (start $s)',
    "a start function that reads too far": """(memory (export "m") 1) (table (export "t") 1 funcref)
        (func $s (drop (i32.load (i32.const 65536)))) (start $s)""",
    "two memories and a segment beyond": '(memory (export "a") 1) (memory (export "b") 1) (data (i32.const -1) "x")',
}
ONE = '(module (memory (export "memory") 1) (func (export "one") (result i32) i32.const 1))'


def ended(runtime: Aegis, text: str, imports: Any = None) -> AegisError | None:
    """Return the error of an instantiation; another guest must run afterwards."""
    module = runtime.load_wat(text)
    try:
        with runtime.sandbox(module, imports=imports) as sandbox:
            sandbox.call("go")
        return None
    except AegisError as error:
        return error
    finally:
        with runtime.sandbox(runtime.load_wat(ONE)) as other:
            assert other.call("one") == 1
            assert other.memory.size == 65536


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_before_there_is_an_instance_is_a_trap(name: str, place: str) -> None:
    for exact in (False, True):
        runtime = shared(place) if not exact else Aegis(cache=False, memories=4)
        error = ended(runtime, f"(module {TRAPS[name]})")
        assert error is not None
        assert error.kind == "trap", error


STARTS = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table (export "t") 1 funcref)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00") (data (i32.const 16) "hello\\n")
  (global $got (export "g") (mut i32) (i32.const 0))
  (func $s
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (global.set $got (call $f (i32.const 16)))
    %s)
  (start $s)
  (func (export "got") (result i32) global.get $got)
  (func (export "letter") (result i32) (i32.load8_u (i32.const 16))))"""


@pytest.mark.parametrize("place", PLACES)
def test_a_start_function_may_call_wasi_which_reaches_its_memory(place: str) -> None:
    runtime = shared(place)
    with runtime.sandbox(runtime.load_wat(STARTS % ""), imports={"env": {"f": lambda at: at + 1}}) as sandbox:
        assert sandbox.call("got") == 17
        assert sandbox.call("letter") == ord("h")
        assert sandbox.stdout == b"hello\n"
        assert sandbox.memory.read(16, 5) == b"hello"


@pytest.mark.parametrize("place", PLACES)
def test_a_start_function_that_traps_after_its_host_calls_has_trapped(place: str) -> None:
    error = ended(shared(place), STARTS % "unreachable", {"env": {"f": lambda at: at}})
    assert error is not None
    assert error.kind == "trap"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "use",
    [
        lambda box: box.memory.read(0, 1), lambda box: box.memory.write(0, b"x"), lambda box: box.globals["g"],
        lambda box: box.call("got"), lambda box: box.run("got"), lambda box: box.close(), lambda box: box.reset(),
        lambda box: Caller(box._run).read(0, 1),
    ],
    ids=["read", "write", "global", "call", "run", "close", "reset", "caller"],
)  # fmt: skip
def test_a_sandbox_that_starts_cannot_be_used_yet(use: Any, place: str) -> None:
    runtime = shared(place)
    box: Any = runtime.sandbox(imports={"env": {"f": lambda at: use(box) or 0}})
    with box, pytest.raises(AegisError, match=r"is empty|is busy|is no longer valid"):
        box.load(runtime.load_wat(STARTS % ""))


REALLOC = """(component
  (import "f" (func $f (result string)))
  (core module $mem (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const -1)))
  (core instance $l (instantiate $mem))
  (core func $g (canon lower (func $f) (memory (core memory $l "memory")) (realloc (core func $l "realloc"))))
  (core module $m (import "" "f" (func $g (param i32))) (func $s (call $g (i32.const 8))) (start $s))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $g)))))))"""


@pytest.mark.parametrize("place", PLACES)
def test_a_component_whose_start_breaks_the_abi_has_trapped_and_not_run_out_of_memory(place: str) -> None:
    """The engine's message contains "memory", as it does for a memory that does not fit."""
    runtime = shared(place)
    with pytest.raises(GuestTrap, match="beyond its memory"):
        runtime.sandbox(runtime.load_wat(REALLOC), imports={"f": lambda: "text"})


def test_a_host_function_that_fails_under_a_start_function_is_reported_as_usual() -> None:
    runtime = shared("in-process")
    error = ended(runtime, STARTS % "", {"env": {"f": lambda at: 1 // 0}})
    assert isinstance(error, HostError)
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_memory_that_is_out_of_bounds_under_a_start_function_is_a_fault() -> None:
    text = (STARTS % "").replace(
        "(i32.const 0) (i32.const 1) (i32.const 8)", "(i32.const -4) (i32.const 1) (i32.const 8)"
    )
    runtime = shared("in-process")
    with runtime.sandbox(runtime.load_wat(text), imports={"env": {"f": lambda at: 7}}) as sandbox:
        assert sandbox.call("got") == 7
        assert sandbox.stdout == b""


def test_nothing_escapes_from_a_host_call_of_a_start_function() -> None:
    """Oracle: an exception where none is expected is kept for the caller, and the engine sees a trap."""
    door, surprise = Door(Limits()), RuntimeError("nobody expected this")

    def serve(*_: int) -> int | None:
        assert door.caller == 7
        raise surprise

    number = trampoline.take_slot((door, (print,), (ImportName("env", "f"),), []))
    try:
        answer = trampoline._storing_caller(serve)(number << trampoline.IMPORT_BITS, 7, 0, 0)
    finally:
        trampoline.free_slot(number)
    assert answer
    assert (door.failure, door.caller) == (surprise, None)
    lib.wasm_trap_delete(answer)
