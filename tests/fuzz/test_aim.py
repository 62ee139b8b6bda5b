"""``aim`` makes the cost of a call a target of hypothesis' search."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from aegis import Aegis, Outcome, Usage
from aegis.testing.target_cost import aim

BYTE = st.integers(0, 255)
NEAR = "(i32.sub (i32.const 255) (call $distance (local.get {}) (i32.const {})))"
SLOW = f"""(module
  (func $distance (param i32 i32) (result i32) (local i32)
    (local.set 2 (i32.sub (local.get 0) (local.get 1)))
    (if (result i32) (i32.lt_s (local.get 2) (i32.const 0))
      (then (i32.sub (i32.const 0) (local.get 2))) (else (local.get 2))))
  (func (export "f") (param i32 i32 i32 i32) (local $turns i32)
    (local.set $turns (i32.add (i32.add {NEAR.format(0, 37)} {NEAR.format(1, 91)})
                               (i32.add {NEAR.format(2, 142)} {NEAR.format(3, 203)})))
    (loop $again
      (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $turns) (i32.const 0))))))"""


def _most(runtime: Aegis, module: Any, *, aimed: bool) -> int:
    fuels = []

    @settings(
        max_examples=1200, derandomize=True, database=None, deadline=None, phases=[Phase.generate, Phase.target],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.tuples(BYTE, BYTE, BYTE, BYTE))
    def search(arguments: tuple[int, ...]) -> None:
        with runtime.sandbox(module) as sandbox:
            outcome = sandbox.run("f", *arguments)
        if aimed:
            aim(outcome)
        assert outcome.usage.fuel is not None
        fuels.append(outcome.usage.fuel)

    search()
    return max(fuels)


def test_a_search_that_aims_finds_slower_inputs_than_one_that_does_not() -> None:
    """Oracle: with equally many cases, the search with the target finds a slower input than the search without it."""
    with Aegis(cache=False, fuel=1_000_000) as runtime:
        module: Any = runtime.load_wat(SLOW)
        with runtime.sandbox(module) as sandbox:
            slowest = sandbox.run("f", 37, 91, 142, 203).usage.fuel
        assert slowest is not None
        aimed, plain = (_most(runtime, module, aimed=aimed) for aimed in (True, False))
    assert aimed > 0.98 * slowest > plain


def test_each_measure_is_a_target_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, float] = {}
    monkeypatch.setattr("aegis.testing.target_cost.target", lambda value, label: found.__setitem__(label, value))
    outcome = Outcome(usage=Usage(fuel=5, peak_memory=65536, host_calls=2))
    assert aim(outcome, label="parse") is outcome
    assert found == {"parse fuel": 5, "parse memory": 65536, "parse host calls": 2}
    found.clear()
    aim(Outcome(usage=Usage(host_calls=1)))
    assert found == {"memory": 0, "host calls": 1}


def test_outside_of_a_test_there_is_nothing_to_aim() -> None:
    with pytest.raises(InvalidArgument):
        aim(Outcome())
