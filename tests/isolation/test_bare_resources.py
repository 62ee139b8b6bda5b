"""Handles of resources without functions, of an interface or of the world itself, are dropped as others are."""

from __future__ import annotations

import pytest

from aegis import ResourceHandle
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
