"""A component in a sandbox: its linking, instantiation and exports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from aegis.component.planning.artifact import Component
from aegis.component.planning.world import compatible_interface
from aegis.engine.store.store import PoolExhausted
from aegis.errors import LinkError
from aegis.sandbox.exports import Exports, Namespace, handle_maker, namespace
from aegis.text import printable
from aegis.wit.naming import pascal
from aegis.wit.results import outcome_value
from aegis.wit.types import Function, Interface, show
from aegis.wit.values import ResourceHandle

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi
    from aegis.sandbox.backend import Backend, Functions, PlanOfComponent, Run, Store
    from aegis.sandbox.link_component import Providers


__all__ = ["Prepared", "SandboxComponent"]


_BACKENDS_KEPT = 8
"""Backends of which a component keeps the parts that its sandboxes share."""


class Prepared(NamedTuple):
    """The parts that all sandboxes of a component in one backend share when the embedder provides no imports."""

    backend: ref[Backend]
    watched: bool
    providers: Providers
    plan: PlanOfComponent
    direct: bool
    """Whether a store needs the plan alone: it is in this process, without imports and without start functions."""


def _handle_class(component: ref[SandboxComponent], key: int) -> Callable[..., ResourceHandle]:
    """Return the class of a resource's handles. The weak reference lets an unclosed sandbox be collected."""
    return component().handle_class(key)  # type: ignore[union-attr]


class SandboxComponent:
    """One component in one run: it links the component, creates its store and describes its exports."""

    def __init__(self, run: Run, component: Component, prepared: Prepared | None = None) -> None:
        """Prepare a run of ``component``; ``prepared`` has the parts of its store if that exists already."""
        self._run, self._component = run, component
        backend, latest = run.backend, prepared
        if latest is None:
            watched = run.observed
            asks = bool(run.imports) or run.trap_missing or bool(backend.policy.imports)
            latest = None if asks else component.latest.get(id(backend))
            if latest is None or latest.watched is not watched or latest.backend() is not backend:
                providers = backend.providers(component, run.imports, trap_missing=run.trap_missing)
                plan = backend.component_plan(component, providers, watched=watched)
                latest = Prepared(ref(backend), watched, providers, plan, getattr(plan, "direct", False))
                if not asks:
                    while len(component.latest) >= _BACKENDS_KEPT:
                        component.latest.pop(next(iter(component.latest)), None)
                    component.latest[id(backend)] = latest
        self._providers, self._plan = latest.providers, latest.plan
        self.calls_python = self._plan.calls_python
        self.starts = self._plan.starts or self._plan.counted
        """Whether instantiation may run guest code, or Python code that the engine calls."""

    _classes_made: dict[int, Callable[..., ResourceHandle]] | None = None
    _exports: dict[str, Any] | None = None

    @property
    def _namespaces(self) -> dict[str, Any]:
        if self._exports is None:
            self._exports = {}
        return self._exports

    @property
    def _classes(self) -> dict[int, Callable[..., ResourceHandle]]:
        if self._classes_made is None:
            self._classes_made = {}
        return self._classes_made

    def functions(self, wasi: Callable[[], Wasi]) -> Functions:
        """Return the callables that serve the imports, by their numbers in the plan."""
        wanted = self._plan.functions
        if not wanted:
            return ()
        return self._providers.functions(wanted, wasi, self._run.door)

    def new_store(self, functions: Functions) -> Store:
        """Instantiate the component, outside the pool if that has no free slot."""
        backend, classes = self._run.backend, partial(_handle_class, ref(self))
        try:
            return backend.component_store(self._run, self._plan, functions, classes=classes)
        except PoolExhausted:
            self._plan = backend.component_plan(self._component, self._providers, pooled=False)
            return backend.component_store(self._run, self._plan, functions, classes=classes)

    # -- exports -------------------------------------------------------------------------------

    def exports(self) -> Exports:
        """Return the exports by name."""
        return Exports(self._run, self._component.world.exports, self._namespaces)

    def bind(self, table: Interface) -> Namespace:
        """Return the exported interface of ``table`` as an object whose values have the classes of the table.

        Raise ``LinkError`` if the component does not export it, or with other types.
        """
        items = self._component.world.exports
        if not table.name:
            own = {name: item for name, item in items.items() if isinstance(item, Function)}
            return self._bound_namespace("", Interface("", own), table)
        full = compatible_interface(items, table.name)
        item = items.get(full) if full is not None else None
        if full is None or not isinstance(item, Interface):
            raise LinkError(f"the component does not export {printable(table.name)}, the interface of these bindings")
        return self._bound_namespace(full, item, table)

    def _bound_namespace(self, full: str, item: Interface, table: Interface) -> Namespace:
        lacking = [name for name in table.functions if name not in item.functions]
        if lacking:
            raise LinkError(
                f"the component's {printable(full or 'world')} lacks {', '.join(lacking[:8])}, which the bindings have"
            )
        for name in table.functions:
            self._plan.check(full, name, table)
        members = namespace(self._run, full, Interface(full, {n: item.functions[n] for n in table.functions}), table)
        self._register_classes(item, members)
        return members

    def _register_classes(self, item: Interface, members: Namespace) -> None:
        """Give handles of an interface's resources the classes in its namespace."""
        for name, resource in item.types.items():
            cls = getattr(members, pascal(name), None)
            if cls is not None and hasattr(resource, "key"):
                self._classes[resource.key] = handle_maker(cls)

    def handle_class(self, key: int) -> Callable[..., ResourceHandle]:
        """Return a callable that creates handles of the guest's resource with this key."""
        made = self._classes.get(key)
        if made is None:
            for name, item in self._component.world.exports.items():
                if isinstance(item, Interface) and any(getattr(t, "key", None) == key for t in item.types.values()):
                    self._register_classes(item, self.exports()[name])
            # No namespace has a class for a resource without functions, or for one of the world itself.
            own = {"__slots__": (), "_run": self._run, "__doc__": ResourceHandle.__doc__}
            made = self._classes.setdefault(key, type("ResourceHandle", (ResourceHandle,), own))
        return made

    def function(self, name: Any) -> Function:
        """Return the type of an export, with the Python classes of its values."""
        found: Function = self._plan.entry(name).function
        return found

    def outcome_value(self, name: Any, returned: Any) -> Any:
        """Return the value of an outcome for the value that an export returned."""
        return outcome_value(self.function(name).result, returned)

    def signature(self, name: Any) -> tuple[str, int]:
        """Return the signature of an export for messages, and the number of its parameters."""
        function = self.function(name)
        return f"{printable(str(name), 160)}{show(function).removeprefix('async ').removeprefix('func')}", len(
            function.params
        )
