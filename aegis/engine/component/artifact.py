"""From bytes to a component: what admits it, its world, and its code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

from aegis.engine.cache import Cache
from aegis.engine.code import Artifact
from aegis.engine.component.reflect import World, reflect
from aegis.engine.config import EngineConfig
from aegis.errors import ArtifactError, MemoryExceeded
from aegis.limits import Limits
from aegis.wasm.anatomy import Anatomy, read_component
from aegis.wasm.binary import MemoryType
from aegis.wit.images import imaged_function
from aegis.wit.types import Function, Interface

__all__ = ["Component", "admit_component"]


class Component(Artifact):
    """A compiled component, shared by any number of sandboxes and threads."""

    kind: ClassVar[str] = "component"
    plain: ClassVar[bool] = False

    def __init__(self, data: bytes, anatomy: Anatomy, digest: str, cache: Cache | None, limits: Limits) -> None:
        super().__init__(data, digest, cache, limits)
        self.anatomy = anatomy
        self.plans: dict[Any, Any] = {}  # the plans' own, kept here so that they go with the component
        self._world: World | None = None
        self._images: dict[Any, Any] = {}

    @property
    def world(self) -> World:
        """What it imports and exports, with full types."""
        if self._world is None:
            code = next(iter(self._codes.values()))
            self._world = reflect(code.pointer, code.engine)
        return self._world

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

    def imaged(self, function: Function) -> Function:
        """Return a function of this component with Python classes for its types, the same for the same type."""
        with self._lock:
            return imaged_function(function, self._images)

    def memories(self, most: int) -> list[MemoryType]:
        return self.anatomy.memories(most)

    @cached_property
    def least_memory(self) -> int:
        """Bytes that its memories begin with, together."""
        return sum(m.minimum * m.page_size for m in self.anatomy.memories(1 << 16))

    def starts(self) -> bool:
        return any(module.has_start for module in self.anatomy.modules)

    def hides_growth(self) -> bool:
        return any(m.minimum != m.maximum for m in self.anatomy.memories(1 << 16))

    def prepare(self, choose: Callable[[Artifact], EngineConfig], what: str) -> None:
        """Compile, and reflect: a component whose world nobody can link is refused here."""
        super().prepare(choose, what)
        try:
            _ = self.world
        except ArtifactError as error:
            raise ArtifactError(f"{what}: {error}") from None

    def __repr__(self) -> str:
        return f"<aegis component {self.digest[:12]} of {self.size:,} bytes>"


def admit_component(data: bytes, limits: Limits, what: str) -> Anatomy:
    """Check the structure of a component, called ``what`` in errors, before anything compiles it.

    Raise :class:`~aegis.errors.ArtifactError`, or ``MemoryExceeded`` when it makes more instances than it may.
    """
    try:
        anatomy = read_component(data)
    except ArtifactError as error:
        raise ArtifactError(f"{what}: {error}") from None
    if anatomy.needs:
        culprit, needs = anatomy.needs[0]
        more = f" (and {len(anatomy.needs) - 1} more)" if len(anatomy.needs) > 1 else ""
        raise ArtifactError(f"{what}: {culprit}{more} needs {needs}, which are of WASI 0.3 and Aegis does not run")
    if anatomy.features:
        needs = ", ".join(anatomy.features)
        raise ArtifactError(f"{what}: it needs {needs}, which are of WASI 0.3 and Aegis does not run")
    if anatomy.lends_many:
        raise ArtifactError(
            f"{what}: a component in it offers another one a function that takes a list of borrowed handles, for which "
            "the engine would keep memory on the host without a limit; pass them one by one, or pass own handles"
        )
    made = anatomy.totals.instances
    if limits.instances is not None and made > limits.instances:
        raise MemoryExceeded(
            f"{what}: the component makes {made:,} core instances, and the limit is {limits.instances:,}; "
            "raise it with --instances",
            limit="instances", phase="initial", used=made, allowed=limits.instances,
        )  # fmt: skip
    return anatomy
