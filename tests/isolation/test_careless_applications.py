"""Applications that misuse event loops, iterables and awaitables get the same errors from a guest in both places.

Oracle: each call ends soon with a result or an error of Aegis, long before its deadline, and the sandbox can be closed.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from aegis import CallError, DeadlineExceeded, FutureWriter, HostError, Sandbox, SandboxStateError, StreamWriter
from tests.component.tasks.async_guests import async_echo, copier
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime, shared

pytestmark = [only_where_there_are_workers, pytest.mark.parametrize("place", PLACES)]
PACE = (5, 1, 9)


def guest(place: str, of: Any = "u32", **policy: Any) -> Sandbox:
    made = runtime(place, **policy) if policy else shared(place)
    return made.sandbox(made.load_wat(copier(of, imports=False)))


class _FailsToBegin:
    """Not asynchronous and asynchronous iterables that give no iterator."""

    class Raises:
        def __iter__(self) -> Iterator[int]:
            raise KeyError("iter")

    class GivesNone:
        def __iter__(self) -> Any:
            return 5

    class RaisesLater:
        def __aiter__(self) -> AsyncIterator[int]:
            raise KeyError("aiter")

    class GivesNoneLater:
        def __aiter__(self) -> Any:
            return 5


@pytest.mark.parametrize("kind", [_FailsToBegin.Raises, _FailsToBegin.GivesNone])
def test_an_iterable_without_an_iterator_fails_the_call_alone(place: str, kind: Callable[[], Any]) -> None:
    async def main(sandbox: Sandbox) -> None:
        writer: StreamWriter[int] = StreamWriter()
        other = asyncio.create_task(sandbox.acall("collect", writer, *PACE))
        with pytest.raises(CallError, match=r"a stream of the host raised (KeyError|TypeError)"):
            await asyncio.wait_for(sandbox.acall("collect", kind(), *PACE), 10)
        await writer.awrite([1, 2])
        writer.close()
        assert await other == [1, 2]
        assert sandbox.state == "ready"

    with guest(place) as sandbox:
        asyncio.run(main(sandbox))
        with pytest.raises(CallError, match=r"a stream of the host raised (KeyError|TypeError)"):
            sandbox.call("collect", kind(), *PACE)


@pytest.mark.parametrize("kind", [_FailsToBegin.RaisesLater, _FailsToBegin.GivesNoneLater])
def test_an_asynchronous_iterable_without_an_iterator_ends_the_run(place: str, kind: Callable[[], Any]) -> None:
    with guest(place) as sandbox, pytest.raises(HostError, match=r"a stream of the host raised (KeyError|TypeError)"):
        asyncio.run(sandbox.acall("collect", kind(), *PACE))


def test_an_exception_outside_of_the_guest_ends_all_calls_of_the_turn(place: str) -> None:
    """A ``TypeError`` is not taken for that of wrong arguments, after which nothing would wait for the other calls."""

    class Broken(FutureWriter[int]):
        def attach(self, take: Callable[[int], None]) -> None:
            raise TypeError("broken")

    async def main(sandbox: Sandbox) -> None:
        writer: StreamWriter[int] = StreamWriter()
        other = asyncio.create_task(sandbox.acall("collect", writer, *PACE))
        with pytest.raises((TypeError, CallError)):
            await asyncio.wait_for(sandbox.acall("keep", Broken()), 10)
        writer.close()
        with suppress(TypeError):
            await asyncio.wait_for(other, 10)

    with guest(place, "u8") as sandbox:
        asyncio.run(main(sandbox))


def test_an_awaitable_is_awaited_once(place: str) -> None:
    async def nested(n: int) -> Any:
        return asyncio.get_running_loop().create_future()

    component = shared(place).load_wat(async_echo("u32", encoding="utf8", lower="async"))
    with (
        shared(place).sandbox(component, imports={"echo": nested}) as sandbox,
        pytest.raises(HostError, match="host function echo returned an invalid result"),
    ):
        asyncio.run(sandbox.acall("through", 1))


def test_a_generator_that_raises_as_it_is_closed_does_not_keep_a_sandbox_open(place: str) -> None:
    def empty() -> Iterator[bytes]:
        try:
            while True:
                yield b""
        finally:
            raise KeyError("closed")

    with guest(place, "u8", timeout="0.3s") as sandbox, pytest.raises(DeadlineExceeded):
        asyncio.run(sandbox.acall("collect", empty(), *PACE))
    assert sandbox.state == "closed"


def test_a_loop_that_is_closed_in_the_middle_of_a_call_leaves_a_sandbox_that_can_be_reset(place: str) -> None:
    async def begin(sandbox: Sandbox) -> Any:
        call = asyncio.ensure_future(sandbox.acall("collect", StreamWriter(), *PACE))
        while not sandbox._run.turns.concurrent()._running:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        return call

    async def again(sandbox: Sandbox) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:  # the guest leaves its call at the deadline
            with pytest.raises(SandboxStateError) as raised:
                await sandbox.acall("collect", b"new", *PACE)
            if raised.value.state == "poisoned":
                break
            await asyncio.sleep(0.01)
        sandbox.reset()
        assert await sandbox.acall("collect", b"new", *PACE) == b"new"

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it reports the tasks that the application has left
    with guest(place, "u8", timeout="0.3s") as sandbox:
        call = loop.run_until_complete(begin(sandbox))
        loop.close()
        asyncio.run(again(sandbox))
        del call
        gc.collect()  # neither task of the closed loop waits for anything as it is collected


def test_a_future_that_was_awaited_can_be_passed_back(place: str) -> None:
    async def main(sandbox: Sandbox) -> None:
        future = await sandbox.acall("promise", b"\x05")
        assert await future == 5
        assert await sandbox.acall("keep", future) == b"\x05"

    with guest(place, "u8") as sandbox:
        asyncio.run(main(sandbox))


def test_an_awaitable_that_is_returned_after_the_deadline_is_cancelled(place: str) -> None:
    component = (made := runtime(place, timeout="0.3s")).load_wat(async_echo("u32", encoding="utf8", lower="async"))

    async def main() -> None:
        held = asyncio.get_running_loop().create_future()

        async def waits() -> Any:
            return await held

        def late(n: int) -> Any:
            while time.monotonic() <= sandbox._run.door.deadline:
                time.sleep(0.01)
            return waits()

        with made.sandbox(component, imports={"echo": late}) as sandbox, pytest.raises(DeadlineExceeded):
            await sandbox.acall("through", 1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
