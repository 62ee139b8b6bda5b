"""Counts and descriptions of a component before it is planned."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aegis.engine.compile.artifact import text_to_binary
from aegis.wasm.component import decode_component
from aegis.wasm.structure import ComponentStructure, count_instances, read_component, structure_of


def structure(text: str) -> ComponentStructure:
    return read_component(text_to_binary(text))


TREE = """(component
  (core module $m (memory 1 4) (table 2 funcref))
  (component $leaf (alias outer 1 $m (core module $m))
    (core instance (instantiate $m)) (core instance (instantiate $m)))
  (component $twice (alias outer 1 $leaf (component $leaf))
    (instance (instantiate $leaf)) (instance (instantiate $leaf)))
  (instance (instantiate $twice)) (instance (instantiate $leaf)) (core instance (instantiate $m))
  (import "f" (func)) (import "i" (instance)) (export "m" (core module $m)))"""


def test_instances_are_counted_as_often_as_they_are_made() -> None:
    found = structure(TREE)
    assert found.totals.instances == 2 * 2 + 2 + 1
    assert found.totals.modules == {0: 7}
    assert found.totals.components == 1 + (1 + 2) + 1
    assert len(found.memories(100)) == len(found.tables(100)) == 7
    assert len(found.memories(3)) == 4
    assert found.imports == [("f", "func"), ("i", "instance")]
    assert found.exports == [("m", "core module")]
    assert found.components == 2


def test_doubling_instances_are_counted_without_end() -> None:
    text = "(component $c0 (core module $m) (core instance (instantiate $m)))"
    for n in range(1, 64):
        text = f"(component $c{n} {text} (instance (instantiate $c{n - 1})) (instance (instantiate $c{n - 1})))"
    totals = count_instances(decode_component(text_to_binary(text)))
    assert totals.instances == totals.components == 1 << 62


def test_a_component_or_module_that_is_not_known_counts_as_nothing() -> None:
    text = """(component
      (component $c (import "c" (component $c)) (import "m" (core module $m)) (instance (instantiate $c))
        (core instance (instantiate $m)))
      (import "i" (instance $i (export "c" (component)))) (alias export $i "c" (component $d))
      (instance (instantiate $d)))"""
    assert structure(text).totals == (0, {}, 1)


FEATURES: list[tuple[str, list[str]]] = [
    ("(type (stream u8))", []),
    ("(type (list (future)))", []),
    ("(type (instance (type (map u8 u8))))", ["maps"]),
    ("(type (component (type (func async))))", []),
    ("(type (stream (map u8 u8)))", ["maps"]),
    ("(component (type (list u8 3)))", ["lists of fixed length"]),
    ("(component (component (type (list error-context))))", ["error contexts"]),
    ("(core func (canon task.cancel)) (core func (canon waitable-set.new))", []),
    ("(core func (canon thread.index))", ["built-ins such as thread.index"]),
    ('(import "f" (func $f)) (core func (canon lower (func $f) async))', []),
    ('(type $r (resource (rep i32))) (core func (canon resource.drop $r)) (type (list string))', []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "features"), FEATURES)
def test_unsupported_features_are_reported_wherever_they_are_defined(text: str, features: list[str]) -> None:
    found = structure(f"(component {text})")
    assert found.features == features
    assert found.needs == []


def test_imports_and_exports_that_need_it_are_named() -> None:
    found = structure('(component (type $m (map u8 u8)) (import "f" (func (param "x" $m))) (export "t" (type $m)))')
    assert found.needs == [("the import f", "maps")]
    assert found.features == ["maps"]


def test_core_types_may_stand_in_component_types() -> None:
    text = '(component (type (component (core type (func (param i32))) (import "f" (func)) (export "f" (func)))))'
    assert structure(text).needs == []


def test_the_anatomy_goes_to_workers_without_the_definitions() -> None:
    binary = decode_component(text_to_binary(TREE))
    found: Any = pickle.loads(pickle.dumps(structure_of(binary)))
    assert found.totals == structure_of(binary).totals
    assert not any(value is binary for value in vars(found).values())
