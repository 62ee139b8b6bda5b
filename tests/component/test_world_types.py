"""Types that a world defines itself have their names: the component imports them, which the engine does not report."""

from __future__ import annotations

from typing import Any

import pytest

from aegis import Aegis, CallError
from aegis.engine.compile.artifact import text_to_binary
from aegis.wit.wit_write import world_text

WORLD = """(component
  {first}
  (type $item0 (record (field "cents" u32))) (import "item" (type $item (eq $item0)))
  (type $problem0 (variant (case "closed") (case "bad" $item))) (import "problem" (type $problem (eq $problem0)))
  (type $region0 (enum "eu" "us")) (import "HTTP-region2" (type $region (eq $region0)))
  (import "ask" (func $ask (param "problem" $problem)))
  (core func $lowered (canon lower (func $ask)))
  (core module $m (import "" "ask" (func $ask (param i32 i32)))
    (func (export "f") (param i32 i32)) (func (export "g") (param i32)))
  (core instance $i (instantiate $m (with "" (instance (export "ask" (func $lowered))))))
  (func $price (param "problem" $problem) (canon lift (core func $i "f")))
  (func $set (param "region" $region) (canon lift (core func $i "g")))
  (export "price" (func $price)) (export "set" (func $set)) {last})"""
RUNTIME = Aegis(cache=False)


def loaded(first: str = "", last: str = "", runtime: Aegis = RUNTIME) -> Any:
    return runtime.load(text_to_binary(WORLD.format(first=first, last=last)))


def test_functions_of_the_world_name_its_types() -> None:
    component = loaded()
    text = world_text(component.imports, component.exports)
    assert "import ask: func(problem: problem);" in text
    assert "export price: func(problem: problem);" in text
    assert "export set: func(region: HTTP-region2);" in text
    assert "record item {" in text
    assert "variant problem {" in text
    assert list(component.imports) == ["ask"]
    assert list(component.exports) == ["price", "set"]


def test_errors_name_the_types() -> None:
    with RUNTIME.sandbox(loaded(), trap_missing=True) as sandbox, pytest.raises(CallError, match="problem"):
        sandbox.call("price", 1)


@pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")
def test_an_isolated_component_has_the_same_world() -> None:
    with Aegis(isolation=True, cache=False) as runtime:
        component = loaded(runtime=runtime)
        with runtime.sandbox(component, trap_missing=True) as sandbox:
            sandbox.call("set", "us")
        here = loaded()
        assert (component.imports, component.exports) == (here.imports, here.exports)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ('(import "basket" (type $b (sub resource)))', '(export "aegis-world-type-item" (type $item))'),
        ('(import "basket" (type $b (sub resource)))', '(export "AEGIS-WORLD-TYPE-X" (type $item))'),
        ('(import "basket" (type $b (sub resource))) (import "b2" (type (eq $b)))', '(export "item" (type $item))'),
        (
            '(import "basket" (type $b (sub resource))) (type $o0 (own $b)) (import "o" (type $o (eq $o0)))'
            ' (type $r0 (record (field "b" $o))) (import "r" (type $r (eq $r0)))',
            '(export "problem" (type $problem))',
        ),
        ("", '(export "region" (func $set))'),
    ],
)
def test_names_and_resources_of_the_world_do_not_make_it_invalid(first: str, last: str) -> None:
    component = loaded(first, last)
    assert list(component.exports)[:2] == ["price", "set"]
    resources = component.world.resources
    assert [r.name for r in resources] == (["basket"] if first else [])
    assert component.world.imported == len(resources)


def test_a_world_of_very_many_types_is_admitted() -> None:
    types = "\n".join(f'(type $t{n} (enum "a{n}" "b")) (import "e{n}" (type (eq $t{n})))' for n in range(2000))
    assert list(loaded(types).exports) == ["price", "set"]
