"""Handles of resources without functions, declared by an interface or by the world itself, can be dropped."""

from __future__ import annotations

import pytest

from aegis import CallError, ResourceHandle
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers

MAKES = """(component
  (core module $d (global $n (mut i32) (i32.const 0))
    (func (export "dtor") (param i32) (global.set $n (i32.add (global.get $n) (i32.const 1))))
    (func (export "dropped") (result i32) (global.get $n)))
  (core instance $d (instantiate $d))
  (type $r (resource (rep i32) (dtor (core func $d "dtor"))))
  (core func $new (canon resource.new $r))
  (core module $m (import "" "new" (func $new (param i32) (result i32)))
    (func (export "make") (result i32) (call $new (i32.const 1))))
  (core instance $m (instantiate $m (with "" (instance (export "new" (func $new))))))
  (func (export "dropped") (result u32) (canon lift (core func $d "dropped")))
"""
WORLD = f"""{MAKES} (export $thing "thing" (type $r))
  (func (export "make") (result (own $thing)) (canon lift (core func $m "make"))))"""
INTERFACE = f"""{MAKES}
  (func $make (result (own $r)) (canon lift (core func $m "make")))
  (component $c (import "thing" (type $t (sub resource))) (import "make" (func $make (result (own $t))))
    (export $e "thing" (type $t)) (export "make" (func $make) (func (result (own $e)))))
  (instance $i (instantiate $c (with "thing" (type $r)) (with "make" (func $make))))
  (export "test:things/api" (instance $i)))"""
TEXTS = {"the world's own": (WORLD, "make"), "an interface's": (INTERFACE, "test:things/api#make")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_handle_of_a_resource_without_functions_is_dropped_in_its_guest(place: str, kind: str) -> None:
    text, make = TEXTS[kind]
    made = runtime(place)
    with made.sandbox(made.load_wat(text)) as sandbox:
        first = sandbox.call(make)
        assert isinstance(first, ResourceHandle)
        first.drop()
        first.drop()
        with sandbox.call(make):
            assert sandbox.call("dropped") == 1
        assert sandbox.call("dropped") == 2


KEEPS = """(component
  (core module $d (global $last (mut i32) (i32.const 77))
    (func (export "dtor") (param i32) (global.set $last (local.get 0)))
    (func (export "last") (result i32) (global.get $last)))
  (core instance $d (instantiate $d))
  (type $r (resource (rep i32) (dtor (core func $d "dtor"))))
  (core func $new (canon resource.new $r)) (core func $rep (canon resource.rep $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32))) (import "" "rep" (func $rep (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "look") (param i32) (result i32) (local.get 0))
    (func (export "take") (param i32) (result i32) (call $rep (local.get 0)) (call $drop (local.get 0))))
  (core instance $m (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
  (export $thing "thing" (type $r))
  (func (export "last") (result u32) (canon lift (core func $d "last")))
  (func (export "make") (param "rep" u32) (result (own $thing)) (canon lift (core func $m "make")))
  (func (export "look") (param "t" (borrow $thing)) (result u32) (canon lift (core func $m "look")))
  (func (export "take") (param "t" (own $thing)) (result u32) (canon lift (core func $m "take"))))"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rep", [0, 1, 0x8000_0000, 0xFFFF_FFFF])
def test_any_representation_is_one_of_a_resource(place: str, rep: int) -> None:
    """A guest chooses the integer representation of its resource; the embedder's handles do not depend on it."""
    made = runtime(place)
    with made.sandbox(made.load_wat(KEEPS)) as sandbox:
        moved, dropped, kept = (sandbox.call("make", rep) for _ in range(3))
        assert [sandbox.call("look", handle) for handle in (moved, dropped, kept)] == [rep] * 3
        assert sandbox.call("take", moved) == rep
        assert sandbox.call("last") == rep
        sandbox.call("take", sandbox.call("make", 5))
        dropped.drop()
        assert sandbox.call("last") == rep
        for gone in (moved, dropped):
            for use in ("look", "take"):
                with pytest.raises(CallError, match="dropped, or was moved"):
                    sandbox.call(use, gone)
            gone.drop()
        with pytest.raises(CallError):
            sandbox.call("take", 7)
        assert sandbox.call("look", kept) == rep


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rep", [0, 3])
def test_a_handle_whose_call_was_refused_is_still_the_embedders(place: str, rep: int) -> None:
    made = runtime(place, handles=2)
    with made.sandbox(made.load_wat(KEEPS)) as sandbox:
        one, two = sandbox.call("make", rep), sandbox.call("make", rep)
        with pytest.raises(TypeError):
            sandbox.call("take", one, two)
        assert sandbox.call("look", one) == rep
        assert sandbox.call("take", one) == rep
        assert sandbox.call("look", two) == rep
        assert sandbox.call("look", sandbox.call("make", rep)) == rep, "what was taken counts no more"
