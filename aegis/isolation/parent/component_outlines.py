"""In the parent: what calling into a component needs to know, without its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aegis.component.planning.world import ImportedFunction, check_export, imported_functions, typed_export
from aegis.engine.compile.config import EngineConfig
from aegis.isolation.parent.outlines import in_the_worker
from aegis.limits import Limits
from aegis.sandbox.link_component import Providers, served
from aegis.values import Rows
from aegis.wit.index import PARENT
from aegis.wit.types import Interface

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.host.preview2 import Wasi
    from aegis.wit.types import Function

__all__ = ["ComponentOutline", "Embedders"]


class Embedders(Providers):
    """Calls what the embedder provides, and what the index places in the parent; the worker has the rest."""

    deferred = False

    def serves(self, name: str) -> bool:
        return super().serves(name) or _stays(name)

    def _offered(
        self, made: list[Callable[..., Any]], n: int, function: ImportedFunction, wasi: Callable[[], Wasi]
    ) -> Callable[..., Any]:
        return super()._offered(made, n, function, wasi) if _stays(function.interface) else in_the_worker


def _stays(interface: str) -> bool:
    """Tell whether calls of an interface are answered in the parent, which keeps what the host holds for it."""
    row = served(interface)
    return row is not None and row.place == PARENT


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
