"""Instrumented modules: the guest's results and traps are unchanged, and the counters tell the control flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis
from aegis.engine.compile.artifact import Module, text_to_binary
from aegis.errors import GuestTrap
from aegis.fuzz.source_lines import CodeModule
from aegis.wasm.admission import core_modules
from aegis.wasm.binary import ADDED_MEMORY, Malformed, read_module
from aegis.wasm.comparisons import read_operands, record_comparisons
from aegis.wasm.edges import Counted, count_edges
from aegis.wasm.embedded import with_modules
from aegis.wasm.flow import executed

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = Aegis(fuel=10_000_000, timeout=None)

EVERYTHING = """(module
  (type $two (func (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (table funcref (elem $add $less))
  (func $add (type $two) (i32.add (local.get 0) (local.get 1)))
  (func $less (type $two) (i32.lt_s (local.get 0) (local.get 1)))
  (func (export "sum") (param $n i32) (result i64) (local $total i64)
    (block $out
      (loop $again
        (br_if $out (i32.eqz (local.get $n)))
        (local.set $total (i64.add (local.get $total) (i64.extend_i32_u (local.get $n))))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $again)))
    (local.get $total))
  (func (export "choose") (param $x i32) (result i32)
    (block $d (block $c (block $b (block $a
      (br_table $a $b $c $d (local.get $x)))
      (return (i32.const 10)))
      (return (i32.const 20)))
      (unreachable))
    (i32.const 40))
  (func (export "both") (param $x i32) (result i32)
    (i32.const 1000)
    (if (param i32) (result i32) (local.get $x)
      (then (i32.const 1) (i32.add))
      (else (i32.const 2) (i32.sub))))
  (func (export "carried") (param $x i32) (result i32)
    (block $out (result i32)
      (i32.const 5)
      (br_if $out (local.get $x))
      (drop)
      (i32.const 6)))
  (func (export "dead") (param $x i32) (result i32)
    (block $out
      (br $out)
      (br_if $out)
      (if (then (nop)))
      (br_table $out $out))
    (local.get $x))
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "indirect") (param i32 i32 i32) (result i32)
    (call_indirect (type $two) (local.get 0) (local.get 1) (local.get 2)))
  (func (export "floats") (param f64 f32) (result i32)
    (i32.add (f64.lt (local.get 0) (f64.promote_f32 (local.get 1))) (f32.eq (local.get 1) (f32.const 1.5))))
  (func (export "wide") (param i64 i64) (result i32) (i64.gt_u (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "store") (param i32 i32) (result i32)
    (i32.store (local.get 0) (local.get 1)) (i32.load (local.get 0)))
  (func (export "count") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls)))"""
MODULE = text_to_binary(EVERYTHING)
CALLS = {
    "sum": 1, "choose": 1, "both": 1, "carried": 1, "dead": 1, "divide": 2, "indirect": 3, "wide": 2, "grow": 1,
    "store": 2, "count": 0,
}  # fmt: skip
SMALL = st.one_of(st.integers(-3, 6), st.integers(-(1 << 31), (1 << 31) - 1), st.sampled_from([65532, 65533, 65536]))


def results_of(data: bytes, calls: list[tuple[str, list[Any]]]) -> list[Any]:
    """Return the result or the trap of each call in one sandbox, up to the first trap."""
    found: list[Any] = []
    with RUNTIME.sandbox(RUNTIME.load(data)) as sandbox:
        for name, arguments in calls:
            try:
                found.append(sandbox.call(name, *arguments))
            except GuestTrap as trap:
                return [*found, (trap.code, [frame.function_index for frame in trap.frames])]
    return found


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[str, list[Any]]]:
    names = draw(st.lists(st.sampled_from(sorted(CALLS)), max_size=12))
    made = []
    for name in names:
        least = st.integers(0, 500) if name == "sum" else SMALL
        made.append((name, [draw(least) for _ in range(CALLS[name])]))
    return made


@given(calls())
def test_the_results_and_traps_of_a_guest_are_unchanged(calls: list[tuple[str, list[Any]]]) -> None:
    """Property: the same calls give the same values, or trap alike in the same functions, instrumented or not."""
    original = results_of(MODULE, calls)
    assert results_of(count_edges(MODULE).data, calls) == original
    assert results_of(record_comparisons(MODULE).data, calls) == original


@given(st.floats(), st.floats(width=32))
def test_comparisons_of_floats_are_unchanged(one: float, two: float) -> None:
    calls: list[tuple[str, list[Any]]] = [("floats", [one, two])]
    assert results_of(record_comparisons(MODULE).data, calls) == results_of(MODULE, calls)


class Probed:
    """A sandbox of an instrumented module, with the bytes that probes wrote in one call."""

    def __init__(self, data: bytes) -> None:
        self.sandbox = RUNTIME.sandbox(RUNTIME.load(data))

    def after(self, name: str, *arguments: Any) -> bytes:
        (memory,) = self.sandbox.added_memories()
        memory.write(0, bytes(memory.size()))
        with suppress(GuestTrap):
            self.sandbox.call(name, *arguments)
        return memory.read(0, memory.size())

    def once(self, name: str, *arguments: Any) -> bytes:
        """Return the bytes of one call, and close the sandbox: an example of a property leaves no store behind."""
        with self.sandbox:
            return self.after(name, *arguments)


@pytest.fixture
def counted() -> Counted:
    return count_edges(MODULE)


def counts(counted: Counted, name: str, *arguments: Any) -> dict[str, list[int]]:
    """Return the counters after a call: by kind, those of all sites that counted something."""
    written = Probed(counted.data).once(name, *arguments)
    found: dict[str, list[int]] = {}
    for site in counted.sites:
        values = written[site.first : site.first + site.counters]
        if any(values):
            found.setdefault(site.kind, []).extend(values)
    return found


def test_counters_tell_how_often_each_edge_was_taken(counted: Counted) -> None:
    assert counts(counted, "sum", 3) == {"entry": [1], "br_if": [1, 3]}  # one exit, three rounds
    assert counts(counted, "both", 1) == {"entry": [1], "if": [1, 0]}
    assert counts(counted, "both", 0) == {"entry": [1], "if": [0, 1]}
    assert counts(counted, "indirect", 1, 2, 0) == {"entry": [1, 1]}


@pytest.mark.parametrize(("operand", "taken"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (-1, 3)])
def test_a_table_counts_its_target_and_the_default_last(counted: Counted, operand: int, taken: int) -> None:
    assert counts(counted, "choose", operand)["br_table"] == [int(n == taken) for n in range(4)]


@pytest.mark.parametrize("rounds", [254, 255, 256, 257, 512, 100_000])
def test_a_counter_stops_at_255(counted: Counted, rounds: int) -> None:
    assert counts(counted, "sum", rounds)["br_if"] == [1, min(rounds, 255)]


def test_a_table_of_more_targets_than_counters_counts_the_rest_together() -> None:
    labels = " ".join(["$a"] * 3000)
    text = f'(module (func (export "f") (param i32) (block $a (br_table {labels} (local.get 0)))))'
    counted = count_edges(text_to_binary(text))
    assert [i for i, n in enumerate(counts(counted, "f", 1022)["br_table"]) if n] == [1022]
    assert [i for i, n in enumerate(counts(counted, "f", 2999)["br_table"]) if n] == [1023]
    assert [i for i, n in enumerate(counts(counted, "f", -1)["br_table"]) if n] == [1023]


def test_the_added_memory_is_not_the_guests(counted: Counted) -> None:
    before, after = read_module(MODULE), read_module(counted.data)
    assert [e for e in after.exports if e.name != ADDED_MEMORY] == before.exports
    assert (len(after.memories), after.globals, after.tables) == (2, before.globals, before.tables)
    assert after.memories[1].minimum == after.memories[1].maximum  # the guest has no instruction for it, nor room


def test_a_module_with_the_export_of_probes_is_rejected(counted: Counted) -> None:
    with pytest.raises(Malformed, match="already exports"):
        count_edges(counted.data)


@pytest.mark.parametrize(
    "text",
    [
        "(module)",
        '(module (func (export "f")))',
        '(module (import "env" "memory" (memory 1)) (func (export "f") (drop (i32.load (i32.const 0)))))',
        '(module (memory 1) (memory 2) (func (export "f") (i32.store 1 (i32.const 0) (i32.const 1))))',
        '(module (func $s) (start $s) (func (export "f") (param i32) (if (local.get 0) (then))))',
        '(module (import "e" "f" (func $f (param i32))) (func (call $f (i32.eq (i32.const 1) (i32.const 2)))))',
        '(module (func $f (param i32 i64 f32) (local f64 i32 v128) (if (local.get 0) (then))) (data "abc"))',
        "(module (type (func)) (table 1 funcref) (global i32 (i32.const 1)) (func) (elem (i32.const 0) 0))",
    ],
)
def test_every_layout_of_sections_stays_valid(text: str) -> None:
    data = text_to_binary(text)
    for made in (count_edges(data).data, record_comparisons(data).data):
        assert isinstance(RUNTIME.load(made), Module)


def guests() -> Iterator[Path]:
    yield from sorted((ROOT / "guests").rglob("*.wat"))


@pytest.mark.usual(every=4)
@pytest.mark.parametrize("path", [path for path in guests() if "hostile" not in path.parts], ids=lambda path: path.stem)
def test_the_guests_of_this_repository_stay_valid(path: Path) -> None:
    runtime = Aegis(proposals=("exceptions",), isolation=True) if "proposals" in path.parts else RUNTIME
    data = text_to_binary(path.read_bytes())
    for change in (count_edges, record_comparisons):
        made = with_modules(data, lambda module, change=change: change(module, ("exceptions",)).data)  # type: ignore[misc,operator]
        assert runtime.load(made).kind == runtime.load(data).kind


def test_modules_of_nested_components_are_replaced_in_the_order_of_their_bytes() -> None:
    text = """(component
      (core module (func (export "a")))
      (component (core module (func (export "b"))) (component (core module (func (export "c")))))
      (core module (func (export "d"))))"""
    data = text_to_binary(text)
    order = []

    def change(module: bytes) -> bytes:
        order.append(read_module(module).exports[0].name)
        return count_edges(module).data

    made = with_modules(data, change)
    assert order == ["a", "b", "c", "d"]
    found = [read_module(made[start:end]).exports[0].name for start, end in core_modules(made, 0, len(made))]
    assert found == order
    assert with_modules(data, lambda module: module) == data


# -- operands ----------------------------------------------------------------------------------------


def operands(name: str, *arguments: Any) -> list[tuple[int, bool, int, int]]:
    comparing = record_comparisons(MODULE)
    written = Probed(comparing.data).once(name, *arguments)
    return [one[1:5] for one in read_operands(written, comparing.sites)]


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_both_operands_are_recorded_if_they_differ(one: int, two: int) -> None:
    assert operands("wide", _signed(one, 64), _signed(two, 64)) == ([] if one == two else [(64, False, one, two)])


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> (bits - 1) else number


def test_operands_of_32_bits_and_floats_are_recorded_as_bits() -> None:
    assert operands("indirect", -1, 7, 1) == [(32, False, 0xFFFFFFFF, 7)]
    assert operands("floats", 1.0, 2.0) == [
        (64, True, 0x3FF0000000000000, 0x4000000000000000), (32, True, 0x40000000, 0x3FC00000),
    ]  # fmt: skip


def test_a_comparison_in_a_loop_leaves_room_for_others() -> None:
    text = """(module (func (export "f") (param i32) (local i32)
      (loop $l (br_if $l (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 100000))))
      (drop (i32.eq (local.get 0) (i32.const 77)))))"""
    comparing = record_comparisons(text_to_binary(text))
    found = list(read_operands(Probed(comparing.data).once("f", 5), comparing.sites))
    assert found[-1][3:5] == (5, 77)
    assert len([one for one in found if one.site == 0]) < 20


# -- flow --------------------------------------------------------------------------------------------


@given(st.one_of(st.integers(-2, 12), SMALL))
def test_the_inferred_flow_agrees_with_markers_in_every_block(value: int) -> None:
    """Property: the executed ranges hold exactly the stores of markers that were executed."""
    counted, places = _MARKED
    probed = Probed(counted.data)
    written = probed.after("f", value)
    reached = {n for n in range(_MARKERS) if probed.sandbox.memory.read(n, 1) != b"\0"}
    edges = {s.offset: [n for n in range(s.counters) if written[s.first + n]] for s in counted.sites[1:]}
    ranges = executed(_MARKED_CODE, *_BODY, lambda at: edges.get(at, ()))
    assert {n for n, at in places.items() if any(start <= at < end for start, end in ranges)} == reached


_MARKERS = 12


def _mark(number: int) -> str:
    return f"(i32.store8 offset={number} (i32.const 0) (i32.const 1))"


_MARKED_TEXT = f"""(module (memory (export "memory") 1) (func (export "f") (param $x i32) (local $n i32)
  {_mark(0)}
  (if (i32.lt_s (local.get $x) (i32.const 0)) (then {_mark(1)} (return)) (else {_mark(2)}))
  (block $out
    (block $two (block $one (block $zero
      (br_table $zero $one $two $out (i32.and (local.get $x) (i32.const 7))))
      {_mark(3)} (br $out))
      {_mark(4)} (br_if $out (i32.gt_u (local.get $x) (i32.const 100))) {_mark(5)})
    {_mark(6)}
    (loop $again
      {_mark(7)}
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 3)))
      (if (i32.eq (local.get $x) (i32.const 2)) (then {_mark(8)})))
    {_mark(9)}
    (br_if $out (i32.eq (local.get $x) (i32.const 1)))
    {_mark(10)} (unreachable))
  {_mark(11)}))"""
_MARKED_CODE = text_to_binary(_MARKED_TEXT)


def _marked() -> tuple[Counted, dict[int, int]]:
    """Return the instrumented module, and the offset of each marker's store in the original."""
    places = {}
    for number in range(_MARKERS):
        places[number] = _MARKED_CODE.index(bytes((0x3A, 0x00, number)))
    return count_edges(_MARKED_CODE), places


_MARKED = _marked()
_BODY = CodeModule(_MARKED_CODE).functions[0]
