"""The seam to where guests run: in this process (:mod:`.in_process`), or in a worker (:mod:`aegis.isolation`).

A :class:`Backend` belongs to a runtime. It knows the policy; for each :class:`~aegis.sandbox.run.Run` it acquires the
grants and instantiates the artifact in a :class:`Store`. The other rooms of a sandbox do not know which backend it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aegis import host
    from aegis.component.planning.artifact import Component
    from aegis.engine.call.door import Door
    from aegis.engine.compile.artifact import Module
    from aegis.engine.store.memory import LinearMemory
    from aegis.observe.bus import EventBus, Subscriber
    from aegis.policy import Policy
    from aegis.sandbox.link_component import Providers
    from aegis.sandbox.run import Run
    from aegis.values import HostFunction
    from aegis.wasm.binary import GlobalType
    from aegis.wit.values import ResourceHandle

__all__ = ["Backend", "Functions", "Plan", "Store"]

Functions = Sequence["HostFunction"] | Sequence[Callable[..., Any]] | Mapping[int, Callable[..., Any]]
"""The host functions of an artifact: for each import one, in its order or by its number."""


class Plan(Protocol):
    """Everything that creating a store of one artifact needs and that no sandbox of it changes."""

    calls_python: bool
    """Whether instantiating calls Python code of the engine's, to count memories for instance."""

    @property
    def artifact(self) -> Any: ...
    @property
    def limits(self) -> Any: ...
    def entry(self, name: Any) -> Any:
        """Return the export ``name``; raise ``ExportNotFound``."""


class Store(Protocol):
    """An instantiated artifact and its run-time state. Whoever holds its token may call into it.

    All methods may be called from any thread; :meth:`cancel` also while another thread is in the guest.
    """

    token: list[None]
    """Empty while a thread holds the store."""
    alone: bool
    """Whether no guest code can call Python, so that the main thread may run it."""
    spent: bool
    """Whether the guest was entered by a call that did not return."""
    layers: tuple[tuple[str, bool, str], ...]
    """The layers that confine the guest's process: name, whether it is in force, details. Empty in this process."""

    @property
    def plan(self) -> Any: ...
    def closure(self, name: Any) -> Callable[..., Any]:
        """Return the function that calls an export; on a guest thread."""

    def closure_here(self, name: Any) -> Callable[..., Any] | None:
        """Return the function that calls an export on this thread; ``None`` where this thread may not run it."""

    def entered_here(self) -> bool:
        """Tell whether this thread is in a host function that the guest called."""

    def in_call(self) -> bool:
        """Tell whether a thread is in the guest."""

    def take_token(self) -> bool:
        """Take the token; return whether it was there."""

    def held(self) -> AbstractContextManager[Any]:
        """Hold the token; raise ``SandboxStateError`` (busy) where another thread has it."""

    def bare_memory(self) -> LinearMemory:
        """Return access to the exported memory, which counts no bytes; to the holder of the token."""

    def memory_size(self) -> int:
        """Return the bytes of all linear memories."""

    def fuel_left(self) -> int:
        """Return the fuel that the latest call left."""

    def global_get(self, name: str, kind: GlobalType) -> int | float: ...
    def global_set(self, name: str, kind: GlobalType, value: int | float) -> None: ...
    def cancel(self) -> None:
        """End the call under way."""

    def abandon(self) -> None:
        """Give the store to the thread that does not return from it."""

    def close(self) -> None:
        """Free the native state; a second close does nothing."""


class Backend(Protocol):
    """Makes stores for the sandboxes of one runtime."""

    policy: Policy
    subscribers: tuple[Subscriber, ...]

    def door(self) -> Door:
        """Return the state of a new run's host calls: full budgets, no deadline yet."""

    def bus(self, subscribers: Sequence[Subscriber]) -> EventBus:
        """Return the event bus of a new run, to the runtime's subscribers and these."""

    def acquire(self, run: Run) -> host.Grants:
        """Return the grants of a run; raise ``PolicyError`` for one that cannot be acquired."""

    def providers(self, component: Component, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return the providers of a component's imports; raise ``LinkError`` for imports without one."""

    def plan(self, module: Module, *, watched: bool = False, pooled: bool = True) -> Any:
        """Return the plan of a module's stores; ``watched``: its memory is measured; ``pooled``: from the pool."""

    def component_plan(
        self, component: Component, providers: Providers, *, watched: bool = False, pooled: bool = True
    ) -> Any:
        """Return the plan of a component's stores under these providers."""

    def memory(self, door: Door) -> Any:
        """Return the access of host functions to a module's memory; it counts bytes at ``door``."""

    def served(self, run: Run, module: Module, memory: Any) -> Mapping[int, Callable[..., Any]] | None:
        """Return the functions of a module that imports WASI alone, by number; ``None`` for other modules."""

    def offered(self, run: Run, module: Module, memory: Any) -> Sequence[HostFunction]:
        """Return the functions that Aegis itself provides for a module's imports."""

    def plain_store(self, run: Run, module: Module) -> Store:
        """Instantiate a module that imports nothing and starts nothing, unobserved."""

    def module_store(self, run: Run, plan: Any, functions: Any) -> Store:
        """Instantiate a module; raise ``PoolExhausted`` when the pool has no slot."""

    def component_store(
        self, run: Run, plan: Any, functions: Any, *, classes: Callable[[int], Callable[..., ResourceHandle]]
    ) -> Store:
        """Instantiate a component; ``classes`` returns the class of handles of a resource by its key.

        Raise ``PoolExhausted`` when the pool has no slot.
        """
