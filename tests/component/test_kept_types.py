"""Converters created for a guest's types are freed with its artifact; a cache of them is bounded by weight.

Oracle: the Python classes of a component's types, to which every converter refers, are freed with the component.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from aegis import Aegis
from aegis.component.call_source import MAKER_PARTS_KEPT, call_maker
from aegis.component.conversion import source
from aegis.component.conversion.layout import flat, layout
from aegis.component.planning.type_keys import parts_of
from aegis.engine.call import caller, trampoline
from aegis.engine.native.library import windows
from aegis.support.bounded_cache import WeightedCache, memoised
from aegis.wit.naming import constant, pascal, snake
from aegis.wit.types import Enum, Function, List, Record, Variant, WitType
from tests.echo import echo_component

CACHES: list[Any] = [
    layout, flat, call_maker, caller.compile_caller, snake, pascal, constant,
]  # fmt: skip


def memos() -> list[WeightedCache[Any]]:
    return [cache.memo for cache in CACHES] + [trampoline._compiled, source._compiled]


def of_many_parts(number: int, parts: int) -> WitType:
    """Return a type that is distinct for each number, with about the given number of parts."""
    inner = Record(f"inner-{number}", tuple((f"f{n}-of{number}", "u32") for n in range(parts // 4)))
    case = Variant(f"v-{number}", tuple((f"c{n}-of{number}", None if n % 2 else "u8") for n in range(parts // 4)))
    names = Enum(f"e-{number}", tuple(f"e{n}-of{number}" for n in range(10)))
    return Record(f"r-{number}", (("a", List(inner)), ("b", inner), ("c", case), ("d", names)))


def classes_of(function: Function) -> list[weakref.ref[type[Any]]]:
    """Return the classes of the parameter's record and of the last case of its variant."""
    of = function.params[0][1]
    assert isinstance(of, Record)
    assert of.python is not None
    variant = of.fields[2][1]
    assert isinstance(variant, Variant)
    assert variant.python is not None
    return [weakref.ref(of.python), weakref.ref(variant.python[-1])]


def played(number: int, parts: int) -> list[weakref.ref[type[Any]]]:
    """Echo a value of a large, distinct type through each direction of conversion, and drop the component."""
    runtime = Aegis(cache=False, pooled=False)
    component = runtime.load_wat(echo_component(of_many_parts(number, parts)))
    with runtime.sandbox(component, imports={"echo": lambda x: x}) as sandbox:
        assert sandbox._run.component is not None
        of = sandbox._run.component.function("echo-back")
        inner = {f"f{n}-of{number}": n for n in range(parts // 4)}
        value = {"a": [inner], "b": inner, "c": (f"c0-of{number}", 1), "d": f"e1-of{number}"}
        sandbox.call("echo-back", value)
        return classes_of(of)


@pytest.mark.parametrize(("parts", "artifacts"), [(120, 24), pytest.param(3000, 3, marks=pytest.mark.long)])
def test_converters_of_many_artifacts_are_freed_with_them(parts: int, artifacts: int) -> None:
    classes = [made for number in range(artifacts) for made in played(number * 10_000 + parts, parts)]
    gc.collect()
    alive = max(sum(made() is not None for made in classes[nth::2]) for nth in (0, 1))
    weight = parts_of(of_many_parts(0, parts))
    assert alive * weight <= MAKER_PARTS_KEPT
    assert alive == 0 or weight <= MAKER_PARTS_KEPT // 8
    assert all(memo.weight <= memo.most for memo in memos())


def test_signatures_of_core_functions_are_bounded_by_their_parameters() -> None:
    runtime = Aegis(cache=False, pooled=False)
    for number in range(6):
        kinds = [" ".join(("i32", "i64", "f32", "f64")[(number * 40 + n) >> 2 * k & 3] for k in range(60))
                 for n in range(40)]  # fmt: skip
        imports = " ".join(f'(import "e" "f{n}" (func (param {k})))' for n, k in enumerate(kinds))
        exports = " ".join(f'(func (export "g{n}") (param {k}))' for n, k in enumerate(kinds))
        module = runtime.load_wat(f"(module {imports} {exports})")
        functions = {f"f{n}": lambda *_: None for n in range(40)}
        with runtime.sandbox(module, imports={"e": functions}) as sandbox:
            for n, k in enumerate(kinds):
                sandbox.call(f"g{n}", *(1 if kind[0] == "i" else 1.0 for kind in k.split()))
    assert all(memo.weight <= memo.most for memo in memos())
    assert all(len(memo.entries) <= memo.most for memo in memos())


def test_windows_of_sizes_that_a_guest_chooses_are_bounded() -> None:
    before = dict(windows)
    try:
        for size in range(100_000, 110_000):
            assert windows[size] is not None
        assert len(windows) <= 4096
    finally:
        windows.clear()
        windows.update(before)


def test_a_memo_that_is_full_is_cleared_and_what_is_heavy_is_not_kept() -> None:
    made: list[int] = []

    @memoised(80, lambda n: n)
    def double(n: int) -> int:
        made.append(n)
        return 2 * n

    memo: WeightedCache[int] = double.memo  # type: ignore[attr-defined]
    assert [double(n) for n in (10, 10, 11, 11)] == [20, 20, 22, 22]
    assert made == [10, 11, 11]
    for n in range(1, 10):
        double(n)
        assert memo.weight == sum(n for (n,) in memo.entries)  # type: ignore[misc]
        assert memo.weight <= 80
    for _ in range(80):
        double(10)
        double(9)
    assert memo.weight <= 80


def test_parts_are_counted_through_every_type() -> None:
    assert parts_of(of_many_parts(1, 400)) == 16 + 1 + 2 * (16 + 100) + (1 + 16 * 100 + 50) + (1 + 15 + 10)
    assert parts_of(("u8", List("u8")), None) == 3
