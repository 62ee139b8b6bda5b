"""Read the imports, exports and types of a core module from its bytes.

The engine offers reflection too, but it aborts the process for signatures with ``v128`` or typed references (F33), so
Aegis uses this reader alone. It skips function bodies: its cost depends on the number of imports, exports and types,
not on the size of the code.

Source: core specification 2.0, section 5 (binary format). Every vector length is checked against the remaining bytes
before items are read, so a false length costs nothing.
"""

from __future__ import annotations

from aegis.errors import ArtifactError
from aegis.support.lean import NamedTuple
from aegis.text import printable
from aegis.values import FuncType

__all__ = [
    "ADDED_MEMORY",
    "MAX_TYPES",
    "MAX_VALUES",
    "NO_EXTERNREF",
    "BinaryReader",
    "Export",
    "ExternType",
    "GlobalType",
    "Import",
    "Malformed",
    "MemoryType",
    "ModuleInfo",
    "TableType",
    "TagType",
    "counted",
    "gc_refusal",
    "is_component",
    "is_module",
    "read_module",
    "read_within",
    "skip_constant",
    "value_type",
]

MAGIC = b"\0asm"
PAGE = 65536
ADDED_MEMORY = "aegis:probes"
"""The name under which a module that :mod:`aegis.wasm.rewrite` rewrote exports the memory of its probes."""
MAX_CONSTANT_INSTRUCTIONS = 1000
"""Instructions in a constant expression. Compilers write three; a million keep the engine busy without end."""
MAX_VECTOR_ITEMS = 1_000_000
"""Items of a vector; the engine has the same bound."""
MAX_SECTIONS = 10_000
"""Sections of a module, including custom ones."""
MAX_TYPES = 10_000
"""Types of a module: 100 000 functions of different types took 16 s and 680 MB; large programs have 2 000 types."""
MAX_NAMED_ITEMS = 200_000
"""Imports, exports or globals of a module: reading a million takes seconds; large programs have some thousands."""
MAX_VALUES = 1000
"""Parameters or results of a function; the engine has the same bound."""
_VALUE_TYPES = {
    0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref",
}  # fmt: skip
_EXTERNREF = 0x6F
NO_EXTERNREF = (
    "the module uses externref or another garbage-collected reference, which Aegis does not support: "
    "build it without (funcref is supported)"
)
_EXCEPTION_TYPES = {0x69: "exnref", 0x74: "nullexnref"}
_PROPOSALS = {
    0x68: "stack-switching", 0x6E: "gc", 0x6D: "gc", 0x6C: "gc", 0x6B: "gc", 0x6A: "gc",
    0x71: "gc", 0x72: "gc", 0x73: "gc", 0x63: "function-references", 0x64: "function-references",
}  # fmt: skip
_KINDS = ("func", "table", "memory", "global", "tag")
SECTION_NAMES = (
    "custom", "type", "import", "function", "table", "memory", "global",
    "export", "start", "element", "code", "data", "data count", "tag",
)  # fmt: skip


class MemoryType(NamedTuple):
    """A linear memory; sizes in pages of ``page_size`` bytes."""

    minimum: int
    maximum: int | None = None
    shared: bool = False
    memory64: bool = False
    page_size: int = PAGE

    def __str__(self) -> str:
        most = "" if self.maximum is None else f" {self.maximum}"
        return f"memory {self.minimum}{most}{' shared' if self.shared else ''} ({self.minimum * self.page_size} bytes)"


class TableType(NamedTuple):
    """A table of references; sizes in elements."""

    element: str
    minimum: int
    maximum: int | None = None

    def __str__(self) -> str:
        return f"table {self.minimum}{'' if self.maximum is None else f' {self.maximum}'} {self.element}"


class GlobalType(NamedTuple):
    """A global variable."""

    value: str
    mutable: bool = False

    def __str__(self) -> str:
        return f"global {f'(mut {self.value})' if self.mutable else self.value}"


class TagType(NamedTuple):
    """An exception tag; the parameters of its type are the values of an exception."""

    type: FuncType

    def __str__(self) -> str:
        return f"tag {self.type}"


ExternType = FuncType | MemoryType | TableType | GlobalType | TagType


class Import(NamedTuple):
    """An import of a module; ``kind`` is func, memory, table, global or tag."""

    module: str
    name: str
    kind: str
    type: ExternType


class Export(NamedTuple):
    """An export of a module; ``kind`` is func, memory, table, global or tag."""

    name: str
    kind: str
    type: ExternType


class ModuleInfo:
    """The declarations of a module, for ``aegis inspect`` and for linking."""

    __slots__ = (
        "exports", "functions", "globals", "has_start", "imports", "memories", "memory_exports", "proposals",
        "sections", "tables", "tags",
    )  # fmt: skip

    def __init__(self) -> None:
        self.imports: list[Import] = []
        self.exports: list[Export] = []
        self.memories: list[MemoryType] = []
        self.tables: list[TableType] = []
        self.globals: list[GlobalType] = []
        self.tags: list[TagType] = []
        self.sections: list[tuple[str, int]] = []
        self.memory_exports: list[tuple[str, int]] = []
        """Name and index of each exported memory."""
        self.functions = 0
        self.has_start = False
        self.proposals: set[str] = set()
        """Proposals that the declarations use and a policy can enable. The code may use more."""


def is_module(data: bytes) -> bool:
    """Return whether ``data`` starts with the preamble of a core module, version 1."""
    return data[:8] == MAGIC + b"\1\0\0\0"


def is_component(data: bytes) -> bool:
    """Return whether ``data`` starts with the preamble of a component (layer 1)."""
    return data[:4] == MAGIC and data[6:8] == b"\1\0"


class Malformed(Exception):
    """The bytes violate the binary format; the message names the violation."""


class BinaryReader:
    """A cursor over bytes; a read past the end raises :class:`Malformed`."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = len(data) if end is None else end

    def byte(self) -> int:
        if self.at >= self.end:
            raise Malformed("unexpected end of a section")
        self.at += 1
        return self.data[self.at - 1]

    def leb(self, bits: int = 32) -> int:
        """Read an unsigned LEB128 integer of at most ``bits`` bits (5.2.2)."""
        if self.at < self.end and self.data[self.at] < 0x80:  # the common case: one byte
            self.at += 1
            return self.data[self.at - 1]
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise Malformed("an integer is too long")
        if value >> bits:
            raise Malformed("an integer is too large")
        return value

    def skip(self, count: int) -> None:
        if count > self.end - self.at:
            raise Malformed("a length reaches past the end")
        self.at += count

    def name(self) -> str:
        length = self.leb()
        start = self.at
        self.skip(length)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError as error:
            raise Malformed("a name is not UTF-8") from error

    def count(self) -> int:
        """Read the length of a vector (5.1.3); reject one that exceeds the remaining bytes."""
        count = self.leb()
        if count > self.end - self.at:
            raise Malformed("a count is larger than its section")
        if count > MAX_VECTOR_ITEMS:
            raise Malformed(f"a vector has too many items ({count:,}/{MAX_VECTOR_ITEMS:,})")
        return count


def read_module(data: bytes) -> ModuleInfo:
    """Return the declarations of a core module.

    Raise :class:`~aegis.errors.ArtifactError` when the bytes are malformed, or when a type needs a proposal that Aegis
    does not support.
    """
    try:
        return read_within(data, 0, len(data))
    except Malformed as error:
        raise ArtifactError(f"not a valid WebAssembly module: {error}") from None


def read_within(data: bytes, start: int, end: int) -> ModuleInfo:
    """Read the core module in ``data`` from ``start`` to ``end``; raise :class:`Malformed` if it is malformed."""
    if data[start : start + 8] != MAGIC + b"\1\0\0\0":
        raise Malformed("a core module has an invalid preamble")
    info = ModuleInfo()
    types: list[FuncType] = []
    functions: list[int] = []
    seen: set[int] = set()
    reader = BinaryReader(data, start + 8, end)
    while reader.at < reader.end:
        number = reader.byte()
        size = reader.leb()
        start = reader.at
        reader.skip(size)
        section = BinaryReader(data, start, start + size)
        if len(info.sections) >= MAX_SECTIONS:
            raise Malformed(f"the module has more than {MAX_SECTIONS:,} sections")
        if number == 0:
            info.sections.append((f"custom {section.name()!r}", size))
            continue
        if number >= len(SECTION_NAMES):
            raise Malformed(f"section {number} does not exist")
        if number in seen:
            raise Malformed(f"the module has two {SECTION_NAMES[number]} sections")
        seen.add(number)
        info.sections.append((SECTION_NAMES[number], size))
        _section(number, section, info, types, functions)
    info.functions = len(functions) - sum(i.kind == "func" for i in info.imports)
    return info


def _section(number: int, r: BinaryReader, info: ModuleInfo, types: list[FuncType], functions: list[int]) -> None:
    match number:
        case 1:
            _types(r, info, types)
        case 2:
            for _ in range(counted(r, MAX_NAMED_ITEMS, "imports")):
                _import(r, info, types, functions)
        case 3:
            functions.extend(r.leb() for _ in range(r.count()))
        case 4:
            info.tables.extend(_table(r, info, define=True) for _ in range(r.count()))
        case 5:
            info.memories.extend(_memory(r, info) for _ in range(r.count()))
        case 6:
            for _ in range(counted(r, MAX_NAMED_ITEMS, "globals")):
                info.globals.append(_global(r, info))
                skip_constant(r)
        case 7:
            for _ in range(counted(r, MAX_NAMED_ITEMS, "exports")):
                _export(r, info, types, functions)
        case 8:
            info.has_start = True
        case 13:
            for _ in range(counted(r, MAX_NAMED_ITEMS, "tags")):
                info.tags.append(_tag(r, info, types))
        case _:
            pass


def counted(r: BinaryReader, most: int, what: str) -> int:
    """Read the length of a vector of ``what``; raise ``ArtifactError`` for more than ``most`` items."""
    count = r.count()
    if count > most:
        raise ArtifactError(f"too many {what} ({count:,}/{most:,}): split the module")
    return count


def value_type(r: BinaryReader, info: ModuleInfo) -> str:
    """Read a core value type; raise ``ArtifactError`` for one of an unsupported proposal."""
    code = r.byte()
    if code == _EXTERNREF:
        raise ArtifactError(NO_EXTERNREF)
    if code in _EXCEPTION_TYPES:
        info.proposals.add("exceptions")
        return _EXCEPTION_TYPES[code]
    if code in _PROPOSALS:
        raise ArtifactError(_refusal(_PROPOSALS[code]))
    if code not in _VALUE_TYPES:
        raise Malformed(f"0x{code:02x} is not a value type")
    return _VALUE_TYPES[code]


def _types(r: BinaryReader, info: ModuleInfo, types: list[FuncType]) -> None:
    for _ in range(counted(r, MAX_TYPES, "types")):
        form = r.byte()
        if form != 0x60:
            if form in (0x4E, 0x4F, 0x50, 0x5E, 0x5F):
                raise ArtifactError(gc_refusal())
            raise Malformed(f"0x{form:02x} is not a type")
        params = tuple(value_type(r, info) for _ in range(counted(r, MAX_VALUES, "parameters of one function")))
        results = tuple(value_type(r, info) for _ in range(counted(r, MAX_VALUES, "results of one function")))
        types.append(FuncType(params, results))


def _refusal(proposal: str) -> str:
    return f"the module uses the WebAssembly proposal {proposal!r}, which Aegis does not support: build it without"


def gc_refusal() -> str:
    """Return the reason why a core type of the garbage collection proposal is rejected."""
    return _refusal("gc")


def _limits(r: BinaryReader) -> tuple[int, int, int | None]:
    flags = r.byte()
    if flags > 15:
        raise Malformed(f"0x{flags:02x} is not a kind of limits")
    bits = 64 if flags & 4 else 32
    minimum = r.leb(bits)
    return flags, minimum, r.leb(bits) if flags & 1 else None


def _memory(r: BinaryReader, info: ModuleInfo) -> MemoryType:
    flags, minimum, maximum = _limits(r)
    for bit, proposal in ((2, "threads"), (4, "memory64"), (8, "custom-page-sizes")):
        if flags & bit:
            raise ArtifactError(_refusal(proposal))
    return MemoryType(minimum, maximum)


def _table(r: BinaryReader, info: ModuleInfo, *, define: bool = False) -> TableType:
    code = r.byte()
    if define and code == 0x40:
        raise ArtifactError(_refusal("function-references"))
    r.at -= 1
    element = value_type(r, info)
    flags, minimum, maximum = _limits(r)
    if flags & 6:
        raise ArtifactError(_refusal("memory64" if flags & 4 else "threads"))
    return TableType(element, minimum, maximum)


def _global(r: BinaryReader, info: ModuleInfo) -> GlobalType:
    value = value_type(r, info)
    return GlobalType(value, r.byte() == 1)


def _tag(r: BinaryReader, info: ModuleInfo, types: list[FuncType]) -> TagType:
    info.proposals.add("exceptions")
    if r.byte():
        raise Malformed("the attribute of a tag is not 0")
    return TagType(_type_at(types, r.leb()))


def _import(r: BinaryReader, info: ModuleInfo, types: list[FuncType], functions: list[int]) -> None:
    module, name, kind = r.name(), r.name(), r.byte()
    if kind >= len(_KINDS):
        raise Malformed(f"0x{kind:02x} is not a kind of import")
    extern: ExternType
    match kind:
        case 0:
            index = r.leb()
            functions.append(index)
            extern = _type_at(types, index)
        case 1:
            extern = _table(r, info)
            info.tables.append(extern)
        case 2:
            extern = _memory(r, info)
            info.memories.append(extern)
        case 3:
            extern = _global(r, info)
            info.globals.append(extern)
        case _:
            extern = _tag(r, info, types)
            info.tags.append(extern)
    info.imports.append(Import(module, name, _KINDS[kind], extern))


def _export(r: BinaryReader, info: ModuleInfo, types: list[FuncType], functions: list[int]) -> None:
    name, kind, index = r.name(), r.byte(), r.leb()
    if kind >= len(_KINDS):
        raise Malformed(f"0x{kind:02x} is not a kind of export")
    spaces: tuple[list[int] | list[TableType] | list[MemoryType] | list[GlobalType] | list[TagType], ...]
    spaces = (functions, info.tables, info.memories, info.globals, info.tags)
    if index >= len(spaces[kind]):
        raise Malformed(f"the export {printable(name, 60)!r} names {_KINDS[kind]} {index}, which does not exist")
    extern = _type_at(types, functions[index]) if kind == 0 else spaces[kind][index]
    if kind == 2:
        info.memory_exports.append((name, index))
    info.exports.append(Export(name, _KINDS[kind], extern))  # type: ignore[arg-type]


def _type_at(types: list[FuncType], index: int) -> FuncType:
    if index >= len(types):
        raise Malformed(f"type {index} does not exist")
    return types[index]


def skip_constant(r: BinaryReader) -> None:
    """Skip a constant expression (section 3.3.10, with extended-const)."""
    for _ in range(MAX_CONSTANT_INSTRUCTIONS):
        op = r.byte()
        if op == 0x0B:
            return
        match op:
            case 0x41 | 0x42:
                while r.byte() & 0x80:
                    pass
            case 0x43:
                r.skip(4)
            case 0x44:
                r.skip(8)
            case 0x23 | 0xD2:
                r.leb()
            case 0xD0:
                value_type(r, ModuleInfo())
            case 0xFD:
                if r.leb() != 12:
                    raise Malformed("a constant expression contains an invalid instruction")
                r.skip(16)
            case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:
                pass
            case _:
                raise Malformed(f"a constant expression contains the invalid instruction 0x{op:02x}")
    raise Malformed(f"a constant expression has more than {MAX_CONSTANT_INSTRUCTIONS:,} instructions")
