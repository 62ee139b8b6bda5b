"""A call whose deadline passes in a host call, or while its result is read, raises DeadlineExceeded.

Time is injected: a host function, an event or a destructor moves the deadline of its own call into the past.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from aegis.errors import Cancelled, DeadlineExceeded
from aegis.observe.events import HostFunctionCalled
from aegis.sandbox.sandbox import Sandbox
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime
from tests.security.test_components import HANDLES, Things
from tests.test_deadlines import COMPONENT, NAMES, Api

CORE = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "random") (result i32) (call $random (i32.const 0) (i32.const 8)))
  (func (export "exit") (call $exit (i32.const 0))))"""
TEXT = """(component
  (type $api (instance (export "f" (func (param "x" s32) (result string)))))
  (import "test:api/api" (instance $i (type $api)))
  (core module $libc (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 64))
  (core instance $libc (instantiate $libc))
  (core func $f (canon lower (func $i "f") (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))))
  (core module $m (import "" "f" (func $f (param i32 i32)))
    (func (export "go") (param i32) (result i32) (call $f (local.get 0) (i32.const 16)) i32.const 16))
  (core instance $n (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "x" s32) (result string)
    (canon lift (core func $n "go") (memory (core memory $libc "memory")))))"""
KINDS = {"core": CORE, "component": COMPONENT, "component with text": TEXT}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_place = pytest.mark.parametrize("place", PLACES)


def box(place: str, kind: str, f: Callable[[int], Any], **options: Any) -> Sandbox:
    made = runtime(place, fuel=None)
    imports = {"env": {"f": f}} if kind == "core" else {"test:api/api": Api(f)}
    return made.sandbox(made.load_wat(KINDS[kind]), imports=imports, **options)


def expire(sandbox: Sandbox) -> None:
    """Move the deadline of the current call into the past."""
    sandbox._run.door.deadline = -math.inf


class Slow:
    """A host function that returns a value after the deadline of its call."""

    def __init__(self, kind: str) -> None:
        self.sandbox: Sandbox | None = None
        self.answer: Any = "text" if "text" in kind else 7

    def __call__(self, x: int) -> Any:
        if self.sandbox is not None:
            expire(self.sandbox)
        return self.answer


@only_where_there_are_workers
@every_place
@every_kind
def test_a_host_call_that_returns_after_the_deadline_ends_the_call_as_a_timeout(place: str, kind: str) -> None:
    slow = Slow(kind)
    with box(place, kind, slow) as sandbox:
        assert sandbox.call("go", 7) == slow.answer
        slow.sandbox = sandbox
        with pytest.raises(DeadlineExceeded, match=f"in the host call {NAMES[kind.split()[0]]}"):
            sandbox.call("go", 7)
        assert sandbox.state == "poisoned"


@only_where_there_are_workers
@every_place
@every_kind
def test_an_awaited_host_call_that_ends_after_the_deadline_is_a_timeout(place: str, kind: str) -> None:
    slow = Slow(kind)

    async def f(x: int) -> Any:
        return slow(x)

    async def main() -> None:
        with box(place, kind, f) as sandbox:
            assert await sandbox.acall("go", 7) == slow.answer
            slow.sandbox = sandbox
            with pytest.raises(DeadlineExceeded):
                await sandbox.acall("go", 7)

    asyncio.run(main())


@only_where_there_are_workers
@every_place
@every_kind
def test_a_late_run_reports_the_exit_code_of_a_timeout(place: str, kind: str) -> None:
    slow = Slow(kind)
    with box(place, kind, slow) as sandbox:
        slow.sandbox = sandbox
        outcome = sandbox.run("go", 7)
    assert (outcome.status, outcome.exit_code, outcome.value) == ("timeout", 124, None)


@only_where_there_are_workers
@every_place
@every_kind
def test_a_cancellation_during_the_last_host_call_ends_the_call(place: str, kind: str) -> None:
    sandbox: Sandbox

    def f(x: int) -> Any:
        sandbox.cancel()
        return Slow(kind).answer

    with box(place, kind, f) as sandbox, pytest.raises(Cancelled):
        sandbox.call("go", 7)


@only_where_there_are_workers
@every_place
@pytest.mark.parametrize("name", ["random", "exit"])
def test_a_wasi_call_that_ends_after_the_deadline_is_a_timeout(place: str, name: str) -> None:
    """So no program exits with 0 too late."""

    def seen(event: Any) -> None:
        if isinstance(event, HostFunctionCalled):
            expire(sandbox)

    with box(place, "core", int, subscribers=[seen]) as sandbox:
        outcome = sandbox.run(name)
    assert (outcome.status, outcome.exit_code) == ("timeout", 124)


def test_a_destructor_that_returns_after_the_deadline_ends_the_call() -> None:
    class Slow(Things):
        def open(self) -> Any:
            made = super().open()
            made.__class__.__drop__ = lambda _: expire(sandbox)
            return made

    made = runtime("in-process")
    sandbox = made.sandbox(made.load_wat(HANDLES), imports={"test:things/things": Slow()})
    with sandbox, pytest.raises(DeadlineExceeded, match="a resource's drop"):
        sandbox.call("well")


@pytest.mark.parametrize("kind", ["core", "component", "component with text"])
def test_a_result_that_is_read_after_the_deadline_is_not_accepted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the clock that closing the call reads is late; the host call before it was in time."""

    async def main() -> None:
        slow = Slow(kind)
        with box("in-process", kind, slow) as sandbox:
            assert await sandbox.acall("go", 7) == slow.answer
            (closure,) = sandbox._fast.values()
            monkeypatch.setitem(closure.__globals__, "now", lambda: math.inf)  # type: ignore[attr-defined]
            with pytest.raises(DeadlineExceeded):
                await sandbox.acall("go", 7)

    asyncio.run(main())


def test_a_call_that_was_in_time_leaves_the_next_one_its_own_deadline() -> None:
    with box("in-process", "core", int) as sandbox:
        assert [sandbox.call("go", n) for n in range(3)] == [0, 1, 2]
        assert sandbox._run.door.deadline > 0
