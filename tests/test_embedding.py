"""The sandbox: calls, results, state, host functions, limits, events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aegis
from aegis import Aegis, CollectingSubscriber, Sandbox
from aegis.errors import (
    AegisError,
    CallError,
    Cancelled,
    DeadlineExceeded,
    ExportNotFound,
    GuestExit,
    GuestTrap,
    HostError,
    LimitExceeded,
    LinkError,
    MemoryExceeded,
    OutOfFuel,
    OutputExceeded,
    PolicyError,
    QuotaExceeded,
    SandboxStateError,
    StackExhausted,
)
from tests.guests.catalogue import source

CALLS = """(module
  (import "env" "f" (func $f (param i32 i32) (result i32)))
  (import "env" "log" (func $log (param i32 i32)))
  (memory (export "memory") 1) (data (i32.const 8) "hello")
  (global (export "g") (mut i64) (i64.const 7)) (global (export "c") i32 (i32.const 3))
  (func (export "add") (param i32 i32) (result i32) (call $f (local.get 0) (local.get 1)))
  (func (export "greet") (call $log (i32.const 8) (i32.const 5)))
  (func (export "next") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "boom") unreachable))"""
PLAIN = """(module (memory (export "memory") 1 3) (table (export "t") 4 funcref)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (local.get 0))
  (func (export "single") (param f32) (result f32) (local.get 0))
  (func (export "double") (param f64) (result f64) (local.get 0))
  (func (export "two") (result i32 f64) (i32.const 1) (f64.const 2.5))
  (func (export "vector") (param v128))
  (func (export "spin") (loop $l (br $l)))
  (func $down (export "down") (param i32) (result i32) (call $down (i32.add (local.get 0) (i32.const 1))))
  (func (export "nothing")))"""


@pytest.fixture(scope="module")
def runtime() -> Aegis:
    return Aegis(cache=False)


def plus(a: int, b: int) -> int:
    return a + b


def sandboxed(runtime: Aegis, f: Callable[..., Any] = plus, log: Callable[..., Any] = lambda *_: None) -> Sandbox:
    return runtime.sandbox(runtime.load_wat(CALLS), imports={"env": {"f": f, "log": log}})


# -- arguments and results ------------------------------------------------------------------------


def test_results_of_each_type(runtime: Aegis) -> None:
    with runtime.sandbox(runtime.load_wat(PLAIN)) as sandbox:
        assert sandbox.call("add", 2, 3) == 5
        assert sandbox.call("add", 0xFFFF_FFFF, 0) == -1
        assert sandbox.call("wide", (1 << 64) - 1) == -1
        assert sandbox.call("single", 1) == 1.0
        assert sandbox.call("double", 0.1) == 0.1
        assert sandbox.call("two") == (1, 2.5)
        assert sandbox.call("nothing") is None
        assert sandbox.call_void("add", 1, 1) is None


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("add", (1,), "takes 2 arguments, not 1"),
        ("add", (1, 2, 3), "takes 2 arguments, not 3"),
        ("add", (1, "2"), "argument 2 must be an integer"),
        ("add", (1, 2.0), "argument 2 must be an integer"),
        ("add", (1, 1 << 32), "out of range for i32"),
        ("add", (-(1 << 31) - 1, 0), "out of range for i32"),
        ("wide", (1 << 64,), "out of range for i64"),
        ("double", ("x",), "must be a number"),
        ("double", (10**400,), "out of range"),
        ("vector", (0,), "v128"),
    ],
)
def test_arguments_that_do_not_fit_leave_the_guest_alone(
    runtime: Aegis, name: str, arguments: tuple[Any, ...], says: str
) -> None:
    with runtime.sandbox(runtime.load_wat(PLAIN)) as sandbox:
        for _ in range(2):
            with pytest.raises(CallError, match=says) as caught:
                sandbox.call(name, *arguments)
            assert name in str(caught.value)
            assert sandbox.call("add", 1, 1) == 2
        with pytest.raises(CallError):
            sandbox.run(name, *arguments)


def test_an_unknown_function_shows_the_near_ones(runtime: Aegis) -> None:
    with runtime.sandbox(runtime.load_wat(PLAIN)) as sandbox:
        with pytest.raises(ExportNotFound) as caught:
            sandbox.call("ad")
        assert caught.value.near == ("add",)
        with pytest.raises(ExportNotFound, match="it exports add"):
            sandbox.call("zzz")
        with pytest.raises(ExportNotFound):
            sandbox.call("memory")


# -- state ----------------------------------------------------------------------------------------


def test_a_trap_poisons_and_reset_starts_afresh(runtime: Aegis) -> None:
    with sandboxed(runtime) as sandbox:
        sandbox.globals["g"] = 9
        with pytest.raises(GuestTrap) as caught:
            sandbox.call("boom")
        assert caught.value.code == "unreachable"
        assert caught.value.frames
        assert sandbox.state == "poisoned"
        with pytest.raises(SandboxStateError, match="reset"):
            sandbox.call("next", 1)
        assert sandbox.globals["g"] == 9
        assert sandbox.memory.read(8, 5) == b"hello"
        sandbox.reset()
        assert sandbox.globals["g"] == 7
        assert sandbox.call("next", 1) == 2


def test_empty_loaded_and_closed(runtime: Aegis) -> None:
    sandbox = runtime.sandbox()
    with pytest.raises(SandboxStateError, match="is empty"):
        sandbox.call("add", 1, 2)
    with pytest.raises(SandboxStateError):
        sandbox.reset()
    sandbox.register_func("env", "f", plus)
    sandbox.register_func("env", "log", print)
    assert sandbox.load(runtime.load_wat(CALLS)) is sandbox
    assert sandbox.call("add", 1, 2) == 3
    with pytest.raises(SandboxStateError, match="create another"):
        sandbox.load(runtime.load_wat(PLAIN))
    with pytest.raises(SandboxStateError, match="before load"):
        sandbox.register_func("env", "late", print)
    sandbox.close()
    sandbox.close()
    assert sandbox.state == "closed"
    for use in (lambda: sandbox.call("add", 1, 2), lambda: sandbox.memory.size, lambda: sandbox.globals["g"]):
        with pytest.raises(SandboxStateError):
            use()
    assert "closed" in repr(sandbox)


def test_a_program_that_exits(runtime: Aegis) -> None:
    text = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "leave") (param i32) (call $exit (local.get 0))))"""
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        with pytest.raises(GuestExit) as caught:
            sandbox.call("leave", 3)
        assert caught.value.code == 3
        with pytest.raises(SandboxStateError, match="has exited"):
            sandbox.call("leave", 3)
        sandbox.reset()
        assert (sandbox.run("leave", 0).status, sandbox.state) == ("exited", "poisoned")
        sandbox.reset()
        outcome = sandbox.run("leave", 256)
        assert (outcome.exit_code, outcome.ok) == (1, False)


def test_memory_and_globals_are_checked(runtime: Aegis) -> None:
    with sandboxed(runtime) as sandbox:
        sandbox.memory.write(100, bytearray(b"abc"))
        assert sandbox.memory.read(100, 3) == b"abc"
        assert sandbox.memory.size == 65536
        for offset, length in ((65536, 1), (-1, 1), (0, -1), (65530, 10)):
            with pytest.raises(ValueError, match="do not lie"):
                sandbox.memory.read(offset, length)
        with pytest.raises(ValueError, match="do not lie"):
            sandbox.memory.write(65535, b"ab")
        assert dict(sandbox.globals) == {"g": 7, "c": 3}
        sandbox.globals["g"] = (1 << 64) - 1
        assert sandbox.globals["g"] == -1
        with pytest.raises(CallError, match="immutable"):
            sandbox.globals["c"] = 1
        with pytest.raises(CallError, match="out of range"):
            sandbox.globals["g"] = 1 << 64
        with pytest.raises(KeyError):
            sandbox.globals["nope"]
        with pytest.raises(CallError):
            del sandbox.globals["g"]


# -- host functions -------------------------------------------------------------------------------


def test_a_host_function_reads_writes_and_calls_its_caller(runtime: Aegis) -> None:
    seen: list[Any] = []

    @aegis.with_caller
    def log(guest: aegis.Caller, pointer: int, length: int) -> None:
        guest.write(pointer, b"J")
        seen.extend([guest.read(pointer, length), guest.call("next", 41), guest.memory_size(), guest.remaining()])
        with pytest.raises(aegis.MemoryFault):
            guest.read(65536, 1)
        with pytest.raises(SandboxStateError, match="busy"):
            sandbox.close()
        kept.append(guest)

    kept: list[aegis.Caller] = []
    with sandboxed(runtime, log=log) as sandbox:
        sandbox.call("greet")
        assert seen[:3] == [b"Jello", 42, 65536]
        assert 0 < seen[3] <= 31
        with pytest.raises(SandboxStateError, match="only inside"):
            kept[0].read(0, 1)
        assert sandbox.usage.bytes_in == 5
        assert sandbox.usage.bytes_out == 1


def test_an_exception_of_a_host_function_is_the_cause(runtime: Aegis) -> None:
    def f(a: int, b: int) -> int:
        raise KeyError("lost \x1b[31m")

    with sandboxed(runtime, f) as sandbox:
        with pytest.raises(HostError, match=r"env\.f raised KeyError") as caught:
            sandbox.call("add", 1, 2)
        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.__cause__.__traceback__ is not None
        assert "\x1b" not in str(caught.value)
        assert sandbox.state == "poisoned"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_exceptions_that_must_not_be_swallowed_propagate(runtime: Aegis, kind: type[BaseException]) -> None:
    def f(a: int, b: int) -> int:
        raise kind

    with sandboxed(runtime, f) as sandbox, pytest.raises(kind):
        sandbox.call("add", 1, 2)


@pytest.mark.parametrize("value", ["x", None, 1.5, 1 << 32, [1]])
def test_a_result_that_does_not_fit_ends_the_guest(runtime: Aegis, value: Any) -> None:
    with (
        sandboxed(runtime, lambda a, b: value) as sandbox,
        pytest.raises(HostError, match="returned an invalid result"),
    ):
        sandbox.call("add", 1, 2)


def test_results_unsigned_none_and_several(runtime: Aegis) -> None:
    text = """(module (import "env" "pair" (func $pair (result i32 f64))) (import "env" "none" (func $none))
      (func (export "pair") (result i32 f64) (call $pair)) (func (export "none") (call $none)))"""
    module = runtime.load_wat(text)

    def run(pair: Any, none: Any, name: str) -> Any:
        imports = {"env": {"pair": lambda: pair, "none": lambda: none}}
        with runtime.sandbox(module, imports=imports) as sandbox:
            return sandbox.call(name)

    assert run((0xFFFF_FFFF, 2), None, "pair") == (-1, 2.0)
    assert run(None, None, "none") is None
    for pair in ((1,), 5, (1, "x"), (True, 2)):
        with pytest.raises(HostError):
            run(pair, None, "pair")
    with pytest.raises(HostError, match="return None"):
        run(None, 5, "none")
    with sandboxed(runtime, lambda a, b: True) as sandbox, pytest.raises(HostError, match="integer for i32, not bool"):
        sandbox.call("add", 1, 2)
    with sandboxed(runtime, lambda a, b: 0x8000_0000) as sandbox:
        assert sandbox.call("add", 1, 2) == -(1 << 31)


def test_missing_imports_are_listed_all_at_once(runtime: Aegis) -> None:
    with pytest.raises(LinkError) as caught:
        runtime.sandbox(runtime.load_wat(CALLS))
    assert [(m.module, m.name) for m in caught.value.missing] == [("env", "f"), ("env", "log")]
    assert "imports=" in caught.value.missing[0].remedy
    text = """(module (import "env" "m" (memory 1)) (import "env" "v" (func (param v128)))
      (import "wasi_snapshot_preview1" "fd_frob" (func)) (import "wasi_snapshot_preview1" "fd_close" (func))
      (import "wasi_unstable" "fd_write" (func)) (import "wasi:io/poll" "poll" (func)))"""
    with pytest.raises(LinkError) as caught:
        runtime.sandbox(runtime.load_wat(text))
    remedies = " | ".join(m.remedy for m in caught.value.missing)
    assert len(caught.value.missing) == 6
    for part in ("functions alone", "v128", "no such function", "its type is", "before WASI preview 1", "component"):
        assert part in remedies


@pytest.mark.parametrize(
    "imports", [["env"], {"env": print}, {"env": {"f": 5}}, {1: {"f": print}}, {"aegis": {"log": print}}]
)
def test_imports_that_are_no_functions(runtime: Aegis, imports: Any) -> None:
    with pytest.raises(LinkError):
        runtime.sandbox(runtime.load_wat(CALLS), imports=imports)


# -- limits ---------------------------------------------------------------------------------------

LIMITS: list[tuple[dict[str, Any], str, tuple[int, ...], type[LimitExceeded], str]] = [
    ({"fuel": 1000}, "spin", (), OutOfFuel, "fuel"),
    ({"timeout": "100ms", "fuel": None}, "spin", (), DeadlineExceeded, "timeout"),
    ({"stack": "64KiB"}, "down", (0,), StackExhausted, "stack"),
]


@pytest.mark.parametrize(("limits", "name", "arguments", "kind", "limit"), LIMITS)
def test_each_limit_of_a_call(
    limits: dict[str, Any], name: str, arguments: tuple[int, ...], kind: type[LimitExceeded], limit: str
) -> None:
    runtime = Aegis(cache=False, pooled=False, **limits)
    with runtime.sandbox(runtime.load_wat(PLAIN)) as sandbox:
        with pytest.raises(kind) as caught:
            sandbox.call(name, *arguments)
        assert caught.value.limit == limit
        assert caught.value.allowed is not None
        sandbox.reset()
        assert sandbox.run(name, *arguments).status == kind.kind


@pytest.mark.parametrize(
    ("limits", "limit"),
    [({"memory": 65535}, "memory"), ({"table_elements": 3}, "table_elements")],
)
def test_the_initial_requirements_of_a_module(limits: dict[str, Any], limit: str) -> None:
    runtime = Aegis(cache=False, **limits)
    with pytest.raises(MemoryExceeded) as caught:
        runtime.sandbox(runtime.load_wat(PLAIN))
    assert (caught.value.limit, caught.value.phase) == (limit, "initial")


@pytest.mark.parametrize(
    ("text", "limits", "limit"),
    [
        ("(module (memory 0) (memory 0))", {"memories": 1}, "memories"),
        ("(module (table 0 funcref) (table 0 funcref))", {"tables": 1}, "tables"),
        ("(module (memory 40) (memory 40))", {"memory": "4MiB"}, "memory"),
        ("(module (table 8 funcref) (table 8 funcref))", {"table_elements": 10}, "table_elements"),
        ("(module (table 8 funcref) (table 1 funcref))", {"table_elements": 10}, "table_elements"),
    ],
)
def test_counts_and_totals(text: str, limits: dict[str, Any], limit: str) -> None:
    runtime = Aegis(cache=False, **limits)
    with pytest.raises(MemoryExceeded) as caught:
        runtime.sandbox(runtime.load_wat(text))
    assert caught.value.limit == limit


def test_several_memories_that_declare_maximums_fit() -> None:
    runtime = Aegis(cache=False, memory="4MiB")
    runtime.sandbox(runtime.load_wat("(module (memory 30 32) (memory 1 32))")).close()


def test_limits_of_host_calls_and_bytes() -> None:
    runtime = Aegis(cache=False, host_calls=3)
    with sandboxed(runtime) as sandbox:
        for _ in range(3):
            sandbox.call("add", 1, 1)
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("add", 1, 1)
        assert caught.value.limit == "host_calls"

    @aegis.with_caller
    def log(guest: aegis.Caller, pointer: int, length: int) -> None:
        guest.read(0, 100)

    for limits in ({"host_bytes": 99}, {"value_bytes": 99}):
        with sandboxed(Aegis(cache=False, **limits), log=log) as sandbox:
            with pytest.raises(QuotaExceeded) as caught:
                sandbox.call("greet")
            assert (caught.value.limit, caught.value.used, caught.value.allowed) == (*limits, 100, 99)


def test_output_is_captured_up_to_its_limit() -> None:
    runtime = Aegis(cache=False, stdout=5)
    with runtime.sandbox(runtime.load_file(source("hello"))) as sandbox:
        with pytest.raises(OutputExceeded):
            sandbox.call("_start")
        assert sandbox.stdout == b"hello"
    assert sandbox.stdout == b"hello"
    assert sandbox.usage.stdout >= 5
    assert sandbox.undelivered is None


def test_lifted_limits_and_nonsense() -> None:
    runtime = Aegis(cache=False, fuel=None, timeout=None, host_calls=None, host_bytes=None, value_bytes=None)
    with sandboxed(runtime) as sandbox:
        assert sandbox.call("add", 1, 2) == 3
        assert sandbox.usage.fuel is None
    for limits in ({"fuel": 0}, {"memory": "12parsecs"}, {"timeout": -1}, {"stack": None}, {"fuell": 1}):
        with pytest.raises(PolicyError, match=next(iter(limits))[:4]):
            Aegis(**limits)
    with pytest.raises(TypeError):
        Aegis(aegis.Policy(), fuel=1)


# -- threads, tasks, cancelling -------------------------------------------------------------------


def test_a_second_thread_finds_it_busy(runtime: Aegis) -> None:
    entered, leave = threading.Event(), threading.Event()

    def f(a: int, b: int) -> int:
        entered.set()
        assert leave.wait(20)
        return 1

    with sandboxed(runtime, f) as sandbox:
        worker = threading.Thread(target=sandbox.call, args=("add", 1, 2))
        worker.start()
        assert entered.wait(20)
        for use in (lambda: sandbox.call("next", 1), lambda: sandbox.memory.size, sandbox.close, sandbox.reset):
            with pytest.raises(SandboxStateError, match="busy"):
                use()
        leave.set()
        worker.join()
        assert sandbox.call("next", 1) == 2


@pytest.mark.parametrize("fuel", [None, 1 << 62])
def test_cancel_from_another_thread(fuel: int | None) -> None:
    runtime = Aegis(cache=False, fuel=fuel, timeout="20s")
    with runtime.sandbox(runtime.load_wat(PLAIN)) as sandbox:
        sandbox.cancel()  # without a call it has no effect
        assert sandbox.call("add", 1, 1) == 2

        def cancel_when_it_runs() -> None:
            while not sandbox._run.store.in_call():  # type: ignore[union-attr]
                pass
            sandbox.cancel()

        worker = threading.Thread(target=cancel_when_it_runs)
        worker.start()
        with pytest.raises(Cancelled):
            sandbox.call("spin")
        worker.join()


def test_a_host_function_that_does_not_return_is_named_and_left() -> None:
    runtime = Aegis(cache=False, timeout="100ms")
    leave = threading.Event()

    def f(a: int, b: int) -> int:
        leave.wait(20)
        return 1

    sandbox = sandboxed(runtime, f)
    try:
        with pytest.raises(DeadlineExceeded, match=r"env\.f does not return"):
            sandbox.call("add", 1, 2)
        assert sandbox.state == "abandoned"
        with pytest.raises(SandboxStateError, match="abandoned"):
            sandbox.call("add", 1, 2)
        sandbox.close()
    finally:
        leave.set()


def test_tasks_and_their_cancelling(runtime: Aegis) -> None:
    bounded = Aegis(cache=False, fuel=None, timeout="20s")

    async def main() -> None:
        with bounded.sandbox(bounded.load_wat(PLAIN)) as sandbox:
            assert await sandbox.acall("add", 1, 2) == 3
            with pytest.raises(CallError):
                await sandbox.acall("add", 1)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(sandbox.acall("spin"), 0.05)
            while sandbox._run.store.in_call():  # type: ignore[union-attr]
                await asyncio.sleep(0)
            assert sandbox.state == "poisoned"

    asyncio.run(main())


# -- events and usage -----------------------------------------------------------------------------


def test_events_in_order_with_their_fields() -> None:
    seen = CollectingSubscriber()

    def broken(event: object) -> None:
        raise RuntimeError("an observer's own")

    runtime = Aegis(cache=False, fuel=1_000_000)
    module = runtime.load_wat(CALLS)
    imports = {"env": {"f": plus, "log": print}}
    with runtime.sandbox(module, imports=imports, subscribers=[broken, seen]) as sandbox:
        assert sandbox.call("add", 1, 2) == 3
        sandbox.run("boom")
        assert len(sandbox.events.failures) == 1
    kinds = [e.kind for e in seen.events]
    assert kinds == [
        "module_loaded", "execution_started", "host_function_called", "memory_grew", "fuel_consumed",
        "execution_completed", "execution_started", "error", "fuel_consumed", "execution_completed",
    ]  # fmt: skip
    assert [e.seq for e in seen.events] == list(range(1, len(kinds) + 1))
    metrics = aegis.Metrics.of(seen.events)
    assert (metrics.executions, metrics.host_calls, metrics.errors, metrics.peak_memory) == (2, 1, 1, 65536)
    assert dict(metrics.outcomes) == {"returned": 1, "trap": 1}


def test_usage_of_a_run() -> None:
    runtime = Aegis(cache=False, fuel=1_000_000)
    with runtime.sandbox(runtime.load_wat(CALLS), imports={"env": {"f": plus, "log": print}}, measured=True) as sandbox:
        outcome = sandbox.run("add", 1, 2)
        assert outcome.value == 3
        usage = outcome.usage
        assert usage.fuel is not None
        assert usage.fuel > 0
        assert usage.host_calls == 1
        assert usage.peak_memory == 65536
        assert usage.host_seconds is not None
        assert 0 <= usage.host_seconds <= usage.seconds
        again = sandbox.run("add", 1, 2).usage
        assert (again.fuel, again.host_calls) == (usage.fuel, 1)
        assert sandbox.usage.host_calls == 2


def test_denials_are_reported_without_a_subscriber(tmp_path: Any) -> None:
    heard: list[Any] = []
    (tmp_path / "file").write_text("x")
    runtime = Aegis(cache=False, filesystem=aegis.FilesystemCapability.read_only(f"{tmp_path}::/"))
    module = runtime.load_file(source("hostile/escape-truncate"))
    with runtime.sandbox(module, denied=heard.append) as sandbox:
        outcome = sandbox.run("_start")
    assert heard
    assert outcome.usage.denials == len(heard)
    assert all(not d.allowed and d.remedy for d in heard)


def test_the_one_liner(tmp_path: Any) -> None:
    assert aegis.run(source("hello")).stdout == b"hello, world\n"
    assert aegis.run(source("add"), 2, 3, function="add").value == 5
    assert aegis.run(source("hostile/memory-initial")).status == "memory-exceeded"
    with pytest.raises(ExportNotFound, match="name a function"):
        aegis.run(source("add"))


MISTAKES: dict[str, tuple[Callable[[Aegis], object], str]] = {
    "a path for a policy": (
        lambda runtime: Aegis("aegis.toml"),
        r"not str: load a policy file with Aegis\.from_config",
    ),  # type: ignore[arg-type]
    "a path for a module": (lambda runtime: runtime.sandbox("a.wasm"), r"write sandbox\(runtime\.load_file\(path\)\)"),  # type: ignore[arg-type]
    "bytes for a module": (lambda runtime: runtime.sandbox(b"\0asm"), "not bytes"),  # type: ignore[arg-type]
    "text for arguments": (lambda runtime: runtime.sandbox(args="wc big"), "args is a list of texts, not str"),
    "a mapping for arguments": (lambda runtime: runtime.sandbox(args={"a": 1}), "not dict"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_values_of_the_wrong_type_have_an_error_with_a_remedy(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with Aegis(cache=False, pooled=False) as runtime, pytest.raises(AegisError, match=message):
        call(runtime)


def test_a_runtime_takes_several_policy_files(tmp_path: Path) -> None:
    base, job = tmp_path / "base.toml", tmp_path / "job.toml"
    base.write_text('limits.timeout = "5s"\nlimits.memory = "32MiB"\n')
    job.write_text('limits.timeout = "9s"\n')
    with Aegis.from_config(base, job, cache=False) as runtime:
        assert (runtime.policy.limits.timeout, runtime.policy.limits.memory) == (9.0, 32 << 20)
