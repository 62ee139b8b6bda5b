"""Deadlines, cancellation and host errors of components: the same ends as those of modules."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aegis import Aegis, Cancelled, DeadlineExceeded, HostError, OutOfFuel, QuotaExceeded, SandboxStateError

SPINNER = """(component
  (import "f" (func $f))
  (core func $f (canon lower (func $f)))
  (core module $m
    (import "" "f" (func $f))
    (memory 1)
    (func (export "spin") (loop $again (br $again)))
    (func (export "call") (loop $again (call $f) (br $again)))
    (func (export "grow") (result i32) (memory.grow (i32.const 2000))))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "spin") (canon lift (core func $i "spin")))
  (func (export "call") (canon lift (core func $i "call")))
  (func (export "grow") (result s32) (canon lift (core func $i "grow"))))"""


@pytest.mark.parametrize("name", ["spin", "call"])
def test_the_deadline_ends_a_call(name: str) -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=None, timeout=0.2)
    with runtime.sandbox(runtime.load_wat(SPINNER), imports={"f": lambda: None}) as sandbox:
        with pytest.raises(DeadlineExceeded):
            sandbox.call(name)
        with pytest.raises(SandboxStateError, match="poisoned"):
            sandbox.call(name)


def test_fuel_and_host_calls_end_a_call() -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=100_000, host_calls=50)
    with runtime.sandbox(runtime.load_wat(SPINNER), imports={"f": lambda: None}) as sandbox:
        with pytest.raises(OutOfFuel):
            sandbox.call("spin")
        sandbox.reset()
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("call")
        assert caught.value.limit == "host_calls"
        sandbox.reset()
        assert sandbox.call("grow") == -1


def test_a_cancellation_reaches_a_call_from_any_thread() -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=None, timeout="20s", host_calls=None)
    begun = threading.Event()
    with runtime.sandbox(runtime.load_wat(SPINNER), imports={"f": begun.set}) as sandbox:

        def stop() -> None:
            begun.wait(10)
            sandbox.cancel()

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(Cancelled):
            sandbox.call("call")
        thread.join()


def test_a_cancelled_task_cancels_its_call() -> None:
    runtime = Aegis(cache=False, pooled=False, fuel=None, timeout="20s", host_calls=None)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()
        tell = loop.call_soon_threadsafe
        with runtime.sandbox(runtime.load_wat(SPINNER), imports={"f": lambda: tell(begun.set) and None}) as sandbox:
            task = asyncio.create_task(sandbox.acall("call"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while sandbox.state == "ready":
                await asyncio.sleep(0)
            return sandbox.state

    assert asyncio.run(main()) == "poisoned"


def test_what_a_host_function_raises_is_the_cause() -> None:
    runtime = Aegis(cache=False, pooled=False)
    with runtime.sandbox(runtime.load_wat(SPINNER), imports={"f": lambda: 1 // 0}) as sandbox:
        with pytest.raises(HostError, match="host function f raised ZeroDivisionError") as caught:
            sandbox.call("call")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        sandbox.reset()
        assert sandbox.state == "ready"


def test_a_host_function_that_breaks_its_type_is_named() -> None:
    runtime = Aegis(cache=False, pooled=False)
    with (
        runtime.sandbox(runtime.load_wat(SPINNER), imports={"f": lambda: "text"}) as sandbox,
        pytest.raises(HostError, match="host function f returned str, but it has no result; return None"),
    ):
        sandbox.call("call")
