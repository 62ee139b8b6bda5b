"""Deadlines, cancellation and host errors end calls of components as they end calls of modules."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc

import pytest

from aegis import Aegis, Cancelled, DeadlineExceeded, GuestTrap, HostError, OutOfFuel, QuotaExceeded, SandboxStateError

pytestmark = pytest.mark.usefixtures("entries")

SPINNER = """(component
  (import "f" (func $f))
  (core func $f (canon lower (func $f)))
  (core module $m
    (import "" "f" (func $f))
    (memory 1)
    (func (export "spin") (loop $again (br $again)))
    (func (export "call") (loop $again (call $f) (br $again)))
    (func (export "once") (call $f) (loop $again (br $again)))
    (func (export "grow") (result i32) (memory.grow (i32.const 2000))))
  (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "spin") (canon lift (core func $i "spin")))
  (func (export "call") (canon lift (core func $i "call")))
  (func (export "once") (canon lift (core func $i "once")))
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
            # Not "call": on a busy machine, a host function that is under way may count as one that does not return.
            task = asyncio.create_task(sandbox.acall("once"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while sandbox.state == "ready":
                await asyncio.sleep(0)
            return sandbox.state

    assert asyncio.run(main()) == "poisoned"


def test_an_exception_of_a_host_function_is_the_cause() -> None:
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
        pytest.raises(HostError, match="host function f returned str, but it has no result: return None"),
    ):
        sandbox.call("call")


def lists(of: str, count: int, *, text: int = 0) -> str:
    """Return a component whose ``f`` returns the contents of its memory as a list or a string."""
    result = "string" if text else f"(list {of})"
    return f"""(component
      (core module $m (memory (export "m") 512)
        (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "put") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
        (func (export "f") (result i32)
          (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {text or count})) (i32.const 0)))
      (core instance $i (instantiate $m))
      (func (export "put") (param "at" u32) (param "value" u32) (canon lift (core func $i "put")))
      (func (export "fill") (param "at" u32) (param "v" u32) (param "n" u32) (canon lift (core func $i "fill")))
      (func (export "f") (result {result}) (canon lift (core func $i "f") (memory (core memory $i "m")))))"""


@pytest.mark.parametrize("of", ["string", "u32", "(option u8)", "(list u32)"])
def test_a_long_list_is_read_under_the_deadline(of: str) -> None:
    runtime = Aegis(cache=False, pooled=False, memory="64MiB")
    with runtime.sandbox(runtime.load_wat(lists(of, 200_000))) as sandbox:
        door = sandbox._run.door
        in_time = iter([None, None])
        door.stop_reason = lambda: next(in_time, door.timeout())  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(DeadlineExceeded):
            sandbox.call("f")


def test_lists_of_lists_are_read_under_the_deadline_too() -> None:
    runtime = Aegis(cache=False, pooled=False, memory="64MiB")
    with runtime.sandbox(runtime.load_wat(lists("(list string)", 200))) as sandbox:
        for n in range(200):
            sandbox.call("put", 64 + 8 * n, 4096)
            sandbox.call("put", 68 + 8 * n, 1000)
        assert sandbox.call("f") == [[""] * 1000] * 200
        sandbox._run.door.stop_reason = sandbox._run.door.timeout  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceeded):
            sandbox.call("f")


SIZES = [
    ("u32", 40), ("s64", 48), ("f64", 32), ("bool", 8), ("string", 64), ("(option u8)", 80), ("(result u8)", 88),
    ("(tuple u32 bool)", 96), ("(result (tuple u8 (option u8)) (error u8))", 216),
]  # fmt: skip


@pytest.mark.parametrize(("of", "size"), SIZES)
def test_the_python_objects_of_a_list_must_fit_into_value_bytes(of: str, size: int) -> None:
    count = 100_000
    for budget, fits in ((count * size, True), (count * size - 1, False)):
        runtime = Aegis(cache=False, pooled=False, memory="64MiB", value_bytes=budget)
        with runtime.sandbox(runtime.load_wat(lists(of, count))) as sandbox:
            if fits:
                assert len(sandbox.call("f")) == count
            else:
                with pytest.raises(QuotaExceeded) as caught:
                    sandbox.call("f")
                assert caught.value.limit == "value_bytes"
                assert caught.value.used == count * size


def test_an_error_in_a_list_is_counted_as_the_exception_that_it_is() -> None:
    count, good, bad = 1000, 56, 344
    for errors in (0, 1, count):
        used = (count - errors) * good + errors * bad
        for budget, fits in ((used, True), (used - 1, False)):
            runtime = Aegis(cache=False, pooled=False, memory="64MiB", value_bytes=budget)
            with runtime.sandbox(runtime.load_wat(lists("(result)", count))) as sandbox:
                sandbox.call("fill", 64, 1, errors)
                if fits:
                    assert [type(value).__name__ for value in sandbox.call("f")] == [
                        "Err" if n < errors else "Ok" for n in range(count)
                    ]
                else:
                    with pytest.raises(QuotaExceeded):
                        sandbox.call("f")


@pytest.mark.parametrize(("tail", "width"), [("", 1), ("é", 2), ("😀", 4)])
def test_one_wide_character_makes_a_whole_string_wide(tail: str, width: int) -> None:
    size, raw = 1 << 20, tail.encode()
    for budget, fits in ((width * size, True), (width * size - 1, False)):
        runtime = Aegis(cache=False, pooled=False, memory="64MiB", value_bytes=budget)
        with runtime.sandbox(runtime.load_wat(lists("", 0, text=size))) as sandbox:
            sandbox.call("fill", 64, ord("a"), size)
            for n, byte in enumerate(raw):
                sandbox.call("fill", 64 + n, byte, 1)
            if fits:
                assert sandbox.call("f") == tail + "a" * (size - len(raw))
            else:
                with pytest.raises(QuotaExceeded):
                    sandbox.call("f")


def texts(*ranges: tuple[int, int]) -> str:
    """Return a component whose ``f`` returns strings at these addresses of these lengths, in 16 MiB of "x"."""
    stores = " ".join(
        f"(i32.store (i32.const {16 + 4 * n}) (i32.const {word}))"
        for n, word in enumerate((24, len(ranges), *(word for pair in ranges for word in pair)))
    )
    return f"""(component
      (core module $m (memory (export "memory") 256)
        (func (export "f") (result i32)
          (memory.fill (i32.const 4096) (i32.const 120) (i32.const {(256 << 16) - 4096})) {stores} (i32.const 16)))
      (core instance $m (instantiate $m))
      (func (export "f") (result (list string)) (canon lift (core func $m "f") (memory (core memory $m "memory")))))"""


def test_strings_that_are_read_together_take_nothing_before_they_are_paid_for() -> None:
    """Oracle: ``tracemalloc``."""
    runtime = Aegis(cache=False, pooled=False, memory="64MiB", host_bytes="1MiB")
    with runtime.sandbox(runtime.load_wat(texts((4096, 5 << 20), (6 << 20, 5 << 20)))) as sandbox:
        tracemalloc.start()
        try:
            with pytest.raises(QuotaExceeded):
                sandbox.call("f")
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("ranges", "ends"),
    [
        ([(4096, 5000), (256 << 16, 1)], QuotaExceeded), ([(256 << 16, 1), (4096, 5000)], GuestTrap),
        ([(4096, 1), ((256 << 16) + 1, 0)], GuestTrap), ([(4096, 5000), (-1, 0)], QuotaExceeded),
    ],
)  # fmt: skip
def test_the_first_string_that_cannot_be_read_is_the_one_that_ends_a_call(
    ranges: list[tuple[int, int]], ends: type[Exception]
) -> None:
    runtime = Aegis(cache=False, pooled=False, memory="64MiB", host_bytes="2KiB")
    with runtime.sandbox(runtime.load_wat(texts(*ranges))) as sandbox, pytest.raises(ends):
        sandbox.call("f")
