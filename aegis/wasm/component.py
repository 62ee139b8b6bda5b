"""Reads the binary of a component into definitions, of which nothing is resolved yet.

This is the one place that walks the bytes of a component. It reads everything that Binary.md encodes, asynchronous
features included; which of that Aegis runs is decided elsewhere. Whether indices exist and types match is decided
where definitions are resolved, and by the engine.

Its cost is bounded: every count by the bytes that are left, nesting by depth, and the bytes that are read one by one
by a sum over the whole artifact. Code and data of core modules are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aegis.errors import ArtifactError
from aegis.values import FuncType
from aegis.wasm.binary import MOST_VALUES, Malformed, ModuleInfo, Reader, counted, gc_refusal, read_within, value_type
from aegis.wasm.definitions import (
    Alias,
    AnyType,
    Builtin,
    CanonicalOptions,
    ComponentBinary,
    ComponentDefinition,
    CompoundType,
    CoreInstance,
    CoreModule,
    CoreTypeDefinition,
    Declaration,
    Definition,
    ExportDefinition,
    Extern,
    FunctionType,
    HandleType,
    ImportDefinition,
    Instance,
    LabelledType,
    Lift,
    Lower,
    ModuleDefinition,
    ModuleType,
    ResourceRep,
    ScopeType,
    StartFunction,
    TypeDefinition,
    ValueDefinition,
    ValueType,
)

__all__ = ["PREAMBLE", "SECTION_NAMES", "charged", "decode_component"]

PREAMBLE = b"\0asm\x0d\0\1\0"
"""How a component begins: magic, version and layer."""
_MAX_COMPONENT_DEPTH = 64
_MAX_TYPE_DEPTH = 100
_MAX_BYTES = 2 << 20
"""Bytes of types, instances, aliases, imports and exports, which are read here one by one and by the engine more
slowly; those of large programs take some 100 KiB."""
_MAX_DECLARED_BYTES = 4 << 20
"""Bytes of the declarations of all modules, code and data apart, which are read here too; an interpreter has
200 KiB."""
_CODE = ("element", "code", "data")
SECTION_NAMES = (
    "custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canonical",
    "start", "import", "export", "value",
)  # fmt: skip
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
_ENCODINGS = {0x00: "utf8", 0x01: "utf16", 0x02: "latin1+utf16"}
_ATTRIBUTES = {0x00: "implements", 0x01: "versionsuffix", 0x02: "external-id"}
_MAX_OPTIONS = 10
_OPTIONS = {0x03: "memory", 0x04: "realloc", 0x05: "post_return", 0x07: "callback", 0x08: "core_type"}
_BUILTINS = {
    0x02: ("resource.new", "t"), 0x03: ("resource.drop", "t"), 0x04: ("resource.rep", "t"),
    0x05: ("task.cancel", ""), 0x06: ("subtask.cancel", "f"), 0x09: ("task.return", "ro"),
    0x0A: ("context.get", "vi"), 0x0B: ("context.set", "vi"), 0x0C: ("thread.yield", "f"), 0x0D: ("subtask.drop", ""),
    0x0E: ("stream.new", "t"), 0x0F: ("stream.read", "to"), 0x10: ("stream.write", "to"),
    0x11: ("stream.cancel-read", "tf"), 0x12: ("stream.cancel-write", "tf"), 0x13: ("stream.drop-readable", "t"),
    0x14: ("stream.drop-writable", "t"), 0x15: ("future.new", "t"), 0x16: ("future.read", "to"),
    0x17: ("future.write", "to"), 0x18: ("future.cancel-read", "tf"), 0x19: ("future.cancel-write", "tf"),
    0x1A: ("future.drop-readable", "t"), 0x1B: ("future.drop-writable", "t"), 0x1C: ("error-context.new", "o"),
    0x1D: ("error-context.debug-message", "o"), 0x1E: ("error-context.drop", ""), 0x1F: ("waitable-set.new", ""),
    0x20: ("waitable-set.wait", "fi"), 0x21: ("waitable-set.poll", "fi"), 0x22: ("waitable-set.drop", ""),
    0x23: ("waitable.join", ""), 0x24: ("backpressure.inc", ""), 0x25: ("backpressure.dec", ""),
    0x26: ("thread.index", ""), 0x27: ("thread.new-indirect", "ii"), 0x28: ("thread.resume-later", ""),
    0x29: ("thread.suspend", "f"), 0x2A: ("thread.suspend-then-resume", "f"), 0x2B: ("thread.yield-then-resume", "f"),
    0x2C: ("thread.suspend-then-promote", "f"), 0x2D: ("thread.yield-then-promote", "f"),
    0x40: ("thread.spawn-ref", "fi"), 0x41: ("thread.spawn-indirect", "fii"),
    0x42: ("thread.available-parallelism", "f"),
}  # fmt: skip
"""Canonical built-ins and their immediates: a type index (t), a result list (r), a core value type (v), options (o),
a flag (f), an index (i)."""

_T = TypeVar("_T")


def decode_component(data: bytes) -> ComponentBinary:
    """Decode a component.

    Raise ``ArtifactError`` when the bytes are malformed, when they are more than the limits here, or when a core type
    needs a proposal that Aegis does not admit.
    """
    decoder = _Decoder(data)
    try:
        root = decoder.component(0, len(data), 0)
    except Malformed as error:
        raise ArtifactError(f"not a valid WebAssembly component: {error}") from None
    return ComponentBinary(
        root, tuple(decoder.modules), decoder.components, tuple(decoder.sections), decoder.size, decoder.declared
    )


def charged(size: int) -> int:
    """Return ``size``; raise :class:`Malformed` if an artifact may not have so many bytes of types and names."""
    if size > _MAX_BYTES:
        raise Malformed(f"its types, instances and names take more than {_MAX_BYTES:,} bytes")
    return size


class _Decoder:
    """Decodes one artifact; counts its work."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.modules: list[CoreModule] = []
        self.sections: list[tuple[str, int]] = []
        self.components = self.size = self.declared = 0

    def component(self, start: int, end: int, depth: int) -> ComponentDefinition:
        if self.data[start : start + 8] != PREAMBLE:
            raise Malformed("what should be a component does not start as one")
        if depth > _MAX_COMPONENT_DEPTH:
            raise Malformed(f"components are nested deeper than {_MAX_COMPONENT_DEPTH}")
        found: list[Definition] = []
        before = self.size
        inner = 0  # bytes of components within, which are charged to themselves
        reader = Reader(self.data, start + 8, end)
        while reader.at < reader.end:
            number, length = reader.byte(), reader.leb()
            section = Reader(self.data, reader.at, reader.at + length)
            reader.skip(length)
            if number >= len(SECTION_NAMES):
                raise Malformed(f"section {number} does not exist")
            self.size = charged(self.size + 8)
            label = f"custom {section.name()!r}" if number == 0 else SECTION_NAMES[number]
            if not depth:
                self.sections.append((label, length))
            if number == 4:
                self.components += 1
                made = self.component(section.at, section.end, depth + 1)
                found.append(made)
                inner += made.size
            elif number == 1:
                found.append(self.module(section))
            elif number:
                self.size = charged(self.size + length)
                self.items(number, section, found)
        return ComponentDefinition(tuple(found), self.size - before)

    def module(self, section: Reader) -> ModuleDefinition:
        made = CoreModule(section.at, section.end, read_within(self.data, section.at, section.end))
        self.modules.append(made)
        sizes = [size for name, size in made.info.sections if name not in _CODE and not name.startswith("custom")]
        self.declared += sum(sizes)
        if self.declared > _MAX_DECLARED_BYTES:
            raise Malformed(f"what its modules declare takes more than {_MAX_DECLARED_BYTES:,} bytes")
        return ModuleDefinition(len(self.modules) - 1)

    def items(self, number: int, section: Reader, found: list[Definition]) -> None:
        if number == 9:
            found.append(_start(section))
        else:
            read = _ITEMS[number]
            found.extend([read(section) for _ in range(section.count())])
        if section.at != section.end:
            raise Malformed(f"a section of kind '{SECTION_NAMES[number]}' is longer than its content")


def _unknown(code: int, what: str) -> Malformed:
    return Malformed(f"0x{code:02x} is not {what}")


def _vector(r: Reader, read: Callable[[Reader], _T]) -> tuple[_T, ...]:
    return tuple([read(r) for _ in range(r.count())])


def _flag(r: Reader) -> int:
    code = r.byte()
    if code > 1:
        raise _unknown(code, "a flag")
    return code


# -- names, sorts -----------------------------------------------------------------------------------------------------


def _extern_name(r: Reader) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Read the name of an import or export, and its attributes (``nameattributes``)."""
    form, name = r.byte(), r.name()
    if form < 2:  # two spellings of the same
        return name, ()
    if form > 2:
        raise _unknown(form, "a form of names")
    return name, _vector(r, _attribute)


def _attribute(r: Reader) -> tuple[str, str]:
    code = r.byte()
    if code not in _ATTRIBUTES:
        raise _unknown(code, "an attribute of names")
    return _ATTRIBUTES[code], r.name()


def _sort(r: Reader) -> str:
    """Read the sort of an item that components pass to each other."""
    code = r.byte()
    if code in _SORTS:
        return _SORTS[code]
    if code:
        raise _unknown(code, "a sort")
    return _core_module(r)


def _core_module(r: Reader) -> str:
    code = r.byte()
    if code != 0x11:
        raise _unknown(code, "a core sort that a component can pass")
    return "core module"


def _core_sort(r: Reader) -> str:
    """Read the sort of an item that core modules pass to each other."""
    code = r.byte()
    if code > 4:
        raise _unknown(code, "a core sort that a module can pass")
    return _CORE_SORTS[code]


def _sorted_item(r: Reader) -> tuple[str, str, int]:
    return r.name(), _sort(r), r.leb()


def _inline_export(r: Reader) -> tuple[str, str, int]:
    return _extern_name(r)[0], _sort(r), r.leb()


# -- types ------------------------------------------------------------------------------------------------------------


def _value(r: Reader) -> ValueType:
    """Read a value type: a primitive, one byte, or the index of a definition, a signed integer of 33 bits."""
    first = r.data[r.at] if r.at < r.end else 0
    primitive = _PRIMITIVES.get(first)
    if primitive is not None:
        r.at += 1
        return primitive
    index = r.leb(33)
    if r.data[r.at - 1] & 0x40 or index >> 32:
        raise _unknown(first, "a value type")
    return index


def _maybe(r: Reader) -> ValueType | None:
    return _value(r) if _flag(r) else None


def _results(r: Reader) -> ValueType | None:
    code = r.byte()
    if code > 1:
        raise _unknown(code, "a list of results")
    if code == 0:
        return _value(r)
    if r.byte():
        raise Malformed("a function has several results")
    return None


def _param(r: Reader) -> tuple[str, ValueType]:
    return r.name(), _value(r)


def _label(r: Reader) -> tuple[str, None]:
    return r.name(), None


def _case(r: Reader) -> tuple[str, ValueType | None]:
    case = r.name(), _maybe(r)
    if r.byte():
        raise Malformed("a case of a variant refines another")
    return case


def _any_type(r: Reader, depth: int = 0) -> AnyType:
    """Read a type definition within ``depth`` component or instance types."""
    code = r.byte()
    if code in _PRIMITIVES:
        return CompoundType("primitive", (_PRIMITIVES[code],))
    read = _TYPES.get(code)
    if read is not None:
        return read(r)
    if code not in (0x41, 0x42):
        raise _unknown(code, "a type of a component")
    if depth >= _MAX_TYPE_DEPTH:
        raise Malformed(f"types are nested deeper than {_MAX_TYPE_DEPTH}")
    kind = "component" if code == 0x41 else "instance"
    return ScopeType(kind, tuple([_declaration(r, kind, depth + 1) for _ in range(r.count())]))


def _function_type(r: Reader, is_async: bool) -> FunctionType:
    return FunctionType(_vector(r, _param), _results(r), is_async)


def _resource(r: Reader) -> ResourceRep:
    return ResourceRep(value_type(r, ModuleInfo()), r.leb() if _flag(r) else None)


_TYPES: dict[int, Callable[[Reader], AnyType]] = {
    0x72: lambda r: LabelledType("record", _vector(r, _param)),
    0x71: lambda r: LabelledType("variant", _vector(r, _case)),
    0x6E: lambda r: LabelledType("flags", _vector(r, _label)),
    0x6D: lambda r: LabelledType("enum", _vector(r, _label)),
    0x70: lambda r: CompoundType("list", (_value(r),)),
    0x67: lambda r: CompoundType("list", (_value(r),), r.leb()),
    0x6F: lambda r: CompoundType("tuple", _vector(r, _value)),
    0x6B: lambda r: CompoundType("option", (_value(r),)),
    0x6A: lambda r: CompoundType("result", (_maybe(r), _maybe(r))),
    0x66: lambda r: CompoundType("stream", (_maybe(r),)),
    0x65: lambda r: CompoundType("future", (_maybe(r),)),
    0x63: lambda r: CompoundType("map", (_value(r), _value(r))),
    0x69: lambda r: HandleType("own", r.leb()),
    0x68: lambda r: HandleType("borrow", r.leb()),
    0x40: lambda r: _function_type(r, False),
    0x43: lambda r: _function_type(r, True),
    0x3F: _resource,
}


def _declaration(r: Reader, kind: str, depth: int) -> Declaration:
    code = r.byte()
    match code:
        case 0:
            return _core_type_definition(r)
        case 1:
            return TypeDefinition(_any_type(r, depth))
        case 2:
            return _alias(r)
        case 3 if kind == "component":
            return _import(r)
        case 4:
            (name, attributes), extern = _extern_name(r), _extern(r)
            return ExportDefinition(name, extern.sort, None, extern, attributes)
    raise _unknown(code, f"a declaration of {'a component' if kind == 'component' else 'an instance'} type")


def _extern(r: Reader) -> Extern:
    code = r.byte()
    match code:
        case 0:
            return Extern(_core_module(r), r.leb())
        case 1 | 4 | 5:
            return Extern(_SORTS[code], r.leb())
        case 2:
            return Extern("value", _value(r)) if _flag(r) else Extern("value", r.leb(), True)
        case 3:
            bound = r.byte()
            if bound > 1:
                raise _unknown(bound, "a bound of types")
            return Extern("type", None if bound else r.leb())
    raise _unknown(code, "a description of an import or export")


# -- core types -------------------------------------------------------------------------------------------------------


def _core_type_definition(r: Reader) -> CoreTypeDefinition:
    return CoreTypeDefinition(_module_type(r) if r.data[r.at : r.at + 1] == b"\x50" else _core_function(r))


def _core_function(r: Reader) -> FuncType:
    code = r.byte()
    if code != 0x60:
        if code in (0x00, 0x4E, 0x4F, 0x5D, 0x5E, 0x5F):
            raise ArtifactError(gc_refusal())
        raise _unknown(code, "a core type")
    info = ModuleInfo()
    params = tuple([value_type(r, info) for _ in range(counted(r, MOST_VALUES, "parameters of one function"))])
    return FuncType(params, tuple([value_type(r, info) for _ in range(counted(r, MOST_VALUES, "results"))]))


def _module_type(r: Reader) -> ModuleType:
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
                raise _unknown(code, "a declaration of a core module type")
    return ModuleType(tuple(imports), tuple(exports))


def _core_extern(r: Reader) -> str:
    """Read the type of an import or export of a core module; return its kind."""
    kind = _core_sort(r)
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
            _flag(r)
        case _:
            r.byte()
            r.leb()
    return kind


def _core_limits(r: Reader) -> None:
    flags = r.byte()
    if flags > 15:
        raise _unknown(flags, "a kind of limits")
    bits = 64 if flags & 4 else 32
    r.leb(bits)
    if flags & 1:
        r.leb(bits)
    if flags & 8:
        r.leb()


# -- definitions ------------------------------------------------------------------------------------------------------


def _core_instance(r: Reader) -> CoreInstance:
    code = r.byte()
    if code == 0:
        return CoreInstance(r.leb(), _vector(r, _core_argument))
    if code == 1:
        return CoreInstance(None, _vector(r, _core_export))
    raise _unknown(code, "a core instance")


def _core_argument(r: Reader) -> tuple[str, str, int]:
    name, code = r.name(), r.byte()
    if code != 0x12:
        raise _unknown(code, "a sort of arguments of core modules")
    return name, "instance", r.leb()


def _core_export(r: Reader) -> tuple[str, str, int]:
    return r.name(), _core_sort(r), r.leb()


def _instance(r: Reader) -> Instance:
    code = r.byte()
    if code == 0:
        return Instance(r.leb(), _vector(r, _sorted_item))
    if code == 1:
        return Instance(None, _vector(r, _inline_export))
    raise _unknown(code, "an instance")


def _alias(r: Reader) -> Alias:
    code = r.byte()
    sort = _SORTS.get(code)
    if sort is None:
        if code:
            raise _unknown(code, "a sort")
        core = r.byte()
        if core not in _CORE_SORTS:
            raise _unknown(core, "a core sort")
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


def _canonical(r: Reader) -> Lift | Lower | Builtin:
    code = r.byte()
    if code < 2:
        sort = r.byte()
        if sort:
            raise _unknown(sort, "a sort that can be lifted or lowered")
        function, options = r.leb(), _options(r)
        return Lower(function, options) if code else Lift(function, options, r.leb())
    if code not in _BUILTINS:
        raise _unknown(code, "a canonical definition")
    name, shape = _BUILTINS[code]
    of: ValueType | None = None
    options_found: CanonicalOptions | None = None
    immediates: list[int] = []
    for immediate in shape:
        match immediate:
            case "t":
                of = r.leb()
            case "r":
                of = _results(r)
            case "v":
                of = value_type(r, ModuleInfo())
            case "o":
                options_found = _options(r)
            case "f":
                immediates.append(_flag(r))
            case _:
                immediates.append(r.leb())
    return Builtin(name, of, options_found, tuple(immediates))


def _options(r: Reader) -> CanonicalOptions:
    count = r.count()
    if count == 0:
        return _PLAIN
    if count > _MAX_OPTIONS:
        raise Malformed(f"a canonical definition has more than {_MAX_OPTIONS} options")
    found: dict[str, str | int] = {}
    for _ in range(count):
        name, value = _option(r)
        if name in found:
            raise Malformed(f"the canonical option '{name}' is given twice")
        found[name] = value
    return CanonicalOptions(**found)  # type: ignore[arg-type]


_PLAIN = CanonicalOptions()


def _option(r: Reader) -> tuple[str, str | int]:
    code = r.byte()
    if code in _ENCODINGS:
        return "encoding", _ENCODINGS[code]
    if code == 0x06:
        return "is_async", True
    if code == 0x09:
        return "gc", True
    if code not in _OPTIONS:
        raise _unknown(code, "a canonical option")
    return _OPTIONS[code], r.leb()


def _start(r: Reader) -> StartFunction:
    return StartFunction(r.leb(), _vector(r, Reader.leb), r.leb())


def _value_definition(r: Reader) -> ValueDefinition:
    of, size = _value(r), r.leb()
    begin = r.at
    r.skip(size)
    return ValueDefinition(of, r.data[begin : r.at])


def _import(r: Reader) -> ImportDefinition:
    name, attributes = _extern_name(r)
    return ImportDefinition(name, _extern(r), attributes)


def _export(r: Reader) -> ExportDefinition:
    name, attributes = _extern_name(r)
    sort, index = _sort(r), r.leb()
    return ExportDefinition(name, sort, index, _extern(r) if _flag(r) else None, attributes)


_ITEMS: dict[int, Callable[[Reader], Definition]] = {
    2: _core_instance, 3: _core_type_definition, 5: _instance, 6: _alias,
    7: lambda r: TypeDefinition(_any_type(r)), 8: _canonical, 10: _import, 11: _export, 12: _value_definition,
}  # fmt: skip
