"""The backend that runs guests in this process; :mod:`aegis.isolation.parent.backend` is the other one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from aegis import host
from aegis.engine.call.door import Door, budgets_of
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.memory import LinearMemory
from aegis.engine.store.plan import ModulePlan, plan_for
from aegis.engine.store.store import ModuleStore, PoolExhausted
from aegis.observe.bus import EventBus, Subscriber
from aegis.policy import Policy
from aegis.sandbox.link_module import served_by_host, wants_host
from aegis.support.lean import TYPE_CHECKING, Any, replace
from aegis.values import Decision, HostFunction

if TYPE_CHECKING:
    from aegis.component.link import ComponentPlan
    from aegis.component.planning.artifact import Component
    from aegis.component.store import ComponentStore
    from aegis.engine.compile.artifact import Module
    from aegis.engine.compile.code import Artifact
    from aegis.engine.threads.queue import GuestThreadPool
    from aegis.host.files.protected import Protected
    from aegis.sandbox import backend
    from aegis.sandbox.backend import Run
    from aegis.sandbox.link_component import Providers
    from aegis.wit.values import ResourceHandle

__all__ = ["BaseBackend", "InProcessBackend", "release"]


class BaseBackend:
    """Base of all backends: the policy, the subscribers of the runtime, and the door and event bus of each run."""

    def __init__(self, policy: Policy, subscribers: Sequence[Subscriber] = ()) -> None:
        self.policy = policy
        self.subscribers = tuple(subscribers)
        self._budgets = budgets_of(policy.limits)
        self._explain: Callable[[Decision], Decision] | None = self.explained
        self.turns: GuestThreadPool | None = None
        """The pool that bounds the asynchronous calls of this runtime; ``None``: the one that all others share."""
        self.protected: tuple[Protected, ...] = ()
        """Host files that no grant of a sandbox may reach, besides those that the policy names itself."""

    def explained(self, decision: Decision) -> Decision:
        """Return a decision with its remedy, the option that would change it."""
        from aegis.policy.remedies import explained

        return explained(self.policy, decision)

    def door(self) -> Door:
        """Return the door of a new run. It explains denials by the policy of this backend."""
        door = Door(self.policy.limits, self._budgets)
        door.explain = self._explain
        return door

    def bus(self, subscribers: Sequence[Subscriber]) -> EventBus:
        """Return the event bus of a new run, for the subscribers of the runtime and the given ones."""
        return EventBus(_run_name(), (*self.subscribers, *subscribers))

    def policy_of(self, run: Run) -> Policy:
        """Return the policy of one sandbox, which may have its own standard streams."""
        return self.policy if run.stdio is None else replace(self.policy, stdio=run.stdio)

    def acquire(self, run: Run) -> host.Grants:
        """Return the grants of one sandbox."""
        policy = self.policy if run.stdio is None else self.policy_of(run)
        return host.Grants(policy, run.args, run.door, self.protected)

    def providers(self, component: Component, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return the providers of a component's imports; raise ``LinkError`` for imports without a provider."""
        from aegis.sandbox.link_component import Providers

        return Providers(component, imports, self.policy.imports, trap_missing=trap_missing)


class InProcessBackend(BaseBackend):
    """Backend for guests in this process. It uses three engines.

    ``config`` has the pool; ``plain`` has none, for artifacts that exceed its slots; a third one, derived from it,
    accounts for each growth of a memory, for limits that caps of single memories cannot enforce. ``exact`` selects the
    third also when only the peak of memories that are not exported is of interest.
    """

    def __init__(
        self,
        policy: Policy,
        config: EngineConfig,
        plain: EngineConfig,
        subscribers: Sequence[Subscriber] = (),
        *,
        exact: bool = False,
    ) -> None:
        super().__init__(policy, subscribers)
        self.config, self.plain, self.counted = config, plain, plain.with_count()
        self.exact = exact or bool(self.subscribers)

    # -- plans ---------------------------------------------------------------------------------

    def engine_of(self, artifact: Artifact, *, watched: bool = False, pooled: bool = True) -> EngineConfig:
        """Return the engine for ``artifact``; ``watched``: its memory is measured."""
        if artifact.counted(self.policy.limits, watched=watched or self.exact):
            return self.counted
        return self.config if pooled and artifact.poolable else self.plain

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
            return None
        return host.host_calls(run.acquired(), memory, run.door, self.policy.limits, wanted)

    def plain_store(self, run: Run, module: Module) -> ModuleStore:
        """Instantiate a module without imports and start function, in a run without observers."""
        try:
            return ModuleStore(self.plan(module), run.door)
        except PoolExhausted:
            return ModuleStore(self.plan(module, pooled=False), run.door)

    def module_store(self, run: Run, plan: ModulePlan, functions: Any) -> ModuleStore:
        """Instantiate a module; raise ``PoolExhausted`` when the pool has no slot."""
        return ModuleStore(plan, run.door, functions, run.memory, observed=run.observed)

    def component_store(
        self, run: Run, plan: ComponentPlan, functions: Any, *, classes: Callable[[int], Callable[..., ResourceHandle]]
    ) -> ComponentStore:
        """Instantiate a component; raise ``PoolExhausted`` when the pool has no slot."""
        from aegis.component.store import ComponentStore

        return ComponentStore(plan, run.door, functions, observed=run.observed, classes=classes)


_runs = 0
_process = (0, "")
"""The number of this process, and a name that no other process has, even a later one with the same number."""


def _run_name() -> str:
    """Return a name for a run that is unique on this host: that of the process, also a forked one, and a number."""
    global _runs, _process
    _runs += 1
    if _process[0] != os.getpid():
        _process = (os.getpid(), f"{os.getpid():x}-{os.urandom(4).hex()}")
    return f"{_process[1]}-{_runs}"


def release(store: backend.Store | None, grants: host.Grants | None, door: Door) -> None:
    """Free the resources of a run: native memory, host objects that its guest had handles of, descriptors.

    The order matters: no guest code may run any more when its handles are dropped, and dropping them may use grants.
    """
    if store is not None and store.take_token():
        store.close()
    try:
        if door.handles is not None:
            door.handles.close()
    finally:
        if grants is not None:
            grants.close()
        door.close()
