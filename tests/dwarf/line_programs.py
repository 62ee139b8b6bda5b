"""Encode line tables of DWARF, for tests that read them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LINE_BASE", "LINE_RANGE", "OPCODE_BASE", "OPERANDS", "Row", "Sequence", "custom", "program", "uleb", "unit"]

LINE_BASE, LINE_RANGE, OPCODE_BASE = -5, 14, 13
OPERANDS = bytes((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1))


class Row(NamedTuple):
    """A row to encode: how far its address is from the row before, its file and its line."""

    advance: int
    file: int
    line: int


class Sequence(NamedTuple):
    """Rows from an address on, and the size of the last one."""

    start: int
    rows: list[Row]
    last: int


def uleb(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def sleb(number: int) -> bytes:
    out = bytearray()
    while True:
        low, number = number & 0x7F, number >> 7
        done = (number == 0 and not low & 0x40) or (number == -1 and low & 0x40)
        out.append(low if done else low | 0x80)
        if done:
            return bytes(out)


def program(sequences: list[Sequence], *, special: bool) -> bytes:
    """Encode rows, by special opcodes where that is possible, or by the standard ones."""
    out = bytearray()
    for sequence in sequences:
        out += b"\0\x05\x02" + sequence.start.to_bytes(4, "little")
        file, line = 1, 1
        for advance, wanted_file, wanted in sequence.rows:
            if wanted_file != file:
                out += b"\x04" + uleb(wanted_file)
            delta = wanted - line
            opcode = (delta - LINE_BASE) + LINE_RANGE * advance + OPCODE_BASE
            if special and LINE_BASE <= delta < LINE_BASE + LINE_RANGE and opcode <= 255:
                out.append(opcode)
            else:
                out += (b"\x09" + advance.to_bytes(2, "little")) if advance < 300 else (b"\x02" + uleb(advance))
                out += b"\x03" + sleb(delta) + b"\x0a\x06\x01"  # prologue_end, negate_stmt, copy
            file, line = wanted_file, wanted
        out += b"\x02" + uleb(sequence.last) + b"\0\x01\x01"
    return bytes(out)


def unit(version: int, files: list[tuple[str, int]], directories: list[str], code: bytes, *, wide: bool) -> bytes:
    """Encode a unit; ``directories`` begins with that of the compilation."""
    size = 8 if wide else 4
    head = bytes((1,)) + (b"\x01" if version >= 4 else b"") + bytes((1, LINE_BASE & 0xFF, LINE_RANGE, OPCODE_BASE))
    head += OPERANDS
    if version >= 5:
        head += b"\x01\x01\x08" + uleb(len(directories)) + b"".join(text(name) for name in directories)
        head += b"\x03\x01\x08\x02\x0b\x05\x1e" + uleb(len(files))  # a path, a directory in a byte, an MD5 digest
        head += b"".join(text(name) + bytes((place,)) + bytes(16) for name, place in files)
    else:
        head += b"".join(text(name) for name in directories[1:]) + b"\0"
        head += b"".join(text(name) + uleb(place) + b"\0\0" for name, place in files) + b"\0"
    inner = version.to_bytes(2, "little") + (b"\x04\0" if version >= 5 else b"")
    inner += len(head).to_bytes(size, "little") + head + code
    return (b"\xff\xff\xff\xff" if wide else b"") + len(inner).to_bytes(size, "little") + inner


def text(name: str) -> bytes:
    return name.encode() + b"\0"


def custom(name: str, data: bytes) -> bytes:
    """Return a custom section of a module."""
    content = uleb(len(name)) + name.encode() + data
    return b"\0" + uleb(len(content)) + content
