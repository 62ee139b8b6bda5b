"""Values without a text representation do not break messages: integers of thousands of digits, and hostile classes.

A call with such an argument raises ``CallError``, the guest is not entered, and the sandbox stays ready.
"""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, CallError, HostError

RUNTIME = Aegis(cache=False, pooled=False)
HUGE = 10**5000
TAKER = """(component
  (core module $m (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
    (func (export "f") (param {core})))
  (core instance $m (instantiate $m))
  (func (export "f") (param "x" {type})
    (canon lift (core func $m "f") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""
CALLER = """(component
  (import "h" (func $h))
  (core func $h (canon lower (func $h)))
  (core module $m (import "" "h" (func $h)) (func (export "f") (call $h)))
  (core instance $m (instantiate $m (with "" (instance (export "h" (func $h))))))
  (func (export "f") (canon lift (core func $m "f"))))"""


class Mute(Exception):
    """An object that raises when it is converted to text."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


@pytest.mark.parametrize(
    "value", [HUGE, -HUGE, [HUGE], Mute(), [Mute()]], ids=["huge", "low", "huges", "mute", "mutes"]
)
@pytest.mark.parametrize("of", ["u8", "s64", "bool", "char", "string", "(list u8)", "(list u32)", "(list string)"])
def test_an_argument_without_a_text_is_refused(of: str, value: Any) -> None:
    core = {"(": "i32 i32", "string": "i32 i32", "s64": "i64"}.get(of if of in ("string", "s64") else of[0], "i32")
    with RUNTIME.sandbox(RUNTIME.load_wat(TAKER.format(type=of, core=core))) as sandbox:
        with pytest.raises(CallError):
            sandbox.call("f", value)
        assert sandbox.state == "ready"


@pytest.mark.parametrize("value", [HUGE, -HUGE, Mute()], ids=["huge", "low", "mute"])
def test_so_it_is_for_a_core_module(value: Any) -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat('(module (func (export "f") (param i32)))')) as sandbox:
        with pytest.raises(CallError):
            sandbox.call("f", value)
        assert sandbox.state == "ready"


def test_a_host_exception_without_a_text_is_a_host_error() -> None:
    def h() -> None:
        raise Mute

    with RUNTIME.sandbox(RUNTIME.load_wat(CALLER), imports={"h": h}) as sandbox:
        with pytest.raises(HostError, match="h raised Mute") as caught:
            sandbox.call("f")
        assert isinstance(caught.value.__cause__, Mute)
