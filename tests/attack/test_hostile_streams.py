"""A hostile host's streams: of all kinds, with documented errors only, and a generator that stays open is found."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from aegis import Aegis, GuestError
from aegis.attack.hostile_streams import HostileStreams
from aegis.wit.streams import FutureWriter, StreamWriter
from aegis.wit.types import Future, List, Option, Stream, Tuple
from tests.component.tasks.async_guests import copier


def test_the_streams_are_of_many_kinds_and_other_values_are_kept() -> None:
    streams = HostileStreams(Random(1))
    kinds = Counter(type(streams.value([1, 2, 3], Stream("u32"))).__name__ for _ in range(300))
    assert {"list", "generator", "NoneType"} <= set(kinds)
    assert StreamWriter.__name__ in kinds
    futures = Counter(type(streams.value(1, Future("u32"))).__name__ for _ in range(300))
    assert {"int", "NoneType", FutureWriter.__name__} <= set(futures)
    assert streams.value((1, [2]), Tuple(("u8", List("u8")))) == (1, [2])
    nested: Any = streams.value([b"x"], List(Stream("u8")))
    assert len(nested) == 1


@pytest.mark.parametrize("of", ["u8", "string", Option("u16"), Stream("u8")], ids=str)
def test_a_guest_with_hostile_streams_ends_as_documented_and_leaves_no_generator_open(of: Any) -> None:
    """Oracle: the errors of a guest and those of :attr:`HostileStreams.documented`, within the deadline."""
    value: Any = {"u8": b"text", "string": ["a", "b"]}.get(str(of), [b"", b"x"] if of == Stream("u8") else [1, None])
    component = (runtime := Aegis(cache=False, pooled=False, timeout="0.2s")).load_wat(copier(of, imports=False))
    endings: Counter[str] = Counter()
    for seed in range(25):
        streams = HostileStreams(Random(seed))
        with runtime.sandbox(component) as sandbox:
            try:
                reader = sandbox.call("relay", streams.value(value, Stream(of)), 3, seed)
                streams.consume(reader, Stream(of))
                endings["returned"] += 1
            except (GuestError, *streams.documented) as error:
                endings[type(error).__name__] += 1
        assert streams.left_open() is None
    assert endings["returned"]
    assert endings["HostError"]


def test_a_generator_that_stays_open_is_reported() -> None:
    streams = HostileStreams(Random(0))
    made: list[Any] = [streams.value([1, 2, 3], Stream("u32")) for _ in range(40)]
    generators = [one for one in made if hasattr(one, "throw")]
    assert streams.left_open() is None
    suspended = next(one for one in generators if next(one, None) is not None)
    assert streams.left_open() == "left open: 1 generators of the host"
    suspended.close()
    assert streams.left_open() is None
