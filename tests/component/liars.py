"""Guests that pass arbitrary raw values to the canonical ABI, and strategies for invalid ones.

A core function that returns its argument unchanged turns a number into a value of any type: the guest below is lifted
as ``func(raw: u32) -> T``. In the same way, a list of bytes becomes the memory image of a ``T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from aegis.wit.types import Enum, Flags, Function, List, Option, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Some
from tests.echo import TypeSection, align_of, case_bytes, flat, payload_offset, size_of

__all__ = [
    "AIMS",
    "LENGTHS",
    "LOWERED",
    "MEMORY_BYTES",
    "POINTERS",
    "aimed_exports",
    "flat_images",
    "forwarder_lines",
    "images",
    "lifting_liar",
    "lifting_liar_lines",
    "lowering_liar",
    "lowering_liar_lines",
    "stream_liar",
]

MEMORY_BYTES = 65536

# Memory that strings and lists may point to: characters of one to four bytes, numbers, surrogates, invalid UTF-8.
_PATTERN = (
    b"plain text\0\1\2\3\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0\xd8\0\xdc\0\xd8a\0\x08\0\0\0"
    b"\2\0\0\0\x40\0\0\0\1\0\0\0\xff\xfe\x80\xc0\xaf\xed\xa0\x80\xff\xff\xff\xff\0\0\0\0"
)


def _escaped(data: bytes) -> str:
    return "".join(f"\\{octet:02x}" for octet in data)


_MEMORY = f"""(memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (data (i32.const 8) "{_escaped(_PATTERN)}")
    (data (i32.const {MEMORY_BYTES - len(_PATTERN)}) "{_escaped(_PATTERN)}")
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (memory.copy (local.get $at) (local.get 0)
        (select (local.get 1) (local.get 3) (i32.lt_u (local.get 1) (local.get 3))))
      (local.get $at))"""

# Large enough for any value in 64 KiB, so that the realloc of the receiving component never fails.
_AMPLE_MEMORY = _MEMORY.replace('"memory") 1)', '"memory") 64)')

_OPTIONS = 'string-encoding={encoding} (memory (core memory $m "memory")) (realloc (core func $m "realloc"))'


def lifting_liar(of: WitType, encoding: str = "utf8") -> str:
    """Return a component that passes raw images as values of ``of``.

    Exports: ``as-result(image) -> of`` returns the address of the bytes, or the number they encode for a type with one
    core value; ``as-argument(image)`` passes the same to the import ``take(x: of)``. An image has eight bytes for each
    core value if values are passed flat.
    """
    return "\n".join(["(component", *lifting_liar_lines(of, encoding), ")"])


def lifting_liar_lines(of: WitType, encoding: str) -> list[str]:
    """Return the definitions of such a component, without the surrounding parentheses."""
    types = TypeSection()
    name, octets = types.of(of), types.of(List("u8"))
    cores = flat(of)
    options = _OPTIONS.format(encoding=encoding)
    loads = " ".join(f"({core}.load offset={8 * n} (local.get 0))" for n, core in enumerate(cores))
    given = "(local.get 0)" if len(cores) > 16 else loads
    params = "i32" if len(cores) > 16 else " ".join(cores)
    result, returned = ("i32", "(local.get 0)") if len(cores) > 1 else (cores[0], loads)
    return [
        *types.lines,
        f"""  (import "take" (func $take (param "x" {name})))
  (core module $memory {_MEMORY})
  (core instance $m (instantiate $memory))
  (core func $take (canon lower (func $take) {options}))
  (core module $liar
    (import "m" "memory" (memory 1))
    (import "m" "take" (func $take (param {params})))
    (func (export "as-result") (param i32 i32) (result {result}) {returned})
    (func (export "as-argument") (param i32 i32) {given} (call $take)))
  (core instance $i (instantiate $liar (with "m" (instance
    (export "memory" (memory $m "memory")) (export "take" (func $take))))))
  (func (export "as-result") (param "x" {octets}) (result {name})
    (canon lift (core func $i "as-result") {options}))
  (func (export "as-argument") (param "x" {octets}) (canon lift (core func $i "as-argument") {options}))""",
    ]


def stream_liar(of: WitType, encoding: str = "utf8") -> str:
    """Return a component that passes raw images as elements.

    ``listed(image, count)`` returns the bytes as a list of ``count`` values, ``stream(image, count)`` as the elements
    of a stream, which one write offers, and ``future(image)`` as the value of a future.
    """
    types = TypeSection()
    name = types.of(of)
    options = _OPTIONS.format(encoding=encoding)
    result = f'string-encoding={encoding} (memory (core memory $m "memory"))'
    newline = "\n"
    exports = {
        "listed": '(param "image" $O) (param "count" u32) (result $L)',
        "stream": '(param "image" $O) (param "count" u32) (result $S)',
        "future": '(param "image" $O) (result $F)',
    }
    builtins = {
        "s-new": ("stream.new $S", "(result i64)"), "f-new": ("future.new $F", "(result i64)"),
        "s-write": (f"stream.write $S async {options}", "(param i32 i32 i32) (result i32)"),
        "f-write": (f"future.write $F async {options}", "(param i32 i32) (result i32)"),
        "set-new": ("waitable-set.new", "(result i32)"), "join": ("waitable.join", "(param i32 i32)"),
        "return-listed": (f"task.return (result $L) {result}", "(param i32 i32)"),
        "return-stream": (f"task.return (result $S) {result}", "(param i32)"),
        "return-future": (f"task.return (result $F) {result}", "(param i32)"),
    }  # fmt: skip
    wait = """(local.set $set (call $set-new))
      (call $join (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))) (local.get $set))
      (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4)))"""
    end = "(i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32)))"
    return f"""(component
{newline.join(types.lines)}
  (type $O (list u8))
  (type $L (list {name})) (type $S (stream {name})) (type $F (future {name}))
  (core module $memory {_MEMORY})
  (core instance $m (instantiate $memory))
{newline.join(f"  (core func ${word} (canon {text}))" for word, (text, _) in builtins.items())}
  (core module $liar
{newline.join(f'    (import "" "{word}" (func ${word} {of}))' for word, (_, of) in builtins.items())}
    (func (export "listed") (param i32 i32 i32) (result i32)
      (call $return-listed (local.get 0) (local.get 2)) (i32.const 0))
    (func (export "stream") (param i32 i32 i32) (result i32) (local $pair i64) (local $set i32)
      (local.set $pair (call $s-new))
      (call $return-stream (i32.wrap_i64 (local.get $pair)))
      (drop (call $s-write {end} (local.get 0) (local.get 2))) {wait})
    (func (export "future") (param i32 i32) (result i32) (local $pair i64) (local $set i32)
      (local.set $pair (call $f-new))
      (call $return-future (i32.wrap_i64 (local.get $pair)))
      (drop (call $f-write {end} (local.get 0))) {wait})
    (func (export "cb") (param i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $liar (with "" (instance
{newline.join(f'    (export "{word}" (func ${word}))' for word in builtins)}))))
{
        newline.join(
            f'''  (func (export "{word}") async {of}
    (canon lift (core func $i "{word}") async {options} (callback (core func $i "cb"))))'''
            for word, of in exports.items()
        )
    }
)"""


def lowering_liar(of: WitType, encoding: str = "utf8") -> str:
    """Return a component that receives values of ``of`` at addresses chosen by the test.

    ``aim(a, b, c, d)`` sets the results of the next calls of ``realloc``; the last is repeated. ``take(x: of)``
    receives a value, ``fetch(at)`` lets the import ``give`` return one to address ``at``, and ``count`` returns the
    number of ``realloc`` calls.
    """
    return "\n".join(["(component", *lowering_liar_lines(of, encoding), ")"])


def lowering_liar_lines(of: WitType, encoding: str) -> list[str]:
    """Return the definitions of such a component, without the surrounding parentheses."""
    types = TypeSection()
    name = types.of(of)
    cores = flat(of)
    options = _OPTIONS.format(encoding=encoding)
    params = "i32" if len(cores) > 16 else " ".join(cores)
    pointed = len(cores) > 1
    gives = "(param i32)" if pointed else f"(result {cores[0]})"
    fetch = "(call $give (local.get 0))" if pointed else "(drop (call $give))"
    globals_ = "\n".join(f"    (global $p{n} (mut i32) (i32.const 1024))" for n in range(4))
    return [
        *types.lines,
        f"""  (import "give" (func $give (result {name})))
  (core module $memory
    (memory (export "memory") 1)
    (global $count (mut i32) (i32.const 0))
{globals_}
    (func (export "aim") (param i32 i32 i32 i32)
      (global.set $p0 (local.get 0)) (global.set $p1 (local.get 1))
      (global.set $p2 (local.get 2)) (global.set $p3 (local.get 3)))
    (func (export "count") (result i32) (global.get $count))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (local.set $at (global.get $p0))
      (global.set $p0 (global.get $p1))
      (global.set $p1 (global.get $p2))
      (global.set $p2 (global.get $p3))
      (local.get $at)))
  (core instance $m (instantiate $memory))
  (core func $give (canon lower (func $give) {options}))
  (core module $liar
    (import "m" "give" (func $give {gives}))
    (func (export "fetch") (param i32) {fetch})
    (func (export "take") (param {params})))
  (core instance $i (instantiate $liar (with "m" (instance (export "give" (func $give))))))
  (func (export "aim") (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32)
    (canon lift (core func $m "aim")))
  (func (export "count") (result u32) (canon lift (core func $m "count")))
  (func (export "fetch") (param "at" u32) (canon lift (core func $i "fetch")))
  (func (export "take") (param "x" {name}) (canon lift (core func $i "take") {options}))""",
    ]


def forwarder_lines(function: str, param: WitType, result: WitType | None, encoding: str) -> list[str]:
    """Return the definitions of a component whose export passes its argument to the import of the same name."""
    types = TypeSection()
    # The result's types are defined first, so that they have the same names as in the other components.
    returns = "" if result is None else f" (result {types.of(result)})"
    signature = f'(param "x" {types.of(param)}){returns}'
    options = _OPTIONS.format(encoding=encoding)
    params = flat(param) if len(flat(param)) <= 16 else ["i32"]
    results = [] if result is None else flat(result)
    given = " ".join(f"(local.get {n})" for n in range(len(params)))
    imported, returned, call = " ".join(params), " ".join(results), f"{given} (call $f)"
    if len(results) > 1:
        imported, returned = f"{imported} i32", "i32"
        call = f"{given} (i32.const 16) (call $f) (i32.const 16)"
    came = "" if len(results) > 1 else returned
    return [
        *types.lines,
        f"""  (import "{function}" (func $f {signature}))
  (core module $memory {_AMPLE_MEMORY})
  (core instance $m (instantiate $memory))
  (core func $f (canon lower (func $f) {options}))
  (core module $forward
    (import "m" "f" (func $f (param {imported}) (result {came})))
    (func (export "f") (param {" ".join(params)}) (result {returned}) {call}))
  (core instance $i (instantiate $forward (with "m" (instance (export "f" (func $f))))))
  (func (export "{function}") {signature} (canon lift (core func $i "f") {options}))""",
    ]


# -- memory images --------------------------------------------------------------------------------------

_POINTERS = st.integers(0, 80) | st.sampled_from(
    (4096, MEMORY_BYTES - 64, MEMORY_BYTES - 8, MEMORY_BYTES - 1, MEMORY_BYTES, MEMORY_BYTES + 8, 0x7FFF_FFF8,
     0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFF)
)  # fmt: skip
_LENGTHS = st.integers(0, 12) | st.sampled_from(
    (64, 0x0FFF_FFFF, 0x1000_0000, 0x1FFF_FFFF, 0x2000_0000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0x8000_0004,
     0xFFFF_FFFF)
)  # fmt: skip
_CHARS = st.sampled_from((0, 0x41, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0x10FFFF, 0x110000, 0xFFFF_FFFF))


def images(of: WitType) -> st.SearchStrategy[bytes]:
    """Memory images of ``of``, most of them almost valid."""
    match of:
        case "string" | List():
            return st.tuples(_POINTERS, _LENGTHS).map(lambda pair: b"".join(n.to_bytes(4, "little") for n in pair))
        case "char":
            return _CHARS.map(lambda n: n.to_bytes(4, "little"))
        case str() | Flags():
            return st.binary(min_size=size_of(of), max_size=size_of(of))
        case Enum(cases=names):
            return _discriminants(len(names), size_of(of))
        case Option(element):
            return _cases([None, element], of)
        case Result(ok, err):
            return _cases([ok, err], of)
        case Variant(cases=cases):
            return _cases([t for _, t in cases], of)
        case Record(fields=fields):
            return _laid([t for _, t in fields], of)
        case Tuple(elements):
            return _laid(elements, of)
    raise AssertionError(of)


def _discriminants(count: int, width: int) -> st.SearchStrategy[bytes]:
    right = st.integers(0, count - 1)
    wrong = st.sampled_from((count, (1 << 8 * width) - 1)).map(lambda n: min(n, (1 << 8 * width) - 1))
    return st.one_of(right, right, right, wrong).map(lambda n: n.to_bytes(width, "little"))


def _cases(payloads: Sequence[WitType | None], of: WitType) -> st.SearchStrategy[bytes]:
    width, at = case_bytes(len(payloads)), payload_offset(of)
    inner = st.one_of(*(st.just(b"") if t is None else images(t) for t in payloads))
    pairs = st.tuples(_discriminants(len(payloads), width), inner)
    return pairs.map(lambda pair: (pair[0].ljust(at, b"\xee") + pair[1]).ljust(size_of(of), b"\xee"))


def _laid(parts: Sequence[WitType], of: WitType) -> st.SearchStrategy[bytes]:
    def joined(pieces: Sequence[bytes]) -> bytes:
        made = b""
        for part, piece in zip(parts, pieces, strict=True):
            made = made.ljust(-(-len(made) // align_of(part)) * align_of(part), b"\xee") + piece
        return made.ljust(size_of(of), b"\xee")

    return st.tuples(*map(images, parts)).map(joined)


def words(of: WitType) -> st.SearchStrategy[list[int]]:
    """Flat core values of ``of``, most of them almost valid, as 64 bits each."""
    match of:
        case "string" | List():
            return st.tuples(_POINTERS, _LENGTHS).map(list)
        case "char":
            return _CHARS.map(lambda n: [n])
        case "bool":
            return st.sampled_from((0, 1, 2, 0x100, 0xFFFF_FFFF)).map(lambda n: [n])
        case str() | Flags():
            return (st.integers(0, 2**64 - 1) | st.sampled_from((0x80, 0x8000, 0xFFFF_FFFF))).map(lambda n: [n])
        case Enum(cases=names):
            return _tags(len(names)).map(lambda n: [n])
        case Option(element):
            return _joined([None, element], of)
        case Result(ok, err):
            return _joined([ok, err], of)
        case Variant(cases=cases):
            return _joined([t for _, t in cases], of)
        case Record(fields=fields):
            return st.tuples(*(words(t) for _, t in fields)).map(lambda pieces: list(chain.from_iterable(pieces)))
        case Tuple(elements):
            return st.tuples(*map(words, elements)).map(lambda pieces: list(chain.from_iterable(pieces)))
    raise AssertionError(of)


def _tags(count: int) -> st.SearchStrategy[int]:
    right = st.integers(0, count - 1)
    return st.one_of(right, right, right, st.sampled_from((count, 0x100, 0x1_0000, 0xFFFF_FFFF)))


def _joined(payloads: Sequence[WitType | None], of: WitType) -> st.SearchStrategy[list[int]]:
    """A case number and its payload; core values that the payload does not use are arbitrary."""
    rest = len(flat(of)) - 1
    inner = st.one_of(*(st.just([]) if t is None else words(t) for t in payloads))
    junk = st.lists(st.integers(0, 2**64 - 1), min_size=rest, max_size=rest)
    # A 32-bit payload may be joined to a 64-bit value, whose upper half is arbitrary.
    upper = st.sampled_from((0, 0, 0xDEAD_BEEF << 32))
    return st.tuples(_tags(len(payloads)), inner, junk, upper).map(
        lambda t: [t[0], *(word if word >> 32 else word | t[3] for word in t[1]), *t[2][len(t[1]) :]]
    )


def flat_images(of: WitType) -> st.SearchStrategy[bytes]:
    """Arguments of ``as-argument``, and of ``as-result`` for a type with one core value."""
    return words(of).map(lambda given: b"".join((word & 2**64 - 1).to_bytes(8, "little") for word in given))


# -- what a guest says of addresses and lengths -------------------------------------------------------

POINTERS = (0, 1, 2, 4, 8, MEMORY_BYTES - 8, MEMORY_BYTES - 1, MEMORY_BYTES, MEMORY_BYTES + 8, 0x8000_0000, 0xFFFF_FFF8,
            0xFFFF_FFFF)  # fmt: skip
LENGTHS = (0, 1, 2, 4, 7, 8, 0x1FFF, 0x2000, 0xFFFF, 0x0FFF_FFFF, 0x1000_0000, 0x1FFF_FFFF, 0x2000_0000, 0x4000_0000,
           0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0x8000_0004, 0x8000_8000, 0xC000_0000, 0xFFFF_FFFF)  # fmt: skip

LOWERED: list[tuple[WitType, Any]] = [
    ("string", "text é"), ("string", ""), ("string", "é€ and more"), (List("u8"), b"bytes"), (List("u8"), b""),
    (List("u16"), [1, 2]), (List("u64"), [1, 2]), (List("string"), ["a", "bc"]), (List(List("u32")), [[1], []]),
    (Tuple(("u64",) * 17), tuple(range(17))), (Tuple(("u8", "string")), (1, "a")), (Option("u64"), Some(1)),
    (Record("r", tuple((f"f{n}", "u8") for n in range(20))), {f"f{n}": n for n in range(20)}),
]  # fmt: skip
AIMS = ((0, 0, 0), (1, 1, 1), (2, 2, 2), (4, 4, 4), (1024, 1, 1025), (1024, MEMORY_BYTES - 1, 0), (1024, 1030, 1028),
        *((n,) * 3 for n in POINTERS[5:]), (1024, 0xFFFF_FFFF, 0), (MEMORY_BYTES - 2,) * 3,
        (MEMORY_BYTES - 6,) * 3)  # fmt: skip


def aimed_exports(of: WitType) -> dict[str, Function]:
    """Return the types of the exports of a lowering liar."""
    return {
        "aim": Function(tuple((name, "u32") for name in "abcd")), "count": Function((), "u32"),
        "fetch": Function((("at", "u32"),)), "take": Function((("x", of),)),
    }  # fmt: skip
