"""Everything that the binary formats allow is read: padded integers and opcodes, core types in component types.

Oracle for padding: the module with shortest encodings, which has the same result and the same estimated cost.
"""

from __future__ import annotations

import pytest

from aegis import Aegis, ArtifactError
from aegis.wasm.admission import sections
from aegis.wasm.binary import BinaryReader
from aegis.wasm.cost import FunctionBody, Weights, exact, rough
from aegis.wasm.instructions import patterns_for

KNOWN = patterns_for(())


def leb(number: int, size: int = 1) -> bytes:
    """Encode an unsigned integer in at least ``size`` bytes."""
    found = []
    while number or len(found) < size:
        found.append(number & 127)
        number >>= 7
    return bytes(byte | 128 for byte in found[:-1]) + bytes(found[-1:])


def module(body: bytes, size: int = 1) -> bytes:
    """A module whose ``f`` returns an i32, with one page of memory and a table; integers have ``size`` bytes."""

    def section(number: int, data: bytes) -> bytes:
        return bytes([number]) + leb(len(data), size) + data

    code = leb(1, size) + leb(2, size) + b"\x7f" + body + b"\x0b"
    return b"".join(
        (
            b"\0asm\1\0\0\0", section(1, leb(1, size) + b"\x60" + leb(0, size) + leb(1, size) + b"\x7f"),
            section(3, leb(1, size) + leb(0, size)), section(4, leb(1, size) + b"\x70\x00" + leb(3, size)),
            section(5, leb(1, size) + b"\x00" + leb(1, size)), section(7, leb(1, size) + b"\x01f\x00" + leb(0, size)),
            section(12, leb(1, size)),
            section(10, leb(1, size) + leb(len(code), size) + code), section(11, leb(1, size) + b"\x01\x01x"),
        )
    )  # fmt: skip


I32, V128 = b"\x41\x05", b"\xfd%b" + b"\1\2\3\4" * 4
BODIES = {
    "trunc_sat": (b"\x43\x00\x00\xe0\x40\xfc", 0x00, b""),
    "trunc_sat unsigned": (b"\x44" + b"\0" * 6 + b"\x1c\x40\xfc", 0x03, b""),
    "memory.init": (b"\x41\0\x41\0\x41\0\xfc", 0x08, b"\0\0" + I32),
    "data.drop": (b"\xfc", 0x09, b"\0" + I32),
    "memory.copy": (b"\x41\0\x41\0\x41\0\xfc", 0x0A, b"\0\0" + I32),
    "memory.fill": (b"\x41\0\x41\7\x41\4\xfc", 0x0B, b"\0\x41\0\x28\x02\0"),
    "table.copy": (b"\x41\0\x41\0\x41\0\xfc", 0x0E, b"\0\0" + I32),
    "table.grow": (b"\xd0\x70\x41\1\xfc", 0x0F, b"\0"),
    "table.size": (b"\xfc", 0x10, b"\0"),
    "table.fill": (b"\x41\0\xd0\x70\x41\0\xfc", 0x11, b"\0" + I32),
    "v128.load": (b"\x41\0\xfd", 0x00, b"\4\0\xfd\x1b\0"),
    "v128.const": (b"\xfd", 0x0C, b"\1\2\3\4" * 4 + b"\xfd\x1b\0"),
    "i8x16.splat": (b"\x41\7\xfd", 0x0F, b"\xfd\x1b\0"),
    "extract_lane": (b"\x41\7\xfd\x0f\xfd", 0x1B, b"\1"),
    "load_lane": (b"\x41\0\x41\7\xfd\x0f\xfd", 0x54, b"\0\0\0\xfd\x1b\0"),
    "load_zero": (b"\x41\0\xfd", 0x5C, b"\2\0\xfd\x1b\0"),
    "i16x8.all_true": (b"\x41\7\xfd\x0f\xfd", 0x83, b""),
    "i32x4.mul": (b"\x41\7\xfd\x11\x41\6\xfd\x11\xfd", 0xB5, b"\xfd\x1b\0"),
    "typed select": (b"\x41\7\x41\6\x41\1\x1c", 0x01, b"\x7f"),
    "memory.grow": (b"\x41\1\x40", 0x00, b""),
    "i32.const": (b"\x41", 0x05, b""),
    "local.get": (b"\x20", 0x01, b""),
    "load": (b"\x41\0\x28", 0x02, b"\0"),
    "br": (b"\x02\x7f\x41\5\x0c", 0x00, b"\x0b"),
}


def cost(data: bytes) -> object:
    ((begin, until),) = [(start, end) for number, start, end in sections(data, 0, len(data)) if number == 10]
    reader = BinaryReader(data, begin, until)
    reader.leb()
    size = reader.leb()
    end = reader.at + size
    reader.leb()
    reader.leb()
    reader.byte()
    body = FunctionBody(reader.at, end, 100, 2)  # the same size for both, as the size in bytes counts too
    return exact(data, body, rough(data, body, Weights([], KNOWN)), KNOWN)


@pytest.fixture(scope="module")
def runtime() -> Aegis:
    return Aegis(cache=False)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("name", BODIES)
def test_a_padded_opcode_or_integer_is_the_same_instruction(runtime: Aegis, name: str, size: int) -> None:
    before, number, after = BODIES[name]
    short = module(before + leb(number) + after)
    padded = module(before + leb(number, size) + after, size)
    results = []
    for data in (short, padded):
        with runtime.sandbox(runtime.load(data)) as sandbox:
            results.append(sandbox.call("f"))
    assert results[0] == results[1]
    assert cost(short) == cost(padded)


@pytest.mark.parametrize("tail", [b"\x80\x80\x80\x80\x80\x00", b"\x80\x80\x80\x80\x10", b"\x92\x00", b"\x80\x01"])
def test_an_opcode_that_is_too_long_or_unknown_is_still_rejected(runtime: Aegis, tail: bytes) -> None:
    with pytest.raises(ArtifactError):
        runtime.load(module(b"\x43\0\0\0\0\xfc" + tail))


COMPONENTS = [
    "(type (component (core type (func))))",
    "(type (component (core type (func (param i32) (result f64)))))",
    "(type (instance (core type (func))))",
    "(type (component (type (instance (type (component (core type (func))))))))",
    '(type (component (core type (module (type (func)) (import "a" "b" (func (type 0))) (export "x" (memory 1 2))))))',
    '(type (component (core type $m (module)) (import "m" (core module (type $m)))))',
    "(type (component (core type $t (module)) (type (instance (alias outer 1 $t (core type $x)) "
    '(export "m" (core module (type $x)))))))',
    '(core type $f (func)) (core type (module (alias outer 1 $f (type)) (import "a" "b" (func (type 0)))))',
    '(core type (module (export "t" (table 1 funcref)) (export "g" (global (mut i32)))))',
]


@pytest.mark.parametrize("text", COMPONENTS)
def test_a_core_type_inside_a_component_type_is_read(runtime: Aegis, text: str) -> None:
    component = runtime.load_wat(f'(component {text} (core module $m (func (export "f") (result i32) i32.const 7)) '
                                 '(core instance $i (instantiate $m)) '
                                 '(func (export "f") (result u32) (canon lift (core func $i "f"))))')  # fmt: skip
    with runtime.sandbox(component) as sandbox:
        assert sandbox.call("f") == 7
