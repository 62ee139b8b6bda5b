"""What the bytes tell of a component's functions is what the engine's reflection finds in the compiled component."""

from __future__ import annotations

import pytest

from aegis import Aegis
from aegis.engine.artifact import text_to_binary
from aegis.wasm.anatomy import read_component

CORE = """(core module $m (func (export "f"))) (core instance $i (instantiate $m))
  (func $f (canon lift (core func $i "f")))"""
SHIM = '(component $shim (import "f" (func $f)) (export "f" (func $f)) (export "g" (func $f)))'
KNOWN = {
    "functions alone": f'(component {CORE} (export "f" (func $f)))',
    "an instance of exports": f'{CORE} (instance $x (export "f" (func $f)) (export "g" (func $f)))',
    "an instance of a component": f'{CORE} {SHIM} (instance $x (instantiate $shim (with "f" (func $f))))',
    "a component of an outer one": f"""{CORE} {SHIM}
      (component $user (import "f" (func $f)) (alias outer 1 $shim (component $s))
        (instance $x (instantiate $s (with "f" (func $f)))) (alias export $x "g" (func $g)) (export "h" (func $g)))
      (instance $x (instantiate $user (with "f" (func $f))))""",
    "an export of an export": f"""{CORE} (instance $y (export "f" (func $f)))
      (export $x "first" (instance $y))""",
    "a type among the exports": f"""{CORE} (type $t (record (field "a" u32)))
      (component $typed (import "f" (func $f)) (type $r (enum "one")) (export "t" (type $r)) (export "f" (func $f)))
      (instance $x (instantiate $typed (with "f" (func $f))))""",
    "an instance among the imports": f"""(import "i" (instance $other (export "a" (func)))) {CORE}
      (instance $x (export "f" (func $f)))""",
}


def whole(text: str) -> str:
    return text if text.startswith("(component") else f'(component {text} (export "a:b/c" (instance $x)))'


@pytest.mark.parametrize("name", KNOWN)
def test_functions_read_from_the_bytes_are_those_of_the_compiled_component(name: str) -> None:
    text = whole(KNOWN[name])
    anatomy = read_component(text_to_binary(text))
    found = [name for name, sort in anatomy.exports if sort == "func"]
    found += [f"{owner}#{member}" for owner, members in anatomy.functions.items() for member in members]
    compiled = Aegis(cache=False, pooled=False).load_wat(text)
    assert sorted(found) == sorted(compiled.callables())  # type: ignore[union-attr]


def test_functions_of_an_instance_that_comes_from_outside_are_not_guessed() -> None:
    text = '(component (import "i" (instance $x (export "a" (func)))) (export "a:b/c" (instance $x)))'
    assert read_component(text_to_binary(text)).functions == {}
    inner = """(component (import "j" (instance $i (export "a" (func)))) (export "i" (instance $i)))"""
    text = f"""(component (import "j" (instance $j (export "a" (func)))) (component $c {inner[11:-1]})
      (instance $y (instantiate $c (with "j" (instance $j)))) (alias export $y "i" (instance $x))
      (export "a:b/c" (instance $x)))"""
    assert read_component(text_to_binary(text)).functions == {}


def test_an_export_that_is_described_with_less_tells_no_less_than_it_has() -> None:
    text = f"""(component {CORE} (instance $x (export "f" (func $f)) (export "g" (func $f)))
      (export "a:b/c" (instance $x) (instance (export "f" (func)))))"""
    compiled = Aegis(cache=False, pooled=False).load_wat(text)
    names = set(compiled.callables())  # type: ignore[union-attr]
    known = {f"a:b/c#{member}" for member in read_component(text_to_binary(text)).functions["a:b/c"]}
    assert names <= known
