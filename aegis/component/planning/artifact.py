"""From bytes to a component: its plan, its world, and the code of its core modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

from aegis.component.planning.plan import plan
from aegis.component.planning.program import CoreExport
from aegis.component.planning.record import KeptCode, Record, keep_record, kept_record
from aegis.component.planning.skeleton import skeleton
from aegis.component.shims.adapters import links_of
from aegis.engine.compile.cache import Cache
from aegis.engine.compile.code import Artifact, NativeCode
from aegis.engine.compile.config import EngineConfig, engine_for
from aegis.engine.compile.validator import World, validate_skeleton
from aegis.engine.native.process_lock import ProcessLock
from aegis.engine.threads.guest_thread import on_enough_stack
from aegis.errors import ArtifactError, MemoryExceeded
from aegis.limits import Limits, exceeded
from aegis.wasm.admission import check_compile_cost
from aegis.wasm.binary import MemoryType
from aegis.wasm.component import decode_component
from aegis.wasm.digest import sha256_hex
from aegis.wasm.structure import ComponentStructure, structure_of
from aegis.wit.python_types import function_with_python_types
from aegis.wit.types import Function, Interface

__all__ = ["Component", "ComponentCode", "CoreModule", "admit_component"]

_PLANS_KEPT = 32


class CoreModule(Artifact):
    """A core module that a component embeds and instantiates."""

    kind: ClassVar[str] = "module"

    _digest = ""

    def __init__(self, component: bytes, start: int, end: int, cache: Cache | None, limits: Limits) -> None:
        self._span = component, start, end
        super().__init__(b"", "", cache, limits)
        self.size = end - start

    @property
    def _data(self) -> bytes:
        component, start, end = self._span
        return component[start:end]

    @_data.setter
    def _data(self, data: bytes) -> None:
        """The bytes are the component's."""

    @property
    def digest(self) -> str:
        if not self._digest:
            self._digest = sha256_hex(self._data)
        return self._digest

    @digest.setter
    def digest(self, digest: str) -> None:
        self._digest = digest

    def _bound(self) -> None:
        """The component was bounded as a whole."""


class ComponentCode:
    """The code of a component for one engine: that of each core module that it instantiates, by the module's number."""

    __slots__ = ("engine", "parts")

    pointer = 0

    def __init__(self, engine: int, parts: dict[int, NativeCode]) -> None:
        self.engine, self.parts = engine, parts


class Component(Artifact):
    """A compiled component, shared by any number of sandboxes and threads."""

    kind: ClassVar[str] = "component"
    plain: ClassVar[bool] = False
    latest: Any = None
    """What the latest sandbox without imports of the embedder's was made from, kept for the next."""

    def __init__(self, data: bytes, record: Record, digest: str, cache: Cache | None, limits: Limits) -> None:
        super().__init__(data, digest, cache, limits)
        self.structure, self.program, self._world = record
        self.plans: dict[Any, Any] = {}  # the plans' own, kept here so that they go with the component
        self.told: World | None = None
        """The world as a worker told it that validated the component: good for sandboxes in workers alone."""
        self._world_lock = ProcessLock()
        self.links: dict[EngineConfig, Any] = {}
        """The links between instances under each configuration (:mod:`aegis.component.shims.adapters`)."""
        self._images: dict[Any, Any] = {}
        self.kept_code = None if cache is None else KeptCode(cache, digest)
        used = dict.fromkeys(step.module for step in self.program.steps)
        self.modules = {n: CoreModule(data, *self.program.modules[n], cache, limits) for n in used}
        """Core modules that are instantiated, by number."""

    def planned(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the plan that is kept under ``key``, of what ``make`` makes the first time."""
        found = self.plans.get(key)
        if found is None:
            while len(self.plans) >= _PLANS_KEPT:
                self.plans.pop(next(iter(self.plans)), None)  # its sandboxes hold it as long as they need it
            found = self.plans[key] = make()
        return found

    @property
    def world(self) -> World:
        """What it imports and exports, with full types."""
        return self._world or self.told or self.validated()

    def validated(self) -> World:
        """Return the world that this process found when it validated the component, or one that kept its record."""
        if self._world is None:
            with self._world_lock:
                if self._world is None:
                    self._world = on_enough_stack(self._validate)
        return self._world

    def _validate(self) -> World:
        """Have the engine validate the component without its code, and the modules that nothing instantiates."""
        check_compile_cost(self._data, self._limits)
        world = validate_skeleton(skeleton(self._data))
        unused = [span for n, span in enumerate(self.program.modules) if n not in self.modules]
        for start, end in unused:
            CoreModule(self._data, start, end, None, self._limits).validate()
        if self._cache is not None:
            keep_record(self._cache, self.digest, self._limits, Record(self.structure, self.program, world))
        return world

    def _build(self, config: EngineConfig) -> ComponentCode:  # type: ignore[override]
        """Compile the core modules, those apart that other components have too."""
        self.validated()
        parts: dict[int, NativeCode] = {}
        made: dict[str, NativeCode] = {}
        for number, module in self.modules.items():
            key = module.digest
            parts[number] = made[key] if key in made else made.setdefault(key, module.code(config))
        self.cached = all(module.cached for module in self.modules.values())
        self.links[config] = links_of(self, config)
        return ComponentCode(engine_for(config).pointer, parts)

    @property
    def kept_as(self) -> tuple[Cache | None, Limits]:
        """Return where code is kept, and the limits of compiling it."""
        return self._cache, self._limits

    @property
    def imports(self) -> dict[str, Interface | Function]:
        """Imported interfaces and functions, by name."""
        return self.world.imports

    @property
    def exports(self) -> dict[str, Interface | Function]:
        """Exported interfaces and functions, by name."""
        return self.world.exports

    def callables(self) -> list[str]:
        """Return the names under which its exported functions are called."""
        found: list[str] = []
        for name, item in self.exports.items():
            found += [name] if isinstance(item, Function) else [f"{name}#{member}" for member in item.functions]
        return found

    def with_python_types(self, function: Function) -> Function:
        """Return a function of this component with Python classes for its types, the same for the same type."""
        with self._lock:
            return function_with_python_types(function, self._images)

    def memories(self, most: int) -> list[MemoryType]:
        return self.structure.memories(most)

    @cached_property
    def memory_exports(self) -> tuple[CoreExport, ...]:
        """One export for each memory that a core instance defines and exports."""
        found = []
        for n, step in enumerate(self.program.steps):
            info = self.structure.modules[step.module]
            imported = sum(i.kind == "memory" for i in info.imports)
            by_index = {index: name for name, index in reversed(info.memory_exports) if index >= imported}
            found += [CoreExport(n, name, "memory") for name in by_index.values()]
        return tuple(found)

    @cached_property
    def hidden_memory(self) -> int:
        """Bytes that memories which no module exports begin with."""
        total = 0
        for step in self.program.steps:
            info = self.structure.modules[step.module]
            shown = {index for _, index in info.memory_exports}
            imported = sum(i.kind == "memory" for i in info.imports)
            own = enumerate(info.memories)
            total += sum(m.minimum * m.page_size for n, m in own if n >= imported and n not in shown)
        return total

    def starts(self) -> bool:
        return any(self.structure.modules[n].has_start for n in self.modules)

    def hides_growth(self) -> bool:
        return any(m.minimum != m.maximum for m in self.structure.memories(1 << 16))

    def prepare(self, choose: Callable[[Artifact], EngineConfig], what: str) -> None:
        """Validate, reflect and compile: a component whose world nothing can link is rejected here."""
        try:
            self.validated()
        except ArtifactError as error:
            raise ArtifactError(f"{what}: {error}") from None
        super().prepare(choose, what)

    def __repr__(self) -> str:
        return f"<aegis component {self.digest[:12]} of {self.size:,} bytes>"


def admit_component(data: bytes, digest: str, limits: Limits, cache: Cache | None, what: str) -> Record:
    """Check the structure of a component, called ``what`` in errors, and plan it, before anything compiles it.

    Raise :class:`~aegis.errors.ArtifactError`, or ``MemoryExceeded`` when it makes more instances than it may.
    """
    record = None if cache is None else kept_record(cache, digest, limits)
    try:
        binary = None if record is not None else decode_component(data)
        structure = structure_of(binary) if binary is not None else record.structure  # type: ignore[union-attr]
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None
    _check_features(structure, what)
    made = structure.totals.instances
    if limits.instances is not None and made > limits.instances:
        raise MemoryExceeded(
            f"{what}: {exceeded('instances', made, limits.instances)}",
            limit="instances", phase="initial", used=made, allowed=limits.instances,
        )  # fmt: skip
    try:
        return record or Record(structure, plan(binary), None)  # type: ignore[arg-type]
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None


def _check_features(structure: ComponentStructure, what: str) -> None:
    if structure.needs:
        culprit, needs = structure.needs[0]
        more = f" (and {len(structure.needs) - 1} more)" if len(structure.needs) > 1 else ""
        raise ArtifactError(f"{what}: {culprit}{more} needs {needs}, which are of WASI 0.3 and Aegis does not run")
    if structure.features:
        needs = ", ".join(structure.features)
        raise ArtifactError(f"{what}: it needs {needs}, which are of WASI 0.3 and Aegis does not run")
