"""A variant of thousands of cases works like one of two, although CPython's compiler limits the nesting of code.

Oracle: the number of the case that the caller passed, which the callee returns.
"""

from __future__ import annotations

import pytest

from aegis import Aegis

RUNTIME = Aegis(cache=False, pooled=False)

BETWEEN = """(component
  (component $inner
    (type $cases (variant {cases}))
    (export $v "v" (type $cases))
    (core module $m {memory}
      (func (export "f") (param {params}) (result i32) {returned}))
    (core instance $m (instantiate $m))
    (func (export "f") (param "x" {type}) (result u32) (canon lift (core func $m "f") {options})))
  (instance $inner (instantiate $inner))
  (core module $memory {memory})
  (core instance $memory (instantiate $memory))
  (core func $f (canon lower (func $inner "f") {outer}))
  (core module $m (import "" "f" (func $f (param {params}) (result i32))) (import "m" "memory" (memory 1))
    (func (export "f") (param i32) (result i32) {call}))
  (core instance $m (instantiate $m (with "" (instance (export "f" (func $f)))) (with "m" (instance $memory))))
  (func (export "f") (param "case" u32) (result u32) (canon lift (core func $m "f"))))"""
MEMORY = """(memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32))"""
OPTIONS = '(memory (core memory ${0} "memory")) (realloc (core func ${0} "realloc"))'
PAYLOADS = {"none": ("", ""), "one": ("u32", ""), "several": ("u32", "f32")}


def _cases(payloads: tuple[str, str], count: int) -> str:
    return " ".join(f'(case "c{n}" {payloads[0 if n == 1 else n % 2]})' for n in range(count))


@pytest.mark.parametrize("payloads", PAYLOADS)
@pytest.mark.parametrize("count", [63, 64, 65, 66, 256, 257, pytest.param(6000, marks=pytest.mark.long)])
def test_each_case_of_many_passes_as_core_values(count: int, payloads: str) -> None:
    given = "i32" if payloads == "none" else "i32 i32"
    text = BETWEEN.format(
        cases=_cases(PAYLOADS[payloads], count), memory=MEMORY, params=given, type="$v", returned="(local.get 0)",
        options="", outer="",
        call="(call $f (local.get 0))" if payloads == "none" else "(call $f (local.get 0) (i32.const 3))",
    )  # fmt: skip
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        for case in (0, 1, count // 2 - 1, count // 2, count - 1):
            assert sandbox.call("f", case) == case


@pytest.mark.usual("65-*", "257-*", "6000-several")
@pytest.mark.parametrize("payloads", PAYLOADS)
@pytest.mark.parametrize("count", [65, 257, 6000])
def test_each_case_of_many_passes_in_a_list(count: int, payloads: str) -> None:
    load = "i32.load8_u" if count <= 256 else "i32.load16_u"
    text = BETWEEN.format(
        cases=_cases(PAYLOADS[payloads], count), memory=MEMORY, params="i32 i32", type="(list $v)",
        returned=f"({load} (local.get 0))", options=OPTIONS.format("m"), outer=OPTIONS.format("memory"),
        call="(i32.store (i32.const 16) (local.get 0)) (call $f (i32.const 16) (i32.const 1))",
    )  # fmt: skip
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        for case in (0, 1, count // 2 - 1, count // 2, count - 1):
            assert sandbox.call("f", case) == case
