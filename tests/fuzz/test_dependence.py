"""Dependences of comparisons on the input: the bytes that decide are found, and get the values that are wanted."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.engine.compile.artifact import read_file, text_to_binary
from aegis.fuzz.case import Case, Step
from aegis.fuzz.coverage.dependence import Cell, dependences, leaves_of
from aegis.fuzz.coverage.guided import GuidedSearch
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.values.sequences import _nested
from aegis.fuzz.worker import WorkerState
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.wasm.comparisons import COMPARED, DIVIDED, SWITCHED, record_comparisons
from tests.guests.catalogue import source

NUMBERS = """(module
  (func (export "sum") (param i32 i32) (result i32)
    (i32.eq (i32.add (i32.mul (local.get 0) (i32.const 3)) (local.get 1)) (i32.const 50000)))
  (func (export "share") (param i32 i32) (result i32) (i32.div_s (local.get 0) (i32.and (local.get 1) (i32.const 255))))
  (func (export "choose") (param i32) (result i32)
    (block $b (block $a (br_table $a $a $a $b $a (i32.sub (local.get 0) (i32.const 700)))) (return (i32.const 1)))
    (unreachable)))"""


@cache
def search(name: str) -> GuidedSearch:
    """Return a search over a planted bug, or over :data:`NUMBERS` for an empty name."""
    data = read_file(source(f"buggy/{name}"), Limits()) if name else text_to_binary(NUMBERS)
    made = WorkerState(CampaignPlan(data=data, name="guest", policy=Policy(), max_size=64)).search([], [])
    assert isinstance(made, GuidedSearch)
    made._calls = 1 << 30  # no bound on the calls that find dependences
    return made


def solved(name: str, function: str, *arguments: object) -> list[tuple[object, ...]]:
    """Return the arguments of the test cases that one case suggests."""
    return [case.steps[-1].arguments for case in search(name)._solved(Case((Step(function, arguments),)))]


@given(st.integers(0, 10_000), st.integers(-10_000, 10_000))
def test_a_weighted_sum_of_numbers_gets_the_wanted_value(one: int, two: int) -> None:
    """Property: some suggestion fulfils the equation; its terms have the weights 3 and 1."""
    if 3 * one + two != 50_000:
        assert any(3 * a + b == 50_000 for a, b in solved("", "sum", one, two))  # type: ignore[operator]


def test_a_divisor_becomes_zero_and_a_quotient_too_large() -> None:
    found = solved("", "share", 7, 5)
    assert any(b % 256 == 0 for _, b in found)  # type: ignore[operator]
    assert any(a in (-(1 << 31), 1 << 31) for a, _ in found)


def test_every_target_of_a_branch_table_is_reached() -> None:
    assert {700, 701, 702, 703, 704} <= {n for (n,) in solved("", "choose", 5)}


def test_a_decimal_number_is_written_where_digits_stood() -> None:
    assert ("level=1984",) in solved("settings", "load", "level=7")


def test_a_word_of_the_data_goes_on_from_the_compared_byte() -> None:
    assert any("mode=fast" in text for (text,) in solved("settings", "load", "m" + "x" * 9))  # type: ignore[operator]


def test_a_field_that_must_be_the_length_is_corrected_when_the_input_grows() -> None:
    """Oracle: the guest, which returns -3 for a wrong length."""
    made = search("chunks")
    solved("chunks", "samples", b"RIFF\0\0\0\0\0")  # violates the relation
    case = Case((Step("samples", (b"RIFF\0\0\0\0" + bytes(20),)),))
    mended = made._mended(case)
    assert mended.steps[0].arguments == (b"RIFF\x14\0\0\0" + bytes(20),)
    assert made.target.run(mended).results[0].value == 0


def test_a_checksum_is_computed_again_where_the_guest_compares_it() -> None:
    made = search("checksum")
    solved("checksum", "frame", bytes((0xA5, 1, 2, 0xA5 ^ 3)))  # fulfils the relation
    (step,) = made._mended(Case((Step("frame", (bytes((0xA5, 9, 8, 7, 6, 5)),)),))).steps
    (data,) = step.arguments
    assert data[:-1] == bytes((0xA5, 9, 8, 7, 6))
    assert data[-1] == 0xA5 ^ 9 ^ 8 ^ 7 ^ 6


def test_each_byte_has_its_weight_in_an_operand() -> None:
    """Oracle: the planted format, a little-endian length from byte 4 on."""
    case = Case((Step("samples", (b"RIFF\x01\0\0\0",)),))
    found, _ = dependences(case, leaves_of(case), search("chunks")._operands, 40)
    weights = [one.left for one in found if Cell(0, 7, "value", 1) in one.left]
    assert weights[0] == {Cell(0, 4 + n, "value", 1): 256**n for n in range(4)}


def test_divisions_tests_for_zero_and_tables_are_sites_but_booleans_are_not() -> None:
    text = """(module (func (export "f") (param i32 i32) (result i32)
      (if (i32.eqz (local.get 0)) (then (nop)))
      (if (i32.lt_s (local.get 0) (i32.const 3)) (then (nop)))
      (if (local.get 1) (then (nop)))
      (block (br_table 0 0 (local.get 0)))
      (i32.rem_u (local.get 0) (local.get 1))))"""
    assert record_comparisons(text_to_binary(text)).sites == (COMPARED, COMPARED, COMPARED, SWITCHED, DIVIDED)


@pytest.mark.parametrize("value", ["[1]", b"x[1]"])
def test_nesting_repeats_what_opens_and_what_closes(value: object) -> None:
    found = {bytes(made, "ascii") if isinstance(made, str) else made for n in range(400)
             if (made := _nested(random.Random(n), value))}  # fmt: skip
    assert any(b"[" * 33 in one and b"]" * 33 in one for one in found)


def test_the_division_by_zero_in_a_chunk_is_found(tmp_path: Path) -> None:
    """A chunk parser with a length of the whole, and a field that must be zero."""
    made = WorkerState(CampaignPlan(data=read_file(source("buggy/chunks"), Limits()), name="chunks", policy=Policy(),
                                    max_size=64, oracles=("no-trap",))).search([], [])  # fmt: skip
    for chunk in range(12):
        batch = made.run(chunk, 1000)
        if batch.findings:
            break
    assert [finding.signature.split()[1] for finding in batch.findings] == ["samples"]
