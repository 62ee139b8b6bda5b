"""Summarise a component before compilation: nested modules, instances, imports, exports and unsupported features.

Instantiation in the component model is static, so Aegis can count memories and instances from the definitions, and
reject a component whose nested instantiations multiply beyond a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aegis.errors import ArtifactError
from aegis.wasm.binary import Malformed, MemoryType, ModuleInfo, TableType
from aegis.wasm.component import charged, decode_component
from aegis.wasm.definitions import (
    Alias,
    ComponentBinary,
    ComponentDefinition,
    CoreInstanceDefinition,
    ExportDefinition,
    ImportDefinition,
    InstanceDefinition,
    ModuleDefinition,
)
from aegis.wasm.features import unsupported_features

__all__ = ["ComponentStructure", "Totals", "count_instances", "read_component", "structure_of"]

_MAX_INSTANCES = 1 << 62


class Totals(NamedTuple):
    """The number of instances that one instantiation of a component creates; ``instances`` are core instances."""

    instances: int
    modules: dict[int, int]
    """Instantiations of each core module, by its index in :attr:`ComponentStructure.modules` of the root component."""
    components: int = 1
    """Component instances, including its own."""


class ComponentStructure:
    """The summary of a component with everything nested in it."""

    def __init__(self) -> None:
        self.modules: list[ModuleInfo] = []
        self.module_sizes: list[int] = []
        self.components = 0
        self.imports: list[tuple[str, str]] = []
        self.exports: list[tuple[str, str]] = []
        self.sections: list[tuple[str, int]] = []
        self.needs: list[tuple[str, str]] = []
        """Imports and exports that need unsupported features, with the features."""
        self.features: list[str] = []
        """The unsupported features of all definitions."""
        self.totals = Totals(0, {})

    def memories(self, most: int) -> list[MemoryType]:
        """Return the types of all memories that one instantiation creates, at most ``most + 1``."""
        return self._each(lambda m: [*m.memories[sum(i.kind == "memory" for i in m.imports) :]], most)

    def tables(self, most: int) -> list[TableType]:
        """Return the types of all tables that one instantiation creates, at most ``most + 1``."""
        return self._each(lambda m: [*m.tables[sum(i.kind == "table" for i in m.imports) :]], most)

    def for_running(self) -> ComponentStructure:
        """Return a copy reduced to the parts that running needs: memories, tables and start functions."""
        made = ComponentStructure()
        made.totals = self.totals
        for module in self.modules:
            info = ModuleInfo()
            info.imports = [i for i in module.imports if i.kind in ("memory", "table")]
            info.memories, info.tables, info.memory_exports = module.memories, module.tables, module.memory_exports
            info.has_start = module.has_start
            made.modules.append(info)
        return made

    def _each(self, own: Callable[[ModuleInfo], list], most: int) -> list:  # type: ignore[type-arg]
        found = []
        for index, times in self.totals.modules.items():
            made = own(self.modules[index])
            if made:
                found += made * min(times, most + 1)
            if len(found) > most:
                return found[: most + 1]
        return found


def read_component(data: bytes) -> ComponentStructure:
    """Return the structure of a component; raise :class:`~aegis.errors.ArtifactError` if it is malformed."""
    return structure_of(decode_component(data))


def structure_of(binary: ComponentBinary) -> ComponentStructure:
    """Return the structure of a decoded component; raise :class:`~aegis.errors.ArtifactError` if it is malformed."""
    structure = ComponentStructure()
    structure.modules = [module.info for module in binary.modules]
    structure.module_sizes = [module.end - module.start for module in binary.modules]
    structure.components = binary.components
    structure.sections = list(binary.sections)
    for definition in binary.root.definitions:
        if isinstance(definition, ImportDefinition):
            structure.imports.append((definition.name, definition.extern.sort))
        elif isinstance(definition, ExportDefinition):
            structure.exports.append((definition.name, definition.sort))
    structure.totals = count_instances(binary)
    structure.needs, structure.features = unsupported_features(binary.root)
    return structure


def count_instances(binary: ComponentBinary) -> Totals:
    """Count the instances that one instantiation creates, in linear time.

    Instances of imported components are not counted. Raise :class:`~aegis.errors.ArtifactError` when the definitions
    exceed the bound of :func:`aegis.wasm.component.charged`.
    """
    try:
        return _Counter(binary.size, None).count(binary.root)
    except Malformed as error:
        raise ArtifactError(f"not a valid WebAssembly component: {error}") from None


class _Counter:
    """The index spaces of modules and components of one component; ``outers[0]`` is itself."""

    def __init__(self, size: int, outer: _Counter | None) -> None:
        self.outers: tuple[_Counter, ...] = (self, *(outer.outers if outer else ()))
        self.modules: list[int | None] = []
        self.components: list[Totals | None] = []
        self.size = size
        self.instances, self.made_components = 0, 1
        self.made: dict[int, int] = {}

    def count(self, component: ComponentDefinition) -> Totals:
        for definition in component.definitions:
            match definition:
                case ModuleDefinition(module):
                    self.modules.append(module)
                case ComponentDefinition():
                    inner = _Counter(self.size, self)
                    self.components.append(inner.count(definition))
                    self.size = inner.size
                case CoreInstanceDefinition(int() as index, _):
                    self.core_instance(index)
                case InstanceDefinition(int() as index, _):
                    self.instance(index)
                case Alias("outer", _, index, _, count):
                    self.outer(definition.sort, count, index)
                case Alias(_, sort):
                    self.add(sort)
                case ImportDefinition(_, extern):
                    self.add(extern.sort)
                case ExportDefinition(_, sort, int() as index):
                    self.outer(sort, 0, index)
        return Totals(self.instances, self.made, self.made_components)

    def core_instance(self, index: int) -> None:
        self.instances = min(self.instances + 1, _MAX_INSTANCES)
        module = self.modules[index] if index < len(self.modules) else None
        if module is not None:
            self.made[module] = min(self.made.get(module, 0) + 1, _MAX_INSTANCES)

    def instance(self, index: int) -> None:
        made = self.components[index] if index < len(self.components) else None
        if made is None:
            return
        self.instances = min(self.instances + made.instances, _MAX_INSTANCES)
        self.made_components = min(self.made_components + made.components, _MAX_INSTANCES)
        self.size = charged(self.size + len(made.modules))
        for module, times in made.modules.items():
            self.made[module] = min(self.made.get(module, 0) + times, _MAX_INSTANCES)

    def outer(self, sort: str, count: int, index: int) -> None:
        """Add a module or component of the scope ``count`` levels further out; an export adds one of its own scope."""
        owner = self.outers[count] if count < len(self.outers) else None
        if sort == "core module":
            modules = owner.modules if owner else []
            self.modules.append(modules[index] if index < len(modules) else None)
        elif sort == "component":
            components = owner.components if owner else []
            self.components.append(components[index] if index < len(components) else None)

    def add(self, sort: str) -> None:
        """Add an unknown item of a sort."""
        if sort == "core module":
            self.modules.append(None)
        elif sort == "component":
            self.components.append(None)
