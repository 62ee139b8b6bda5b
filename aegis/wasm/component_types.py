"""Decode names, sorts, types, aliases, imports and exports of a component.

These are the definitions that a component or instance type can also declare. Source: the component model's Binary.md,
"Type Definitions", "Alias Definitions" and "Import and Export Definitions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aegis.errors import ArtifactError
from aegis.values import FuncType
from aegis.wasm.binary import MAX_VALUES, BinaryReader, Malformed, ModuleInfo, counted, gc_refusal, value_type
from aegis.wasm.definitions import (
    Alias,
    AnyType,
    CompoundType,
    CoreTypeDefinition,
    Declaration,
    ExportDefinition,
    Extern,
    FunctionType,
    HandleType,
    ImportDefinition,
    LabelledType,
    ModuleType,
    ResourceRep,
    ScopeType,
    TypeDefinition,
    ValueType,
)

__all__ = [
    "read_alias", "read_core_sort", "read_core_type", "read_export", "read_extern_name", "read_flag", "read_import",
    "read_results", "read_sort", "read_type", "read_value_type", "unknown", "vector",
]  # fmt: skip

_MAX_TYPE_DEPTH = 100
_CORE_SORTS = {
    0x00: "func", 0x01: "table", 0x02: "memory", 0x03: "global", 0x04: "tag", 0x10: "type", 0x11: "module",
    0x12: "instance",
}  # fmt: skip
_SORTS = {0x01: "func", 0x02: "value", 0x03: "type", 0x04: "component", 0x05: "instance"}
_OUTER = ("core type", "core module", "type", "component")
_PRIMITIVES = {
    0x7F: "bool", 0x7E: "s8", 0x7D: "u8", 0x7C: "s16", 0x7B: "u16", 0x7A: "s32", 0x79: "u32", 0x78: "s64", 0x77: "u64",
    0x76: "f32", 0x75: "f64", 0x74: "char", 0x73: "string", 0x64: "error-context",
}  # fmt: skip
_ATTRIBUTES = {0x00: "implements", 0x01: "versionsuffix", 0x02: "external-id"}

_T = TypeVar("_T")


def unknown(code: int, what: str) -> Malformed:
    """Return the error for an unknown byte; ``what`` is the expected item with its article."""
    return Malformed(f"0x{code:02x} is not {what}")


def vector(r: BinaryReader, read: Callable[[BinaryReader], _T]) -> tuple[_T, ...]:
    """Read a vector of items (``vec``)."""
    return tuple([read(r) for _ in range(r.count())])


def read_flag(r: BinaryReader) -> int:
    """Read a byte that is 0 or 1."""
    code = r.byte()
    if code > 1:
        raise unknown(code, "a flag")
    return code


# -- names, sorts -----------------------------------------------------------------------------------------------------


def read_extern_name(r: BinaryReader) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Read the name of an import or export, and its attributes (``nameattributes``)."""
    form, name = r.byte(), r.name()
    if form < 2:  # both encode a plain name
        return name, ()
    if form > 2:
        raise unknown(form, "a form of names")
    return name, vector(r, _attribute)


def _attribute(r: BinaryReader) -> tuple[str, str]:
    code = r.byte()
    if code not in _ATTRIBUTES:
        raise unknown(code, "an attribute of names")
    return _ATTRIBUTES[code], r.name()


def read_sort(r: BinaryReader) -> str:
    """Read the sort of an item that a component can import or export."""
    code = r.byte()
    if code in _SORTS:
        return _SORTS[code]
    if code:
        raise unknown(code, "a sort")
    return _core_module(r)


def _core_module(r: BinaryReader) -> str:
    code = r.byte()
    if code != 0x11:
        raise unknown(code, "a core sort that a component can pass")
    return "core module"


def read_core_sort(r: BinaryReader) -> str:
    """Read the sort of an item that a core module can import or export."""
    code = r.byte()
    if code > 4:
        raise unknown(code, "a core sort that a module can pass")
    return _CORE_SORTS[code]


# -- types ------------------------------------------------------------------------------------------------------------


def read_value_type(r: BinaryReader) -> ValueType:
    """Read a value type: the one-byte code of a primitive, or a type index as a signed 33-bit integer."""
    first = r.data[r.at] if r.at < r.end else 0
    primitive = _PRIMITIVES.get(first)
    if primitive is not None:
        r.at += 1
        return primitive
    index = r.leb(33)
    if r.data[r.at - 1] & 0x40 or index >> 32:
        raise unknown(first, "a value type")
    return index


def _maybe(r: BinaryReader) -> ValueType | None:
    return read_value_type(r) if read_flag(r) else None


def read_results(r: BinaryReader) -> ValueType | None:
    """Read the result of a function, ``None`` if it has none (``resultlist``)."""
    code = r.byte()
    if code > 1:
        raise unknown(code, "a list of results")
    if code == 0:
        return read_value_type(r)
    if r.byte():
        raise Malformed("a function has several results")
    return None


def _param(r: BinaryReader) -> tuple[str, ValueType]:
    return r.name(), read_value_type(r)


def _label(r: BinaryReader) -> tuple[str, None]:
    return r.name(), None


def _case(r: BinaryReader) -> tuple[str, ValueType | None]:
    case = r.name(), _maybe(r)
    if r.byte():
        raise Malformed("a case of a variant refines another")
    return case


def read_type(r: BinaryReader, depth: int = 0) -> AnyType:
    """Read a type definition nested in ``depth`` component or instance types."""
    code = r.byte()
    if code in _PRIMITIVES:
        return CompoundType("primitive", (_PRIMITIVES[code],))
    read = _TYPES.get(code)
    if read is not None:
        return read(r)
    if code not in (0x41, 0x42):
        raise unknown(code, "a type of a component")
    if depth >= _MAX_TYPE_DEPTH:
        raise Malformed(f"types are nested deeper than {_MAX_TYPE_DEPTH}")
    kind = "component" if code == 0x41 else "instance"
    return ScopeType(kind, tuple([_declaration(r, kind, depth + 1) for _ in range(r.count())]))


def _function_type(r: BinaryReader, is_async: bool) -> FunctionType:
    return FunctionType(vector(r, _param), read_results(r), is_async)


def _resource(r: BinaryReader) -> ResourceRep:
    return ResourceRep(value_type(r, ModuleInfo()), r.leb() if read_flag(r) else None)


_TYPES: dict[int, Callable[[BinaryReader], AnyType]] = {
    0x72: lambda r: LabelledType("record", vector(r, _param)),
    0x71: lambda r: LabelledType("variant", vector(r, _case)),
    0x6E: lambda r: LabelledType("flags", vector(r, _label)),
    0x6D: lambda r: LabelledType("enum", vector(r, _label)),
    0x70: lambda r: CompoundType("list", (read_value_type(r),)),
    0x67: lambda r: CompoundType("list", (read_value_type(r),), r.leb()),
    0x6F: lambda r: CompoundType("tuple", vector(r, read_value_type)),
    0x6B: lambda r: CompoundType("option", (read_value_type(r),)),
    0x6A: lambda r: CompoundType("result", (_maybe(r), _maybe(r))),
    0x66: lambda r: CompoundType("stream", (_maybe(r),)),
    0x65: lambda r: CompoundType("future", (_maybe(r),)),
    0x63: lambda r: CompoundType("map", (read_value_type(r), read_value_type(r))),
    0x69: lambda r: HandleType("own", r.leb()),
    0x68: lambda r: HandleType("borrow", r.leb()),
    0x40: lambda r: _function_type(r, False),
    0x43: lambda r: _function_type(r, True),
    0x3F: _resource,
}


def _declaration(r: BinaryReader, kind: str, depth: int) -> Declaration:
    code = r.byte()
    match code:
        case 0:
            return read_core_type(r)
        case 1:
            return TypeDefinition(read_type(r, depth))
        case 2:
            return read_alias(r)
        case 3 if kind == "component":
            return read_import(r)
        case 4:
            (name, attributes), extern = read_extern_name(r), _extern(r)
            return ExportDefinition(name, extern.sort, None, extern, attributes)
    raise unknown(code, f"a declaration of {'a component' if kind == 'component' else 'an instance'} type")


def _extern(r: BinaryReader) -> Extern:
    code = r.byte()
    match code:
        case 0:
            return Extern(_core_module(r), r.leb())
        case 1 | 4 | 5:
            return Extern(_SORTS[code], r.leb())
        case 2:
            return Extern("value", read_value_type(r)) if read_flag(r) else Extern("value", r.leb(), True)
        case 3:
            bound = r.byte()
            if bound > 1:
                raise unknown(bound, "a bound of types")
            return Extern("type", None if bound else r.leb())
    raise unknown(code, "a description of an import or export")


# -- aliases, imports, exports -----------------------------------------------------------------------------------------


def read_alias(r: BinaryReader) -> Alias:
    """Read an alias."""
    code = r.byte()
    sort = _SORTS.get(code)
    if sort is None:
        if code:
            raise unknown(code, "a sort")
        core = r.byte()
        if core not in _CORE_SORTS:
            raise unknown(core, "a core sort")
        sort = f"core {_CORE_SORTS[core]}"
    target = r.byte()
    if target == 0 and (code or sort == "core module"):
        return Alias("export", sort, r.leb(), r.name(), 0)
    if target == 1 and not code and core <= 4:
        return Alias("core export", _CORE_SORTS[core], r.leb(), r.name(), 0)
    if target == 2 and sort in _OUTER:
        count = r.leb()
        return Alias("outer", sort, r.leb(), "", count)
    raise Malformed(f"an alias of the sort '{sort}' has the target 0x{target:02x}")


def read_import(r: BinaryReader) -> ImportDefinition:
    """Read an import, as a definition or as a declaration."""
    name, attributes = read_extern_name(r)
    return ImportDefinition(name, _extern(r), attributes)


def read_export(r: BinaryReader) -> ExportDefinition:
    """Read an export of a component."""
    name, attributes = read_extern_name(r)
    sort, index = read_sort(r), r.leb()
    return ExportDefinition(name, sort, index, _extern(r) if read_flag(r) else None, attributes)


# -- core types -------------------------------------------------------------------------------------------------------


def read_core_type(r: BinaryReader) -> CoreTypeDefinition:
    """Read a core function type or a core module type."""
    return CoreTypeDefinition(_module_type(r) if r.data[r.at : r.at + 1] == b"\x50" else _core_function(r))


def _core_function(r: BinaryReader) -> FuncType:
    code = r.byte()
    if code != 0x60:
        if code in (0x00, 0x4E, 0x4F, 0x5D, 0x5E, 0x5F):
            raise ArtifactError(gc_refusal())
        raise unknown(code, "a core type")
    info = ModuleInfo()
    params = tuple([value_type(r, info) for _ in range(counted(r, MAX_VALUES, "parameters of one function"))])
    return FuncType(params, tuple([value_type(r, info) for _ in range(counted(r, MAX_VALUES, "results"))]))


def _module_type(r: BinaryReader) -> ModuleType:
    r.byte()
    imports: list[tuple[str, str, str]] = []
    exports: list[tuple[str, str]] = []
    for _ in range(r.count()):
        code = r.byte()
        match code:
            case 0:
                imports.append((r.name(), r.name(), _core_extern(r)))
            case 1:
                _core_function(r)
            case 2:
                if r.byte() != 0x10 or r.byte() != 0x01:
                    raise Malformed("an alias in a core module type is not one of an outer type")
                r.leb()
                r.leb()
            case 3:
                exports.append((r.name(), _core_extern(r)))
            case _:
                raise unknown(code, "a declaration of a core module type")
    return ModuleType(tuple(imports), tuple(exports))


def _core_extern(r: BinaryReader) -> str:
    """Read the type of an import or export of a core module; return its kind."""
    kind = read_core_sort(r)
    match kind:
        case "func":
            r.leb()
        case "table":
            value_type(r, ModuleInfo())
            _core_limits(r)
        case "memory":
            _core_limits(r)
        case "global":
            value_type(r, ModuleInfo())
            read_flag(r)
        case _:
            r.byte()
            r.leb()
    return kind


def _core_limits(r: BinaryReader) -> None:
    flags = r.byte()
    if flags > 15:
        raise unknown(flags, "a kind of limits")
    bits = 64 if flags & 4 else 32
    r.leb(bits)
    if flags & 1:
        r.leb(bits)
    if flags & 8:
        r.leb()
