"""Instantiation of a run's artifact: the creation of its store, on a thread that may run its guest code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from weakref import ref

from aegis.engine.store.store import PoolExhausted
from aegis.engine.threads.guest_thread import DIRECT, MAIN, thread_state
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi
    from aegis.sandbox.backend import Run, Store
    from aegis.sandbox.component import SandboxComponent
    from aegis.wit.values import ResourceHandle

__all__ = ["component_of", "instantiate", "instantiate_again", "wasi_of"]


def instantiate_again(run: Run, component: Any) -> bool:
    """Instantiate a component with the plan of its latest run; return whether that sufficed.

    It suffices for a component without imports and start functions in the same backend. The other parts of the run are
    created at their first use.
    """
    latest = component.latest.get(id(run.backend))
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
    """Return the class of handles of a resource. The weak reference keeps a store from keeping its run alive."""
    return run().component.handle_class(key)  # type: ignore[union-attr, no-any-return]


def wasi_of(run: ref[Run]) -> Wasi:
    """Return WASI on the grants of a run. The weak reference keeps host functions from keeping their run alive."""
    owner = run()
    assert owner is not None  # its guest makes this call
    made = owner.wasi_made
    if made is None:
        made = owner.wasi_made = _wasi_class()(owner.acquired(), owner.door, owner.backend.policy.limits)
    return made


def component_of(run: Run) -> SandboxComponent | None:
    """Create and return the component of a run; ``None`` for a core module."""
    component: Any = run.artifact
    if component is None or component.kind != "component":
        return None
    made = run.component_made = _component_class()(run, component, run.prepared)
    return made


@cache
def _wasi_class() -> type[Wasi]:
    """Import and return the class: only components need it, and importing it takes start-up time."""
    from aegis.host.wasi import Wasi

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
            return component.new_store(functions)  # type: ignore[no-any-return]
        return _instantiate_supervised(run, component.new_store, functions, calls=component.calls_python)
    plan = run.backend.plan(module, watched=run.observed)
    if not module.info.has_start and not plan.calls_python:
        return _new_store(run, plan, functions)
    return _instantiate_supervised(run, lambda f: _new_store(run, plan, f), functions, calls=plan.calls_python)


def _instantiate_supervised(run: Run, make: Callable[[Any], Store], functions: Any, *, calls: bool) -> Store:
    """Instantiate an artifact whose instantiation runs guest code, on a thread that may run it.

    The main thread may run it if no Python code is called meanwhile, because Python runs signal handlers there, and one
    that raises at the entry of a native callback would end the process (F9). It also needs a deadline: Ctrl-C has no
    effect until the guest returns.
    """
    limits = run.backend.policy.limits
    alone = not functions and not calls and limits.timeout is not None
    if thread_state.detect_mode() != DIRECT and not (alone and thread_state.mode == MAIN):
        return run.supervised(lambda: make(functions))  # type: ignore[no-any-return]
    return make(functions)


def _new_store(run: Run, plan: Any, functions: Any) -> Store:
    try:
        return run.backend.module_store(run, plan, functions)
    except PoolExhausted:
        return run.backend.module_store(run, run.backend.plan(plan.artifact, pooled=False), functions)
