"""Components that give back what they get, for any WIT type: text made from the type.

``echo: func(x: T) -> T`` is exported, and what it gets goes through the imported function of the same type:
so a value is lowered as an argument, lifted as a host's parameter, lowered as a host's result, and lifted as
a result. The guest in between copies nothing itself: the canonical ABI does.
"""

from __future__ import annotations

from aegis.wit.types import Enum, Flags, List, Option, Record, Result, Tuple, Variant, WitType

__all__ = ["echo_component", "flat"]

_CORE = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
_MAX_PARAMS = 16


def flat(of: WitType) -> list[str]:
    """Return the core types that a value of ``of`` is passed as (CanonicalABI.md, "Flattening")."""
    match of:
        case "string" | List():
            return ["i32", "i32"]
        case str():
            return [_CORE.get(of, "i32")]
        case Record():
            return [core for _, field in of.fields for core in flat(field)]
        case Tuple(elements):
            return [core for element in elements for core in flat(element)]
        case Option(element):
            return ["i32", *flat(element)]
        case Result(ok, err):
            return ["i32", *_joined([[] if t is None else flat(t) for t in (ok, err)])]
        case Variant():
            return ["i32", *_joined([[] if t is None else flat(t) for _, t in of.cases])]
        case Flags() | Enum():
            return ["i32"]
    raise AssertionError(of)


def _joined(cases: list[list[str]]) -> list[str]:
    joined: list[str] = []
    for case in cases:
        for n, core in enumerate(case):
            if n == len(joined):
                joined.append(core)
            elif joined[n] != core:
                joined[n] = "i32" if {joined[n], core} == {"i32", "f32"} else "i64"
    return joined


class _Types:
    """Component type definitions, one line a type that is not a primitive."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, text: str) -> str:
        self.lines.append(f"  (type $t{len(self.lines)} {text})")
        return f"$t{len(self.lines) - 1}"

    def named(self, text: str) -> str:
        """Define a record, variant, enum or flags: such a type has to be exported, or imported, by a name."""
        made = self.add(text)
        number = len(self.lines)
        self.lines.append(f'  (import "t{number}" (type $t{number} (eq {made})))')
        return f"$t{number}"

    def of(self, of: WitType) -> str:
        match of:
            case str():
                return of
            case List(element):
                return self.add(f"(list {self.of(element)})")
            case Option(element):
                return self.add(f"(option {self.of(element)})")
            case Tuple(elements):
                return self.add(f"(tuple {' '.join(map(self.of, elements))})")
            case Result(ok, err):
                good = "" if ok is None else f" {self.of(ok)}"
                return self.add(f"(result{good}{'' if err is None else f' (error {self.of(err)})'})")
            case Record():
                return self.named(
                    f"(record {' '.join(f'(field {chr(34)}{n}{chr(34)} {self.of(t)})' for n, t in of.fields)})"
                )
            case Variant():
                cases = (f'(case "{n}"{"" if t is None else f" {self.of(t)}"})' for n, t in of.cases)
                return self.named(f"(variant {' '.join(cases)})")
            case Enum():
                return self.named(f"(enum {' '.join(f'{chr(34)}{n}{chr(34)}' for n in of.cases)})")
            case Flags():
                return self.named(f"(flags {' '.join(f'{chr(34)}{n}{chr(34)}' for n in of.names)})")
        raise AssertionError(of)


def echo_component(of: WitType) -> str:
    """Return the text of a component whose export ``echo`` gives its argument to the import ``echo``."""
    types = _Types()
    name = types.of(of)
    cores = flat(of)
    params = cores if len(cores) <= _MAX_PARAMS else ["i32"]
    pointed = len(cores) > 1
    imported = [*params, "i32"] if pointed else params
    result = "" if not cores else f"(result {'i32' if pointed else cores[0]})"
    import_result = "" if pointed else result
    gets = " ".join(f"(local.get {n})" for n in range(len(params)))
    body = (
        f"{gets} (call $echo)"
        if not pointed
        else (
            f"(local.set {len(params)} (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 65536))) "
            f"{gets} (local.get {len(params)}) (call $echo) (local.get {len(params)})"
        )
    )
    newline = "\n"
    reset = "reset" if pointed or cores[0] == "i32" else f"reset-{cores[0]}"
    return f"""(component
{newline.join(types.lines)}
  (import "echo" (func $echo (param "x" {name}) (result {name})))
  (core module $memory
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get $new)))
      (block $enough (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
        (br $grow)))
      (local.get $at))
    (func (export "reset") (param i32) (global.set $next (i32.const 1024)))
    (func (export "reset-i64") (param i64) (global.set $next (i32.const 1024)))
    (func (export "reset-f32") (param f32) (global.set $next (i32.const 1024)))
    (func (export "reset-f64") (param f64) (global.set $next (i32.const 1024))))
  (core instance $memory (instantiate $memory))
  (core func $lowered (canon lower (func $echo)
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $shim
    (import "h" "echo" (func $echo (param {" ".join(imported)}) {import_result}))
    (import "h" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (func (export "echo") (param {" ".join(params)}) {result} (local i32) {body}))
  (core instance $shim (instantiate $shim (with "h" (instance
    (export "echo" (func $lowered)) (export "realloc" (func $memory "realloc"))))))
  (func (export "echo-back") (param "x" {name}) (result {name})
    (canon lift (core func $shim "echo")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))
      (post-return (core func $memory "{reset}"))))
)"""
