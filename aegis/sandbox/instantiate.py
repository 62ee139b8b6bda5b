"""Instantiating the artifact of a run: in which store, and on which thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from weakref import ref

from aegis.engine.store.store import PoolExhausted
from aegis.engine.threads.guest_thread import DIRECT, MAIN, where
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.host.preview2 import Wasi
    from aegis.sandbox.backend import Store
    from aegis.sandbox.component import SandboxComponent
    from aegis.sandbox.run import Run
    from aegis.wit.values import ResourceHandle

__all__ = ["as_before", "component_of", "instantiate", "wasi_of"]


def as_before(run: Run, component: Any) -> bool:
    """Instantiate a component as the latest run did; return whether there is one, and nothing else to do.

    Such a component imports nothing and starts nothing; its other parts are made when they are used.
    """
    latest = component.latest
    if latest is None or not latest.direct or latest.watched or latest.backend() is not run.backend:
        return False
    classes = partial(_handle_class, ref(run))
    try:
        run.store = run.backend.component_store(run, latest.plan, (), classes=classes)
    except PoolExhausted:
        return False
    run.prepared, run.state = latest, "ready"
    return True


def _handle_class(run: ref[Run], key: int) -> Callable[..., ResourceHandle]:
    """Return the class of handles of a resource. The reference is weak: a store does not keep its run alive."""
    return run().component.handle_class(key)  # type: ignore[union-attr]


def wasi_of(run: ref[Run]) -> Wasi:
    """Return WASI 0.2 on the grants of a run. The reference is weak: host functions do not keep their run alive."""
    owner = run()
    assert owner is not None  # its guest calls
    made = owner.wasi_made
    if made is None:
        made = owner.wasi_made = _wasi_class()(owner.acquired(), owner.door, owner.backend.policy.limits)
    return made


def component_of(run: Run) -> SandboxComponent | None:
    """Make the component's side of a run and return it; ``None`` for a core module."""
    component: Any = run.artifact
    if component is None or component.kind != "component":
        return None
    made = run.component_made = _component_class()(run, component, run.prepared)
    return made


@cache
def _wasi_class() -> type[Wasi]:
    """Import and return the class: only components need it, and importing it takes start-up time."""
    from aegis.host.preview2 import Wasi

    return Wasi


@cache
def _component_class() -> type[SandboxComponent]:
    """Import and return the class: only components need it, and importing it takes start-up time."""
    from aegis.sandbox.component import SandboxComponent

    return SandboxComponent


def instantiate(run: Run, functions: Any) -> Store:
    """Return a store of the run's module or component, linked with ``functions``."""
    module, component = run.loaded(), run.component
    if component is not None:
        if not component.starts:
            return component.new_store(functions)
        return _supervised_if_it_runs(run, component.new_store, functions, calls=component.calls_python)
    plan = run.backend.plan(module, watched=run.observed)
    if not module.info.has_start and not plan.calls_python:
        return _new_store(run, plan, functions)
    return _supervised_if_it_runs(run, lambda f: _new_store(run, plan, f), functions, calls=plan.calls_python)


def _supervised_if_it_runs(run: Run, make: Callable[[Any], Store], functions: Any, *, calls: bool) -> Store:
    """Instantiate an artifact whose guest code runs by that, on a thread that may run it.

    The main thread may where no Python code can run meanwhile and time is limited.
    """
    limits = run.backend.policy.limits
    alone = not functions and not calls and limits.timeout is not None
    if where.settle() != DIRECT and not (alone and where.mode == MAIN):
        return run.supervised(lambda: make(functions))  # type: ignore[no-any-return]
    return make(functions)


def _new_store(run: Run, plan: Any, functions: Any) -> Store:
    try:
        return run.backend.module_store(run, plan, functions)
    except PoolExhausted:
        return run.backend.module_store(run, run.backend.plan(plan.artifact, pooled=False), functions)
