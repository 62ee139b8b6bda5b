"""A sandbox as an embedder sees it: calls, arguments, states, the caller, events and usage."""

from __future__ import annotations

import asyncio
import math
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aegis import (
    Aegis,
    Caller,
    CallError,
    Cancelled,
    CollectingSubscriber,
    DeadlineExceeded,
    ExportNotFound,
    GuestExit,
    GuestTrap,
    HostError,
    LinkError,
    MemoryFault,
    Module,
    Sandbox,
    SandboxStateError,
    StdioCapability,
    with_caller,
)

TEXT = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello")
  (global (export "count") (mut i32) (i32.const 7))
  (global (export "wide") (mut i64) (i64.const -1))
  (global (export "pi") f64 (f64.const 3.25))
  (func (export "host") (param i32) (result i32) local.get 0 call $f)
  (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
  (func (export "same64") (param i64) (result i64) local.get 0)
  (func (export "samef") (param f32 f64) (result f32 f64) local.get 0 local.get 1)
  (func (export "nothing"))
  (func (export "bump") global.get 0 i32.const 1 i32.add global.set 0)
  (func (export "trap") unreachable)
  (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
  (func (export "spin") (loop br 0)))"""

ALONE = """(module
  (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
  (func (export "same64") (param i64) (result i64) local.get 0)
  (func (export "trap") unreachable)
  (func (export "spin") (loop br 0)))"""

EXITS = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "leave") (param i32) local.get 0 call $exit))"""

WRITES = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\03\\00\\00\\00")
  (data (i32.const 16) "hi\\0a")
  (func (export "say") (param i32) (result i32)
    (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))"""


@pytest.fixture(scope="module")
def aegis() -> Aegis:
    return Aegis(cache=False, pooled=False, fuel=None, timeout="20s")


@pytest.fixture(scope="module")
def module(aegis: Aegis) -> Module:
    return aegis.load_wat(TEXT)


def identity(value: int) -> int:
    return value


@pytest.fixture
def sandbox(aegis: Aegis, module: Module) -> Iterator[Sandbox]:
    with aegis.sandbox(module, imports={"env": {"f": identity}}) as made:
        yield made


def made(aegis: Aegis, module: Module, function: Callable[..., Any], **options: Any) -> Sandbox:
    return aegis.sandbox(module, imports={"env": {"f": function}}, **options)


# -- calls ----------------------------------------------------------------------------------------


def test_a_call_returns_its_result_a_tuple_of_several_or_none(sandbox: Sandbox) -> None:
    assert sandbox.call("add", 2, 3) == 5
    assert sandbox.call("samef", 1.5, -2.5) == (1.5, -2.5)
    assert sandbox.call("nothing") is None
    sandbox.call_void("add", 2, 3)
    assert sandbox.call("host", 41) == 41


@pytest.mark.parametrize("text", [TEXT, ALONE])
def test_integers_go_in_signed_or_unsigned_and_come_out_signed(aegis: Aegis, text: str) -> None:
    module = aegis.load_wat(text)
    imports = {"env": {"f": identity}} if module.imports else None
    with aegis.sandbox(module, imports=imports) as sandbox:
        assert sandbox.call("add", 0xFFFFFFFF, 0) == -1
        assert sandbox.call("add", -(1 << 31), 0) == -(1 << 31)
        assert sandbox.call("same64", (1 << 64) - 2) == -2


@pytest.mark.parametrize("text", [TEXT, ALONE])
def test_a_bool_is_neither_an_integer_nor_a_float(aegis: Aegis, text: str) -> None:
    module = aegis.load_wat(text)
    imports = {"env": {"f": identity}} if module.imports else None
    with aegis.sandbox(module, imports=imports) as sandbox:
        cases = [("add", (True, 1), "i32"), ("add", (1, False), "i32"), ("same64", (True,), "i64")]
        if text is TEXT:
            cases += [("samef", (True, 0.5), "f32"), ("samef", (0.5, False), "f64")]
        for name, arguments, kind in cases:
            with pytest.raises(CallError, match=f"for {kind}, not bool"):
                sandbox.call(name, *arguments)
        assert sandbox.call("add", int(True), 1) == 2


def test_floats_keep_their_bits_and_take_integers(sandbox: Sandbox) -> None:
    single, double = sandbox.call("samef", 0.1, 0.1)
    assert single != 0.1
    assert math.isclose(single, 0.1, rel_tol=1e-7)
    assert double == 0.1
    assert sandbox.call("samef", 3, -4) == (3.0, -4.0)
    nan, infinite = sandbox.call("samef", math.nan, math.inf)
    assert math.isnan(nan)
    assert infinite == math.inf
    assert math.copysign(1, sandbox.call("samef", -0.0, 0)[0]) == -1


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("add", (1,), "add(i32, i32) -> (i32) takes 2 arguments, not 1"),
        ("add", (1, 2, 3), "takes 2 arguments, not 3"),
        ("nothing", (1,), "takes 0 arguments, not 1"),
        ("add", ("1", 2), "argument 1 must be an integer for i32, not str '1'"),
        ("add", (1, 2.0), "argument 2 must be an integer for i32, not float"),
        ("add", (None, 2), "NoneType"),
        ("add", (1 << 32, 0), "out of range for i32"),
        ("add", (-(1 << 31) - 1, 0), "out of range for i32"),
        ("same64", (1 << 64,), "out of range for i64"),
        ("same64", (-(1 << 63) - 1,), "out of range for i64"),
        ("samef", ("x", 1.0), "argument 1 must be a number for f32"),
        ("samef", (1.0, 10**400), "out of range for f64"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_and_nothing_is_spoilt(
    sandbox: Sandbox, name: str, arguments: tuple[Any, ...], text: str
) -> None:
    for _ in range(2):
        with pytest.raises(CallError) as caught:
            sandbox.call(name, *arguments)
        assert text in str(caught.value)
    with pytest.raises(CallError):
        sandbox.run(name, *arguments)
    assert sandbox.state == "ready"
    assert sandbox.call("add", 1, 1) == 2


def test_an_unknown_export_suggests_a_similar_name(sandbox: Sandbox) -> None:
    with pytest.raises(ExportNotFound) as caught:
        sandbox.call("ad")
    assert caught.value.near[0] == "add"
    for name in ("memory", "count", "", "\x00", "é" * 1000):
        with pytest.raises(ExportNotFound):
            sandbox.call(name)
    with pytest.raises(ExportNotFound):
        sandbox.call(5)  # type: ignore[arg-type]
    assert sandbox.call("add", 1, 1) == 2


def test_run_returns_how_it_ended(sandbox: Sandbox) -> None:
    good = sandbox.run("add", 1, 2)
    assert (good.status, good.value, good.exit_code, good.ok) == ("returned", 3, 0, True)
    bad = sandbox.run("trap")
    assert (bad.status, bad.exit_code, bad.ok) == ("trap", 134, False)
    assert isinstance(bad.error, GuestTrap)
    assert bad.error.code == "unreachable"
    assert bad.error.frames[0].function_index > 0
    with pytest.raises(SandboxStateError):
        sandbox.run("add", 1, 2)


@pytest.mark.parametrize(("code", "status", "exit_code"), [(0, "exited", 0), (3, "exited", 3), (256, "exited", 1)])
def test_an_exit_is_an_outcome_and_ends_the_instance(aegis: Aegis, code: int, status: str, exit_code: int) -> None:
    with aegis.sandbox(aegis.load_wat(EXITS)) as sandbox:
        outcome = sandbox.run("leave", code)
        assert (outcome.status, outcome.exit_code, outcome.ok) == (status, exit_code, code == 0)
        with pytest.raises(SandboxStateError, match="has exited"):
            sandbox.call("leave", 0)
        sandbox.reset()
        with pytest.raises(GuestExit):
            sandbox.call("leave", code)


# -- states ---------------------------------------------------------------------------------------


def test_a_trap_poisons_until_reset(sandbox: Sandbox) -> None:
    sandbox.call("bump")
    with pytest.raises(GuestTrap):
        sandbox.call("trap")
    assert sandbox.state == "poisoned"
    with pytest.raises(SandboxStateError) as caught:
        sandbox.call("add", 1, 2)
    assert caught.value.state == "poisoned"
    assert sandbox.globals["count"] == 8, "a poisoned guest may still be read"
    assert sandbox.memory.read(16, 5) == b"hello"
    sandbox.reset()
    assert sandbox.globals["count"] == 7
    assert sandbox.call("add", 1, 2) == 3


def test_a_closed_sandbox_refuses_and_closes_twice(aegis: Aegis, module: Module) -> None:
    sandbox = made(aegis, module, identity)
    memory, values = sandbox.memory, sandbox.globals
    assert sandbox.call("add", 1, 2) == 3
    sandbox.close()
    sandbox.close()
    uses: list[Callable[[], object]] = [
        lambda: sandbox.call("add", 1, 2), lambda: sandbox.run("add", 1, 2), lambda: memory.size,
        lambda: memory.read(0, 1), lambda: memory.write(0, b"x"), lambda: values["count"],
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(SandboxStateError) as caught:
            use()
        assert caught.value.state == "closed"
    sandbox.cancel()
    assert sandbox.state == "closed"


def test_a_sandbox_without_a_module_says_so_and_loads_one(aegis: Aegis, module: Module) -> None:
    sandbox = aegis.sandbox()
    for use in (lambda: sandbox.call("add"), sandbox.reset, lambda: sandbox.memory.size, lambda: sandbox.globals["x"]):
        with pytest.raises(SandboxStateError) as caught:
            use()
        assert caught.value.state == "empty"
    sandbox.register_func("env", "f", identity)
    assert sandbox.load(module) is sandbox
    assert sandbox.call("host", 5) == 5
    with pytest.raises(SandboxStateError):
        sandbox.load(module)
    with pytest.raises(SandboxStateError):
        sandbox.register_func("env", "g", identity)
    sandbox.close()


def test_a_load_that_failed_leaves_no_usable_sandbox(aegis: Aegis, module: Module) -> None:
    sandbox = aegis.sandbox()
    with pytest.raises(LinkError):
        sandbox.load(module)
    assert sandbox.state == "poisoned"
    with pytest.raises(SandboxStateError):
        sandbox.call("add", 1, 2)
    sandbox.close()


@pytest.mark.parametrize("verb", ["close", "reset"])
def test_a_host_function_cannot_end_its_own_sandbox(aegis: Aegis, module: Module, verb: str) -> None:
    caught: list[BaseException] = []

    def ending(value: int) -> int:
        try:
            getattr(sandbox, verb)()
        except SandboxStateError as error:
            caught.append(error)
        return value

    with made(aegis, module, ending) as sandbox:
        assert sandbox.call("host", 5) == 5
        assert [getattr(e, "state", "") for e in caught] == ["busy"]


def test_a_second_thread_finds_the_sandbox_busy(aegis: Aegis, module: Module) -> None:
    entered, leave = threading.Event(), threading.Event()
    results: list[object] = []

    def held(value: int) -> int:
        entered.set()
        leave.wait(10)
        return value

    with made(aegis, module, held) as sandbox:
        first = threading.Thread(target=lambda: results.append(sandbox.call("host", 5)))
        first.start()
        assert entered.wait(10)
        uses: list[Callable[[], object]] = [
            lambda: sandbox.call("add", 1, 2), lambda: sandbox.memory.read(0, 1), lambda: sandbox.globals["count"],
            sandbox.close, sandbox.reset,
        ]  # fmt: skip
        try:
            for use in uses:
                with pytest.raises(SandboxStateError) as caught:
                    use()
                assert caught.value.state == "busy"
        finally:
            leave.set()
            first.join(10)
        assert results == [5]
        assert sandbox.call("add", 1, 2) == 3


def test_cancel_ends_the_call_under_way_and_without_one_does_nothing(aegis: Aegis, module: Module) -> None:
    entered, ends = threading.Event(), list[object]()

    def entering(value: int) -> int:
        entered.set()
        sandbox_free.wait(10)
        return value

    sandbox_free = threading.Event()
    with made(aegis, module, entering) as sandbox:
        sandbox.cancel()
        assert sandbox.call("add", 1, 2) == 3
        thread = threading.Thread(target=lambda: ends.append(sandbox.run("host", 1).status))
        thread.start()
        assert entered.wait(10)
        sandbox.cancel()
        sandbox_free.set()
        thread.join(10)
        # The host function returned after the cancellation; the guest may have returned at once too.
        assert ends in (["interrupted"], ["returned"])


# -- memory and globals ---------------------------------------------------------------------------


def test_memory_is_read_and_written_by_copies(sandbox: Sandbox) -> None:
    memory = sandbox.memory
    assert memory.size == 65536
    assert memory.read(16, 5) == b"hello"
    memory.write(16, bytearray(b"HE"))
    memory.write(18, memoryview(b"LL"))
    assert memory.read(16, 5) == b"HELLo"
    assert memory.read(65536, 0) == b""
    assert sandbox.call("grow", 1) == 1
    assert memory.size == 2 * 65536
    memory.write(2 * 65536 - 1, b"x")
    assert memory.read(2 * 65536 - 1, 1) == b"x"


@pytest.mark.parametrize(("offset", "length"), [(65536, 1), (-1, 1), (0, -1), (65535, 2), (1 << 70, 1), (0, 1 << 70)])
def test_a_range_outside_the_memory_is_refused(sandbox: Sandbox, offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="do not lie within"):
        sandbox.memory.read(offset, length)
    if 0 <= length < 10:
        with pytest.raises(ValueError, match="do not lie within"):
            sandbox.memory.write(offset, b"x" * length)


def test_a_guest_without_memory_has_none(aegis: Aegis) -> None:
    with aegis.sandbox(aegis.load_wat(ALONE)) as sandbox:
        assert sandbox.memory.size == 0
        with pytest.raises(ValueError, match="do not lie within"):
            sandbox.memory.read(0, 1)


def test_globals_are_a_mapping_checked_by_type(sandbox: Sandbox) -> None:
    values = sandbox.globals
    assert dict(values) == {"count": 7, "wide": -1, "pi": 3.25}
    assert len(values) == 3
    values["count"] = 0xFFFFFFFF
    assert values["count"] == -1
    values["wide"] = -(1 << 63)
    assert values["wide"] == -(1 << 63)
    with pytest.raises(CallError, match="immutable"):
        values["pi"] = 1.0
    with pytest.raises(CallError, match="out of range"):
        values["count"] = 1 << 32
    with pytest.raises(CallError):
        values["count"] = 1.5
    with pytest.raises(KeyError, match="did you mean count"):
        values["coun"]
    with pytest.raises(CallError):
        del values["count"]


# -- host functions -------------------------------------------------------------------------------


def test_a_hosts_exception_is_the_cause_with_its_traceback(aegis: Aegis, module: Module) -> None:
    class Boom(Exception):
        pass

    def deeper(value: int) -> int:
        raise Boom(f"with {value}")

    with made(aegis, module, lambda value: deeper(value)) as sandbox:
        with pytest.raises(HostError, match=r"env\.f raised Boom: with 3") as caught:
            sandbox.call("host", 3)
        cause = caught.value.__cause__
        assert isinstance(cause, Boom)
        assert "deeper" in [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
        assert sandbox.state == "poisoned"


def test_an_aegis_error_of_a_host_function_comes_out_as_it_is(aegis: Aegis, module: Module) -> None:
    def leaving(value: int) -> int:
        raise GuestExit(value)

    with made(aegis, module, leaving) as sandbox, pytest.raises(GuestExit) as caught:
        sandbox.call("host", 9)
    assert caught.value.code == 9


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("observed", [False, True])
def test_exceptions_that_must_not_be_caught_propagate(
    aegis: Aegis, module: Module, kind: type[BaseException], observed: bool
) -> None:
    def raising(value: int) -> int:
        raise kind("now")

    subscribers = [CollectingSubscriber()] if observed else []
    with made(aegis, module, raising, subscribers=subscribers) as sandbox:
        with pytest.raises(kind):
            sandbox.call("host", 1)
        assert sandbox.state == "poisoned"


@pytest.mark.parametrize("bad", [1 << 32, -(1 << 31) - 1, None, "1", 1.0, (1,), object()])
def test_a_result_that_does_not_fit_is_the_hosts_error(aegis: Aegis, module: Module, bad: object) -> None:
    with made(aegis, module, lambda value: bad) as sandbox, pytest.raises(HostError, match=r"env\.f"):
        sandbox.call("host", 1)


def test_an_unsigned_result_is_welcome(aegis: Aegis, module: Module) -> None:
    with made(aegis, module, lambda value: 0xFFFFFFFF) as sandbox:
        assert sandbox.call("host", 1) == -1


def test_a_host_function_of_the_wrong_arity_is_the_hosts_error(aegis: Aegis, module: Module) -> None:
    with made(aegis, module, lambda: 1) as sandbox, pytest.raises(HostError) as caught:
        sandbox.call("host", 1)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_caller_reads_writes_and_calls_back(aegis: Aegis, module: Module) -> None:
    seen: list[object] = []

    @with_caller
    def using(caller: Caller, value: int) -> int:
        seen.extend([caller.read(16, 5), caller.memory_size()])
        caller.write(16, b"J")
        left = caller.remaining()
        assert left is not None
        assert 0 < left <= 21
        return int(caller.call("add", value, 1))

    with made(aegis, module, using) as sandbox:
        assert sandbox.call("host", 41) == 42
        assert seen == [b"hello", 65536]
        assert sandbox.memory.read(16, 5) == b"Jello"
        assert sandbox.call("host", 1) == 2


def test_a_callers_fault_and_misuse_are_exceptions_of_the_host(aegis: Aegis, module: Module) -> None:
    caught: list[type] = []

    @with_caller
    def wrong(caller: Caller, value: int) -> int:
        for use in (lambda: caller.read(65536, 1), lambda: caller.write(-1, b"x"), lambda: caller.call("add", 1)):
            try:
                use()
            except Exception as error:
                caught.append(type(error))
        return value

    with made(aegis, module, wrong) as sandbox:
        assert sandbox.call("host", 1) == 1
    assert caught == [MemoryFault, MemoryFault, CallError]


def test_a_trap_inside_a_call_back_ends_the_whole_call(aegis: Aegis, module: Module) -> None:
    @with_caller
    def trapping(caller: Caller, value: int) -> int:
        return int(caller.call("trap"))

    with made(aegis, module, trapping) as sandbox, pytest.raises(GuestTrap) as caught:
        sandbox.call("host", 1)
    assert caught.value.code == "unreachable"


def test_a_trap_that_the_host_function_swallows_still_poisons(aegis: Aegis, module: Module) -> None:
    @with_caller
    def swallowing(caller: Caller, value: int) -> int:
        with pytest.raises(GuestTrap):
            caller.call("trap")
        return value

    with made(aegis, module, swallowing) as sandbox:
        outcome = sandbox.run("host", 1)
        assert outcome.status in ("returned", "trap")
        assert sandbox.state == "poisoned"


def test_a_caller_outside_its_call_is_refused(aegis: Aegis, module: Module) -> None:
    kept: list[Caller] = []
    errors: list[BaseException] = []

    def use(caller: Caller) -> None:
        for attempt in (
            lambda: caller.read(0, 1),
            caller.memory_size,
            lambda: caller.call("nothing"),
            caller.remaining,
        ):
            try:
                attempt()
            except SandboxStateError as error:
                errors.append(error)

    @with_caller
    def keeping(caller: Caller, value: int) -> int:
        kept.append(caller)
        other = threading.Thread(target=use, args=(caller,))
        other.start()
        other.join(10)
        return value

    with made(aegis, module, keeping) as sandbox:
        assert sandbox.call("host", 1) == 1
        assert len(errors) == 4
        use(kept[0])
        assert len(errors) == 8
        assert sandbox.call("add", 1, 1) == 2
    use(kept[0])
    assert len(errors) == 12


def test_a_host_function_may_use_another_sandbox(aegis: Aegis, module: Module) -> None:
    with made(aegis, module, identity) as inner, made(aegis, module, lambda v: inner.call("add", v, 1)) as outer:
        assert outer.call("host", 41) == 42
        assert outer.call("host", 1) == 2


def test_a_host_function_that_does_not_return_is_left_behind() -> None:
    release, entered = threading.Event(), threading.Event()

    def stuck(value: int) -> int:
        entered.set()
        release.wait(30)
        return value

    aegis = Aegis(cache=False, pooled=False, timeout="100ms")
    sandbox = made(aegis, aegis.load_wat(TEXT), stuck)
    try:
        with pytest.raises(DeadlineExceeded, match=r"env\.f does not return"):
            sandbox.call("host", 1)
        assert entered.is_set()
        assert sandbox.state == "abandoned"
        with pytest.raises(SandboxStateError) as caught:
            sandbox.call("add", 1, 2)
        assert caught.value.state == "abandoned"
        sandbox.close()
        assert sandbox.state == "closed"
    finally:
        release.set()


def test_register_func_and_with_caller_work_together(aegis: Aegis, module: Module) -> None:
    sandbox = aegis.sandbox()
    sandbox.register_func("env", "f", with_caller(lambda caller, value: caller.memory_size() + value))
    with sandbox.load(module):
        assert sandbox.call("host", 1) == 65537


# -- asynchronous ---------------------------------------------------------------------------------


def test_acall_returns_raises_and_is_cancelled(aegis: Aegis, module: Module) -> None:
    async def main() -> None:
        with made(aegis, module, identity) as sandbox:
            assert await sandbox.acall("add", 1, 2) == 3
            with pytest.raises(CallError):
                await sandbox.acall("add", 1)
            with pytest.raises(GuestTrap):
                await sandbox.acall("trap")
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()

        def entering(value: int) -> int:
            loop.call_soon_threadsafe(entered.set)
            return value

        spins = aegis.load_wat(
            '(module (import "env" "f" (func $f (param i32) (result i32)))'
            ' (func (export "spin") i32.const 1 call $f drop (loop br 0)))'
        )
        with made(aegis, spins, entering) as sandbox:
            task = asyncio.create_task(sandbox.acall("spin"))
            await asyncio.wait_for(entered.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while sandbox.state == "ready":
                await asyncio.sleep(0)
            with pytest.raises(SandboxStateError, match="Cancelled"):
                sandbox.call("spin")

    asyncio.run(asyncio.wait_for(main(), 20))


# -- events and usage -----------------------------------------------------------------------------


def test_the_events_of_a_run_come_in_order() -> None:
    aegis = Aegis(cache=False, pooled=False, fuel=1_000_000)
    collected = CollectingSubscriber()
    module = aegis.load_wat(TEXT)
    with made(aegis, module, identity, subscribers=[collected]) as sandbox:
        sandbox.call("host", 5)
        sandbox.run("trap")
    kinds = [event.kind for event in collected.events]
    assert kinds[0] == "module_loaded"
    assert [k for k in kinds if k in ("execution_started", "host_function_called", "execution_completed", "error")] == [
        "execution_started", "host_function_called", "execution_completed",
        "execution_started", "error", "execution_completed",
    ]  # fmt: skip
    assert kinds.count("fuel_consumed") == 2
    assert [event.seq for event in collected.events] == list(range(1, len(kinds) + 1))
    assert len({event.run for event in collected.events}) == 1


def test_calls_within_a_call_are_not_executions_of_their_own(aegis: Aegis, module: Module) -> None:
    collected = CollectingSubscriber()
    nested = with_caller(lambda caller, value: caller.call("add", value, 1))
    with made(aegis, module, nested, subscribers=[collected]) as sandbox:
        assert sandbox.call("host", 1) == 2
    kinds = [event.kind for event in collected.events]
    assert kinds.count("execution_started") == kinds.count("execution_completed") == 1


def test_a_subscriber_that_raises_is_dropped_and_the_run_goes_on(aegis: Aegis, module: Module) -> None:
    collected = CollectingSubscriber()

    def raising(event: object) -> None:
        raise ValueError("no")

    with made(aegis, module, identity, subscribers=[raising, collected]) as sandbox:
        assert sandbox.call("host", 5) == 5
        assert [type(f.error) for f in sandbox.events.failures] == [ValueError]
    assert collected.events[-1].kind == "execution_completed"


def test_usage_has_the_figures_of_one_call_and_of_all_calls() -> None:
    aegis = Aegis(cache=False, pooled=False, fuel=1_000_000)
    module = aegis.load_wat(TEXT)

    @with_caller
    def reading(caller: Caller, value: int) -> int:
        caller.write(0, caller.read(16, 5) + b"!")
        return value

    with made(aegis, module, reading, measured=True) as sandbox:
        first = sandbox.run("host", 5).usage
        assert (first.host_calls, first.bytes_in, first.bytes_out, first.denials) == (1, 5, 6, 0)
        assert first.fuel is not None
        assert 0 < first.fuel < 100
        assert first.host_seconds is not None
        assert 0 < first.host_seconds <= first.seconds
        assert first.peak_memory == 65536
        sandbox.run("grow", 2)
        sandbox.call("host", 5)
        total = sandbox.usage
        assert (total.host_calls, total.bytes_in, total.bytes_out) == (2, 10, 12)
        assert total.peak_memory == 3 * 65536
        assert sandbox.run("nothing").usage.host_calls == 0
    assert sandbox.usage.peak_memory == 3 * 65536, "what was used is known after the end"


def test_output_is_captured_and_counted(aegis: Aegis) -> None:
    with aegis.sandbox(aegis.load_wat(WRITES), stdio=StdioCapability(stdout="capture", stderr="capture")) as sandbox:
        outcome = sandbox.run("say", 1)
        assert (outcome.value, outcome.stdout, outcome.stderr) == (0, b"hi\n", b"")
        assert sandbox.run("say", 2).stderr == b"hi\n"
        assert (sandbox.usage.stdout, sandbox.usage.stderr) == (3, 3)
    assert sandbox.stdout == b"hi\n"


def test_a_cancelled_call_is_reported_as_cancelled(aegis: Aegis, module: Module) -> None:
    def cancelling(value: int) -> int:
        sandbox.cancel()
        return value

    spins = aegis.load_wat(
        '(module (import "env" "f" (func $f (param i32) (result i32)))'
        ' (func (export "spin") i32.const 1 call $f drop (loop br 0)))'
    )
    with made(aegis, spins, cancelling) as sandbox:
        with pytest.raises(Cancelled):
            sandbox.call("spin")
        assert sandbox.state == "poisoned"


class Interrupted(list[None]):
    """A token: after it is taken, a signal handler may raise."""

    raises = False

    def pop(self, *at: Any) -> None:
        super().pop(*at)
        if self.raises:
            raise KeyboardInterrupt


@pytest.mark.parametrize("bound", [True, False], ids=["as a call begins", "as a function is bound"])
def test_a_signal_as_the_guest_is_taken_leaves_it_free(bound: bool) -> None:
    runtime = Aegis(cache=False)
    with runtime.sandbox(runtime.load_wat('(module (func (export "f") (result i32) (i32.const 5)))')) as sandbox:
        store: Any = sandbox._run.store
        token = store.token = Interrupted(store.token)
        if bound:
            assert sandbox.call("f") == 5
        token.raises = True
        with pytest.raises(KeyboardInterrupt):
            sandbox.call("f")
        assert token == [None]
        token.raises = False
        sandbox.reset()
        assert sandbox.call("f") == 5
