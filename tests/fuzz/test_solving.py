"""Inputs that formats and keys demand: fields that move, checksums that are arguments, operands computed backwards."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.engine.compile.artifact import text_to_binary
from aegis.fuzz.case import Case, Step
from aegis.fuzz.coverage.dependence import Cell, Compared, Leaf
from aegis.fuzz.coverage.guided import GuidedSearch
from aegis.fuzz.coverage.inverse import LEAST_WIDE, inverted
from aegis.fuzz.coverage.relations import Relations
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.search import ChunkResult
from aegis.fuzz.values.buffers import Buffer
from aegis.fuzz.values.fields import fields_changed, fields_joined
from aegis.fuzz.worker import WorkerState
from aegis.policy import Policy
from aegis.wasm.comparisons import Operands
from tests.fuzz.guest_parts import ALLOCATOR

MASK = (1 << 64) - 1
KEY = 0x1234_5678_90AB_CDEF

GUEST = f"""(module
  (memory (export "memory") 1)
  {ALLOCATOR}
  (func $hash (param $at i32) (param $len i32) (result i32) (local $sum i32) (local $n i32)
    (if (local.get $len) (then (loop $each
      (local.set $sum (i32.mul (i32.xor (local.get $sum) (i32.load8_u (i32.add (local.get $at) (local.get $n))))
        (i32.const 0x01000193)))
      (br_if $each (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $len))))))
    (local.get $sum))
  (func (export "packet") (param $at i32) (param $len i32) (result i32) (local $size i32)
    (if (i32.lt_u (local.get $len) (i32.const 5)) (then (return (i32.const 0))))
    (local.set $size (i32.load8_u (local.get $at)))
    (if (i32.gt_u (local.get $size) (i32.sub (local.get $len) (i32.const 5))) (then (return (i32.const 1))))
    (if (i32.ne (i32.const -1) (i32.xor (call $hash (local.get $at) (i32.add (local.get $size) (i32.const 1)))
        (i32.load offset=1 (i32.add (local.get $at) (local.get $size)))))
      (then (return (i32.const 2))))
    (i32.const 3))
  (func (export "verified") (param $at i32) (param $len i32) (param $sum i32) (result i32)
    (if (i32.ne (local.get $sum) (call $hash (local.get $at) (local.get $len))) (then (return (i32.const 0))))
    (i32.const 1))
  (func (export "unlock") (param $key i64) (result i32)
    (local.set $key (i64.xor (local.get $key) (i64.shr_u (local.get $key) (i64.const 23))))
    (local.set $key (i64.mul (i64.rotl (local.get $key) (i64.const 13)) (i64.const 0x9E3779B97F4A7C15)))
    (local.set $key (i64.sub (local.get $key) (i64.const 77)))
    (i64.eq (local.get $key) (i64.const {KEY}))))"""


@cache
def search() -> GuidedSearch:
    data = text_to_binary(GUEST)
    plan = CampaignPlan(
        data=data, name="guest", policy=Policy(), max_size=64, signatures=("verified(buffer, i32)",)
    )  # fmt: skip
    made = WorkerState(plan).search([], [])
    assert isinstance(made, GuidedSearch)
    made._calls = 1 << 30  # no bound on the calls that find dependences
    return made


def _value(case: Case) -> object:
    return search().target.run(case).results[-1].value


# -- fields of formats ---------------------------------------------------------------------------------------------


def test_a_checksum_is_found_again_where_a_length_moved_it() -> None:
    """Oracle: the guest, which returns 3 for a packet with the right checksum."""
    made = search()
    first = Case((Step("packet", (Buffer(b"\x04abcd" + bytes(range(9, 13))),)),))
    assert 3 in {_value(case) for case in made._solved(first)}
    for size in (2, 7, 20):
        other = Case((Step("packet", (Buffer(bytes((size,)) + b"longer packet" + bytes(40)),)),))
        assert _value(other) == 2
        assert 3 in map(_value, made.mend(other))


def test_a_checksum_that_is_an_argument_is_computed_again() -> None:
    made = search()
    first = Case((Step("verified", (Buffer(b"abcdefgh"), 5)),))
    assert 1 in {_value(case) for case in made._solved(first)}
    other = Case((Step("verified", (Buffer(b"other bytes"), 5)),))
    assert 1 in map(_value, made.mend(other))


def test_a_field_beside_a_list_is_computed_again() -> None:
    """A list in the arguments cannot be a key of a table."""
    step = Step("f", ([1, 2], b"\x05\0abc"))
    field = Compared(Operands(3, 32, False, 5, 3), 0, {Cell(0, 0, "value", 1): 1}, {Cell(0, 5, "length", 1): 1})
    relations = Relations()
    assert relations.learn("f", [Leaf((0, 1), b"\x05\0abc", b"\x05\0abc")], [field])
    (mended,) = relations.mended(Case((step,)), [[Operands(3, 32, False, 5, 3)]])
    assert mended.steps == (Step("f", ([1, 2], b"\x03\0abc")),)


def test_a_bound_that_calls_passed_is_no_field_to_compute() -> None:
    """The length of a part may be less than the rest of the input: calls go on after such a comparison."""
    step, less, more = Step("f", (b"\x05\0abc",)), Operands(3, 32, False, 2, 3), Operands(3, 32, False, 5, 3)
    relations, other = Relations(), Operands(9, 32, False, 0, 1)
    field = Compared(more, 0, {Cell(0, 0, "value", 1): 1}, {Cell(0, 5, "length", 1): 1})
    relations.learn("f", [Leaf((0, 0), b"\x05\0abc", b"\x05\0abc")], [field])
    assert relations.mended(Case((step,)), [[less]])
    relations.mended(Case((step,)), [[less, other, other]])
    assert not relations.mended(Case((step,)), [[less]])
    assert relations.mended(Case((step,)), [[more]])


def test_a_call_with_an_invalid_argument_reaches_nothing() -> None:
    """A character that became two is no character, and such a call must not be kept for its comparisons."""
    assert search()._operands(Case((Step("unlock", ("no number",)),))) is None


# -- operands computed backwards -----------------------------------------------------------------------------------


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & MASK


OPERATIONS = {
    "add": lambda a, b: a + b & MASK,
    "sub": lambda a, b: a - b & MASK,
    "mul": lambda a, b: a * (b | 1) & MASK,
    "xor": lambda a, b: a ^ b,
    "rotl": lambda a, b: _rotated(a, b % 63 + 1),
    "rotr": lambda a, b: _rotated(a, 63 - b % 63),
    "mix": lambda a, b: a ^ a >> b % 40 + 8,
}


def _recorded(steps: list[tuple[str, int]], value: int) -> tuple[list[Operands], int]:
    """Return the records of a chain of operations, and its result."""
    records = []
    for kind, constant in steps:
        right = {"mul": constant | 1, "rotl": constant % 63 + 1, "rotr": constant % 63 + 1}.get(kind, constant)
        if kind == "mix":
            by = constant % 40 + 8
            records.append(Operands(0, 64, False, value, by, "shr_u"))
            records.append(Operands(0, 64, False, value, value >> by, "xor"))
        else:
            records.append(Operands(0, 64, False, value, right, kind))
        value = OPERATIONS[kind](value, constant)
    return records, value


@given(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_chain_of_operations_is_computed_backwards(kinds: list[str], drawn: random.Random) -> None:
    """Property: the value found for the beginning of the chain gives the wanted result."""
    rng = random.Random(drawn.getrandbits(32))  # numbers that occur by chance are not followed
    steps = [(kind, rng.getrandbits(64) | 1 << 50) for kind in kinds]
    value, wanted = rng.getrandbits(64) | 1 << 50, rng.getrandbits(64)
    records, result = _recorded(steps, value)
    if min(result, *(record.left for record in records)) >= LEAST_WIDE:
        pairs = [pair for pair in inverted(records, 64, result, wanted) if pair.found == value]
        assert any(_recorded(steps, pair.wanted)[1] == wanted for pair in pairs)


def test_a_key_that_is_mixed_and_multiplied_is_found() -> None:
    made, batch = search(), ChunkResult(0)
    made.explore(Case((Step("unlock", (5,)),)), batch)
    kept = [case for case in made._kept if case.steps[-1].function == "unlock"]
    assert 1 in {_value(case) for case in kept}


# -- lines and fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_two_inputs_come_together(newline: str) -> None:
    one, two = newline.join(["GET /", "a: 1", ""]), newline.join(["POST /", "b: 2", ""])
    found = {fields_joined(random.Random(n), one, two) for n in range(300)}
    assert newline.join(["GET /", "a: 1", "b: 2", ""]) in found
    assert newline.join(["POST /", "a: 1", ""]) in found
    octets = {fields_joined(random.Random(n), one.encode(), two.encode()) for n in range(300)}
    assert newline.join(["GET /", "a: 1", "b: 2", ""]).encode() in octets


def test_fields_are_removed_repeated_moved_and_added() -> None:
    found = {fields_changed(random.Random(n), "x,y", "word") for n in range(300)}
    assert {"x", "y", "y,x", "x,x,y", "x,y,", ",y", "word,x,y", "x,word"} <= found
    assert {fields_changed(random.Random(n), b"xy", b"word") for n in range(50)} == {b"xy"}
