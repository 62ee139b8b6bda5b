"""``HostFunctionCalled`` is ok if and only if the guest received the result; otherwise its error is the run's.

Oracle: the guest counts the results that it received, and the outcome has the kind of the error that ended the run.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from aegis.errors import AegisError
from aegis.observe.events import HostFunctionCalled
from aegis.sandbox.sandbox import Sandbox
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime
from tests.test_deadlines import COMPONENT, Api

CORE = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "go") (param i32) (result i32) (call $f (local.get 0))))"""
PAIR = """(module (import "env" "f" (func $f (param i32) (result i32 i32)))
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)) i32.add))"""
NONE = """(module (import "env" "f" (func $f (param i32)))
  (func (export "go") (param i32) (call $f (local.get 0))))"""
EXIT = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (call $exit (local.get 0))))"""
KINDS = {"core": CORE, "pair": PAIR, "none": NONE, "component": COMPONENT}

pytestmark = [only_where_there_are_workers, pytest.mark.parametrize("place", PLACES)]


def opened(place: str, kind: str, f: Callable[[Sandbox, int], Any]) -> tuple[Sandbox, list[HostFunctionCalled]]:
    """Return a sandbox whose host function is ``f``, and the list that receives the events of its host calls."""
    seen: list[HostFunctionCalled] = []

    def keep(event: Any) -> None:
        if isinstance(event, HostFunctionCalled):
            seen.append(event)

    def function(x: int) -> Any:
        return f(sandbox, x)

    made = runtime(place, fuel=None)
    imports: Any = {"env": {"f": function}} if kind != "component" else {"test:api/api": Api(function)}
    sandbox = made.sandbox(made.load_wat(KINDS[kind]), imports=imports, subscribers=[keep])
    return sandbox, seen


def calls(place: str, kind: str, f: Callable[[Sandbox, int], Any]) -> tuple[str, list[HostFunctionCalled]]:
    """Call the guest; return how the run ended, and the events of its host calls."""
    sandbox, seen = opened(place, kind, f)
    with sandbox:
        return sandbox.run("go", 7).status, seen


async def awaited(place: str, kind: str, f: Callable[[Sandbox], Any]) -> tuple[str, list[HostFunctionCalled]]:
    """Call the guest from a coroutine, whose loop runs the coroutines that ``f`` returns."""
    sandbox, seen = opened(place, kind, lambda sandbox, _: f(sandbox))
    with sandbox, pytest.raises(AegisError) as caught:
        await sandbox.acall("go", 7)
    return caught.value.kind, seen


@pytest.mark.parametrize(("kind", "result"), [("core", 7), ("pair", (3, 4)), ("none", None), ("component", 7)])
def test_a_result_that_the_guest_received_is_ok(place: str, kind: str, result: Any) -> None:
    status, (event,) = calls(place, kind, lambda _, x: result)
    assert (status, event.ok, event.error) == ("returned", True, None)


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("core", "x"), ("core", None), ("core", 1 << 40), ("pair", 5), ("pair", (1,)), ("pair", (1, "x")), ("none", 1),
        ("component", "x"), ("component", None), ("component", 1 << 40),
    ],
)  # fmt: skip
def test_a_result_of_another_type_is_not_ok(place: str, kind: str, result: Any) -> None:
    status, (event,) = calls(place, kind, lambda _, x: result)
    assert (status, event.ok, event.error) == ("host-error", False, "host-error")


def _late(sandbox: Sandbox, result: Any) -> Any:
    sandbox._run.door.deadline = -math.inf
    return result


@pytest.mark.parametrize(("kind", "result"), [("core", 7), ("pair", (3, 4)), ("none", None), ("component", 7)])
def test_a_result_after_the_deadline_is_not_ok(place: str, kind: str, result: Any) -> None:
    status, events = calls(place, kind, lambda sandbox, x: _late(sandbox, result))
    assert status == "timeout"
    assert [(event.ok, event.error) for event in events] == [(False, "timeout")]


@pytest.mark.parametrize("kind", ["core", "component"])
def test_an_awaited_result_after_the_deadline_is_not_ok(place: str, kind: str) -> None:
    async def later(sandbox: Sandbox) -> Any:
        return _late(sandbox, 7)

    status, events = asyncio.run(awaited(place, kind, later))
    assert status == "timeout"
    assert [(event.ok, event.error) for event in events] == [(False, "timeout")]


@pytest.mark.parametrize("kind", ["core", "component"])
def test_a_result_after_a_cancellation_is_not_ok(place: str, kind: str) -> None:
    def cancelled(sandbox: Sandbox, x: int) -> int:
        sandbox.cancel()
        return x

    status, events = calls(place, kind, cancelled)
    assert [(event.ok, event.error) for event in events] == [(False, status)]


def test_an_exit_is_reported_as_the_run_ended(place: str) -> None:
    seen: list[HostFunctionCalled] = []

    def keep(event: Any) -> None:
        if isinstance(event, HostFunctionCalled):
            seen.append(event)

    made = runtime(place, fuel=None)
    with made.sandbox(made.load_wat(EXIT), subscribers=[keep]) as sandbox:
        assert sandbox.run("go", 3).status == "exited"
    assert [(event.ok, event.error) for event in seen] == [(False, "exited")]
