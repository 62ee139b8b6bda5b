"""Strategies draw the boundary values of every type, and a budget bounds values however deeply their type nests."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from aegis import Aegis
from aegis.errors import ExportNotFound
from aegis.fuzz.values.generate import shape_of
from aegis.fuzz.values.shape import CannotGenerate
from aegis.testing.strategies import (
    from_export,
    from_exports,
    from_function,
    from_interface,
    from_signature,
    from_type,
)
from aegis.values import FuncType
from aegis.wit.python_types import with_python_types
from aegis.wit.types import (
    Enum,
    Flags,
    Function,
    Interface,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Tuple,
    Variant,
    WitType,
)
from tests.guests.catalogue import source

RUNTIME = Aegis(cache=False)
MANY = settings(
    max_examples=400, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def _drawn(strategy: Any, examples: int = 400) -> list[Any]:
    found: list[Any] = []

    @settings(MANY, max_examples=examples)
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def _bits(value: float) -> str:
    return struct.pack(">d", value).hex()


@pytest.mark.parametrize("of", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
def test_the_ends_of_integers_are_drawn_and_nothing_beyond(of: str) -> None:
    bits = int(of[1:])
    low, high = (0, 2**bits - 1) if of[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    drawn = _drawn(from_type(of), 120)
    assert (min(drawn), max(drawn)) == (low, high)


def test_floats_have_nans_of_both_signs_and_several_payloads_infinities_and_the_least_numbers() -> None:
    doubles, singles = _drawn(from_type("f64"), 600), _drawn(from_type("f32"), 600)
    for drawn in (doubles, singles):
        nans = {_bits(value) for value in drawn if math.isnan(value)}
        assert {"7ff8000000000000", "fff8000000000000", "7ff8000000000001"} <= nans
        assert {math.inf, -math.inf} <= set(drawn)
        assert any(value == 0 and math.copysign(1, value) < 0 for value in drawn)
    assert 5e-324 in doubles
    assert {2.0**-149, 2.0**-126, 2.0**128 - 2.0**104} <= set(singles)
    for value in singles:
        if math.isfinite(value):
            assert struct.unpack("<f", struct.pack("<f", value))[0] == value


def test_texts_have_the_ends_of_unicode_and_no_surrogate() -> None:
    drawn = _drawn(from_type("string"))
    text = "".join(drawn)
    assert {"\0", "\ufeff", "\ud7ff", "\ue000", "\U0010ffff", "\u202e"} <= set(text)
    assert not any("\ud800" <= char <= "\udfff" for char in text)
    assert "" in drawn
    assert max(map(len, drawn)) >= 2047


@pytest.mark.usual(every=2)
@pytest.mark.parametrize("of", [List("u8"), List("u32"), List("string")], ids=str)
def test_lists_are_empty_short_and_huge(of: WitType) -> None:
    lengths = {len(value) for value in _drawn(from_type(of), 250)}
    assert {0, 1, 2} <= lengths
    assert len(lengths & {15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257}) > 4
    assert max(lengths) > 500


def test_every_case_and_flag_is_drawn() -> None:
    variant = Variant("v", (("a", None), ("b", "u8"), ("c", List("u8")), ("d", None)))
    assert len({type(value) for value in _drawn(from_type(variant))}) == 4
    assert len(set(_drawn(from_type(Enum("e", tuple("abcdefgh")))))) == 8
    flags = {value.value for value in _drawn(from_type(Flags("f", tuple(f"n{n}" for n in range(20)))))}
    assert {0, 2**20 - 1} <= flags
    results = {type(value).__name__ for value in _drawn(from_type(Result(None, "u8")))}
    assert results == {"Ok", "Err"}
    assert {repr(v) for v in _drawn(from_type(Option(Option("bool"))))} >= {
        "None", "Some(value=None)", "Some(value=True)",
    }  # fmt: skip


def _nested(of: WitType, wrap: Callable[[WitType], WitType], depth: int) -> WitType:
    for _ in range(depth):
        of = wrap(of)
    return of


@pytest.mark.usual("lists of three", "records in variants in options")
@pytest.mark.parametrize(
    "of",
    [
        _nested("string", List, 3),
        _nested("string", List, 12),
        Record("wide", tuple((f"f{n}", List("string")) for n in range(30))),
        _nested("u8", lambda of: Option(Variant("v", (("end", None), ("more", Record("r", (("x", of),)))))), 8),
        _nested("u8", lambda of: List(Tuple((of, of, of))), 5),
    ],
    ids=["lists of three", "lists of twelve", "a wide record", "records in variants in options", "lists of tuples"],
)
def test_a_budget_holds_however_deep_a_type_nests(of: WitType) -> None:
    """Oracle: no value has many more parts than the budget, and a smaller budget gives smaller values."""
    of = with_python_types(of)
    size = shape_of(of).size
    values = _drawn(from_type(of), 40)
    assert max(map(size, values)) < 4 * 4096
    assert max(map(size, _drawn(from_type(of, budget=64), 40))) < 4 * 64 + 64


def test_a_type_whose_every_value_is_huge_is_refused_and_named() -> None:
    huge: WitType = "u8"
    for n in range(12):
        huge = Record(f"r{n}", (("a", huge), ("b", huge), ("c", huge)))
    with pytest.raises(CannotGenerate, match=r"every r11 has at least [\d,]+ parts"):
        from_type(huge)


def test_an_override_goes_by_parameter_function_and_interface_the_longest_first() -> None:
    interface = Interface("a:b/c@1.0.0", {"f": Function((("x", "u8"),)), "g": Function((("x", "u8"),))})
    for key, wanted in (("x", {"f", "g"}), ("f.x", {"f"}), ("a:b/c@1.0.0#g.x", {"g"}), ("u8", {"f", "g"})):
        made = from_interface(interface, {key: st.just("mine")})
        assert {name for name, each in made.items() if set(_drawn(each, 20)) == {("mine",)}} == wanted
    both = from_interface(interface, {"x": st.just(1), "f.x": st.just(2)})
    assert [_drawn(both[name], 5)[0] for name in "fg"] == [(2,), (1,)]


def test_an_interface_omits_functions_with_handles_unless_they_are_overridden() -> None:
    own = Own(Resource("thing"))
    interface = Interface("a:b/c", {"f": Function((("x", List(own)),)), "g": Function((("y", own), ("n", "u8")))})
    assert set(from_interface(interface)) == set()
    assert set(from_interface(interface, {"y": st.just("handle")})) == {"g"}
    with pytest.raises(CannotGenerate, match="thing"):
        from_function(interface.functions["g"])


def test_arguments_for_reflected_types_are_accepted_by_the_component() -> None:
    """Oracle: a guest accepts the arguments generated for its exports, under the names by which they are called."""
    component = RUNTIME.load_file(source("components/values"))
    made = from_exports(component)
    assert set(made) == set(component.callables())  # type: ignore[union-attr]

    @settings(MANY, max_examples=60)
    @given(st.data(), st.sampled_from(sorted(made)))
    def check(data: st.DataObject, name: str) -> None:
        with RUNTIME.sandbox(component) as sandbox:
            sandbox.run(name, *data.draw(made[name]))

    check()


def test_an_unknown_export_is_reported_with_a_similar_name() -> None:
    component = RUNTIME.load_file(source("buggy/overflow"))
    with pytest.raises(ExportNotFound, match="did you mean midpoint"):
        from_export(component, "midpiont")


def test_a_core_function_gets_numbers_or_buffers() -> None:
    module = RUNTIME.load_file(source("buggy/unterminated"))
    assert set(from_exports(module)) == {"alloc", "dealloc", "quoted"}
    assert {len(arguments) for arguments in _drawn(from_export(module, "quoted"), 50)} == {1}
    assert {len(arguments) for arguments in _drawn(from_export(module, "quoted", buffers=False), 50)} == {2}
    numbers = {value for arguments in _drawn(from_signature(FuncType(("i32",))), 120) for value in arguments}
    assert {-(2**31), 2**31 - 1} <= numbers


def test_types_of_generated_bindings_are_made_of_their_own_classes() -> None:
    from aegis.bindings.wasi_filesystem_types import INTERFACE, DescriptorFlags

    (value,) = {type(v) for v in _drawn(from_type(INTERFACE.types["descriptor-flags"]), 20)}  # type: ignore[arg-type]
    assert value is DescriptorFlags


@pytest.mark.parametrize(
    ("name", "function", "wanted"),
    [
        ("magic", "version", lambda value: value[:4] == b"QAK\x1a"),
        ("settings", "load", lambda value: "mode=fast" in value),
    ],
)
def test_the_strategies_of_an_export_draw_words_of_the_guest(name: str, function: str, wanted: Any) -> None:
    """Oracle: the planted constants, which random values do not have."""
    artifact = Aegis().load_file(source(f"buggy/{name}"))
    drawn = from_export(artifact, function)
    assert find(drawn, lambda arguments: wanted(arguments[0]))
