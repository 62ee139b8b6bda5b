"""The rules for leaving and entering component instances hold with and without the host between components.

Oracle: the same component with its calls routed through the host, and the engine's own adapters.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from aegis.component.shims import adapters
from aegis.wit.types import Function
from tests.component.hot import fused_at_once, is_fused, is_linked
from tests.component.linked import RUNTIME, both
from tests.component.oracle import Outcome, Returned, Trapped
from tests.component.pairs import Pair

# A component whose realloc and post-return call another component, with a number and with a string.
_LEAVER = """(component $leaver
  (import "f" (func $f (param "x" u32) (result u32)))
  (import "s" (func $s (param "x" string)))
  (core module $mem (memory (export "m") 1)) (core instance $mem (instantiate $mem))
  (core func $f (canon lower (func $f)))
  (core func $s (canon lower (func $s) (memory (core memory $mem "m"))))
  (core module $m
    (import "" "f" (func $f (param i32) (result i32))) (import "" "s" (func $s (param i32 i32)))
    (import "" "m" (memory 1))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc} (i32.const 64))
    (func (export "post") (param i32) {post})
    (func (export "take") (param i32 i32) (result i32)
      (drop (call $f (i32.const 1))) (call $s (i32.const 0) (i32.const 3)) (local.get 1))
    (func (export "say") (result i32) (i32.const 128)))
  (core instance $m (instantiate $m (with "" (instance
    (export "f" (func $f)) (export "s" (func $s)) (export "m" (memory $mem "m"))))))
  (func (export "take") (param "x" string) (result u32)
    (canon lift (core func $m "take") (memory (core memory $mem "m")) (realloc (core func $m "realloc"))))
  (func (export "say") (result string)
    (canon lift (core func $m "say") (memory (core memory $mem "m")) (post-return (core func $m "post")))))"""
_CALLED = """(component $called
  (core module $m (memory (export "m") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 256))
    (func (export "f") (param i32) (result i32) (local.get 0)) (func (export "s") (param i32 i32)))
  (core instance $m (instantiate $m))
  (func (export "f") (param "x" u32) (result u32) (canon lift (core func $m "f")))
  (func (export "s") (param "x" string)
    (canon lift (core func $m "s") (memory (core memory $m "m")) (realloc (core func $m "realloc")))))"""
_USER = """(component $user
  (import "take" (func $take (param "x" string) (result u32)))
  (import "say" (func $say (result string)))
  (core module $mem (memory (export "m") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 512)))
  (core instance $mem (instantiate $mem))
  (core func $take (canon lower (func $take) (memory (core memory $mem "m"))))
  (core func $say (canon lower (func $say) (memory (core memory $mem "m")) (realloc (core func $mem "realloc"))))
  (core module $m
    (import "" "take" (func $take (param i32 i32) (result i32))) (import "" "say" (func $say (param i32)))
    (func (export "take") (result i32) (call $take (i32.const 0) (i32.const 5)))
    (func (export "say") (result i32) (call $say (i32.const 32)) (i32.const 7)))
  (core instance $m (instantiate $m (with "" (instance (export "take" (func $take)) (export "say" (func $say))))))
  (func (export "take") (result u32) (canon lift (core func $m "take")))
  (func (export "say") (result u32) (canon lift (core func $m "say"))))"""
CALLS_OUT = {
    "nothing": "", "a number": "(drop (call $f (i32.const 1)))", "a string": "(call $s (i32.const 0) (i32.const 1))",
}  # fmt: skip


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("name", CALLS_OUT)
@pytest.mark.parametrize("where", ["realloc", "post"])
@pytest.mark.parametrize("by", ["host", "component"])
def test_no_other_component_is_called_from_a_realloc_or_a_post_return(by: str, where: str, name: str) -> None:
    bodies = {"realloc": "", "post": "", where: CALLS_OUT[name]}
    leaver = _LEAVER.replace("{realloc}", bodies["realloc"]).replace("{post}", bodies["post"])
    text = f"""(component {_CALLED} {leaver} {_USER}
      (instance $called (instantiate $called))
      (instance $leaver (instantiate $leaver (with "f" (func $called "f")) (with "s" (func $called "s"))))
      (instance $user (instantiate $user (with "take" (func $leaver "take")) (with "say" (func $leaver "say"))))
      (export "host-take" (func $leaver "take")) (export "host-say" (func $leaver "say"))
      (export "component-take" (func $user "take")) (export "component-say" (func $user "say")))"""
    exports = {
        "host-take": Function((("x", "string"),), "u32"), "host-say": Function((), "string"),
        "component-take": Function((), "u32"), "component-say": Function((), "u32"),
    }  # fmt: skip
    leaves = Trapped("cannot-leave-instance")
    # The other function first: it must leave the flag unchanged.
    taken_, said = (f"{by}-take", *(["words"] if by == "host" else [])), (f"{by}-say",)
    calls = [said, taken_] if where == "realloc" else [taken_, said]
    good: list[Outcome] = [Returned("") if by == "host" else Returned(7), Returned(5)]
    if where == "post":
        good.reverse()
    wanted = good if name == "nothing" else [good[0], leaves]
    with both(text, exports) as check:
        assert check(*calls) == wanted
    if (by, where) != (
        "component",
        "post",
    ):  # the engine's adapters allow a call from post-return
        with Pair(text, exports) as pair:
            assert pair.check(*calls) == wanted


# The child calls the parent, which calls the child again through a table, because the child is instantiated later.
_AROUND = """(component
  (core module $shim (table (export "t") 2 funcref) (type $v (func (param i32) (result i32)))
    (func (export "f") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (call_indirect (type $v) (i32.sub (local.get 0) (i32.const 1)) (i32.and (local.get 0) (i32.const 1))))
        (else (i32.const 7)))))
  (core instance $shim (instantiate $shim))
  (func $f (param "x" u32) (result u32) (canon lift (core func $shim "f")))
  (component $child
    (import "f" (func $f (param "x" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core module $m (import "" "f" (func $f (param i32) (result i32)))
      (func (export "g") (param i32) (result i32) (call $f (local.get 0)))
      (func (export "leaf") (param i32) (result i32) (i32.const 9)))
    (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "g") (param "x" u32) (result u32) (canon lift (core func $m "g")))
    (func (export "leaf") (param "x" u32) (result u32) (canon lift (core func $m "leaf"))))
  (instance $child (instantiate $child (with "f" (func $f))))
  (instance $other (instantiate $child (with "f" (func $f))))
  (core func $g (canon lower (func $child "g")))
  (core func $leaf (canon lower (func $other "leaf")))
  (core module $fix (import "" "t" (table 2 funcref))
    (import "" "g" (func $g (param i32) (result i32))) (import "" "leaf" (func $leaf (param i32) (result i32)))
    (elem (i32.const 0) func $leaf $g) (func (export "go") (param i32) (result i32) (call $g (local.get 0))))
  (core instance $fix (instantiate $fix (with "" (instance
    (export "t" (table $shim "t")) (export "g" (func $g)) (export "leaf" (func $leaf))))))
  (func (export "go") (param "x" u32) (result u32) (canon lift (core func $fix "go")))
  (export "inner" (func $child "g"))
  (export "other" (func $other "g")))"""


@pytest.mark.parametrize("through_the_host", ["", "g", "f", "leaf"])
def test_a_component_is_not_entered_again_whichever_calls_pass_through_the_host(through_the_host: str) -> None:
    """Argument 0 ends in the parent; others call a child from it: 2 ``leaf`` of the other child, 1 and 3 ``g``.

    The engine's adapters let a parent re-enter a child, which the specification forbids.
    """
    exports = dict.fromkeys(("go", "inner", "other"), Function((("x", "u32"),), "u32"))
    linkable = adapters._linkable

    def some(of: Any) -> bool:
        return linkable(of) and of.function.core.name != through_the_host

    enters = Trapped("cannot-enter-instance")
    calls: list[list[tuple[Any, ...]]] = [
        [("go", 0), ("go", 2), ("inner", 0), ("inner", 2), ("go", 1)], [("inner", 0), ("inner", 1)],
        [("other", 0), ("go", 0), ("other", 2)], [("go", 0), ("go", 0), ("go", 3)],
    ]  # fmt: skip
    with mock.patch.object(adapters, "_linkable", some), both(_AROUND, exports) as check:
        found = [check(*some_calls) for some_calls in calls]
    assert found[0] == [Returned(7), Returned(9), Returned(7), Returned(9), enters]
    assert [ends_[-1] for ends_ in found[1:]] == [enters] * 3
    with Pair(_AROUND, exports) as pair:
        assert pair.check(*calls[0][:-1]) == found[0][:-1]


def test_a_function_that_is_called_often_is_fused_beside_links() -> None:
    """Oracle: the same call step by step. Realloc and post-return may not call out; the call between them may."""
    leaver = _LEAVER.replace("{realloc}", "").replace("{post}", "")
    text = f"""(component {_CALLED} {leaver} (instance $called (instantiate $called))
      (instance $leaver (instantiate $leaver (with "f" (func $called "f")) (with "s" (func $called "s"))))
      (export "take" (func $leaver "take")) (export "say" (func $leaver "say")))"""
    with fused_at_once(), RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        assert is_linked(sandbox)
        for _ in range(3):
            assert sandbox.call("take", "words") == 5
            assert sandbox.call("say") == ""
        assert is_fused(sandbox)
