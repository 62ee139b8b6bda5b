"""Host objects as arguments and results of exports: owned, borrowed, alone and inside other values."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, CallError

COMPONENT = """(component
  (import "thing" (type $thing (sub resource)))
  (import "use" (func $use (param "t" (borrow $thing)) (result u32)))
  (type $own (own $thing))
  (type $borrow (borrow $thing))
  (type $owned (list $own))
  (type $lent (list $borrow))
  (type $maybe (option $own))
  (type $pair (tuple $own u32))
  (core module $memory (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $next (i32.add (global.get $next) (i32.add (local.get 3) (i32.const 8))))
      (i32.and (i32.sub (global.get $next) (local.get 3)) (i32.const -8))))
  (core instance $memory (instantiate $memory))
  (core func $use (canon lower (func $use)))
  (core func $drop (canon resource.drop $thing))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "use" (func $use (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (global $kept (mut i32) (i32.const 0))
    (func (export "look") (param i32) (result i32) (local i32)
      (local.set 1 (call $use (local.get 0))) (call $drop (local.get 0)) (local.get 1))
    (func (export "keep") (param i32) (global.set $kept (local.get 0)))
    (func (export "back") (result i32) (global.get $kept))
    (func (export "drop") (param i32) (call $drop (local.get 0)))
    (func (export "sum") (param $at i32) (param $count i32) (result i32) (local $sum i32)
      (block $done (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $sum (i32.add (local.get $sum) (call $use (i32.load (local.get $at)))))
        (call $drop (i32.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
      (local.get $sum))
    (func (export "first") (param $at i32) (param $count i32) (result i32)
      (i32.store (i32.const 8) (i32.ne (local.get $count) (i32.const 0)))
      (if (local.get $count) (then (i32.store (i32.const 12) (i32.load (local.get $at)))))
      (i32.const 8))
    (func (export "pair") (param i32) (result i32)
      (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (i32.const 5)) (i32.const 8)))
  (core instance $m (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "use" (func $use)) (export "drop" (func $drop))))))
  (func (export "look") (param "t" $borrow) (result u32) (canon lift (core func $m "look")))
  (func (export "keep") (param "t" $own) (canon lift (core func $m "keep")))
  (func (export "back") (result $own) (canon lift (core func $m "back")))
  (func (export "drop") (param "t" $own) (canon lift (core func $m "drop")))
  (func (export "sum") (param "all" $lent) (result u32)
    (canon lift (core func $m "sum") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "first") (param "all" $owned) (result $maybe)
    (canon lift (core func $m "first") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "pair") (param "t" $own) (result $pair)
    (canon lift (core func $m "pair") (memory (core memory $memory "memory")))))"""


class Thing:
    def __init__(self, number: int) -> None:
        self.number, self.dropped = number, 0

    def __drop__(self) -> None:
        self.dropped += 1


@pytest.fixture
def sandbox() -> Any:
    runtime = Aegis(cache=False, pooled=False)
    component = runtime.load_wat(COMPONENT)
    with runtime.sandbox(component, imports={"use": lambda thing: thing.number}) as made:
        yield made


def held(sandbox: Any) -> int:
    return len(sandbox._run.door.handles.objects)


def test_a_borrowed_object_stays_the_hosts(sandbox: Any) -> None:
    thing = Thing(7)
    for _ in range(3):
        assert sandbox.call("look", thing) == 7
    assert (thing.dropped, held(sandbox)) == (0, 0)


def test_an_owned_object_comes_back_as_itself(sandbox: Any) -> None:
    thing = Thing(1)
    sandbox.call("keep", thing)
    assert held(sandbox) == 1
    assert sandbox.call("back") is thing
    assert (thing.dropped, held(sandbox)) == (0, 0)


def test_an_owned_object_that_the_guest_drops_is_dropped_on_the_host(sandbox: Any) -> None:
    thing = Thing(1)
    sandbox.call("drop", thing)
    assert (thing.dropped, held(sandbox)) == (1, 0)


def test_handles_inside_other_values(sandbox: Any) -> None:
    things = [Thing(n) for n in range(5)]
    assert sandbox.call("sum", things) == 10
    assert held(sandbox) == 0
    assert sandbox.call("first", things) is things[0]
    assert held(sandbox) == 4, "the guest kept the others"
    assert sandbox.call("first", []) is None
    other = Thing(9)
    assert sandbox.call("pair", other) == (other, 5)


def test_undelivered_values_are_not_lost(sandbox: Any) -> None:
    things = [Thing(1), None]
    with pytest.raises(CallError, match="expected an object of the host"):
        sandbox.call("sum", things)
    with pytest.raises(CallError, match="expected an object of the host"):
        sandbox.call("first", things)
    assert held(sandbox) == 0
    assert things[0].dropped == 0  # type: ignore[union-attr]
    assert sandbox.state == "ready"


def test_resources_kept_by_the_guest_are_dropped_with_the_sandbox() -> None:
    runtime = Aegis(cache=False, pooled=False)
    thing = Thing(1)
    with runtime.sandbox(runtime.load_wat(COMPONENT), imports={"use": lambda thing: 0}) as sandbox:
        sandbox.call("keep", thing)
        assert thing.dropped == 0
    assert thing.dropped == 1
