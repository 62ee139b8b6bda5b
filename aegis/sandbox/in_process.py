"""The backend that runs guests in this process; :mod:`aegis.isolation.parent.backend` is the other one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from weakref import ref

from aegis import host
from aegis.engine.compile.config import EngineConfig
from aegis.engine.native.signals import NEAR, OWN_CODE
from aegis.engine.store.memory import LinearMemory
from aegis.engine.store.plan import ModulePlan, plan_for
from aegis.engine.store.store import ModuleStore, PoolExhausted
from aegis.observe.bus import Subscriber
from aegis.policy import Policy
from aegis.sandbox.base_backend import BaseBackend
from aegis.sandbox.link_module import served_by_host, wants_host
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import HostFunction

if TYPE_CHECKING:
    import _socket

    from aegis.component.link import ComponentPlan
    from aegis.component.planning.artifact import Component
    from aegis.component.store import ComponentStore
    from aegis.engine.call.door import Door
    from aegis.engine.compile.artifact import Module
    from aegis.engine.compile.code import Artifact
    from aegis.host.net.http.served_frames import ServedHead
    from aegis.sandbox.backend import Run
    from aegis.sandbox.link_component import Providers
    from aegis.wit.values import ResourceHandle

__all__ = ["InProcessBackend"]


class InProcessBackend(BaseBackend):
    """Backend for guests in this process. It uses three engines.

    ``config`` has the pool; ``plain`` has none, for artifacts that exceed its slots; a third one, derived from it,
    accounts for each growth of a memory, for limits that caps of single memories cannot enforce. ``exact`` selects the
    third also when only the peak of memories that are not exported is of interest, ``refusals`` also for exported ones.
    """

    def __init__(
        self,
        policy: Policy,
        config: EngineConfig,
        plain: EngineConfig,
        subscribers: Sequence[Subscriber] = (),
        *,
        exact: bool = False,
        refusals: bool = False,
    ) -> None:
        super().__init__(policy, subscribers)
        self.config, self.plain, self.counted = config, plain, plain.with_count()
        self.exact = exact or bool(self.subscribers)
        self.refusals = refusals
        self._runs_own_code = not (self.subscribers or policy.logging.enabled or policy.keyvalue)
        """Whether the functions of Aegis call no observers, loggers or stores of key-value pairs of the application."""

    # -- plans ---------------------------------------------------------------------------------

    def engine_of(self, artifact: Artifact, *, watched: bool = False, pooled: bool = True) -> EngineConfig:
        """Return the engine for ``artifact``; ``watched``: its memory is measured."""
        if artifact.counted(self.policy.limits, watched=watched or self.exact, refusals=self.refusals):
            return self.counted
        return self.config if pooled and artifact.poolable else self.plain

    def prepare(self, artifact: Artifact, what: str) -> None:
        """Compile ``artifact``, named ``what`` in errors. Raise ``ArtifactError`` if the engine rejects it."""
        artifact.prepare(self.engine_of, what)

    def plan(self, module: Module, *, watched: bool = False, pooled: bool = True) -> ModulePlan:
        """Return the plan of a module's stores, the latest one if it matches.

        ``watched``: measure its memory; ``pooled``: take slots of the pool.
        """
        plan: ModulePlan | None = module.plan
        if (
            plan is not None and plan.config is self.config and plan.limits is self.policy.limits
            and pooled and not (watched and module.counted(plan.limits, watched=True))
        ):  # fmt: skip
            return plan
        return plan_for(module, self.engine_of(module, watched=watched, pooled=pooled), self.policy.limits)

    def component_plan(
        self, component: Component, providers: Providers, *, watched: bool = False, pooled: bool = True
    ) -> ComponentPlan:
        """Return the plan of a component's stores under these providers; see :meth:`plan`."""
        from aegis.component.link import ComponentPlan

        config = self.engine_of(component, watched=watched, pooled=pooled)
        make = lambda: ComponentPlan(  # noqa: E731
            component, config, self.policy.limits, providers.typed, providers.lacks
        )
        plan: ComponentPlan = component.planned((config, self.policy.limits, providers.key), make)
        return plan

    # -- functions and stores of one sandbox ---------------------------------------------------

    def memory(self, door: Door) -> LinearMemory:
        """Return access to a module's memory for host functions."""
        return LinearMemory(door)

    def offered(self, run: Run, module: Module, memory: LinearMemory) -> Sequence[HostFunction]:
        """Return the functions that Aegis provides for a module's imports, on the grants of this sandbox."""
        wanted = wants_host(module)
        if not wanted:
            return ()
        return host.host_functions(run.acquired(), memory, run.door, self.policy.limits, wanted)

    def served(self, run: Run, module: Module, memory: LinearMemory) -> Mapping[int, Callable[..., Any]] | None:
        """Return the functions of a module that imports nothing but WASI, by number; ``None`` for other modules."""
        wanted = served_by_host(module)
        if wanted is None:
            run.door.near = NEAR
            return None
        run.door.near = self._near(run)
        return host.host_calls(run.acquired(), memory, run.door, self.policy.limits, wanted)

    def _near(self, run: Run) -> float:
        """Return the seconds of a host call after which signal handlers are checked, if Aegis has all functions."""
        return OWN_CODE if self._runs_own_code and not run.observed and run.denied is None else NEAR

    def plain_store(self, run: Run, module: Module) -> ModuleStore:
        """Instantiate a module without imports and start function, in a run without observers."""
        try:
            return ModuleStore(self.plan(module), run.door)
        except PoolExhausted:
            return ModuleStore(self.plan(module, pooled=False), run.door)

    def module_store(self, run: Run, plan: ModulePlan, functions: Any) -> ModuleStore:
        """Instantiate a module; raise ``PoolExhausted`` when the pool has no slot."""
        memory: Any = run.memory  # a LinearMemory: memory() made it
        return ModuleStore(plan, run.door, functions, memory, observed=run.observed)

    def component_store(
        self, run: Run, plan: ComponentPlan, functions: Any, *, classes: Callable[[int], Callable[..., ResourceHandle]]
    ) -> ComponentStore:
        """Instantiate a component; raise ``PoolExhausted`` when the pool has no slot."""
        run.door.near = NEAR if run.imports else self._near(run)
        if plan.is_async:
            from aegis.sandbox.host_function_adapters import on_threads

            functions = on_threads(functions, run.door)
        store = _component_store_class()(plan, run.door, functions, observed=run.observed, classes=classes)
        if plan.is_async:
            from aegis.sandbox.guest_turns import GuestTurns
            from aegis.sandbox.local_guest import LocalGuest

            run.turns = store.state.outside = GuestTurns(run, store, partial(LocalGuest, ref(store)))
        return store

    def serve(self, run: Run, store: Any, handler: Any, head: ServedHead, connection: _socket.socket) -> bytes:
        """Have the guest serve one request; return the bytes that the connection had no room for."""
        from aegis.sandbox.serving import call_handler  # few sandboxes serve requests

        return call_handler(run, store, handler, head, connection)


@cache
def _component_store_class() -> type[ComponentStore]:
    """Import and return the class: only components need it, and importing it takes start-up time."""
    from aegis.component.store import ComponentStore

    return ComponentStore
