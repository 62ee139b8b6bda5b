"""Decode the binary of a component into definitions with unresolved indices.

This is the only module that reads the bytes of a component. It decodes everything in Binary.md, including asynchronous
features; :mod:`aegis.wasm.features` finds the ones that Aegis does not run. The resolution of the definitions, and the
engine, check indices and types.

The cost is bounded: each vector length by the remaining bytes, nesting by a depth, and the bytes that are decoded one
by one by a total over the artifact. Code and data of core modules are skipped.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.errors import ArtifactError
from aegis.wasm.binary import BinaryReader, Malformed, ModuleInfo, read_within, value_type
from aegis.wasm.component_types import (
    read_alias,
    read_core_sort,
    read_core_type,
    read_export,
    read_extern_name,
    read_flag,
    read_import,
    read_results,
    read_sort,
    read_type,
    read_value_type,
    unknown,
    vector,
)
from aegis.wasm.definitions import (
    Builtin,
    CanonicalOptions,
    ComponentBinary,
    ComponentDefinition,
    CoreInstanceDefinition,
    Definition,
    EmbeddedModule,
    InstanceDefinition,
    LiftDefinition,
    LowerDefinition,
    ModuleDefinition,
    StartFunction,
    TypeDefinition,
    ValueDefinition,
    ValueType,
)

__all__ = ["PREAMBLE", "SECTION_NAMES", "charged", "decode_component"]

PREAMBLE = b"\0asm\x0d\0\1\0"
"""The first bytes of a component: magic, version and layer."""
_MAX_COMPONENT_DEPTH = 64
_MAX_DEFINITION_BYTES = 2 << 20
"""Bytes of types, instances, aliases, imports and exports, plus 8 for each item and section. They are decoded one by
one here, and more slowly by the engine; large programs have some 200 KiB."""
_ITEM_BYTES = 8
_MAX_DECLARED_BYTES = 4 << 20
"""Bytes of the sections of all modules, except code, data and element sections; an interpreter has 200 KiB."""
_CODE = ("element", "code", "data")
SECTION_NAMES = (
    "custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canonical",
    "start", "import", "export", "value",
)  # fmt: skip
_ENCODINGS = {0x00: "utf8", 0x01: "utf16", 0x02: "latin1+utf16"}
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
    0x2E: ("stream.forward", "t"), 0x2F: ("future.forward", "t"), 0x40: ("thread.spawn-ref", "fi"),
    0x41: ("thread.spawn-indirect", "fii"), 0x42: ("thread.available-parallelism", "f"),
}  # fmt: skip
"""Canonical built-ins by opcode, with their immediates: a type index (t), a result list (r), a core value type (v),
options (o), a flag (f), an index (i)."""


def decode_component(data: bytes) -> ComponentBinary:
    """Decode a component.

    Raise :class:`~aegis.errors.ArtifactError` when the bytes are malformed or exceed a bound of this module, or when a
    core type needs a proposal that Aegis does not support.
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
    """Return ``size``; raise :class:`Malformed` if it exceeds the bound on definitions."""
    if size > _MAX_DEFINITION_BYTES:
        raise Malformed(f"types, instances and names take more than {_MAX_DEFINITION_BYTES:,} bytes")
    return size


def _preamble_fault(found: bytes) -> str:
    """Return the fault of the first bytes of a component that are not its preamble."""
    version, layer = int.from_bytes(found[4:6], "little"), found[6:]
    if len(found) < 8 or found[:4] != PREAMBLE[:4] or layer != PREAMBLE[6:]:
        return "a component has an invalid preamble"
    return (
        f"a component has version 0x{version:x} of the binary format, and Aegis reads 0x{PREAMBLE[4]:x}: "
        "it was built by an older or newer toolchain: build it again with a current one"
    )


class _Section(BinaryReader):
    """A section whose items count towards the decoder's size, because a one-byte item becomes a larger object."""

    __slots__ = ("decoder",)

    def __init__(self, decoder: _Decoder, at: int, end: int) -> None:
        super().__init__(decoder.data, at, end)
        self.decoder = decoder

    def count(self) -> int:
        count = super().count()
        self.decoder.charge(count * _ITEM_BYTES)
        return count


class _Decoder:
    """The decoding of one artifact; ``size`` and ``declared`` count its work."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.modules: list[EmbeddedModule] = []
        self.sections: list[tuple[str, int]] = []
        self.components = self.size = self.declared = 0

    def component(self, start: int, end: int, depth: int) -> ComponentDefinition:
        if self.data[start : start + 8] != PREAMBLE:
            raise Malformed(_preamble_fault(self.data[start : start + 8]))
        if depth > _MAX_COMPONENT_DEPTH:
            raise Malformed(f"components are nested deeper than {_MAX_COMPONENT_DEPTH}")
        found: list[Definition] = []
        before = self.size
        inner = 0  # the size of nested components, which have totals of their own
        reader = BinaryReader(self.data, start + 8, end)
        while reader.at < reader.end:
            number, length = reader.byte(), reader.leb()
            section = _Section(self, reader.at, reader.at + length)
            reader.skip(length)
            if number >= len(SECTION_NAMES):
                raise Malformed(f"section {number} does not exist")
            self.charge(_ITEM_BYTES)
            label = f"custom {section.name()!r}" if number == 0 else SECTION_NAMES[number]
            if not depth:
                self.sections.append((label, length))
            if number == 4:
                self.components += 1
                outside = self.size
                found.append(self.component(section.at, section.end, depth + 1))
                inner += self.size - outside
            elif number == 1:
                found.append(self.module(section))
            elif number:
                self.charge(length)
                self.items(number, section, found)
        return ComponentDefinition(tuple(found), self.size - before - inner)

    def charge(self, size: int) -> None:
        self.size = charged(self.size + size)

    def module(self, section: BinaryReader) -> ModuleDefinition:
        made = EmbeddedModule(section.at, section.end, read_within(self.data, section.at, section.end))
        self.modules.append(made)
        sizes = [size for name, size in made.info.sections if name not in _CODE and not name.startswith("custom")]
        self.declared += sum(sizes)
        if self.declared > _MAX_DECLARED_BYTES:
            raise Malformed(f"the declarations of its modules take more than {_MAX_DECLARED_BYTES:,} bytes")
        return ModuleDefinition(len(self.modules) - 1)

    def items(self, number: int, section: BinaryReader, found: list[Definition]) -> None:
        if number == 9:
            found.append(_start(section))
        else:
            read = _ITEMS[number]
            found.extend([read(section) for _ in range(section.count())])
        if section.at != section.end:
            raise Malformed(f"the {SECTION_NAMES[number]} section is longer than its content")


# -- definitions ------------------------------------------------------------------------------------------------------


def _core_instance(r: BinaryReader) -> CoreInstanceDefinition:
    code = r.byte()
    if code == 0:
        return CoreInstanceDefinition(r.leb(), vector(r, _core_argument))
    if code == 1:
        return CoreInstanceDefinition(None, vector(r, _core_export))
    raise unknown(code, "a core instance")


def _core_argument(r: BinaryReader) -> tuple[str, str, int]:
    name, code = r.name(), r.byte()
    if code != 0x12:
        raise unknown(code, "a sort of arguments of core modules")
    return name, "instance", r.leb()


def _core_export(r: BinaryReader) -> tuple[str, str, int]:
    return r.name(), read_core_sort(r), r.leb()


def _sorted_item(r: BinaryReader) -> tuple[str, str, int]:
    return r.name(), read_sort(r), r.leb()


def _inline_export(r: BinaryReader) -> tuple[str, str, int]:
    return read_extern_name(r)[0], read_sort(r), r.leb()


def _instance(r: BinaryReader) -> InstanceDefinition:
    code = r.byte()
    if code == 0:
        return InstanceDefinition(r.leb(), vector(r, _sorted_item))
    if code == 1:
        return InstanceDefinition(None, vector(r, _inline_export))
    raise unknown(code, "an instance")


def _canonical(r: BinaryReader) -> LiftDefinition | LowerDefinition | Builtin:
    code = r.byte()
    if code < 2:
        sort = r.byte()
        if sort:
            raise unknown(sort, "a sort that can be lifted or lowered")
        function, options = r.leb(), _options(r)
        return LowerDefinition(function, options) if code else LiftDefinition(function, options, r.leb())
    if code not in _BUILTINS:
        raise unknown(code, "a canonical definition")
    name, shape = _BUILTINS[code]
    of: ValueType | None = None
    options_found: CanonicalOptions | None = None
    immediates: list[int] = []
    for immediate in shape:
        match immediate:
            case "t":
                of = r.leb()
            case "r":
                of = read_results(r)
            case "v":
                of = value_type(r, ModuleInfo())
            case "o":
                options_found = _options(r)
            case "f":
                immediates.append(read_flag(r))
            case _:
                immediates.append(r.leb())
    return Builtin(name, of, options_found, tuple(immediates))


def _options(r: BinaryReader) -> CanonicalOptions:
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


def _option(r: BinaryReader) -> tuple[str, str | int]:
    code = r.byte()
    if code in _ENCODINGS:
        return "encoding", _ENCODINGS[code]
    if code == 0x06:
        return "is_async", True
    if code == 0x09:
        return "gc", True
    if code not in _OPTIONS:
        raise unknown(code, "a canonical option")
    return _OPTIONS[code], r.leb()


def _start(r: BinaryReader) -> StartFunction:
    return StartFunction(r.leb(), vector(r, BinaryReader.leb), r.leb())


def _value_definition(r: BinaryReader) -> ValueDefinition:
    of, size = read_value_type(r), r.leb()
    begin = r.at
    r.skip(size)
    return ValueDefinition(of, r.data[begin : r.at])


_ITEMS: dict[int, Callable[[BinaryReader], Definition]] = {
    2: _core_instance, 3: read_core_type, 5: _instance, 6: read_alias,
    7: lambda r: TypeDefinition(read_type(r)), 8: _canonical, 10: read_import, 11: read_export, 12: _value_definition,
}  # fmt: skip
