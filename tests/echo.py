"""Components that return their argument, for any WIT type: text generated from the type.

``echo: func(x: T) -> T`` is exported, and passes its argument to an imported function of the same type. So a value is
lowered as an argument, lifted as a host's parameter, lowered as a host's result, and lifted as a result. The guest in
between copies nothing itself: the canonical ABI does.

:func:`logging_echo_component` generates guests with several parameters and any string encoding, which also log each
call of their ``realloc`` and post-return function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aegis.wit.types import Enum, Flags, Future, List, Option, Record, Result, Stream, Tuple, Variant, WitType

__all__ = [
    "Manner", "TypeSection", "align_of", "case_bytes", "echo_component", "echo_many_component", "echoed_type", "flat",
    "logging_echo_component", "logging_echo_lines", "own_echo_component", "payload_offset", "signature_of", "size_of",
    "store_flat",
]  # fmt: skip

_CORE = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
_MAX_PARAMS = 16


def flat(of: WitType) -> list[str]:
    """Return the core types of a flattened value (CanonicalABI.md, "Flattening")."""
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
        case Flags() | Enum() | Stream() | Future():
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


class TypeSection:
    """Component type definitions, one line for each type that is not a primitive."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, text: str) -> str:
        self.lines.append(f"  (type $t{len(self.lines)} {text})")
        return f"$t{len(self.lines) - 1}"

    def imported(self) -> list[str]:
        """Return the names of the types that are exported under a name."""
        return [f"t{n}" for n, line in enumerate(self.lines) if line.startswith("  (import ")]

    def named(self, text: str) -> str:
        """Define a record, variant, enum or flags: such a type has to be exported or imported under a name."""
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
            case Stream(element) | Future(element):
                kind = "stream" if isinstance(of, Stream) else "future"
                return self.add(f"({kind}{'' if element is None else f' {self.of(element)}'})")
            case Flags():
                return self.named(f"(flags {' '.join(f'{chr(34)}{n}{chr(34)}' for n in of.names)})")
        raise AssertionError(of)


def align_of(of: WitType) -> int:
    """Return the alignment of a value in memory (CanonicalABI.md, "Alignment")."""
    match of:
        case "bool" | "s8" | "u8":
            return 1
        case "s16" | "u16":
            return 2
        case "s64" | "u64" | "f64":
            return 8
        case str() | List() | Stream() | Future():
            return 4
        case Flags(names=names):
            return 1 if len(names) <= 8 else 2 if len(names) <= 16 else 4
        case Enum(cases=cases):
            return case_bytes(len(cases))
    return (
        max(align_of(t) for t in _parts(of)) if not _cases(of) else max(case_bytes(len(_cases(of))), _payload_align(of))
    )


def case_bytes(count: int) -> int:
    """Return the number of bytes of the discriminant of a type with this many cases."""
    return 1 if count <= 1 << 8 else 2 if count <= 1 << 16 else 4


def _cases(of: WitType) -> list[WitType | None]:
    match of:
        case Option(element):
            return [None, element]
        case Result(ok, err):
            return [ok, err]
        case Variant(cases=cases):
            return [t for _, t in cases]
    return []


def _parts(of: WitType) -> list[WitType]:
    return [t for _, t in of.fields] if isinstance(of, Record) else list(of.elements)  # type: ignore[union-attr]


def _payload_align(of: WitType) -> int:
    return max([1, *(align_of(t) for t in _cases(of) if t is not None)])


def _up(at: int, align: int) -> int:
    return -(-at // align) * align


def _size(of: WitType) -> int:
    """Return the size of a value in memory in bytes (CanonicalABI.md, "Element Size")."""
    match of:
        case "string" | List():
            return 8
        case str() | Enum() | Flags() | Stream() | Future():
            return align_of(of)
    if _cases(of):
        at = payload_offset(of) + max([0, *(_size(t) for t in _cases(of) if t is not None)])
        return _up(at, align_of(of))
    at = 0
    for part in _parts(of):
        at = _up(at, align_of(part)) + _size(part)
    return _up(at, align_of(of))


def payload_offset(of: WitType) -> int:
    """Return the offset of the payload in a variant, an option or a result."""
    return _up(case_bytes(len(_cases(of))), _payload_align(of))


_STORES = {"s64": "i64.store", "u64": "i64.store", "f32": "f32.store", "f64": "f64.store", "string": "i32.store"}


def _store(of: WitType, values: list[str], at: int) -> list[str]:
    """Return instructions that store the flat ``values`` at the address in local ``$at`` plus ``at``."""
    match of:
        case "string" | List():
            return [f"(i32.store offset={at + 4 * n} (local.get $at) {value})" for n, value in enumerate(values)]
        case str() | Enum() | Flags():
            width = align_of(of)
            small = {1: "i32.store8", 2: "i32.store16", 4: "i32.store"}
            code = _STORES.get(of) if isinstance(of, str) else None
            return [f"({code or small[width]} offset={at} (local.get $at) {values[0]})"]
    if _cases(of):
        return _store_case(of, values, at)
    lines = []
    inside = taken = 0
    for part in _parts(of):
        count = len(flat(part))
        inside = _up(inside, align_of(part))
        lines += _store(part, values[taken : taken + count], at + inside)
        inside, taken = inside + _size(part), taken + count
    return lines


def _store_case(of: WitType, values: list[str], at: int) -> list[str]:
    width = {1: "i32.store8", 2: "i32.store16", 4: "i32.store"}[case_bytes(len(_cases(of)))]
    lines = [f"({width} offset={at} (local.get $at) {values[0]})"]
    joined = flat(of)[1:]
    for number, payload in enumerate(_cases(of)):
        if payload is None:
            continue
        own = flat(payload)
        given = [_unjoin(values[n + 1], joined[n], core) for n, core in enumerate(own)]
        inner = " ".join(_store(payload, given, at + payload_offset(of)))
        lines.append(f"(if (i32.eq {values[0]} (i32.const {number})) (then {inner}))")
    return lines


def _unjoin(value: str, joined: str, core: str) -> str:
    """Convert ``value``, passed as core type ``joined``, to the core type of a case."""
    if joined == core:
        return value
    as_i32 = value if joined == "i32" else f"(i32.wrap_i64 {value})"
    return {"i32": as_i32, "f32": f"(f32.reinterpret_i32 {as_i32})", "f64": f"(f64.reinterpret_i64 {value})"}[core]


def store_flat(of: WitType, values: list[str]) -> list[str]:
    """Return instructions that store the flat ``values`` of ``of`` at the address in local ``$at``."""
    return _store(of, values, 0)


def own_echo_component(of: WitType) -> str:
    """Return the text of a component whose export ``echo-back`` returns its argument, without calling the host."""
    types = TypeSection()
    name = types.of(of)
    cores = flat(of)
    params = cores if len(cores) <= _MAX_PARAMS else ["i32"]
    if len(cores) == 1:
        result, body = cores[0], "(local.get 0)"
    elif len(cores) > _MAX_PARAMS:
        result, body = "i32", "(local.get 0)"
    else:
        stores = " ".join(_store(of, [f"(local.get {n})" for n in range(len(params))], 0))
        result = "i32"
        space = f"(call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {_size(of)}))"
        body = f"(local.set $at {space}) {stores} (local.get $at)"
    newline = "\n"
    return f"""(component
{newline.join(types.lines)}
  (core module $m
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 1024))
    {_REALLOC}
    (func (export "echo") (param {" ".join(params)}) (result {result}) (local $at i32) {body})
    (func (export "reset") (param {result}) (global.set $next (i32.const 1024))))
  (core instance $m (instantiate $m))
  (func (export "echo-back") (param "x" {name}) (result {name})
    (canon lift (core func $m "echo") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))
      (post-return (core func $m "reset"))))
)"""


_REALLOC = """(func $realloc (export "realloc")
      (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get $new)))
      (block $enough (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
        (br $grow)))
      (local.get $at))"""


def echo_component(of: WitType) -> str:
    """Return the text of a component whose export ``echo-back`` passes its argument to the import ``echo``."""
    return _echo_components({"": of})


def echo_many_component(types: Sequence[WitType]) -> str:
    """Return the text of a component with exports ``echo-back-0``, … that call the imports ``echo-0``, …"""
    return _echo_components({f"-{n}": of for n, of in enumerate(types)})


def _echo_components(wanted: Mapping[str, WitType]) -> str:
    types = TypeSection()
    names = {end: types.of(of) for end, of in wanted.items()}
    cores = {end: flat(of) for end, of in wanted.items()}
    imports = [
        f'  (import "echo{end}" (func $echo{end} (param "x" {name}) (result {name})))' for end, name in names.items()
    ]
    lines = [
        "(component", *types.lines, *imports, _MEMORY, *map(_lowered, wanted), "  (core module $shim",
        *(_shim_import(end, core) for end, core in cores.items()),
        '    (import "h" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))',
        *(_shim(end, core) for end, core in cores.items()), "  )",
        '  (core instance $shim (instantiate $shim (with "h" (instance',
        *(f'    (export "echo{end}" (func $lowered{end}))' for end in wanted),
        '    (export "realloc" (func $memory "realloc"))))))',
        *(_lifted(end, names[end], core) for end, core in cores.items()), ")",
    ]  # fmt: skip
    return "\n".join(lines)


_MEMORY = f"""  (core module $memory
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 1024))
    {_REALLOC}
    (func (export "reset-i32") (param i32) (global.set $next (i32.const 1024)))
    (func (export "reset-i64") (param i64) (global.set $next (i32.const 1024)))
    (func (export "reset-f32") (param f32) (global.set $next (i32.const 1024)))
    (func (export "reset-f64") (param f64) (global.set $next (i32.const 1024))))
  (core instance $memory (instantiate $memory))"""


def _lowered(end: str) -> str:
    return f"""  (core func $lowered{end} (canon lower (func $echo{end})
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))"""


def _passed(cores: list[str]) -> tuple[list[str], str, bool]:
    """Return how a function passes its values: core parameters, core result, and which of them are in memory."""
    params = cores if len(cores) <= _MAX_PARAMS else ["i32"]
    pointed = len(cores) > 1
    return params, "" if not cores else f"(result {'i32' if pointed else cores[0]})", pointed


def _shim_import(end: str, cores: list[str]) -> str:
    params, result, pointed = _passed(cores)
    imported = " ".join([*params, "i32"] if pointed else params)
    return f'    (import "h" "echo{end}" (func $echo{end} (param {imported}) {"" if pointed else result}))'


def _shim(end: str, cores: list[str]) -> str:
    params, result, pointed = _passed(cores)
    gets = " ".join(f"(local.get {n})" for n in range(len(params)))
    body = f"{gets} (call $echo{end})"
    if pointed:
        at = len(params)
        space = "(call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 65536))"
        body = f"(local.set {at} {space}) {gets} (local.get {at}) (call $echo{end}) (local.get {at})"
    return f'    (func (export "echo{end}") (param {" ".join(params)}) {result} (local i32) {body})'


def _lifted(end: str, name: str, cores: list[str]) -> str:
    reset = "i32" if len(cores) > 1 else cores[0]
    return f"""  (func (export "echo-back{end}") (param "x" {name}) (result {name})
    (canon lift (core func $shim "echo{end}")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))
      (post-return (core func $memory "reset-{reset}"))))"""


# -- guests that write down what is asked of them ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """The properties of a guest of :func:`logging_echo_component`.

    ``through`` passes the values to the import ``echo``; without it the guest stores its result itself. ``odd`` makes
    ``realloc`` return addresses that have the requested alignment and no more.
    """

    through: bool = False
    encoding: str = "utf8"
    post_return: bool = True
    odd: bool = False


def echoed_type(params: Sequence[WitType]) -> WitType:
    """Return the result type of an echo function with these parameters: the single type, or a tuple."""
    return params[0] if len(params) == 1 else Tuple(tuple(params))


def size_of(of: WitType) -> int:
    """Return the size of a value in memory in bytes."""
    return _size(of)


def logging_echo_component(params: Sequence[WitType], manner: Manner) -> str:
    """Return the text of a component whose export ``echo-back`` returns its arguments, and ``log`` its log.

    The log is a ``list<u32>`` with four numbers per entry: the arguments of a ``realloc`` call; 0xFFFFFFFE and zeros
    when the function is entered; 0xFFFFFFFF, the argument and zeros when the post-return function is called.
    """
    return "\n".join(["(component", *logging_echo_lines(params, manner), ")"])


def signature_of(params: Sequence[WitType], types: TypeSection) -> tuple[str, str]:
    """Return the signature of an echo function of these types, and the name of a log type, which ``types`` defines."""
    names = [types.of(of) for of in params]
    result = names[0] if len(params) == 1 else types.add(f"(tuple {' '.join(names)})")
    given = " ".join(f'(param "p{n}" {name})' for n, name in enumerate(names))
    return f"{given} (result {result})", types.add("(list u32)")


def logging_echo_lines(params: Sequence[WitType], manner: Manner) -> list[str]:
    """Return the definitions of such a component, without the surrounding parentheses."""
    types = TypeSection()
    signature, listed = signature_of(params, types)
    of = echoed_type(params)
    cores = flat(of)
    options = f"""string-encoding={manner.encoding} (memory (core memory $memory "memory"))
      (realloc (core func $memory "realloc"))"""
    reset = "i32" if len(cores) > 1 else cores[0]
    post = f'(post-return (core func $memory "reset-{reset}"))' if manner.post_return else ""
    imported = lowered = linked = ""
    if manner.through:
        imported = f'  (import "echo" (func $echo {signature}))'
        lowered = f"  (core func $lowered (canon lower (func $echo) {options}))"
        linked = '(export "echo" (func $lowered))'
    lines = [
        *types.lines, imported, _logging_memory(odd=manner.odd), lowered, "  (core module $shim",
        *_logging_shim(of, cores, through=manner.through), "  )",
        '  (core instance $shim (instantiate $shim (with "h" (instance',
        f'    (export "memory" (memory $memory "memory")) (export "alloc" (func $memory "alloc")) {linked}',
        '    (export "entered" (func $memory "entered"))))))',
        f'  (func (export "echo-back") {signature} (canon lift (core func $shim "echo") {options} {post}))',
        f'  (func (export "log") (result {listed})',
        '    (canon lift (core func $memory "log") (memory (core memory $memory "memory"))))',
    ]  # fmt: skip
    return list(filter(None, lines))


def _logging_shim(of: WitType, cores: list[str], *, through: bool) -> list[str]:
    params, result, pointed = _passed(cores)
    gets = [f"(local.get {n})" for n in range(len(params))]
    at = len(params)
    space = f"(local.set {at} (call $alloc (i32.const 8) (i32.const {_size(of)})))"
    imported = ""
    if through:
        taken = " ".join([*params, "i32"] if pointed else params)
        imported = f'    (import "h" "echo" (func $echo (param {taken}) {"" if pointed else result}))'
        body = f"{' '.join(gets)} (call $echo)"
        if pointed:
            body = f"{space} {' '.join(gets)} (local.get {at}) (call $echo) (local.get {at})"
    elif not pointed or len(cores) > _MAX_PARAMS:
        body = gets[0]
    else:
        # The base address of a store is the local $at; a name refers to the local with the allocated address.
        body = f"{space} {' '.join(_store(of, gets, 0))} (local.get {at})"
    return [
        imported,
        '    (import "h" "memory" (memory 1))',
        '    (import "h" "alloc" (func $alloc (param i32 i32) (result i32)))',
        '    (import "h" "entered" (func $entered))',
        f'    (func (export "echo") (param {" ".join(params)}) {result} (local $at i32) (call $entered) {body})',
    ]


def _logging_memory(*, odd: bool) -> str:
    """Return a module with the memory, its allocator and its log, which is stored between 1,024 and 65,536."""
    kinds = {"i32": "(local.get 0)", "i64": "(i32.const 0)", "f32": "(i32.const 0)", "f64": "(i32.const 0)"}
    resets = "\n".join(
        f"""    (func (export "reset-{kind}") (param {kind})
      (call $note (i32.const -1) {shown} (i32.const 0) (i32.const 0))
      (global.set $next (i32.const 65536)))"""
        for kind, shown in kinds.items()
    )
    return f"""  (core module $memory
    (memory (export "memory") 8)
    (global $next (mut i32) (i32.const 65536))
    (global $log (mut i32) (i32.const 1024))
    (func $note (param i32 i32 i32 i32)
      (if (i32.ge_u (global.get $log) (i32.const 65536)) (then return))
      (i32.store (global.get $log) (local.get 0))
      (i32.store offset=4 (global.get $log) (local.get 1))
      (i32.store offset=8 (global.get $log) (local.get 2))
      (i32.store offset=12 (global.get $log) (local.get 3))
      (global.set $log (i32.add (global.get $log) (i32.const 16))))
    (func $alloc (export "alloc") (param $align i32) (param $size i32) (result i32) (local $at i32) (local $twice i32)
      (local.set $twice (i32.shl (local.get $align) (i32.const 1)))
      (local.set $at (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $twice) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $twice))))
      {"(local.set $at (i32.add (local.get $at) (local.get $align)))" if odd else ""}
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (block $enough (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
        (br $grow)))
      (local.get $at))
    (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32)
      (call $note (local.get $old) (local.get $size) (local.get $align) (local.get $new))
      (local.set $at (call $alloc (local.get $align) (local.get $new)))
      (memory.copy (local.get $at) (local.get $old)
        (select (local.get $size) (local.get $new) (i32.lt_u (local.get $size) (local.get $new))))
      (local.get $at))
    (func (export "entered") (call $note (i32.const -2) (i32.const 0) (i32.const 0) (i32.const 0)))
    (func (export "log") (result i32)
      (i32.store (i32.const 16) (i32.const 1024))
      (i32.store (i32.const 20) (i32.shr_u (i32.sub (global.get $log) (i32.const 1024)) (i32.const 2)))
      (i32.const 16))
{resets})
  (core instance $memory (instantiate $memory))"""
