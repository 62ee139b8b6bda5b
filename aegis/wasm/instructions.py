"""Find instructions in a function body with regular expressions, which skip straight-line code without running Python.

:data:`BRANCHES` finds the instructions for which the compiler creates branches, :data:`ACCESSES` also accesses of
locals, :data:`REACHES` calls and accesses of memory. Each match is a token. A ``br_table`` ends a run of tokens,
because a regular expression cannot count its targets. An opcode after a prefix may be padded, as any LEB128 integer.

Source: core specification 2.0, section 5.4, for the proposals that Aegis supports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aegis.support.lean import NamedTuple
from aegis.wasm.binary import BinaryReader, Malformed

__all__ = [
    "ACCESSES", "BLOCK", "BRANCHES", "BR_TABLE", "BULK", "END", "IF", "LOCAL_GET", "LOCAL_SET", "LOCAL_TEE", "LOOP",
    "MEMORY_GROW", "REACHES", "TABLE_GROW", "BranchTable", "runs",
]  # fmt: skip

BLOCK, LOOP, IF, END, BR_TABLE = 0x02, 0x03, 0x04, 0x0B, 0x0E
LOCAL_GET, LOCAL_SET, LOCAL_TEE, MEMORY_GROW = 0x20, 0x21, 0x22, 0x40
BULK, TABLE_GROW = 0xFC, 0x0F
"""The prefix of bulk instructions, and the opcode of ``table.grow`` after it."""
_PROPOSALS = {
    **dict.fromkeys((0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F), "exceptions"),
    **dict.fromkeys((0x14, 0x15, 0xD3, 0xD4, 0xD5, 0xD6), "function-references"),
    **dict.fromkeys(range(0xE0, 0xE7), "stack-switching"),
    0xFB: "gc",
    0xFE: "threads",
}

_INT = rb"[\x80-\xff]{0,9}[\x00-\x7f]"  # bounded, so that bytes without an end cause no long search
_MEMORY = rb"(?:(?:[\x00-\x3f]|[\x80-\xbf]%b)|(?:[\x40-\x7f]|[\xc0-\xff]%b)%b)%b" % ((_INT,) * 4)
_LOCAL = rb"[\x20-\x22]%b" % _INT


def _sub(opcodes: bytes) -> bytes:
    """Return the pattern of an opcode after a prefix, a LEB128 integer below 128 that may be padded to five bytes.

    ``opcodes`` has single opcodes, and ranges with a dash, like a character class.
    """
    short, continued = (
        b"".join(b"-" if c == 0x2D else b"\\x%02x" % (c | bit) for c in opcodes) for bit in (0x00, 0x80)
    )
    return rb"(?:[%b]|[%b]\x80{0,3}\x00)" % (short, continued)


_HIGH = rb"[\x80-\xff](?:\x01|\x81\x80{0,2}\x00)"
"""An opcode from 128 to 255 after a prefix."""
_PLAIN = b"|".join(
    (
        rb"[\x01\x1a\x1b\x45-\xc4\xd1]",  # nop, drop, select, numeric, ref.is_null
        rb"[\x10\x12\x23\x24\x3f\x41\x42\xd0\xd2]%b" % _INT,  # call, globals, memory.size, constants, references
        rb"[\x28-\x3e]%b" % _MEMORY,
        rb"\x43.{4}|\x44.{8}|\x1c(?:\x01|\x81\x80{0,3}\x00).",  # floating-point constants, select with a type
        rb"\xfc(?:%b|%b%b)" % (_sub(b"\x00-\x07"), _sub(b"\x09\x0d\x10"), _INT),  # conversions, drops, table.size
        rb"\xfd(?:%b%b|%b%b.|%b.{16}|%b.)"
        % (_sub(b"\x00-\x0b\x5c\x5d"), _MEMORY, _sub(b"\x54-\x5b"), _MEMORY, _sub(b"\x0c\x0d"), _sub(b"\x15-\x22")),
        rb"\xfd(?:%b|%b)" % (_sub(b"\x0e-\x14\x23-\x53\x5e-\x7f"), _HIGH),
    )
)
_BRANCH = b"|".join(
    (
        rb"[\x00\x05\x0b\x0f]",  # unreachable, else, end, return
        rb"[\x02-\x04\x0c\x0d]%b" % _INT,  # block, loop, if, br, br_if
        rb"[\x25\x26\x40]%b|[\x11\x13]%b%b" % ((_INT,) * 3),  # tables, memory.grow, indirect calls: they test
        rb"\xfc(?:%b%b|%b%b%b)"  # bulk instructions
        % (_sub(b"\x0b\x0f\x11"), _INT, _sub(b"\x08\x0a\x0c\x0e"), _INT, _INT),
    )
)

# The last alternative matches a byte of an unknown instruction or of a br_table, so that the token shows it.
BRANCHES = re.compile(rb"(?:%b|%b)*+(%b|\Z|.)" % (_LOCAL, _PLAIN, _BRANCH), re.DOTALL)
ACCESSES = re.compile(rb"(?:%b)*+(%b|%b|\Z|.)" % (_PLAIN, _LOCAL, _BRANCH), re.DOTALL)
_REACH = rb"[\x10-\x13\x28-\x3e]|\xfc%b|\xfd%b" % (_sub(b"\x08-\x0b"), _sub(b"\x00-\x0b\x54-\x5d"))
REACHES = re.compile(  # calls, loads and stores
    rb"(?:(?!%b)(?:%b|%b|%b))*+(%b|%b|\Z|.)" % (_REACH, _LOCAL, _PLAIN, _BRANCH, _PLAIN, _BRANCH), re.DOTALL
)
_RUN = re.compile(rb"(?:%b|%b|%b)*+" % (_LOCAL, _PLAIN, _BRANCH), re.DOTALL)


class BranchTable(NamedTuple):
    """A ``br_table``; ``branches`` is its cost: its distinct labels, and a fraction for each target."""

    branches: int


def runs(data: bytes, start: int, end: int, tokens: re.Pattern[bytes]) -> Iterator[list[bytes] | BranchTable]:
    """Yield the tokens before each ``br_table`` and the table; raise :class:`Malformed` for an unknown instruction."""
    while True:
        match = _RUN.match(data, start, end)
        until = match.end() if match else start
        yield tokens.findall(data, start, until)
        if until == end:
            return
        if data[until] != BR_TABLE:
            raise Malformed(_unknown(data, until))
        reader = BinaryReader(data, until + 1, end)
        targets = reader.count() + 1
        labels = {reader.leb() for _ in range(targets)}
        yield BranchTable(len(labels) + targets // 30)
        start = reader.at


def _unknown(data: bytes, at: int) -> str:
    op, sub = data[at], data[at + 1 : at + 2]
    proposal = _PROPOSALS.get(op) or ("wide-arithmetic" if op == 0xFC and sub and 0x13 <= sub[0] <= 0x16 else None)
    if op == 0xFD and data[at + 2 : at + 3] == b"\x02":
        proposal = "relaxed-simd"
    if proposal is None:
        return f"unknown instruction at byte {at:,}: {data[at : at + 4].hex(' ')}"
    return f"the module uses the WebAssembly proposal {proposal!r}, which Aegis does not support: build it without"
