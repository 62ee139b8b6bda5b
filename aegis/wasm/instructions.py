"""Find instructions in a function body with regular expressions, which skip straight-line code without running Python.

The tokens of :attr:`Patterns.branches` are the instructions for which the compiler creates branches; ``accesses`` adds
accesses of locals; ``reaches`` has calls and accesses of memory, ``constants`` integer constants. A ``br_table`` and a
``try_table`` end a run of tokens, because a regular expression cannot count their labels. An opcode after a prefix may
be padded, as any LEB128 integer. An instruction of a proposal is known only if the proposal is enabled.

Source: core specification 3.0, section 5.4, for the proposals that Aegis supports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from aegis.support.lean import NamedTuple
from aegis.wasm.binary import BinaryReader, Malformed

__all__ = [
    "BLOCK", "BR_TABLE", "BULK", "END", "IF", "LOCAL_GET", "LOCAL_SET", "LOCAL_TEE", "LOOP",
    "MEMORY_GROW", "TABLE_GROW", "TRY_TABLE", "BranchTable", "Patterns", "TryTable", "patterns_for", "runs", "up_to",
]  # fmt: skip

BLOCK, LOOP, IF, END, BR_TABLE, TRY_TABLE = 0x02, 0x03, 0x04, 0x0B, 0x0E, 0x1F
LOCAL_GET, LOCAL_SET, LOCAL_TEE, MEMORY_GROW = 0x20, 0x21, 0x22, 0x40
BULK, TABLE_GROW = 0xFC, 0x0F
"""The prefix of bulk instructions, and the opcode of ``table.grow`` after it."""
_PROPOSALS = {
    **dict.fromkeys((0x06, 0x07, 0x09, 0x18, 0x19), "legacy-exceptions"),
    **dict.fromkeys((0x08, 0x0A, 0x1F), "exceptions"),
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
_RELAXED = rb"[\x80-\x93](?:\x02|\x82\x80{0,2}\x00)"
"""An opcode from 256 to 275 after a prefix."""
_PLAIN = (
    rb"[\x01\x1a\x1b\x45-\xc4\xd1]",  # nop, drop, select, numeric, ref.is_null
    rb"[\x10\x12\x23\x24\x3f\x41\x42\xd0\xd2]%b" % _INT,  # call, globals, memory.size, constants, references
    rb"[\x28-\x3e]%b" % _MEMORY,
    rb"\x43.{4}|\x44.{8}|\x1c(?:\x01|\x81\x80{0,3}\x00).",  # floating-point constants, select with a type
    rb"\xfc(?:%b|%b%b)" % (_sub(b"\x00-\x07"), _sub(b"\x09\x0d\x10"), _INT),  # conversions, drops, table.size
    rb"\xfd(?:%b%b|%b%b.|%b.{16}|%b.)"
    % (_sub(b"\x00-\x0b\x5c\x5d"), _MEMORY, _sub(b"\x54-\x5b"), _MEMORY, _sub(b"\x0c\x0d"), _sub(b"\x15-\x22")),
    rb"\xfd(?:%b|%b)" % (_sub(b"\x0e-\x14\x23-\x53\x5e-\x7f"), _HIGH),
)
_BRANCH = (
    rb"[\x00\x05\x0b\x0f]",  # unreachable, else, end, return
    rb"[\x02-\x04\x0c\x0d]%b" % _INT,  # block, loop, if, br, br_if
    rb"[\x25\x26\x40]%b|[\x11\x13]%b%b" % ((_INT,) * 3),  # tables, memory.grow, indirect calls: they test
    rb"\xfc(?:%b%b|%b%b%b)"  # bulk instructions
    % (_sub(b"\x0b\x0f\x11"), _INT, _sub(b"\x08\x0a\x0c\x0e"), _INT, _INT),
)
_MORE_PLAIN = {
    "relaxed-simd": rb"\xfd%b" % _RELAXED,
    "wide-arithmetic": rb"\xfc%b" % _sub(b"\x13-\x16"),
}
_MORE_BRANCH = {"exceptions": rb"\x0a|\x08%b" % _INT}  # throw_ref, throw
_REACH = rb"[\x10-\x13\x28-\x3e]|\xfc%b|\xfd%b" % (_sub(b"\x08-\x0b"), _sub(b"\x00-\x0b\x54-\x5d"))


class Patterns(NamedTuple):
    """The expressions for one set of enabled proposals."""

    branches: re.Pattern[bytes]
    accesses: re.Pattern[bytes]
    reaches: re.Pattern[bytes]
    """Calls, loads and stores."""
    tries: re.Pattern[bytes]
    """Calls, and the instructions that open, divide and close blocks."""
    constants: re.Pattern[bytes]
    """Integer constants, each with the opcode that follows it."""
    run: re.Pattern[bytes]
    """All instructions up to the next table of labels."""
    with_tries: bool
    """Whether ``try_table`` is known."""


def patterns_for(proposals: Iterable[str]) -> Patterns:
    """Return the expressions for code that may use these proposals."""
    return _patterns(frozenset(proposals))


@cache
def _patterns(proposals: frozenset[str]) -> Patterns:
    plain = b"|".join((*_PLAIN, *(more for name, more in _MORE_PLAIN.items() if name in proposals)))
    branch = b"|".join((*_BRANCH, *(more for name, more in _MORE_BRANCH.items() if name in proposals)))
    reaches = rb"(?:(?!%b)(?:%b|%b|%b))*+(%b|%b|\Z|.)" % (_REACH, _LOCAL, plain, branch, plain, branch)
    tries = rb"(?:(?![\x02-\x05\x08\x0a\x0b\x10-\x13])(?:%b|%b|%b))*+(%b|%b|\Z|.)"
    constants = rb"(?:(?![\x41\x42])(?:%b|%b|%b))*+([\x41\x42]%b(?=(.?))|\Z|.)" % (_LOCAL, plain, branch, _INT)
    # The last alternative matches a byte of an unknown instruction or of a table of labels, so that the token shows it.
    return Patterns(
        re.compile(rb"(?:%b|%b)*+(%b|\Z|.)" % (_LOCAL, plain, branch), re.DOTALL),
        re.compile(rb"(?:%b)*+(%b|%b|\Z|.)" % (plain, _LOCAL, branch), re.DOTALL),
        re.compile(reaches, re.DOTALL),
        re.compile(tries % (_LOCAL, plain, branch, plain, branch), re.DOTALL),
        re.compile(constants, re.DOTALL),
        re.compile(rb"(?:%b|%b|%b)*+" % (_LOCAL, plain, branch), re.DOTALL),
        "exceptions" in proposals,
    )


@cache
def up_to(opcodes: bytes, proposals: frozenset[str]) -> re.Pattern[bytes]:
    """Return the expression for all instructions before the next one of ``opcodes``, or before a table of labels.

    ``opcodes`` is written as in a character class, without prefixed opcodes; ``proposals`` are the enabled ones.
    """
    plain = b"|".join((*_PLAIN, *(more for name, more in _MORE_PLAIN.items() if name in proposals)))
    branch = b"|".join((*_BRANCH, *(more for name, more in _MORE_BRANCH.items() if name in proposals)))
    return re.compile(rb"(?:(?![%b])(?:%b|%b|%b))*+" % (opcodes, _LOCAL, plain, branch), re.DOTALL)


class BranchTable(NamedTuple):
    """A ``br_table``; ``branches`` is its cost: its distinct labels, and a fraction for each target."""

    branches: int


class TryTable(NamedTuple):
    """A ``try_table``: the block that it opens, as the token of a ``block``, and the number of its catch clauses."""

    block: bytes
    clauses: int


def runs(
    data: bytes, start: int, end: int, known: Patterns, tokens: re.Pattern[bytes]
) -> Iterator[list[bytes] | BranchTable | TryTable]:
    """Yield the tokens before each table of labels, and the table.

    ``tokens`` is one of the expressions in ``known``. Raise :class:`Malformed` for an unknown instruction.
    """
    while True:
        match = known.run.match(data, start, end)
        until = match.end() if match else start
        yield tokens.findall(data, start, until)
        if until == end:
            return
        reader = BinaryReader(data, until + 1, end)
        if data[until] == TRY_TABLE and known.with_tries:
            yield _try_table(reader)
        elif data[until] == BR_TABLE:
            targets = reader.count() + 1
            labels = {reader.leb() for _ in range(targets)}
            yield BranchTable(len(labels) + targets // 30)
        else:
            raise Malformed(_unknown(data, until))
        start = reader.at


def _try_table(r: BinaryReader) -> TryTable:
    begin = r.at
    r.leb(40)  # the block type, a signed integer
    block = b"\x02" + r.data[begin : r.at]
    clauses = r.count()
    for _ in range(clauses):
        kind = r.byte()
        if kind > 3:
            raise Malformed(f"0x{kind:02x} is not a kind of catch clause")
        if kind < 2:
            r.leb()
        r.leb()
    return TryTable(block, clauses)


def _unknown(data: bytes, at: int) -> str:
    op, sub = data[at], data[at + 1 : at + 2]
    proposal = _PROPOSALS.get(op) or ("wide-arithmetic" if op == 0xFC and sub and 0x13 <= sub[0] <= 0x16 else None)
    if op == 0xFD and data[at + 2 : at + 3] == b"\x02":
        proposal = "relaxed-simd"
    if proposal is None:
        return f"unknown instruction at byte {at:,}: {data[at : at + 4].hex(' ')}"
    from aegis.support.proposals import needs

    return needs([proposal])
