"""Instantiating the guest of a sandbox: in which store, and on which thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from weakref import ref

from aegis.engine.store.store import PoolExhausted, Store
from aegis.engine.threads.guest_thread import DIRECT, MAIN, where
from aegis.support.lean import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.engine.store.memory import LinearMemory
    from aegis.engine.store.plan import Plan
    from aegis.host.preview2 import Wasi
    from aegis.sandbox.component import ComponentGuest, Prepared
    from aegis.sandbox.in_process import Owner, Place
    from aegis.wit.values import ResourceHandle

    class Holder(Owner, Protocol):
        """What instantiating asks of the sandbox."""

        _tier: Place
        _memory: LinearMemory | None
        _store: Store | None
        _prepared: Prepared | None
        _guest_made: ComponentGuest | None
        _wasi_made: Wasi | None
        _module: Module | Component | None
        _imports: Mapping[str, Any]
        _state: str

        @property
        def _guest(self) -> ComponentGuest | None: ...
        def _loaded(self) -> Any: ...
        def call(self, name: Any, *args: Any) -> Any: ...
        def _drop_handle(self, handle: ResourceHandle) -> None: ...
        def _supervised(self, function: Callable[[], Any]) -> Any: ...


__all__ = ["as_before", "guest_of", "instantiate", "wasi_of"]


def as_before(sandbox: Holder, component: Any) -> bool:
    """Instantiate a component as the latest sandbox was; tell whether there is one, and that is all there is to do.

    Such a component imports nothing and starts nothing; what else it has is made when it is asked for.
    """
    latest = component.latest
    if latest is None or not latest.direct or latest.watched or latest.tier() is not sandbox._tier:
        return False
    classes = partial(_handle_class, ref(sandbox))
    try:
        sandbox._store = sandbox._tier.component_store(sandbox, latest.plan, (), observed=False, classes=classes)
    except PoolExhausted:
        return False
    sandbox._prepared, sandbox._state = latest, "ready"
    return True


def _handle_class(sandbox: ref[Holder], key: int) -> Callable[..., ResourceHandle]:
    """Return what makes handles of a resource for a sandbox, which a store does not keep alive."""
    return sandbox()._guest.handle_class(key)  # type: ignore[union-attr]


def wasi_of(sandbox: ref[Holder]) -> Wasi:
    """Return WASI 0.2 on the grants of a sandbox, which what the host serves does not keep alive."""
    owner = sandbox()
    assert owner is not None  # its guest calls
    made = owner._wasi_made
    if made is None:
        made = owner._wasi_made = _wasi_class()(owner._acquired(), owner._door, owner._tier.policy.limits)
    return made


def guest_of(sandbox: Holder) -> ComponentGuest | None:
    """Return the component's side of a sandbox, made now; ``None`` for a core module."""
    component: Any = sandbox._module
    if component is None or component.kind != "component":
        return None
    given = sandbox._imports, sandbox._trap_missing, sandbox._prepared
    made = sandbox._guest_made = _guest_class()(sandbox, sandbox._tier, component, *given)
    return made


@cache
def _wasi_class() -> type[Wasi]:
    """Return the class of WASI 0.2, whose module costs start-up time that only components need."""
    from aegis.host.preview2 import Wasi

    return Wasi


@cache
def _guest_class() -> type[ComponentGuest]:
    """Return the class of components in sandboxes, likewise."""
    from aegis.sandbox.component import ComponentGuest

    return ComponentGuest


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
