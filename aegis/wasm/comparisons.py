"""Instrument a core module so that it records the operands of its comparisons, divisions and branches.

Before each comparison or division of two numbers a function is called that keeps both operands, if they differ, and
returns them. A test for zero, and a condition that is no comparison, is recorded with the operand 0, and a ``br_table``
with the number of its targets.
The added memory has, from byte 0, the number of records as i32; from :data:`_SEEN` a byte for each comparison, the
number of records that it has made; and then the records. Results and traps of the guest stay the same.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, NamedTuple

from aegis.wasm.instructions import BR_TABLE, IF
from aegis.wasm.rewrite import BR_IF, Probes, leb, memarg, rewritten, signed

__all__ = ["COMPARED", "DIVIDED", "SWITCHED", "Comparing", "Operands", "read_operands", "record_comparisons"]

COMPARED, DIVIDED, SWITCHED = "compared", "divided", "switched"
"""Kinds of sites: a comparison or test for zero; a division or remainder; the operand of a ``br_table``."""

_SEEN = 16
_RECORD = struct.Struct("<IIQQ")
_MAX_RECORD_ENTRIES = 2048
_PER_SITE = 12
"""Most records of one comparison: a loop compares its counter again and again."""
_TYPES = {0x7F: (32, False), 0x7E: (64, False), 0x7D: (32, True), 0x7C: (64, True)}
_SPANS = ((0x46, 0x4F, 0x7F), (0x51, 0x5A, 0x7E), (0x5B, 0x60, 0x7D), (0x61, 0x66, 0x7C))
"""First and last opcode of the comparisons of each type (5.4.8)."""
_TYPE_OF = {op: of for first, last, of in _SPANS for op in range(first, last + 1)}
_PLACES = {of: place for place, (_, _, of) in enumerate(_SPANS)}
_TESTS = {0x45: 0x7F, 0x50: 0x7E, IF: 0x7F, BR_IF: 0x7F}
"""``eqz`` and conditions, with the type of their operand."""
_DIVISIONS = {**dict.fromkeys(range(0x6D, 0x71), 0x7F), **dict.fromkeys(range(0x7F, 0x83), 0x7E)}
_ARITHMETIC = ("add", "sub", "mul", "", "", "", "", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr")
"""The operations from ``add`` on, as they are named in kinds of sites, without divisions (5.4.8)."""
_OPERATIONS = {
    first + place: (of, name)
    for first, of in ((0x6A, 0x7F), (0x7C, 0x7E))
    for place, name in enumerate(_ARITHMETIC)
    if name
}
_ZERO = {0x7F: b"\x41\x00", 0x7E: b"\x42\x00"}


class Operands(NamedTuple):
    """The operands of a comparison or operation, as unsigned integers of ``bits``; for a float, its bits."""

    site: int
    bits: int
    floating: bool
    left: int
    right: int
    kind: str = COMPARED


class Comparing(NamedTuple):
    """An instrumented module; it uses ``size`` bytes of the added memory. ``sites`` has the kind of each site."""

    data: bytes
    sites: tuple[str, ...]
    size: int

    @property
    def head(self) -> int:
        """The bytes before the records: if they are zero, there are none."""
        return _start(len(self.sites))

    def used(self, beginning: bytes) -> int:
        """Return how many bytes the records and the bytes before them take, by the first four bytes."""
        return self.head + min(int.from_bytes(beginning, "little"), _MAX_RECORD_ENTRIES) * _RECORD.size


def record_comparisons(data: bytes, proposals: Collection[str] = (), *, arithmetic: bool = False) -> Comparing:
    """Return a module that records operands; errors are those of :func:`aegis.wasm.rewrite.rewritten`.

    With ``arithmetic``, it also records those of integer operations, whose names are the kinds of their sites.
    """
    probes = _Calculations() if arithmetic else _Comparisons()
    made = rewritten(data, probes, proposals)
    return Comparing(made, tuple(probes.sites), probes.size())


def read_operands(memory: bytes, sites: Sequence[str]) -> Iterator[Operands]:
    """Yield the records in a copy of the memory of a module with these ``sites``, in the order of execution."""
    count = min(int.from_bytes(memory[:4], "little"), _MAX_RECORD_ENTRIES)
    start = _start(len(sites))
    for site, of, left, right in _RECORD.iter_unpack(memory[start : start + count * _RECORD.size]):
        bits, floating = _TYPES[of]
        yield Operands(site, bits, floating, left, right, sites[site])


def _start(sites: int) -> int:
    return -(-(_SEEN + sites) // 16) * 16


class _Comparisons(Probes):
    opcodes: ClassVar[frozenset[int]] = frozenset((*_TYPE_OF, *_TESTS, *_DIVISIONS, BR_TABLE))

    def __init__(self) -> None:
        self.sites: list[str] = []
        self._compared = -1
        """The offset after the latest comparison: an instruction there has a boolean as its operand."""

    def before(self, function: int, offset: int, op: int, targets: int, local: int) -> bytes:
        boolean = offset == self._compared
        if op in _TYPE_OF or op in (0x45, 0x50):
            self._compared = offset + 1
        if op in _TYPE_OF:
            return self._record(_TYPE_OF[op], COMPARED)
        if op in _DIVISIONS:
            return self._record(_DIVISIONS[op], DIVIDED)
        if op == BR_TABLE:
            return b"\x41" + signed(targets) + self._record(0x7F, SWITCHED) + b"\x1a"
        return b"" if boolean else _ZERO[_TESTS[op]] + self._record(_TESTS[op], COMPARED) + b"\x1a"

    def _record(self, of: int, kind: str) -> bytes:
        """Return code that records the two operands on the stack and leaves them there."""
        self.sites.append(kind)
        return b"\x41" + signed(len(self.sites) - 1) + b"\x10" + leb(self.first_function + _PLACES[of])

    def size(self) -> int:
        return _start(len(self.sites)) + _MAX_RECORD_ENTRIES * _RECORD.size

    def functions(self) -> list[tuple[bytes, bytes]]:
        return [(_signature(of), self._keeper(of)) for _, _, of in _SPANS]

    def _keeper(self, of: int) -> bytes:
        """Return the body of the function for one type: parameters 0 and 1 are the operands, 2 is the site."""
        bits, floating = _TYPES[of]
        count = b"\x41\x00"
        left, right = (b"\x20" + bytes((n,)) + _as_integer(bits, floating=floating) for n in (0, 1))
        equal = b"\x46" if bits == 32 else b"\x51"
        wide = b"\xad" if bits == 32 else b""
        seen, total = memarg(self.memory, _SEEN), memarg(self.memory, 0)
        start = _start(len(self.sites))
        fields = [memarg(self.memory, start + offset) for offset in (0, 4, 8, 16)]
        return (
            b"\x01\x01\x7f\x02\x40"  # one i32, number 3; a block that is left if there is nothing to record
            + left + right + equal + b"\x0d\x00"
            + b"\x20\x02\x2d" + seen + b"\x41" + signed(_PER_SITE) + b"\x4f\x0d\x00"
            + count + b"\x28" + total + b"\x22\x03\x41" + signed(_MAX_RECORD_ENTRIES) + b"\x4f\x0d\x00"
            + b"\x20\x02\x20\x02\x2d" + seen + b"\x41\x01\x6a\x3a" + seen
            + count + b"\x20\x03\x41\x01\x6a\x36" + total
            + b"\x20\x03\x41" + signed(_RECORD.size) + b"\x6c\x22\x03"
            + b"\x20\x02\x36" + fields[0]
            + b"\x20\x03\x41" + signed(of) + b"\x36" + fields[1]
            + b"\x20\x03" + left + wide + b"\x37" + fields[2]
            + b"\x20\x03" + right + wide + b"\x37" + fields[3]
            + b"\x0b\x20\x00\x20\x01\x0b"
        )  # fmt: skip


class _Calculations(_Comparisons):
    opcodes: ClassVar[frozenset[int]] = _Comparisons.opcodes | frozenset(_OPERATIONS)

    def before(self, function: int, offset: int, op: int, targets: int, local: int) -> bytes:
        if op in _OPERATIONS:
            return self._record(*_OPERATIONS[op])
        return super().before(function, offset, op, targets, local)


def _as_integer(bits: int, *, floating: bool) -> bytes:
    if not floating:
        return b""
    return b"\xbc" if bits == 32 else b"\xbd"  # i32.reinterpret_f32, i64.reinterpret_f64


def _signature(of: int) -> bytes:
    """Return the type (t, t, i32) -> (t, t) as in a type section."""
    return bytes((0x60, 3, of, of, 0x7F, 2, of, of))
