"""Bombs (exponential instantiations, types or work in few bytes) are rejected at once; plans at the limits work.

Oracle: a rejection names the limit and takes less than a second of processor time, however often the bomb doubles.
Plans at the limits take some tenths of a second.
"""

from __future__ import annotations

import re
import time

import pytest

from aegis.component.planning.plan import (
    MAX_COMPONENT_INSTANCES,
    MAX_CROSSED_MEMORIES,
    MAX_STEPS,
    MAX_TRAMPOLINES,
    plan,
)
from aegis.component.planning.skeleton import skeleton
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.validator import validate_skeleton
from aegis.errors import ArtifactError
from aegis.wasm.component import PREAMBLE, decode_component
from aegis.wit.types import MAX_TYPE_DEPTH, MAX_TYPE_PARTS, MAX_TYPE_PARTS_IN_ALL
from tests.component.inputs import leb, part, vec

SECOND = 5.0  # of processor time; a generous bound, since cache misses of other tests account for a quarter of it


def refusal(data: bytes) -> str:
    binary = decode_component(data)
    started = time.process_time()
    with pytest.raises(ArtifactError) as caught:
        plan(binary)
    assert time.process_time() - started < SECOND
    return str(caught.value)


def levels(count: int, innermost: str) -> bytes:
    """Return a component whose instances double at each level."""
    text = f"(component $c0 {innermost})"
    for n in range(1, count + 1):
        text = f"(component $c{n} {text} (instance (instantiate $c{n - 1})) (instance (instantiate $c{n - 1})))"
    return text_to_binary(text)


CORE = "(core module $m) (core instance (instantiate $m))"


def assert_too_many(items: str, most: int, message: str) -> None:
    """Assert that a message names the items, a number above the limit, and the limit."""
    found = re.fullmatch(rf"too many {items} \(([\d,]+)/{most:,}\): split the component", message)
    assert found is not None, message
    assert int(found[1].replace(",", "")) > most


@pytest.mark.parametrize("count", [15, 30, 60])
def test_doubling_core_instances_are_counted_before_they_are_made(count: int) -> None:
    assert_too_many("core instances", MAX_STEPS, refusal(levels(count, CORE)))


@pytest.mark.parametrize("count", [14, 30, 60])
def test_doubling_component_instances_are_counted_before_they_are_made(count: int) -> None:
    assert_too_many("component instances", MAX_COMPONENT_INSTANCES, refusal(levels(count, "")))


def test_a_billion_steps_are_refused_in_milliseconds() -> None:
    binary = decode_component(levels(30, CORE))
    fastest = 1.0
    for _ in range(5):
        started = time.process_time()
        with pytest.raises(ArtifactError):
            plan(binary)
        fastest = min(fastest, time.process_time() - started)
    assert fastest < 0.01


def passed_along(count: int, innermost: str) -> bytes:
    """Return a component whose instances double at each level, through a component that instantiates its argument
    twice.
    """
    text = f"(component (component $k0 {innermost})"
    for n in range(1, count + 1):
        text += f"""
          (component $w{n} (import "c" (component $c)) (instance (instantiate $c)) (instance (instantiate $c)))
          (component $k{n} (alias outer 1 $k{n - 1} (component $p)) (alias outer 1 $w{n} (component $w))
            (instance (instantiate $w (with "c" (component $p)))))"""
    return text_to_binary(f"{text} (instance (instantiate $k{count})))")


@pytest.mark.parametrize("innermost", [CORE, ""])
def test_instances_hidden_in_arguments_are_stopped_at_the_limit(innermost: str) -> None:
    assert "too many" in refusal(passed_along(40, innermost))


def test_component_instances_may_be_nested_to_any_depth() -> None:
    count = 5000
    text = "".join(
        f"(component $c{n + 1} (alias outer 1 $c{n} (component $p)) (instance (instantiate $p)))" for n in range(count)
    )
    data = text_to_binary(f"(component (component $c0) {text} (instance (instantiate $c{count})))")
    program = plan(decode_component(data))
    assert program.parents == (None, *range(count + 1))


def test_plans_at_the_limits_are_made() -> None:
    core = f"(component $a (core module $m) {'(core instance (instantiate $m))' * 200})"
    data = text_to_binary(f"(component {core} {'(instance (instantiate $a))' * (MAX_STEPS // 200)})")
    assert len(plan(decode_component(data)).steps) == MAX_STEPS
    assert skeleton(data)
    over = text_to_binary(f"(component {core} {'(instance (instantiate $a))' * (MAX_STEPS // 200 + 1)})")
    assert "core instances" in refusal(over)
    lowered = "(core func (canon lower (func $f)))"
    many = f'(component (import "f" (func $f)) {lowered * MAX_TRAMPOLINES})'
    assert len(plan(decode_component(text_to_binary(many))).trampolines) == MAX_TRAMPOLINES
    assert_too_many("trampolines", MAX_TRAMPOLINES, refusal(text_to_binary(many[:-1] + lowered + ")")))


def test_imports_of_all_core_instances_are_counted() -> None:
    module = PREAMBLE.replace(b"\x0d\0\1", b"\1\0\0") + part(1, vec(b"\x60\0\0"))
    given = module + part(3, vec(b"\0")) + part(7, vec(b"\1b\0\0")) + part(10, vec(b"\3\0\0\x0b"))
    taking = module + part(2, vec(*[b"\1a\1b\0\0"] * 50_000))
    made = [b"\0\0\0"] + [b"\0\1" + vec(b"\1a\x12\0")] * 100
    said = refusal(PREAMBLE + part(1, given) + part(1, taking) + part(2, vec(*made)))
    assert_too_many("imports of core instances", 200_000, said)


def passing_text_to(count: int) -> bytes:
    """Return a component with a part that calls ``count`` others, each with its own memory."""
    allocate = '(func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)'
    takes = f"""(core module $m (memory (export "m") 1) {allocate} (func (export "f") (param i32 i32)))
      (core instance $m (instantiate $m))
      (func (export "f") (param "x" string)
        (canon lift (core func $m "f") (memory (core memory $m "m")) (realloc (core func $m "r"))))"""
    each = range(count)
    return text_to_binary(f"""(component (component $b {takes})
      (component $a {"".join(f'(import "f{n}" (func $f{n} (param "x" string)))' for n in each)}
        (core module $mem (memory (export "m") 1)) (core instance $mem (instantiate $mem))
        {"".join(f'(core func $l{n} (canon lower (func $f{n}) (memory (core memory $mem "m"))))' for n in each)}
        (core module $m {"".join(f'(import "" "f{n}" (func (param i32 i32)))' for n in each)})
        (core instance (instantiate $m (with "" (instance {"".join(f'(export "f{n}" (func $l{n}))' for n in each)})))))
      {"".join(f"(instance $b{n} (instantiate $b))" for n in each)}
      (instance (instantiate $a {"".join(f'(with "f{n}" (func $b{n} "f"))' for n in each)})))""")


def test_memories_between_which_values_pass_are_as_many_as_the_engine_admits() -> None:
    data = passing_text_to(MAX_CROSSED_MEMORIES - 1)
    plan(decode_component(data))
    validate_skeleton(skeleton(data))  # one more would end the process
    said = refusal(passing_text_to(MAX_CROSSED_MEMORIES))
    assert said == "values pass between too many linear memories (101/100): compose fewer components"


def test_definitions_are_counted_each_time_they_are_run() -> None:
    inner = PREAMBLE + part(7, vec(*[b"\x7d"] * 10_000))
    data = PREAMBLE + part(4, inner) + part(5, vec(*[b"\0\0\0"] * 100))
    assert re.match(r"instantiation executes too many bytes of definitions \([\d,]+/4,194,304\): ", refusal(data))


def test_imported_instances_are_counted_by_the_declarations_of_their_type() -> None:
    of = part(7, vec(b"\x42" + vec(*[b"\1\x7d"] * 1000)))
    imports = part(10, vec(*[b"\0" + leb(len(name)) + name + b"\5\0" for name in (b"a%d" % n for n in range(9_000))]))
    said = refusal(PREAMBLE + of + imports)
    assert re.match(r"instantiation executes too many bytes of definitions \([\d,]+/4,194,304\): ", said)


# -- types -------------------------------------------------------------------------------------------------------------


def doubled(count: int, of: str = "(tuple {0} {0})") -> str:
    return "(type $t0 (tuple u8))" + "".join(f"(type $t{n + 1} {of.format(f'$t{n}')})" for n in range(count))


@pytest.mark.parametrize("count", [13, 30, 95])
@pytest.mark.parametrize("of", ["(tuple {0} {0})", "(result {0} (error {0}))", "(tuple {0} (list {0}))"])
def test_types_that_double_are_counted_and_not_built(count: int, of: str) -> None:
    data = text_to_binary(f'(component {doubled(count, of)} (import "f" (func (param "x" $t{count}))))')
    expected = f"the import f has types of too many parts (more than {MAX_TYPE_PARTS}): use smaller or fewer types"
    assert refusal(data) == expected


def test_types_that_double_and_that_no_function_has_cost_nothing() -> None:
    program = plan(decode_component(text_to_binary(f"(component {doubled(95)})")))
    assert program.imported == ()


def test_every_function_and_trampoline_is_counted() -> None:
    parts = 3 * 2**11 - 1  # of $t11
    libc = """(core module $m (memory (export "m") 1) (func (export "f") (param i32))
      (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)) (core instance $m (instantiate $m))"""
    lift = '(canon lift (core func $m "f") (memory (core memory $m "m")) (realloc (core func $m "r")))'
    lower = '(core func (canon lower (func $f) (memory (core memory $m "m"))))'
    fits = MAX_TYPE_PARTS_IN_ALL // parts - 1  # plus the function itself
    text = f'(component {doubled(11)} {libc} (func $f (param "x" $t11) {lift}) (export "f" (func $f)) {lower * fits})'
    assert len(plan(decode_component(text_to_binary(text))).trampolines) == fits
    several = "".join(f'(import "f{n}" (func (param "x" $t11)))' for n in range(fits + 2))
    for rejected in (text[:-1] + lower + ")", f"(component {doubled(11)} {several})"):
        said = refusal(text_to_binary(rejected))
        assert re.fullmatch(
            r"the types of the component's functions have too many parts \(\d+/200000\): use simpler types", said
        )


def test_types_are_as_deep_as_the_engine_admits() -> None:
    deepest = 0
    for depth in range(MAX_TYPE_DEPTH - 10, MAX_TYPE_DEPTH + 10):
        types = "(type $t0 (list u8))" + "".join(f"(type $t{n} (list $t{n - 1}))" for n in range(1, depth))
        data = text_to_binary(f'(component {types} (import "f" (func (param "x" $t{depth - 1}))))')
        try:
            validate_skeleton(skeleton(data))
        except ArtifactError:
            continue
        plan(decode_component(data))
        deepest = depth
    assert deepest > MAX_TYPE_DEPTH - 10
    types = "(type $t0 (list u8))" + "".join(f"(type $t{n} (list $t{n - 1}))" for n in range(1, 200))
    data = text_to_binary(f'(component {types} (import "f" (func (param "x" $t199))))')
    assert refusal(data) == f"the import f has types nested too deep (199/{MAX_TYPE_DEPTH} levels): nest them less"


def test_wide_and_deep_types_are_compared_in_linear_time() -> None:
    text = "(component "
    for function in range(20):
        text += f"(type $t{function}x0 (tuple {'u8 ' * (50 + function)}))"
        for n in range(1, 90):
            text += f"(type $t{function}x{n} (tuple {'u8 ' * 90} $t{function}x{n - 1}))"
        text += f'(import "f{function}" (func $f{function} (param "x" $t{function}x89)))'
    text += '(core module $m (memory (export "m") 1)) (core instance $m (instantiate $m))'
    text += '(core func (canon lower (func $f0) (memory (core memory $m "m"))))'
    binary = decode_component(text_to_binary(text + ")"))
    started = time.process_time()
    plan(binary)
    assert time.process_time() - started < SECOND
