"""All that instantiating a component does, as data: resolved from its bytes, before anything runs.

Instantiation of components is static: which core module is instantiated with which imports, which function is lifted
or lowered with which options, which resource types exist, is known from the bytes alone. A :class:`Program` is
the whole of it as flat lists. Nested components, inline instances and aliases do not appear in it.

Resource types are numbered: ``Resource.key`` in every type here is an index into :attr:`Program.resources`. Component
instances are numbered in the order in which their instantiation begins; the root is 0.

Source: the component model's Explainer.md, "Instance Definitions" and "Canonical Definitions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from aegis.wit.types import Function

__all__ = [
    "ContextPlan", "CoreExport", "CoreItem", "CoreStep", "Imported", "Lifted", "Lowered", "Options", "Program",
    "ResourceFunction", "ResourceType", "Trampoline",
]  # fmt: skip


class CoreExport(NamedTuple):
    """An export of a core instance, which the step with the number ``step`` makes.

    ``kind`` is ``func``, ``memory``, ``table`` or ``global``.
    """

    step: int
    name: str
    kind: str


CoreItem: TypeAlias = "CoreExport | int"
"""What a core module imports, or a canonical definition refers to; an integer is the number of a trampoline."""


class Options(NamedTuple):
    """Canonical options (CanonicalABI.md, "Canonical ABI Options"); ``encoding`` is that of strings."""

    encoding: str = "utf8"
    memory: CoreExport | None = None
    realloc: CoreItem | None = None
    post_return: CoreItem | None = None


class ContextPlan(NamedTuple):
    """The canonical options of one component instance; ``raw``: for values of another component instance."""

    instance: int
    options: Options
    raw: bool


class Imported(NamedTuple):
    """A function that the host provides; ``interface`` is empty for one of the world's own."""

    interface: str
    name: str
    type: Function


class Lifted(NamedTuple):
    """A core function as a function of a component instance (``canon lift``)."""

    core: CoreItem
    options: Options
    type: Function
    instance: int


class Lowered(NamedTuple):
    """A component's function as a core function (``canon lower``), called from the component instance ``instance``."""

    function: Imported | Lifted
    options: Options
    instance: int


class ResourceFunction(NamedTuple):
    """``canon resource.new``, ``resource.drop`` or ``resource.rep``; ``operation`` is the word after the dot."""

    operation: str
    resource: int
    instance: int


Trampoline: TypeAlias = "Lowered | ResourceFunction"
"""A core function that the host implements."""


class ResourceType(NamedTuple):
    """A resource type: of the component instance that defines it, or of the host (``instance`` is ``None``)."""

    name: str
    instance: int | None
    destructor: CoreItem | None


class CoreStep(NamedTuple):
    """The instantiation of the core module ``module``; ``imports`` are in the order of the module's imports."""

    module: int
    imports: tuple[CoreItem, ...]
    instance: int


class Program(NamedTuple):
    """Everything that instantiating and calling a component needs, besides the code of its core modules."""

    modules: tuple[tuple[int, int], ...]
    """Core modules: where the bytes of each begin and end in the component."""
    steps: tuple[CoreStep, ...]
    trampolines: tuple[Trampoline, ...]
    resources: tuple[ResourceType, ...]
    imported: tuple[Imported, ...]
    """Each function that the component imports, once, in its order."""
    exports: Mapping[str, Lifted | Imported | Mapping[str, Lifted | Imported]]
    """Exported functions, and instances as mappings of their functions, by name. An imported function may be
    exported again."""
    parents: tuple[int | None, ...]
    """The component instance around each component instance; ``None`` for the root."""
