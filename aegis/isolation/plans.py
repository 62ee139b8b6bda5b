"""In the parent: what calling into a guest needs to know, without its code."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.component.world import check_export, imported_functions, typed_export
from aegis.engine.config import EngineConfig
from aegis.engine.plan import callable_export
from aegis.lean import TYPE_CHECKING, Any
from aegis.limits import Limits
from aegis.values import FuncType, Rows
from aegis.wit.types import Interface

if TYPE_CHECKING:
    from aegis.component.artifact import Component
    from aegis.engine.artifact import Module
    from aegis.providers import Providers
    from aegis.wit.types import Function

__all__ = ["ComponentOutline", "ModuleOutline", "check_count"]


class ModuleOutline:
    """A module's exports and limits, and the kind of engine that its worker is to have."""

    calls_python = False
    """Whether Python runs during calls here: in the worker it may."""

    def __init__(self, module: Module, limits: Limits, config: EngineConfig) -> None:
        self.artifact, self.limits, self.config = module, limits, config

    def entry(self, name: Any) -> FuncType:
        """Return the type of an export; raise ``CallError`` when it cannot be called."""
        return callable_export(self.artifact, name.function if isinstance(name, Rows) else name)


def check_count(values: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raise ``TypeError`` for more or fewer arguments than parameters."""
    if len(values) != len(wanted):
        raise TypeError(f"{len(wanted)} arguments, not {len(values)}")


class _Entry:
    """One export of a component: its whole name and its type."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Function) -> None:
        self.name, self.function = name, function


def _names(interface: str, function: str) -> tuple[str, str]:
    """Return what is named where the parent says what its embedder serves."""
    return (interface, "") if interface else ("", function)


class ComponentOutline:
    """A component's imports and exports with the Python classes of their values, limits, and kind of engine.

    It serves every sandbox whose embedder provides the same: ``remote`` names the interfaces (with an empty second
    part) and the world's own functions that the embedder serves, and ``served`` has the numbers of their functions.
    """

    calls_python = False
    starts = True
    """Whether making a store takes as long as a guest's code may: a worker has to answer."""

    def __init__(self, component: Component, limits: Limits, providers: Providers, config: EngineConfig) -> None:
        self.artifact, self.limits, self.typed, self.config = component, limits, providers.typed, config
        self.functions = imported_functions(component, providers.typed, providers.lacks)
        imports = component.world.imports.items()
        self.remote = tuple(_names(name if isinstance(i, Interface) else "", name) for name, i in imports
                            if providers.serves(name))  # fmt: skip
        self.served = frozenset(n for n, f in enumerate(self.functions) if _names(f.interface, f.name) in self.remote)
        self._entries: dict[Any, _Entry] = {}

    def entry(self, name: Any) -> _Entry:
        """Return an export; raise ``CallError`` when it cannot be called."""
        made = self._entries.get(name)
        if made is None:
            asked = name.function if isinstance(name, Rows) else name
            interface, function, typed = typed_export(self.artifact, asked, self.typed)
            made = self._entries[name] = _Entry(f"{interface}#{function}" if interface else function, typed)
        return made

    def check(self, interface: str, function: str, table: Interface) -> None:
        """Raise ``LinkError`` unless an exported function is of the type that bindings say."""
        check_export(self.artifact, interface, function, table)
