"""Calls from an event loop: awaited host functions, deadlines, cancellation, and isolation between calls."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from aegis import Aegis, Err
from aegis.engine.threads.supervisor import Abandoned
from aegis.errors import CallError, Cancelled, DeadlineExceeded, HostError, LinkError, SandboxStateError
from tests.security.test_components import HANDLES

CORE = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (import "env" "quiet" (func $none)) (import "env" "two" (func $two (result i32 i64)))
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "quiet") (call $none))
  (func (export "two") (result i32 i64) (call $two))
  (func (export "spin") (loop $l (br $l))))"""
COMPONENT = """(component
  (type $api (instance
    (export "f" (func (param "x" s32) (result s32)))
    (export "may" (func (param "x" s32) (result (result s32 (error string)))))
    (export "text" (func (result string)))
    (export "quiet" (func))))
  (import "test:api/api" (instance $i (type $api)))
  (core module $libc (memory (export "memory") 1) (global $at (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local i32)
      (local.set 4 (global.get $at)) (global.set $at (i32.add (global.get $at) (local.get 3))) (local.get 4)))
  (core instance $libc (instantiate $libc))
  (core func $f (canon lower (func $i "f")))
  (core func $none (canon lower (func $i "quiet")))
  (core func $may (canon lower (func $i "may")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $text (canon lower (func $i "text")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $m (import "" "f" (func $f (param i32) (result i32))) (import "" "quiet" (func $none))
    (import "" "may" (func $may (param i32 i32))) (import "" "text" (func $text (param i32)))
    (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "quiet") (call $none))
    (func (export "may") (param i32) (result i32) (call $may (local.get 0) (i32.const 16)) (i32.const 16))
    (func (export "text") (result i32) (call $text (i32.const 16)) (i32.const 16))
    (func (export "spin") (loop $l (br $l))))
  (core instance $n (instantiate $m (with "" (instance
    (export "f" (func $f)) (export "quiet" (func $none)) (export "may" (func $may)) (export "text" (func $text))))))
  (func (export "go") (param "x" s32) (result s32) (canon lift (core func $n "go")))
  (func (export "quiet") (canon lift (core func $n "quiet")))
  (func (export "may") (param "x" s32) (result (result s32 (error string)))
    (canon lift (core func $n "may") (memory (core memory $libc "memory"))))
  (func (export "text") (result string) (canon lift (core func $n "text") (memory (core memory $libc "memory"))))
  (func (export "spin") (canon lift (core func $n "spin"))))"""
KINDS = ["core", "component"]


async def _nothing() -> None:
    await asyncio.sleep(0)


async def _two() -> tuple[int, int]:
    await asyncio.sleep(0)
    return 7, 1 << 40


class Api:
    """The host's side of ``test:api/api``."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f

    async def may(self, x: int) -> int:
        await asyncio.sleep(0)
        if x < 0:
            raise Err("negative")
        return x

    async def text(self) -> str:
        await asyncio.sleep(0)
        return "héllo"

    async def quiet(self) -> None:
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def runtime() -> Aegis:
    return Aegis(cache=False, fuel=None, timeout="20s")


def box(runtime: Aegis, kind: str, f: Callable[..., Any]) -> Any:
    """Return a sandbox whose export ``go`` calls ``f`` with its argument."""
    if kind == "component":
        return runtime.sandbox(runtime.load_wat(COMPONENT), imports={"test:api/api": Api(f)})
    return runtime.sandbox(runtime.load_wat(CORE), imports={"env": {"f": f, "quiet": _nothing, "two": _two}})


class Callable_:
    """An object whose call is a coroutine."""

    async def __call__(self, x: int) -> int:
        await asyncio.sleep(0)
        return x + 1


async def plus(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


ASYNCHRONOUS = [plus, Callable_(), functools.partial(plus), lambda x: plus(x)]


# -- awaited ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("f", ASYNCHRONOUS, ids=["function", "object", "partial", "lambda"])
def test_an_asynchronous_host_function_is_awaited_on_the_loop(runtime: Aegis, kind: str, f: Any) -> None:
    async def main() -> None:
        with box(runtime, kind, f) as sandbox:
            assert await sandbox.acall("go", 41) == 42
            assert await sandbox.acall("quiet") is None

    asyncio.run(main())


def test_several_results_texts_and_declared_errors_are_awaited_too(runtime: Aegis) -> None:
    async def main() -> None:
        with box(runtime, "core", plus) as sandbox:
            assert await sandbox.acall("two") == (7, 1 << 40)
        with box(runtime, "component", plus) as sandbox:
            assert await sandbox.acall("text") == "héllo"
            assert await sandbox.acall("may", 5) == 5
            with pytest.raises(Err, match="negative"):
                await sandbox.acall("may", -1)
            assert sandbox.state == "ready"

    asyncio.run(main())


def test_it_runs_on_the_loops_own_thread_in_the_callers_context(runtime: Aegis) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    seen: list[Any] = []

    async def f(x: int) -> int:
        seen.append((threading.current_thread(), asyncio.get_running_loop(), who.get()))
        return x

    async def main() -> None:
        who.set("me")
        with box(runtime, "core", f) as sandbox:
            await sandbox.acall("go", 1)
        assert seen == [(threading.current_thread(), asyncio.get_running_loop(), "me")]

    asyncio.run(main())


def test_handles_and_methods_may_be_asynchronous(runtime: Aegis) -> None:
    class Things:
        """Creates, uses and takes objects, each by a coroutine."""

        def __init__(self) -> None:
            self.used: list[object] = []

        async def open(self) -> object:
            await asyncio.sleep(0)
            return self

        async def use(self, x: object) -> None:
            await asyncio.sleep(0)
            self.used.append(x)

        use_other = give = use

    async def main() -> None:
        for things in (Things(), Later()):
            with runtime.sandbox(runtime.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
                await sandbox.acall("well")
            assert things.used == [things, things]

    class Later(Things):
        """Its functions are not coroutine functions, but return an awaitable."""

        def open(self) -> Any:
            return super().open()

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("f", ASYNCHRONOUS, ids=["function", "object", "partial", "lambda"])
def test_a_synchronous_call_says_to_use_acall(runtime: Aegis, kind: str, f: Any) -> None:
    with box(runtime, kind, f) as sandbox:
        with pytest.raises(HostError, match=r"host function .*f is asynchronous.*acall"):
            sandbox.call("go", 1)
        assert sandbox.state == "poisoned"
    gc.collect()  # a coroutine that was never awaited would warn here, and warnings are errors


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_of_an_asynchronous_function_belongs_to_its_call(runtime: Aegis, kind: str) -> None:
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        raise ValueError(x)

    async def main() -> None:
        with box(runtime, kind, f) as sandbox:
            with pytest.raises(HostError, match="raised ValueError") as caught:
                await sandbox.acall("go", 17)
            assert caught.value.__cause__.args == (17,)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_an_awaited_value_of_the_wrong_type_is_refused(runtime: Aegis, kind: str) -> None:
    async def f(x: int) -> Any:
        return "text"

    async def main() -> None:
        with box(runtime, kind, f) as sandbox, pytest.raises(HostError, match="returned an invalid result"):
            await sandbox.acall("go", 1)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_the_deadline_cancels_the_awaited_object(kind: str) -> None:
    ended: list[str] = []

    async def f(x: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return x

    async def main() -> None:
        with box(Aegis(cache=False, timeout="200ms"), kind, f) as sandbox:
            with pytest.raises(DeadlineExceeded, match=r"in the host call .*f"):
                await sandbox.acall("go", 1)
            assert sandbox.state == "poisoned"
        await asyncio.sleep(0)
        assert ended == ["cancelled"]

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["task", "cancel"])
def test_a_cancellation_cancels_the_awaited_object(runtime: Aegis, kind: str, way: str) -> None:
    ended: list[str] = []

    async def main() -> None:
        inside = asyncio.Event()

        async def f(x: int) -> int:
            inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            return x

        with box(runtime, kind, f) as sandbox:
            task = asyncio.create_task(sandbox.acall("go", 1))
            await inside.wait()
            task.cancel() if way == "task" else sandbox.cancel()
            with pytest.raises(asyncio.CancelledError if way == "task" else Cancelled):
                await task
            assert sandbox.state == "poisoned"
        await asyncio.sleep(0)
        assert ended == ["cancelled"]

    asyncio.run(main())


def test_a_task_that_cancels_itself_is_a_host_error_and_no_cancellation_of_the_caller(runtime: Aegis) -> None:
    async def f(x: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)
        return x

    async def main() -> str:
        with box(runtime, "core", f) as sandbox, pytest.raises(HostError, match="raised CancelledError"):
            await sandbox.acall("go", 1)
        return "went on"

    assert asyncio.run(main()) == "went on"


def test_a_loop_that_ends_meanwhile_leaves_nothing_unawaited(runtime: Aegis) -> None:
    entered = threading.Event()

    async def f(x: int) -> int:
        entered.set()
        await asyncio.Event().wait()
        return x

    async def main() -> Any:
        made = box(runtime, "core", f)
        tasks.append(asyncio.create_task(made.acall("go", 1)))
        while not entered.is_set():
            await asyncio.sleep(0)
        return made

    tasks: list[Any] = []
    sandbox = asyncio.run(main())  # ends with the current call, and cancels it
    assert sandbox.state in ("poisoned", "abandoned")
    sandbox.close()
    gc.collect()


# -- the call itself -------------------------------------------------------------------------------------


def test_a_cancelled_task_leaves_a_sandbox_that_can_be_closed_at_once(runtime: Aegis) -> None:
    async def main() -> None:
        for n in range(20):
            with box(runtime, "core", plus) as sandbox:
                task = asyncio.create_task(sandbox.acall("spin"))
                for _ in range(n % 4):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert sandbox.state == "closed"

    asyncio.run(main())


def test_a_task_that_never_had_its_turn_does_not_cancel_anothers_call(runtime: Aegis) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def f(x: int) -> int:
        entered.set()
        assert go_on.wait(20)
        return x

    async def main() -> None:
        with box(runtime, "core", f) as sandbox:
            first = asyncio.create_task(sandbox.acall("go", 3))
            while not entered.is_set():
                await asyncio.sleep(0.001)
            second = asyncio.create_task(sandbox.acall("go", 4))
            with pytest.raises(SandboxStateError, match="busy"):
                await second
            go_on.set()
            assert await first == 3

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_function_that_does_not_return_is_named_and_the_loop_goes_on(kind: str) -> None:
    go_on = threading.Event()

    def f(x: int) -> int:
        assert go_on.wait(60)
        return x

    async def main() -> None:
        sandbox = box(Aegis(cache=False, timeout="200ms"), kind, f)
        started = time.monotonic()
        with pytest.raises(Abandoned, match=r"the host function .*f does not return; its sandbox is abandoned"):
            await sandbox.acall("go", 1)
        assert time.monotonic() - started < 10
        assert sandbox.state == "abandoned"
        go_on.set()
        sandbox.close()

    asyncio.run(main())


def test_a_bad_argument_is_reported_as_in_a_synchronous_call(runtime: Aegis) -> None:
    async def main() -> None:
        with box(runtime, "core", plus) as sandbox:
            with pytest.raises(CallError, match="takes 1 argument"):
                await sandbox.acall("go")
            assert await sandbox.acall("go", 1) == 2

    asyncio.run(main())


def test_guests_that_wait_for_one_another_never_wait_for_a_turn_for_ever(
    runtime: Aegis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every turn is held by a guest whose host function blocks until the last of all has begun."""
    from aegis.engine.threads.queue import pool

    monkeypatch.setattr(pool, "most", 2)
    many = 6
    barrier = threading.Barrier(many)

    def f(x: int) -> int:
        barrier.wait(20)
        return x

    async def main() -> None:
        boxes = [box(runtime, "core", f) for _ in range(many)]
        assert await asyncio.gather(*(b.acall("go", n) for n, b in enumerate(boxes))) == list(range(many))
        for one in boxes:
            one.close()

    asyncio.run(main())


def test_a_guest_that_waits_for_a_guest_that_waits_does_not_wait_for_a_turn(
    runtime: Aegis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call's host function makes the next call, deeper than there are turns, so waiting for one would deadlock."""
    from aegis.engine.threads import queue as pools

    monkeypatch.setattr(pools.pool, "most", 2)
    monkeypatch.setattr(pools, "STALL_SECONDS", 3600)

    async def f(x: int) -> int:
        if not x:
            return 0
        with box(runtime, "core", f) as inner:
            return int(await inner.acall("go", x - 1)) + 1

    async def main() -> None:
        boxes = [box(runtime, "core", f) for _ in range(12)]
        assert await asyncio.gather(*(one.acall("go", 6) for one in boxes)) == [6] * 12
        for one in boxes:
            one.close()

    asyncio.run(main())


def test_a_call_cancelled_before_its_first_step_leaves_no_unawaited_coroutine() -> None:
    from aegis.engine.threads.event_loop import _LoopTask

    async def main() -> None:
        for begun in (True, False):
            coroutine = plus(1)
            task = _LoopTask(coroutine, asyncio.get_running_loop())
            if begun:
                task._start()
                task._cancel()
            else:
                task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
            assert coroutine.cr_frame is None, "it was neither awaited nor closed"

    asyncio.run(main())


def test_a_component_provider_that_takes_too_few_arguments_is_reported(runtime: Aegis) -> None:
    async def short() -> int:
        return 1

    with pytest.raises(LinkError, match="passes 1 value"):
        box(runtime, "component", short)
