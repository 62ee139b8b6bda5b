"""Campaigns, strategies and the command line use lists for streams, and values for futures.

Oracles: a component that gives back the elements that it reads, and one that traps for one byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from aegis import Aegis, CallError
from aegis.fuzz.case import Case, Step
from aegis.fuzz.portable import read_step, write_step
from aegis.fuzz.target import Target
from aegis.testing.strategies import from_type
from aegis.wit.collected import collected, collected_type
from aegis.wit.types import Future, List, Option, Record, Result, Stream, Tuple, has_ends
from tests.cli.command import aegis as command
from tests.component.tasks.async_guests import copier
from tests.fuzz.test_campaign import _campaign

RUNTIME = Aegis(timeout="20s")
TRAPS_FOR_42 = """(component
  (type $s (stream u8))
  (core module $memory (memory (export "m") 1))
  (core instance $memory (instantiate $memory))
  (core func $read (canon stream.read $s (memory (core memory $memory "m"))))
  (core func $drop (canon stream.drop-readable $s))
  (core module $m
    (import "" "m" (memory 1))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "sum") (param $s i32) (result i32) (local $sum i32) (local $status i32)
      (loop $next
        (local.set $status (call $read (local.get $s) (i32.const 16) (i32.const 1)))
        (if (i32.shr_u (local.get $status) (i32.const 4))
          (then
            (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 42)) (then (unreachable)))
            (local.set $sum (i32.add (local.get $sum) (i32.load8_u (i32.const 16))))))
        (br_if $next (i32.eqz (i32.and (local.get $status) (i32.const 15)))))
      (call $drop (local.get $s))
      (local.get $sum)))
  (core instance $i (instantiate $m (with "" (instance
    (export "m" (memory $memory "m")) (export "read" (func $read)) (export "drop" (func $drop))))))
  (func (export "sum") async (param "bytes" $s) (result u32) (canon lift (core func $i "sum"))))"""
EVERYWHERE = Tuple((
    Stream("u8"), Stream(), Stream("string"), Future("u32"), Future(), List(Future(Stream("u8"))),
    Option(Stream("bool")), Result(Stream("u8"), Future("string")),
))  # fmt: skip


def test_a_type_without_streams_is_its_own_and_others_have_none_left() -> None:
    plain = Record("point", (("x", "u32"), ("names", List("string"))))
    assert collected_type(plain) is plain
    made = collected_type(EVERYWHERE)
    assert not has_ends(made)
    assert made == Tuple((
        List("u8"), List(Tuple(())), List("string"), "u32", Tuple(()), List(List("u8")), Option(List("bool")),
        Result(List("u8"), "string"),
    ))  # fmt: skip


@settings(max_examples=20)
@given(value=from_type(EVERYWHERE))
def test_strategies_give_lists_for_streams_and_values_for_futures(value: Any) -> None:
    data, units, texts, number, unit, nested, maybe, _ = value
    assert isinstance(data, bytes)
    assert set(units) <= {()}
    assert all(isinstance(text, str) for text in texts)
    assert isinstance(number, int)
    assert unit == ()
    assert all(isinstance(one, bytes) for one in nested)
    assert maybe is None or set(maybe) <= {True, False}


def test_a_step_passes_lists_and_reads_the_stream_of_the_result() -> None:
    target = Target(RUNTIME, RUNTIME.load_wat(copier("string", imports=False)))
    assert not target.left_out
    step = Step("relay", (["a", "", "é" * 100], 2, 1))
    assert read_step(target, write_step(target, step)) == step
    (result,) = target.run(Case((step,))).results
    assert (result.status, result.value) == ("returned", ["a", "", "é" * 100])


def test_an_endless_stream_ends_the_reading() -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat(copier("u32", imports=False))) as sandbox:
        numbers = sandbox.call("relay", [1, 2, 3], 1, 1)
        with pytest.raises(CallError, match=r"more elements than can be collected \(3/2\)"):
            collected(numbers, Stream("u32"), 2)


@pytest.mark.long
def test_a_campaign_finds_the_byte_for_which_a_reader_traps(tmp_path: Path) -> None:
    path = tmp_path / "sum.wat"
    path.write_text(TRAPS_FOR_42)
    (finding,) = _campaign(path).findings.values()
    assert (finding["oracle"], finding["steps"]) == ("no-trap", [["sum", ["[42]"]]])


def test_the_command_line_reads_and_writes_streams_as_lists(tmp_path: Path) -> None:
    path = tmp_path / "relay.wat"
    path.write_text(copier("u32", imports=False))
    ended = command("run", "--invoke", "relay([1, 2, 3], 2, 1)", path)
    assert (ended.code, ended.out, ended.err) == (0, "[1, 2, 3]\n", "")
    path.write_text(TRAPS_FOR_42)
    assert command("run", "--invoke", "sum([1, 2])", path).out == "3\n"
    ended = command("run", "--invoke", "sum([42])", path)
    assert ended.code != 0
    assert ended.out == ""
    assert "unreachable" in ended.err
