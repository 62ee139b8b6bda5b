"""Plans for calls into a component in a worker: the part of a plan that needs no compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aegis.component.planning.world import ImportedFunction, check_export, imported_functions, typed_export
from aegis.component.shims.entering import is_async
from aegis.engine.compile.config import EngineConfig
from aegis.isolation.parent.outlines import provided_by_worker
from aegis.limits import Limits
from aegis.sandbox.link_component import Providers, served
from aegis.values import Rows
from aegis.wit.index import PARENT
from aegis.wit.types import Interface

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.host.wasi import Wasi
    from aegis.wit.types import Function

__all__ = ["ComponentOutline", "ParentProviders"]


class ParentProviders(Providers):
    """Providers in the parent: the embedder, and interfaces that the index places there. The worker has all others."""

    deferred = False

    def serves(self, name: str) -> bool:
        return super().serves(name) or _is_in_parent(name)

    def _offered(
        self, made: list[Callable[..., Any]], n: int, function: ImportedFunction, wasi: Callable[[], Wasi]
    ) -> Callable[..., Any]:
        return super()._offered(made, n, function, wasi) if _is_in_parent(function.interface) else provided_by_worker


def _is_in_parent(interface: str) -> bool:
    """Return whether the parent implements an interface, because its state must outlive the worker."""
    row = served(interface)
    return row is not None and row.place == PARENT


class _OutlineExport:
    """One export of a component: its full name and its type."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Function) -> None:
        self.name, self.function = name, function


def _remote_entry(interface: str, function: str) -> tuple[str, str]:
    """Return the entry for a function in :attr:`ComponentOutline.remote`."""
    return (interface, "") if interface else ("", function)


class ComponentOutline:
    """The imports and exports of a component with the Python classes of their values, limits, and engine configuration.

    All sandboxes whose embedder provides the same imports share it. ``remote`` lists the imports that the embedder
    serves: an interface and an empty name, or an empty interface and the name of a function of the world. ``served``
    has the indices of their functions.
    """

    calls_python = counted = False
    starts = True
    """Whether creating a store can take as long as a call; true, because it waits for a worker."""

    def __init__(self, component: Component, limits: Limits, providers: Providers, config: EngineConfig) -> None:
        self.artifact, self.limits, self.typed, self.config = component, limits, providers.typed, config
        self.is_async = is_async(component.program)
        self.functions = imported_functions(component, providers.typed, providers.lacks)
        imports = component.world.imports.items()
        self.remote = tuple(_remote_entry(name if isinstance(i, Interface) else "", name) for name, i in imports
                            if providers.serves(name))  # fmt: skip
        self.served = frozenset(
            n for n, f in enumerate(self.functions) if _remote_entry(f.interface, f.name) in self.remote
        )
        self._entries: dict[Any, _OutlineExport] = {}

    def entry(self, name: Any) -> _OutlineExport:
        """Return an export; raise ``CallError`` if it is not callable."""
        made = self._entries.get(name)
        if made is None:
            asked = name.function if isinstance(name, Rows) else name
            interface, function, typed = typed_export(self.artifact, asked, self.typed)
            made = self._entries[name] = _OutlineExport(f"{interface}#{function}" if interface else function, typed)
        return made

    def check(self, interface: str, function: str, table: Interface) -> None:
        """Raise ``LinkError`` unless an exported function has the type that the bindings declare."""
        check_export(self.artifact, interface, function, table)
