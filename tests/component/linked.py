"""Components of two that call each other, and helpers that call them through adapters and through the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aegis import (
    Aegis,
)
from aegis.wit.types import Function
from tests.component.aegis_side import Guest
from tests.component.hot import is_linked, unlinked
from tests.component.oracle import Outcome, Trapped, agree

__all__ = ["GO", "GROWING", "INNER", "MEMORY", "NARROW", "OUTER", "PLAIN", "RUNTIME", "both", "ends", "two", "words"]

RUNTIME = Aegis(cache=False, pooled=False, timeout="60s")


def ends(guest: Guest, *calls: tuple[Any, ...]) -> list[Outcome]:
    """Make the calls up to the first trap, and return the outcomes."""
    found: list[Outcome] = []
    for name, *arguments in calls:
        found.append(guest.call(name, *arguments))
        if isinstance(found[-1], Trapped):
            break
    return found


def words(found: list[Outcome]) -> list[tuple[str, str] | None]:
    return [(end.code, end.message) if isinstance(end, Trapped) else None for end in found]


@contextmanager
def both(text: str, exports: dict[str, Function], imports: Any = None) -> Iterator[Callable[..., list[Outcome]]]:
    """Yield a caller of fresh instances for both ways; the outcomes must be identical, including messages."""
    component = RUNTIME.load_wat(text)
    with Guest(component, exports, imports, RUNTIME) as linked:  # type: ignore[arg-type]
        with unlinked():
            other = Guest(RUNTIME.load_wat(text), exports, imports, RUNTIME)  # type: ignore[arg-type]
        assert is_linked(linked.sandbox)
        assert not is_linked(other.sandbox)

        def check(*calls: tuple[Any, ...]) -> list[Outcome]:
            linked.reset()
            with unlinked():
                other.reset()
            mine, theirs = ends(linked, *calls), ends(other, *calls)
            assert agree(mine, theirs), calls
            assert words(mine) == words(theirs), calls
            return mine

        with other:
            yield check


def two(function: str, callee: str, caller: str, *, options: str = "", lowering: str = "", types: str = "") -> str:
    """Return a component of two: ``$b`` exports ``f`` of type ``function``, ``$a`` imports it and exports ``go``.

    ``callee`` and ``caller`` are fields of core modules that export a memory ``m`` and a ``realloc``.
    """
    return f"""(component
      {types}
      (component $b {types}
        (core module $m {callee})
        (core instance $m (instantiate $m))
        (func (export "f") {function} (canon lift (core func $m "f") {options})))
      (component $a {types}
        (import "f" (func $f {function}))
        (core module $s (memory (export "m") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $s (instantiate $s))
        (core func $f (canon lower (func $f) {lowering}))
        (core module $m (import "" "m" (memory 1)) {caller})
        (core instance $m (instantiate $m (with "" (instance (export "f" (func $f)) (export "m" (memory $s "m"))))))
        (func (export "go") (param "x" u32) (result u32) (canon lift (core func $m "go"))))
      (instance $b (instantiate $b))
      (instance $a (instantiate $a (with "f" (func $b "f"))))
      (export "go" (func $a "go")))"""


GO = {"go": Function((("x", "u32"),), "u32")}
MEMORY = """(memory (export "m") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))"""
INNER = '(memory (core memory $m "m")) (realloc (core func $m "realloc"))'
OUTER = '(memory (core memory $s "m")) (realloc (core func $s "realloc"))'
NARROW = two(
    '(param "x" u8) (param "y" char) (result bool)',
    '(func (export "f") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))'
    ' (func (export "post") (param i32))',
    """(import "" "f" (func $f (param i32 i32) (result i32)))
       (func (export "go") (param i32) (result i32) (call $f (local.get 0) (i32.const 0)))""",
    options='(post-return (core func $m "post"))',
)
PLAIN = two(
    '(param "x" u32) (result u32)',
    '(func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))',
    """(import "" "f" (func $f (param i32) (result i32)))
       (func (export "go") (param i32) (result i32) (call $f (local.get 0)))""",
)
GROWING = two(
    '(param "x" (list u8)) (result u32)',
    """(memory (export "m") 1 64) (global $at (mut i32) (i32.const 65536))
       (func (export "realloc") (param i32 i32 i32 i32) (result i32)
         (drop (memory.grow (i32.const 1))) (global.set $at (i32.add (global.get $at) (i32.const 65536)))
         (i32.sub (global.get $at) (i32.const 65536)))
       (func (export "f") (param i32 i32) (result i32) (i32.add (memory.size)
         (i32.load8_u (i32.sub (i32.add (local.get 0) (local.get 1)) (i32.const 1)))))""",
    """(import "" "f" (func $f (param i32 i32) (result i32)))
       (func (export "go") (param i32) (result i32) (memory.fill (i32.const 0) (i32.const 40) (i32.const 65536))
         (call $f (i32.const 0) (local.get 0)))""",
    options=INNER, lowering=OUTER,
)  # fmt: skip
