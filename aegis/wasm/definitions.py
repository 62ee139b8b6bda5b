"""The definitions of a component as its binary encodes them, with unresolved indices.

A component is a sequence of definitions, each of which adds to an index space (Explainer.md, "Index Spaces"). The
sorts of these spaces are written as in the text format: ``func``, ``type``, ``core module`` and so on. An index is
relative to the component, or to the component or instance type, that contains it.

A value type is the name of a primitive or the index of a type definition. Structured types that differ only in their
constructor share a class, whose ``kind`` is the constructor's name in the text format.

Source: the component model's Binary.md.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from aegis.values import FuncType
from aegis.wasm.binary import ExternType, ModuleInfo

__all__ = [
    "Alias",
    "AnyType",
    "Builtin",
    "CanonicalOptions",
    "ComponentBinary",
    "ComponentDefinition",
    "CompoundType",
    "CoreInstanceDefinition",
    "CoreTypeDefinition",
    "Declaration",
    "Definition",
    "EmbeddedModule",
    "ExportDefinition",
    "Extern",
    "FunctionType",
    "HandleType",
    "ImportDefinition",
    "InstanceDefinition",
    "LabelledType",
    "LiftDefinition",
    "LowerDefinition",
    "ModuleDefinition",
    "ModuleType",
    "ResourceRep",
    "ScopeType",
    "StartFunction",
    "TypeDefinition",
    "ValueDefinition",
    "ValueType",
]  # fmt: skip

ValueType: TypeAlias = "str | int"
"""The name of a primitive type, or a type index."""


# -- types ------------------------------------------------------------------------------------------------------------


class LabelledType(NamedTuple):
    """A ``record``, ``variant``, ``flags`` or ``enum``: labels with their types, or ``None`` for no type."""

    kind: str
    members: tuple[tuple[str, ValueType | None], ...]


class CompoundType(NamedTuple):
    """A ``primitive``, ``list``, ``tuple``, ``option``, ``result``, ``stream``, ``future`` or ``map``.

    ``parts`` are its element types; ``None`` is an omitted one. ``length`` is set for a list of fixed length.
    """

    kind: str
    parts: tuple[ValueType | None, ...]
    length: int | None = None


class HandleType(NamedTuple):
    """``own`` or ``borrow`` of the resource type with the index ``resource``."""

    kind: str
    resource: int


class FunctionType(NamedTuple):
    """The type of a component function."""

    params: tuple[tuple[str, ValueType], ...]
    result: ValueType | None
    is_async: bool


class ScopeType(NamedTuple):
    """A ``component`` or ``instance`` type: declarations with index spaces of their own."""

    kind: str
    declarations: tuple[Declaration, ...]


class ResourceRep(NamedTuple):
    """A resource type: the core type of its representation, and the index of its destructor, a core function."""

    representation: str
    destructor: int | None


class ModuleType(NamedTuple):
    """A core module type, reduced to the names and kinds of its imports and exports."""

    imports: tuple[tuple[str, str, str], ...]
    exports: tuple[tuple[str, str], ...]


AnyType: TypeAlias = "LabelledType | CompoundType | HandleType | FunctionType | ScopeType | ResourceRep"


class Extern(NamedTuple):
    """The description of an import or export (``externtype``).

    ``type`` is a type index, or for a value possibly the name of a primitive; ``None`` is ``(sub resource)``.
    ``bound`` is true for a value that must equal the value with the index ``type``.
    """

    sort: str
    type: ValueType | None
    bound: bool = False


# -- definitions ------------------------------------------------------------------------------------------------------


class ModuleDefinition(NamedTuple):
    """A core module; ``module`` is its index in :attr:`ComponentBinary.modules`."""

    module: int


class CoreInstanceDefinition(NamedTuple):
    """An instantiation of a core module, or a tuple of exports if ``module`` is ``None``.

    ``items`` are the arguments or exports: name, sort and index.
    """

    module: int | None
    items: tuple[tuple[str, str, int], ...]


class CoreTypeDefinition(NamedTuple):
    """A definition of a core type."""

    type: FuncType | ModuleType


class InstanceDefinition(NamedTuple):
    """An instantiation of a component, or a tuple of exports if ``component`` is ``None``.

    ``items`` are the arguments or exports: name, sort and index.
    """

    component: int | None
    items: tuple[tuple[str, str, int], ...]


class Alias(NamedTuple):
    """An alias of an ``export`` or ``core export`` of an instance, or of a definition in an ``outer`` scope.

    ``item`` is the index of the instance, or of the definition in the scope ``levels`` levels further out.
    """

    target: str
    sort: str
    item: int
    name: str
    levels: int


class TypeDefinition(NamedTuple):
    """A definition of a type."""

    type: AnyType


class CanonicalOptions(NamedTuple):
    """Canonical options (``canonopt``); ``encoding`` defaults to ``utf8``."""

    encoding: str = "utf8"
    memory: int | None = None
    realloc: int | None = None
    post_return: int | None = None
    is_async: bool = False
    callback: int | None = None
    core_type: int | None = None
    gc: bool = False


class LiftDefinition(NamedTuple):
    """``canon lift``: makes a component function, of the type with the index ``type``, from a core function."""

    function: int
    options: CanonicalOptions
    type: int


class LowerDefinition(NamedTuple):
    """``canon lower``: makes a core function from a component function."""

    function: int
    options: CanonicalOptions


class Builtin(NamedTuple):
    """Any other canonical definition, such as ``resource.new``, ``task.return`` or ``stream.read``.

    ``type`` is its type immediate if it has one (for ``task.return`` the result type). ``immediates`` are the others
    in order: flags (``async``, ``cancellable``) as 0 or 1, and indices.
    """

    name: str
    type: ValueType | None = None
    options: CanonicalOptions | None = None
    immediates: tuple[int, ...] = ()


class StartFunction(NamedTuple):
    """A component-level start function with its argument values and its number of results."""

    function: int
    arguments: tuple[int, ...]
    results: int


class ValueDefinition(NamedTuple):
    """A value: its type and its encoded bytes."""

    type: ValueType
    encoded: bytes


class ImportDefinition(NamedTuple):
    """An import; ``attributes`` are ``implements``, ``versionsuffix`` and ``external-id`` with their values."""

    name: str
    extern: Extern
    attributes: tuple[tuple[str, str], ...] = ()


class ExportDefinition(NamedTuple):
    """An export, which also adds an item to the index space of its sort.

    ``item`` is an index in that space, or ``None`` for a declaration in a type.
    """

    name: str
    sort: str
    item: int | None
    extern: Extern | None
    attributes: tuple[tuple[str, str], ...] = ()


class ComponentDefinition(NamedTuple):
    """A component: its definitions, and their size in the unit of :attr:`ComponentBinary.size`.

    The size excludes nested components.
    """

    definitions: tuple[Definition, ...]
    size: int


Declaration: TypeAlias = "CoreTypeDefinition | TypeDefinition | Alias | ImportDefinition | ExportDefinition"
"""A definition inside a component or instance type."""

Definition: TypeAlias = (
    "ModuleDefinition | ComponentDefinition | CoreInstanceDefinition | CoreTypeDefinition | InstanceDefinition "
    "| Alias | TypeDefinition | LiftDefinition | LowerDefinition | Builtin | StartFunction | ValueDefinition "
    "| ImportDefinition | ExportDefinition"
)


class EmbeddedModule(NamedTuple):
    """A core module in a component: start and end of its bytes, and its declarations."""

    start: int
    end: int
    info: ModuleInfo

    def export_types(self) -> dict[tuple[str, str], ExternType]:
        """Return the types of the module's exports by name and kind."""
        return {(export.name, export.kind): export.type for export in self.info.exports}


class ComponentBinary(NamedTuple):
    """A decoded component with everything nested in it."""

    root: ComponentDefinition
    modules: tuple[EmbeddedModule, ...]
    """All core modules, including those of nested components, in the order of their bytes."""
    components: int
    """Number of nested components, at any depth."""
    sections: tuple[tuple[str, int], ...]
    """Name and size in bytes of each section of the root; a custom section with its own name."""
    size: int
    """Bytes of all sections except modules, components and custom sections, plus 8 for each section and item."""
    declared: int
    """Bytes of all sections of the modules except code, data, element and custom sections."""
