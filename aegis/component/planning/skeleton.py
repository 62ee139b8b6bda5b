"""Removes the code from a component, so that the engine can validate it and report its types cheaply.

The engine's C API cannot validate a component without compiling it. Aegis therefore replaces each core module by a
stub with the same imports and exports whose functions only trap, and keeps every other byte, including custom
sections. Each real core module is validated when it is compiled; both checks together validate the whole component.

Source: the core specification, section 5 (binary format); Binary.md, "Component Definitions".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from aegis.engine.compile.reflect import WORLD_TYPE_PREFIX
from aegis.values import FuncType
from aegis.wasm.binary import BinaryReader, ExternType, GlobalType, MemoryType, ModuleInfo, TableType, TagType
from aegis.wasm.component import PREAMBLE, decode_component
from aegis.wasm.definitions import (
    Alias,
    ComponentBinary,
    ComponentDefinition,
    EmbeddedModule,
    ExportDefinition,
    Extern,
    ImportDefinition,
    TypeDefinition,
)

__all__ = ["module_skeleton", "named_skeleton", "skeleton"]

_KINDS = ("func", "table", "memory", "global", "tag")
_VALUES = {
    "i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B, "funcref": 0x70, "exnref": 0x69,
    "nullexnref": 0x74,
}  # fmt: skip
_CONSTANTS = {
    "i32": b"\x41\0", "i64": b"\x42\0", "f32": b"\x43" + bytes(4), "f64": b"\x44" + bytes(8),
    "v128": b"\xfd\x0c" + bytes(16), "funcref": b"\xd0\x70",
    "exnref": b"\xd0\x69", "nullexnref": b"\xd0\x74",
}  # fmt: skip
"""A constant expression of each value type, without its ``end``."""
_TRAPS = b"\x03\0\0\x0b"
"""A code entry: the size 3, no locals, ``unreachable``, ``end``."""
_END = b"\x0b"
_LABEL = re.compile("(?:[a-z][0-9a-z]*|[A-Z][0-9A-Z]*)(?:-(?:[a-z][0-9a-z]*|[A-Z][0-9A-Z]*))*")
_MAX_NAMED_TYPES = 1000
"""Types of a world that get their names: each is one more export, whose number reflection bounds."""


def skeleton(data: bytes, binary: ComponentBinary | None = None) -> bytes:
    """Return the component ``data`` with each core module replaced by its stub.

    Pass the decoded component as ``binary`` to avoid decoding it again. Raise ``ArtifactError`` if it is malformed.
    """
    binary = binary or decode_component(data)
    return b"".join(_component(data, 0, len(data), iter(binary.modules)))


def named_skeleton(data: bytes) -> bytes:
    """Return the skeleton of a component, with the types that its world defines exported under prefixed names.

    The engine reports the exports of a component, but none of the types that it imports, so these exports are how
    reflection learns their names. Exporting a type that exists makes no other type.
    """
    binary = decode_component(data)
    made = skeleton(data, binary)
    exported = {d.name.lower() for d in binary.root.definitions if isinstance(d, ExportDefinition)}
    named = [] if any(n.startswith(WORLD_TYPE_PREFIX) for n in exported) else list(_world_types(binary.root))
    if not named:
        return made
    named = named[:_MAX_NAMED_TYPES]
    items = [b"\0" + _name(WORLD_TYPE_PREFIX + name) + b"\x03" + _leb(index) + b"\0" for name, index in named]
    return made + _section(11, _vector(items))


def _world_types(root: ComponentDefinition) -> Iterator[tuple[str, int]]:
    """Yield name and index of each type that a component imports as equal to one that it defines."""
    index = 0
    for definition in root.definitions:
        match definition:
            case ImportDefinition(name, Extern("type", bound)):
                if bound is not None and _LABEL.fullmatch(name):
                    yield name, index
                index += 1
            case TypeDefinition() | Alias(_, "type") | ExportDefinition(_, "type"):
                index += 1


def _component(data: bytes, start: int, end: int, modules: Iterator[EmbeddedModule]) -> list[bytes]:
    """Return the sections of the skeleton; ``modules`` yields the core modules in binary order, nested ones included.

    The decoder has already checked that all sections are complete.
    """
    pieces = [PREAMBLE]
    reader = BinaryReader(data, start + 8, end)
    while reader.at < end:
        head = reader.at
        number, size = reader.byte(), reader.leb()
        begin = reader.at
        reader.skip(size)
        if number == 1:
            pieces.append(_section(1, module_skeleton(next(modules).info)))
        elif number == 4:
            inner = _component(data, begin, reader.at, modules)
            pieces += [b"\x04", _leb(sum(map(len, inner))), *inner]
        else:
            pieces.append(data[head : reader.at])
    return pieces


def module_skeleton(info: ModuleInfo) -> bytes:
    """Return a stub with the same imports and exports; exports of the same type share one definition."""
    types: dict[FuncType, int] = {}
    imports = [_name(i.module) + _name(i.name) + _extern(i.kind, i.type, types) for i in info.imports]
    imported = {kind: sum(i.kind == kind for i in info.imports) for kind in _KINDS}
    made: dict[str, dict[ExternType, int]] = {kind: {} for kind in _KINDS}
    exports = []
    for export in info.exports:
        of_kind = made[export.kind]
        index = imported[export.kind] + of_kind.setdefault(export.type, len(of_kind))
        exports.append(_name(export.name) + bytes([_KINDS.index(export.kind)]) + _leb(index))
    defined: dict[str, list[bytes]] = {
        kind: [_ENCODE[kind](of, types) + _initial(of) for of in made[kind]] for kind in _KINDS
    }
    sections = (
        (1, [_function(of) for of in types]), (2, imports), (3, defined["func"]), (4, defined["table"]),
        (5, defined["memory"]), (13, defined["tag"]), (6, defined["global"]),
        (7, exports), (10, [_TRAPS] * len(defined["func"])),
    )  # fmt: skip
    return b"\0asm\1\0\0\0" + b"".join([_section(number, _vector(items)) for number, items in sections if items])


def _initial(of: ExternType) -> bytes:
    return _CONSTANTS[of.value] + _END if isinstance(of, GlobalType) else b""


def _extern(kind: str, of: ExternType, types: dict[FuncType, int]) -> bytes:
    return bytes([_KINDS.index(kind)]) + _ENCODE[kind](of, types)


def _type_index(of: ExternType, types: dict[FuncType, int]) -> bytes:
    assert isinstance(of, FuncType)
    return _leb(types.setdefault(of, len(types)))


def _table(of: ExternType, _: object) -> bytes:
    assert isinstance(of, TableType)
    return bytes([_VALUES[of.element]]) + _limits(of.minimum, of.maximum)


def _memory(of: ExternType, _: object) -> bytes:
    assert isinstance(of, MemoryType)
    return _limits(of.minimum, of.maximum)


def _global(of: ExternType, _: object) -> bytes:
    assert isinstance(of, GlobalType)
    return bytes([_VALUES[of.value], of.mutable])


def _tag(of: ExternType, types: dict[FuncType, int]) -> bytes:
    assert isinstance(of, TagType)
    return b"\0" + _type_index(of.type, types)


_ENCODE: dict[str, Callable[[ExternType, dict[FuncType, int]], bytes]] = {
    "func": _type_index, "table": _table, "memory": _memory, "global": _global, "tag": _tag,
}  # fmt: skip


def _limits(minimum: int, maximum: int | None) -> bytes:
    return b"\0" + _leb(minimum) if maximum is None else b"\1" + _leb(minimum) + _leb(maximum)


def _function(of: FuncType) -> bytes:
    return b"\x60" + b"".join([_leb(len(part)) + bytes([_VALUES[value] for value in part]) for part in of])


def _leb(value: int) -> bytes:
    """Encode an unsigned integer (5.2.2)."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _name(text: str) -> bytes:
    encoded = text.encode()
    return _leb(len(encoded)) + encoded


def _vector(items: list[bytes]) -> bytes:
    return _leb(len(items)) + b"".join(items)


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + _leb(len(content)) + content
