"""The part that all backends share: the policy, and the door, the event bus and the grants of each run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from aegis import host
from aegis.engine.call.door import Door, budgets_of
from aegis.observe.bus import EventBus, Subscriber
from aegis.policy import Policy
from aegis.support.lean import TYPE_CHECKING, Any, replace
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.threads.queue import GuestThreadPool
    from aegis.host.files.protected import Protected
    from aegis.sandbox.backend import Run
    from aegis.sandbox.link_component import Providers

__all__ = ["BaseBackend"]


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
        return host.acquire(policy, args=run.args, scope=run.door, protected=self.protected)

    def providers(self, component: Component, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return the providers of a component's imports; raise ``LinkError`` for imports without a provider."""
        from aegis.sandbox.link_component import Providers

        return Providers(component, imports, self.policy.imports, trap_missing=trap_missing)

    def close(self) -> None:
        """Release the resources that the backend keeps between sandboxes; a backend may have none."""


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
