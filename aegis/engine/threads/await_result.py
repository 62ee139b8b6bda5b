"""Results of host functions: awaits an awaitable on the event loop of the current call."""

from __future__ import annotations

from aegis.engine.call.door import Door
from aegis.support.lean import TYPE_CHECKING, Any, late

if TYPE_CHECKING:
    from aegis.engine.threads import event_loop
else:  # it imports asyncio
    event_loop = late("aegis.engine.threads.event_loop")

__all__ = ["await_result", "awaited_later"]


def await_result(door: Door, result: Any, name: str) -> Any:
    """Return the ``result`` of the host function ``name``, after awaiting it if it is an awaitable.

    Raise :class:`~aegis.errors.HostError` for an awaitable in a synchronous call, and ``DeadlineExceeded`` or
    ``Cancelled`` if the call is stopped while waiting.
    """
    return event_loop.await_on_loop(door, name, result) if hasattr(type(result), "__await__") else result


def awaited_later(door: Door, awaitable: Any, name: str) -> Any:
    """Start to await the result of the host function ``name``; return the operation that waits for it.

    Raise as :func:`await_result` does.
    """
    return event_loop.LoopOperation(door, name, awaitable)
