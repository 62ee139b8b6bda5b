"""The definitions of a component as data, as its binary states them: indices are not resolved yet.

A component is a sequence of definitions, each of which adds to an index space (Explainer.md, "Index Spaces"). The
sorts of these spaces are spelt as in the text format: ``func``, ``type``, ``core module`` and so on. An index is
relative to the component, or component or instance type, that holds it.

A value type is the name of a primitive, or the index of a type definition. Structured types that differ only in
their constructor share a class, whose ``kind`` is the constructor's name in the text format.

Source: the component model's Binary.md.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from aegis.values import FuncType
from aegis.wasm.binary import ExternType, ModuleInfo

__all__ = [
    "Alias", "AnyType", "Builtin", "CanonicalOptions", "ComponentBinary", "ComponentDefinition", "CompoundType",
    "CoreInstance", "CoreModule", "CoreTypeDefinition", "Declaration", "Definition", "ExportDefinition", "Extern",
    "FunctionType", "HandleType", "ImportDefinition", "Instance", "LabelledType", "Lift", "Lower", "ModuleDefinition",
    "ModuleType", "ResourceRep", "ScopeType", "StartFunction", "TypeDefinition", "ValueDefinition", "ValueType",
]  # fmt: skip

ValueType: TypeAlias = "str | int"
"""The name of a primitive type, or a type index."""


# -- types ------------------------------------------------------------------------------------------------------------


class LabelledType(NamedTuple):
    """A ``record``, ``variant``, ``flags`` or ``enum``: labels with their types, if they have any."""

    kind: str
    members: tuple[tuple[str, ValueType | None], ...]


class CompoundType(NamedTuple):
    """A ``primitive``, ``list``, ``tuple``, ``option``, ``result``, ``stream``, ``future`` or ``map``.

    ``parts`` are its element types; ``None`` stands for one that is left out. ``length`` is that of a list of fixed
    length.
    """

    kind: str
    parts: tuple[ValueType | None, ...]
    length: int | None = None


class HandleType(NamedTuple):
    """``own`` or ``borrow`` of the resource type with the index ``resource``."""

    kind: str
    resource: int


class FunctionType(NamedTuple):
    """A component function's type."""

    params: tuple[tuple[str, ValueType], ...]
    result: ValueType | None
    is_async: bool


class ScopeType(NamedTuple):
    """A ``component`` or ``instance`` type: declarations with index spaces of their own."""

    kind: str
    declarations: tuple[Declaration, ...]


class ResourceRep(NamedTuple):
    """A resource type with the core type that represents it, and the core function that destroys it."""

    representation: str
    destructor: int | None


class ModuleType(NamedTuple):
    """A core module type, of which only the names and kinds of imports and exports are kept."""

    imports: tuple[tuple[str, str, str], ...]
    exports: tuple[tuple[str, str], ...]


AnyType: TypeAlias = "LabelledType | CompoundType | HandleType | FunctionType | ScopeType | ResourceRep"


class Extern(NamedTuple):
    """The description of an import or export (``externtype``).

    ``type`` is a type index; for a value it can be a primitive's name. ``None`` stands for ``(sub resource)``.
    ``bound`` tells that a value is bound to equal the value with that index.
    """

    sort: str
    type: ValueType | None
    bound: bool = False


# -- definitions ------------------------------------------------------------------------------------------------------


class ModuleDefinition(NamedTuple):
    """A core module: its index in :attr:`ComponentBinary.modules`."""

    module: int


class CoreInstance(NamedTuple):
    """An instantiation of a core module with core instances, or, where ``module`` is ``None``, a tuple of exports.

    ``items`` are names with the sort and index of what they name.
    """

    module: int | None
    items: tuple[tuple[str, str, int], ...]


class CoreTypeDefinition(NamedTuple):
    """A core type."""

    type: FuncType | ModuleType


class Instance(NamedTuple):
    """An instantiation of a component with arguments, or, where ``component`` is ``None``, a tuple of exports.

    ``items`` are names with the sort and index of what they name.
    """

    component: int | None
    items: tuple[tuple[str, str, int], ...]


class Alias(NamedTuple):
    """An alias of an ``export`` or ``core export`` of an instance, or of a definition of an ``outer`` component.

    ``item`` is the index of the instance, or of the definition in the scope that is ``levels`` scopes further out.
    """

    target: str
    sort: str
    item: int
    name: str
    levels: int


class TypeDefinition(NamedTuple):
    """A type."""

    type: AnyType


class CanonicalOptions(NamedTuple):
    """Canonical options (``canonopt``) as they are stated; ``encoding`` is ``utf8`` if none is."""

    encoding: str = "utf8"
    memory: int | None = None
    realloc: int | None = None
    post_return: int | None = None
    is_async: bool = False
    callback: int | None = None
    core_type: int | None = None
    gc: bool = False


class Lift(NamedTuple):
    """``canon lift``: a core function as a component function of the type with the index ``type``."""

    function: int
    options: CanonicalOptions
    type: int


class Lower(NamedTuple):
    """``canon lower``: a component function as a core function."""

    function: int
    options: CanonicalOptions


class Builtin(NamedTuple):
    """Any other canonical definition, by its name: ``resource.new``, ``task.return``, ``stream.read`` and so on.

    ``type`` is its type immediate if it has one (for ``task.return`` the result, a value type). ``immediates`` are
    the others in their order: flags (``async``, ``cancellable``) as 0 or 1, and indices.
    """

    name: str
    type: ValueType | None = None
    options: CanonicalOptions | None = None
    immediates: tuple[int, ...] = ()


class StartFunction(NamedTuple):
    """A component-level start function with the values that it takes, and the number of its results."""

    function: int
    arguments: tuple[int, ...]
    results: int


class ValueDefinition(NamedTuple):
    """A value: its type, and the bytes that encode it."""

    type: ValueType
    encoded: bytes


class ImportDefinition(NamedTuple):
    """An import; ``attributes`` are ``implements``, ``versionsuffix`` and ``external-id`` with their values."""

    name: str
    extern: Extern
    attributes: tuple[tuple[str, str], ...] = ()


class ExportDefinition(NamedTuple):
    """An export, which adds to its sort's index space too. In a type it is a declaration, without ``item``.

    ``item`` is an index, of its sort's space.
    """

    name: str
    sort: str
    item: int | None
    extern: Extern | None
    attributes: tuple[tuple[str, str], ...] = ()


class ComponentDefinition(NamedTuple):
    """A component: its definitions, and how much states them, in the unit of :attr:`ComponentBinary.size`.

    Components within count on their own.
    """

    definitions: tuple[Definition, ...]
    size: int


Declaration: TypeAlias = "CoreTypeDefinition | TypeDefinition | Alias | ImportDefinition | ExportDefinition"
"""A definition within a component or instance type."""

Definition: TypeAlias = (
    "ModuleDefinition | ComponentDefinition | CoreInstance | CoreTypeDefinition | Instance | Alias | TypeDefinition "
    "| Lift | Lower | Builtin | StartFunction | ValueDefinition | ImportDefinition | ExportDefinition"
)


class CoreModule(NamedTuple):
    """A core module: where its bytes begin and end in the component, and what they say of it."""

    start: int
    end: int
    info: ModuleInfo

    def export_types(self) -> dict[tuple[str, str], ExternType]:
        """Return the types of its exports by name and kind."""
        return {(export.name, export.kind): export.type for export in self.info.exports}


class ComponentBinary(NamedTuple):
    """A component and everything nested in it, decoded."""

    root: ComponentDefinition
    modules: tuple[CoreModule, ...]
    """Core modules in the order of their bytes, the nested ones included."""
    components: int
    """Components nested in the root, at any depth."""
    sections: tuple[tuple[str, int], ...]
    """The root's sections with their sizes in bytes; a custom one with its name."""
    size: int
    """Bytes of sections that are neither modules nor components nor custom, and 8 for each section and item."""
    declared: int
    """Bytes of the modules' sections that are neither code nor data nor custom."""
