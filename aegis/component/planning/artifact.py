"""The compiled component: its program, its world, and the native code of its core modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

from aegis.component.planning.plan import plan
from aegis.component.planning.program import CoreExport
from aegis.component.planning.record import ComponentRecord, KeptCode, keep_record, kept_record
from aegis.component.planning.skeleton import named_skeleton
from aegis.component.shims.adapters import Links, links_of
from aegis.engine.compile.artifact import require_enabled
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

__all__ = ["Component", "ComponentCode", "EmbeddedModuleArtifact", "admit_component"]

_PLANS_KEPT = 32
_UNSUPPORTED = ", which Aegis does not support: build the component without it"


class EmbeddedModuleArtifact(Artifact):
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
        """Ignore the assignment of the base class: the bytes stay a slice of the component's."""

    @property
    def digest(self) -> str:
        if not self._digest:
            self._digest = sha256_hex(self._data)
        return self._digest

    @digest.setter
    def digest(self, digest: str) -> None:
        self._digest = digest

    def _bound(self) -> None:
        """Check nothing: the cost limits were already applied to the whole component."""


class ComponentCode:
    """Native code of a component for one engine: ``parts`` maps the number of each instantiated module to its code."""

    __slots__ = ("engine", "parts")

    pointer = 0

    def __init__(self, engine: int, parts: dict[int, NativeCode]) -> None:
        self.engine, self.parts = engine, parts


class Component(Artifact):
    """A compiled component, shared by any number of sandboxes and threads."""

    kind: ClassVar[str] = "component"
    _public = (*Artifact._public, "callables", "world")
    plain: ClassVar[bool] = False
    latest: dict[int, Any]
    """For each backend, by its id, the link plan of its latest sandbox without host functions of the embedder; the next
    such sandbox reuses it."""

    def __init__(
        self, data: bytes, record: ComponentRecord, digest: str, cache: Cache | None, limits: Limits,
        proposals: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(data, digest, cache, limits)
        self.proposals = proposals
        self.structure, self.program, self._world = record
        self.plans: dict[Any, Any] = {}  # link plans; stored here so that they are freed with the component
        self.reported_world: World | None = None
        """The world that a worker reported after validating the component. The parent does not trust it: only
        isolated sandboxes may use it."""
        self.latest = {}
        self.matching_tables: dict[tuple[str, int], tuple[Any, Any]] = {}
        """Bindings that match an imported interface, by its name and the id of their table: the table and the interface
        as it was compared, which a worker may report otherwise."""
        self._world_lock = ProcessLock()
        self._links: dict[EngineConfig, Links | None] = {}
        """Direct calls between instances, by engine configuration (:mod:`aegis.component.shims.adapters`)."""
        self._images: dict[Any, Any] = {}
        self.kept_code = None if cache is None else KeptCode(cache, digest)
        used = dict.fromkeys(step.module for step in self.program.steps)
        self.modules = {n: EmbeddedModuleArtifact(data, *self.program.modules[n], cache, limits) for n in used}
        """Core modules that are instantiated, by number."""
        for module in self.modules.values():
            module.proposals = proposals

    def planned(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the plan cached under ``key``; call ``make`` to build it on the first request.

        At most :data:`_PLANS_KEPT` plans are cached; the oldest is evicted first.
        """
        found = self.plans.get(key)
        if found is None:
            while len(self.plans) >= _PLANS_KEPT:
                self.plans.pop(next(iter(self.plans)), None)  # sandboxes keep their own reference to a plan
            found = self.plans[key] = make()
        return found

    @property
    def world(self) -> World:
        """Imports and exports with their full types."""
        return self._world or self.reported_world or self.validated()

    @property
    def known_world(self) -> World | None:
        """The world, if this process or its cache has validated the component."""
        return self._world

    def validated(self) -> World:
        """Validate the component unless this process or the cache already has; return its world.

        Unlike :attr:`world`, never return a world reported by a worker. Raise ``ArtifactError`` if the component is
        invalid.
        """
        if self._world is None:
            with self._world_lock:
                if self._world is None:
                    self._world = on_enough_stack(self._validate)
        return self._world

    def validate(self) -> None:
        """Validate the component and every core module without compiling one; raise ``ArtifactError`` if invalid."""
        self.validated()
        for module in self.modules.values():
            module.validate()

    def _validate(self) -> World:
        """Validate the skeleton, and each core module that is not instantiated; compiling validates the others."""
        check_compile_cost(self._data, self._limits, self.proposals)
        world = validate_skeleton(named_skeleton(self._data), self.proposals)
        unused = [span for n, span in enumerate(self.program.modules) if n not in self.modules]
        for start, end in unused:
            module = EmbeddedModuleArtifact(self._data, start, end, None, self._limits)
            module.proposals = self.proposals
            module.validate()
        if self._cache is not None:
            record = ComponentRecord(self.structure, self.program, world)
            keep_record(self._cache, self.digest, self._limits, record, self.proposals)
        return world

    def _build(self, config: EngineConfig) -> ComponentCode:  # type: ignore[override]
        """Compile the core modules, each distinct one once; modules shared with other components hit the cache."""
        self.validated()
        parts: dict[int, NativeCode] = {}
        made: dict[str, NativeCode] = {}
        for number, module in self.modules.items():
            key = module.digest
            parts[number] = made[key] if key in made else made.setdefault(key, module.code(config))
        self.cached = all(module.cached for module in self.modules.values())
        self._links[config] = links_of(self.program, config, (self._cache, self._limits))
        return ComponentCode(engine_for(config).pointer, parts)

    def links_for(self, config: EngineConfig) -> Links | None:
        """Return the direct calls of the component compiled for ``config``; ``None`` if it has none."""
        return self._links.get(config)

    @property
    def linked(self) -> bool:
        """Whether new sandboxes make direct calls between instances, in some configuration."""
        return any(self._links.values())

    def unlink(self) -> None:
        """Remove the direct calls: in sandboxes created from now on, calls between instances go through the host."""
        self._links.clear()
        self.plans.clear()
        self.latest = {}

    @property
    def imports(self) -> dict[str, Interface | Function]:
        """Imported interfaces and functions, by name."""
        return self.world.imports

    @property
    def exports(self) -> dict[str, Interface | Function]:
        """Exported interfaces and functions, by name."""
        return self.world.exports

    def callables(self) -> list[str]:
        """Return the names of the exported functions: ``name``, or ``interface#name``."""
        found: list[str] = []
        for name, item in self.exports.items():
            found += [name] if isinstance(item, Function) else [f"{name}#{member}" for member in item.functions]
        return found

    def with_python_types(self, function: Function) -> Function:
        """Return ``function`` with generated Python classes for its types; equal types share one class."""
        with self._lock:
            return function_with_python_types(function, self._images)

    def memories(self, most: int) -> list[MemoryType]:
        return self.structure.memories(most)

    @cached_property
    def memory_exports(self) -> tuple[CoreExport, ...]:
        """One export for each linear memory that a core instance defines and exports."""
        found = []
        for n, step in enumerate(self.program.steps):
            info = self.structure.modules[step.module]
            imported = sum(i.kind == "memory" for i in info.imports)
            by_index = {index: name for name, index in reversed(info.memory_exports) if index >= imported}
            found += [CoreExport(n, name, "memory") for name in by_index.values()]
        return tuple(found)

    @cached_property
    def hidden_memory(self) -> int:
        """Initial size in bytes of all linear memories that no core module exports."""
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
        """Validate the component, read its types and compile it. Raise ``ArtifactError``, named ``what`` in errors."""
        try:
            self.validated()
        except ArtifactError as error:
            raise ArtifactError(f"{what}: {error}") from None
        super().prepare(choose, what)

    def __repr__(self) -> str:
        return f"<aegis component {self.digest[:12]} of {self.size:,} bytes>"


def admit_component(
    data: bytes, digest: str, limits: Limits, cache: Cache | None, what: str, proposals: tuple[str, ...] = ()
) -> ComponentRecord:  # fmt: skip
    """Check the structure of a component and plan it, before anything is compiled.

    ``what`` names the component in errors. ``proposals`` are the enabled optional ones.

    Raise :class:`~aegis.errors.ArtifactError` if it is malformed or uses
    unsupported features, and ``MemoryExceeded`` if it makes more core instances than ``limits.instances``.
    """
    record = None if cache is None else kept_record(cache, digest, limits, proposals)
    try:
        binary = None if record is not None else decode_component(data)
        structure = structure_of(binary) if binary is not None else record.structure  # type: ignore[union-attr]
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None
    _check_features(structure, what)
    require_enabled({name for module in structure.modules for name in module.proposals}, proposals, what)
    made = structure.totals.instances
    if limits.instances is not None and made > limits.instances:
        text = f"{what}: {exceeded('instances', made, limits.instances)}"
        raise MemoryExceeded(text, limit="instances", phase="initial", used=made, allowed=limits.instances)
    try:
        return record or ComponentRecord(structure, plan(binary), None)  # type: ignore[arg-type]
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None


def _check_features(structure: ComponentStructure, what: str) -> None:
    if structure.needs:
        culprit, needs = structure.needs[0]
        more = f" (and {len(structure.needs) - 1} more)" if len(structure.needs) > 1 else ""
        raise ArtifactError(f"{what}: {culprit}{more} uses {needs}{_UNSUPPORTED}")
    if structure.features:
        needs = ", ".join(structure.features)
        raise ArtifactError(f"{what}: the component uses {needs}{_UNSUPPORTED}")
