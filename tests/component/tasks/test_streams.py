"""Streams and futures of any type, in pieces of random sizes: every element arrives exactly once and in order.

Oracle: the list of the elements. The guest reads and writes in pieces of random sizes, some empty, and cancels some of
its copies; the host gives lists, generators, asynchronous generators and writers, and reads in pieces of random sizes.
Either side may drop its end at a random element: then the other has a prefix. Afterwards nothing is left: no handle, no
task, no operation of the host.
"""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, HostError, QuotaExceeded
from aegis.wit.types import Record, Stream, Tuple, WitType
from tests.component.strategies import any_types, neutral
from tests.component.tasks.async_guests import ENCODINGS, composed, copier
from tests.component.tasks.copying import Copier, feeds, leftovers
from tests.wit.strategies import same

ELEMENTS = st.none() | st.sampled_from(("u8", "u8", "s16", "u64", "f32", "string")) | any_types(4)
SEEDS = st.integers(0, 2**31)


@st.composite
def cases(draw: st.DrawFn) -> tuple[WitType | None, list[Any], random.Random]:
    """An element type, elements, and the choices of a run."""
    of = draw(ELEMENTS.filter(lambda of: of != "char"))
    values = draw(st.lists(st.none() if of is None else neutral(of), max_size=6))
    choose = random.Random(draw(SEEDS))
    return of, values * choose.choice((1, 1, 2, 30)), choose


def prefix(found: list[Any], values: list[Any]) -> bool:
    return len(found) <= len(values) and same(found, values[: len(found)])


def pace(choose: random.Random) -> tuple[int, int]:
    """Return the greatest piece of a guest, and the seed of its choices."""
    return choose.choice((1, 2, 5, 100)), choose.getrandbits(32)


def left(one: Copier) -> dict[str, int]:
    gc.collect()
    one.settle()
    return {name: count for name, count in leftovers(one.sandbox).items() if count}


@settings(max_examples=60)
@given(cases(), st.sampled_from(ENCODINGS))
def test_a_guest_reads_every_element_of_the_host(case: tuple[WitType | None, list[Any], Any], encoding: str) -> None:
    of, values, choose = case
    one = Copier(copier(of, encoding, imports=False), of)
    with one.sandbox:
        for _ in range(3):
            room, seed = pace(choose)
            most = choose.choice((len(values) + 1, choose.randrange(len(values) + 1)))
            found = one.call.collect(feeds(one, values, choose, looped=False), room, seed, most)
            assert same(one.back(found), values[:most])
        assert not left(one)


@settings(max_examples=60)
@given(cases(), st.sampled_from(ENCODINGS))
def test_the_host_reads_every_element_of_a_guest(case: tuple[WitType | None, list[Any], Any], encoding: str) -> None:
    of, values, choose = case
    one = Copier(copier(of, encoding, imports=False), of)
    with one.sandbox:
        for _ in range(4):
            kind = choose.choice(("feed", "relay", "same"))
            stream = one.listed(values) if kind == "feed" else feeds(one, values, choose, looped=False)
            reader = getattr(one.call, kind)(stream, *(() if kind == "same" else pace(choose)))
            pieces, early = [], choose.random() < 0.4
            while piece := reader.read(choose.choice((1, 2, 50, 5000))):
                pieces.append(piece)
                if early and choose.random() < 0.3:
                    reader.close()
                    break
            found = one.whole(pieces)
            assert prefix(found, values)
            assert early or len(found) == len(values)
        del reader
        assert not left(one)


@settings(max_examples=40)
@given(cases(), st.sampled_from(ENCODINGS))
def test_calls_that_overlap_copy_every_element(case: tuple[WitType | None, list[Any], Any], encoding: str) -> None:
    of, values, choose = case
    one = Copier(copier(of, encoding, imports=False), of)

    async def collect() -> None:
        found = await one.acall.collect(feeds(one, values, choose, looped=True), *pace(choose), len(values) + 1)
        assert same(one.back(found), values)

    async def relay() -> None:
        reader = await one.acall.relay(feeds(one, values, choose, looped=True), *pace(choose))
        if choose.random() < 0.3:  # through another task of the same guest, which copies nothing
            reader = await one.acall.same(reader)
        pieces = []
        while piece := await reader.aread(choose.choice((1, 3, 1000))):
            pieces.append(piece)
        assert same(one.whole(pieces), values)

    async def dropped() -> None:
        reader = await one.acall.relay(feeds(one, values, choose, looped=True), *pace(choose))
        found = await reader.aread(1)
        reader.close()
        assert prefix(one.whole([found]), values)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(choose.choice((collect, relay, dropped))())
        gc.collect()
        await one.asettle()

    with one.sandbox:
        asyncio.run(main())
        assert not left(one)


@settings(max_examples=40)
@given(cases(), st.sampled_from(ENCODINGS), st.sampled_from(ENCODINGS), st.booleans())
def test_guests_copy_every_element_to_each_other(
    case: tuple[WitType | None, list[Any], Any], first: str, second: str, nested: bool
) -> None:
    of, values, choose = case
    received: list[Any] = []
    reading: list[asyncio.Task[None]] = []

    async def read(stream: Any) -> None:
        pieces = []
        while piece := await stream.aread(choose.choice((1, 3, 1000))):
            pieces.append(piece)
        received.append(one.whole(pieces))

    async def source(room: int, seed: int) -> Any:
        return feeds(one, values, choose, looped=True)

    async def sink(stream: Any, room: int, seed: int) -> int:
        reading.append(asyncio.create_task(read(stream)))
        return 1

    text = composed(of, first, second) if nested else copier(of, first)
    one = Copier(text, of, source, sink)

    async def main() -> None:
        for _ in range(2):
            found = await one.acall.gather(*pace(choose), len(values) + 1)
            assert same(one.back(found), values)
            assert await one.acall.pour(one.listed(values), *pace(choose)) == len(values)
            await reading.pop()
            assert same(received.pop(), values)
        early = choose.randrange(len(values) + 1)
        found = await one.acall.gather(*pace(choose), early)
        assert same(one.back(found), values[:early])

    with one.sandbox:
        asyncio.run(main())
        assert one.sandbox.state == "ready"


@settings(max_examples=40)
@given(cases(), st.sampled_from(ENCODINGS))
def test_a_future_has_its_value_in_either_direction(case: tuple[WitType | None, list[Any], Any], encoding: str) -> None:
    of, values, choose = case
    one = Copier(copier(of, encoding, imports=False), of)

    async def later(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def main() -> None:
        for value in values[:3]:
            (image,) = one.images([value])
            for made in (image, later(image), await one.acall.promise(one.listed([value]))):
                if choose.random() < 0.5:
                    made = await one.acall.same_future(made)
                if hasattr(made, "result"):  # a guest may not read a value with pointers that it wrote itself
                    assert same(one.back([await made]), [value])
                assert same(one.back(await one.acall.keep(made)), [value])
            assert same(one.back([await (await one.acall.same_future(later(image)))]), [value])
        await one.asettle()

    with one.sandbox:
        asyncio.run(main())
        for value in values[:3]:
            assert same(one.back([one.call.promise(one.listed([value])).result()]), [value])
        assert not left(one)


@settings(max_examples=30)
@given(cases(), st.sampled_from(ENCODINGS), st.sampled_from(ENCODINGS))
def test_a_stream_passes_from_one_sandbox_to_another(
    case: tuple[WitType | None, list[Any], Any], first: str, second: str
) -> None:
    of, values, choose = case
    one, other = (Copier(copier(of, encoding, imports=False), of) for encoding in (first, second))

    async def main() -> None:
        reader = await one.acall.relay(feeds(one, values, choose, looped=True), *pace(choose))
        taken = await reader.aread(1) if choose.random() < 0.5 else []
        found = await other.acall.collect(reader, *pace(choose), len(values) + 1)
        assert same([*(one.whole([taken]) if taken else []), *other.back(found)], values)

    with one.sandbox, other.sandbox:
        asyncio.run(main())
        reader = one.call.feed(one.listed(values), *pace(choose))
        assert same(other.back(other.call.collect(reader, *pace(choose), len(values) + 1)), values)
        del reader
        assert not left(one)
        assert not left(other)


def test_a_reader_that_was_read_in_part_passes_on_the_rest() -> None:
    of: WitType = Tuple(("u32", "string"))
    values = [(n, str(n)) for n in range(3000)]
    one = Copier(copier(of, imports=False), of)
    with one.sandbox:
        reader = one.call.feed(values, 5000, 1)
        assert next(reader) == values[0]
        rest = one.call.same(reader)
        assert list(rest) == values[1:]
        del reader, rest
        assert not left(one)


def test_streams_of_streams_pass_through_guests_and_leave_nothing() -> None:
    closed: list[int] = []

    def numbers(n: int) -> Any:
        try:
            yield from range(n)
        finally:
            closed.append(n)

    one = Copier(copier(Stream("u32"), imports=False), Stream("u32"))
    with one.sandbox:
        for kind in ("relay", "same"):
            given = [numbers(n) for n in range(20)]
            outer = one.sandbox.call(kind, given, *(() if kind == "same" else (7, 1)))
            found = [list(inner) for inner in outer]
            assert found == [list(range(n)) for n in range(20)]
        assert [list(inner) for inner in one.sandbox.call("collect", [[1], [2, 3]], 3, 1, 9)] == [[1], [2, 3]]
        assert list(one.sandbox.call("keep", [4, 5])[0]) == [4, 5]
        first = next(one.sandbox.call("same", [numbers(50), numbers(60)]))
        assert next(first) == 0
        first.close()
        del outer, first
        assert not left(one)
    assert closed == [*range(20), *range(20), 50]


def test_streams_in_records_are_given_once_beside_fields_that_need_conversion() -> None:
    of = Record("r", (("data", Stream("u8")), ("n", "u8")))
    one = Copier(copier(of, imports=False), of)
    with one.sandbox:
        given = [{"data": b"abc", "n": 1}, {"data": iter([b"d", b"e"]), "n": 2}]
        found = one.sandbox.call("relay", given, 3, 1)
        assert [(b"".join(item.data), item.n) for item in found] == [(b"abc", 1), (b"de", 2)]
        with pytest.raises(HostError, match=r"element 1\.n: expected an integer for u8"):
            list(one.sandbox.call("relay", [*given[:1], {"data": b"", "n": "x"}], 3, 1))


def test_streams_in_a_stream_count_towards_the_limit_of_handles() -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="60s", handles=20)
    text = copier(Stream("u8"), imports=False)
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        assert len(sandbox.call("collect", ([b"x"] for _ in range(10)), 50, 1, 1000)) == 10
        with pytest.raises(QuotaExceeded):
            sandbox.call("collect", ([b"x"] for _ in range(1000)), 50, 1, 1000)
