"""A worker that stops, dies or does not answer: the call ends in time, says how, and the next call has another."""

from __future__ import annotations

import asyncio
import os
import runpy
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import (
    Aegis,
    ArtifactError,
    Cancelled,
    CollectingSubscriber,
    DeadlineExceeded,
    HostError,
    MemoryExceeded,
    WorkerCrashed,
)
from tests.guests.catalogue import GUESTS

GUEST = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "hello\\n")
  (func (export "go") (param i32) (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $f (local.get 0)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "spin") (loop $l br $l)))"""
COMPONENT = """(component
  (import "f" (func $f (param "x" s32) (result s32)))
  (core func $f (canon lower (func $f)))
  (core module $m (import "" "f" (func $f (param i32) (result i32)))
    (func (export "go") (param i32) (result i32) (call $f (local.get 0))))
  (core instance $n (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "x" s32) (result s32) (canon lift (core func $n "go"))))"""
SIGNALS = [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM]


@pytest.fixture(scope="module")
def runtime() -> Any:
    with Aegis(isolation=True, cache=False, fuel=None, timeout="20s") as made:
        yield made


def _box(runtime: Aegis, function: Callable[[int], Any] = lambda x: x, text: str = GUEST, **options: Any) -> Any:
    imports = {"env": {"f": function}} if text is GUEST else {"f": function}
    return runtime.sandbox(runtime.load_wat(text), imports=imports, **options)


def _worker(sandbox: Any) -> int:
    return sandbox._store.worker.pid  # type: ignore[no-any-return]


def _kill(process: int, number: int) -> None:
    """Send a signal that ends a process, and wait until it has."""
    watched = os.pidfd_open(process)
    os.kill(process, number)
    assert _dead(watched)
    os.close(watched)


def _stop(process: int) -> None:
    """Stop a process, and wait until each of its threads has."""
    os.kill(process, signal.SIGSTOP)
    for task in Path(f"/proc/{process}/task").iterdir():
        while (task / "stat").read_text().rpartition(") ")[2][0] != "T":
            os.sched_yield()


# -- it dies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_that_died_between_two_calls_is_a_crash_of_the_next_and_then_there_is_another(
    runtime: Aegis, number: signal.Signals
) -> None:
    with _box(runtime) as sandbox:
        assert sandbox.call("add", 1, 2) == 3
        first = _worker(sandbox)
        _kill(first, number)
        with pytest.raises(WorkerCrashed) as caught:
            sandbox.call("add", 1, 2)
        assert caught.value.signal == number
        assert number.name in str(caught.value)
        assert sandbox.call("add", 1, 2) == 3
        assert _worker(sandbox) != first


@pytest.mark.parametrize("text", [GUEST, COMPONENT], ids=["core", "component"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_that_dies_inside_a_host_function_is_a_crash_of_that_call(
    runtime: Aegis, number: signal.Signals, text: str
) -> None:
    calls: list[int] = []

    def f(x: int) -> int:
        calls.append(x)
        if x == 1:
            _kill(_worker(sandbox), number)
        return x

    with _box(runtime, f, text) as sandbox:
        with pytest.raises(WorkerCrashed) as caught:
            sandbox.call("go", 1)
        assert caught.value.signal == number
        assert sandbox.call("go", 2) == 2
    assert calls == [1, 2]


def test_what_the_guest_wrote_and_what_happened_survive_the_crash(runtime: Aegis) -> None:
    events = CollectingSubscriber()
    with _box(runtime, lambda x: _kill(_worker(sandbox), signal.SIGKILL), subscribers=[events]) as sandbox:
        outcome = sandbox.run("go", 1)
        assert (outcome.status, outcome.exit_code, outcome.stdout) == ("worker-crashed", 134, b"hello\n")
        assert outcome.usage.host_calls >= 1
    kinds = [event.kind for event in events.events]
    assert "execution_started" in kinds
    assert "host_function_called" in kinds
    assert kinds[-1] == "execution_completed"
    assert events.events[-1].status == "worker-crashed"


# -- it does not answer --------------------------------------------------------------------------------------


def test_a_worker_that_is_stopped_is_killed_at_the_deadline_and_its_grace() -> None:
    with Aegis(isolation=True, cache=False, timeout="200ms") as runtime, _box(runtime) as sandbox:
        assert sandbox.call("add", 1, 2) == 3
        _stop(_worker(sandbox))
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            sandbox.call("add", 1, 2)
        assert 0.2 <= time.monotonic() - begun < 10
        assert caught.value.limit == "timeout"
        sandbox.reset()
        assert sandbox.call("add", 1, 2) == 3


def test_a_worker_that_is_stopped_is_killed_when_the_call_is_cancelled(runtime: Aegis) -> None:
    with _box(runtime) as sandbox:
        assert sandbox.call("add", 1, 2) == 3
        _stop(_worker(sandbox))
        failures: list[BaseException] = []
        began = threading.Event()

        def call() -> None:
            began.set()
            try:
                sandbox.call("add", 1, 2)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        began.wait(20)
        while not sandbox._store.in_call():
            pass
        sandbox.cancel()
        thread.join(20)
        assert [type(error) for error in failures] == [Cancelled]


def test_a_guest_that_spins_ends_at_its_deadline_without_a_kill() -> None:
    with Aegis(isolation={"grace": "5s"}, cache=False, fuel=None, timeout="200ms") as runtime, _box(runtime) as sandbox:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            sandbox.call("spin")
        assert time.monotonic() - begun < 4
        assert not sandbox._store.closed


def test_cancel_from_another_thread_ends_a_guest_that_spins(runtime: Aegis) -> None:
    with _box(runtime) as sandbox:
        threading.Timer(0, lambda: _cancelled_in_call(sandbox)).start()
        with pytest.raises(Cancelled):
            sandbox.call("spin")
        sandbox.reset()
        assert sandbox.call("add", 1, 2) == 3


def _cancelled_in_call(sandbox: Any) -> None:
    while not sandbox._store.in_call():
        pass
    sandbox.cancel()


def test_a_task_that_is_cancelled_ends_its_guest(runtime: Aegis) -> None:
    async def main() -> None:
        with _box(runtime) as sandbox:
            task = asyncio.ensure_future(sandbox.acall("spin"))
            while not sandbox._store.in_call():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            sandbox.reset()
            assert await sandbox.acall("add", 1, 2) == 3

    asyncio.run(main())


def test_a_host_function_that_does_not_return_is_named_and_its_worker_goes() -> None:
    go = threading.Event()
    try:
        with Aegis(isolation=True, cache=False, timeout="200ms") as runtime:
            sandbox = _box(runtime, lambda x: go.wait(60))
            worker = _worker(sandbox)
            watched = os.pidfd_open(worker)
            with pytest.raises(DeadlineExceeded, match=r"env\.f"):
                sandbox.call("go", 1)
            assert _dead(watched)
            os.close(watched)
            sandbox.close()
    finally:
        go.set()


def _dead(watched: int) -> bool:
    poller = select.poll()
    poller.register(watched, select.POLLIN)
    return bool(poller.poll(20_000))


# -- the embedder's functions ---------------------------------------------------------------------------------


def test_what_a_host_function_raises_is_the_cause_and_the_worker_stays(runtime: Aegis) -> None:
    class Mine(Exception):
        pass

    def f(x: int) -> int:
        raise Mine(x)

    with _box(runtime, f) as sandbox:
        first = _worker(sandbox)
        with pytest.raises(HostError, match=r"env\.f") as caught:
            sandbox.call("go", 7)
        assert isinstance(caught.value.__cause__, Mine)
        assert caught.value.__cause__.args == (7,)
        sandbox.reset()
        assert sandbox.call("add", 1, 2) == 3
        assert _worker(sandbox) != first


def test_results_of_no_value_and_of_the_wrong_type_are_told_as_in_process(runtime: Aegis) -> None:
    text = """(module (import "env" "f" (func $f)) (import "env" "two" (func $two (result i32 i64)))
      (func (export "go") (call $f)) (func (export "pair") (result i32 i64) (call $two)))"""

    async def none() -> None:
        return None

    for value, told in ((None, None), (3, "has no result; return None")):
        for isolate in (False, True):
            with runtime.sandbox(
                runtime.load_wat(text),
                imports={"env": {"f": lambda value=value: value, "two": lambda: (1, 2)}}, isolate=isolate,
            ) as sandbox:  # fmt: skip
                assert sandbox.call("pair") == (1, 2)
                if told is None:
                    assert sandbox.call("go") is None
                    continue
                with pytest.raises(HostError, match=told):
                    sandbox.call("go")
    with runtime.sandbox(runtime.load_wat(text), imports={"env": {"f": none, "two": lambda: (1,)}}) as sandbox:
        assert asyncio.run(sandbox.acall("go")) is None
        with pytest.raises(HostError, match=r"env\.two"):
            sandbox.call("pair")


def test_an_async_host_function_is_awaited_on_the_loop(runtime: Aegis) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def f(x: int) -> int:
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0)
            return x * 2

        for text in (GUEST, COMPONENT):
            with _box(runtime, f, text) as sandbox:
                assert await sandbox.acall("go", 21) == 42

    asyncio.run(main())


# -- compiling -------------------------------------------------------------------------------------------------

BOMBS = runpy.run_path(str(GUESTS / "hostile" / "compile-bombs" / "make.py"))
PUBLISHED = runpy.run_path(str(GUESTS / "hostile" / "compile-bomb" / "make.py"))["module"]
UNBOUNDED = {"functions": None, "function_size": None, "locals": None, "nesting": None, "complexity": None}


def test_compiling_that_takes_too_long_is_killed_and_said() -> None:
    isolation = {"compile_time": 0.2, "compile_memory": None}
    with Aegis(isolation=isolation, cache=False, **UNBOUNDED) as runtime:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="compiling took longer than 200 ms; raise compile_time") as caught:
            runtime.load(BOMBS["KINDS"]["functions"]())
        assert time.monotonic() - begun < 20
        assert caught.value.limit == "compile_time"


def test_compiling_that_takes_too_much_memory_is_killed_and_said() -> None:
    with Aegis(isolation={"compile_memory": "64MiB"}, cache=False, **UNBOUNDED) as runtime:
        with pytest.raises(
            MemoryExceeded, match="compiling took more than 64 MiB of memory; raise compile_mem"
        ) as caught:
            runtime.load(PUBLISHED())
        assert (caught.value.limit, caught.value.phase) == ("compile_memory", "compile")
        with _box(runtime) as sandbox:
            assert sandbox.call("add", 1, 2) == 3


def test_an_invalid_module_is_refused_as_in_process() -> None:
    with Aegis(isolation=True, cache=False) as runtime, pytest.raises(ArtifactError, match="type mismatch"):
        runtime.load_wat("(module (func (result i32) i64.const 0))")
