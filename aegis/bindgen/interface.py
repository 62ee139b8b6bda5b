"""Write the modules of interfaces."""

from __future__ import annotations

from dataclasses import dataclass, field

from aegis.bindgen.classes import doc_of
from aegis.bindgen.expressions import Known
from aegis.bindgen.layout import quoted
from aegis.bindgen.module import ModuleWriter
from aegis.bindgen.plan import BindingPlan, PlannedModule
from aegis.bindgen.scope import ModuleNames
from aegis.wit.model import Notes, Ref

__all__ = ["InterfaceModules"]

_HOST = "The functions that Python implements for a guest that imports the interface."
_EXPORTS = "The functions of a guest that exports the interface: ``sandbox.bind(INTERFACE)``."
_ASYNC_EXPORTS = "The same functions to await on an event loop: ``sandbox.abind(INTERFACE)``."


@dataclass(slots=True)
class InterfaceModules:
    """Writes the modules of a plan. ``package`` is the package for absolute imports, empty for relative ones."""

    plan: BindingPlan
    package: str = ""
    made: dict[str, ModuleWriter] = field(default_factory=dict)

    def sources(self) -> dict[str, str]:
        """Return the source of each module by file name."""
        return {f"{unit.module}.py": self.source(unit) for unit in self.plan.written()}

    def module(self, unit: PlannedModule) -> ModuleWriter:
        """Return the writer of a unit's module, with names for its types."""
        found = self.made.get(unit.module)
        if found is None:
            document, scope = self.plan.document, ModuleNames(self.package)
            place, foreign = (lambda key: self.place(key, unit)), (lambda key: self.foreign(key, unit))
            found = ModuleWriter(document, scope, unit.interface.types, place, foreign)
            self.made[unit.module] = found
        return found

    def place(self, key: int, unit: PlannedModule | None = None) -> tuple[str, Known] | None:
        """Return module and names of a type that another module defines; ``None`` for other types."""
        definition = self.plan.document.types[key]
        if unit is not None and unit.twin is not None and key not in self.plan.handled:
            return unit.twin.module, self.module(unit.twin).known[key]
        target = definition.body.key if isinstance(definition.body, Ref) else key
        if self.plan.owner_of(target) == self.plan.owner_of(key):
            return None
        home = self.plan.home(target, unit is not None and not unit.imported)
        return None if home is None else (home.module, self.module(home).known[target])

    def foreign(self, key: int, unit: PlannedModule | None = None) -> tuple[str, Known] | None:
        """Return module and names of a type that another interface defines or uses; ``None`` if no module has it."""
        home = self.plan.home(key, unit is not None and not unit.imported)
        return None if home is None else (home.module, self.module(home).known[key])

    def source(self, unit: PlannedModule) -> str:
        """Return the source of a module."""
        module, functions = self.module(unit), unit.interface.functions
        blocks = module.blocks(functions, exported=not unit.imported)
        sides: list[str] = []
        if unit.imported:
            sides += module.side(functions, "Host", _HOST, exported=False)
        if unit.exported:
            sides += module.side(functions, "Exports", _EXPORTS, exported=True)
            sides += module.side(functions, "AsyncExports", _ASYNC_EXPORTS, exported=True, awaited=True)
        name = f"_NAME = {quoted(unit.interface.name)}"
        tables = [name, module.tables(), module.interface("INTERFACE", functions)]
        return module.text(_title(unit), [*blocks, *module.expressions.shapes, *sides], tables)


def _title(unit: PlannedModule) -> str:
    return doc_of(Notes(docs=f"The interface ``{unit.interface.name}``."), doc_of(unit.interface.notes))
