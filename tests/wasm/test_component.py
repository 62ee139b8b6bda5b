"""Decoding components: every encoding has its name, every malformed byte is an error, work is bounded by the size."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import ArtifactError
from aegis.values import FuncType
from aegis.wasm.component import PREAMBLE, decode_component
from aegis.wasm.definitions import (
    Alias,
    Builtin,
    CanonicalOptions,
    ComponentDefinition,
    CompoundType,
    CoreInstanceDefinition,
    CoreTypeDefinition,
    ExportDefinition,
    Extern,
    FunctionType,
    HandleType,
    ImportDefinition,
    InstanceDefinition,
    LabelledType,
    LiftDefinition,
    LowerDefinition,
    ModuleDefinition,
    ModuleType,
    ResourceRep,
    ScopeType,
    StartFunction,
    TypeDefinition,
    ValueDefinition,
)
from tests.component.inputs import components, leb, part, vec


def definitions(text: str) -> list[Any]:
    return list(decode_component(text_to_binary(text)).root.definitions)


def types(text: str) -> list[Any]:
    return [d.type for d in definitions(text) if isinstance(d, TypeDefinition)]


def malformed(data: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        decode_component(data)
    return str(caught.value)


PRIMITIVES = ["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"]
FORMS = [
    ('(record (field "a" u8) (field "b-c" string))', LabelledType("record", (("a", "u8"), ("b-c", "string")))),
    ('(variant (case "a") (case "b" u8))', LabelledType("variant", (("a", None), ("b", "u8")))),
    ('(flags "a" "b")', LabelledType("flags", (("a", None), ("b", None)))),
    ('(enum "a" "b")', LabelledType("enum", (("a", None), ("b", None)))),
    ("(list char)", CompoundType("list", ("char",))),
    ("(list u8 4)", CompoundType("list", ("u8",), 4)),
    ("(tuple u8 f64)", CompoundType("tuple", ("u8", "f64"))),
    ("(option s8)", CompoundType("option", ("s8",))),
    ("(result)", CompoundType("result", (None, None))),
    ("(result u8)", CompoundType("result", ("u8", None))),
    ("(result (error u8))", CompoundType("result", (None, "u8"))),
    ("(result u8 (error s8))", CompoundType("result", ("u8", "s8"))),
    ("(stream u8)", CompoundType("stream", ("u8",))),
    ("(stream)", CompoundType("stream", (None,))),
    ("(future string)", CompoundType("future", ("string",))),
    ("(map string u8)", CompoundType("map", ("string", "u8"))),
    ("error-context", CompoundType("primitive", ("error-context",))),
    ('(func (param "a" u8) (result s8))', FunctionType((("a", "u8"),), "s8", False)),
    ("(func async)", FunctionType((), None, True)),
    ("(resource (rep i32))", ResourceRep("i32", None)),
]


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_is_read(name: str) -> None:
    assert types(f"(component (type {name}))") == [CompoundType("primitive", (name,))]
    assert types(f"(component (type (list {name})))") == [CompoundType("list", (name,))]


@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[text for text, _ in FORMS])
def test_every_form_of_types_is_read(text: str, expected: object) -> None:
    assert types(f"(component (type {text}))") == [expected]


def test_type_indices_of_every_length_are_read() -> None:
    count = 70  # the encodings of 64 and above take two bytes
    text = "(component " + "(type u8)" * count + "".join(f"(type (list {n}))" for n in range(count)) + ")"
    assert [t.parts[0] for t in types(text)[count:]] == list(range(count))
    far = PREAMBLE + part(7, vec(b"\x70\x80\x80\x80\x80\x08", b"\x70\xff\xff\xff\xff\x0f"))
    assert [d.type.parts[0] for d in decode_component(far).root.definitions] == [1 << 31, (1 << 32) - 1]  # type: ignore[union-attr]


def test_handles_and_destructors_name_their_resources() -> None:
    text = """(component
      (core module $m (func (export "d") (param i32))) (core instance $m (instantiate $m))
      (alias core export $m "d" (core func $d)) (type $r (resource (rep i32) (dtor (core func $d))))
      (type (own $r)) (type (borrow $r)))"""
    assert types(text) == [ResourceRep("i32", 0), HandleType("own", 0), HandleType("borrow", 0)]


def test_scopes_hold_every_declaration() -> None:
    text = """(component (type u8)
      (type (component
        (type (func)) (alias outer 1 0 (type)) (core type (func (param i32) (result i64)))
        (core type (module (import "a" "b" (func)) (import "a" "m" (memory 1 2)) (export "t" (table 1 funcref))
          (export "g" (global (mut i32)))))
        (import "f" (func (type 0))) (import "r" (type (sub resource))) (export "q" (type (eq 1)))
        (export "m" (core module (type 1)))))
      (type (instance (export "v" (type (sub resource))))))"""
    component, instance = types(text)[1:]
    assert isinstance(component, ScopeType)
    assert component.kind == "component"
    assert component.declarations == (
        TypeDefinition(FunctionType((), None, False)), Alias("outer", "type", 0, "", 1),
        CoreTypeDefinition(FuncType(("i32",), ("i64",))),
        CoreTypeDefinition(ModuleType((("a", "b", "func"), ("a", "m", "memory")), (("t", "table"), ("g", "global")))),
        ImportDefinition("f", Extern("func", 0)), ImportDefinition("r", Extern("type", None)),
        ExportDefinition("q", "type", None, Extern("type", 1)),
        ExportDefinition("m", "core module", None, Extern("core module", 1)),
    )  # fmt: skip
    assert instance == ScopeType("instance", (ExportDefinition("v", "type", None, Extern("type", None)),))


def test_every_definition_is_read() -> None:
    text = """(component
      (import "f" (func $f (param "x" string))) (import "i" (instance $i (export "g" (func))))
      (core module $m (memory (export "m") 1) (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable))
      (core instance $m (instantiate $m)) (core instance (export "x" (memory $m "m")))
      (alias export $i "g" (func $g))
      (core func (canon lower (func $f) string-encoding=utf16 (memory (core memory $m "m"))
        (realloc (core func $m "r"))))
      (component $c (import "a" (func))) (instance (instantiate $c (with "a" (func $g))))
      (instance (export "e" (func $g)))
      (func (type 0) (canon lift (core func 0)))
      (export "out" (func $g) (func)))"""
    found = definitions(text)
    kinds = [type(d).__name__ for d in found if not isinstance(d, (TypeDefinition, Alias))]
    assert kinds == [
        "ImportDefinition", "ImportDefinition", "ModuleDefinition", "CoreInstanceDefinition",
        "CoreInstanceDefinition", "LowerDefinition",
        "ComponentDefinition", "InstanceDefinition", "InstanceDefinition", "LiftDefinition", "ExportDefinition",
    ]  # fmt: skip
    for expected in (
        ModuleDefinition(0), CoreInstanceDefinition(0, ()), CoreInstanceDefinition(None, (("x", "memory", 0),)),
        Alias("export", "func", 0, "g", 0), Alias("core export", "memory", 0, "m", 0),
        LowerDefinition(0, CanonicalOptions("utf16", 1, 0)), LiftDefinition(0, CanonicalOptions(), 0),
        InstanceDefinition(0, (("a", "func", 1),)), InstanceDefinition(None, (("e", "func", 1),)),
    ):  # fmt: skip
        assert expected in found
    last = found[-1]
    assert isinstance(last, ExportDefinition)
    assert (last.name, last.sort, last.item, last.extern and last.extern.sort) == ("out", "func", 1, "func")
    inner = next(d for d in found if isinstance(d, ComponentDefinition))
    assert [type(d) for d in inner.definitions] == [TypeDefinition, ImportDefinition]


def test_canonical_options_are_all_read() -> None:
    options = b"\x02\x03\1\x04\2\x05\3\x06\x07\4\x08\5\x09"
    data = PREAMBLE + part(8, vec(b"\0\0\7\x08" + options + b"\x09"))
    (lift,) = decode_component(data).root.definitions
    assert lift == LiftDefinition(7, CanonicalOptions("latin1+utf16", 1, 2, 3, True, 4, 5, True), 9)


IMMEDIATES = {
    "t": (b"\3", 3),
    "r": (b"\0\x79", "u32"),
    "v": (b"\x7f", "i32"),
    "o": (b"\1\3\7", 7),
    "f": (b"\1", 1),
    "i": (b"\5", 5),
}
BUILTINS = {
    "resource.new": "02 t", "resource.drop": "03 t", "resource.rep": "04 t", "task.cancel": "05",
    "subtask.cancel": "06 f", "task.return": "09 r o", "context.get": "0a v i", "context.set": "0b v i",
    "thread.yield": "0c f", "subtask.drop": "0d", "stream.new": "0e t", "stream.read": "0f t o",
    "stream.write": "10 t o", "stream.cancel-read": "11 t f", "stream.cancel-write": "12 t f",
    "stream.drop-readable": "13 t", "stream.drop-writable": "14 t", "future.new": "15 t", "future.read": "16 t o",
    "future.write": "17 t o", "future.cancel-read": "18 t f", "future.cancel-write": "19 t f",
    "future.drop-readable": "1a t", "future.drop-writable": "1b t", "error-context.new": "1c o",
    "error-context.debug-message": "1d o", "error-context.drop": "1e", "waitable-set.new": "1f",
    "waitable-set.wait": "20 f i", "waitable-set.poll": "21 f i", "waitable-set.drop": "22", "waitable.join": "23",
    "backpressure.inc": "24", "backpressure.dec": "25", "thread.index": "26", "thread.new-indirect": "27 i i",
    "thread.resume-later": "28", "thread.suspend": "29 f", "thread.suspend-then-resume": "2a f",
    "thread.yield-then-resume": "2b f", "thread.suspend-then-promote": "2c f", "thread.yield-then-promote": "2d f",
    "stream.forward": "2e t", "future.forward": "2f t", "thread.spawn-ref": "40 f i",
    "thread.spawn-indirect": "41 f i i", "thread.available-parallelism": "42 f",
}  # fmt: skip
"""From Binary.md: the code of each canonical built-in, and its immediates."""


@pytest.mark.parametrize("name", BUILTINS)
def test_every_canonical_builtin_is_read(name: str) -> None:
    code, *shape = BUILTINS[name].split()
    encoded = bytes.fromhex(code) + b"".join(IMMEDIATES[kind][0] for kind in shape)
    (found,) = decode_component(PREAMBLE + part(8, vec(encoded))).root.definitions
    assert isinstance(found, Builtin)
    assert found.name == name
    assert found.type == next((IMMEDIATES[kind][1] for kind in shape if kind in "trv"), None)
    assert found.options == (CanonicalOptions(memory=7) if "o" in shape else None)
    assert found.immediates == tuple(IMMEDIATES[kind][1] for kind in shape if kind in "fi")


@pytest.mark.parametrize(
    "name", ["task.cancel", "waitable-set.new", "backpressure.inc", "subtask.drop", "thread.index"]
)
def test_the_engines_text_encodes_builtins_alike(name: str) -> None:
    (found,) = definitions(f"(component (core func (canon {name})))")
    assert found == Builtin(name)


def test_a_start_function_and_values_are_read() -> None:
    data = PREAMBLE + part(9, b"\3" + vec(b"\1", b"\2") + b"\4") + part(12, vec(b"\x7d\1\x2a", b"\5\2ab"))
    start, first, second = decode_component(data).root.definitions
    assert start == StartFunction(3, (1, 2), 4)
    assert (first, second) == (ValueDefinition("u8", b"\x2a"), ValueDefinition(5, b"ab"))


def test_names_have_attributes() -> None:
    attributes = vec(b"\0\3i:j", b"\2\1x")
    data = PREAMBLE + part(7, vec(b"\x40\0\1\0")) + part(10, vec(b"\2\1a" + attributes + b"\1\0", b"\1\1b\1\0"))
    _, first, second = decode_component(data).root.definitions
    assert first == ImportDefinition("a", Extern("func", 0), (("implements", "i:j"), ("external-id", "x")))
    assert second == ImportDefinition("b", Extern("func", 0))


def test_modules_keep_their_position_and_their_contents() -> None:
    data = text_to_binary('(component (core module (memory 1)) (component (core module (func (export "f")))))')
    binary = decode_component(data)
    assert [data[m.start : m.start + 8] for m in binary.modules] == [b"\0asm\1\0\0\0"] * 2
    assert binary.modules[0].info.memories[0].minimum == 1
    assert binary.modules[1].export_types() == {("f", "func"): FuncType()}
    assert (binary.components, binary.root.definitions[0]) == (1, ModuleDefinition(0))


LIST = part(7, vec(b"\x70\x7d"))
BROKEN = {
    "preamble": (
        b"\0asm\x0c\0\1\0",
        "has version 0xc of the binary format, and Aegis reads 0xd: it was built by an older or newer toolchain",
    ),
    "newer preamble": (b"\0asm\x0e\1\1\0", "has version 0x10e of the binary format"),
    "nested preamble": (PREAMBLE + part(4, b"\0asm\1\0\0\0"), "has an invalid preamble"),
    "nested module": (PREAMBLE + part(1, PREAMBLE), "a core module has an invalid preamble"),
    "section": (PREAMBLE + b"\x0d\0", "section 13 does not exist"),
    "section size": (PREAMBLE + b"\7\x7f", "a length reaches past the end"),
    "trailing byte": (PREAMBLE + part(7, vec(b"\x7d") + b"\0"), "the type section is longer than its content"),
    "two start functions": (PREAMBLE + part(9, b"\0\0\0\0\0\0"), "the start section is longer"),
    "count": (PREAMBLE + part(7, b"\x7f\x7d"), "a count is larger than its section"),
    "type": (PREAMBLE + part(7, vec(b"\x6c\0")), "0x6c is not a type of a component"),
    "value type": (PREAMBLE + part(7, vec(b"\x70\x6c")), "0x6c is not a value type"),
    "negative index": (PREAMBLE + part(7, vec(b"\x70\xff\x7f")), "0xff is not a value type"),
    "index of 33 bits": (PREAMBLE + part(7, vec(b"\x70\x80\x80\x80\x80\x10")), "0x80 is not a value type"),
    "end in a type": (PREAMBLE + part(7, vec(b"\x70")), "unexpected end"),
    "refined case": (PREAMBLE + part(7, vec(b"\x71" + vec(b"\1a\0\1"))), "refines another"),
    "flag": (PREAMBLE + part(7, vec(b"\x66\2")), "0x02 is not a flag"),
    "results": (PREAMBLE + part(7, vec(b"\x40\0\2")), "0x02 is not a list of results"),
    "several results": (PREAMBLE + part(7, vec(b"\x40\0\1\1")), "several results"),
    "declaration": (PREAMBLE + part(7, vec(b"\x42" + vec(b"\3\0\1a\1\0"))), "not a declaration of an instance type"),
    "bound": (PREAMBLE + part(10, vec(b"\0\1a\3\2")), "0x02 is not a bound of types"),
    "extern": (PREAMBLE + part(10, vec(b"\0\1a\6\0")), "0x06 is not a description of an import"),
    "core extern": (PREAMBLE + part(10, vec(b"\0\1a\0\0\0")), "0x00 is not a core sort that a component can pass"),
    "name form": (PREAMBLE + part(10, vec(b"\3\1a\1\0")), "0x03 is not a form of names"),
    "attribute": (PREAMBLE + part(10, vec(b"\2\1a\1\3\1b\1\0")), "0x03 is not an attribute"),
    "name": (PREAMBLE + part(10, vec(b"\0\2\xff\xfe\1\0")), "a name is not UTF-8"),
    "sort": (PREAMBLE + part(11, vec(b"\0\1a\6\0\0")), "0x06 is not a sort"),
    "alias sort": (PREAMBLE + part(6, vec(b"\6\0\0\1a")), "0x06 is not a sort"),
    "alias core sort": (PREAMBLE + part(6, vec(b"\0\5\0\0\1a")), "0x05 is not a core sort"),
    "alias target": (PREAMBLE + part(6, vec(b"\1\3\0\1a")), "'func' has the target 0x03"),
    "alias of another world": (PREAMBLE + part(6, vec(b"\1\1\0\1a")), "'func' has the target 0x01"),
    "outer alias": (PREAMBLE + part(6, vec(b"\1\2\0\0")), "'func' has the target 0x02"),
    "core instance": (PREAMBLE + part(2, vec(b"\2\0")), "0x02 is not a core instance"),
    "core argument": (PREAMBLE + part(2, vec(b"\0\0" + vec(b"\1a\x11\0"))), "0x11 is not a sort of arguments"),
    "core export": (PREAMBLE + part(2, vec(b"\1" + vec(b"\1a\x12\0"))), "0x12 is not a core sort that a module"),
    "instance": (PREAMBLE + part(5, vec(b"\2\0")), "0x02 is not an instance"),
    "canonical": (PREAMBLE + part(8, vec(b"\x08")), "0x08 is not a canonical definition"),
    "lifted sort": (PREAMBLE + part(8, vec(b"\0\1\0\0\0")), "0x01 is not a sort that can be lifted or lowered"),
    "option": (PREAMBLE + part(8, vec(b"\1\0\0\1\x0a")), "0x0a is not a canonical option"),
    "option twice": (PREAMBLE + part(8, vec(b"\1\0\0\2\3\0\3\0")), "option 'memory' is given twice"),
    "encoding twice": (PREAMBLE + part(8, vec(b"\1\0\0\2\0\1")), "option 'encoding' is given twice"),
    "options": (PREAMBLE + part(8, vec(b"\1\0\0\x0b" + b"\6" * 11)), "more than 10 options"),
    "core type": (PREAMBLE + part(3, vec(b"\x61")), "0x61 is not a core type"),
    "gc core type": (PREAMBLE + part(3, vec(b"\x5f\0")), "the WebAssembly proposal 'gc'"),
    "module declaration": (PREAMBLE + part(3, vec(b"\x50" + vec(b"\4"))), "0x04 is not a declaration of a core module"),
    "module alias": (PREAMBLE + part(3, vec(b"\x50" + vec(b"\2\x11\1\0\0"))), "is not one of an outer type"),
    "module limits": (PREAMBLE + part(3, vec(b"\x50" + vec(b"\3\1a\2\x10\0"))), "0x10 is not a kind of limits"),
    "value": (PREAMBLE + part(12, vec(b"\x7d\5\0")), "a length reaches past the end"),
    "custom name": (PREAMBLE + part(0, b"\5ab"), "a length reaches past the end"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_unknown_encoding_is_refused_by_name(what: str) -> None:
    data, message = BROKEN[what]
    assert message in malformed(data)
    if what not in ("preamble", "section size"):
        assert message in malformed(PREAMBLE + part(4, data))


def test_each_item_counts_towards_the_bytes() -> None:
    """Oracle: an item of one byte counts as nine, so a quarter of a million of them exceeds the limit."""
    data = PREAMBLE + part(7, vec(*[b"\x7d"] * 1000))
    assert decode_component(data).size == 8 + 1002 + 8 * 1000
    most = (2 << 20) // 9 - 10
    assert decode_component(PREAMBLE + part(7, leb(most) + b"\x7d" * most)).root.size <= 2 << 20
    assert "more than 2,097,152 bytes" in malformed(PREAMBLE + part(7, leb(most + 100) + b"\x7d" * (most + 100)))
    labels = vec(*[b"\1a"] * 100_000)
    assert "more than 2,097,152 bytes" in malformed(PREAMBLE + part(7, vec(b"\x6e" + labels)) * 3)


def test_components_within_count_on_their_own() -> None:
    binary = decode_component(text_to_binary("(component (type u8) (component (type u8) (component (type u8))))"))
    inner = next(d for d in binary.root.definitions if isinstance(d, ComponentDefinition))
    innermost = next(d for d in inner.definitions if isinstance(d, ComponentDefinition))
    assert innermost.size == 8 + 2 + 8
    assert inner.size == binary.root.size == innermost.size + 8  # and the section that contains a component
    assert binary.size == inner.size * 2 + innermost.size


@given(st.binary(max_size=200))
@settings(max_examples=400, derandomize=True)
def test_any_bytes_are_decoded_or_refused(tail: bytes) -> None:
    """Oracle: decoding returns, or raises ``ArtifactError``."""
    with contextlib.suppress(ArtifactError):
        assert decode_component(PREAMBLE + tail).size >= 8 * len(decode_component(PREAMBLE + tail).sections)


@pytest.mark.parametrize("number", [2, 3, 5, 6, 7, 8, 9, 10, 11, 12])
def test_any_section_is_decoded_or_refused(number: int) -> None:
    """Oracle: as above, for sections of each kind with random bytes that are often valid there."""
    choose = random.Random(number)
    alphabet = [0, 0, 0, 1, 1, 2, 3, 4, 5, 7, 0x11, 0x12, 0x3F, 0x40, 0x41, 0x42, 0x50, 0x60, *range(0x63, 0x80)]
    for _ in range(3000):
        content = bytes(choose.choices(alphabet, k=choose.randrange(20)))
        with contextlib.suppress(ArtifactError):
            decode_component(PREAMBLE + part(number, content))


def test_every_component_at_hand_is_decoded_or_refused() -> None:
    decoded = 0
    for data in components().values():
        with contextlib.suppress(ArtifactError):
            binary = decode_component(data)
            decoded += 1
            assert all(data[m.start : m.start + 4] == b"\0asm" for m in binary.modules)
            assert binary.size <= len(data) * 9
    assert decoded > 0.9 * len(components())
