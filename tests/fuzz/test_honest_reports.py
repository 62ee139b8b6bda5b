"""Reports say what was tested and what a finding is: exports, causes, refused memory, and what differed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis
from aegis.errors import Frame, GuestTrap
from aegis.fuzz.case import Case, Step, StepResult
from aegis.fuzz.causes import cause_of, key_of, signature_of, telling_frames
from aegis.fuzz.oracles import NoLimit, NoTrap
from aegis.fuzz.oracles.agreement import same
from aegis.fuzz.oracles.differences import difference
from aegis.fuzz.report import new_findings, to_data, to_text
from aegis.fuzz.target import Target
from aegis.fuzz.worker import WorkerState
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.wit.values import Err, Ok
from tests.fuzz.test_campaign import _campaign
from tests.guests.catalogue import source


def _report(path: Path, runs: int = 2000, **options: Any) -> dict[str, Any]:
    result = _campaign(path, runs, **options)
    target = WorkerState(result.plan).target
    return to_data(result, target.artifact.kind, target.left_out, exports=target.exports)


def _module(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guest.wat"
    path.write_text(f"(module {text})")
    return path


# -- exports ----------------------------------------------------------------------------------------------------


def test_the_table_counts_every_call_by_export_and_ending(tmp_path: Path) -> None:
    """Oracle: each row adds up, the rows add up to the calls, and they agree with the guest's rule."""
    path = _module(
        tmp_path,
        """(func (export "fine") (param i32) (result i32) (local.get 0))
        (func (export "odd") (param i32) (if (i32.and (local.get 0) (i32.const 1)) (then unreachable)))
        (func (export "endless") (param i32) (if (i32.eqz (local.get 0)) (then (loop $l (br $l)))))""",
    )
    data = _report(path, 1500, policy=Policy(limits=Limits(fuel=10_000)))
    rows = {row["name"]: row for row in data["exports"]}
    for row in rows.values():
        assert row["called"] == row["ok"] + row["error"] + row["trap"] + row["limit"]
        assert row["ok"]
        assert not row["warning"]
    assert data["cases"] == sum(row["called"] for row in rows.values()) == 1500
    assert rows["fine"]["called"] == rows["fine"]["ok"]
    assert (rows["odd"]["trap"] > 0, rows["odd"]["limit"]) == (True, 0)
    assert (rows["endless"]["limit"] > 0, rows["endless"]["trap"]) == (True, 0)
    text = to_text(data)
    assert "export   called" in text
    assert "warning" not in text


def test_an_export_that_never_returned_is_a_warning_with_its_errors(tmp_path: Path) -> None:
    data = _report(_module(tmp_path, '(func (export "f") (param i32) unreachable) (func (export "g"))'), 300)
    (warned,) = (row for row in data["exports"] if row["warning"])
    assert warned["name"] == "f"
    assert warned["warning"] == f"never ok: of {warned['called']} calls, {warned['called']} trapped"
    assert f"warning: f: {warned['warning']}" in to_text(data)


NEVER = """(component
  (core module $d (func (export "make") (param i32) (result i32) (i32.const 1)) (func (export "use") (param i32)))
  (core instance $i (instantiate $d))
  (type $r (resource (rep i32)))
  (export $e "thing" (type $r))
  (type $made (result (own $e) (error u32)))
  (core module $m
    (memory (export "memory") 1)
    (func (export "make") (result i32)
      (i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 77)) (i32.const 0)))
  (core instance $n (instantiate $m))
  (func (export "make") (result $made) (canon lift (core func $n "make") (memory (core memory $n "memory"))))
  (func (export "use") (param "self" (borrow $e)) (canon lift (core func $i "use"))))"""


def test_an_export_whose_handle_no_call_returned_is_a_warning_that_names_the_constructor(tmp_path: Path) -> None:
    path = tmp_path / "never.wat"
    path.write_text(NEVER)
    rows = {row["name"]: row for row in _report(path, 300)["exports"]}
    assert rows["make"]["error"] == rows["make"]["called"] > 0
    assert "declared an error, such as Err(77)" in rows["make"]["warning"]
    assert rows["use"]["called"] == 0
    assert rows["use"]["warning"] == "never called: it takes a handle, and make never returned one"


# -- causes -----------------------------------------------------------------------------------------------------


def test_findings_of_several_exports_with_one_cause_are_one_group_with_one_case(tmp_path: Path) -> None:
    exports = "".join(
        f'(func (export "f{n}") (param i32) (call $check (i32.add (local.get 0) (i32.const {n}))))' for n in range(5)
    )
    path = _module(
        tmp_path,
        f"""(func $check (param i32)
          (if (i32.eq (i32.and (local.get 0) (i32.const 15)) (i32.const 7)) (then unreachable)))
        {exports} (func (export "own") (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))""",
    )
    data = _report(path, 3000)
    assert len(data["findings"]) == 6
    assert sorted(len(group["exports"]) for group in data["groups"]) == [1, 5]
    text = to_text(data)
    assert text.count("finding: ") == 2
    assert "6 findings of 2 causes" in text
    assert "same cause (unreachable in check at 0x" in text


def test_two_assertions_in_one_function_are_two_findings(tmp_path: Path) -> None:
    path = _module(
        tmp_path,
        """(func (export "f") (param i32)
          (if (i32.eq (local.get 0) (i32.const 1)) (then unreachable))
          (if (i32.eq (local.get 0) (i32.const 2)) (then unreachable)))""",
    )
    assert sorted(f["steps"][0][1] for f in _report(path, 2000)["findings"]) == [["1"], ["2"]]


def _trap(*names: str | None, code: str = "unreachable", offset: int = 7) -> StepResult:
    frames = [Frame(n, name, offset + n) for n, name in enumerate(names)]
    return StepResult(error=GuestTrap("trapped", code=code, frames=frames))


@pytest.mark.parametrize(
    "machinery",
    [
        ("rust_panic", "std::panicking::begin_panic_handler::h0123456789abcdef", "core::panicking::panic_fmt"),
        ("abort", "__assert_fail"),
        ("runtime.abort", "runtime._panic"),
        ("~lib/builtins/abort",),
    ],
)
def test_the_machinery_of_panics_is_no_cause(machinery: tuple[str, ...]) -> None:
    """Oracle: two faults with the same machinery differ, and one fault is itself with or without the machinery."""
    one, two = _trap(*machinery, "parse", "f"), _trap(*machinery, "render", "f")
    assert cause_of("f", one) != cause_of("f", two)
    assert signature_of(one) != signature_of(two)
    assert cause_of("f", one).startswith("unreachable in parse at ")
    assert key_of("no-trap", "f", one) == key_of("no-trap", "f", _trap("parse", "f"))


def test_a_trap_of_machinery_alone_still_has_frames() -> None:
    assert [frame.name for frame in telling_frames(_trap("abort", "panic").error.frames)] == ["abort", "panic"]  # type: ignore[union-attr]


@given(st.integers(1, 40))
def test_recursion_of_any_depth_is_one_cause(depth: int) -> None:
    frames = [Frame(n % 2, "ab"[n % 2], 5) for n in range(2 * depth)] + [Frame(9, "f", 1)]
    results = StepResult(error=GuestTrap("trapped", code="memory-out-of-bounds", frames=frames))
    assert cause_of("f", results) == "memory-out-of-bounds in a, called by b"


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_key_of_a_finding_survives_another_compilation(one: int, two: int) -> None:
    """Oracle: function numbers, addresses and the compiler's hashes do not change the key."""
    first = GuestTrap("trapped", code="unreachable", frames=[Frame(one, "a::b::h0123456789abcdef", one)])
    other = GuestTrap("trapped", code="unreachable", frames=[Frame(two, "a::b::hfedcba9876543210", two)])
    assert key_of("no-trap", "f", StepResult(error=first)) == key_of("no-trap", "f", StepResult(error=other))


# -- refused memory ---------------------------------------------------------------------------------------------

GREEDY = """(memory (export "memory") 1)
  (func (export "greedy") (param i32)
    (if (i32.eq (memory.grow (i32.and (local.get 0) (i32.const 0xfff))) (i32.const -1)) (then unreachable)))
  (func (export "wrong") (param i32) (drop (memory.grow (i32.const 1)))
    (if (i32.eq (local.get 0) (i32.const 3)) (then unreachable)))"""


def test_a_trap_after_a_refused_growth_is_a_limit_and_another_trap_is_not(tmp_path: Path) -> None:
    """Oracle: 64 MiB are 1024 pages, of which the guest has one; the least growth that is refused is 1024 pages."""
    data = _report(_module(tmp_path, GREEDY), 2000, oracles=("no-trap", "no-limit"))
    found = {f["steps"][0][0]: f for f in data["findings"]}
    assert (found["greedy"]["oracle"], found["greedy"]["steps"][0][1]) == ("no-limit", ["1024"])
    assert (found["wrong"]["oracle"], found["wrong"]["steps"][0][1]) == ("no-trap", ["3"])
    assert found["greedy"]["status"] == "memory-exceeded"


def test_the_oracles_about_endings_never_both_report_one_call(tmp_path: Path) -> None:
    runtime = Aegis(Policy(limits=Limits(fuel=10_000)))
    target = Target(runtime, runtime.load_file(_module(tmp_path, GREEDY)))
    for name, argument, oracle in (("greedy", 1024, "no-limit"), ("greedy", 1, None), ("wrong", 3, "no-trap")):
        trace = target.run(Case((Step(name, (argument,)),)))
        found = [one.judge(target, trace) for one in (NoTrap(), NoLimit())]
        assert [one.oracle for one in found if one is not None] == ([] if oracle is None else [oracle])


# -- what differed ------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.integers() | st.text(max_size=8) | st.binary(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.builds(Ok, inner) | st.builds(Err, inner),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_two_values_have_a_difference_exactly_if_they_are_not_the_same(one: Any, two: Any) -> None:
    assert (difference(one, two, same) is None) == same(one, two)


@given(st.lists(st.integers(), min_size=1, max_size=300), st.data())
def test_the_place_of_a_difference_is_the_item_that_differs(items: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(items) - 1))
    other = [*items[:at], items[at] + 1, *items[at + 1 :]]
    found = difference(Ok((7, items)), Ok((7, other)), same)
    assert found is not None
    assert (found.place, found.first, found.second) == (f".value[1][{at}]", str(items[at]), str(items[at] + 1))


def test_a_difference_deep_in_a_long_text_is_shown() -> None:
    one = "x" * 5000 + "left" + "y" * 5000
    found = difference(one, one.replace("left", "right"), same)
    assert found is not None
    assert found.place == "[5000:]"
    assert found.first.startswith("'left")
    assert found.second.startswith("'right")


def test_lists_of_different_lengths_differ_by_their_lengths() -> None:
    found = difference([1] * 500, [1] * 501, same)
    assert found is not None
    assert (found.first, found.second) == ("a length of 500", "a length of 501")


def test_a_guest_that_returns_random_numbers_is_reported_with_what_differed() -> None:
    (finding,) = _report(source("buggy/uninitialised"), 2000)["findings"]
    assert finding["oracle"] == "deterministic"
    assert "in the first run" in finding["text"]
    assert "in the second" in finding["text"]
    assert new_findings({"findings": [{**finding, "known": False}]}) == 1


def test_a_difference_names_the_first_host_answer_that_differed(tmp_path: Path) -> None:
    path = tmp_path / "dice.wat"
    path.write_text("""(component
      (import "wasi:random/random@0.2.0" (instance $r (export "get-random-u64" (func (result u64)))))
      (core func $random (canon lower (func $r "get-random-u64")))
      (core module $m (import "" "random" (func $random (result i64)))
        (func (export "roll") (result i64) (drop (call $random)) (call $random)))
      (core instance $m (instantiate $m (with "" (instance (export "random" (func $random))))))
      (func (export "roll") (result u64) (canon lift (core func $m "roll"))))""")
    (finding,) = _report(path, 200)["findings"]
    assert (
        "the first host answer that differed is number 1: wasi:random/random@0.2.0#get-random-u64 -> "
        in finding["text"]
    )
