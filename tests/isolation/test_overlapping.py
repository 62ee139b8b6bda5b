"""Calls, reads and awaited answers of an isolated guest overlap as those of a guest in process do.

``test_same_tests.py`` runs the tests of asynchronous components in workers too; here are those that need a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import GuestTrap, Sandbox, SandboxStateError, StreamWriter, WorkerCrashed
from aegis.observe.events import ExecutionCompleted, ExecutionStarted
from tests.component.tasks.async_guests import async_echo, copier, script
from tests.component.tasks.copying import leftovers
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime, shared

pytestmark = only_where_there_are_workers
PACE = (5, 1)
SEEDS = st.integers(0, 2**31)


def echo(place: str, of: Any, function: Callable[..., Any], **options: Any) -> Sandbox:
    """Return a guest whose ``through`` awaits the host function."""
    component = shared(place).load_wat(async_echo(of, encoding="utf8", lower="async"))
    return shared(place).sandbox(component, imports={"echo": function}, **options)


@pytest.mark.parametrize("place", PLACES)
def test_host_functions_of_overlapping_calls_wait_together(place: str) -> None:
    """No function returns before all have begun, so calls one after the other would never end."""

    async def main() -> list[Any]:
        together = asyncio.Barrier(10)

        async def waits(n: int) -> int:
            await together.wait()
            return n

        with echo(place, "u32", waits) as sandbox:
            return await asyncio.gather(*[sandbox.acall("through", n) for n in range(10)])

    assert asyncio.run(main()) == [[n] for n in range(10)]


@pytest.mark.parametrize("place", PLACES)
def test_a_plain_host_function_answers_while_an_awaited_one_waits(place: str) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def waits(n: int) -> int:
            await release.wait()
            return n

        with echo(place, "u32", lambda n: waits(n) if n == 1 else n) as sandbox:
            first = asyncio.create_task(sandbox.acall("through", 1))
            for n in range(2, 20):
                assert await sandbox.acall("through", n) == [n]
            assert not first.done()
            release.set()
            assert await first == [1]

    asyncio.run(main())


@pytest.mark.parametrize("place", PLACES)
def test_long_values_pass_both_ways_at_once(place: str) -> None:
    """Neither side may wait to send while the other waits too: the channel holds much less than one value."""
    size = 3 << 20

    async def waits(text: str) -> str:
        await asyncio.sleep(0)
        return text[::-1]

    async def main() -> None:
        with echo(place, "string", waits) as sandbox:
            values = [chr(ord("a") + n) * size + str(n) for n in range(6)]
            found = await asyncio.gather(*[sandbox.acall("through", value) for value in values])
            assert found == [[value[::-1]] for value in values]

    asyncio.run(main())


_RETURNS_AND_GOES_ON = """(component
  (type $L (list u8))
  (import "told" (func $told (param "x" $L) (result u32)))
  (core module $Memory (memory (export "m") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8)))
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "m" (core memory $m))
  (core func $told' (canon lower (func $told) (memory $m)))
  (core func $return (canon task.return (result $L) (memory $m)))
  (core module $M
    (import "" "m" (memory 4))
    (import "" "told" (func $told (param i32 i32) (result i32)))
    (import "" "return" (func $return (param i32 i32)))
    (func (export "run") (result i32)
      (memory.fill (i32.const 1024) (i32.const 7) (i32.const 100000))
      (call $return (i32.const 1024) (i32.const 100000))
      (memory.fill (i32.const 1024) (i32.const 9) (i32.const 100000))
      (drop (call $told (i32.const 1024) (i32.const 100000)))
      (i32.const 0))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $M (with "" (instance
    (export "m" (memory $m)) (export "told" (func $told')) (export "return" (func $return))))))
  (func (export "run") async (result $L)
    (canon lift (core func $i "run") async (callback (core func $i "cb")) (memory $m))))"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["call", "acall"])
def test_a_result_is_kept_while_its_task_goes_on_and_calls_the_host(place: str, how: str) -> None:
    told: list[int] = []
    component = shared(place).load_wat(_RETURNS_AND_GOES_ON)

    def tell(data: bytes) -> int:
        told.append(data[0])
        return len(data)

    with shared(place).sandbox(component, imports={"told": tell}) as sandbox:
        found = sandbox.call("run") if how == "call" else asyncio.run(sandbox.acall("run"))
    assert found == b"\x07" * 100_000
    assert told == [9]


@pytest.mark.parametrize("place", PLACES)
def test_a_call_of_numbers_gets_an_answer_that_was_pending_before(place: str) -> None:
    """From the second call on, such calls use fixed frames, which know of no answers that come later."""
    component = shared(place).load_wat(_KEEPS)
    writer: StreamWriter[int] = StreamWriter()
    with shared(place).sandbox(component) as sandbox:
        assert [sandbox.call("add", n) for n in range(3)] == [0, 0, 0]
        sandbox.call("begin", writer)
        timer = threading.Timer(0.05, lambda: writer.write(b"\x05"))
        timer.start()
        assert sandbox.call("wait") == 5
        timer.join()


# ``begin`` starts to read a stream, and returns; ``wait`` waits for the byte.
_KEEPS = """(component
  (type $S (stream u8))
  (core module $Memory (memory (export "m") 1))
  (core instance $memory (instantiate $Memory))
  (core func $read (canon stream.read $S async (memory (core memory $memory "m"))))
  (core func $set (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core func $return (canon task.return (result u32)))
  (core module $M
    (import "" "m" (memory 1))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "set" (func $set (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (import "" "return" (func $return (param i32)))
    (global $end (mut i32) (i32.const 0))
    (func (export "begin") (param i32) (result i32)
      (global.set $end (local.get 0))
      (drop (call $read (local.get 0) (i32.const 8) (i32.const 1)))
      (call $return (i32.const 1)) (i32.const 0))
    (func (export "add") (param i32) (result i32)
      (call $return (i32.const 0)) (i32.const 0))
    (func (export "wait") (result i32) (local $s i32)
      (local.set $s (call $set))
      (call $join (global.get $end) (local.get $s))
      (i32.or (i32.const 2) (i32.shl (local.get $s) (i32.const 4))))
    (func (export "cb") (param i32 i32 i32) (result i32)
      (call $return (i32.load8_u (i32.const 8))) (i32.const 0)))
  (core instance $i (instantiate $M (with "" (instance
    (export "m" (memory $memory "m")) (export "read" (func $read)) (export "set" (func $set))
    (export "join" (func $join)) (export "return" (func $return))))))
  (func (export "begin") async (param "s" $S) (result u32)
    (canon lift (core func $i "begin") async (callback (core func $i "cb"))))
  (func (export "add") async (param "n" u32) (result u32)
    (canon lift (core func $i "add") async (callback (core func $i "cb"))))
  (func (export "wait") async (result u32)
    (canon lift (core func $i "wait") async (callback (core func $i "cb")))))"""


_GIVES_UP = """
    (global $s (mut i32) (i32.const 0))
    (func (export "begin") (param $s i32) (result i32)
      (global.set $s (local.get $s))
      (drop (call $s-read (local.get $s) (i32.const 64) (i32.const 8)))
      (drop (call $s-cancel-read (local.get $s)))
      (call $return (i32.const 1)) (i32.const 0))
    (func (export "give-up") (result i32)
      (call $s-drop-read (global.get $s)) (call $return (i32.const 2)) (i32.const 0))
    (func (export "quiet") (result i32) (call $return (i32.const 3)) (i32.const 0))
    (func (export "trap") (result i32) unreachable)"""
_GIVES_UP_TYPES = {
    "begin": '(param "s" $S) (result u32)', "give-up": "(result u32)", "quiet": "(result u32)", "trap": "(result u32)",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("raises", [False, True], ids=["ends", "raises"])
def test_a_stream_that_the_guest_gave_up_is_closed_and_its_error_ends_nothing(place: str, raises: bool) -> None:
    async def main(sandbox: Sandbox) -> None:
        go_on, ended = asyncio.Event(), asyncio.Event()

        async def numbers() -> AsyncIterator[bytes]:
            try:
                await go_on.wait()
                if raises:
                    raise KeyError("no")
                yield b"late"
            finally:
                ended.set()

        assert await sandbox.acall("begin", numbers()) == 1
        go_on.set()
        if raises:
            await ended.wait()
        for _ in range(20):  # the answer arrives while the guest runs
            assert await sandbox.acall("quiet") == 3
        assert await sandbox.acall("give-up") == 2
        await asyncio.wait_for(ended.wait(), 20)
        assert await sandbox.acall("quiet") == 3
        assert not leftovers(sandbox)["ends"]
        with pytest.raises(GuestTrap, match="unreachable"):
            await sandbox.acall("trap")

    with shared(place).sandbox(shared(place).load_wat(script(_GIVES_UP, _GIVES_UP_TYPES))) as sandbox:
        asyncio.run(main(sandbox))


def test_the_death_of_a_worker_ends_the_calls_under_way_and_the_next_one_has_a_new_guest() -> None:
    async def main() -> None:
        with shared("isolated").sandbox(shared("isolated").load_wat(copier("u8", imports=False))) as sandbox:
            calls = [asyncio.create_task(sandbox.acall("collect", StreamWriter(), *PACE, 5)) for _ in range(3)]
            while leftovers(sandbox)["operations"] < 3:
                await asyncio.sleep(0)
            os.kill(sandbox._run.store.worker.pid, signal.SIGKILL)  # type: ignore[union-attr]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(end) for end in ends] == [WorkerCrashed] * 3
            assert await sandbox.acall("collect", b"new", *PACE, 5) == b"new"

    asyncio.run(main())


@pytest.mark.parametrize("place", PLACES)
def test_each_overlapping_call_has_its_events(place: str) -> None:
    events: list[Any] = []

    async def waits(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def main() -> None:
        with echo(place, "u32", waits, subscribers=[events.append]) as sandbox:
            await asyncio.gather(*[sandbox.acall("through", n) for n in range(4)])

    asyncio.run(main())
    assert len([event for event in events if isinstance(event, ExecutionStarted)]) == 4
    assert len([event for event in events if isinstance(event, ExecutionCompleted) and event.status == "returned"]) == 4


@pytest.mark.parametrize("place", PLACES)
def test_an_answer_step_gets_the_calls_of_awaited_functions(place: str) -> None:
    seen: list[tuple[str, Any]] = []

    def step(call: Any) -> Any:
        seen.append((call.function, call.arguments))
        return call.answer()

    async def waits(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    async def main() -> None:
        with echo(place, "u32", waits, answer=step) as sandbox:
            found = await asyncio.gather(*[sandbox.acall("through", n) for n in range(3)])
            assert found == [[1], [2], [3]]

    asyncio.run(main())
    assert sorted(seen) == [("echo", (n,)) for n in range(3)]


# -- random streams and cancellations -------------------------------------------------------------


class Feed:
    """An asynchronous stream of numbers that waits at random; ``closed`` tells whether it was closed."""

    def __init__(self, count: int, choose: random.Random) -> None:
        self.count, self.choose = count, choose
        self.begun = self.closed = False

    async def numbers(self) -> AsyncIterator[int]:
        self.begun = True
        try:
            for n in range(self.count):
                for _ in range(self.choose.choice((0, 0, 1, 5))):
                    await asyncio.sleep(0)
                yield n
        finally:
            self.closed = True


async def _collected(sandbox: Sandbox, choose: random.Random, feeds: list[Feed], reading: set[Any]) -> None:
    feed = Feed(choose.randrange(50), choose)
    feeds.append(feed)
    most = choose.randrange(60)
    found = await sandbox.acall("collect", feed.numbers(), choose.choice((1, 3, 20)), choose.getrandbits(31), most)
    assert found == list(range(min(feed.count, most)))


async def _relayed(sandbox: Sandbox, choose: random.Random, feeds: list[Feed], reading: set[Any]) -> None:
    """Read a relayed stream by reads that are cancelled at random: no element is lost.

    The task is ``reading`` from the end of its call on: this guest does not know how to cancel a call.
    """
    feed = Feed(choose.randrange(50), choose)
    feeds.append(feed)
    reader = await sandbox.acall("relay", feed.numbers(), choose.choice((1, 3, 20)), choose.getrandbits(31))
    reading.add(asyncio.current_task())
    found: list[int] = []
    early = choose.random() < 0.3
    while True:
        read = asyncio.create_task(reader.aread(choose.choice((1, 4, 100))))
        for _ in range(choose.choice((0, 1, 3, 10, 1000))):
            if read.done():
                break
            await asyncio.sleep(0)
        if choose.random() < 0.5:
            read.cancel()
        try:
            piece = await read
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            continue
        if not piece or (early and choose.random() < 0.2):
            break
        found += piece
    reader.close()
    assert found == list(range(len(found)))
    assert early or len(found) == feed.count


def random_streams(place: str, seed: int) -> None:
    """Oracle: numbers arrive once and in order, whatever else is cancelled, and the guest can be called afterwards."""
    choose = random.Random(seed)
    feeds: list[Feed] = []
    reading: set[Any] = set()

    async def main(sandbox: Sandbox) -> None:
        tasks = [
            asyncio.create_task(choose.choice((_collected, _relayed))(sandbox, choose, feeds, reading))
            for _ in range(8)
        ]
        for task in tasks:
            for _ in range(choose.choice((0, 3, 20))):
                await asyncio.sleep(0)
            if task in reading and choose.random() < 0.4:
                task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if end is not None and not isinstance(end, asyncio.CancelledError):
                raise end
        for _ in range(1000):  # the guest learns of closed streams when it runs, and closes those that it reads
            if all(feed.closed or not feed.begun for feed in feeds):
                break
            with contextlib.suppress(Exception):
                await sandbox.acall("collect", Feed(1, choose).numbers(), 1, 1, 1)

    component = shared(place).load_wat(copier("u32", imports=False))
    with shared(place).sandbox(component) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=12)
@given(SEEDS)
def test_random_streams_survive_cancellations(place: str, seed: int) -> None:
    random_streams(place, seed)


@settings(max_examples=8)
@given(SEEDS)
def test_calls_end_soon_though_the_worker_is_killed_at_any_moment(seed: int) -> None:
    """Oracle: each call ends with its result or ``WorkerCrashed``, and the sandbox can be reset."""
    choose = random.Random(seed)

    async def one(sandbox: Sandbox) -> None:
        reader = await sandbox.acall("relay", Feed(30, choose).numbers(), 3, 1)
        found = [number async for number in reader]
        assert found == list(range(30))

    async def main(sandbox: Sandbox) -> None:
        calls = [asyncio.create_task(one(sandbox)) for _ in range(5)]
        await asyncio.sleep(choose.random() * 0.03)
        os.kill(sandbox._run.store.worker.pid, signal.SIGKILL)  # type: ignore[union-attr]
        ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 15)
        assert all(end is None or isinstance(end, (WorkerCrashed, SandboxStateError)) for end in ends), ends
        sandbox.reset()
        await one(sandbox)

    with shared("isolated").sandbox(shared("isolated").load_wat(copier("u32", imports=False))) as sandbox:
        asyncio.run(main(sandbox))


@pytest.mark.long
@settings(max_examples=200)
@given(SEEDS)
def test_more_random_streams_survive_cancellations_in_workers(seed: int) -> None:
    random_streams("isolated", seed)


def test_the_limit_of_time_of_a_call_counts_from_its_start() -> None:
    with runtime("isolated", timeout="1s") as made:
        component = made.load_wat(copier("u8", imports=False))

        async def main(sandbox: Sandbox) -> None:
            """Calls that overlap without a pause take longer together than each may."""
            begun = asyncio.get_running_loop().time()

            async def slow() -> AsyncIterator[bytes]:
                for _ in range(3):
                    await asyncio.sleep(0.1)
                    yield b"x"

            async def calls() -> None:
                while asyncio.get_running_loop().time() < begun + 1.5:
                    assert await sandbox.acall("collect", slow(), *PACE, 9) == b"xxx"

            other = asyncio.create_task(calls())
            await asyncio.sleep(0.15)
            await asyncio.gather(other, calls())

        with made.sandbox(component) as sandbox:
            asyncio.run(main(sandbox))
            assert sandbox.state == "ready"
