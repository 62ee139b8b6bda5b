"""The epoch clock: a deadline is a point in time, however late the ticker thread wakes up."""

from __future__ import annotations

import ctypes
import os
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis
from aegis.engine.threads import ticker as module
from aegis.engine.threads.guest_thread import run_on_guest_thread
from aegis.engine.threads.ticker import TICK, Ticker


@given(st.lists(st.floats(TICK, 60.0), min_size=1, max_size=50))
def test_epochs_go_with_time_and_not_with_wake_ups(spans: list[float]) -> None:
    """Oracle: the epochs between any two ticks are the elapsed time divided by the period, plus or minus one."""
    clock = Ticker()
    reported = [0, *accumulate(map(clock._due, spans))]
    times = [0.0, *accumulate(spans)]
    for first in range(len(times)):
        for last in range(first, len(times)):
            exact = (times[last] - times[first]) / TICK
            assert exact - 1.001 < reported[last] - reported[first] < exact + 1.001


def test_each_wake_up_in_time_is_an_epoch() -> None:
    clock = Ticker()
    assert sum(clock._due(TICK * 1.05) for _ in range(100)) == 105
    assert clock._due(TICK) == 1


def test_a_process_that_was_stopped_for_days_goes_on_at_once() -> None:
    assert Ticker()._due(30 * 86400.0) == module._MAX_EPOCHS_PER_TICK


@pytest.mark.skipif(os.name != "posix", reason="the C library's usleep")
@pytest.mark.parametrize("imports", [None, {"env": {"f": lambda: None}}], ids=["alone", "with a host function"])
def test_a_call_has_all_its_time_after_code_that_kept_the_interpreter_busy(imports: object) -> None:
    """Oracle: the time of a call begins with the call, although the ticker thread could not run for even longer."""
    keep_busy = ctypes.PyDLL(None).usleep  # holds the interpreter lock
    imported = '(import "env" "f" (func))' if imports else ""
    runtime = Aegis(cache=False, timeout="50ms")
    module = runtime.load_wat(f'(module {imported} (func (export "five") (result i32) (i32.const 5)))')

    def calls() -> None:
        with runtime.sandbox(module, imports=imports) as sandbox:
            for _ in range(3):
                assert sandbox.call("five") == 5
                keep_busy(200_000)

    if imports is None:
        calls()  # on the main thread, only a guest without host functions is called directly
    else:
        job = run_on_guest_thread(calls)
        assert job.wait(60)
        job.outcome()
