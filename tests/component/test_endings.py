"""A guest that was entered and did not return is in an unknown state: it is poisoned, whatever the exception says.

A host function may let an error through that is normally raised before the guest is entered, such as ``CallError``.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from aegis import Aegis, CallError, SandboxStateError
from aegis.errors import AegisError

RUNTIME = Aegis(cache=False, pooled=False)
COMPONENT = """(component
  (import "h" (func $h))
  (core func $h (canon lower (func $h)))
  (core module $m (import "" "h" (func $h)) (global $inside (mut i32) (i32.const 0))
    (func (export "f") (result i32) (local i32)
      (local.set 0 (global.get $inside)) (global.set $inside (i32.const 1)) (call $h)
      (global.set $inside (i32.const 0)) (local.get 0)))
  (core instance $m (instantiate $m (with "" (instance (export "h" (func $h))))))
  (func (export "f") (result u32) (canon lift (core func $m "f"))))"""
MODULE = """(module (import "" "h" (func $h)) (global $inside (mut i32) (i32.const 0))
  (func (export "f") (result i32) (local i32)
    (local.set 0 (global.get $inside)) (global.set $inside (i32.const 1)) (call $h)
    (global.set $inside (i32.const 0)) (local.get 0)))"""
DEEP = """(component
  (core module $m (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const 16))
    (data (i32.const 16) "{image}"))
  (core instance $m (instantiate $m))
  (func (export "f") (result {type}) (canon lift (core func $m "f") (memory (core memory $m "memory")))))"""


@pytest.mark.parametrize("error", [CallError("x"), SandboxStateError("x", state="busy")], ids=["call", "state"])
@pytest.mark.parametrize("kind", ["component", "module"])
def test_an_error_of_the_embedders_from_a_host_function_poisons(kind: str, error: AegisError) -> None:
    def h() -> None:
        if failing:
            raise error

    failing = False
    imports: dict[str, Any] = {"h": h} if kind == "component" else {"": {"h": h}}
    text = COMPONENT if kind == "component" else MODULE
    with RUNTIME.sandbox(RUNTIME.load_wat(text), imports=imports) as sandbox:
        assert sandbox.call("f") == 0
        failing = True
        with pytest.raises(type(error), match="x"):
            sandbox.call("f")
        assert sandbox.state == "poisoned"
        failing = False
        sandbox.reset()
        assert sandbox.call("f") == 0


def test_a_result_without_room_to_be_read_poisons_and_no_room_to_call_does_not() -> None:
    levels = 60
    image = "\\10\\00\\00\\00\\01\\00\\00\\00"  # a list with itself as its only element
    component = RUNTIME.load_wat(DEEP.format(type="(list " * levels + "(list u8)" + ")" * levels, image=image))
    states: dict[int, tuple[str, str]] = {}

    def deep(left: int, sandbox: Any) -> None:
        if left > 0:
            deep(left - 1, sandbox)
        else:
            sandbox.call("f")

    def run() -> None:
        for distance in (3, 40, 400):
            with RUNTIME.sandbox(component) as sandbox:
                sandbox.call("f")
                ended = "returned"
                try:
                    deep(sys.getrecursionlimit() - distance, sandbox)
                except RecursionError:
                    ended = "no room"
                states[distance] = ended, sandbox.state

    before = threading.stack_size(64 << 20)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert states == {3: ("no room", "ready"), 40: ("no room", "poisoned"), 400: ("returned", "ready")}
