"""Reads the imports and exports of a compiled component, with their types, from the engine (F7).

These types determine how values are lifted and lowered, so they must come from the engine that validated the
component. The engine's types are structural: a record type has fields but no name. Names come from type exports: a
type gets the name under which its interface exports an equal type. The types of the world itself are imports, which
the engine does not report; the skeleton exports them again under names that begin with :data:`WORLD_TYPE_PREFIX`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Iterator
from ctypes import byref, c_bool, c_size_t, c_uint8, c_void_p
from typing import Any, NamedTuple

from aegis.engine.native.library import lib, peek
from aegis.errors import AegisInternalError, ArtifactError
from aegis.text import printable
from aegis.wit.types import (
    MAX_TYPE_DEPTH,
    MAX_TYPE_PARTS,
    MAX_TYPE_PARTS_IN_ALL,
    PRIMITIVES,
    Borrow,
    Enum,
    Flags,
    Function,
    Future,
    Interface,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Stream,
    Tuple,
    Variant,
    WitType,
)

__all__ = ["WORLD_TYPE_PREFIX", "World", "reflect"]

WORLD_TYPE_PREFIX = "aegis-world-type-"
"""The start of the names under which a skeleton exports the types of its world."""

_COMPONENT, _INSTANCE, _MODULE, _FUNC, _RESOURCE, _CORE_FUNC, _TYPE = range(7)
_SCALARS = ("bool", "s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64", "f32", "f64", "char", "string")
_LIST, _RECORD, _TUPLE, _VARIANT, _ENUM, _OPTION, _RESULT, _FLAGS, _OWN, _BORROW, _FUTURE, _STREAM, _CONTEXT = range(
    13, 26
)
_REFUSED = {_CONTEXT: "an error-context"}
_MAX_ITEMS = 10_000
"""Imports, exports and members of interfaces. The engine finds the nth by iterating from the first, so reading 50,000
takes a minute; large real programs have a few hundred."""
_ODD_ITEMS = {_COMPONENT: "component", _MODULE: "core module", _CORE_FUNC: "core function"}

assert sorted(_SCALARS) == sorted(PRIMITIVES)


class World(NamedTuple):
    """The imports and exports of a component, by name: interfaces, and functions outside any interface.

    ``resources`` lists the distinct resource types by key, each owned by the interface that first names it; the first
    ``imported`` of them are imported from the host.
    """

    imports: dict[str, Interface | Function]
    exports: dict[str, Interface | Function]
    resources: list[Resource]
    imported: int


def reflect(component: Any, engine: Any) -> World:
    """Return the world of a native component; raise ``ArtifactError`` if it imports anything Aegis cannot provide."""
    native = lib.wasmtime_component_type(component)
    reader = _WorldReader(engine)
    try:
        imports = reader.items(native, "wasmtime_component_type_import", "import")
        imported = len(reader.resources)
        if reader.world_types(native) and any(isinstance(item, Function) for item in imports.values()):
            reader.items_read = reader.parts = 0
            imports = reader.items(native, "wasmtime_component_type_import", "import")  # again, with the names
        exports = reader.items(native, "wasmtime_component_type_export", "export")
        return World(imports, exports, reader.resources, imported)
    finally:
        reader.close()
        lib.wasmtime_component_type_delete(native)


class _Item(ctypes.Structure):
    """``wasmtime_component_item_t``. For a type item, a ``wasmtime_component_valtype_t`` begins at ``of``."""

    _fields_ = (("kind", c_uint8), ("of", c_void_p), ("more", c_void_p))


class _ValType(ctypes.Structure):
    """``wasmtime_component_valtype_t``."""

    _fields_ = (("kind", c_uint8), ("of", c_void_p))


def _name(pointer: c_void_p, size: c_size_t) -> str:
    return peek(pointer.value or 0, size.value).decode() if size.value else ""


def _call(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(lib, name)
    if function.argtypes is None:
        function.restype, function.argtypes = result, [c_void_p] * len(arguments)
    return function(*arguments)


class _WorldReader:
    """Reads the types of one component. It owns clones of the native resource types, to recognise them again."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.resources: list[Resource] = []
        self.natives: list[int] = []
        self.names: dict[Any, str] = {}
        self.everywhere: dict[Any, str] = {}
        self.of_world: dict[Any, str] = {}
        """Names of types that the world defines, for types that no interface and no export names."""
        self.where = ""
        self.depth = self.parts = self.parts_before = self.items_read = 0

    def close(self) -> None:
        for native in self.natives:
            _call("wasmtime_component_resource_type_delete", None, native)

    # -- items ---------------------------------------------------------------------------------

    def items(self, owner: Any, function: str, what: str) -> dict[str, Interface | Function]:
        found: dict[str, Interface | Function] = {}
        for name, item in self.each(owner, function):
            if item.kind in (_TYPE, _RESOURCE) and name.startswith(WORLD_TYPE_PREFIX):
                continue
            self.where = f"the {what} {printable(name, 120)}"
            if item.kind == _INSTANCE:
                found[name] = self.interface(name, item.of)
            elif item.kind == _FUNC:
                found[name] = self.function(item.of)
            elif item.kind == _RESOURCE:
                self.resource(item.of, name, "")
            elif item.kind == _TYPE:
                self.named_type(item, name, "")
            elif what == "import":
                raise ArtifactError(
                    f"{self.where} is a {_ODD_ITEMS.get(item.kind, 'thing')}, which Aegis cannot provide"
                )
        return found

    def world_types(self, owner: Any) -> bool:
        """Read the names of the types that the world defines, which are the last exports; return whether it has any.

        The resources that the types contain must be known. The exports do not count as read items.
        """
        function, read = "wasmtime_component_type_export", self.items_read
        count = start = _call(f"{function}_count", c_size_t, owner, self.engine)
        while start:
            last = self.each(owner, function, start - 1)
            name = next(last)[0]
            last.close()
            self.items_read = read
            if not name.startswith(WORLD_TYPE_PREFIX):
                break
            start -= 1
        kept, self.names, self.everywhere = (self.names, self.everywhere), self.of_world, dict(self.everywhere)
        for name, item in self.each(owner, function, start):
            if item.kind == _TYPE:
                self.where = f"the type {printable(name, 120)}"
                self.named_type(item, name.removeprefix(WORLD_TYPE_PREFIX), "")
        self.items_read, (self.names, self.everywhere) = read, kept
        return bool(start < count)

    def each(self, owner: Any, function: str, start: int = 0) -> Generator[tuple[str, _Item], None, None]:
        """Yield each import or export from ``start`` on with its name; the item is freed when the next is requested."""
        count = _call(f"{function}_count", c_size_t, owner, self.engine)
        self.items_read += count - start
        if self.items_read > _MAX_ITEMS:
            raise ArtifactError(
                f"too many imports, exports and members of interfaces ({self.items_read:,}/{_MAX_ITEMS:,}):"
                " split the component"
            )
        pointer, size, extern = c_void_p(), c_size_t(), c_void_p()
        nth = getattr(lib, f"{function}_nth")
        nth.restype, nth.argtypes = c_bool, [c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p]
        for n in range(start, count):
            if not nth(owner, self.engine, n, byref(pointer), byref(size), byref(extern)):
                raise AegisInternalError("the engine returned no import or export for a valid index")
            name = _name(pointer, size)
            item = _Item()
            _call("wasmtime_component_extern_type", None, extern.value, byref(item))
            try:
                yield name, item
            finally:
                _call("wasmtime_component_item_delete", None, byref(item))
                _call("wasmtime_component_extern_delete", None, extern.value)

    def interface(self, name: str, native: Any) -> Interface:
        outer, self.names = self.names, {}
        functions: dict[str, Function] = {}
        types: dict[str, WitType | Resource] = {}
        where = self.where
        for member, item in self.each(native, "wasmtime_component_instance_type_export"):
            self.where = f"{where}, {printable(member, 80)},"
            if item.kind == _FUNC:
                functions[member] = self.function(item.of)
            elif item.kind == _RESOURCE:
                types[member] = self.resource(item.of, member, name)
            elif item.kind == _TYPE:
                types[member] = self.named_type(item, member, name)
            else:
                odd = "an instance" if item.kind == _INSTANCE else f"a {_ODD_ITEMS.get(item.kind, 'thing')}"
                raise ArtifactError(f"{self.where} is {odd}, which a WIT interface cannot contain")
        self.names = outer
        return Interface(name, functions, types)

    def named_type(self, item: _Item, name: str, owner: str) -> WitType:
        self.parts_before = self.parts
        inner = _ValType.from_buffer(item, 8)
        return self.type(inner, name, owner)

    def resource(self, native: Any, name: str, owner: str) -> Resource:
        for n, known in enumerate(self.natives):
            if _call("wasmtime_component_resource_type_equal", c_bool, native, known):
                return self.resources[n]
        made = Resource(name, len(self.resources), owner=owner)
        self.natives.append(_call("wasmtime_component_resource_type_clone", c_void_p, native))
        self.resources.append(made)
        return made

    def function(self, native: Any) -> Function:
        is_async = _call("wasmtime_component_func_type_async", c_bool, native)
        self.parts_before = self.parts
        params = []
        pointer, size = c_void_p(), c_size_t()
        nth = lib.wasmtime_component_func_type_param_nth
        nth.restype, nth.argtypes = c_bool, [c_void_p, c_size_t, c_void_p, c_void_p, c_void_p]
        for n in range(_call("wasmtime_component_func_type_param_count", c_size_t, native)):
            of = _ValType()
            nth(native, n, byref(pointer), byref(size), byref(of))
            params.append((_name(pointer, size), self.taken(of)))
        of = _ValType()
        has = _call("wasmtime_component_func_type_result", c_bool, native, byref(of))
        return Function(tuple(params), self.taken(of) if has else None, is_async)

    # -- types ---------------------------------------------------------------------------------

    def taken(self, of: _ValType) -> WitType:
        """Convert a type that the engine passed with ownership, and free it."""
        try:
            return self.type(of)
        finally:
            _call("wasmtime_component_valtype_delete", None, byref(of))

    def type(self, of: _ValType, name: str = "", owner: str = "") -> WitType:
        kind, native = of.kind, of.of
        self.parts += 1
        if self.parts - self.parts_before > MAX_TYPE_PARTS:
            raise ArtifactError(
                f"{self.where} has types of too many parts (more than {MAX_TYPE_PARTS}): use smaller or fewer types"
            )
        if self.parts > MAX_TYPE_PARTS_IN_ALL:
            raise ArtifactError(
                f"the types of the component's functions have too many parts ({self.parts}/{MAX_TYPE_PARTS_IN_ALL}):"
                " use simpler types"
            )
        if kind < len(_SCALARS):
            return _SCALARS[kind]
        if kind in _REFUSED or kind > _CONTEXT:
            raise ArtifactError(f"{self.where} needs {_REFUSED.get(kind, 'an unknown type')}, unsupported by Aegis")
        if self.depth > MAX_TYPE_DEPTH:
            raise ArtifactError(
                f"{self.where} has types nested too deep (more than {MAX_TYPE_DEPTH} levels): nest them less"
            )
        self.depth += 1
        try:
            return self.compound(kind, native, name, owner)
        finally:
            self.depth -= 1

    def compound(self, kind: int, native: Any, name: str, owner: str) -> WitType:
        if kind == _LIST:
            return List(self.part("wasmtime_component_list_type_element", native))
        if kind == _OPTION:
            return Option(self.part("wasmtime_component_option_type_ty", native))
        if kind == _RESULT:
            return Result(*(self.maybe(f"wasmtime_component_result_type_{side}", native) for side in ("ok", "err")))
        if kind == _TUPLE:
            count = _call("wasmtime_component_tuple_type_types_count", c_size_t, native)
            return Tuple(tuple(self.nth("wasmtime_component_tuple_type_types_nth", native, n) for n in range(count)))
        if kind in (_STREAM, _FUTURE):
            word, made = ("stream", Stream) if kind == _STREAM else ("future", Future)
            return made(self.maybe(f"wasmtime_component_{word}_type_ty", native))
        if kind in (_OWN, _BORROW):
            found = self.resource(native, f"resource{len(self.resources)}", "")
            return Own(found) if kind == _OWN else Borrow(found)
        return self.named(kind, native, name, owner)

    def named(self, kind: int, native: Any, name: str, owner: str) -> WitType:
        shape: Any
        if kind == _RECORD:
            shape = (Record, tuple(self.fields(native)))
        elif kind == _VARIANT:
            shape = (Variant, tuple(self.cases(native)))
        elif kind == _ENUM:
            shape = (Enum, tuple(self.labels("wasmtime_component_enum_type_names", native)))
        else:
            shape = (Flags, tuple(self.labels("wasmtime_component_flags_type_names", native)))
        if name:
            self.names.setdefault(shape, name)
            self.everywhere.setdefault(shape, name)
        known = self.names.get(shape) or self.everywhere.get(shape) or self.of_world.get(shape)
        known = known or shape[0].__name__.lower()
        return shape[0](name or known, shape[1], owner=owner or None)  # type: ignore[no-any-return]

    def part(self, function: str, native: Any) -> WitType:
        of = _ValType()
        _call(function, None, native, byref(of))
        return self.taken(of)

    def maybe(self, function: str, native: Any) -> WitType | None:
        of = _ValType()
        return self.taken(of) if _call(function, c_bool, native, byref(of)) else None

    def nth(self, function: str, native: Any, n: int) -> WitType:
        of = _ValType()
        _call(function, c_bool, native, n, byref(of))
        return self.taken(of)

    def fields(self, native: Any) -> Iterator[tuple[str, WitType]]:
        pointer, size = c_void_p(), c_size_t()
        for n in range(_call("wasmtime_component_record_type_field_count", c_size_t, native)):
            of = _ValType()
            _call(
                "wasmtime_component_record_type_field_nth", c_bool, native, n,
                byref(pointer), byref(size), byref(of),
            )  # fmt: skip
            yield _name(pointer, size), self.taken(of)

    def cases(self, native: Any) -> Iterator[tuple[str, WitType | None]]:
        pointer, size, has = c_void_p(), c_size_t(), c_bool()
        for n in range(_call("wasmtime_component_variant_type_case_count", c_size_t, native)):
            of = _ValType()
            _call(
                "wasmtime_component_variant_type_case_nth", c_bool, native, n, byref(pointer),
                byref(size), byref(has), byref(of),
            )  # fmt: skip
            yield _name(pointer, size), self.taken(of) if has.value else None

    def labels(self, function: str, native: Any) -> Iterator[str]:
        pointer, size = c_void_p(), c_size_t()
        for n in range(_call(f"{function}_count", c_size_t, native)):
            _call(f"{function}_nth", c_bool, native, n, byref(pointer), byref(size))
            yield _name(pointer, size)
