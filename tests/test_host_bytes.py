"""``host_bytes`` bounds one call of the embedder, ``value_bytes`` one value, in process and in a worker."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import aegis
from aegis import Aegis, Sandbox
from aegis.engine.call.door import Door
from aegis.errors import DeadlineExceeded, QuotaExceeded
from aegis.limits import Limits
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
every_place = pytest.mark.parametrize("place", PLACES)
GUEST = """(module
  (import "env" "read" (func $read (param i32)))
  (import "env" "write" (func $write (param i32)))
  (import "env" "nest" (func $nest (param i32)))
  (memory (export "memory") 4)
  (func (export "read") (param i32) (call $read (local.get 0)))
  (func (export "write") (param i32) (call $write (local.get 0)))
  (func (export "both") (param i32) (call $read (local.get 0)) (call $write (local.get 0)))
  (func (export "nest") (param i32) (call $nest (local.get 0))))"""
RANDOM = """(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func $take (export "take") (param i32)
    (if (call $random (i32.const 0) (local.get 0)) (then unreachable)))
  (func $begin (call $take (i32.const {size})))
  (start $begin))"""


@aegis.with_caller
def read(guest: aegis.Caller, length: int) -> None:
    assert len(guest.read(0, length)) == length


@aegis.with_caller
def write(guest: aegis.Caller, length: int) -> None:
    guest.write(0, bytes(length))


@aegis.with_caller
def nest(guest: aegis.Caller, length: int) -> None:
    guest.call("read", length)
    guest.write(0, bytes(length))


def sandboxed(place: str, **limits: Any) -> Sandbox:
    made = runtime(place, **limits)
    return made.sandbox(made.load_wat(GUEST), imports={"env": {"read": read, "write": write, "nest": nest}})


def refused(sandbox: Sandbox, name: str, *arguments: int) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as caught:
        sandbox.call(name, *arguments)
    return caught.value


@every_place
def test_each_call_of_the_embedders_has_all_of_host_bytes(place: str) -> None:
    with sandboxed(place, host_bytes=100_000) as sandbox:
        for _ in range(3):
            for name in ("read", "write"):
                sandbox.call(name, 60_000)
            sandbox.call("both", 50_000)
        error = refused(sandbox, "both", 50_001)
        assert (error.limit, error.used, error.allowed) == ("host_bytes", 100_002, 100_000)
        assert str(error) == (
            "host-byte limit exceeded (100,002/100,000 bytes in one call): raise it with host_bytes or --host-bytes"
        )
        sandbox.reset()
        sandbox.call("both", 50_000)


@every_place
def test_a_call_inside_a_host_function_shares_host_bytes_with_the_call_around_it(place: str) -> None:
    with sandboxed(place, host_bytes=100_000) as sandbox:
        for _ in range(3):
            sandbox.call("nest", 50_000)
        error = refused(sandbox, "nest", 50_001)
        assert (error.limit, error.used) == ("host_bytes", 100_002)


@every_place
def test_every_way_to_call_starts_host_bytes_anew(place: str) -> None:
    with sandboxed(place, host_bytes=100_000) as sandbox:
        failures: list[BaseException] = []

        def elsewhere() -> None:
            try:
                sandbox.call("read", 60_000)
            except BaseException as error:
                failures.append(error)

        for _ in range(2):
            sandbox.call("read", 60_000)
            assert sandbox.run("read", 60_000).ok
            asyncio.run(sandbox.acall("read", 60_000))
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
    assert failures == []


@every_place
def test_instantiation_is_a_call_of_its_own(place: str) -> None:
    with runtime(place, host_bytes=100_000) as made:
        with made.sandbox(made.load_wat(RANDOM.format(size=60_000))) as sandbox:
            sandbox.call("take", 60_000)
            sandbox.call("take", 100_000)
            refused(sandbox, "take", 100_001)
        with pytest.raises(QuotaExceeded) as caught:
            made.sandbox(made.load_wat(RANDOM.format(size=100_001)))
        assert caught.value.limit == "host_bytes"


@every_place
def test_reads_and_writes_of_the_embedder_are_not_limited(place: str) -> None:
    with sandboxed(place, host_bytes=1000, value_bytes=1000) as sandbox:
        for _ in range(2):
            sandbox.memory.write(0, b"x" * 200_000)
            assert sandbox.memory.read(0, 200_000) == b"x" * 200_000
            sandbox.call("read", 1000)


@every_place
def test_one_read_of_a_host_function_is_one_value(place: str) -> None:
    with sandboxed(place, value_bytes=100_000) as sandbox:
        sandbox.call("read", 100_000)
        sandbox.call("write", 150_000)
        sandbox.call("nest", 100_000)
        error = refused(sandbox, "read", 100_001)
        assert (error.limit, error.used, error.allowed) == ("value_bytes", 100_001, 100_000)
        assert str(error) == (
            "value-byte limit exceeded (100,001/100,000 bytes in one value): raise it with value_bytes or --value-bytes"
        )


@every_place
def test_limits_that_are_lifted_bound_nothing(place: str) -> None:
    with sandboxed(place, host_bytes=None, value_bytes=None) as sandbox:
        for _ in range(2):
            sandbox.call("nest", 260_000)


# -- the door ---------------------------------------------------------------------------------------


def test_a_call_checks_its_deadline_however_much_the_call_before_it_copied() -> None:
    door = Door(Limits())
    for _ in range(100):
        door.charge(1 << 20)
    door.begin()
    door.deadline = time.monotonic() - 1
    door.charge(1 << 17)
    with pytest.raises(DeadlineExceeded):
        door.charge(1)


def test_copying_checks_the_deadline_each_128_kib() -> None:
    door = Door(Limits())
    asked: list[int] = []
    door.stop_reason = lambda: asked.append(1)  # type: ignore[method-assign, assignment, func-returns-value]
    for _ in range(160):
        door.charge(1 << 14)
    assert 15 <= len(asked) <= 20


def test_a_budget_of_few_bytes_is_exact() -> None:
    door = Door(Limits(host_bytes=10, value_bytes=10))
    for _ in range(3):
        door.begin()
        door.charge(10)
        with pytest.raises(QuotaExceeded):
            door.charge(1)
        door.value_left = door.value_limit
        door.hold(4)
        door.hold(6)
        with pytest.raises(QuotaExceeded) as caught:
            door.hold(1)
        assert (caught.value.used, caught.value.allowed) == (11, 10)


def test_lifted_budgets_have_no_end() -> None:
    door = Door(Limits(host_bytes=None, value_bytes=None))
    door.begin()
    door.charge(1 << 50)
    door.hold(1 << 50)


def test_a_guest_without_host_functions_does_not_start_a_budget() -> None:
    """Its calls take the shortest path, and copy nothing."""
    made = Aegis(cache=False, pooled=False)
    with made.sandbox(made.load_wat('(module (func (export "f")))')) as sandbox:
        sandbox._run.door.begin = lambda: pytest.fail("a budget was started")  # type: ignore[method-assign]
        sandbox.call("f")
        thread = threading.Thread(target=lambda: sandbox.call("f"))
        thread.start()
        thread.join()
