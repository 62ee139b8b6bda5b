"""A resource that a world imports directly, outside any interface, is provided as a class under its name."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, LinkError

COMPONENT = """(component
  (import "thing" (type $thing (sub resource)))
  (import "[constructor]thing" (func $new (param "a" u32) (result (own $thing))))
  (import "[method]thing.get" (func $get (param "self" (borrow $thing)) (result u32)))
  (import "[static]thing.make" (func $make (result (own $thing))))
  (import "take" (func $take (param "t" (borrow $thing)) (result u32)))
  (core func $new (canon lower (func $new)))
  (core func $get (canon lower (func $get)))
  (core func $make (canon lower (func $make)))
  (core func $take (canon lower (func $take)))
  (core func $drop (canon resource.drop $thing))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "get" (func $get (param i32) (result i32)))
    (import "" "make" (func $make (result i32)))
    (import "" "take" (func $take (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "run") (param i32) (result i32) (local i32)
      (local.set 1 (call $new (local.get 0)))
      (local.set 0 (i32.add (call $get (local.get 1)) (call $take (local.get 1))))
      (call $drop (local.get 1))
      (i32.add (local.get 0) (call $get (call $make)))))
  (core instance $m (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "get" (func $get)) (export "make" (func $make)) (export "take" (func $take))
    (export "drop" (func $drop))))))
  (func (export "run") (param "n" u32) (result u32) (canon lift (core func $m "run"))))"""


class Thing:
    def __init__(self, a: int) -> None:
        self.a = a

    def get(self) -> int:
        return self.a

    @staticmethod
    def make() -> Thing:
        return Thing(1000)


def test_it_is_provided_as_a_class() -> None:
    runtime = Aegis(cache=False, pooled=False)
    component = runtime.load_wat(COMPONENT)
    provided: dict[str, Any] = {"thing": Thing, "take": lambda thing: thing.a * 10}
    with runtime.sandbox(component, imports=provided) as sandbox:
        assert sandbox.call("run", 7) == 7 + 70 + 1000


def test_missing_methods_of_a_class_are_listed() -> None:
    class Half:
        def __init__(self) -> None:
            """Ignore the argument."""

    runtime = Aegis(cache=False, pooled=False)
    with pytest.raises(LinkError) as caught:
        runtime.sandbox(runtime.load_wat(COMPONENT), imports={"thing": Half, "take": len})
    for fault in ("[constructor]thing", "[method]thing.get: no get for it", "[static]thing.make: no make for it"):
        assert fault in str(caught.value)
    with pytest.raises(LinkError, match=r"\[constructor\]thing"):
        runtime.sandbox(runtime.load_wat(COMPONENT), imports={"take": len})


def test_the_remedy_names_the_class_of_the_resource() -> None:
    runtime = Aegis(cache=False, pooled=False)
    with pytest.raises(LinkError) as caught:
        runtime.sandbox(runtime.load_wat(COMPONENT), imports={"take": len})
    assert 'provide its class from Python: imports={"thing": Thing}' in str(caught.value)


def test_a_function_of_the_resource_cannot_be_provided_alone() -> None:
    runtime = Aegis(cache=False, pooled=False)
    with pytest.raises(LinkError) as caught:
        runtime.sandbox(runtime.load_wat(COMPONENT), imports={"[constructor]thing": Thing, "take": len})
    remedy = 'provide the class, imports={"thing": Thing}'
    assert f"[constructor]thing is a function of the resource thing: {remedy}" in str(caught.value)
