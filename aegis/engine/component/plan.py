"""What creating a store of one component needs, worked out once: its linker, its functions, its exports.

A linker belongs to a component under given limits and bindings, and serves every sandbox of it: what a
function does comes from the store that calls it, not from the linker. Imports are defined under the exact
names that the component asks for (F4).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_void_p
from typing import Any

from aegis.engine.component.artifact import Component
from aegis.engine.component.caller import ComponentEntry
from aegis.engine.component.handles import FIRST_TYPE
from aegis.engine.component.trampoline import ImportedFunction, callback_for, destructor
from aegis.engine.config import EngineConfig
from aegis.engine.native import lib, pointer, take_error
from aegis.engine.plan import BasePlan
from aegis.errors import AegisInternalError, CallError, ExportNotFound, LinkError
from aegis.limits import Limits
from aegis.names import near, printable
from aegis.wit.match import Mismatch, merged, unversioned
from aegis.wit.types import Function, Interface, Resource

__all__ = [
    "ComponentPlan", "check_export", "find_export", "imported_functions", "interface_named", "no_such_function",
    "typed_export",
]  # fmt: skip

Typing = Callable[[str, str, Function], Function]
"""Gives a function of an interface (first name) its Python classes."""
Lacking = Callable[[str, str, Function], bool]
"""Tells whether a function of an interface is to trap, for nothing provides it."""


def _nothing_lacks(interface: str, name: str, function: Function) -> bool:
    return False


class ComponentPlan(BasePlan):
    """Ready arguments for stores of ``component``; ``typed`` gives its functions their images."""

    __slots__ = (
        "__weakref__",
        "_callback",
        "_indices",
        "_linker",
        "_types",
        "artifact",
        "functions",
        "linker",
        "typed",
    )

    def __init__(
        self, component: Component, config: EngineConfig, limits: Limits, typed: Typing,
        lacking: Lacking = _nothing_lacks,
    ) -> None:  # fmt: skip
        memories = component.anatomy.memories(limits.memories or 1 << 16)
        tables = component.anatomy.tables(limits.tables or 1 << 16)
        super().__init__(component, config, limits, memories, tables)
        self.artifact = component
        self.typed = typed
        self.functions: list[ImportedFunction] = []
        self._types: list[int] = []
        self._indices: list[int] = []
        self._linker: int | None = lib.wasmtime_component_linker_new(self.engine)
        self.linker = pointer(self._linker or 0)
        if component.world.imports or component.world.imported:
            self.functions = imported_functions(component, typed, lacking)
            self._callback = callback_for(self.functions)
            self._define()

    def __del__(self, library: Any = lib) -> None:  # at exit the module may be gone
        linker, self._linker = getattr(self, "_linker", None), None
        if linker is not None:
            library.wasmtime_component_linker_delete(linker)
            for native in self._types:
                library.wasmtime_component_resource_type_delete(native)
            for native in self._indices:
                library.wasmtime_component_export_index_delete(native)

    # -- imports -------------------------------------------------------------------------------

    def _define(self) -> None:
        """Define every import in the linker, by number."""
        numbers = {(f.interface, f.name): n for n, f in enumerate(self.functions, 1)}
        resources = self.artifact.world.resources[: self.artifact.world.imported]
        self._types = [lib.wasmtime_component_resource_type_new_host(FIRST_TYPE + n) for n in range(len(resources))]
        root = lib.wasmtime_component_linker_root(self._linker)
        try:
            for resource in resources:
                if not resource.owner:
                    self._resource(root, resource.name, resource)
            for name, item in self.artifact.world.imports.items():
                if isinstance(item, Function):
                    self._function(root, name, numbers["", name])
                else:
                    self._interface(root, name, item, numbers)
        finally:
            lib.wasmtime_component_linker_instance_delete(root)

    def _interface(self, root: Any, name: str, item: Interface, numbers: Mapping[tuple[str, str], int]) -> None:
        raw = name.encode()
        out = c_void_p()
        _done(lib.wasmtime_component_linker_instance_add_instance(root, raw, len(raw), ctypes.byref(out)), name)
        try:
            for member, resource in item.types.items():
                if isinstance(resource, Resource):
                    self._resource(out.value, member, resource)
            for member in item.functions:
                self._function(out.value, member, numbers[name, member])
        finally:
            lib.wasmtime_component_linker_instance_delete(out.value)

    def _function(self, owner: Any, name: str, number: int) -> None:
        raw = name.encode()
        add = lib.wasmtime_component_linker_instance_add_func
        _done(add(owner, raw, len(raw), self._callback, number, None), name)

    def _resource(self, owner: Any, name: str, resource: Resource) -> None:
        raw = name.encode()
        add = lib.wasmtime_component_linker_instance_add_resource
        _done(add(owner, raw, len(raw), self._types[resource.key], destructor, None, None), name)

    # -- exports -------------------------------------------------------------------------------

    def entry(self, name: Any) -> ComponentEntry:
        """Return what calling the export ``name`` needs; raise ``CallError`` when it cannot be called.

        ``name`` is a function of the world, or ``interface#function``; the interface's version may be left
        out where it is plain which is meant. With an attribute ``table``, its values are of the classes there.
        """
        made: ComponentEntry | None = self.entries.get(name)
        if made is None:
            interface, function, typed = typed_export(self.artifact, name, self.typed)
            made = self.entries[name] = ComponentEntry(str(name), typed, self._index(interface, function))
        return made

    def check(self, interface: str, function: str, table: Interface) -> None:
        """Raise ``LinkError`` unless an exported function is of the type that bindings say."""
        check_export(self.artifact, interface, function, table)

    def _index(self, interface: str, function: str) -> int:
        outer = self._export_index(None, interface) if interface else None
        try:
            found = self._export_index(outer, function)
            self._indices.append(found)  # its entry uses it
            return found
        finally:
            if outer is not None:
                lib.wasmtime_component_export_index_delete(outer)

    def _export_index(self, outer: int | None, name: str) -> int:
        raw = name.encode()
        found = lib.wasmtime_component_get_export_index(self.code.pointer, outer, raw, len(raw))
        if found is None:
            raise CallError(f"the export {printable(name)!r} is a type, nothing that can be called")
        return int(found)


def imported_functions(
    component: Component, typed: Typing, lacking: Lacking = _nothing_lacks
) -> list[ImportedFunction]:
    """Return the functions that a component imports, in its order, with the Python classes that ``typed`` gives."""
    found = []
    for name, item in component.world.imports.items():
        interface, functions = ("", {name: item}) if isinstance(item, Function) else (name, item.functions)
        for member, function in functions.items():
            missing = lacking(interface, member, function)
            found.append(ImportedFunction(interface, member, typed(interface, member, function), missing))
    return found


def _stated(found: Function, name: Any, table: Interface, function: str = "") -> Function:
    stated = table.functions[function or name.function]
    try:
        return merged(found, stated)
    except Mismatch as odd:
        raise LinkError(f"{printable(str(name), 160)} is not the function that the bindings have: {odd}") from None


def typed_export(component: Component, name: Any, typed: Typing) -> tuple[str, str, Function]:
    """Return what an export's name means, as :func:`find_export`, with the Python classes of its values."""
    table = getattr(name, "table", None)
    interface, function, of = find_export(component.world.exports, str(name))
    if table is not None:
        return interface, function, _stated(of, name, table)
    try:
        return interface, function, typed(interface, function, of)
    except LinkError:  # the guest's own interface, though a known one has its name
        return interface, function, component.imaged(of)


def check_export(component: Component, interface: str, function: str, table: Interface) -> None:
    """Raise ``LinkError`` unless an exported function is of the type that bindings say."""
    name = f"{interface}#{function}" if interface else function
    _stated(find_export(component.world.exports, name)[2], name, table, function)


def find_export(exports: Mapping[str, Interface | Function], name: str) -> tuple[str, str, Function]:
    """Return what ``name`` means: an interface (empty for the world), a function and its type.

    A function of an interface may be named alone where only one has it. Raise ``ExportNotFound``.
    """
    owner, mark, member = name.rpartition("#")
    if mark:
        full = interface_named(exports, owner)
        item = exports[full] if full is not None else None
        if full is not None and isinstance(item, Interface) and member in item.functions:
            return full, member, item.functions[member]
        raise _not_found(exports, name)
    item = exports.get(name)
    if isinstance(item, Function):
        return "", name, item
    having = [(owner, i) for owner, i in exports.items() if isinstance(i, Interface) and name in i.functions]
    if len(having) == 1:
        return having[0][0], name, having[0][1].functions[name]
    raise _not_found(exports, name)


def interface_named(items: Mapping[str, Interface | Function], name: str) -> str | None:
    """Return the full name of the interface that ``name`` means: exactly, or the only one but for its version."""
    if isinstance(items.get(name), Interface):
        return name
    alike = [n for n, item in items.items() if isinstance(item, Interface) and unversioned(n) == name]
    return alike[0] if len(alike) == 1 else None


def _done(error: int | None, name: str) -> None:
    if error is not None:
        raise AegisInternalError(f"the import {printable(name, 120)} cannot be defined: {printable(take_error(error))}")


def _not_found(exports: Mapping[str, Interface | Function], name: object) -> ExportNotFound:
    known = []
    for owner, item in exports.items():
        known += [owner] if isinstance(item, Function) else [f"{owner}#{member}" for member in item.functions]
    return no_such_function(known, str(name))


def no_such_function(known: Sequence[str], shown: str) -> ExportNotFound:
    """Return the error of asking for the function ``shown`` of a component that exports those in ``known``."""
    alike = near(shown, known)
    if not alike:
        members = near(shown.rpartition("#")[2], dict.fromkeys(k.rpartition("#")[2] for k in known))
        alike = [k for k in known if k.rpartition("#")[2] in members][:3]
    if alike:
        hint = f"; did you mean {' or '.join(printable(a, 120) for a in alike)}?"
    else:
        listed = ", ".join(printable(k, 80) for k in known[:8])
        hint = f"; it exports {listed}{' and more' if len(known) > 8 else ''}" if known else "; it exports no functions"
    return ExportNotFound(f"the component exports no function {printable(shown)!r}{hint}", name=shown, near=alike)
