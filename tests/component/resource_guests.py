"""Guests that use handles by index as a test directs: alone, and between component instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["ALONE", "BETWEEN", "DIRECT"]


def _wrapped(functions: Mapping[str, str]) -> str:
    """A core module that re-exports each imported function through a core function that calls it."""
    lines = []
    for name, signature in functions.items():
        params = signature.partition("(result")[0].count("i32")
        gets = " ".join(f"(local.get {n})" for n in range(params))
        lines.append(f'(import "" "{name}" (func ${name} {signature}))')
        lines.append(f'(func (export "{name}") {signature} {gets} (call ${name}))')
    return " ".join(line for kind in ("(import", "(func") for line in lines if line.startswith(kind))


def _from(functions: Iterable[str]) -> str:
    return " ".join(f'(export "{name}" (func ${name}))' for name in functions)


_ONE = "(param i32) (result i32)"
_TWO = "(param i32 i32) (result i32)"

_RAW = {
    "g-new": _ONE, "g-rep": _ONE, "g-drop": "(param i32)", "h-drop": "(param i32)", "make-h": _ONE, "take-h": _ONE,
    "look-h": _ONE, "look-two": _TWO, "look-take": _TWO, "take-look": _TWO,
}  # fmt: skip
"""Operations that the guest can perform with any number as a handle: canonical built-ins and lowered imports."""


def _lifted(name: str, signature: str, core: str) -> str:
    count = signature.partition("(result")[0].count("i32")
    params = " ".join(f'(param "p{n}" u32)' for n in range(count))
    result = "(result u32)" if "(result" in signature else ""
    return f'(func (export "{name}") {params} {result} (canon lift (core func {core})))'


_IMPORTS = """
  (import "h" (type $h (sub resource)))
  (import "make-h" (func $make-h (param "rep" u32) (result (own $h))))
  (import "take-h" (func $take-h (param "x" (own $h)) (result u32)))
  (import "look-h" (func $look-h (param "x" (borrow $h)) (result u32)))
  (import "look-two" (func $look-two (param "x" (borrow $h)) (param "y" (borrow $h)) (result u32)))
  (import "look-take" (func $look-take (param "x" (borrow $h)) (param "y" (own $h)) (result u32)))
  (import "take-look" (func $take-look (param "x" (own $h)) (param "y" (borrow $h)) (result u32)))"""

_RESOURCE = """
  (core module $log
    (global $count (mut i32) (i32.const 0))
    (global $last (mut i32) (i32.const 0))
    (func (export "dtor") (param i32)
      (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.set $last (local.get 0)))
    (func (export "dropped") (result i32)
      (i32.add (i32.mul (global.get $count) (i32.const 1000)) (global.get $last))))
  (core instance $log (instantiate $log))
  (type $inner (resource (rep i32) (dtor (core func $log "dtor"))))
  (export $g "g" (type $inner))
  (func (export "dropped") (result u32) (canon lift (core func $log "dropped")))
  (core func $g-new (canon resource.new $inner))
  (core func $g-rep (canon resource.rep $inner))
  (core func $g-drop (canon resource.drop $inner))
  (core func $h-drop (canon resource.drop $h))""" + "".join(
    f"\n  (core func ${name} (canon lower (func ${name})))"
    for name in ("make-h", "take-h", "look-h", "look-two", "look-take", "take-look")
)

ALONE = f"""(component {_IMPORTS} {_RESOURCE}
  (core module $m {_wrapped(_RAW)}
    (func (export "same") (param i32) (result i32) (local.get 0))
    (func (export "lent") (param i32 i32) (result i32)
      (if (local.get 1) (then (call $h-drop (local.get 0)))) (local.get 0))
    (func (export "used") (param i32) (result i32)
      (call $look-two (local.get 0) (local.get 0)) (call $h-drop (local.get 0)))
    (func (export "taken") (param i32) (result i32) (call $take-h (local.get 0)))
    (func (export "list") (param i32 i32) (result i32) (local i32)
      (block $end (loop $next
        (br_if $end (i32.eqz (local.get 1)))
        (local.set 2 (i32.add (i32.mul (local.get 2) (i32.const 10)) (i32.load (local.get 0))))
        (local.set 0 (i32.add (local.get 0) (i32.const 4)))
        (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
        (br $next)))
      (local.get 2))
    (func (export "listed") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
      (i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 2)) (i32.const 8))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (memory (export "memory") 1))
  (core instance $m (instantiate $m (with "" (instance {_from(_RAW)}))))
  {" ".join(_lifted(name, signature, f'$m "{name}"') for name, signature in _RAW.items())}
  (type $owned (list (own $g)))
  (type $hosts (list (own $h)))
  (func (export "own-h") (param "x" (own $h)) (result u32) (canon lift (core func $m "same")))
  (func (export "borrow-h") (param "x" (borrow $h)) (param "drop" u32) (result u32) (canon lift (core func $m "lent")))
  (func (export "use-h") (param "x" (borrow $h)) (result u32) (canon lift (core func $m "used")))
  (func (export "steal-h") (param "x" (borrow $h)) (result u32) (canon lift (core func $m "taken")))
  (func (export "give-h") (param "p0" u32) (result (own $h)) (canon lift (core func $m "same")))
  (func (export "own-g") (param "x" (own $g)) (result u32) (canon lift (core func $m "same")))
  (func (export "borrow-g") (param "x" (borrow $g)) (result u32) (canon lift (core func $m "same")))
  (func (export "give-g") (param "p0" u32) (result (own $g)) (canon lift (core func $m "same")))
  (func (export "own-hs") (param "x" $hosts) (result u32)
    (canon lift (core func $m "list") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (func (export "give-gs") (param "p0" u32) (param "p1" u32) (result $owned)
    (canon lift (core func $m "listed") (memory (core memory $m "memory")))))"""
"""One component with a resource of its own, ``g``, and one of the host, ``h``.

A destructor that is called with the representation 13 traps.
"""

DIRECT = f"""(component {_IMPORTS} {_RESOURCE}
  {" ".join(_lifted(name, signature, f"${name}") for name, signature in _RAW.items())})"""
"""The same, where built-ins and lowered imports are lifted directly, without a core module in between."""


# -- two instances that define a resource each, and a third that uses both ------------------------------

_OFFERED = """(export "r" (type $r (sub resource)))
    (export "make" (func (param "rep" u32) (result (own $r))))
    (export "look" (func (param "x" (borrow $r)) (result u32)))
    (export "two" (func (param "x" (borrow $r)) (param "y" (borrow $r)) (result u32)))
    (export "take" (func (param "x" (own $r)) (result u32)))
    (export "pass" (func (param "x" (own $r)) (result (own $r))))
    (export "mix" (func (param "x" (borrow $r)) (param "y" (own $r)) (result u32)))"""

_DEFINING = """(component $defining
    (core module $log
      (global $count (mut i32) (i32.const 0))
      (global $last (mut i32) (i32.const 0))
      (func (export "dtor") (param i32)
        (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (global.set $last (local.get 0)))
      (func (export "dropped") (result i32)
        (i32.add (i32.mul (global.get $count) (i32.const 1000)) (global.get $last))))
    (core instance $log (instantiate $log))
    (type $inner (resource (rep i32) (dtor (core func $log "dtor"))))
    (export $r "r" (type $inner))
    (core func $new (canon resource.new $inner))
    (core func $rep (canon resource.rep $inner))
    (core func $drop (canon resource.drop $inner))
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
      (func (export "same") (param i32) (result i32) (local.get 0))
      (func (export "two") (param i32 i32) (result i32)
        (i32.add (i32.mul (local.get 0) (i32.const 100)) (local.get 1)))
      (func $take (export "take") (param i32) (result i32) (local i32)
        (local.set 1 (call $rep (local.get 0))) (call $drop (local.get 0)) (local.get 1))
      (func (export "mix") (param i32 i32) (result i32)
        (i32.add (i32.mul (local.get 0) (i32.const 100)) (call $take (local.get 1)))))
    (core instance $m (instantiate $m (with "" (instance
      (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
    (func (export "make") (param "rep" u32) (result (own $r)) (canon lift (core func $m "make")))
    (func (export "look") (param "x" (borrow $r)) (result u32) (canon lift (core func $m "same")))
    (func (export "two") (param "x" (borrow $r)) (param "y" (borrow $r)) (result u32)
      (canon lift (core func $m "two")))
    (func (export "take") (param "x" (own $r)) (result u32) (canon lift (core func $m "take")))
    (func (export "pass") (param "x" (own $r)) (result (own $r)) (canon lift (core func $m "same")))
    (func (export "mix") (param "x" (borrow $r)) (param "y" (own $r)) (result u32) (canon lift (core func $m "mix")))
    (func (export "dropped") (result u32) (canon lift (core func $log "dropped"))))"""

_USED = {"make": _ONE, "look": _ONE, "two": _TWO, "take": _ONE, "pass": _ONE, "mix": _TWO}
_BETWEEN = {
    **{f"{name}-{n}": signature for n in (1, 2) for name, signature in _USED.items()},
    "drop-1": "(param i32)",
    "drop-2": "(param i32)",
}
_LENDING = "\n".join(
    f"""(func (export "own-{n}") (param "x" (own $r{n})) (result u32) (canon lift (core func $m "same")))
    (func (export "give-{n}") (param "p0" u32) (result (own $r{n})) (canon lift (core func $m "same")))
    (func (export "lent-{n}") (param "x" (borrow $r{n})) (param "drop" u32) (result u32)
      (canon lift (core func $m "lent-{n}")))"""
    for n in (1, 2)
)

BETWEEN = f"""(component
  {_DEFINING}
  (component $using
    (import "a1" (instance $a1 {_OFFERED}))
    (import "a2" (instance $a2 {_OFFERED}))
    (alias export $a1 "r" (type $r1))
    (alias export $a2 "r" (type $r2))
    {" ".join(f'(core func ${name}-{n} (canon lower (func $a{n} "{name}")))' for n in (1, 2) for name in _USED)}
    {" ".join(f"(core func $drop-{n} (canon resource.drop $r{n}))" for n in (1, 2))}
    (core module $m {_wrapped(_BETWEEN)}
      (func (export "same") (param i32) (result i32) (local.get 0))
      (func (export "lent-1") (param i32 i32) (result i32)
        (call $two-1 (local.get 0) (local.get 0)) (if (local.get 1) (then (call $drop-1 (local.get 0)))))
      (func (export "lent-2") (param i32 i32) (result i32)
        (call $two-2 (local.get 0) (local.get 0)) (if (local.get 1) (then (call $drop-2 (local.get 0))))))
    (core instance $m (instantiate $m (with "" (instance {_from(_BETWEEN)}))))
    {" ".join(_lifted(name, signature, f'$m "{name}"') for name, signature in _BETWEEN.items())}
    {_LENDING})
  (instance $a1 (instantiate $defining))
  (instance $a2 (instantiate $defining))
  (export $e1 "a1" (instance $a1))
  (export $e2 "a2" (instance $a2))
  (instance $b (instantiate $using (with "a1" (instance $e1)) (with "a2" (instance $e2))))
  (export "b" (instance $b)))"""
"""Two instances of one component, ``a1`` and ``a2``, that each define a resource; ``b`` uses both."""
