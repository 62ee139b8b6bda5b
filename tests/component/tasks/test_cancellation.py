"""A call whose task is cancelled is cancelled in the guest, in every state, and leaves the other calls alone.

Oracle: ``Task.request_cancellation`` of CanonicalABI.md. A guest that confirms (``task.cancel``), or returns instead,
leaves the sandbox ready; one that does neither is stopped as a whole after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aegis import Aegis, Cancelled, Sandbox, SandboxStateError, StreamWriter
from tests.component.aegis_side import RUNTIME
from tests.component.tasks.async_guests import copier, script
from tests.component.tasks.copying import leftovers

SIGNATURES = {"run": '(param "how" u32) (result u32)', "other": '(param "s" $S) (result u32)', "open": "(result u32)"}
# The argument selects the answer of a cancelled task: 0 confirms, 1 returns, 2 goes on waiting, 3 traps, 4 confirms
# after a yield.
_CORE = """
    (global $how (mut i32) (i32.const 0))
    (global $shut (mut i32) (i32.const 0))
    (global $seen (mut i32) (i32.const 0))
    (func (export "run") (param $how i32) (result i32) (local $pair i64)
      (global.set $how (local.get $how))
      (local.set $pair (call $s-new))
      (drop (call $s-read (call $read-end (local.get $pair)) (i32.const 64) (i32.const 8)))
      (call $wait (call $read-end (local.get $pair))))
    (func (export "run-cb") (param i32 i32 i32) (result i32)
      (if (i32.eqz (local.get 0)) (then (call $task-cancel) (return (i32.const 0))))
      (if (i32.ne (local.get 0) (i32.const 6)) (then unreachable))
      (if (i32.eq (global.get $how) (i32.const 0)) (then (call $task-cancel) (return (i32.const 0))))
      (if (i32.eq (global.get $how) (i32.const 1)) (then (call $return (i32.const 7)) (return (i32.const 0))))
      (if (i32.eq (global.get $how) (i32.const 3)) (then unreachable))
      (if (i32.eq (global.get $how) (i32.const 4)) (then (return (i32.const 1))))
      (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
    (func (export "other") (param $s i32) (result i32) (local $set i32)
      (local.set $set (call $set-new))
      (call $ctx-set (local.get $s))
      (if (i32.ne (call $s-read (local.get $s) (i32.const 96) (i32.const 1)) (i32.const -1)) (then
        (call $return (i32.load8_u (i32.const 96))) (return (i32.const 0))))
      (call $join (local.get $s) (local.get $set))
      (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))
    (func (export "other-cb") (param i32 i32 i32) (result i32)
      (if (i32.ne (local.get 0) (i32.const 2)) (then unreachable))
      (call $return (i32.load8_u (i32.const 96))) (i32.const 0))
    (func (export "open") (result i32)
      (if (global.get $shut) (then (call $dec) (global.set $shut (i32.const 0)))
        (else (call $inc) (global.set $shut (i32.const 1))))
      (call $return (i32.const 7)) (i32.const 0))
"""


@contextlib.contextmanager
def guests(runtime: Aegis = RUNTIME) -> Any:
    with runtime.sandbox(runtime.load_wat(script(_CORE, SIGNATURES))) as sandbox:
        yield sandbox


async def begun(sandbox: Sandbox, tasks: int) -> None:
    """Wait until the guest has this many tasks."""
    while leftovers(sandbox)["tasks"] != tasks or sandbox._run.turns.concurrent()._queued:  # type: ignore[union-attr]
        await asyncio.sleep(0)


async def cancelled(call: asyncio.Task[Any]) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def with_another(sandbox: Sandbox, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do ``part`` while another call waits for a stream, and check that this one still gets its element."""
    writer: StreamWriter[int] = StreamWriter()
    other = asyncio.create_task(sandbox.acall("other", writer))
    await begun(sandbox, 1)
    await part()
    await writer.awrite(b"\x09")
    writer.close()
    assert await other == 9
    assert sandbox.state == "ready"


@pytest.mark.parametrize("how", [0, 1, 4], ids=["confirms", "returns", "confirms after a yield"])
def test_a_waiting_task_that_answers_leaves_the_sandbox_and_other_calls_unharmed(how: int) -> None:
    async def main(sandbox: Sandbox) -> None:
        async def part() -> None:
            call = asyncio.create_task(sandbox.acall("run", how))
            await begun(sandbox, 2)
            await cancelled(call)

        await with_another(sandbox, part)

    with guests() as sandbox:
        asyncio.run(main(sandbox))
        asyncio.run(main(sandbox))
        assert leftovers(sandbox)["tasks"] == 0


def test_a_timeout_of_asyncio_cancels_the_call() -> None:
    async def main(sandbox: Sandbox) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sandbox.acall("run", 0)

    with guests() as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_task_that_ignores_its_cancellation_is_stopped_after_a_second(twice: bool) -> None:
    async def main(sandbox: Sandbox) -> None:
        writer: StreamWriter[int] = StreamWriter()
        other = asyncio.create_task(sandbox.acall("other", writer))
        call = asyncio.create_task(sandbox.acall("run", 2))
        await begun(sandbox, 2)
        started = time.monotonic()
        call.cancel()
        if twice:  # a second cancellation does not free the guest from the first
            await asyncio.sleep(0)
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(Cancelled):
            await other
        assert time.monotonic() - started > 0.9
        assert sandbox.state == "poisoned"
        with pytest.raises(SandboxStateError):
            await sandbox.acall("open")
        sandbox.reset()
        assert await sandbox.acall("open") == 7

    with guests() as sandbox:
        asyncio.run(main(sandbox))


def test_a_trap_in_a_cancellation_ends_all_calls() -> None:
    async def main(sandbox: Sandbox) -> None:
        other = asyncio.create_task(sandbox.acall("other", StreamWriter()))
        call = asyncio.create_task(sandbox.acall("run", 3))
        await begun(sandbox, 2)
        await cancelled(call)
        with pytest.raises(Exception, match="unreachable"):
            await other

    with guests() as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "poisoned"


def test_a_task_that_has_not_started_is_cancelled_without_running() -> None:
    async def main(sandbox: Sandbox) -> None:
        async def part() -> None:
            assert await sandbox.acall("open") == 7  # backpressure: no task may start
            call = asyncio.create_task(sandbox.acall("run", 3))
            waits = asyncio.create_task(sandbox.acall("run", 0))
            await begun(sandbox, 3)
            await cancelled(call)
            await cancelled(waits)

        await with_another(sandbox, part)

    with guests() as sandbox:
        asyncio.run(main(sandbox))
        assert leftovers(sandbox)["tasks"] == 0


def test_a_call_that_is_cancelled_at_once_leaves_nothing() -> None:
    async def main(sandbox: Sandbox) -> None:
        for turns in range(30):  # before its turn, or soon after its beginning
            call = asyncio.create_task(sandbox.acall("run", 0))
            for _ in range(turns % 6):
                await asyncio.sleep(0)
            await cancelled(call)
        assert await sandbox.acall("open") == 7

    with guests() as sandbox:
        asyncio.run(main(sandbox))
        assert leftovers(sandbox)["tasks"] == 0


_BLOCKED = """
    (func (export "run") (result i32) (local $n i32)
      (local.set $n (call $slow))
      (call $return (local.get $n)) (i32.const 0))"""


def test_a_task_within_a_host_call_is_cancelled_when_that_returns() -> None:
    """A task that waits in the middle of its code is not interrupted: the request is pending until it returns."""
    release: list[asyncio.Event] = []

    async def slow() -> int:
        event = asyncio.Event()
        release.append(event)
        await event.wait()
        return 5

    text = script(_BLOCKED, {"run": "(result u32)"}, imports={"slow": ("async (result u32)", "(result i32)", "")})

    async def main(sandbox: Sandbox) -> None:
        call = asyncio.create_task(sandbox.acall("run"))
        while not release:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.sleep(0)
        release.pop().set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert sandbox.state == "ready"
        again = asyncio.create_task(sandbox.acall("run"))
        while not release:
            await asyncio.sleep(0)
        release.pop().set()
        assert await again == 5

    with RUNTIME.sandbox(RUNTIME.load_wat(text), imports={"slow": slow}) as sandbox:
        asyncio.run(main(sandbox))
        assert not any(leftovers(sandbox).values())


def test_a_cancelled_read_loses_no_element() -> None:
    async def main(sandbox: Sandbox) -> None:
        writer: StreamWriter[int] = StreamWriter()
        reader = await sandbox.acall("relay", writer, 5, 1)
        found: list[int] = []

        async def write() -> None:
            for n in range(300):
                await writer.awrite([n])
                await asyncio.sleep(0)
            writer.close()

        writing = asyncio.create_task(write())
        patience = 0
        while True:
            read = asyncio.create_task(reader.aread(3))
            for _ in range(patience % 40):
                await asyncio.sleep(0)
            patience += 7
            read.cancel()
            try:
                piece = await read
            except asyncio.CancelledError:
                continue
            if not piece:
                break
            found += piece
        await writing
        assert found == list(range(300))

    with RUNTIME.sandbox(RUNTIME.load_wat(copier("u32", imports=False))) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"
        assert not any(leftovers(sandbox).values())


def test_each_call_has_a_deadline_of_its_own() -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="0.5s")

    async def main(sandbox: Sandbox) -> None:
        for _ in range(4):  # together longer than the deadline of one
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await sandbox.acall("run", 0)
        assert sandbox.state == "ready"

    with guests(runtime) as sandbox:
        asyncio.run(main(sandbox))


def test_the_end_of_the_event_loop_cancels_the_call() -> None:
    async def main(sandbox: Sandbox, how: int) -> None:
        asyncio.get_running_loop().create_task(sandbox.acall("run", how))
        await begun(sandbox, 1)

    with guests() as sandbox:
        asyncio.run(main(sandbox, 0))
        state = sandbox.state
        assert state in ("ready", "poisoned")  # the loop cancels the call and the turn at once
        if state == "poisoned":
            sandbox.reset()
        assert asyncio.run(sandbox.acall("open")) == 7


def test_calls_overlap_on_loops_one_after_the_other() -> None:
    async def main(sandbox: Sandbox) -> None:
        writer: StreamWriter[int] = StreamWriter()
        other = asyncio.create_task(sandbox.acall("other", writer))
        await begun(sandbox, 1)
        await writer.awrite(b"\x05")
        assert await other == 5

    with guests() as sandbox:
        for _ in range(30):
            asyncio.run(main(sandbox))
        assert sandbox.state == "ready"
