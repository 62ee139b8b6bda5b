"""Host functions that query the remaining time, and those that exceed it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, Caller, FilesystemCapability, with_caller
from aegis.engine.threads.supervisor import Abandoned
from aegis.errors import DeadlineExceeded, HostError, LinkError, SandboxStateError
from tests.host.preview2.guest import descriptors

CORE = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32)
    (drop (call $prestat (i32.const 3) (i32.const 0))) (call $f (local.get 0))))"""
COMPONENT = """(component
  (type $api (instance (export "f" (func (param "x" s32) (result s32)))))
  (import "test:api/api" (instance $i (type $api)))
  (core func $f (canon lower (func $i "f")))
  (core module $m (import "" "f" (func $f (param i32) (result i32)))
    (func (export "go") (param i32) (result i32) (call $f (local.get 0))))
  (core instance $n (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "x" s32) (result s32) (canon lift (core func $n "go"))))"""
NAMES = {"core": r"env\.f", "component": r"test:api/api#f"}
every_kind = pytest.mark.parametrize("kind", NAMES)


def box(kind: str, f: Callable[..., Any], timeout: str | None = "20s", **policy: Any) -> Any:
    """Return a sandbox whose export ``go`` calls ``f`` with its argument."""
    runtime = Aegis(cache=False, timeout=timeout, **policy)
    if kind == "component":
        return runtime.sandbox(runtime.load_wat(COMPONENT), imports={"test:api/api": Api(f)})
    return runtime.sandbox(runtime.load_wat(CORE), imports={"env": {"f": f}})


class Api:
    """The host's side of ``test:api/api``."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f


class Timed:
    """Host functions that take a deadline, each another kind of callable."""

    def __init__(self) -> None:
        self.given: list[float | None] = []

    def method(self, x: int, *, deadline: float | None) -> int:
        self.given.append(deadline)
        return x + 1

    def optional(self, x: int, *, deadline: float | None = 77) -> int:
        return self.method(x, deadline=deadline)

    __call__ = method

    async def later(self, x: int, *, deadline: float | None) -> int:
        return self.method(x, deadline=deadline)


# -- the time left ---------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("way", ["method", "optional", "object", "partial", "lambda"])
def test_a_keyword_named_deadline_is_given_the_seconds_left(kind: str, way: str) -> None:
    timed = Timed()
    f: Any = {
        "method": timed.method, "optional": timed.optional, "object": timed,
        "partial": functools.partial(timed.method), "lambda": lambda x, *, deadline: timed.method(x, deadline=deadline),
    }[way]  # fmt: skip
    with box(kind, f) as sandbox:
        assert sandbox.call("go", 1) == 2
        assert sandbox.call("go", 2) == 3
    assert len(timed.given) == 2
    assert all(left is not None and 0 < left <= 20.1 for left in timed.given)


@every_kind
def test_without_a_deadline_it_is_none(kind: str) -> None:
    timed = Timed()
    with box(kind, timed.optional, None) as sandbox:
        assert sandbox.call("go", 1) == 2
    assert timed.given == [None]


@every_kind
def test_an_asynchronous_function_may_ask_for_it_too(kind: str) -> None:
    import asyncio

    timed = Timed()
    with box(kind, timed.later) as sandbox:
        assert asyncio.run(sandbox.acall("go", 1)) == 2
    assert timed.given[0] is not None


def test_it_goes_together_with_the_caller() -> None:
    given: list[Any] = []

    @with_caller
    def f(caller: Caller, x: int, *, deadline: float) -> int:
        given.extend((caller.memory_size(), deadline))
        return x

    with box("core", f) as sandbox:
        assert sandbox.call("go", 5) == 5
    assert given[0] == 65536
    assert 0 < given[1] <= 20.1


@every_kind
def test_a_parameter_of_that_name_by_position_is_the_guests(kind: str) -> None:
    with box(kind, lambda deadline: deadline * 2) as sandbox:
        assert sandbox.call("go", 21) == 42


@every_kind
def test_one_that_was_bound_already_is_left_alone(kind: str) -> None:
    timed = Timed()
    with box(kind, functools.partial(timed.method, deadline=5)) as sandbox:
        assert sandbox.call("go", 1) == 2
    assert timed.given == [5]


def test_another_keyword_that_must_be_given_is_refused_when_it_is_linked() -> None:
    def f(x: int, *, deadline: float, other: int) -> int:
        return x

    with pytest.raises(LinkError, match="other"):
        box("component", f)


@every_kind
def test_a_host_function_that_keeps_its_deadline_ends_the_call_by_it(kind: str) -> None:
    never = threading.Event()

    def f(x: int, *, deadline: float) -> int:
        never.wait(deadline)
        return x

    with box(kind, f, "200ms") as sandbox:
        before = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=f"in the host call {NAMES[kind]}") as caught:
            sandbox.call("go", 1)
        assert not isinstance(caught.value, Abandoned)
        assert 0.15 < time.monotonic() - before < 5
        assert sandbox.state == "poisoned"


# -- what does not return ---------------------------------------------------------------------------------


class Stuck:
    """A host function that returns when the test allows it."""

    def __init__(self) -> None:
        self.entered, self.go, self.threads = threading.Event(), threading.Event(), set[threading.Thread]()

    def __call__(self, x: int) -> int:
        self.threads.add(threading.current_thread())
        self.entered.set()
        assert self.go.wait(60)
        return x


@every_kind
def test_a_host_function_that_does_not_return_is_named(kind: str) -> None:
    stuck = Stuck()
    sandbox = box(kind, stuck, "500ms")
    try:
        before = time.monotonic()
        with pytest.raises(Abandoned, match=f"the host function {NAMES[kind]} does not return; its sandbox is abandon"):
            sandbox.call("go", 1)
        assert time.monotonic() - before < 5
        with pytest.raises(SandboxStateError, match="abandoned"):
            sandbox.call("go", 1)
    finally:
        stuck.go.set()
        sandbox.close()


NESTED = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (import "env" "g" (func $g (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "inner") (param i32) (result i32) (call $g (local.get 0)))
  (func (export "spin") (loop (br 0))))"""


class Nested:
    """A host function ``f`` that calls back into the guest, whose export ``inner`` calls the host function ``g``."""

    def __init__(self, before: Callable[[Caller], object], then: Callable[[int], int], g: Callable[[int], int]) -> None:
        self.before, self.then, self.g = before, then, g

    def box(self, timeout: str = "500ms") -> Any:
        runtime = Aegis(cache=False, timeout=timeout)
        functions = {"f": with_caller(lambda caller, x: self.f(caller, x)), "g": self.g}
        return runtime.sandbox(runtime.load_wat(NESTED), imports={"env": functions})

    def f(self, caller: Caller, x: int) -> int:
        self.before(caller)
        return self.then(x)


def fails(x: int) -> int:
    raise ValueError(x)


def caught(caller: Caller) -> None:
    with pytest.raises(HostError, match=r"env\.g raised ValueError"):
        caller.call("inner", 1)


@pytest.mark.parametrize(
    ("before", "g", "named"),
    [
        (lambda caller: caller.call("inner", 1), "stuck", "env.g"),
        (lambda caller: caller.call("inner", 1), abs, "env.f"),
        (caught, fails, "env.f"),
        (lambda caller: caller.read(0, 1), abs, "env.f"),
    ],
    ids=["inside the nested call", "after it", "after it failed", "without one"],
)
def test_the_innermost_host_function_that_does_not_return_is_named(before: Any, g: Any, named: str) -> None:
    stuck = Stuck()
    sandbox = Nested(before, stuck, stuck if g == "stuck" else g).box()
    try:
        with pytest.raises(Abandoned, match=f"the host function {named} does not return"):
            sandbox.call("go", 1)
    finally:
        stuck.go.set()
        sandbox.close()


def test_a_guest_that_spins_inside_a_host_function_is_stopped_and_not_abandoned() -> None:
    with Nested(lambda caller: caller.call("spin"), abs, abs).box("100ms") as sandbox:
        with pytest.raises(DeadlineExceeded) as ended:
            sandbox.call("go", 1)
        assert not isinstance(ended.value, Abandoned)


def test_no_host_function_is_recorded_after_a_call_whatever_its_end() -> None:
    with Nested(lambda caller: caller.call("inner", 1), abs, abs).box("20s") as sandbox:
        sandbox.call("go", 1)
        assert sandbox._run.door.serving is None
    with Nested(caught, abs, fails).box("20s") as sandbox:
        sandbox.run("go", 1)
        assert sandbox._run.door.serving is None
    with Nested(fails, abs, abs).box("20s") as sandbox:
        assert "env.f raised ValueError" in str(sandbox.run("go", 1).error)
        assert sandbox._run.door.serving is None


def test_abandoned_quota_is_released_when_its_thread_ends(tmp_path: Path) -> None:
    """Until then it belongs to its thread: other code may not close it while the thread uses it."""
    before = descriptors()
    stuck = Stuck()
    granted = FilesystemCapability.read_only(f"{tmp_path}::/")
    sandbox = box("core", stuck, "100ms", filesystem=granted)
    with pytest.raises(Abandoned):
        sandbox.call("go", 1)
    sandbox.close()
    assert not descriptors() <= before
    ended = threading.Event()
    (thread,) = stuck.threads
    stuck.go.set()
    for _ in range(1000):
        if descriptors() <= before:
            break
        ended.wait(0.01)
    assert descriptors() <= before
    assert thread.name == "aegis-guest"


@every_kind
def test_an_abandoned_sandbox_may_be_reset_while_its_thread_is_stuck(kind: str) -> None:
    stuck = Stuck()
    calls: list[int] = []

    def f(x: int) -> int:
        calls.append(x)
        return stuck(x) if x == 1 else x

    with box(kind, f, "1s") as sandbox:
        with pytest.raises(Abandoned):
            sandbox.call("go", 1)
        sandbox.reset()
        assert sandbox.call("go", 2) == 2
        stuck.go.set()
        assert sandbox.call("go", 3) == 3
        assert sandbox.usage.host_calls >= 2
    assert calls == [1, 2, 3]


def test_the_outcome_of_an_abandoned_run_can_still_be_read() -> None:
    stuck = Stuck()
    sandbox = box("core", lambda x: stuck(x) if x == 1 else x, "100ms")
    assert sandbox.call("go", 5) == 5
    outcome = sandbox.run("go", 1)
    stuck.go.set()
    assert (outcome.status, outcome.exit_code) == ("timeout", 124)
    assert outcome.usage.host_calls == 2
    assert outcome.stdout == b""
    sandbox.close()


def test_a_destructor_that_does_not_return_is_named() -> None:
    from tests.security.test_components import HANDLES, Things

    go = threading.Event()

    class Slow(Things):
        """A host whose objects take long to drop."""

        def open(self) -> Any:
            made = super().open()
            made.__class__.__drop__ = lambda self: go.wait(60)
            return made

    runtime = Aegis(cache=False, timeout="2s")  # on a loaded machine the call takes a while to reach the drop
    sandbox = runtime.sandbox(runtime.load_wat(HANDLES), imports={"test:things/things": Slow()})
    try:
        with pytest.raises(Abandoned, match="a resource's drop does not return"):
            sandbox.call("well")
    finally:
        go.set()
        sandbox.close()


@every_kind
def test_a_second_ctrl_c_does_not_leave_a_sandbox_half_used(kind: str) -> None:
    text, given = (CORE, '{"env": {"f": f}}') if kind == "core" else (COMPONENT, '{"test:api/api": Api}')
    program = f"""
import signal, sys, threading, time, os, aegis
entered, go = threading.Event(), threading.Event()
def f(x):
    entered.set()
    go.wait(60)
    return x
class Api: pass
Api.f = staticmethod(f)
def interrupt():
    entered.wait()
    for n in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)
runtime = aegis.Aegis(cache=False, timeout="50s")
sandbox = runtime.sandbox(runtime.load_wat({text!r}), imports={given})
threading.Thread(target=interrupt).start()
try:
    try:
        sandbox.call("go", 1)
    except KeyboardInterrupt:
        time.sleep(0.1)
except KeyboardInterrupt:
    pass
print(sandbox.state)
go.set()
sandbox.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False, text=True)
    assert (done.stdout, done.returncode) == ("abandoned\n", 0), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_long_instruction_is_no_stuck_host_function() -> None:
    """No host function is running, so its call ends like any late call, a little later."""
    text = """(module (memory 1600) (func (export "go")
      (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 104857600)) (br $l))))"""
    runtime = Aegis(cache=False, fuel=None, memory="128MiB", timeout="50ms")
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        with pytest.raises(DeadlineExceeded) as caught:
            sandbox.call("go")
        assert not isinstance(caught.value, Abandoned)
