"""The library py-streams, whose functions are asynchronous, called synchronously and on an event loop."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import aegis
from aegis import ByteStreamReader, CallError, Err, FutureReader, FutureWriter, HostError, StreamReader, StreamWriter
from tests.guests import catalogue

FILTERS = "aegis:py-streams/filters#"
NUMBERS = list(range(3000))
pytestmark = [pytest.mark.usual(one_of="isolate"), pytest.mark.usual(one_of="sandbox")]
every_place = pytest.mark.parametrize("isolate", [False, True], ids=["in process", "isolated"])


class Origin:
    """The interface that the library imports: ``arrived`` holds back each fetch until ``together`` have begun."""

    def __init__(self, together: int = 1) -> None:
        self.together, self.waiting, self.all = together, 0, asyncio.Event()
        self.saved: list[int] = []

    async def fetch(self, name: str) -> str:
        self.waiting += 1
        if self.waiting >= self.together:
            self.all.set()
        await self.all.wait()
        return f"<{name}>"

    def numbers(self, count: int) -> Iterator[int]:
        return iter(range(count))

    async def save(self, data: ByteStreamReader) -> int:
        async for piece in data:
            self.saved.append(len(piece))
        return sum(self.saved)


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


async def later(values: Any) -> AsyncIterator[Any]:
    for value in values:
        await asyncio.sleep(0)
        yield value


def test_a_stream_is_an_iterable_in_both_directions(sandbox: aegis.Sandbox) -> None:
    result = sandbox.call(FILTERS + "double", iter(NUMBERS))
    assert isinstance(result, StreamReader)
    assert [next(result), *result.read(2), *result] == [2 * n for n in NUMBERS]
    assert result.read() == []
    assert sandbox.call(FILTERS + "sum", NUMBERS) == sum(NUMBERS)


@pytest.mark.parametrize("kind", ["bytes", "pieces", "file"])
def test_a_stream_of_bytes_takes_and_gives_pieces(sandbox: aegis.Sandbox, kind: str) -> None:
    sources = {
        "bytes": b"text" * 50_000, "pieces": [b"te", b"", bytearray(b"xt" * 3)], "file": io.BytesIO(b"text" * 30_000),
    }  # fmt: skip
    source: Any = sources[kind]
    text = (
        source.getvalue()
        if isinstance(source, io.BytesIO)
        else b"".join(source)
        if isinstance(source, list)
        else source
    )
    result = sandbox.call(FILTERS + "upper", source)
    assert isinstance(result, ByteStreamReader)
    assert b"".join(result) == text.upper()


def test_elements_may_be_records(sandbox: aegis.Sandbox) -> None:
    points = sandbox.call(FILTERS + "rename", [{"x": n, "name": str(n)} for n in range(50)])
    assert [(p.x, p.name) for p in points] == [(n, str(n) * 2) for n in range(50)]


def test_a_future_is_a_value_or_is_written_later(sandbox: aegis.Sandbox) -> None:
    assert sandbox.call(FILTERS + "twice", "ab") == "abab"
    writer: FutureWriter[str] = FutureWriter()
    writer.set("xy")
    assert sandbox.call(FILTERS + "twice", writer) == "xyxy"
    result = sandbox.call(FILTERS + "later", "text")
    assert isinstance(result, FutureReader)
    assert (result.result(), result.result()) == ("text", "text")


def test_a_reader_is_passed_on_without_being_read(runtime: aegis.Aegis, artifact: Any) -> None:
    with runtime.sandbox(artifact, imports={"aegis:py-streams/origin": Origin()}, isolate=False) as sandbox:
        once = sandbox.call(FILTERS + "double", NUMBERS)
        assert list(sandbox.call(FILTERS + "double", once)) == [4 * n for n in NUMBERS]
        with pytest.raises(CallError, match="passed on already"):
            once.read()


def test_a_reader_of_an_isolated_guest_cannot_be_passed_back(runtime: aegis.Aegis, artifact: Any) -> None:
    with runtime.sandbox(artifact, imports={"aegis:py-streams/origin": Origin()}, isolate=True) as sandbox:
        once = sandbox.call(FILTERS + "double", [1, 2])
        with pytest.raises(CallError, match="read it, and pass the elements"):
            sandbox.call(FILTERS + "double", once)
        assert list(sandbox.call(FILTERS + "double", list(once))) == [4, 8]


def test_a_reader_of_another_sandbox_is_a_stream_like_any(runtime: aegis.Aegis, artifact: Any) -> None:
    imports = {"aegis:py-streams/origin": Origin()}
    for one, other in [(False, False), (True, False), (False, True)]:
        with (
            runtime.sandbox(artifact, imports=imports, isolate=one) as first,
            runtime.sandbox(artifact, imports=imports, isolate=other) as second,
        ):
            doubled = first.call(FILTERS + "double", NUMBERS)
            assert list(second.call(FILTERS + "double", doubled)) == [4 * n for n in NUMBERS]


def test_an_endless_stream_ends_when_its_reader_is_closed(sandbox: aegis.Sandbox) -> None:
    with sandbox.call(FILTERS + "count-up") as numbers:
        assert numbers.read(1) == [0]
        assert [n for n, _ in zip(numbers, range(5), strict=False)] == [1, 2, 3, 4, 5]
    assert sandbox.call(FILTERS + "divide", 7, 2) == 3


def test_errors_of_a_result_are_raised(sandbox: aegis.Sandbox) -> None:
    with pytest.raises(Err, match="division by zero"):
        sandbox.call(FILTERS + "divide", 1, 0)

    async def main() -> None:
        with pytest.raises(Err, match="division by zero"):
            await sandbox.acall(FILTERS + "divide", 1, 0)
        assert await sandbox.acall(FILTERS + "divide", 6, 3) == 2

    asyncio.run(main())


def test_wrong_arguments_leave_the_guest_usable(sandbox: aegis.Sandbox) -> None:
    for arguments in [(1,), (1, 2, 3), ("x", 1)]:
        with pytest.raises(CallError):
            asyncio.run(sandbox.acall(FILTERS + "divide", *arguments))
    assert sandbox.call(FILTERS + "divide", 8, 2) == 4


def test_a_wrong_element_ends_the_run_and_is_named(sandbox: aegis.Sandbox) -> None:
    with pytest.raises(HostError, match=r"wrong element.*\b1\b.*u32"):
        sandbox.call(FILTERS + "sum", [1, "two"])
    assert sandbox.state == "poisoned"


def test_an_exception_of_an_iterator_ends_the_run_and_is_the_cause(sandbox: aegis.Sandbox) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("lost")

    with pytest.raises(HostError, match="raised KeyError") as caught:
        sandbox.call(FILTERS + "sum", broken())
    assert isinstance(caught.value.__cause__, KeyError)


@every_place
def test_waits_of_one_call_overlap(runtime: aegis.Aegis, artifact: Any, isolate: bool) -> None:
    """No fetch returns before all have begun, so waits one after the other would never end."""

    async def main() -> None:
        origin = Origin(together=20)
        async with runtime.asandbox(artifact, imports={"aegis:py-streams/origin": origin}, isolate=isolate) as sandbox:
            names = [str(n) for n in range(20)]
            assert await sandbox.acall(FILTERS + "fetch-all", names) == [f"<{n}>" for n in names]

    asyncio.run(main())


@every_place
def test_calls_of_one_sandbox_overlap(runtime: aegis.Aegis, artifact: Any, isolate: bool) -> None:
    async def main() -> None:
        origin = Origin(together=10)
        async with runtime.asandbox(artifact, imports={"aegis:py-streams/origin": origin}, isolate=isolate) as sandbox:
            calls = [sandbox.acall(FILTERS + "fetch-all", [str(n)]) for n in range(10)]
            assert await asyncio.gather(*calls) == [[f"<{n}>"] for n in range(10)]
            got = asyncio.create_task(sandbox.acall(FILTERS + "get"))
            await sandbox.acall(FILTERS + "put", 7)
            assert await got == 7

    asyncio.run(main())


def test_asynchronous_iterables_and_writers_are_streams(sandbox: aegis.Sandbox) -> None:
    async def write(writer: StreamWriter[int]) -> None:
        async with writer:
            for n in NUMBERS:
                await writer.awrite([n])

    async def main() -> None:
        assert await sandbox.acall(FILTERS + "sum", later(NUMBERS)) == sum(NUMBERS)
        doubled = await sandbox.acall(FILTERS + "double", later(NUMBERS))
        assert [n async for n in doubled] == [2 * n for n in NUMBERS]
        writer: StreamWriter[int] = StreamWriter(limit=10)
        async with asyncio.TaskGroup() as group:
            group.create_task(write(writer))
            total = group.create_task(sandbox.acall(FILTERS + "sum", writer))
        assert total.result() == sum(NUMBERS)
        assert await sandbox.acall(FILTERS + "twice", asyncio.sleep(0, "q")) == "qq"
        assert await (await sandbox.acall(FILTERS + "later", "z")) == "z"

    asyncio.run(main())


@every_place
def test_an_asynchronous_method_reads_what_the_guest_writes(runtime: aegis.Aegis, artifact: Any, isolate: bool) -> None:
    async def main() -> None:
        origin = Origin()
        async with runtime.asandbox(artifact, imports={"aegis:py-streams/origin": origin}, isolate=isolate) as sandbox:
            assert await sandbox.acall(FILTERS + "save", 10, 100_000) == 1_000_000
        assert sum(origin.saved) == 1_000_000
        assert max(origin.saved) <= 65536

    asyncio.run(main())


def test_a_stream_that_the_guest_drops_stops_its_writer(sandbox: aegis.Sandbox) -> None:
    ended = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    async def main() -> None:
        numbers = await sandbox.acall(FILTERS + "double", endless())
        assert await numbers.aread(1) == [2]
        numbers.close()
        while not ended:  # each call lets the guest run, which drops the stream of the closed reader's source
            await sandbox.acall(FILTERS + "divide", 1, 1)

    asyncio.run(main())


def test_a_coroutine_needs_an_event_loop(sandbox: aegis.Sandbox) -> None:
    with pytest.raises(CallError, match=r"await sandbox\.acall"):
        sandbox.call(FILTERS + "sum", later([1]))


def test_a_reader_outlives_its_sandbox_without_harm(runtime: aegis.Aegis, artifact: Any) -> None:
    with runtime.sandbox(artifact, imports={"aegis:py-streams/origin": Origin()}, isolate=False) as sandbox:
        numbers = sandbox.call(FILTERS + "count-up")
    with pytest.raises(aegis.SandboxStateError, match="closed or replaced"):
        numbers.read()
    numbers.close()
