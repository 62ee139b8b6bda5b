"""Read the constants of a core module: the bytes of its data segments, and the integers in its code.

A program compares its input with constants, so a fuzzer tries them as inputs. The module is untrusted: every amount is
bounded, and a body that cannot be decoded is skipped.

Source: core specification 3.0, sections 5.4 and 5.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from aegis.support.lean import NamedTuple
from aegis.support.proposals import OPTIONAL, PROPOSALS
from aegis.wasm.admission import sections
from aegis.wasm.binary import BinaryReader, Malformed, skip_constant
from aegis.wasm.instructions import BranchTable, Patterns, TryTable, patterns_for, runs

__all__ = ["CodeConstant", "DataSegment", "code_constants", "data_segments"]

_DATA_SECTION, _CODE_SECTION = 11, 10
_MAX_CODE_BYTES = 8 << 20
"""Bytes of code that are searched. An interpreter has 10 MiB; its constants say little about its input."""
_MAX_SEGMENTS = 10_000
_COMPARISONS = frozenset((*range(0x46, 0x50), *range(0x51, 0x5B)))
"""The opcodes of comparisons of integers, ``i32.eq`` to ``i64.ge_u``, without ``eqz``."""
_BRANCHES = frozenset((0x04, 0x0D, 0x6B, 0x73, 0x7D, 0x85))
"""``if`` and ``br_if``, and the subtraction and exclusive or that compilers write in place of a comparison."""
_KNOWN = patterns_for(row.name for row in PROPOSALS if row.state == OPTIONAL)


class DataSegment(NamedTuple):
    """A data segment. ``offset`` is its address if that is a constant, otherwise ``None``."""

    offset: int | None
    data: bytes


class CodeConstant(NamedTuple):
    """An integer constant of the code, as a signed number of ``bits`` bits."""

    value: int
    bits: int
    compared: bool
    """Whether the next instruction compares it."""


def data_segments(module: bytes) -> Iterator[DataSegment]:
    """Yield the data segments of a core module (5.5.14). Stop at malformed bytes."""
    try:
        for number, start, end in sections(module, 0, len(module)):
            if number == _DATA_SECTION:
                yield from _segments(BinaryReader(module, start, end))
    except Malformed:
        return


def _segments(r: BinaryReader) -> Iterator[DataSegment]:
    for _ in range(min(r.count(), _MAX_SEGMENTS)):
        kind = r.leb()
        if kind == 2:
            r.leb()  # the memory index
        offset = _offset(r) if kind != 1 else None
        size = r.leb()
        start = r.at
        r.skip(size)
        yield DataSegment(offset, r.data[start : r.at])


def _offset(r: BinaryReader) -> int | None:
    """Read the expression of an address. Return it if it is one constant."""
    start = r.at
    skip_constant(r)
    code = r.data[start : r.at]
    return None if code[:1] not in (b"\x41", b"\x42") or _int_end(code) + 1 != len(code) else _signed(code, 1)


def _int_end(code: bytes) -> int:
    at = 1
    while at < len(code) and code[at] & 0x80:
        at += 1
    return at + 1


def code_constants(module: bytes, known: Patterns = _KNOWN) -> Iterator[CodeConstant]:
    """Yield the integer constants of all function bodies in their order, up to a bound on the size of the code."""
    try:
        for number, start, end in sections(module, 0, len(module)):
            if number == _CODE_SECTION:
                r = BinaryReader(module, start, end)
                for _ in range(r.count()):
                    size = r.leb()
                    body = r.at
                    r.skip(size)
                    if r.at - start > _MAX_CODE_BYTES:
                        return
                    yield from _constants(module, body, r.at, known)
    except Malformed:
        return


def _constants(data: bytes, start: int, end: int, known: Patterns) -> Iterable[CodeConstant]:
    head = BinaryReader(data, start, end)
    found: list[CodeConstant] = []
    try:
        for _ in range(head.count()):
            head.leb()
            head.byte()
        for run in runs(data, head.at, end, known, known.constants):
            if isinstance(run, (BranchTable, TryTable)):
                continue
            for token, following in cast("list[tuple[bytes, bytes]]", run):  # one for each group of the expression
                if token[:1] in (b"\x41", b"\x42"):
                    compared = following != b"" and (following[0] in _COMPARISONS or following[0] in _BRANCHES)
                    found.append(CodeConstant(_signed(token, 1), 32 if token[0] == 0x41 else 64, compared))
    except Malformed:
        return found  # those before the unknown instruction
    return found


def _signed(code: bytes, at: int) -> int:
    """Return the signed LEB128 integer at ``at`` (5.2.2)."""
    value = shift = 0
    for byte in code[at:]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value - (1 << shift) if byte & 0x40 else value
    return value
