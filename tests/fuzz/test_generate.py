"""Values generated without hypothesis belong to their type, mutations too, and shrinking ends at the simplest value."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis import Aegis
from aegis.fuzz.oracles import same
from aegis.fuzz.values.draws import drawn
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.fuzz.values.shape import CannotGenerate
from aegis.testing.strategies import from_function, from_interface, from_signature, from_type
from aegis.values import FuncType
from aegis.wit.types import Borrow, Function, Interface, List, Own, Record, Resource, Result, WitType
from aegis.wit.values import Err, Ok
from tests.echo import own_echo_component
from tests.wit.strategies import wit_types

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
RUNTIME = Aegis(cache=False, pooled=False, host_bytes=None, memory="512MiB", fuel=None)
END = object()
CORE = ("i32", "i64", "f32", "f64")


def _echoed(of: WitType, values: list[Any]) -> list[Any]:
    component = RUNTIME.load_wat(own_echo_component(of))
    found = []
    with RUNTIME.sandbox(component) as sandbox:
        call = sandbox.bind(Interface("", {"echo-back": Function((("x", of),), of)})).echo_back
        for value in values:
            try:
                returned = call(value)
                found.append(Ok(returned) if isinstance(of, Result) else returned)
            except Err as declared:
                found.append(declared)
            sandbox.reset()
    return found


@SETTINGS
@given(wit_types(), st.integers(0, 1 << 32))
def test_whatever_is_made_or_changed_is_of_its_type(of: WitType, seed: int) -> None:
    """Oracle: a guest accepts each value and returns it unchanged."""
    shape, rng = shape_of(of), random.Random(seed)
    values = [shape.simplest(), *(shape.random(rng, 1 << n) for n in range(6))]
    values += [shape.mutate(rng, value) for value in values]
    assert all(map(same, _echoed(of, values), values))
    assert all(shape.size(value) >= 1 for value in values)


@SETTINGS
@given(wit_types(), st.integers(0, 1 << 32))
def test_making_simpler_ends_at_the_simplest(of: WitType, seed: int) -> None:
    shape = shape_of(of)
    value = shape.random(random.Random(seed), 32)
    for _ in range(20_000):
        following = next(iter(shape.simpler(value)), END)
        if following is END:
            break
        value = following
    assert list(shape.simpler(value)) == []
    assert same(value, shape.simplest())


@SETTINGS
@given(wit_types(), st.integers(0, 1 << 32))
def test_no_value_is_simpler_than_itself(of: WitType, seed: int) -> None:
    """Oracle: repeatedly choosing the last candidate terminates too."""
    shape = shape_of(of)
    value = shape.random(random.Random(seed), 3)
    for _ in range(400):
        candidates = list(islice(shape.simpler(value), 64))
        if not candidates:
            return
        assert not any(same(value, candidate) for candidate in candidates)
        value = candidates[-1]


@pytest.mark.parametrize("kind", CORE)
def test_core_numbers_stay_in_range(kind: str) -> None:
    shape, rng = core_shape(kind), random.Random(7)
    bits = int(kind[1:])
    for _ in range(3000):
        value = shape.mutate(rng, shape.random(rng, 1))
        if kind[0] == "i":
            assert -(1 << (bits - 1)) <= value < 1 << (bits - 1)
        else:
            assert isinstance(value, float)


def test_boundary_values_are_generated() -> None:
    rng = random.Random(1)
    numbers = {shape_of("u32").random(rng, 1) for _ in range(5000)}
    assert {0, 1, 2**31 - 1, 2**31, 2**32 - 1} <= numbers
    floats = [shape_of("f64").random(rng, 1) for _ in range(2000)]
    assert any(map(math.isnan, floats))
    assert any(value == 0 and math.copysign(1, value) < 0 for value in floats)
    lengths = {len(shape_of(List("u32")).random(rng, 4096)) for _ in range(3000)}
    assert {0, 1, 15, 16, 64, 1024} <= lengths
    texts = "".join(shape_of("string").random(rng, 64) for _ in range(2000))
    assert {"\0", "\ufeff", "\U0010ffff", "\u202e"} <= set(texts)


@pytest.mark.parametrize("of", [Own(Resource("thing")), List(Borrow(Resource("thing")))], ids=["own", "inside a list"])
def test_a_handle_cannot_be_generated_and_the_error_names_it(of: WitType) -> None:
    with pytest.raises(CannotGenerate, match="thing"):
        shape_of(of)
    with pytest.raises(CannotGenerate, match="thing"):
        from_type(of).example()


def test_a_reference_is_no_number() -> None:
    with pytest.raises(CannotGenerate, match="externref"):
        core_shape("externref")
    with pytest.raises(CannotGenerate, match="externref"):
        from_signature(FuncType(("externref",)))


# -- strategies --------------------------------------------------------------------------------------------


@SETTINGS
@given(st.data(), wit_types())
def test_a_strategy_gives_values_of_its_type(data: st.DataObject, of: WitType) -> None:
    values = [value for value in (data.draw(from_type(of)) for _ in range(3)) if shape_of(of).size(value) < 20_000]
    assert all(map(same, _echoed(of, values), values))


POINT = Record("point", (("x", "s32"), ("label", "string")))


@SETTINGS
@given(
    from_function(Function((("p", POINT), ("path", "string"), ("n", "u8"))), {"path": st.just("/"), "u8": st.just(7)})
)
def test_overrides_go_by_parameter_and_by_type(arguments: tuple[Any, ...]) -> None:
    point, path, number = arguments
    assert (path, number) == ("/", 7)
    assert -(2**31) <= point.x < 2**31


@SETTINGS
@given(from_type(List(POINT), {"point": st.just("mine")}))
def test_overrides_go_by_the_name_of_a_type(points: list[Any]) -> None:
    assert set(points) <= {"mine"}


def test_an_interface_has_strategies_for_functions_without_handles() -> None:
    thing = Resource("thing")
    functions = {"f": Function((("x", "u8"),)), "[method]thing.g": Function((("self", Borrow(thing)),))}
    assert set(from_interface(Interface("a:b/c", functions))) == {"f"}


@SETTINGS
@given(from_signature(FuncType(CORE)))
def test_core_arguments_are_of_the_signature(arguments: tuple[Any, ...]) -> None:
    assert [type(value) for value in arguments] == [int, int, float, float]


@pytest.mark.parametrize("count", [0, 1, 23, 24, 1000])
@pytest.mark.parametrize("length", [1, 3, 24, 256])
def test_many_draws_are_of_all_items_and_about_equally_often(length: int, count: int) -> None:
    rng, items = random.Random(count), list(range(length))
    found = Counter(one for _ in range(20_000 // (count + 1)) for one in drawn(rng, items, count))
    assert all(len(drawn(rng, items, count)) == count for _ in range(10))
    if count:
        mean = sum(found.values()) / length
        assert set(found) == set(items)
        assert all(0.4 * mean < times < 1.8 * mean for times in found.values())
