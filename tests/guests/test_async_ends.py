"""What the application gives to py-streams ends with the sandbox, is read in bounded pieces, and outlives no guest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import aegis
from aegis import HostError, SandboxStateError, StreamWriter
from tests.guests import catalogue

FILTERS = "aegis:py-streams/filters#"
WAIT_SECONDS = 20
pytestmark = [pytest.mark.usual(one_of="isolate"), pytest.mark.usual(one_of="sandbox")]
every_place = pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])


class Origin:
    """The interface that the library imports."""

    async def fetch(self, name: str) -> str:
        return name

    def numbers(self, count: int) -> Iterator[int]:
        return iter(range(count))

    async def save(self, data: aegis.ByteStreamReader) -> int:
        return sum([len(piece) async for piece in data])


@pytest.fixture(scope="module")
def runtime() -> aegis.Aegis:
    return aegis.Aegis(timeout="60s", fuel=None)


@pytest.fixture(scope="module")
def artifact(runtime: aegis.Aegis) -> Any:
    return runtime.load_file(catalogue.built("py-streams"))


@pytest.fixture(params=[False, True], ids=["in process", "isolated"])
def sandbox(request: Any, runtime: aegis.Aegis, artifact: Any) -> Iterator[aegis.Sandbox]:
    with runtime.sandbox(artifact, imports={"aegis:py-streams/origin": Origin()}, isolate=request.param) as made:
        yield made


def endless(log: list[str], *, fails: bool = False) -> Iterator[int]:
    try:
        while True:
            yield 1
    finally:
        log.append("closed")
        if fails:
            raise RuntimeError("no")


ENDS: dict[str, Callable[[aegis.Sandbox], None]] = {"close": lambda s: s.close(), "reset": lambda s: s.reset()}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_sandbox_closes_the_iterators_that_its_guest_reads(sandbox: aegis.Sandbox, end: str) -> None:
    log: list[str] = []
    readers = [sandbox.call(FILTERS + "double", endless(log, fails=n == 1)) for n in range(3)]
    for reader in readers:
        assert reader.read(1) == [2]
    assert log == []
    ENDS[end](sandbox)
    assert log == ["closed"] * 3, "one that raises keeps no other open"
    for reader in readers:
        with pytest.raises(SandboxStateError):
            reader.read(5000)


@pytest.mark.parametrize("end", [*ENDS, "drop"])
def test_a_writer_that_waits_for_room_learns_of_the_end(sandbox: aegis.Sandbox, end: str) -> None:
    """The reader holds back the guest, so the writer fills its queue and waits; nothing else would wake it."""
    writer: StreamWriter[int] = StreamWriter(limit=1)
    ended: list[BaseException] = []
    full = threading.Event()

    def write() -> None:
        try:
            writer.write([1])
            full.set()
            while True:
                writer.write([1])
        except BrokenPipeError as error:
            ended.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert full.wait(WAIT_SECONDS)
    reader = sandbox.call(FILTERS + "double", writer)
    if end == "drop":
        reader.close()
        for _ in range(3):
            sandbox.call(FILTERS + "divide", 6, 2)
        if not writer.reader_dropped:  # the guest reads on until its next write fails
            sandbox.close()
    else:
        ENDS[end](sandbox)
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert len(ended) == 1


def test_a_writer_learns_that_the_guest_failed(sandbox: aegis.Sandbox) -> None:
    writer: StreamWriter[int] = StreamWriter(limit=2)
    writer.write([1])
    sandbox.call(FILTERS + "double", writer)

    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no")

    with pytest.raises(HostError, match="RuntimeError: no"):
        sandbox.call(FILTERS + "sum", broken())
    sandbox.close()
    assert writer.reader_dropped
    with pytest.raises(BrokenPipeError):
        writer.write([1])


def test_one_read_takes_few_elements_without_a_bound_on_their_size(sandbox: aegis.Sandbox) -> None:
    """The guest asks for 1,000 at once; each could be as large as the application makes it."""
    taken: list[int] = []

    def points() -> Iterator[dict[str, Any]]:
        for n in range(10_000):
            taken.append(n)
            yield {"x": n, "name": "n"}

    reader = sandbox.call(FILTERS + "rename", points())
    assert reader.read(1)[0].x == 0
    assert len(taken) <= 2 * 64
    rest = list(reader)
    assert [point.x for point in rest] == list(range(1, 10_000)), "and the others follow"


def test_numbers_are_taken_as_the_guest_asks(sandbox: aegis.Sandbox) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(10_000):
            taken.append(n)
            yield n

    reader = sandbox.call(FILTERS + "double", numbers())
    assert reader.read(1) == [0]
    assert 1000 <= len(taken) <= 2000


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 5000])
def test_pieces_of_a_writer_arrive_whole_and_in_order(sandbox: aegis.Sandbox, size: int) -> None:
    writer: StreamWriter[int] = StreamWriter(limit=20_000)
    numbers = list(range(3 * size))
    for at in range(0, len(numbers), size):
        piece = numbers[at : at + size]
        writer.write(piece)
        piece.clear()  # what was written is not the application's list any more
    writer.close()
    assert list(sandbox.call(FILTERS + "double", writer)) == [2 * n for n in numbers]


def test_a_future_that_the_guest_never_reads_is_cancelled_with_the_sandbox(runtime: aegis.Aegis, artifact: Any) -> None:
    ended: list[str] = []

    async def never() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")
        return ""

    async def main() -> None:
        imports = {"aegis:py-streams/origin": Origin()}
        async with runtime.asandbox(artifact, imports=imports, isolate=False) as sandbox:
            call = asyncio.ensure_future(sandbox.acall(FILTERS + "twice", never()))
            done, _ = await asyncio.wait([call], timeout=0.2)
            assert not done
            call.cancel()
            await asyncio.wait([call])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == ["ended"]


def test_an_asynchronous_iterable_is_closed_with_the_sandbox(runtime: aegis.Aegis, artifact: Any) -> None:
    ended = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def main(isolate: bool) -> None:
        imports = {"aegis:py-streams/origin": Origin()}
        async with runtime.asandbox(artifact, imports=imports, isolate=isolate) as sandbox:
            reader = await sandbox.acall(FILTERS + "double", numbers())
            assert (await reader.aread(1)) == [2]
            assert not ended.is_set()
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)

    for isolate in (False, True):
        ended = asyncio.Event()
        asyncio.run(main(isolate))


def test_the_event_loop_of_the_calls_under_way_keeps_the_sandbox(sandbox: aegis.Sandbox) -> None:
    """A call of another loop is refused, as one of another thread is, instead of ending with the first loop."""
    begun, go_on = threading.Event(), threading.Event()

    async def first() -> Any:
        async def numbers() -> AsyncIterator[int]:
            yield 1
            begun.set()
            while not go_on.is_set():
                await asyncio.sleep(0.001)
            yield 2

        return await sandbox.acall(FILTERS + "sum", numbers())

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(first())))
    thread.start()
    assert begun.wait(WAIT_SECONDS)
    with pytest.raises(SandboxStateError, match="busy"):
        asyncio.run(sandbox.acall(FILTERS + "sum", [1]))
    with pytest.raises(SandboxStateError, match="busy"):
        sandbox.call(FILTERS + "sum", [1])
    go_on.set()
    thread.join(WAIT_SECONDS)
    assert results == [3]
    assert asyncio.run(sandbox.acall(FILTERS + "sum", [4])) == 4, "afterwards another loop may call"


@every_place
@pytest.mark.parametrize("calls", [1, 3])
def test_the_loop_of_the_calls_may_make_more(runtime: aegis.Aegis, artifact: Any, calls: int, isolate: bool) -> None:
    async def main() -> list[Any]:
        imports = {"aegis:py-streams/origin": Origin()}
        async with runtime.asandbox(artifact, imports=imports, isolate=isolate) as sandbox:
            return await asyncio.gather(*[sandbox.acall(FILTERS + "sum", later(n)) for n in range(calls)])

    async def later(n: int) -> AsyncIterator[int]:
        await asyncio.sleep(0)
        yield n

    assert asyncio.run(main()) == list(range(calls))


@every_place
def test_what_calls_leave_behind_does_not_pile_up(isolate: bool) -> None:
    """Streams that are closed, forgotten or read to their end, and futures, are handles no more after a few calls."""
    with aegis.Aegis(timeout="60s", fuel=None, handles=50) as runtime:
        program = runtime.load_file(catalogue.built("py-streams"))
        imports = {"aegis:py-streams/origin": Origin()}
        with runtime.sandbox(program, imports=imports, isolate=isolate) as sandbox:
            for n in range(120):
                doubled = sandbox.call(FILTERS + "double", [1])
                if n % 3 == 0:
                    assert list(doubled) == [2]
                elif n % 3 == 1:
                    doubled.close()
                del doubled
                assert sandbox.call(FILTERS + "twice", "x") == "xx"
                assert sandbox.call(FILTERS + "later", "y").result() == "y"


@every_place
def test_what_overlapping_calls_leave_behind_does_not_pile_up(isolate: bool) -> None:
    async def main() -> None:
        with aegis.Aegis(timeout="60s", fuel=None, handles=60) as runtime:
            program = runtime.load_file(catalogue.built("py-streams"))
            imports = {"aegis:py-streams/origin": Origin()}
            async with runtime.asandbox(program, imports=imports, isolate=isolate) as sandbox:
                for n in range(60):
                    one, other = await asyncio.gather(
                        sandbox.acall(FILTERS + "double", [1]), sandbox.acall(FILTERS + "double", [2])
                    )
                    if n % 2:
                        assert [number async for number in one] == [2]
                    del one, other
                    assert await (await sandbox.acall(FILTERS + "later", "y")) == "y"

    asyncio.run(main())
