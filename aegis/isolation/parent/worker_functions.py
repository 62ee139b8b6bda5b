"""Host functions that run in a worker, for the answer step in the parent.

The worker asks the parent to answer a host call. If the step in the parent calls the host function itself, the parent
asks the worker to run it: the worker has the arguments of the call that it waits for, so only the result is sent.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.isolation.parent import checked
from aegis.isolation.protocol.budgets import message_budget
from aegis.isolation.protocol.channel import ProtocolError
from aegis.isolation.protocol.errors import from_plain
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import MemoryFault

if TYPE_CHECKING:
    from aegis.isolation.parent.calling_store import CallingStore

__all__ = ["worker_function"]


def worker_function(store: CallingStore, unpack: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a callable that runs, in the worker, the host function of the call that the worker waits for.

    ``unpack`` converts the result to a Python value, or raises :class:`ProtocolError` if it does not have its type.
    """

    def function(*_: Any) -> Any:
        kind, value = _ask(store)
        if kind == "done":
            return store.validated(lambda: unpack(value))
        raise store.validated(lambda: _error(kind, value))

    return function


def _ask(store: CallingStore) -> tuple[str, Any]:
    mark = 0 if store.handles is None else store.handles.lent
    with store.translate_failures():
        store.worker.channel.send(["own"], (), until=store.until(), stopped=store.stopped)
        return store.answer_to(message_budget(store.plan.limits), mark)


def _error(kind: str, value: Any) -> Exception:
    """Return the error that a worker reports for its own host function."""
    if kind == "fault":
        return MemoryFault(checked.text(value))
    if kind != "fail":
        raise ProtocolError("an answer of another kind than the request's")
    return from_plain(value)
