"""Turns of an asynchronous component outside of synchronous calls: reads of its streams, and calls that overlap.

A read on a thread is a turn of its own, like a call. On an event loop, one turn serves all operations that are under
way, calls and reads, until none is left: :class:`aegis.sandbox.concurrent_calls.ConcurrentTurn`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from aegis.errors import SandboxStateError
from aegis.support.lean import late

if TYPE_CHECKING:
    from aegis.sandbox import concurrent_calls
    from aegis.sandbox.turn_operations import TurnGuest
else:  # it imports asyncio
    concurrent_calls = late("aegis.sandbox.concurrent_calls")

__all__ = ["GuestTurns"]


def _turn_here(store: Any) -> Callable[[Callable[[], Any]], Any]:
    turn: Callable[[Callable[[], Any]], Any] | None = store.turn()
    assert turn is not None  # a guest thread may run guests
    return turn


class _TurnedRun(Protocol):
    """The parts of a run that its turns use."""

    @property
    def store(self) -> Any: ...
    def live(self) -> Any: ...
    def supervised(self, function: Callable[[], Any]) -> Any: ...
    def failed(self, name: Any, args: tuple[Any, ...], error: BaseException) -> None: ...


class GuestTurns:
    """Runs the guest of one store for its readers. It refers to run and store weakly, which own it."""

    def __init__(self, run: Any, store: Any, guest: Callable[[], TurnGuest]) -> None:
        """``guest`` returns the guest of the turns that event loops share."""
        self._run: weakref.ref[_TurnedRun] = weakref.ref(run)
        self._guest = guest
        self._store: weakref.ref[Any] = weakref.ref(store)
        self._concurrent: concurrent_calls.ConcurrentTurn | None = None

    def live(self) -> tuple[_TurnedRun, Any]:
        """Return the run and its store; raise ``SandboxStateError`` if the guest was closed or replaced."""
        run, store = self._run(), self._store()
        if run is None or store is None or run.store is not store or store.closed:
            raise SandboxStateError("the guest of this stream was closed or replaced: read it before", state="closed")
        run.live()
        return run, store

    def work(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` in the guest's turn, within the limits of a call, and return its result."""
        run, store = self.live()
        if store.entered_here():
            return function()
        try:
            turn = store.turn()
            return run.supervised(lambda: _turn_here(store)(function)) if turn is None else turn(function)
        except BaseException as error:
            run.failed("(stream)", (), error)
            raise

    async def perform(
        self, start: Callable[[Callable[[Any], None]], Callable[[], Any]], lost: Callable[[Any], None]
    ) -> Any:
        """Start an operation on the thread that runs the guest, and await its result.

        ``start`` takes the function for the result, and returns the function that cancels the operation; that returns
        ``True`` if the result is still to come. ``lost`` takes a result that came when the task was cancelled.
        """
        return await self.concurrent().perform(start, lost)

    def concurrent(self) -> concurrent_calls.ConcurrentTurn:
        """Return the turn that event loops share."""
        run, store = self.live()
        if self._concurrent is None:
            self._concurrent = concurrent_calls.ConcurrentTurn(run, store, self._guest())
        return self._concurrent
