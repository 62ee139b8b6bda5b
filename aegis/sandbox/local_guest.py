"""The guest of a turn in this process: its scheduler, and the tasks of its calls."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aegis.component.planning.signatures import lifted_exports
from aegis.component.tasks.callee import BoundCallee
from aegis.component.tasks.task import CANCELLED

if TYPE_CHECKING:
    from aegis.component.store import ComponentStore
    from aegis.sandbox.turn_operations import Settle

__all__ = ["LocalGuest"]


class LocalGuest:
    """Implements :class:`aegis.sandbox.turn_operations.TurnGuest` for a store, which owns it."""

    def __init__(self, store: weakref.ref[ComponentStore]) -> None:
        self._ref = store
        plan = self._store.plan
        self.timeout: float | None = plan.limits.timeout
        self.several = len(list(lifted_exports(plan.program))) > 1
        self._bound: dict[Any, BoundCallee] = {}

    @property
    def _store(self) -> ComponentStore:
        store = self._ref()
        assert store is not None  # the thread that runs the guest refers to it
        return store

    @property
    def spent(self) -> bool:
        return self._store.spent

    def post(self, function: Callable[[], None]) -> None:
        """Have the scheduler call ``function``."""
        self._store.state.tasks.post(function)

    def run(self, begin: Callable[[], None], idle: Callable[[], bool], may_hear: Callable[[], bool]) -> None:
        """Run the scheduler until ``idle()``, in the guest's turn."""
        tasks = self._store.state.tasks
        tasks.may_hear = may_hear
        tasks.catch_up()
        try:
            begin()
            tasks.run(idle)
        finally:
            tasks.may_hear = _never

    def check_room(self) -> None:
        full = self._store.state.tasks.full()
        if full is not None:
            raise full

    def call(self, name: Any, values: tuple[Any, ...], settle: Settle) -> Callable[[], None]:
        """Start the task of a call, on the thread that runs the guest; return the function that cancels it."""
        store = self._store
        callee = self._bound.get(name)
        if callee is None:
            callee = self._bound[name] = BoundCallee(store.plan.entry(name).callee, store.state)
        results: list[Any] = []
        early, over = callee.plan.gives_streams, False

        def end(value: Any, error: BaseException | None = None) -> None:
            nonlocal over
            over = True
            settle(value, error)

        def resolved(value: Any) -> None:
            if early or value is CANCELLED:
                end(value)
            else:
                results.append(value)

        def ended() -> None:
            if results:
                end(results[0])

        task = store.state.tasks.begin(callee, lambda: values, resolved, None)
        if task.exited:
            ended()
        elif not over:  # otherwise the task goes on, and must not keep the readers of its result
            task.on_refused = lambda error: end(None, error)
            if not early:
                task.on_exit = ended

        def cancel() -> None:
            if results:
                ended()  # it has returned, and goes on by itself
            elif not task.exited:
                task.request_cancel(None)

        return cancel

    def renew_limits(self) -> None:
        self._store.renew_limits()

    def end_at(self, deadline: float) -> None:
        store = self._ref()
        if store is not None:
            store.door.deadline = deadline


def _never() -> bool:
    return False
