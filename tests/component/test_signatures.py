"""Defence in depth: core functions that are called unchecked have the signatures that the caller assumes.

Each component here is changed in one place, and planned without the engine's validation before; the plan itself has to
reject it. Oracle for the changes: the engine rejects the same ones.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from aegis.component.conversion.layout import core_type
from aegis.component.planning.plan import plan
from aegis.component.planning.program import (
    AsyncFunction,
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreExport,
    CoreStep,
    Options,
    ResourceFunction,
    ResourceType,
)
from aegis.component.planning.signatures import check_signatures
from aegis.component.planning.skeleton import skeleton
from aegis.engine.compile.validator import validate_skeleton
from aegis.errors import ArtifactError
from aegis.values import FuncType
from aegis.wasm.binary import GlobalType, MemoryType
from aegis.wit.types import Function, List, WitType
from tests.component.inputs import component
from tests.echo import own_echo_component
from tests.wit.strategies import wit_types

MANY = " ".join(f'(param "a{n}" u32)' for n in range(17))
ECHO = """(component
  (core module $m
    (memory (export "m") 1)
    (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "f") (param i32 i32) (result i32) unreachable)
    (func (export "p") (param i32)))
  (core instance $m (instantiate $m))
  (func (export "f") (param "x" string) (result string)
    (canon lift (core func $m "f") (memory (core memory $m "m")) (realloc (core func $m "r"))
      (post-return (core func $m "p")))))"""
SPILLED = f"""(component
  (core module $m
    (memory (export "m") 1)
    (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "f") (param i32)))
  (core instance $m (instantiate $m))
  (func (export "f") {MANY}
    (canon lift (core func $m "f") (memory (core memory $m "m")) (realloc (core func $m "r")))))"""
RESULT = """(component
  (core module $m
    (memory (export "m") 1)
    (func (export "f") (result i32) unreachable))
  (core instance $m (instantiate $m))
  (func (export "f") (result (tuple u8 u8))
    (canon lift (core func $m "f") (memory (core memory $m "m")))))"""
SCALAR = """(component
  (core module $m (func (export "f") (param i64 f32) (result f64) unreachable))
  (core instance $m (instantiate $m))
  (func (export "f") (param "x" s64) (param "y" f32) (result f64) (canon lift (core func $m "f"))))"""
LOWER = """(component
  (import "f" (func $f (param "x" string) (result string)))
  (core module $m
    (memory (export "m") 1)
    (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $m (instantiate $m))
  (core func $l (canon lower (func $f) (memory (core memory $m "m")) (realloc (core func $m "r")))))"""
LOWER_SPILLED = f"""(component
  (import "f" (func $f {MANY}))
  (core module $m (memory (export "m") 1))
  (core instance $m (instantiate $m))
  (core func $l (canon lower (func $f) (memory (core memory $m "m")))))"""
LOWER_RESULT = """(component
  (import "f" (func $f (result (tuple u8 u8))))
  (core module $m (memory (export "m") 1))
  (core instance $m (instantiate $m))
  (core func $l (canon lower (func $f) (memory (core memory $m "m")))))"""
DESTRUCTOR = """(component
  (core module $m (func (export "d") (param i32)))
  (core instance $m (instantiate $m))
  (alias core export $m "d" (core func $d))
  (type $r (resource (rep i32) (dtor (core func $d)))))"""
TRAMPOLINES = """(component
  (import "f" (func $f (param "x" u64) (result u32)))
  (type $r (resource (rep i32)))
  (core func $lowered (canon lower (func $f)))
  (core func $drop (canon resource.drop $r))
  (core func $new (canon resource.new $r))
  (core func $rep (canon resource.rep $r))
  (func (export "f") (param "x" u64) (result u32) (canon lift (core func $lowered)))
  (func (export "drop") (param "x" u32) (canon lift (core func $drop)))
  (func (export "new") (param "x" u32) (result u32) (canon lift (core func $new)))
  (func (export "rep") (param "x" u32) (result u32) (canon lift (core func $rep))))"""
REEXPORTED = """(component
  (core module $a (func (export "f") (param i32) (result i32) unreachable))
  (core instance $a (instantiate $a))
  (core module $b (import "a" "f" (func (param i32) (result i32))) (export "g" (func 0)))
  (core instance $b (instantiate $b (with "a" (instance $a))))
  (func (export "f") (param "x" u32) (result u32) (canon lift (core func $b "g"))))"""
BASES = {
    "echo": ECHO, "spilled": SPILLED, "result": RESULT, "scalar": SCALAR, "lower": LOWER,
    "lower spilled": LOWER_SPILLED, "lower result": LOWER_RESULT, "destructor": DESTRUCTOR,
    "trampolines": TRAMPOLINES, "re-exported": REEXPORTED,
}  # fmt: skip

ALLOCATOR = '"r") (param i32 i32 i32 i32) (result i32)'
USES_MEMORY, USES_REALLOC = '(memory (core memory $m "m"))', '(realloc (core func $m "r"))'
CHANGES: list[tuple[str, str, str, str]] = [
    ("echo", '"f") (param i32 i32)', '"f") (param i32)', "'f' has the type (i32) -> (i32)"),
    ("echo", '"f") (param i32 i32)', '"f") (param i32 i32 i32)', "has the type (i32, i32, i32) -> (i32)"),
    ("echo", '"f") (param i32 i32)', '"f") (param i32 i64)', "has the type (i32, i64) -> (i32)"),
    ("echo", '"f") (param i32 i32) (result i32)', '"f") (param i32 i32)', "needs (i32, i32) -> (i32)"),
    ("echo", '"f") (param i32 i32) (result i32)', '"f") (param i32 i32) (result i64)', "needs (i32, i32) -> (i32)"),
    ("echo", '"f") (param i32 i32) (result i32)', '"f") (param i32 i32) (result i32 i32)', "needs (i32, i32) -> (i32)"),
    ("echo", ALLOCATOR, '"r") (param i32 i32 i32) (result i32)', "realloc needs (i32, i32, i32, i32) -> (i32)"),
    ("echo", ALLOCATOR, '"r") (param i32 i32 i32 i64) (result i32)', "realloc needs (i32, i32, i32, i32) -> (i32)"),
    ("echo", ALLOCATOR, '"r") (param i32 i32 i32 i32) (result i64)', "realloc needs (i32, i32, i32, i32) -> (i32)"),
    ("echo", ALLOCATOR, '"r") (param i32 i32 i32 i32)', "realloc needs (i32, i32, i32, i32) -> (i32)"),
    ("echo", '"p") (param i32)', '"p")', "the post-return function needs (i32) -> ()"),
    ("echo", '"p") (param i32)', '"p") (param i64)', "the post-return function needs (i32) -> ()"),
    ("echo", '"p") (param i32)', '"p") (param i32 i32)', "the post-return function needs (i32) -> ()"),
    ("echo", '"p") (param i32)', '"p") (param i32) (result i32) unreachable', "the post-return function needs"),
    ("echo", USES_REALLOC, "", "lacks the canonical option realloc"),
    ("echo", f"{USES_MEMORY} {USES_REALLOC}", "", "lacks the canonical option memory"),
    ("echo", f"{USES_MEMORY} ", "", "lacks the canonical option memory"),
    ("spilled", '"f") (param i32)', f'"f") (param {"i32 " * 17})', "needs (i32) -> ()"),
    ("spilled", USES_REALLOC, "", "lacks the canonical option realloc"),
    ("spilled", f"{USES_MEMORY} {USES_REALLOC}", "", "lacks the canonical option memory"),
    ("result", '"f") (result i32)', '"f") (result i32 i32)', "needs () -> (i32)"),
    ("result", USES_MEMORY, "", "lacks the canonical option memory"),
    ("scalar", "(param i64 f32)", "(param i64 f64)", "needs (i64, f32) -> (f64)"),
    ("scalar", "(param i64 f32)", "(param i32 f32)", "needs (i64, f32) -> (f64)"),
    ("scalar", "(param i64 f32)", "(param f32 i64)", "needs (i64, f32) -> (f64)"),
    ("scalar", "(result f64) unreachable", "(result f32) unreachable", "its lifted type needs (i64, f32) -> (f64)"),
    ("lower", USES_REALLOC, "", "lacks the canonical option realloc"),
    ("lower", f"{USES_MEMORY} {USES_REALLOC}", "", "lacks the canonical option memory"),
    ("lower", f"{USES_MEMORY} ", "", "lacks the canonical option memory"),
    ("lower", ALLOCATOR, '"r") (param i32 i32 i32) (result i32)', "realloc needs"),
    ("lower", USES_REALLOC, f'{USES_REALLOC} (post-return (core func $m "r"))', "has the option post-return"),
    ("lower spilled", USES_MEMORY, "", "lacks the canonical option memory"),
    ("lower result", USES_MEMORY, "", "lacks the canonical option memory"),
    ("destructor", '"d") (param i32)', '"d")', "a destructor needs (i32) -> ()"),
    ("destructor", '"d") (param i32)', '"d") (param i64)', "a destructor needs (i32) -> ()"),
    ("destructor", '"d") (param i32)', '"d") (param i32) (result i32) unreachable', "a destructor needs (i32) -> ()"),
    ("trampolines", "(core func $lowered)", "(core func $drop)", "has the type (i32) -> ()"),
    ("trampolines", "(canon lift (core func $drop))", "(canon lift (core func $new))", "has the type (i32) -> (i32)"),
    ("trampolines", "(canon lift (core func $new))", "(canon lift (core func $drop))", "has the type (i32) -> ()"),
    (
        "trampolines",
        "(canon lift (core func $rep))",
        "(canon lift (core func $lowered))",
        "has the type (i64) -> (i32)",
    ),
    ("re-exported", '(param "x" u32)', '(param "x" u64)', "'g' has the type (i32) -> (i32)"),
]


@pytest.mark.parametrize("name", BASES)
def test_the_unchanged_components_are_valid(name: str) -> None:
    data, binary = component(BASES[name])
    plan(binary)
    validate_skeleton(skeleton(data, binary))


@pytest.mark.parametrize(("name", "old", "new", "message"), CHANGES)
def test_a_component_with_another_signature_is_refused_by_the_plan(name: str, old: str, new: str, message: str) -> None:
    assert BASES[name].count(old) == 1
    data, binary = component(BASES[name].replace(old, new))
    with pytest.raises(ArtifactError) as caught:
        plan(binary)
    assert message in str(caught.value)
    assert str(caught.value).startswith("not a valid WebAssembly component: ")
    with pytest.raises(ArtifactError, match="not a component that Aegis admits"):
        validate_skeleton(skeleton(data, binary))


def test_functions_between_components_are_compared_too() -> None:
    text = """(component
      (component $a (core module $m (func (export "f") (param i32))) (core instance $m (instantiate $m))
        (func (export "f") (param "x" {of}) (canon lift (core func $m "f"))))
      (component $b (import "f" (func $f (param "x" {of}))) (core func (canon lower (func $f))))
      (instance $a (instantiate $a)) (instance (instantiate $b (with "f" (func $a "f")))))"""
    assert plan(component(text.replace("{of}", "u32"))[1]).trampolines
    with pytest.raises(ArtifactError, match=r"has the type \(i32\) -> \(\), and its lifted type needs \(i64\) -> \(\)"):
        plan(component(text.replace("{of}", "u64"))[1])


@given(wit_types())
@settings(max_examples=40)
def test_lifting_any_type_needs_its_core_type_exactly(of: WitType) -> None:
    """Oracle: with an additional core parameter, or another result, the component is rejected for any type."""
    text = own_echo_component(of)
    plan(component(text)[1])
    expected = core_type(Function((("x", of),), of), lowered=False)
    params = " ".join(expected.params)
    head = f'(func (export "echo") (param {params}) (result {expected.results[0]})'
    assert text.count(head) == 1
    other = "i64" if expected.results[0] != "i64" else "f32"
    for changed in (
        f'(func (export "echo") (param {params} i32) (result {expected.results[0]})',
        f'(func (export "echo") (param {params}) (result {other})',
        f'(func (export "echo") (param {params}) (result {expected.results[0]} i32)',
    ):
        with pytest.raises(ArtifactError, match="its lifted type needs"):
            plan(component(text.replace(head, changed))[1])


# -- programs by hand --------------------------------------------------------------------------------------------------

EXPORTS = {
    ("m", "memory"): MemoryType(1), ("g", "global"): GlobalType("i32"), ("f", "func"): FuncType(),
    ("r", "func"): FuncType(("i32",) * 4, ("i32",)), ("d", "func"): FuncType(("i32",)),
}  # fmt: skip
F, G = CoreExport(0, "f", "func"), CoreExport(0, "g", "global")


def program(**parts: object) -> ComponentProgram:
    plain = ComponentProgram((), (CoreStep(0, (), 0),), (), (), (), {}, (None,))
    return plain._replace(**parts)  # type: ignore[arg-type]


def test_a_program_without_fault_passes() -> None:
    check_signatures(program(exports={"f": CanonLift(F, Options(), Function(), 0)}), lambda _: EXPORTS)


@pytest.mark.parametrize(
    "parts",
    [
        {"exports": {"f": CanonLift(CoreExport(0, "none", "func"), Options(), Function(), 0)}},
        {"exports": {"f": CanonLift(G, Options(), Function(), 0)}},
        {"exports": {"f": CanonLift(CoreExport(0, "m", "memory"), Options(), Function(), 0)}},
        {"exports": {"i": {"f": CanonLift(F, Options(), Function((), "u8"), 0)}}},
        {"exports": {"f": CanonLift(F, Options(memory=CoreExport(0, "none", "memory")), Function(), 0)}},
        {"exports": {"f": CanonLift(F, Options(memory=G), Function(), 0)}},
        {"exports": {"f": CanonLift(F, Options("utf8", CoreExport(0, "m", "memory"), F), Function(), 0)}},
        {"exports": {"f": CanonLift(F, Options(post_return=G), Function(), 0)}},
        {"trampolines": (CanonLower(CanonLift(F, Options(), Function((("x", "u8"),)), 0), Options(), 0),)},
        {"trampolines": (CanonLower(CanonLift(F, Options(), Function(), 0), Options(realloc=F), 0),)},
        {"trampolines": (CanonLower(CanonLift(F, Options(), Function((("x", List("u8")),)), 0), Options(), 0),)},
        {"resources": (ResourceType("r", 0, F),)},
        {"resources": (ResourceType("r", 0, G),)},
        {"trampolines": (ResourceFunction("new", 0, 0),), "resources": (ResourceType("r", 0, 0),)},
        {"trampolines": (ResourceFunction("other", 0, 0),), "resources": (ResourceType("r", 0, 0),)},
        {"trampolines": (AsyncFunction("task.other", 0),)},
    ],
)
def test_a_program_with_a_fault_does_not(parts: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="not a valid WebAssembly component"):
        check_signatures(program(**parts), lambda _: EXPORTS)  # type: ignore[arg-type, return-value]
