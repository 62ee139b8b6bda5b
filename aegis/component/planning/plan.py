"""Plans the instantiation of a component: executes its definitions symbolically and records the remaining steps.

Instantiation is static (Explainer.md, "Instance Definitions"): the bytes alone determine which definition each index
refers to, which argument satisfies each import, and which instance each resource type belongs to. The planner
therefore instantiates every component once, with symbolic items in place of functions and memories. The result is a
flat list of steps, a :class:`~aegis.component.planning.program.ComponentProgram`.

The component is untrusted and may be invalid: the engine validates it only later
(:mod:`aegis.component.planning.skeleton`). An index that does not resolve raises ``ArtifactError``, and so does a plan
beyond the limits below. The limits bound planning and everything after it, because instantiation can be exponential:
24 nested components that each instantiate their child twice take 2 KB and make 16 million instances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeAlias

from aegis.component.planning.builtins import BUILTINS
from aegis.component.planning.program import (
    AsyncFunction,
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreExport,
    CoreItem,
    CoreStep,
    Imported,
    Options,
    ResourceFunction,
    ResourceType,
    Trampoline,
)
from aegis.component.planning.scopes import (
    FunctionNode,
    Item,
    OpenType,
    ResourceNode,
    TypeScope,
    invalid,
    name_type,
    not_run,
)
from aegis.component.planning.signatures import check_signatures
from aegis.errors import ArtifactError
from aegis.text import printable
from aegis.wasm.binary import ExternType
from aegis.wasm.definitions import (
    Alias,
    Builtin,
    CanonicalOptions,
    ComponentBinary,
    ComponentDefinition,
    CoreInstanceDefinition,
    CoreTypeDefinition,
    Definition,
    ExportDefinition,
    Extern,
    ImportDefinition,
    InstanceDefinition,
    LiftDefinition,
    LowerDefinition,
    ModuleDefinition,
    ResourceRep,
    StartFunction,
    TypeDefinition,
    ValueDefinition,
)
from aegis.wasm.structure import count_instances
from aegis.wit.types import MAX_TYPE_PARTS_IN_ALL

__all__ = [
    "MAX_COMPONENT_INSTANCES", "MAX_CORE_IMPORTS", "MAX_CROSSED_MEMORIES", "MAX_STEPS", "MAX_TRAMPOLINES",
    "MAX_WORK_BYTES", "plan",
]  # fmt: skip

MAX_STEPS = 20_000
"""Core instances. The policy limit ``instances`` defaults to 64 and is checked first."""
MAX_COMPONENT_INSTANCES = 10_000
MAX_TRAMPOLINES = 10_000
"""Creating one costs the engine or the host up to 1 ms; large real programs have 300."""
MAX_CROSSED_MEMORIES = 100
"""Linear memories between which values pass inside a component. The engine generates one module that imports all of
them, and aborts the process if that module has more memories than it supports."""
MAX_CORE_IMPORTS = 200_000
"""Imports of all core instances together; large real programs have 5,000."""
MAX_WORK_BYTES = 4 << 20
"""Bytes of definitions executed; a component's bytes count once for each instantiation."""


def plan(binary: ComponentBinary) -> ComponentProgram:
    """Return the program that instantiates a component.

    Raise ``ArtifactError`` if a definition does not resolve, the component uses an unsupported feature, or a limit of
    this module is exceeded.
    """
    totals = count_instances(binary)
    _bound("core instances", totals.instances, MAX_STEPS)
    _bound("component instances", totals.components, MAX_COMPONENT_INSTANCES)
    return _Planner(binary).run()


def _bound(what: str, count: int, most: int) -> None:
    if count > most:
        raise ArtifactError(f"too many {what} ({count:,}/{most:,}): split the component")


class _FunctionItem:
    """A symbolic component function: imported from the host (``interface`` and ``name``), or lifted (``core``)."""

    __slots__ = ("core", "instance", "interface", "made", "name", "options", "type")

    def __init__(
        self,
        of: FunctionNode,
        interface: str = "",
        name: str = "",
        *,
        core: CoreItem | None = None,
        options: Options | None = None,
        instance: int = 0,
    ) -> None:
        self.type, self.interface, self.name = of, interface, name
        self.core, self.options, self.instance = core, options, instance
        self.made: Imported | CanonLift | None = None


class _LoweredImport(NamedTuple):
    """A component function that is lowered for the component instance ``instance``."""

    function: _FunctionItem
    options: Options
    instance: int


class _LoweredBuiltin(NamedTuple):
    """A built-in of asynchronous components; ``type`` returns the type that it is for, if any."""

    function: AsyncFunction
    type: FunctionNode | None


_Lowered: TypeAlias = "_LoweredImport | _LoweredBuiltin | ResourceFunction"


class _Closure:
    """A component and the component instance in whose scope its outer aliases resolve."""

    __slots__ = ("definition", "scope")

    def __init__(self, definition: ComponentDefinition, scope: _SymbolicInstance) -> None:
        self.definition, self.scope = definition, scope


class _ModuleItem:
    """A symbolic core module: its index in the binary."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class _Planner:
    """The state that all component instances of one plan share: the program being built, and the work counters."""

    def __init__(self, binary: ComponentBinary) -> None:
        self.binary = binary
        self.steps: list[CoreStep] = []
        self.lowered: list[_Lowered] = []
        self.resources: list[tuple[ResourceNode, int | None, CoreItem | None]] = []
        self.imported: list[_FunctionItem] = []
        self.parents: list[int | None] = []
        self.work = self.core_imports = self.parts = 0
        self._crossed: set[CoreExport | None] = {None}
        self._export_types: dict[int, dict[tuple[str, str], ExternType]] = {}

    def spend(self, size: int) -> None:
        """Charge ``size`` bytes of definitions to :data:`MAX_WORK_BYTES`."""
        self.work += size
        if self.work > MAX_WORK_BYTES:
            raise ArtifactError(
                f"instantiation executes too many bytes of definitions ({self.work:,}/{MAX_WORK_BYTES:,}):"
                " instantiate nested components less often"
            )

    def export_types(self, module: int) -> dict[tuple[str, str], ExternType]:
        found = self._export_types.get(module)
        if found is None:
            found = self._export_types[module] = self.binary.modules[module].export_types()
        return found

    def run(self) -> ComponentProgram:
        """Instantiate the root component and, depth first, each nested one when its definition is reached."""
        # An explicit stack: a hostile component nests deeper than Python recurses.
        root = _SymbolicInstance(self, self.binary.root, None, None, None)
        stack = [root]
        while stack:
            inner = stack[-1].proceed()
            if inner is not None:
                stack.append(inner)
                continue
            done = stack.pop()
            if stack:
                stack[-1].instances.append(done.exports)
        return self.finish(root)

    def trampoline(self, made: _Lowered) -> int:
        self.lowered.append(made)
        _bound("trampolines", len(self.lowered), MAX_TRAMPOLINES)
        if isinstance(made, _LoweredImport) and made.function.options is not None:
            self._crossed |= {made.function.options.memory, made.options.memory}
            if len(self._crossed) - 1 > MAX_CROSSED_MEMORIES:
                raise ArtifactError(
                    f"values pass between too many linear memories ({len(self._crossed) - 1}/{MAX_CROSSED_MEMORIES}):"
                    " compose fewer components"
                )
        return len(self.lowered) - 1

    def resource(self, name: str, instance: int | None, destructor: CoreItem | None) -> ResourceNode:
        node = ResourceNode(len(self.resources), name)
        self.resources.append((node, instance, destructor))
        return node

    # -- imports of the root -------------------------------------------------------------------

    def host(self, scope: TypeScope, name: str, extern: Extern, interface: str | None = None) -> object:
        """Return the host's item for an import of the root component, or for an export of an imported instance."""
        if extern.sort == "type":
            return self.resource(name, None, None) if extern.type is None else _bound_type(scope, extern)
        if extern.sort == "func":
            made = _FunctionItem(scope.at(scope.types, _index(extern), "type", FunctionNode), interface or "", name)
            self.imported.append(made)
            return made
        if interface is not None:
            odd = f"{'an' if extern.sort == 'instance' else 'a'} {extern.sort}"
            where = f"the import {printable(interface, 120)}, {printable(name, 80)}, is {odd}"
            raise ArtifactError(f"{where}, which a WIT interface cannot contain")
        if extern.sort == "instance":
            return self.host_instance(scope.at(scope.types, _index(extern), "type", OpenType), name)
        raise ArtifactError(f"the import {printable(name, 120)} is a {extern.sort}, which Aegis cannot provide")

    def host_instance(self, of: OpenType, interface: str) -> dict[str, Item]:
        if of.type.kind != "instance":
            raise invalid("an instance has the type of a component")
        self.spend(8 * len(of.type.declarations))
        scope = TypeScope(of.scope)
        exports: dict[str, Item] = {}
        for declaration in of.type.declarations:
            match declaration:
                case TypeDefinition(definition):
                    scope.types.append(scope.define(definition))
                case Alias("export"):
                    scope.types.append(scope.exported(declaration))  # raises: the scope has no instances
                case Alias("outer", "type"):
                    outer = scope.outer(declaration.levels)
                    scope.types.append(outer.at(outer.types, declaration.item, "type", object))
                case ExportDefinition(name, sort, _, extern) if extern is not None:
                    item = self.host(scope, name, extern, interface)
                    exports[name] = sort, item
                    if sort == "type":
                        name_type(item, name)
                        scope.types.append(item)
        return exports

    # -- the program ---------------------------------------------------------------------------

    def finish(self, root: _SymbolicInstance) -> ComponentProgram:
        imported = tuple([self.imported_function(f) for f in self.imported])
        trampolines = tuple([self.finished(made) for made in self.lowered])
        exports: dict[str, Any] = {}
        for name, (sort, item) in root.exports.items():
            if sort == "func":
                exports[name] = self.function(item, f"the export {printable(name, 120)}")
            elif sort == "instance":
                exports[name] = self.exported_instance(name, item)
        program = ComponentProgram(
            modules=tuple([(module.start, module.end) for module in self.binary.modules]),
            steps=tuple(self.steps),
            trampolines=trampolines,
            resources=tuple([ResourceType(node.name, owner, dtor) for node, owner, dtor in self.resources]),
            imported=imported,
            exports=exports,
            parents=tuple(self.parents),
        )
        check_signatures(program, self.export_types)
        return program

    def exported_instance(self, name: str, item: object) -> dict[str, CanonLift | Imported]:
        assert isinstance(item, dict)
        functions = [(member, f) for member, (sort, f) in item.items() if sort == "func"]
        where = f"the export {printable(name, 120)}"
        return {member: self.function(f, f"{where}, {printable(member, 80)},") for member, f in functions}

    def finished(self, made: _Lowered) -> Trampoline:
        if isinstance(made, ResourceFunction):
            return made
        if isinstance(made, _LoweredBuiltin):
            if made.type is None:
                return made.function
            self.count(made.type)
            return made.function._replace(type=made.type.wit(f"canon {made.function.name}").result)
        function, options, instance = made
        self.count(function.type)
        return CanonLower(self.function(function, "a function between its components"), options, instance)

    def imported_function(self, function: _FunctionItem) -> Imported:
        name = printable(function.interface or function.name, 120)
        where = f"the import {name}" + (f", {printable(function.name, 80)}," if function.interface else "")
        made = self.function(function, where)
        assert isinstance(made, Imported)
        return made

    def function(self, function: object, where: str) -> Imported | CanonLift:
        assert isinstance(function, _FunctionItem)
        if function.made is None:
            self.count(function.type)
            of = function.type.wit(where)
            if function.core is None:
                function.made = Imported(function.interface, function.name, of)
            else:
                options = function.options if function.options is not None else Options()
                function.made = CanonLift(function.core, options, of, function.instance)
        return function.made

    def count(self, of: FunctionNode) -> None:
        """Charge the parts of a function's types, once for each adapter or converter that they need."""
        self.parts += of.count()
        if self.parts > MAX_TYPE_PARTS_IN_ALL:
            raise ArtifactError(
                f"the types of the component's functions have too many parts ({self.parts}/{MAX_TYPE_PARTS_IN_ALL}):"
                " use simpler types"
            )


def _index(extern: Extern) -> int:
    if not isinstance(extern.type, int):
        raise invalid(f"the description of a {extern.sort} has no type")
    return extern.type


def _bound_type(scope: TypeScope, extern: Extern) -> object:
    return scope.at(scope.types, _index(extern), "type", object)


class _SymbolicInstance(TypeScope):
    """One symbolic instantiation of a component: its index spaces, and the definitions not yet executed."""

    __slots__ = ("arguments", "core", "exports", "number", "pending", "planner", "spaces")

    def __init__(
        self,
        planner: _Planner,
        definition: ComponentDefinition,
        outer: TypeScope | None,
        arguments: dict[str, Item] | None,
        parent: int | None,
    ) -> None:
        super().__init__(outer)
        planner.spend(definition.size + 1)
        self.planner, self.arguments = planner, arguments
        self.number = len(planner.parents)
        planner.parents.append(parent)
        _bound("component instances", len(planner.parents), MAX_COMPONENT_INSTANCES)
        self.exports: dict[str, Item] = {}
        self.spaces: dict[str, list[object]] = {
            "func": [], "type": self.types, "component": [], "instance": self.instances, "core module": [],
        }  # fmt: skip
        self.core: dict[str, list[Any]] = {"func": [], "table": [], "memory": [], "global": [], "instance": []}
        self.pending = iter(definition.definitions)

    def proceed(self) -> _SymbolicInstance | None:
        """Execute definitions up to the next component instantiation and return it; ``None`` after the last one."""
        for definition in self.pending:
            inner = _RUN[type(definition)](self, definition)
            if inner is not None:
                return inner
        return None

    def space(self, sort: str) -> list[object]:
        if sort not in self.spaces:
            _refuse_values()
        return self.spaces[sort]

    def get(self, sort: str, index: int, kind: type[Any] = object) -> Any:
        return self.at(self.space(sort), index, sort, kind)

    def core_at(self, sort: str, index: int) -> Any:
        return self.at(self._core_space(sort), index, f"core {sort}", object)

    def _core_space(self, sort: str) -> list[Any]:
        if sort not in self.core:
            raise ArtifactError("the component uses exception tags, which Aegis does not support")
        return self.core[sort]

    # -- core definitions ----------------------------------------------------------------------

    def module(self, definition: ModuleDefinition) -> None:
        self.spaces["core module"].append(_ModuleItem(definition.module))

    def core_instance(self, definition: CoreInstanceDefinition) -> None:
        items = definition.items
        if definition.module is None:
            self.core["instance"].append({name: (sort, self.core_at(sort, index)) for name, sort, index in items})
            return
        planner = self.planner
        module: int = self.get("core module", definition.module, _ModuleItem).index
        given = {name: self.core_at(sort, index) for name, sort, index in items}
        wanted = planner.binary.modules[module].info.imports
        planner.core_imports += len(wanted)
        _bound("imports of core instances", planner.core_imports, MAX_CORE_IMPORTS)
        imports: list[CoreItem] = []
        for one in wanted:
            if one.module not in given:
                raise invalid(f"a core instance lacks the argument {printable(one.module, 60)!r}")
            imports.append(self.core_export(given[one.module], one.name, one.kind))
        self.core["instance"].append(len(planner.steps))
        planner.steps.append(CoreStep(module, tuple(imports), self.number))
        _bound("core instances", len(planner.steps), MAX_STEPS)

    def core_export(self, instance: int | dict[str, tuple[str, CoreItem]], name: str, kind: str) -> CoreItem:
        if isinstance(instance, dict):
            sort, item = instance.get(name, ("", -1))
            if sort == kind:
                return item
        elif (name, kind) in self.planner.export_types(self.planner.steps[instance].module):
            return CoreExport(instance, name, kind)
        raise invalid(f"a core instance exports no {kind} {printable(name, 60)!r}")

    # -- types, functions ----------------------------------------------------------------------

    def type(self, definition: TypeDefinition) -> None:
        of = definition.type
        if not isinstance(of, ResourceRep):
            self.types.append(self.define(of))
            return
        if of.representation != "i32":
            raise invalid(f"a resource type is represented by {of.representation}")
        destructor = None if of.destructor is None else self.core_at("func", of.destructor)
        self.types.append(self.planner.resource("", self.number, destructor))

    def lift(self, definition: LiftDefinition) -> None:
        of = self.get("type", definition.type, FunctionNode)
        core = self.core_at("func", definition.function)
        options = self.options(definition.options)
        self.spaces["func"].append(_FunctionItem(of, core=core, options=options, instance=self.number))

    def lower(self, definition: LowerDefinition) -> None:
        function = self.get("func", definition.function, _FunctionItem)
        made = self.planner.trampoline(_LoweredImport(function, self.options(definition.options), self.number))
        self.core["func"].append(made)

    def builtin(self, definition: Builtin) -> None:
        family, _, operation = definition.name.partition(".")
        if family != "resource":
            self.core["func"].append(self.planner.trampoline(self.async_function(definition)))
            return
        assert isinstance(definition.type, int)
        resource = self.get("type", definition.type, ResourceNode)
        made = self.planner.trampoline(ResourceFunction(operation, resource.key, self.number))
        self.core["func"].append(made)

    def async_function(self, of: Builtin) -> _LoweredBuiltin:
        if of.name not in BUILTINS and of.name != "task.return":
            raise not_run(f"the canonical built-in {of.name}")
        options = None if of.options is None else self.options(of.options)
        if of.name.startswith("context."):
            if of.type != "i32":
                raise not_run(f"{of.name} of the type {of.type}")
            (slot,) = of.immediates
            if slot > 1:
                raise invalid(f"{of.name} has the slot {slot}")
            return _LoweredBuiltin(AsyncFunction(of.name, self.number, slot=slot), None)
        node = None if of.type is None else FunctionNode((), self.value(of.type), False)
        memory = self.core_at("memory", of.immediates[1]) if len(of.immediates) > 1 else None
        flag = bool(of.immediates and of.immediates[0])
        return _LoweredBuiltin(AsyncFunction(of.name, self.number, None, options, flag, memory), node)

    def options(self, of: CanonicalOptions) -> Options:
        if of.gc or of.core_type is not None:
            raise ArtifactError("the component uses the canonical option gc or core-type, which Aegis does not support")
        memory = None if of.memory is None else self.core_at("memory", of.memory)
        realloc = None if of.realloc is None else self.core_at("func", of.realloc)
        post_return = None if of.post_return is None else self.core_at("func", of.post_return)
        callback = None if of.callback is None else self.core_at("func", of.callback)
        return Options(of.encoding, memory, realloc, post_return, of.is_async, callback)

    # -- components ----------------------------------------------------------------------------

    def component(self, definition: ComponentDefinition) -> None:
        self.spaces["component"].append(_Closure(definition, self))

    def instance(self, definition: InstanceDefinition) -> _SymbolicInstance | None:
        items: dict[str, Item] = {name: (sort, self.get(sort, index)) for name, sort, index in definition.items}
        if definition.component is None:
            self.instances.append(items)
            return None
        closure: _Closure = self.get("component", definition.component, _Closure)
        return _SymbolicInstance(self.planner, closure.definition, closure.scope, items, self.number)

    def alias(self, definition: Alias) -> None:
        sort = definition.sort
        if definition.target == "export":
            self.space(sort).append(self.exported(definition))
        elif definition.target == "core export":
            instance = self.core_at("instance", definition.item)
            self._core_space(sort).append(self.core_export(instance, definition.name, sort))
        elif sort != "core type":  # only the engine's validation reads core types
            outer = self.outer(definition.levels)
            assert isinstance(outer, _SymbolicInstance)
            self.space(sort).append(outer.get(sort, definition.item))

    def imported(self, definition: ImportDefinition) -> None:
        name, extern = definition.name, definition.extern
        space = self.space(extern.sort)
        if self.arguments is None:
            item = self.planner.host(self, name, extern)
        else:
            sort, item = self.arguments.get(name, ("", None))
            if sort != extern.sort:
                raise invalid(f"an instance of a component lacks the {extern.sort} {printable(name, 60)!r}")
        if extern.sort == "type":
            name_type(item, name)
        space.append(item)

    def exported_item(self, definition: ExportDefinition) -> None:
        assert definition.item is not None
        item = self.get(definition.sort, definition.item)
        if definition.sort == "type":
            name_type(item, definition.name)
        self.exports[definition.name] = definition.sort, item
        self.spaces[definition.sort].append(item)


def _ignore(_: _SymbolicInstance, __: Definition) -> None:
    """Skip a core type definition: only the engine's validation needs it."""


def _refuse_values(*_: object) -> NoReturn:
    raise ArtifactError("the component uses value definitions or a start function, which Aegis does not support")


_RUN: dict[type[Any], Callable[[_SymbolicInstance, Any], _SymbolicInstance | None]] = {
    ModuleDefinition: _SymbolicInstance.module,
    ComponentDefinition: _SymbolicInstance.component,
    CoreInstanceDefinition: _SymbolicInstance.core_instance,
    CoreTypeDefinition: _ignore,
    InstanceDefinition: _SymbolicInstance.instance,
    Alias: _SymbolicInstance.alias,
    TypeDefinition: _SymbolicInstance.type,
    LiftDefinition: _SymbolicInstance.lift,
    LowerDefinition: _SymbolicInstance.lower,
    Builtin: _SymbolicInstance.builtin,
    StartFunction: _refuse_values,
    ValueDefinition: _refuse_values,
    ImportDefinition: _SymbolicInstance.imported,
    ExportDefinition: _SymbolicInstance.exported_item,
}
