"""Instantiating the guest of a sandbox: in which store, and on which thread."""

from __future__ import annotations

from collections.abc import Callable

from aegis.engine.store import PoolExhausted, Store
from aegis.engine.threads import DIRECT, MAIN, where
from aegis.lean import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aegis.engine.memory import LinearMemory
    from aegis.engine.plan import Plan
    from aegis.guest import ComponentGuest
    from aegis.tier import Owner, Place

    class Holder(Owner, Protocol):
        """What instantiating asks of the sandbox."""

        _tier: Place
        _memory: LinearMemory | None

        @property
        def _guest(self) -> ComponentGuest | None: ...
        def _loaded(self) -> Any: ...
        def _supervised(self, function: Callable[[], Any]) -> Any: ...


__all__ = ["instantiate"]


def instantiate(sandbox: Holder, functions: Any) -> Store:
    """Return a store of the sandbox's module or component, linked with ``functions``."""
    module, guest = sandbox._loaded(), sandbox._guest
    if guest is not None:
        if not guest.starts:
            return guest.new_store(functions, observed=sandbox._observed)
        return _supervised_if_it_runs(
            sandbox, guest.new_store, functions, observed=sandbox._observed, calls=guest.calls_python
        )
    plan = sandbox._tier.plan(module, watched=sandbox._observed)
    if not module.info.has_start and not plan.calls_python:
        return _new_store(sandbox, plan, functions)
    make = lambda f, observed: _new_store(sandbox, plan, f)  # noqa: E731 - as a component's
    return _supervised_if_it_runs(sandbox, make, functions, observed=False, calls=plan.calls_python)


def _supervised_if_it_runs(
    sandbox: Holder, make: Callable[..., Store], functions: Any, *, observed: bool, calls: bool
) -> Store:
    """Instantiate what runs guest code by that: it wants a thread it may run on.

    On the main thread that is so where no Python code can run meanwhile, and time is limited.
    """
    limits = sandbox._tier.policy.limits
    alone = not functions and not calls and limits.timeout is not None
    if where.settle() != DIRECT and not (alone and where.mode == MAIN):
        return sandbox._supervised(lambda: make(functions, observed=observed))  # type: ignore[no-any-return]
    return make(functions, observed=observed)


def _new_store(sandbox: Holder, plan: Plan, functions: Any) -> Store:
    tier = sandbox._tier
    try:
        made: Store = tier.module_store(sandbox, plan, functions, sandbox._memory, observed=sandbox._observed)
    except PoolExhausted:
        plan = tier.plan(plan.artifact, pooled=False)
        made = tier.module_store(sandbox, plan, functions, sandbox._memory, observed=sandbox._observed)
    return made
