"""The guest of a turn in a worker: the parent starts its calls by notices, and waits for their ends."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aegis.component.planning.signatures import lifted_exports
from aegis.errors import AegisError, CallError, LimitExceeded
from aegis.isolation.parent.overlapping import OverlappingWork, RemoteOperation
from aegis.isolation.protocol.wit_values import Signature

if TYPE_CHECKING:
    from aegis.isolation.parent.store import IsolatedStore
    from aegis.sandbox.turn_operations import Settle

__all__ = ["RemoteGuest"]

_KEEP_LOANS = sys.maxsize
"""The number of loans that remain after a turn: each call ends its own."""


class RemoteGuest:
    """Implements :class:`aegis.sandbox.turn_operations.TurnGuest` for a store in a worker, which owns it."""

    timeout: float | None = None
    """The overlapping work counts the time of each operation: it begins when the worker starts it."""

    def __init__(self, store: weakref.ref[IsolatedStore]) -> None:
        self._ref = store
        plan = self._store.plan
        self.several = len(list(lifted_exports(plan.artifact.program))) > 1
        self._signatures: dict[str, Signature] = {}

    @property
    def _store(self) -> IsolatedStore:
        store = self._ref()
        assert store is not None  # the thread that runs the guest refers to it
        return store

    @property
    def _work(self) -> OverlappingWork:
        work = self._store.overlapping
        assert work is not None  # the component is asynchronous
        return work

    @property
    def spent(self) -> bool:
        return self._store.spent

    def post(self, function: Callable[[], None]) -> None:
        """Have the thread that waits for the worker call ``function``."""
        self._work.post(function)

    def run(self, begin: Callable[[], None], idle: Callable[[], bool], may_hear: Callable[[], bool]) -> None:
        """Have the worker run the guest until ``idle()``, in the guest's turn."""
        work = self._work
        work.turn(may_hear)
        try:
            work.do_posts()
            begin()
            while not idle():
                work.ask_for_turn(_KEEP_LOANS)
                work.do_posts()
        finally:
            work.turn(None)

    def check_room(self) -> None:
        """Do nothing: the worker counts the tasks, and refuses a call."""

    def call(self, name: Any, values: tuple[Any, ...], settle: Settle) -> Callable[[], Any]:
        """Start a call; settle it at once with the error if its values exceed a limit."""
        store = self._store
        handles, entry = store.handles, store.plan.entry(name)
        assert handles is not None
        signature = self._signatures.get(entry.name)
        if signature is None:
            signature = self._signatures[entry.name] = Signature(entry.function, handles, store.door)
        if handles.dropped_ends:
            handles.ends.drop_closed_now()
        first, mark = handles.next, handles.lent
        try:
            packed = signature.pack(values)
        except BaseException as error:
            handles.withdraw(first)
            if isinstance(error, LimitExceeded):
                settle(None, error)
                return _nothing
            if isinstance(error, AegisError):
                raise
            raise CallError("the arguments of the call changed while it waited for its turn") from error
        operation = RemoteOperation(signature.unpack_result, settle, (first, handles.next), handles.lent_since(mark))
        return self._work.begin(operation, "start", entry.name, packed)

    def renew_limits(self) -> None:
        self._store.door.begin()

    def end_at(self, deadline: float) -> None:
        """Do nothing: the overlapping work sets the deadline."""


def _nothing() -> None:
    pass
