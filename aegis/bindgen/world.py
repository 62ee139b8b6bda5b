"""Write the ``__init__.py`` of a package: the items of the world itself, and a class for its exports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aegis.bindgen.classes import class_text, doc_of
from aegis.bindgen.functions import FunctionWriter
from aegis.bindgen.interface import InterfaceModules
from aegis.bindgen.layout import Bracketed, Part, indented, lay, signature
from aegis.bindgen.module import PROVIDER, ModuleWriter
from aegis.bindgen.plan import PlannedModule
from aegis.bindgen.scope import ModuleNames
from aegis.wit.model import FunctionDef, InterfaceDef, Item, Notes, TypeDef, WorldDef
from aegis.wit.naming import pascal, snake

__all__ = ["WorldWriter"]

_IMPORTS = "The functions that the world imports outside of interfaces, for Python to implement."


@dataclass(slots=True)
class WorldWriter:
    """Writes the ``__init__.py`` of the package for a world."""

    world: WorldDef
    interfaces: InterfaceModules
    scope: ModuleNames = field(init=False)
    name: str = field(init=False)
    module: ModuleWriter = field(init=False)

    def __post_init__(self) -> None:
        self.scope = ModuleNames(self.interfaces.package)
        self.name = self.scope.define(pascal(self.world.name))
        types = [item for item in self.world.imports.values() if isinstance(item, TypeDef)]
        types.sort(key=lambda t: t.key)
        self.module = ModuleWriter(
            self.interfaces.plan.document, self.scope, types, self.interfaces.place, self.interfaces.foreign
        )

    def source(self) -> str:
        """Return the source of the module."""
        imported, exported = _functions(self.world.imports), _functions(self.world.exports)
        blocks = self.module.blocks(imported, exported=False)
        sides = self.module.side(imported, "Imports", _IMPORTS, exported=False) if imported else []
        tables = [self.module.tables()]
        if imported or self.module.types:
            tables.append(self.module.interface("IMPORTS", imported, '""'))
        if exported:
            tables.append(self.module.interface("EXPORTS", exported, '""', types=False))
        if self.module.own:
            tables.insert(0, f'_NAME = "{self.world.full}"')
        ends = [*self._provided(imported), *self._class(exported), *self._class(exported, awaited=True)]
        blocks += [*self.module.expressions.shapes, *sides, *filter(None, tables)]
        return self.module.text(self._doc(), blocks, ends)

    def _doc(self) -> str:
        lists = [_listed("Imports", self.world.imports), _listed("Exports", self.world.exports)]
        return doc_of(Notes(docs=f"The world ``{self.world.full}``."), doc_of(self.world.notes), *lists)

    def _units(self, items: Mapping[str, Item], units: Mapping[int, PlannedModule]) -> dict[str, PlannedModule]:
        """Return the modules of interfaces by attribute: the short name, with the package if that is ambiguous."""
        found = [item for item in items.values() if isinstance(item, InterfaceDef)]
        functions = [snake(item.name) for item in items.values() if isinstance(item, FunctionDef)]
        short = [_attribute(i.name) for i in found]
        long = [_attribute(i.name) if [*short, *functions].count(_attribute(i.name)) == 1 else None for i in found]
        made: dict[str, PlannedModule] = {}
        for interface, name in zip(found, long, strict=True):
            attribute = name or units[interface.key].module.rpartition(".")[2]
            while attribute in made or attribute in functions:
                attribute += "_"
            made[attribute] = units[interface.key]
        return made

    def _provided(self, functions: list[FunctionDef]) -> list[str]:
        """Return the function ``imports``, which takes an implementation of each import that Aegis does not provide."""
        units = self._units(self.world.imports, self.interfaces.plan.hosts)
        own = {name: unit for name, unit in units.items() if "." not in unit.module and unit.interface.functions}
        free = [f for f in functions if f.kind == "free"]
        made_here = dict.fromkeys(_resource(f.name) for f in functions if f.kind in ("constructor", "static"))
        if not own and not free and not made_here:
            return []
        bound = self.scope.use("aegis.wit.values", "Bound")
        params, entries = ["*"], []
        modules = [self.scope.neighbour(unit.module) for unit in own.values()]
        *names, given = self.scope.parameters([*own, "functions"])
        for name, module, unit in zip(names, modules, own.values(), strict=True):
            params.append(f"{name}: {module}.{self._accepted(unit)}")
            entries.append(f'"{unit.interface.name}": {bound}({module}.INTERFACE, {name})')
        if free or made_here:
            params.append(f"{given}: {PROVIDER if made_here else 'Imports'}")
            entries += [f'"{f.name}": {bound}(IMPORTS, {given}.{snake(f.name)})' for f in free]
            entries += [f'"{name}": {bound}(IMPORTS, {given}.{pascal(name)})' for name in made_here]
        self.scope.public.add("imports")
        doc = '"""Return the ``imports`` for a sandbox; Aegis provides all other interfaces."""'
        made = lay(Bracketed("{", tuple(entries), "}"), 11, 4)
        head = signature("imports", params, "dict[str, object]", 0, True)
        return [f"{head}\n    {doc}\n    return {made}"]

    def _accepted(self, unit: PlannedModule) -> str:
        """Return the protocol of a module that accepts implementations of its interface."""
        made = any(f.kind in ("constructor", "static") for f in unit.interface.functions)
        return PROVIDER if made else "Host"

    def _class(self, functions: list[FunctionDef], *, awaited: bool = False) -> list[str]:
        """Return the class of the world's exports, or the one with coroutine functions; an empty list if none exist."""
        units = self._units(self.world.exports, self.interfaces.plan.guests)
        if not units and not functions:
            self.scope.public.discard(self.name)
            return []
        self.scope.use("typing", "TYPE_CHECKING")
        if not awaited:
            self.scope.checked.append("from aegis import Sandbox")
        bind, side = ("abind", "AsyncExports") if awaited else ("bind", "Exports")
        lines = []
        for name, unit in units.items():
            module = self.scope.neighbour(unit.module)
            bound = Bracketed(f"self.{name}: {module}.{side} = sandbox.{bind}(", (f"{module}.INTERFACE",), ")")
            lines.append(lay(bound, 8))
        if functions:
            lines.append(f"self._functions = sandbox.{bind}(EXPORTS)")
        init = signature("__init__", ["self", "sandbox: Sandbox"], "None", 4, True)
        members = [init + "".join(f"\n{indented(line)}" for line in lines)]
        members += [self._method(function, awaited) for function in functions]
        doc = f"The exports of a guest of the world ``{self.world.name}`` in one sandbox."
        if awaited:
            doc = f"The exports of :class:`{self.name}` as coroutine functions, to await on an event loop."
        name = self.scope.define(f"Async{self.name}") if awaited else self.name
        return [class_text(f"class {name}:", doc, members, "\n\n")]

    def _method(self, of: FunctionDef, awaited: bool) -> str:
        write = FunctionWriter(self.module.expressions, exported=True, awaited=awaited)
        given: tuple[Part, ...] = tuple(snake(name) for name, _ in of.type.params)
        returns = write.returns(of.type)
        begin = ("" if returns == "None" else f"returned_: {returns} = ") + "await " * awaited
        call = lay(Bracketed(f"{begin}self._functions.{snake(of.name)}(", given, ")"), 8, 8)
        dedented = re.sub(r"\n {8}", "\n", call)
        return write.method(of, [dedented, *(["return returned_"] if returns != "None" else [])])


def _functions(items: Mapping[str, Item]) -> list[FunctionDef]:
    return [item for item in items.values() if isinstance(item, FunctionDef)]


def _resource(function: str) -> str:
    """Return the resource of ``[constructor]bucket`` or ``[static]bucket.open``."""
    return function.partition("]")[2].partition(".")[0]


def _attribute(interface: str) -> str:
    return snake(interface.partition("@")[0].rpartition("/")[2])


def _listed(title: str, items: Mapping[str, Item]) -> str:
    names = [f"- ``{name}``" for name, item in items.items() if not isinstance(item, TypeDef)]
    return "\n".join([f"{title}:", "", *names]) if names else ""
