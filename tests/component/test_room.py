"""Near Python's recursion limit, a call of a component ends with an error, never with a wrong value.

A native callback without space for its first frame cannot return: the engine would read uninitialised stack memory. So
every entry into a guest checks for that space first. Oracle: each call, at each distance from the limit, returns the
same value as far from it, or raises.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aegis import Aegis, AegisError

RUNTIME = Aegis(cache=False, pooled=False)
STACK = 64 << 20

DESTRUCTOR = """(component
  (core module $t (table (export "t") 2 funcref))
  (core instance $t (instantiate $t))
  (core module $d
    (import "t" "t" (table 2 funcref)) (type $new (func (param i32) (result i32))) (type $drop (func (param i32)))
    (func (export "dtor") (param i32)
      (call_indirect (type $drop) (call_indirect (type $new) (i32.const 7) (i32.const 0)) (i32.const 1))))
  (core instance $d (instantiate $d (with "t" (instance $t))))
  (type $r (resource (rep i32) (dtor (core func $d "dtor"))))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "t" "t" (table 2 funcref)) (import "" "new" (func $n (param i32) (result i32)))
    (import "" "drop" (func $d (param i32)))
    (elem (i32.const 0) $n $d)
    (func (export "go") (call $d (call $n (i32.const 1)))))
  (core instance $m (instantiate $m (with "t" (instance $t))
    (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "go") (canon lift (core func $m "go"))))"""
"""A component whose destructor drops another of its resources, without end."""

CHAIN = """(component
  (import "h" (func $h (result u32)))
  (component $inner
    (import "h" (func $h (result u32)))
    (core func $h (canon lower (func $h)))
    (core module $m (import "" "h" (func $h (result i32))) (func (export "f") (result i32) (call $h)))
    (core instance $m (instantiate $m (with "" (instance (export "h" (func $h))))))
    (func (export "f") (result u32) (canon lift (core func $m "f"))))
  (instance $one (instantiate $inner (with "h" (func $h))))
  (instance $two (instantiate $inner (with "h" (func $one "f"))))
  (instance $three (instantiate $inner (with "h" (func $two "f"))))
  (export "go" (func $three "f")))"""

REALLOC = """(component
  (import "h" (func $h))
  (core func $h (canon lower (func $h)))
  (core module $m (import "" "h" (func $h)) (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (call $h) (i32.const 16))
    (func (export "f") (param i32 i32)))
  (core instance $m (instantiate $m (with "" (instance (export "h" (func $h))))))
  (func (export "go") (param "x" {type})
    (canon lift (core func $m "f") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""
"""A component whose realloc calls out, which is not allowed."""


def _deep(levels: int, call: Callable[[], Any]) -> Any:
    return _deep(levels - 1, call) if levels > 0 else call()


def _ends_near_the_limit(text: str, imports: dict[str, Any], arguments: tuple[Any, ...], distances: range) -> list[Any]:
    """Return how calls end, each in its own sandbox on a thread with an ample stack, so that the guest runs there."""
    component, ends = RUNTIME.load_wat(text), []

    def run() -> None:
        for distance in distances:
            with RUNTIME.sandbox(component, imports=imports) as sandbox:
                try:
                    ends.append(_deep(sys.getrecursionlimit() - distance, lambda: sandbox.call("go", *arguments)))
                except (AegisError, RecursionError) as error:
                    ends.append(error)

    before = threading.stack_size(STACK)
    gc.collect()
    gc.disable()  # finalizers of other tests' objects would run there, without room
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
        gc.enable()
    assert len(ends) == len(distances)
    return ends


@pytest.mark.parametrize("distance", [100, 300])
def test_a_destructor_without_end_ends_with_an_error(distance: int) -> None:
    ends = _ends_near_the_limit(DESTRUCTOR, {}, (), range(distance, distance + 8))
    assert all(isinstance(end, AegisError) for end in ends), ends


def test_a_call_through_components_returns_its_value_or_raises() -> None:
    ends = _ends_near_the_limit(CHAIN, {"h": lambda: 7}, (), range(10, 70))
    assert all(end == 7 or isinstance(end, (AegisError, RecursionError)) for end in ends), ends
    assert ends[-1] == 7


@pytest.mark.usual(every=2)
@pytest.mark.parametrize(
    ("of", "argument"),
    [("string", "x"), ("(list string)", ["x"] * 40), ("(list (list (list (list string))))", [[[["x"]]]])],
)
def test_a_realloc_that_calls_out_never_gives_an_address(of: str, argument: Any) -> None:
    ends = _ends_near_the_limit(REALLOC.format(type=of), {"h": lambda: None}, (argument,), range(10, 60))
    assert all(isinstance(end, (AegisError, RecursionError)) for end in ends), ends
