"""Rewrite the code of a core module: insert instructions, and add locals, functions and one memory.

The memory is exported as :data:`ADDED_MEMORY`; the guest's own code cannot address it. Indices of functions, globals,
memories and types keep their meaning, so names, element segments and references need no change. Custom sections other
than ``name`` are left out, because debugging information has offsets of the original code.

Source: core specification 3.0, sections 5.4 and 5.5, with the proposal multi-memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from typing import ClassVar

from aegis.wasm.binary import ADDED_MEMORY, MAGIC, PAGE, BinaryReader, Malformed, read_module
from aegis.wasm.instructions import BR_TABLE, IF, TRY_TABLE, up_to

__all__ = ["BR_IF", "Probes", "leb", "memarg", "rewritten", "signed"]

BR_IF = 0x0D
_ORDER = {number: rank for rank, number in enumerate((1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11))}
"""The order of sections (5.5.2, with the tag section)."""


def leb(number: int) -> bytes:
    """Return an unsigned LEB128 integer (5.2.2)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def signed(number: int) -> bytes:
    """Return a signed LEB128 integer (5.2.2)."""
    out = bytearray()
    while not -64 <= number < 64:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number & 0x7F)
    return bytes(out)


def memarg(memory: int, offset: int, align: int = 0) -> bytes:
    """Return the immediate of a load or store (5.4.7): bit 6 of the alignment says that a memory index follows."""
    index = b"" if memory == 0 else leb(memory)
    return leb(align | (0x40 if memory else 0)) + index + leb(offset)


class Probes(ABC):
    """The code to insert. The attributes below are set before any code is requested."""

    opcodes: ClassVar[frozenset[int]]
    """The instructions without prefix before which probes are inserted; ``br_table`` may be one."""
    locals: ClassVar[int] = 0
    """The number of locals of type i32 that each function gets."""
    memory = 0
    """The index of the added memory."""
    first_function = 0
    """The index of the first added function."""

    def functions(self) -> list[tuple[bytes, bytes]]:
        """Return the functions to add: the type and the body of each, as in their sections."""
        return []

    def entry(self, function: int, offset: int, local: int) -> bytes:
        """Return code for the beginning of a function; ``offset`` is that of its first instruction.

        ``local`` is the index of the first added local.
        """
        return b""

    @abstractmethod
    def before(self, function: int, offset: int, op: int, targets: int, local: int) -> bytes:
        """Return code to insert before an instruction.

        ``op`` is its opcode, ``targets`` the number of labels of a ``br_table`` without the default.
        """

    @abstractmethod
    def size(self) -> int:
        """Return the bytes needed in the memory, after all code was requested."""


def rewritten(data: bytes, probes: Probes, proposals: Collection[str] = ()) -> bytes:
    """Return the module with ``probes`` inserted; ``proposals`` are the enabled optional ones.

    Raise :class:`~aegis.wasm.binary.Malformed` or :class:`~aegis.errors.ArtifactError` for a module that cannot be
    read, and ``Malformed`` for one that already exports :data:`ADDED_MEMORY`.
    """
    return _Rewriter(data, probes, proposals).module()


class _Rewriter:
    def __init__(self, data: bytes, probes: Probes, proposals: Collection[str]) -> None:
        self.data, self.probes = data, probes
        info = read_module(data)
        if any(export.name == ADDED_MEMORY for export in info.exports):
            raise Malformed(f"the module already exports {ADDED_MEMORY!r}")
        named = b"".join(b"\\x%02x" % op for op in sorted(probes.opcodes))
        self.skip = up_to(named, frozenset(proposals))
        self.sections: dict[int, tuple[int, int]] = {}
        self.names = b""
        self._read()
        self.imported = sum(i.kind == "func" for i in info.imports)
        self.params = list(self._params())
        self.types_of = self._types_of()
        probes.memory = len(info.memories)
        probes.first_function = self.imported + len(self.types_of)

    def _read(self) -> None:
        reader = BinaryReader(self.data, 8)
        while reader.at < reader.end:
            begin, number, size = reader.at, reader.byte(), reader.leb()
            start = reader.at
            reader.skip(size)
            if number:
                self.sections[number] = start, reader.at
            elif BinaryReader(self.data, start, reader.at).name() == "name":
                self.names = self.data[begin : reader.at]

    def _section(self, number: int) -> BinaryReader:
        """Return a reader of a section; an empty vector for one that the module does not have."""
        span = self.sections.get(number)
        return BinaryReader(b"\0") if span is None else BinaryReader(self.data, *span)

    def _params(self) -> Iterator[int]:
        """Yield the number of parameters of each type; all are functions, or reading the module would have failed."""
        r = self._section(1)
        for _ in range(r.count()):
            r.byte()
            params = r.count()
            r.skip(params)
            r.skip(r.count())
            yield params

    def _types_of(self) -> list[int]:
        r = self._section(3)
        return [r.leb() for _ in range(r.count())]

    # -- the new module ------------------------------------------------------------------------

    def module(self) -> bytes:
        contents = {number: self.data[start:end] for number, (start, end) in self.sections.items()}
        code = list(self._bodies())
        added, base = self.probes.functions(), len(self.params)
        if added:
            contents[1] = self._appended(1, [of for of, _ in added])
            contents[3] = self._appended(3, [leb(base + n) for n in range(len(added))])
        bodies = [*code, *(body for _, body in added)]
        if bodies:
            contents[10] = leb(len(bodies)) + b"".join(leb(len(body)) + body for body in bodies)
        pages = leb(max(1, -(-self.probes.size() // PAGE)))
        contents[5] = self._appended(5, [b"\x01" + pages + pages])  # its size is fixed
        export = leb(len(ADDED_MEMORY)) + ADDED_MEMORY.encode() + b"\x02" + leb(self.probes.memory)
        contents[7] = self._appended(7, [export])
        out = [MAGIC, b"\1\0\0\0"]
        for number in sorted(contents, key=_ORDER.__getitem__):
            out += [bytes((number,)), leb(len(contents[number])), contents[number]]
        return b"".join((*out, self.names))

    def _appended(self, number: int, items: list[bytes]) -> bytes:
        """Return the content of a vector section with more items at its end."""
        r = self._section(number)
        count = r.count()
        return leb(count + len(items)) + r.data[r.at : r.end] + b"".join(items)

    def _bodies(self) -> Iterator[bytes]:
        r = self._section(10)
        count = r.count()
        if count != len(self.types_of):
            raise Malformed("the function section and the code section have different lengths")
        for number in range(count):
            size = r.leb()
            start = r.at
            r.skip(size)
            yield b"".join(self._body(self.imported + number, self.types_of[number], start, r.at))

    def _body(self, function: int, of: int, start: int, end: int) -> Iterator[bytes]:
        if of >= len(self.params):
            raise Malformed(f"type {of} does not exist")
        r = BinaryReader(self.data, start, end)
        groups = r.count()
        begin, local = r.at, self.params[of]
        for _ in range(groups):
            local += r.leb()
            r.byte()
        more = leb(self.probes.locals) + b"\x7f" if self.probes.locals else b""
        yield leb(groups + bool(more)) + self.data[begin : r.at] + more
        yield self.probes.entry(function, r.at, local)
        yield from self._instructions(function, r.at, end, local)

    def _instructions(self, function: int, at: int, end: int, local: int) -> Iterator[bytes]:
        data, match, opcodes = self.data, self.skip.match, self.probes.opcodes
        before: Callable[[int, int, int, int, int], bytes] = self.probes.before
        begin = at
        while True:
            found = match(data, at, end)
            at = found.end() if found else at
            if at >= end:
                yield data[begin:end]
                return
            op = data[at]
            targets, until = _after(data, at, end, op)
            if op in opcodes:
                yield data[begin:at]
                yield before(function, at, op, targets, local)
                begin = at
            elif op not in (BR_TABLE, TRY_TABLE):
                raise Malformed(f"unknown instruction at byte {at:,}: {data[at : at + 4].hex(' ')}")
            at = until


def _after(data: bytes, at: int, end: int, op: int) -> tuple[int, int]:
    """Return the number of targets of a ``br_table``, and the offset after an instruction at which the search ended."""
    r = BinaryReader(data, at + 1, end)
    targets = 0
    if op == BR_TABLE:
        targets = r.count()
        for _ in range(targets + 1):
            r.leb()
    elif op == TRY_TABLE:
        r.leb(40)
        for _ in range(r.count()):
            if r.byte() < 2:  # a clause with a tag
                r.leb()
            r.leb()
    elif op in (IF, BR_IF):
        r.leb(40)  # a block type, which is a signed integer, or a label
    return targets, r.at
