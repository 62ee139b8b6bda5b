"""The program of a component: every step of its instantiation, as data, resolved before anything runs.

Component instantiation is static: the bytes alone determine which core module is instantiated with which imports,
which functions are lifted or lowered with which options, and which resource types exist. A
:class:`ComponentProgram` holds all of this as flat lists; nested components, inline instances and aliases have been
resolved away.

Resource types are numbered: ``Resource.key`` in every type here is an index into
:attr:`ComponentProgram.resources`. Component instances are numbered in the order in which their instantiation begins;
the root is 0.

Source: the component model's Explainer.md, "Instance Definitions" and "Canonical Definitions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from aegis.wit.types import Function, WitType

__all__ = [
    "AsyncFunction",
    "CanonLift",
    "CanonLower",
    "ComponentProgram",
    "ContextPlan",
    "CoreExport",
    "CoreItem",
    "CoreStep",
    "Imported",
    "Options",
    "ResourceFunction",
    "ResourceType",
    "Trampoline",
]  # fmt: skip


class CoreExport(NamedTuple):
    """An export of the core instance that the step number ``step`` creates.

    ``kind`` is ``func``, ``memory``, ``table`` or ``global``.
    """

    step: int
    name: str
    kind: str


CoreItem: TypeAlias = "CoreExport | int"
"""An item that a core module imports or a canonical definition refers to; an integer is a trampoline's number."""


class Options(NamedTuple):
    """Canonical options (CanonicalABI.md, "Canonical ABI Options"); ``encoding`` is the string encoding."""

    encoding: str = "utf8"
    memory: CoreExport | None = None
    realloc: CoreItem | None = None
    post_return: CoreItem | None = None
    is_async: bool = False
    callback: CoreItem | None = None


class ContextPlan(NamedTuple):
    """The canonical options of one component instance.

    ``raw``: values come from or go to another component instance, so no Python classes are built for them.
    """

    instance: int
    options: Options
    raw: bool


class Imported(NamedTuple):
    """A function that the host provides; ``interface`` is empty for a function that the world imports directly."""

    interface: str
    name: str
    type: Function


class CanonLift(NamedTuple):
    """A component function made from a core function of the component instance ``instance`` (``canon lift``)."""

    core: CoreItem
    options: Options
    type: Function
    instance: int


class CanonLower(NamedTuple):
    """A core function made from a component function, for the component instance ``instance`` (``canon lower``)."""

    function: Imported | CanonLift
    options: Options
    instance: int


class ResourceFunction(NamedTuple):
    """``canon resource.new``, ``resource.drop`` or ``resource.rep``; ``operation`` is the word after the dot."""

    operation: str
    resource: int
    instance: int


class AsyncFunction(NamedTuple):
    """A canonical built-in of asynchronous components, such as ``task.return`` or ``stream.read``, by its ``name``.

    ``type`` is its stream or future type, or the result type of ``task.return``. ``flag`` is its immediate ``async`` or
    ``cancellable``. ``memory`` is that of ``waitable-set.wait`` and ``poll``. ``slot`` is that of ``context.get`` and
    ``set``.
    """

    name: str
    instance: int
    type: WitType | None = None
    options: Options | None = None
    flag: bool = False
    memory: CoreExport | None = None
    slot: int = 0


Trampoline: TypeAlias = "CanonLower | ResourceFunction | AsyncFunction"
"""A core function that the host implements."""


class ResourceType(NamedTuple):
    """A resource type; ``instance`` is the component instance that defines it, ``None`` if the host does."""

    name: str
    instance: int | None
    destructor: CoreItem | None


class CoreStep(NamedTuple):
    """The instantiation of the core module ``module``; ``imports`` are in the order of the module's imports."""

    module: int
    imports: tuple[CoreItem, ...]
    instance: int


class ComponentProgram(NamedTuple):
    """Everything needed to instantiate and call a component, except the code of its core modules."""

    modules: tuple[tuple[int, int], ...]
    """Core modules: the first byte of each in the component, and the first byte after it."""
    steps: tuple[CoreStep, ...]
    trampolines: tuple[Trampoline, ...]
    resources: tuple[ResourceType, ...]
    imported: tuple[Imported, ...]
    """Each function that the component imports, once, in declaration order."""
    exports: Mapping[str, CanonLift | Imported | Mapping[str, CanonLift | Imported]]
    """Exported functions by name; an exported instance is a mapping of its functions. A component may re-export an
    imported function."""
    parents: tuple[int | None, ...]
    """The parent of each component instance; ``None`` for the root."""
