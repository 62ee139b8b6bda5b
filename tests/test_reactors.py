"""A WASI reactor's ``_initialize`` runs exactly once, before the first export, wherever the guest runs.

The oracle is the application ABI of WASI preview 1: "called exactly once … before any other exports are accessed". The
guests count the calls of ``_initialize`` in a global, and trap at a second one.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aegis
from aegis.errors import CallError, DeadlineExceeded, ExportNotFound, GuestExit, GuestTrap, OutOfFuel
from aegis.observe import CollectingSubscriber, ExecutionCompleted
from tests.cli.command import ROOT
from tests.cli.command import aegis as command

REACTOR = """
(module (global $n (export "count") (mut i32) (i32.const 0)) (memory (export "memory") 1)
  (func (export "_initialize")
    (if (global.get $n) (then unreachable))
    (global.set $n (i32.add (global.get $n) (i32.const 1))))
  (func (export "f") (result i32) (global.get $n))
  (func (export "add") (param i32) (result i32) (i32.add (local.get 0) (global.get $n))))
"""
ISOLATED = pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux"))


@pytest.fixture(scope="module", params=[False, ISOLATED], ids=["in process", "isolated"])
def runtime(request: pytest.FixtureRequest) -> Iterator[aegis.Aegis]:
    with aegis.Aegis(isolation=request.param, cache=False, timeout="20s", fuel="1e6") as made:
        yield made


def sandbox(runtime: aegis.Aegis, text: str = REACTOR, **options: Any) -> aegis.Sandbox:
    return runtime.sandbox(runtime.load_wat(text), **options)


def test_the_first_call_initialises_the_reactor_and_later_calls_do_not(runtime: aegis.Aegis) -> None:
    with sandbox(runtime) as guest:
        assert [guest.call("f"), guest.call("add", 1), guest.run("f").value] == [1, 2, 1]


@pytest.mark.parametrize("how", ["run", "acall", "columns", "void"])
def test_every_way_of_calling_initialises_first(runtime: aegis.Aegis, how: str) -> None:
    with sandbox(runtime) as guest:
        if how == "run":
            assert guest.run("f").returned(1)
        elif how == "acall":
            assert asyncio.run(guest.acall("f")) == 1
        elif how == "columns":
            assert guest.call_many("add", [array("i", [1, 2])]) == array("i", [2, 3])
        else:
            guest.call_void("f")
        assert guest.globals["count"] == 1


def test_an_embedder_may_initialise_the_reactor_itself(runtime: aegis.Aegis) -> None:
    with sandbox(runtime) as guest:
        guest.call("_initialize")
        assert guest.call("f") == 1


def test_a_reset_guest_is_initialised_again(runtime: aegis.Aegis) -> None:
    with sandbox(runtime) as guest:
        assert guest.call("f") == 1
        guest.reset()
        assert guest.call("f") == 1


def test_a_call_that_cannot_be_made_runs_nothing(runtime: aegis.Aegis) -> None:
    with sandbox(runtime) as guest:
        with pytest.raises(ExportNotFound):
            guest.call("g")
        assert guest.globals["count"] == 0
        with pytest.raises(CallError):
            guest.call("f", 1)
        assert guest.call("f") == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [("unreachable", GuestTrap), ("(loop (br 0))", OutOfFuel), ("(call $exit (i32.const 3))", GuestExit)],
)
def test_a_failing_initialisation_is_the_outcome_of_the_call(runtime: aegis.Aegis, body: str, kind: type) -> None:
    text = f"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (func (export "_initialize") {body}) (func (export "f")))"""
    with sandbox(runtime, text) as guest:
        outcome = guest.run("f")
        assert isinstance(outcome.error, kind)
        assert guest.state == "poisoned"


def test_one_outcome_has_the_usage_of_both_calls(runtime: aegis.Aegis) -> None:
    text = """(module (func (export "_initialize") (local $i i32)
        (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000)))))
      (func (export "f")))"""
    with sandbox(runtime, text) as guest:
        first, second = guest.run("f").usage.fuel, guest.run("f").usage.fuel
    assert first is not None
    assert second is not None
    assert first - second > 1000


def test_the_initialisation_is_an_observed_call_of_its_own(runtime: aegis.Aegis) -> None:
    events = CollectingSubscriber()
    with sandbox(runtime, subscribers=[events]) as guest:
        assert guest.call("f") == 1
    assert [event.function for event in events.of(ExecutionCompleted)] == ["_initialize", "f"]


def test_a_host_function_that_calls_back_during_the_initialisation_does_not_start_another() -> None:
    runtime = aegis.Aegis(cache=False)
    text = """(module (import "env" "back" (func $back)) (global $n (export "count") (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $n (i32.add (global.get $n) (i32.const 1))) (call $back))
      (func (export "f") (result i32) (global.get $n)))"""
    seen = []
    guest = runtime.sandbox()
    guest.register_func("env", "back", lambda: seen.append(guest.call("f")))
    with guest.load(runtime.load_wat(text)):
        assert guest.call("f") == 1
    assert seen == [1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('(module (func (export "_initialize") (param i32) unreachable)'
         ' (func (export "f") (result i32) i32.const 7))', 7),
        ('(module (func (export "_initialize") unreachable) (func (export "_start"))'
         ' (func (export "f") (result i32) i32.const 7))', 7),
        ('(module (global (export "_initialize") i32 (i32.const 1)) (func (export "f") (result i32) i32.const 7))', 7),
    ],
    ids=["with a parameter", "a command", "a global"],
)  # fmt: skip
def test_a_module_that_is_no_reactor_is_called_as_it_is(runtime: aegis.Aegis, text: str, value: int) -> None:
    with sandbox(runtime, text) as guest:
        assert guest.call("f") == value


def test_an_endless_initialisation_ends_at_the_deadline() -> None:
    runtime = aegis.Aegis(cache=False, timeout="100ms")
    text = '(module (func (export "_initialize") (loop (br 0))) (func (export "f")))'
    with sandbox(runtime, text) as guest, pytest.raises(DeadlineExceeded):
        guest.call("f")


def test_the_command_and_the_function_run_agree_with_the_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "reactor.wat"
    path.write_text(REACTOR)
    done = command("run", "-e", "f", path)
    assert (done.code, done.out) == (0, "1\n")
    assert aegis.run(path, function="f").value == 1
    assert command("run", "-e", "_initialize", path).code == 0
    bad = tmp_path / "bad.wat"
    bad.write_text(REACTOR.replace("(if (global.get $n) (then unreachable))", "unreachable"))
    failed = command("-f", "json", "run", "-e", "f", bad, cwd=ROOT).document
    assert (failed["status"], failed["exit_code"], failed["function"]) == ("trap", 134, "f")
