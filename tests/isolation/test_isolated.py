"""A core module behaves isolated as in process: one table of tests, run in both places."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aegis import (
    Aegis,
    Caller,
    CallError,
    CollectingSubscriber,
    EnvironmentCapability,
    ExportNotFound,
    GuestExit,
    GuestTrap,
    HostError,
    LinkError,
    OutOfFuel,
    Sandbox,
    SandboxStateError,
    StdioCapability,
    with_caller,
)
from tests.guests.catalogue import built, source
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime, shared
from tests.test_sandbox import EXITS, TEXT

pytestmark = only_where_there_are_workers
BIG = """(module (memory (export "memory") 512)
  (func (export "at") (param i32) (result i32) (i32.load8_u (local.get 0))))"""


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def aegis(place: str) -> Aegis:
    return shared(place)


def double(value: int) -> int:
    return 2 * value


def made(aegis: Aegis, function: Callable[..., Any] = double, **options: Any) -> Sandbox:
    return aegis.sandbox(aegis.load_wat(TEXT), imports={"env": {"f": function}}, **options)


@pytest.fixture
def sandbox(aegis: Aegis) -> Iterator[Sandbox]:
    with made(aegis) as box:
        yield box


# -- calls ----------------------------------------------------------------------------------------


def test_values_of_every_core_type_come_back(sandbox: Sandbox) -> None:
    assert sandbox.call("add", 2, 3) == 5
    assert sandbox.call("add", 0xFFFF_FFFF, 0) == -1
    assert sandbox.call("same64", (1 << 64) - 2) == -2
    assert sandbox.call("samef", 0.5, -math.inf) == (0.5, -math.inf)
    assert math.isnan(sandbox.call("samef", math.nan, 0)[0])
    assert math.copysign(1, sandbox.call("samef", -0.0, 0)[0]) == -1
    assert sandbox.call("nothing") is None
    assert sandbox.call("host", 21) == 42


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add", (1,)),
        ("add", (1, 2, 3)),
        ("add", ("1", 2)),
        ("add", (1 << 32, 0)),
        ("samef", (1.0, 10**400)),
        ("no", ()),
    ],
)
def test_a_value_that_does_not_fit_is_the_same_error_in_both_places(name: str, arguments: tuple[Any, ...]) -> None:
    errors = []
    for place in PLACES:
        with made(shared(place)) as box:
            with pytest.raises((CallError, ExportNotFound)) as caught:
                box.call(name, *arguments)
            errors.append((type(caught.value), str(caught.value)))
            assert box.call("add", 1, 1) == 2
    assert errors[0] == errors[1]


@pytest.mark.parametrize("answer", [None, "text", 1 << 40, 1.5, (1, 2), object()], ids=lambda a: type(a).__name__)
def test_a_host_function_that_breaks_its_type_is_the_same_error_in_both_places(answer: Any) -> None:
    errors = []
    for place in PLACES:
        with made(shared(place), lambda _: answer) as box, pytest.raises(HostError) as caught:
            box.call("host", 1)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_globals_are_read_and_set(sandbox: Sandbox) -> None:
    assert sandbox.globals["count"] == 7
    sandbox.globals["count"] = 41
    sandbox.call("bump")
    assert (sandbox.globals["count"], sandbox.globals["wide"], sandbox.globals["pi"]) == (42, -1, 3.25)
    with pytest.raises(CallError):
        sandbox.globals["pi"] = 3
    with pytest.raises(KeyError):
        sandbox.globals["none"]


def test_memory_is_read_and_written_by_copies(sandbox: Sandbox) -> None:
    memory = sandbox.memory
    assert (memory.size, memory.read(16, 5)) == (65536, b"hello")
    memory.write(16, b"HE")
    assert memory.read(16, 5) == b"HEllo"
    for offset, length in ((65536, 1), (65535, 2), (-1, 1), (1 << 40, 1)):
        with pytest.raises(ValueError, match="do not lie within"):
            memory.read(offset, length)
    assert sandbox.call("grow", 1) == 1
    assert memory.size == 131072


def test_more_than_sixteen_mebibytes_go_in_and_come_out(aegis: Aegis) -> None:
    data = bytes(range(251)) * (20 * 1024 * 1024 // 251)
    with aegis.sandbox(aegis.load_wat(BIG)) as box:
        box.memory.write(3, data)
        assert box.memory.read(3, len(data)) == data
        assert box.call("at", 3 + len(data) - 1) == data[-1]


def test_a_trap_poisons_until_reset_and_says_where(sandbox: Sandbox) -> None:
    sandbox.call("bump")
    with pytest.raises(GuestTrap) as caught:
        sandbox.call("trap")
    assert (caught.value.code, bool(caught.value.frames)) == ("unreachable", True)
    with pytest.raises(SandboxStateError):
        sandbox.call("add", 1, 2)
    assert sandbox.globals["count"] == 8
    assert sandbox.memory.read(16, 5) == b"hello"
    sandbox.reset()
    assert sandbox.globals["count"] == 7


@pytest.mark.parametrize("code", [0, 3, 256])
def test_an_exit_is_the_same_outcome_in_both_places(code: int) -> None:
    ends = []
    for place in PLACES:
        with shared(place).sandbox(shared(place).load_wat(EXITS)) as box:
            end = box.run("leave", code)
            ends.append((end.status, end.exit_code, end.ok))
            box.reset()
            with pytest.raises(GuestExit):
                box.call("leave", code)
    assert ends[0] == ends[1]


def test_a_missing_import_is_listed_before_anything_runs(aegis: Aegis) -> None:
    with pytest.raises(LinkError, match=r"env\.f"):
        aegis.sandbox(aegis.load_wat(TEXT))


# -- host functions -------------------------------------------------------------------------------


def test_an_exception_of_a_host_function_is_the_cause_in_its_own_sandbox_only(aegis: Aegis) -> None:
    class Boom(Exception):
        pass

    def boom(value: int) -> int:
        raise Boom(value)

    with made(aegis, boom) as box:
        outcome = box.run("host", 5)
        assert outcome.status == "host-error"
        assert isinstance(outcome.error, HostError)
        assert isinstance(outcome.error.__cause__, Boom)
        assert outcome.error.__cause__.args == (5,)
        assert outcome.error.__cause__.__traceback__ is not None


def test_a_host_function_calls_back_into_the_sandbox_and_reads_its_memory(aegis: Aegis) -> None:
    @with_caller
    def f(caller: Caller, value: int) -> int:
        text = caller.read(16, 5)
        caller.write(32, text.upper())
        return int(box.call("add", value, len(text))) if value else 0

    with made(aegis, f) as box:
        assert box.call("host", 10) == 15
        assert box.memory.read(32, 5) == b"HELLO"
        assert box.call("host", 0) == 0


def test_a_trap_inside_a_call_back_reaches_the_host_function(aegis: Aegis) -> None:
    caught: list[BaseException] = []

    def f(value: int) -> int:
        try:
            box.call("trap")
        except GuestTrap as trap:
            caught.append(trap)
            raise
        return value

    with made(aegis, f) as box:
        outcome = box.run("host", 1)
    assert len(caught) == 1
    assert not outcome.ok


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exceptions_that_end_the_interpreter_propagate_unchanged(aegis: Aegis, error: BaseException) -> None:
    def leave(value: int) -> int:
        raise error

    with made(aegis, leave) as box, pytest.raises(type(error)):
        box.call("host", 1)


def test_an_asynchronous_host_function_is_awaited_on_the_loop(aegis: Aegis) -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    async def main() -> list[int]:
        with made(aegis, later) as one, made(aegis, later) as two:
            return list(await asyncio.gather(one.acall("host", 1), two.acall("host", 2)))

    assert asyncio.run(main()) == [2, 3]


# -- streams, arguments, environment --------------------------------------------------------------


def test_standard_streams_arguments_and_environment(place: str) -> None:
    made = runtime(place)
    with made.sandbox(
        made.load_file(built("cat")), args=("cat", "-", "none"), stdio=StdioCapability(stdin=b"given\n")
    ) as box:
        outcome = box.run("_start")
    assert outcome.stdout == b"given\n"
    assert b"none" in outcome.stderr
    assert outcome.exit_code == 1


ENVIRONMENT = """(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "size") (result i32)
    (drop (call $sizes (i32.const 0) (i32.const 4))) (drop (call $get (i32.const 64) (i32.const 1024)))
    (i32.load (i32.const 4))))"""


def test_only_granted_environment_variables_exist(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_TEST_PASSED", "yes")
    monkeypatch.setenv("AEGIS_TEST_SECRET", "swordfish")
    granted = EnvironmentCapability(set={"TZ": "UTC"}, pass_=("AEGIS_TEST_PASSED",))
    for policy, expected in (({}, b""), ({"environment": granted}, b"TZ=UTC\0AEGIS_TEST_PASSED=yes\0")):
        made = runtime(place, **policy)
        with made.sandbox(made.load_wat(ENVIRONMENT)) as box:
            size = box.call("size")
            assert sorted(box.memory.read(1024, size).split(b"\0")) == sorted(expected.split(b"\0"))


# -- outcomes and events --------------------------------------------------------------------------


def test_an_outcome_counts_the_same_in_both_places() -> None:
    counted = []
    for place in PLACES:
        with made(runtime(place, fuel=100_000)) as box:
            box.call("grow", 2)
            usage = box.run("host", 1).usage
            counted.append((usage.fuel, usage.host_calls, usage.peak_memory, usage.denials, usage.bytes_in))
    assert counted[0] == counted[1]
    assert counted[0][0] > 0
    assert counted[0][1:3] == (1, 3 * 65536)


def test_fuel_runs_out_after_the_same_amount(place: str) -> None:
    aegis = runtime(place, fuel=100_000)
    with made(aegis) as box, pytest.raises(OutOfFuel) as caught:
        box.call("spin")
    assert caught.value.allowed == 100_000


def observed(place: str, name: str, arguments: tuple[Any, ...], **options: Any) -> list[Any]:
    """Return the observed events of one call, without the fields that differ from run to run."""
    seen = CollectingSubscriber()
    aegis = runtime(place, **options)
    with aegis.sandbox(aegis.load_wat(TEXT), imports={"env": {"f": double}}, subscribers=[seen]) as box:
        box.run(name, *arguments)
    assert [event.seq for event in seen.events] == sorted(event.seq for event in seen.events)
    assert len({event.run for event in seen.events}) == 1
    return [(event.kind, getattr(event, "name", None), getattr(event, "status", None), getattr(event, "fuel", None))
            for event in seen.events]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), [("host", (1,)), ("grow", (3,)), ("trap", ()), ("add", (1, 2))])
def test_the_same_events_come_in_the_same_order(name: str, arguments: tuple[Any, ...]) -> None:
    assert observed("isolated", name, arguments) == observed("in-process", name, arguments)


def test_denials_are_counted_and_reported_in_order() -> None:
    decisions = []
    for place in PLACES:
        seen = CollectingSubscriber()
        aegis = runtime(place)
        with aegis.sandbox(aegis.load_file(source("hostile/escape-absolute")), subscribers=[seen], args=("g",)) as box:
            outcome = box.run("_start")
        decisions.append((outcome.status, outcome.usage.denials, [event.kind for event in seen.events]))
    assert decisions[0] == decisions[1]
