"""Import stubs answer by a plan; with ``hostile``, the plan also injects faults into host functions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, Err, HostCall
from aegis.fuzz.case import Case, Step
from aegis.fuzz.stubs import NOTABLE, ImportStubs, random_answers
from aegis.fuzz.target import Target
from aegis.wit.types import Function, List
from tests.guests.catalogue import built, source
from tests.isolation.isolated import PLACES, only_where_there_are_workers, shared

RUNTIME = Aegis(cache=False)
in_both_places = pytest.mark.parametrize(
    "place", [PLACES[0], pytest.param(PLACES[1], marks=only_where_there_are_workers)]
)
HANDLES = """(component
  (import "acme:kv/store@0.1.0" (instance $store
    (export "bucket" (type $bucket (sub resource)))
    (export "[constructor]bucket" (func (param "name" string) (result (own $bucket))))
    (export "[method]bucket.count" (func (param "self" (borrow $bucket)) (result u32)))
    (export "find" (func (param "n" u32) (result (option (own $bucket)))))))
  (core module $memory (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (core func $new (canon lower (func $store "[constructor]bucket") (memory (core memory $memory "memory"))))
  (core func $count (canon lower (func $store "[method]bucket.count")))
  (core func $find (canon lower (func $store "find") (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (param i32 i32) (result i32)))
    (import "" "count" (func $count (param i32) (result i32)))
    (import "" "find" (func $find (param i32 i32)))
    (func (export "made") (result i32) (call $count (call $new (i32.const 0) (i32.const 0))))
    (func (export "found") (result i32) (call $find (i32.const 7) (i32.const 16))
      (if (result i32) (i32.load8_u (i32.const 16))
        (then (call $count (i32.load (i32.const 20)))) (else (i32.const -1)))))
  (core instance $m (instantiate $m (with "" (instance (export "memory" (memory $memory "memory"))
    (export "new" (func $new)) (export "count" (func $count)) (export "find" (func $find))))))
  (func (export "made") (result u32) (canon lift (core func $m "made")))
  (func (export "found") (result u32) (canon lift (core func $m "found"))))"""


def _call(target: Target, name: str, *plan: int) -> Any:
    return target.run(Case((Step(name, ()),), plan)).results[-1]


# -- what nobody provides ----------------------------------------------------------------------------------


def test_a_plan_selects_the_answers_of_imports_and_its_last_number_is_repeated() -> None:
    """Oracle: equal numbers select equal answers, and 0 selects the simplest one."""
    target = Target(RUNTIME, RUNTIME.load_file(source("buggy/unchecked-host")))
    assert _call_price(target, ()).value == _call_price(target, (0,)).value
    assert target.answered(Case((Step("price", (3,)),) * 3, (1, 0))) == [
        "get -> err(0)",
    ]  # the first answer ends the test case
    reported = target.answered(Case((Step("price", (3,)),) * 3, (0,)))
    assert reported == ["get -> ok(0)"] * 3


def _call_price(target: Target, plan: tuple[int, ...]) -> Any:
    return target.run(Case((Step("price", (3,)),), plan)).results[-1]


def test_resources_that_a_host_gives_answer_their_methods_too() -> None:
    target = Target(RUNTIME, RUNTIME.load_wat(HANDLES))
    assert _call(target, "made", 0).value == 0
    assert {_call(target, "made", n).value for n in range(1, 8)} - {0}
    assert _call(target, "found", 0).value == 2**32 - 1
    assert any(_call(target, "found", n, 0).value == 0 for n in range(1, 8))


def test_a_result_inside_a_result_is_answered_as_it_is() -> None:
    """Oracle: every number selects an answer of the function's type, so the run never ends in a host error."""
    text = """(component
      (import "acme:deep/host@0.1.0" (instance $host
        (export "ask" (func (result (result (result u8 (error u8)) (error u16)))))))
      (core module $memory (memory (export "memory") 1))
      (core instance $memory (instantiate $memory))
      (core func $ask (canon lower (func $host "ask") (memory (core memory $memory "memory"))))
      (core module $m (import "" "ask" (func $ask (param i32))) (func (export "f") (call $ask (i32.const 16))))
      (core instance $m (instantiate $m (with "" (instance (export "ask" (func $ask))))))
      (func (export "f") (canon lift (core func $m "f"))))"""
    target = Target(RUNTIME, RUNTIME.load_wat(text))
    assert {_call(target, "f", n).status for n in range(80)} == {"returned"}


def test_a_resource_of_wasis_own_is_nothing_that_can_be_made_up() -> None:
    text = """(component
      (import "wasi:io/poll@0.2.3" (instance $poll (export "pollable" (type (sub resource)))))
      (alias export $poll "pollable" (type $pollable))
      (import "acme:timers/timers@0.1.0" (instance $timers
        (alias outer 1 $pollable (type $p)) (export "pollable" (type $own (eq $p)))
        (export "soon" (func (result (own $own))))))
      (core func $soon (canon lower (func $timers "soon")))
      (core module $m (import "" "soon" (func $soon (result i32))) (func (export "f") (drop (call $soon))))
      (core instance $m (instantiate $m (with "" (instance (export "soon" (func $soon))))))
      (func (export "f") (canon lift (core func $m "f"))))"""
    result = _call(Target(RUNTIME, RUNTIME.load_wat(text)), "f", 0)
    assert (result.status, result.error.code) == ("trap", "missing-import")


def test_low_numbers_are_the_notable_answers_of_a_type() -> None:
    target = Target(RUNTIME, RUNTIME.load_file(source("shop")))
    reported = {target.answered(Case((Step("total", (["x"],)),), (n,)))[0] for n in range(12)}
    assert {"acme:shop/prices@1.2.0#get -> err(unknown)"} < reported
    assert len(reported) > 6


@pytest.mark.parametrize("hostile", [False, True])
def test_plans_at_random_are_short_and_mostly_end_in_peace(hostile: bool) -> None:
    rng = random.Random(3)
    plans = [random_answers(rng, hostile=hostile) for _ in range(400)]
    assert all(1 <= len(plan) <= 32 for plan in plans)
    assert any(0 < number < NOTABLE for plan in plans for number in plan)
    assert any(number >= NOTABLE for plan in plans for number in plan)
    if hostile:
        assert sum(plan[-1] == 0 for plan in plans) > 250


# -- faults of the host's own ----------------------------------------------------------------------------------


@in_both_places
def test_a_fault_is_answered_in_the_place_of_the_hosts_own_function(place: str) -> None:
    asked: list[tuple[str, str]] = []

    def fails(call: HostCall) -> Any:
        asked.append((call.interface.partition("@")[0], call.function))
        if call.function == "create-tcp-socket":
            raise Err(call.type.result.err.python.NEW_SOCKET_LIMIT)
        return call.answer()

    runtime = shared(place)
    with runtime.sandbox(runtime.load_file(source("buggy/denied-socket")), answer=fails) as sandbox:
        assert sandbox.call("reaches", 80) is False
    assert asked == [("wasi:sockets/tcp-create-socket", "create-tcp-socket")]


@in_both_places
def test_methods_of_the_hosts_resources_are_asked_for_too(place: str) -> None:
    def observed(call: HostCall) -> Any:
        asked.append(call.function)
        return call.answer()

    asked: list[str] = []
    runtime = shared(place)
    with runtime.sandbox(runtime.load_file(source("buggy/denied-socket")), answer=observed) as sandbox:
        sandbox.run("reaches", 80)
    assert "[method]tcp-socket.start-connect" in asked


@in_both_places
def test_core_modules_have_their_preview1_calls_answered_too(place: str) -> None:
    """Oracle: without a fault the module writes its text; with one it gets errno 29 and writes nothing."""
    runtime = shared(place)
    artifact = runtime.load_file(source("hello"))
    for code, written in ((None, b"hello"), (29, b"")):

        def fails(call: HostCall, code: int | None = code) -> Any:
            return call.answer() if code is None else code

        with runtime.sandbox(artifact, answer=fails) as sandbox:
            sandbox.run("_start")
            assert sandbox.stdout.startswith(written)
            assert bool(sandbox.stdout) == bool(written)


@in_both_places
def test_the_result_of_a_fault_is_checked_like_that_of_any_host_function(place: str) -> None:
    runtime = shared(place)
    for name, export in (("buggy/denied-socket", "reaches"), ("hello", "_start")):
        with runtime.sandbox(runtime.load_file(source(name)), answer=lambda _: "nonsense") as sandbox:
            outcome = sandbox.run(export, *((80,) if export == "reaches" else ()))
        assert outcome.status == "host-error"
        assert "invalid result" in str(outcome.error)


@in_both_places
def test_a_plan_of_faults_ends_a_case_alike_in_both_places(place: str) -> None:
    """Oracle: the plan selects the answers, so the answers and the ends are those of a guest in process."""
    for name, step in (("buggy/denied-socket", Step("reaches", (80,))), ("hello", Step("_start", ((), b"")))):
        ends = []
        for runtime in (shared("in-process"), shared(place)):
            target = Target(runtime, runtime.load_file(source(name)), hostile=True)
            log: list[str] = []
            for number in (0, 1, 3, 200):
                result = target.run(Case((step,), (number,)), log=log).results[-1]
                ends.append((number, result.status, result.value))
            assert log
            ends.append(log)  # type: ignore[arg-type]
        assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]


def test_a_hostile_host_makes_a_program_meet_errors_that_it_never_met() -> None:
    """Oracle: every fault is a value of the function's type, and the plan 0 is the host's real behaviour."""
    target = Target(RUNTIME, RUNTIME.load_file(built("cat-component")), hostile=True)
    program = next(iter(target.exports))
    step = Step(program, (["-"], b"text"))
    plain = target.run(Case((step,), (0,))).results[-1]
    assert plain.status in ("returned", "exited")
    statuses = set()
    reported: list[str] = []
    rng = random.Random(1)
    for _ in range(60):
        case = Case((step,), random_answers(rng, hostile=True))
        statuses.add(target.run(case, log=reported).results[-1].status)
        assert not {"host-error", "internal-error"} & statuses
    assert any("err(" in line for line in reported)


@in_both_places
def test_a_hostile_host_ends_the_streams_of_wasi_0_3_early_and_its_futures_with_errors(place: str) -> None:
    """Oracle: a program that copies its input ends as documented, and gets streams and errors that the host made."""
    target = Target(shared(place), shared(place).load_file(built("cat-async")), hostile=True)
    rng = random.Random(3)
    log: list[str] = []
    seen = set()
    for _ in range(25):
        case = Case((Step("wasi:cli/run@0.3.0#run", ([], b"text" * 100)),), random_answers(rng, hostile=True))
        (result,) = target.run(case, log=log).results
        seen.add(result.status)
        assert result.error is None or result.status in ("exited", "trap"), result.error
    assert "returned" in seen or "exited" in seen
    answers = {line.partition(" -> ")[0]: line.partition(" -> ")[2] for line in log}
    assert answers["wasi:cli/stdin@0.3.0#read-via-stream"].startswith("([")
    assert answers["wasi:cli/stdout@0.3.0#write-via-stream"].startswith("err(")


def test_a_hostile_host_keeps_the_specification_of_interfaces() -> None:
    """Oracle: ``poll`` is always the host's own, because a fake answer would name pollables that are not ready."""
    stubs = ImportStubs(RUNTIME.load_file(built("cat-component")), hostile=True)
    stubs.plan([5])
    step = stubs.step
    assert step is not None
    polled = Function((("in", List("u32")),), List("u32"))
    assert step(HostCall("wasi:io/poll@0.2.6", "poll", polled, (), lambda: [0])) == [0]
    assert step(HostCall("wasi:cli/environment@0.2.6", "get-arguments", polled, (), lambda: [0])) != [0]


# -- programs ----------------------------------------------------------------------------------------------------


def test_a_program_is_given_arguments_and_input(tmp_path: Path) -> None:
    text = """(module
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "_start") (drop (call $sizes (i32.const 0) (i32.const 4)))
        (if (i32.eq (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))))"""
    target = Target(RUNTIME, RUNTIME.load_wat(text))
    assert target.exports["_start"].program
    for words, status in ((["a"], "returned"), (["a", "b"], "trap")):
        assert target.run(Case((Step("_start", (words, b"")),))).results[-1].status == status


def test_toolchain_exports_are_omitted_unless_they_are_named() -> None:
    text = """(module (func (export "cabi_realloc") (param i32) (result i32) (local.get 0))
      (func (export "__wasm_call_ctors")) (func (export "f")))"""
    artifact = RUNTIME.load_wat(text)
    usual = Target(RUNTIME, artifact)
    assert set(usual.exports) == {"f"}
    assert set(usual.left_out) == {"cabi_realloc", "__wasm_call_ctors"}
    assert set(Target(RUNTIME, artifact, functions=("*",)).exports) == {"f", "cabi_realloc", "__wasm_call_ctors"}
    assert set(Target(RUNTIME, artifact, functions=("cabi_realloc",)).exports) == {"cabi_realloc"}


def test_a_reactor_is_initialised_before_its_functions_are_called() -> None:
    text = """(module (global $ready (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $ready (i32.const 1)))
      (func (export "f") (if (i32.eqz (global.get $ready)) (then unreachable))))"""
    target = Target(RUNTIME, RUNTIME.load_wat(text))
    assert target.run(Case((Step("f", ()),))).results[-1].status == "returned"
