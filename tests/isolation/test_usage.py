"""The figures of a call are true after ``call`` as after ``run``, in process and isolated.

Oracle: the time that a host function slept, and the bytes that the guest passed.
"""

from __future__ import annotations

import time
from array import array
from typing import Any

import pytest

from aegis import Component, GuestError, Sandbox
from aegis.wit.types import List, Record, WitType
from tests.echo import echo_component
from tests.isolation.isolated import PLACES, only_where_there_are_workers, shared

pytestmark = only_where_there_are_workers
everywhere = pytest.mark.parametrize("place", PLACES)
SLEEP = 0.05
MODULE = """
(module
  (import "env" "sleep" (func $sleep))
  (memory (export "memory") 1)
  (func (export "sleep") (call $sleep))
  (func (export "quick"))
  (func (export "fail") (call $sleep) unreachable))
"""
ALONE = """
(module
  (func (export "spin") (param i32) (loop local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0))
  (func (export "quick"))
  (func (export "fail") (param i32)
    (loop local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0) unreachable))
"""
SPINS = 30_000_000
CASES: list[tuple[WitType, Any, int]] = [
    ("string", "a" * 1000, 1000), ("string", "é" * 30, 60), (List("u8"), b"x" * 5000, 5000),
    (List("u32"), [1, 2, 3], 12), (List("string"), ["ab", "cde"], 5 + 16), (List("f64"), array("d", [1.0]), 8),
    (Record("r", (("a", "string"), ("b", "u32"))), {"a": "abc", "b": 1}, 3), ("u64", 5, 0),
]  # fmt: skip


def asleep() -> None:
    time.sleep(SLEEP)


@everywhere
@pytest.mark.parametrize("way", ["call", "run"])
def test_seconds_are_those_of_the_latest_call(place: str, way: str) -> None:
    made = shared(place)
    with made.sandbox(made.load_wat(MODULE), imports={"env": {"sleep": asleep}}) as sandbox:
        assert sandbox.usage.seconds == 0.0
        getattr(sandbox, way)("sleep")
        assert SLEEP <= sandbox.usage.seconds < 100 * SLEEP
        for _ in range(3):
            getattr(sandbox, way)("quick")
        assert 0 < sandbox.usage.seconds < SLEEP
        if way == "call":
            with pytest.raises(GuestError):
                sandbox.call("fail")
        else:
            assert sandbox.run("fail").usage.seconds >= SLEEP
        assert sandbox.usage.seconds >= SLEEP


@everywhere
def test_seconds_of_a_guest_without_host_functions_are_true(place: str) -> None:
    made = shared(place)
    with made.sandbox(made.load_wat(ALONE)) as sandbox:
        sandbox.call("quick")
        before = time.perf_counter()
        sandbox.call("spin", SPINS)
        allowed = time.perf_counter() - before
        assert allowed / 4 < sandbox.usage.seconds <= allowed
        before = time.perf_counter()
        with pytest.raises(GuestError):
            sandbox.call("fail", SPINS)
        allowed = time.perf_counter() - before
        assert allowed / 4 < sandbox.usage.seconds <= allowed


def echo(place: str, of: WitType) -> tuple[Sandbox, str]:
    made = shared(place)
    component = made.load_wat(echo_component(of))
    assert isinstance(component, Component)
    (name,) = (name for name, item in component.exports.items() if hasattr(item, "result"))
    return made.sandbox(component, imports={"echo": lambda value: value}), name


@everywhere
@pytest.mark.parametrize(("of", "value", "size"), CASES, ids=str)
def test_bytes_of_a_component_are_those_of_its_strings_and_lists(
    place: str, of: WitType, value: Any, size: int
) -> None:
    """An echo copies its argument into the guest and out to the host, and back by the same way."""
    sandbox, name = echo(place, of)
    with sandbox:
        sandbox.call(name, value)
        assert (sandbox.usage.bytes_in, sandbox.usage.bytes_out) == (2 * size, 2 * size)
        used = sandbox.run(name, value).usage
        assert (used.bytes_in, used.bytes_out) == (2 * size, 2 * size)
        assert sandbox.usage.bytes_in == 4 * size


@everywhere
def test_bytes_of_a_call_over_columns_are_those_of_its_columns(place: str) -> None:
    made = shared(place)
    text = '(module (func (export "f") (param i32 f64) (result f64) local.get 1))'
    with made.sandbox(made.load_wat(text)) as sandbox:
        sandbox.call_many("f", [array("i", range(1000)), array("d", range(1000))])
        assert (sandbox.usage.bytes_in, sandbox.usage.bytes_out) == (8000, 12000)
