"""Components inside one component call each other in Aegis as they do in the engine, whose adapters are the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.wit.types import List, WitType
from tests.component.composed import chain_component
from tests.component.oracle import Returned
from tests.component.pairs import ENCODINGS, Pair, echo_pair
from tests.component.strategies import TEXTS
from tests.component.test_differential import echoes
from tests.echo import Manner


def chained(params: Sequence[WitType], manners: Sequence[Manner]) -> Pair:
    logs = [f"log-{n}" for n in range(len(manners))]
    return echo_pair(chain_component(params, manners), params, logs, hosted=manners[-1].through)


def with_logs(manners: Sequence[Manner], calls: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return the calls, and those that return the logs of all components."""
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
