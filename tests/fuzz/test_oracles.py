"""Each oracle reports a guest that violates its property, and accepts a guest that does not."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, FilesystemCapability, RandomCapability
from aegis.fuzz.case import Case, HandleRef, Step
from aegis.fuzz.oracles import Deterministic, HostUntouched, NoLimit, NoTrap, Oracle, RoundTrip, Scales, Steady
from aegis.fuzz.shrink import shrink
from aegis.fuzz.target import DROP, Target
from aegis.fuzz.values.buffers import Buffer
from tests.fuzz.guest_parts import ALLOCATOR
from tests.guests.catalogue import source

RUNTIME = Aegis(cache=False)
LEAKS = """(module (memory (export "memory") 1) (global $next (mut i32) (i32.const 0))
  (func $take (param $n i32)
    (global.set $next (i32.add (global.get $next) (local.get $n)))
    (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
      (then (drop (memory.grow (i32.const 1))))))
  (func (export "leaks") (param $x i32) (call $take (i32.const {})))
  (func (export "keeps") (param $x i32)))"""
RANDOM = """(module (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "shuffles") (param $n i32) (result i32)
    (drop (call $random (i32.const 0) (i32.const 1)))
    (local.set $n (i32.load8_u (i32.const 0)))
    (loop $more (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $more (i32.gt_s (local.get $n) (i32.const 0))))
    (i32.const 7))
  (func (export "guesses") (param $n i32) (result i32)
    (drop (call $random (i32.const 0) (i32.const 4))) (i32.load (i32.const 0))))"""


def _judge(oracle: Oracle, target: Target, *steps: Step) -> Any:
    return oracle.judge(target, target.run(Case(steps)))


def _wat(text: str, **policy: Any) -> Target:
    runtime = Aegis(cache=False, **policy) if policy else RUNTIME
    return Target(runtime, runtime.load_wat(text))


def test_the_usual_oracles_have_names_and_sentences() -> None:
    for oracle in (NoTrap(), NoLimit(), Deterministic(), Steady(), HostUntouched(), RoundTrip("a", "b")):
        assert oracle.name == oracle.name.lower()
        assert oracle.sentence.endswith(".")
        assert oracle.thorough().name == oracle.name


# -- growth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "patient"), [(4096, False), (96, True)])
def test_leaks_are_found_and_small_ones_by_many_repetitions(size: int, patient: bool) -> None:
    target, oracle = _wat(LEAKS.format(size)), Steady()
    oracle.begin(0 if patient else 1)
    found = _judge(oracle, target, Step("leaks", (5,)))
    assert "memory grew from" in found.text
    assert _judge(oracle, target, Step("keeps", (5,))) is None
    assert shrink(target, oracle, found).case == Case((Step("leaks", (0,)),))


def test_a_resource_that_is_made_used_and_dropped_again_and_again_leaks_nothing() -> None:
    target = Target(RUNTIME, RUNTIME.load_file(source("components/counter")))
    make = next(name for name in target.exports if "[constructor]" in name)
    use = next(name for name, export in target.exports.items() if export.takes[:1] != (None,) and export.takes)
    rest = tuple(None if shape is None else shape.simplest() for shape in target.exports[use].shapes[1:])
    once = Case((Step(make, (1,)), Step(use, (HandleRef(0), *rest))))
    assert target.tidy(once).steps[-1] == Step(DROP, (HandleRef(0),))
    assert _judge(Steady(thorough=True), target, *once.steps) is None


# -- agreement ---------------------------------------------------------------------------------------------------


def test_random_numbers_may_change_the_cost_of_a_call_but_not_its_result() -> None:
    target = _wat(RANDOM)
    assert _judge(Deterministic(), target, Step("shuffles", (1,))) is None
    assert _judge(Deterministic(), target, Step("guesses", (1,))).text.startswith("guesses: result: ")


def test_a_random_generator_that_the_policy_names_is_left_as_it_is() -> None:
    target = _wat(RANDOM, random=RandomCapability(seed=9))
    assert _judge(Deterministic(), target, Step("guesses", (1,))) is None


# -- the host ----------------------------------------------------------------------------------------------------


class Careless(Target):
    """A target whose runs change the state of the host."""

    left: Any = None

    def run(self, *args: Any, **options: Any) -> Any:
        if self.left is not None:
            self.left()
        return super().run(*args, **options)


def _careless(policy: Aegis = RUNTIME) -> Careless:
    return Careless(policy, policy.load_file(source("add")))


def test_an_unchanged_host_is_accepted() -> None:
    assert _judge(HostUntouched(), _careless(), Step("add", (1, 2))) is None


def test_descriptors_and_threads_that_stay_are_noticed() -> None:
    target, held, done = _careless(), [], threading.Event()
    target.left = lambda: held.append(os.open(os.devnull, os.O_RDONLY))
    try:
        assert "descriptors of the host increased" in _judge(HostUntouched(), target, Step("add", (1, 2))).text
        target.left = lambda: threading.Thread(target=done.wait).start()
        assert "threads of the host increased" in _judge(HostUntouched(), target, Step("add", (1, 2))).text
    finally:
        done.set()
        for descriptor in held:
            os.close(descriptor)


def test_changes_to_canaries_and_read_only_grants_are_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    runtime = Aegis(cache=False, filesystem=FilesystemCapability.read_only(str(tmp_path)))
    target, oracle = _careless(runtime), HostUntouched()
    target.left = lambda: (tmp_path / "data").write_text("y" * (1 + (tmp_path / "data").stat().st_size))
    assert "files of the host changed" in _judge(oracle, target, Step("add", (1, 2))).text
    target.left = lambda: (oracle._canaries / "new").mkdir() if not (oracle._canaries / "new").exists() else (
        oracle._canaries / "new").rmdir()  # fmt: skip
    assert "aegis-canary-" in _judge(oracle, target, Step("add", (1, 2))).text


def test_the_canaries_go_with_their_oracle() -> None:
    oracle = HostUntouched()
    canaries = oracle._canaries
    assert (canaries / "secret.txt").read_text() == "canary"
    del oracle
    assert not canaries.exists()


# -- scales --------------------------------------------------------------------------------------------------------

TABLES = (
    """(module (memory (export "memory") 4)
  """
    + ALLOCATOR
    + """
  (func $loops (param $n i32) (param $m i32) (local $left i32)
    (loop $outer
      (local.set $left (local.get $m))
      (loop $inner (br_if $inner (i32.gt_s (local.tee $left (i32.sub (local.get $left) (i32.const 1))) (i32.const 0))))
      (br_if $outer (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0)))))
  (func (export "product") (param i32 i32 i32 i32) (call $loops (local.get 1) (local.get 3)))
  (func (export "square") (param i32 i32 i32 i32) (call $loops (local.get 3) (local.get 3)))
  (func (export "equal") (param i32 i32 i32 i32)
    (if (i32.eq (local.get 1) (local.get 3)) (then (call $loops (local.get 1) (local.get 3)))))
  (func (export "header") (param i32 i32 i32 i32)
    (call $loops (select (i32.const 9000) (i32.const 300) (i32.gt_u (local.get 1) (i32.const 9999))) (i32.const 4))))"""
)


def test_memory_that_the_process_took_between_campaigns_is_not_the_guests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tmp_path / "statm"
    monkeypatch.setattr("aegis.fuzz.oracles.surroundings._STATM", str(pages))
    target, oracle, grown = _careless(), HostUntouched(), 300_000
    pages.write_text("0 1000")
    oracle.begin(0)
    assert _judge(oracle, target, Step("add", (1, 2))) is None
    pages.write_text(f"0 {grown}")
    oracle.begin(1)
    assert "memory of the host grew" in _judge(oracle, target, Step("add", (1, 2))).text
    pages.write_text(f"0 {2 * grown}")
    oracle.begin(0)
    assert _judge(oracle, target, Step("add", (1, 2))) is None


def test_each_sequence_grows_alone_before_all_of_them_together() -> None:
    """Oracle: the guest's loops. The product of two lengths is linear in each; a square, or a cost that only two equal
    lengths have, is not; and a jump at one size is no growth."""
    runtime = Aegis(fuel=1_000_000_000)
    target = Target(runtime, runtime.load_wat(TABLES), signatures=tuple(f"{name}(buffer, buffer)" for name in NAMES))
    assert set(target.exports) >= set(NAMES)
    arguments = Buffer(b"abcdefgh" * 4), Buffer(b"12345678" * 4)
    found = {name: _judge(Scales(), target, Step(name, arguments)) for name in NAMES}
    assert {name for name, one in found.items() if one is not None} == {"square", "equal"}
    assert "only sequence 2 grew: about size^2.0" in found["square"].text
    assert "grew:" not in found["equal"].text


NAMES = ("product", "square", "equal", "header")
