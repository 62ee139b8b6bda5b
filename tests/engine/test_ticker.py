"""The clock of epochs: a deadline is a time, however late the thread that tells it wakes up."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from aegis.engine import ticker as module
from aegis.engine.ticker import TICK, Ticker


@given(st.lists(st.floats(TICK, 60.0), min_size=1, max_size=50))
def test_epochs_go_with_time_and_not_with_wake_ups(spans: list[float]) -> None:
    """Oracle: between any two ticks the epochs are those that fit into the time, give or take one for remainders."""
    clock = Ticker()
    told = [0, *accumulate(map(clock._due, spans))]
    times = [0.0, *accumulate(spans)]
    for first in range(len(times)):
        for last in range(first, len(times)):
            exact = (times[last] - times[first]) / TICK
            assert exact - 1.001 < told[last] - told[first] < exact + 1.001


def test_each_wake_up_in_time_is_an_epoch() -> None:
    clock = Ticker()
    assert sum(clock._due(TICK * 1.05) for _ in range(100)) == 105
    assert clock._due(TICK) == 1


def test_a_process_that_was_stopped_for_days_goes_on_at_once() -> None:
    assert Ticker()._due(30 * 86400.0) == module._MOST
