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
from aegis.fuzz.coverage.dependence import Cell, Leaf, dependences, leaves_of
from aegis.fuzz.coverage.guided import GuidedSearch
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.values.buffers import Buffer
from aegis.fuzz.values.sequences import _nested
from aegis.fuzz.worker import WorkerState
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.wasm.comparisons import COMPARED, DIVIDED, SWITCHED, Operands, record_comparisons
from tests.fuzz.guest_parts import ALLOCATOR
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
    plan = CampaignPlan(
        data=read_file(source("buggy/chunks"), Limits()), name="chunks", policy=Policy(), seed=1, max_size=64,
        oracles=("no-trap",),
    )  # fmt: skip
    made = WorkerState(plan).search([], [])
    for chunk in range(12):
        batch = made.run(chunk, 1000)
        if batch.findings:
            break
    assert [finding.signature.split()[1] for finding in batch.findings] == ["samples"]


# -- what compilers make of comparisons ---------------------------------------------------------------------------

COMPILED = (
    """(module
  (memory (export "memory") 1)
  """
    + ALLOCATOR
    + """
  (func $byte (param i32 i32) (result i32) (i32.load8_u (i32.add (local.get 0) (local.get 1))))
  (func (export "digit") (param $at i32) (param $len i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $len) (i32.const 2)) (then (i32.const 0)) (else
    (if (result i32) (i32.lt_u (i32.and (i32.sub (i32.load8_u (local.get $at)) (i32.const 58)) (i32.const 255))
      (i32.const 246)) (then (i32.const 1)) (else (i32.const 2))))))
  (func (export "height") (param $at i32) (param $len i32) (result i32)
    (if (i32.lt_u (local.get $len) (i32.const 4)) (then (return (i32.const 0))))
    (i32.eq (i32.const 0x0100ff01) (i32.or (i32.or
      (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
      (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16))) (i32.or
      (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8)) (i32.load8_u offset=3 (local.get $at))))))
  (func (export "mixed") (param $at i32) (param $len i32) (result i32) (local $sum i32) (local $n i32)
    (if (i32.ne (local.get $len) (i32.const 12)) (then (return (i32.const 0))))
    (loop $each
      (local.set $sum (i32.mul (i32.xor (local.get $sum) (call $byte (local.get $at) (local.get $n)))
        (i32.const 0x01000193)))
      (br_if $each (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 8))))
    (i32.eq (i32.const -1) (i32.xor (local.get $sum) (i32.load offset=8 (local.get $at)))))
  (func (export "chunk") (param $at i32) (param $len i32) (result i32)
    (if (i32.lt_u (local.get $len) (i32.const 2)) (then (return (i32.const 0))))
    (if (i32.gt_u (i32.load8_u (local.get $at)) (i32.sub (local.get $len) (i32.const 2)))
      (then (return (i32.const 1))))
    (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 6)) (then (return (i32.const 2))))
    (i32.const 3))
  (func (export "greets") (param $at i32) (param $len i32) (result i32)
    (if (i32.lt_u (local.get $len) (i32.const 5)) (then (return (i32.const 0))))
    (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 104)) (then (return (i32.const 1))))
    (if (i32.ne (i32.load8_u offset=1 (local.get $at)) (i32.const 101)) (then (return (i32.const 2))))
    (if (i32.ne (i32.load8_u offset=2 (local.get $at)) (i32.const 108)) (then (return (i32.const 3))))
    (if (i32.ne (i32.load8_u offset=3 (local.get $at)) (i32.const 108)) (then (return (i32.const 4))))
    (i32.eq (i32.load8_u offset=4 (local.get $at)) (i32.const 111))))"""
)


@cache
def compiled() -> GuidedSearch:
    plan = CampaignPlan(data=text_to_binary(COMPILED), name="guest", policy=Policy(), max_size=64)
    made = WorkerState(plan).search([], [])
    assert isinstance(made, GuidedSearch)
    made._calls = 1 << 30
    return made


def suggested(function: str, data: bytes) -> list[bytes]:
    """Return the buffers that one case of :data:`COMPILED` suggests."""
    cases = compiled()._solved(Case((Step(function, (Buffer(data),)),)))
    return [case.steps[-1].arguments[0].data for case in cases]


def test_a_byte_that_wraps_becomes_a_digit() -> None:
    assert any(data[:1].isdigit() for data in suggested("digit", b"aaaa"))


def test_a_number_of_several_bytes_is_solved_with_carries() -> None:
    """Adding to each byte alone does not do: the second byte becomes smaller and the third greater."""
    assert any(data.startswith(b"\x01\x00\xff\x01") for data in suggested("height", b"\x00\xff\x00\xff"))


def test_a_checksum_that_is_xored_with_the_right_one_is_computed_again() -> None:
    """Oracle: the guest, which returns 1 for the right checksum."""
    made = compiled()
    found = [Case((Step("mixed", (Buffer(data),)),)) for data in suggested("mixed", b"abcdefgh1234")]
    assert any(made.target.run(case).results[0].value == 1 for case in found)
    *_, mended = made.mend(Case((Step("mixed", (Buffer(b"ijklmnop1234"),)),)))
    assert made.target.run(mended).results[0].value == 1


def test_a_string_that_code_spells_is_a_word() -> None:
    assert any(data.startswith(b"hello") for data in suggested("greets", b"aaaaaaaa"))


def test_comparisons_that_only_one_run_records_do_not_part_the_runs() -> None:
    """Oracle: both digits of the day are solved, although the second one was equal to the end of its range."""

    def record(site: int, left: int) -> Operands:
        return Operands(site, 32, False, left, 7)

    base = [record(site, left) for site, left in ((1, 3), (2, 4), (3, 10), (4, 20), (5, 30))]
    more = [record(1, 3), record(9, 1), record(2, 4), record(3, 11), record(4, 20), record(5, 33)]
    leaf = Leaf((0, 0), b"ab", b"ab")
    case = Case((Step("f", (b"ab",)),))
    found, _ = dependences(case, [leaf], lambda one: base if one is case else more, 1)
    assert {one.operands.site: list(one.left.values()) for one in found} == {3: [1], 5: [3]}


def test_a_long_list_of_long_texts_is_cut_and_trimmed() -> None:
    """Items that went with a cut are not cut themselves."""
    made = search("")
    case = Case((Step("sum", (["x" * 100] * 100, 1)),))
    made._reaches = lambda one, bits: True  # type: ignore[method-assign]
    try:
        cut = made._cut(case, 1)
        assert len(cut.steps[0].arguments[0]) == 32
        assert all(len(text) == 32 for text in cut.steps[0].arguments[0])
        assert len(made._trimmed(Case((Step("sum", (b"x" * 100, 1)),)), 1).steps[0].arguments[0]) < 24
    finally:
        del made._reaches


def test_a_length_with_nothing_behind_it_is_solved_with_room() -> None:
    """A chunk of 0 bytes at the end should have 6, so its length and the size of the input must grow together."""
    assert any(data[:1] == b"\x06" and len(data) >= 8 for data in suggested("chunk", b"\0c"))
