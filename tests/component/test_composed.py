"""Components inside one component call each other in Aegis as in the engine, whose adapters are the oracle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aegis.wit.types import Function, List, Record, WitType, show
from tests.component.composed import aimed_chain_component, chain_component, lying_chain_component
from tests.component.liars import AIMS, LENGTHS, LOWERED, POINTERS, aimed_exports, flat_images, images
from tests.component.oracle import Returned
from tests.component.pairs import ENCODINGS, Pair, echo_pair
from tests.component.strategies import TEXTS, any_types, echoes
from tests.echo import Manner, flat

pytestmark = pytest.mark.usefixtures("ways")


def chained(params: Sequence[WitType], manners: Sequence[Manner]) -> Pair:
    logs = [f"log-{n}" for n in range(len(manners))]
    return echo_pair(chain_component(params, manners), params, logs, hosted=manners[-1].through)


def with_logs(manners: Sequence[Manner], calls: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return the given calls, followed by calls that return the logs of all components."""
    return [*(("echo-back", *arguments) for arguments in calls), *((f"log-{n}",) for n in range(len(manners)))]


def manners(hosted: bool, count: int) -> st.SearchStrategy[list[Manner]]:
    def of(through: bool) -> st.SearchStrategy[Manner]:
        return st.builds(
            Manner, through=st.just(through), encoding=st.sampled_from(ENCODINGS), post_return=st.booleans(),
            odd=st.booleans(),
        )  # fmt: skip

    return st.tuples(*[of(True)] * (count - 1), of(hosted)).map(list)


CHAINS = st.tuples(st.booleans(), st.integers(2, 3)).flatmap(lambda t: manners(*t))


@settings(max_examples=60)
@given(echoes(), CHAINS)
def test_values_of_any_type_pass_between_components_as_in_the_engine(
    case: tuple[list[WitType], list[list[Any]]], chain: list[Manner]
) -> None:
    params, calls = case
    with chained(params, chain) as pair:
        pair.check(*with_logs(chain, calls))


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("inner", ENCODINGS)
@pytest.mark.parametrize("outer", ENCODINGS)
def test_texts_pass_between_components_of_any_two_encodings(outer: str, inner: str) -> None:
    chain = [Manner(through=True, encoding=outer, odd=True), Manner(encoding=inner, odd=True)]
    with chained(["string", List("string")], chain) as pair:

        @settings(max_examples=25)
        @given(st.lists(TEXTS, min_size=1, max_size=4))
        def check(texts: list[str]) -> None:
            calls = [(text, texts) for text in texts]
            ends = pair.check(*with_logs(chain, calls))
            assert ends[:-2] == [Returned(call) for call in calls]

        check()


def lying(of: WitType, liar: str, listener: str) -> Pair:
    image = (("x", List("u8")),)
    exports = {"as-result": Function(image, of), "as-argument": Function(image)}
    return Pair(lying_chain_component(of, liar, listener), exports, {"take": (Function((("x", of),)), lambda x: None)})


@settings(max_examples=50)
@given(st.data())
def test_a_lie_to_another_component_is_the_same_value_or_a_trap(data: st.DataObject) -> None:
    of = data.draw(any_types(3))
    result = images(of) if len(flat(of)) > 1 else flat_images(of)
    argument = images(of) if len(flat(of)) > 16 else flat_images(of)
    with lying(of, data.draw(st.sampled_from(ENCODINGS)), data.draw(st.sampled_from(ENCODINGS))) as pair:
        for _ in range(3):
            (end,) = pair.check(("as-result", data.draw(result)))
            event(type(end).__name__)
            pair.check(("as-argument", data.draw(argument)))


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("liar", ENCODINGS)
@pytest.mark.parametrize("listener", ENCODINGS)
def test_a_string_anywhere_is_the_same_to_another_component_or_a_trap(liar: str, listener: str) -> None:
    with lying("string", liar, listener) as pair:
        for length in LENGTHS:
            for pointer in POINTERS:
                pair.check(("as-result", pointer.to_bytes(4, "little") + length.to_bytes(4, "little")))


@pytest.mark.usual(every=2)
@pytest.mark.parametrize("element", ["u8", "u16", "u64", "string", Record("r", (("a", "u8"), ("b", "u16")))], ids=show)
def test_a_list_anywhere_is_the_same_to_another_component_or_a_trap(element: WitType) -> None:
    with lying(List(element), "utf8", "utf8") as pair:
        for length in (n for n in LENGTHS if n < 0x1000 or n > 0xFFFF):
            for pointer in POINTERS:
                pair.check(("as-result", pointer.to_bytes(4, "little") + length.to_bytes(4, "little")))


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(("of", "value"), LOWERED, ids=lambda x: repr(x)[:30])
def test_memory_anywhere_for_a_value_of_another_component_is_taken_or_a_trap(of: WitType, value: Any) -> None:
    pairs = itertools.product(ENCODINGS, ENCODINGS) if "string" in show(of) else [("utf8", "utf8")]
    exports = aimed_exports(of)
    for caller, liar in pairs:
        text = aimed_chain_component(of, caller, liar)
        # The engine writes to a parameter area unchecked; the bounds of the memory make it trap.
        with Pair(text, exports, {"give": (Function((), of), lambda: value)}, coded=False) as pair:
            for aims in AIMS:
                pair.check(("aim", *aims, 2048), ("take", value), ("count",))
