"""The text of adapters, and which calls use one.

Oracle: the text of an adapter, reviewed by a person, and the same component with its calls routed through the host.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from aegis import (
    Aegis,
    ArtifactError,
)
from aegis.component.shims import adapters
from aegis.component.shims.adapters import adapter_texts
from aegis.engine.compile.code import Artifact
from aegis.wit.types import Tuple, WitType
from tests.component.composed import chain_component
from tests.component.hot import is_linked, unlinked
from tests.component.linked import GO, GROWING, INNER, MEMORY, NARROW, OUTER, PLAIN, RUNTIME, both, two
from tests.component.oracle import ABI, Returned, Trapped
from tests.echo import Manner


def test_the_text_of_an_adapter() -> None:
    """Oracle: the reviewed text, because adapters are trusted code."""
    component: Any = RUNTIME.load_wat(NARROW)
    surrogate = "(i32.lt_u (i32.sub (local.get $p1) (i32.const 0xd800)) (i32.const 0x800))"
    assert adapter_texts(component.program) == [
        f"""(module $aegis:between
(import "" "0" (global $v0 (mut i32)))
(import "" "1" (func $g1 (param i32) (param i32) (result i32)))
(import "" "2" (func $g2 (param i32)))
(func (export "0") (param $p0 i32) (param $p1 i32) (result i32)
(local $x0 i32)
(local $x1 i32)
(local $x2 i32)
(local $x3 i32)
(local.set $x0 (i32.and (local.get $p0) (i32.const 255)))
(i32.or (i32.ge_u (local.get $p1) (i32.const 0x110000)) {surrogate}) if (global.set $v0 (i32.const 3)) unreachable end
(local.set $x1 (local.get $p1))
(local.set $x2 (call $g1 (local.get $x0) (local.get $x1)))
(local.set $x3 (i32.ne (local.get $x2) (i32.const 0)))
(call $g2 (local.get $x2))
(local.get $x3)
)
)"""
    ]
    with both(NARROW, GO) as check:
        assert check(("go", 0), ("go", 256), ("go", 257)) == [Returned(0), Returned(0), Returned(1)]


def test_where_there_is_nothing_to_do_the_lifted_function_itself_is_imported() -> None:
    component: Any = RUNTIME.load_wat(PLAIN)
    assert adapter_texts(component.program) == []
    with RUNTIME.sandbox(component) as sandbox:
        assert is_linked(sandbox)
        assert sandbox._run.store.plan.links.instances == 0  # type: ignore[union-attr]
        assert sandbox.call("go", 0xFFFF_FFFF) == 0


def test_a_component_whose_calls_are_all_linked_calls_no_python() -> None:
    hosted = chain_component(["u32"], [Manner(through=True), Manner(through=True)])
    for text, imports, calls in ((PLAIN, {}, False), (NARROW, {}, False), (hosted, {"echo": lambda x: x}, True)):
        for way in (nullcontext, unlinked):
            with way(), RUNTIME.sandbox(RUNTIME.load_wat(text), imports=imports) as sandbox:
                assert sandbox._run.store._calls_python == (calls or way is unlinked)  # type: ignore[union-attr]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("of", "given", "end"),
    [
        ("bool", 2, 1), ("bool", 0, 0), ("u8", 0x1FF, 0xFF), ("s8", 0x180, 0xFFFF_FF80), ("u16", 0x1_FFFF, 0xFFFF),
        ("s16", 0x1_8000, 0xFFFF_8000), ("char", 0x10FFFF, 0x10FFFF), ("char", 0x110000, None), ("char", 0xD800, None),
        ("char", 0xDFFF, None), ("char", 0xE000, 0xE000), ("$e", 2, 2), ("$e", 3, None), ("$f", 0xFF, 7),
        ("$g", 0xFFFF_FFFF, 0xFFFF_FFFF), ("u32", 0xFFFF_FFFF, 0xFFFF_FFFF),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["argument", "result"])
def test_scalars_are_checked_and_narrowed_in_both_directions(of: str, given: int, end: int | None, by: str) -> None:
    g = " ".join(f'"g{n}"' for n in range(32))
    types = "".join(
        f'(type ${name}0 {body}) (import "type-{name}" (type ${name} (eq ${name}0)))'
        for name, body in (("e", '(enum "a" "b" "c")'), ("f", '(flags "x" "y" "z")'), ("g", f"(flags {g})"))
    )
    passed = " ".join(f'(with "type-{name}" (type ${name}))' for name in "efg")
    function = f'(param "x" {of}) (result u32)' if by == "argument" else f'(param "x" u32) (result {of})'
    text = two(
        function, '(func (export "f") (param i32) (result i32) (local.get 0))',
        """(import "" "f" (func $f (param i32) (result i32)))
           (func (export "go") (param i32) (result i32) (call $f (local.get 0)))""", types=types,
    )  # fmt: skip
    text = text.replace("(instantiate $b)", f"(instantiate $b {passed})")
    text = text.replace("(instantiate $a ", f"(instantiate $a {passed} ")
    with both(text, GO) as check:
        (got,) = check(("go", given))
        assert got == (Trapped(ABI) if end is None else Returned(end))


# -- where there are no links ------------------------------------------------------------------------------


def nested(depth: int, width: int) -> WitType:
    """Return a type with ``width`` to the power of ``depth`` parts that need checks."""
    of: WitType = "bool"
    for _ in range(depth):
        of = Tuple((of,) * width)
    return of


def value_of(of: WitType) -> Any:
    return tuple(map(value_of, of.elements)) if isinstance(of, Tuple) else True


def test_a_function_of_too_many_parts_goes_through_the_host_and_others_do_not() -> None:
    small, large = nested(4, 3), nested(4, 6)
    for of, linked in ((small, True), (large, False)):
        with RUNTIME.sandbox(RUNTIME.load_wat(chain_component([of], [Manner(through=True), Manner()]))) as sandbox:
            assert is_linked(sandbox) == linked
            assert sandbox.call("echo-back", value_of(of)) == value_of(of)


def many(count: int) -> str:
    """Return a component of two with many functions between them, each with a distinct type."""
    kinds = [f"(tuple {' '.join(['bool'] * (n + 60))})" for n in range(count)]
    b = "".join(
        f'(func (export "f{n}") (param "x" (list {kind})) (result u32) (canon lift (core func $m "f") {INNER}))'
        for n, kind in enumerate(kinds)
    )
    given = "".join(
        f'(import "f{n}" (func $f{n} (param "x" (list {kind})) (result u32)))' for n, kind in enumerate(kinds)
    )
    lowered = "".join(f"(core func $f{n} (canon lower (func $f{n}) {OUTER}))" for n in range(count))
    imports = "".join(f'(import "" "f{n}" (func $f{n} (param i32 i32) (result i32)))' for n in range(count))
    calls = "".join(
        f"(local.set 0 (i32.add (local.get 0) (call $f{n} (i32.const 0) (i32.const {n % 5}))))" for n in range(count)
    )
    names = "".join(f'(export "f{n}" (func $f{n}))' for n in range(count))
    passed = "".join(f'(with "f{n}" (func $b "f{n}"))' for n in range(count))
    return f"""(component
      (component $b (core module $m {MEMORY} (func (export "f") (param i32 i32) (result i32) (local.get 1)))
        (core instance $m (instantiate $m)) {b})
      (component $a {given}
        (core module $s (memory (export "m") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $s (instantiate $s)) {lowered}
        (core module $m {imports} (func (export "go") (param i32) (result i32) {calls} (local.get 0)))
        (core instance $m (instantiate $m (with "" (instance {names}))))
        (func (export "go") (param "x" u32) (result u32) (canon lift (core func $m "go"))))
      (instance $b (instantiate $b)) (instance $a (instantiate $a {passed})) (export "go" (func $a "go")))"""


def test_the_adapters_of_one_component_are_bounded_together() -> None:
    text = many(100)
    component: Any = RUNTIME.load_wat(text)
    (written,) = adapter_texts(component.program)
    assert 5_000 < written.count("\n") < 11_000
    exported = sum(f'(export "{n}")' in written for n in range(100))
    assert 40 < exported < 100
    with RUNTIME.sandbox(component) as sandbox:
        assert is_linked(sandbox)
        assert sandbox.call("go", 0) == 100 * 2


def test_functions_with_handles_go_through_the_host_beside_linked_ones() -> None:
    text = """(component
      (component $b
        (type $r0 (resource (rep i32)))
        (export $r "r" (type $r0))
        (core func $new (canon resource.new $r0)) (core func $rep (canon resource.rep $r0))
        (core module $m (import "" "new" (func $new (param i32) (result i32)))
          (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
          (func (export "value") (param i32) (result i32) (local.get 0))
          (func (export "less") (param i32) (result i32) (i32.sub (local.get 0) (i32.const 1))))
        (core instance $m (instantiate $m (with "" (instance (export "new" (func $new))))))
        (func (export "make") (param "x" u32) (result (own $r)) (canon lift (core func $m "make")))
        (func (export "value") (param "x" (borrow $r)) (result u32) (canon lift (core func $m "value")))
        (func (export "less") (param "x" u8) (result u8) (canon lift (core func $m "less"))))
      (component $a
        (import "b" (instance $b (export "r" (type $r (sub resource)))
          (export "make" (func (param "x" u32) (result (own $r))))
          (export "value" (func (param "x" (borrow $r)) (result u32)))
          (export "less" (func (param "x" u8) (result u8)))))
        (alias export $b "r" (type $r))
        (core func $make (canon lower (func $b "make"))) (core func $value (canon lower (func $b "value")))
        (core func $less (canon lower (func $b "less"))) (core func $drop (canon resource.drop $r))
        (core module $m
          (import "" "make" (func $make (param i32) (result i32)))
          (import "" "value" (func $value (param i32) (result i32)))
          (import "" "less" (func $less (param i32) (result i32))) (import "" "drop" (func $drop (param i32)))
          (func (export "go") (param i32) (result i32) (local $h i32) (local $v i32)
            (local.set $h (call $make (call $less (local.get 0)))) (local.set $v (call $value (local.get $h)))
            (call $drop (local.get $h)) (local.get $v)))
        (core instance $m (instantiate $m (with "" (instance (export "make" (func $make)) (export "value" (func $value))
          (export "less" (func $less)) (export "drop" (func $drop))))))
        (func (export "go") (param "x" u32) (result u32) (canon lift (core func $m "go"))))
      (instance $b (instantiate $b)) (instance $a (instantiate $a (with "b" (instance $b))))
      (export "go" (func $a "go")))"""
    component: Any = RUNTIME.load_wat(text)
    (written,) = adapter_texts(component.program)
    assert written.count("(export ") == 1
    with both(text, GO) as check:
        assert check(("go", 0), ("go", 0x107)) == [Returned(255), Returned(6)]


def test_only_guests_burn_fuel() -> None:
    text = PLAIN.replace("(call $f (local.get 0))", "(i32.add (call $f (local.get 0)) (call $f (i32.const 1)))")
    used = []
    for way in (nullcontext, unlinked):
        runtime = Aegis(cache=False, pooled=False, fuel=1_000_000)
        with way(), runtime.sandbox(runtime.load_wat(text)) as sandbox:
            assert not is_linked(sandbox)
            assert sandbox.call("go", 1) == 4
            used.append(sandbox._run.store.fuel_left())  # type: ignore[union-attr]
    assert used[0] == used[1] < 1_000_000


def test_workers_go_through_the_host() -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat(GROWING), isolate=True) as sandbox:
        assert sandbox.call("go", 65536) == 42


def test_links_that_the_engine_refuses_go_through_the_host() -> None:
    refused = mock.Mock(side_effect=ArtifactError("no"))
    with mock.patch.object(adapters, "text_to_binary", refused):
        component = RUNTIME.load_wat(NARROW)
    refused.assert_called()
    with RUNTIME.sandbox(component) as sandbox:
        assert not is_linked(sandbox)
        assert sandbox.call("go", 1) == 1


def test_the_code_of_adapters_comes_from_the_cache(tmp_path: Path) -> None:
    for compiles in (True, False):
        runtime = Aegis(cache=tmp_path, pooled=False)
        with mock.patch.object(Artifact, "_compiled", autospec=True, side_effect=Artifact._compiled) as compiled:
            component = runtime.load_wat(NARROW)
        assert bool(compiled.call_count) == compiles
        with runtime.sandbox(component) as sandbox:
            assert is_linked(sandbox)
            assert sandbox.call("go", 1) == 1
