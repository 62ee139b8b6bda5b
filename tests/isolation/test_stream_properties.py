"""Streams of any type and of resources, in process and in a worker: each element arrives exactly once and in order.

Oracle: the list of the elements. A resource that the guest was given is delivered to the host once, or dropped once
at the latest with the sandbox; one that the guest never read stays the application's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.wit.types import List, Option, Record, Tuple, WitType
from tests.component.strategies import any_types, neutral
from tests.component.tasks.async_guests import ENCODINGS, copier, resource_copier
from tests.component.tasks.copying import Copier, feeds
from tests.isolation.isolated import PLACES, only_where_there_are_workers, shared
from tests.wit.strategies import same

pytestmark = only_where_there_are_workers
ELEMENTS: st.SearchStrategy[WitType | None] = (
    st.sampled_from((None, "u8", "u64", "string", List(List("string"))))
    | st.just(Record("r", (("name", "string"), ("parts", List(Tuple(("u8", Option("string"))))))))
    | any_types(3)
)
SEEDS = st.integers(0, 2**31)


def pace(choose: random.Random) -> tuple[int, int]:
    """Return the greatest piece of a guest, and the seed of its choices."""
    return choose.choice((1, 2, 5, 100)), choose.getrandbits(32)


@settings(max_examples=8)
@given(st.data(), ELEMENTS.filter(lambda of: of != "char"), st.sampled_from(ENCODINGS), SEEDS)
def test_elements_of_any_type_cross_a_worker_exactly_once(
    data: st.DataObject, of: WitType | None, encoding: str, seed: int
) -> None:
    choose = random.Random(seed)
    values = data.draw(st.lists(st.none() if of is None else neutral(of), max_size=6)) * choose.choice((1, 1, 30))
    one = Copier(copier(of, encoding, imports=False), of, runtime=shared("isolated"))
    with one.sandbox:
        for _ in range(3):
            most = choose.choice((len(values) + 1, choose.randrange(len(values) + 1)))
            found = one.call.collect(feeds(one, values, choose, looped=False), *pace(choose), most)
            assert same(one.back(found), values[:most])
            kind = choose.choice(("feed", "relay"))
            stream = one.listed(values) if kind == "feed" else feeds(one, values, choose, looped=False)
            reader = getattr(one.call, kind)(stream, *pace(choose))
            pieces, early = [], choose.random() < 0.4
            while piece := reader.read(choose.choice((1, 2, 50, 5000))):
                pieces.append(piece)
                if early and choose.random() < 0.3:
                    reader.close()
                    break
            whole = one.whole(pieces)
            assert same(whole, values[: len(whole)])
            assert early or len(whole) == len(values)
            for value in values[:1]:
                assert same(one.back([one.call.promise(one.listed([value])).result()]), [value])
                assert same(one.back(one.call.keep(one.images([value])[0])), [value])
        ends: Any = one.sandbox._run.store.handles.ends  # type: ignore[union-attr]
        assert not ends.used


class Thing:
    """A resource of the application."""

    def __init__(self, number: int) -> None:
        self.number, self.dropped = number, 0

    def __drop__(self) -> None:
        self.dropped += 1


def chunks(things: list[Any], choose: random.Random) -> Any:
    def generate() -> Iterator[Any]:
        yield from things

    return things if choose.random() < 0.5 else generate()


def read_some(reader: Any, choose: random.Random) -> list[Any]:
    """Read a stream to its end, or close it at a random place."""
    found: list[Any] = []
    while piece := reader.read(choose.choice((1, 2, 100))):
        found += piece
        if choose.random() < 0.2:
            break
    reader.close()
    return found


@pytest.mark.parametrize("place", PLACES)
def test_each_object_of_the_application_is_delivered_or_dropped_once(place: str) -> None:
    component = shared(place).load_wat(resource_copier("host"))

    @settings(max_examples=15)
    @given(st.integers(0, 40), SEEDS)
    def check(count: int, seed: int) -> None:
        choose = random.Random(seed)
        things = [Thing(number) for number in range(count)]
        with shared(place).sandbox(component) as sandbox:
            if choose.random() < 0.5:
                most = choose.randrange(count + 1)
                found = sandbox.call("collect", chunks(things, choose), *pace(choose), most)
                assert found == things[:most]
            else:
                found = read_some(sandbox.call("relay", chunks(things, choose), *pace(choose)), choose)
                assert found == things[: len(found)]
        fate = [2 if thing in found else thing.dropped for thing in things]
        assert all(not thing.dropped for thing in found)
        assert all(number <= 1 for number in fate[len(found) :])
        assert fate == sorted(fate, reverse=True)  # delivered, then dropped, then never read

    check()


@pytest.mark.parametrize("place", PLACES)
def test_each_object_of_the_guest_comes_back_in_order_and_is_destroyed_once(place: str) -> None:
    component = shared(place).load_wat(resource_copier("guest"))

    @settings(max_examples=15)
    @given(st.integers(0, 30), SEEDS)
    def check(count: int, seed: int) -> None:
        choose = random.Random(seed)
        with shared(place).sandbox(component) as sandbox:
            given_away = [sandbox.call("make", number) for number in range(count)]
            if choose.random() < 0.5:
                found = sandbox.call("collect", iter(given_away), *pace(choose), count)
                assert len(found) == count
            else:
                found = read_some(sandbox.call("relay", given_away, *pace(choose)), choose)
            assert [sandbox.call("number", one) for one in found] == list(range(len(found)))
            assert sandbox.call("dropped") == 0
            for handle in found:
                handle.drop()
            assert sandbox.call("dropped") == len(found)
            if count:
                (last,) = sandbox.call("keep", sandbox.call("make", 77))
                assert sandbox.call("number", last) == 77

    check()
