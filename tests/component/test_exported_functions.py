"""The functions that the decoder reads from a component's bytes equal those of the engine's reflection."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from aegis import Aegis
from aegis.component.planning.plan import plan
from aegis.engine.compile.artifact import text_to_binary
from aegis.wasm.component import decode_component

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


def exported(text: str) -> list[str]:
    """Return the names of the functions of the plan."""
    found = []
    for name, item in plan(decode_component(text_to_binary(text))).exports.items():
        found += [f"{name}#{member}" for member in item] if isinstance(item, Mapping) else [name]
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_functions_read_from_the_bytes_are_those_of_the_compiled_component(name: str) -> None:
    text = whole(KNOWN[name])
    compiled = Aegis(cache=False, pooled=False).load_wat(text)
    assert sorted(exported(text)) == sorted(compiled.callables())  # type: ignore[union-attr]


def test_an_export_declared_with_fewer_functions_still_lists_all() -> None:
    text = f"""(component {CORE} (instance $x (export "f" (func $f)) (export "g" (func $f)))
      (export "a:b/c" (instance $x) (instance (export "f" (func)))))"""
    compiled = Aegis(cache=False, pooled=False).load_wat(text)
    assert set(compiled.callables()) <= set(exported(text))  # type: ignore[union-attr]
