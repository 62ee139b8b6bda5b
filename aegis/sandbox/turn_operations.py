"""The operations that one turn of a guest serves, calls and reads of its streams, on the thread that runs the guest.

The guest is in this process (:class:`aegis.sandbox.local_guest.LocalGuest`) or in a worker
(:class:`aegis.isolation.parent.remote_guest.RemoteGuest`). Each operation has the limit ``timeout`` from its start.
The limits ``fuel`` and ``host_bytes`` count anew from the start of each.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from aegis.errors import AegisError, CallError, SandboxStateError

__all__ = ["Settle", "Start", "TurnGuest", "TurnOperation", "TurnOperations"]

Settle = Callable[[Any, BaseException | None], None]
"""Takes the result of an operation, or its error."""


class TurnGuest(Protocol):
    """The guest of a turn."""

    timeout: float | None
    """Seconds that an operation may take."""
    several: bool
    """Whether the guest exports more than one function, so that a call can wait for a later one."""

    @property
    def spent(self) -> bool:
        """Whether guest code was left in the middle."""
        ...

    def post(self, function: Callable[[], None]) -> None:
        """Have the thread that runs the guest call ``function``; for any thread."""
        ...

    def run(self, begin: Callable[[], None], idle: Callable[[], bool], may_hear: Callable[[], bool]) -> None:
        """Call ``begin``, and run the guest until ``idle()``; ``may_hear``: the application may still act."""
        ...

    def check_room(self) -> None:
        """Raise ``QuotaExceeded`` if the guest may have no more tasks."""
        ...

    def call(self, name: Any, values: tuple[Any, ...], settle: Settle) -> Callable[[], Any]:
        """Start a call; return the function that cancels it."""
        ...

    def renew_limits(self) -> None:
        """Give the guest its limits of fuel and host bytes anew."""
        ...

    def end_at(self, deadline: float) -> None:
        """Set the deadline of the turn (``time.monotonic``)."""
        ...


class TurnOperation:
    """A call or a read. ``start`` begins it on the thread of the guest, and returns the function that cancels it."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.cancel: Callable[[], Any] | None = None
        """Cancels the operation on the thread of the guest; ``None`` before it starts."""
        self.deadline = math.inf
        self.begun = self.over = self.unwanted = False

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Pass on the result or the error; do nothing the second time."""
        if not self.over:
            self.over, self.cancel = True, None
            self.pass_on(value, error)

    def pass_on(self, value: Any, error: BaseException | None) -> None:
        """Pass the result or the error to its receiver."""


Start = Callable[[Any], Callable[[], Any]]


class TurnOperations:
    """The operations that are under way in the turns of one guest."""

    def __init__(self, guest: TurnGuest) -> None:
        self.guest = guest
        self.lock = threading.Lock()
        self.live: dict[TurnOperation, None] = {}

    def started(self, operation: TurnOperation) -> None:
        """Start an operation, on the thread that runs the guest."""
        operation.begun = True
        if operation.over:
            return  # its turn has failed before
        if operation.unwanted:
            self.settle(operation, None)
            return
        guest = self.guest
        operation.deadline = math.inf if guest.timeout is None else time.monotonic() + guest.timeout
        guest.renew_limits()
        try:
            cancel = operation.start(operation)
            if not operation.over:  # otherwise a cycle would keep the readers of its result
                operation.cancel = cancel
        except (SandboxStateError, CallError) as error:
            self._refuse(operation, error)
        except AegisError as error:
            if getattr(error, "limit", None) != "tasks":
                raise
            self._refuse(operation, error)
        self._set_deadline()

    def _refuse(self, operation: TurnOperation, error: AegisError) -> None:
        """End one operation with an error from before its entry; raise one that the application raised in the call."""
        if self.guest.spent:
            raise error
        self.settle(operation, None, error)

    def cancelled(self, operation: TurnOperation) -> None:
        """Request the cancellation of an operation, on the thread that runs the guest."""
        if operation.cancel is not None and not operation.over:
            operation.cancel()

    def settle(self, operation: TurnOperation, value: Any, error: BaseException | None = None) -> None:
        """End an operation with its result or its error."""
        with self.lock:
            self.live.pop(operation, None)
        operation.settle(value, error)
        self._set_deadline()

    def settler(self, operation: TurnOperation) -> Settle:
        """Return the function that ends ``operation``."""
        return lambda value, error: self.settle(operation, value, error)

    def may_hear(self) -> bool:
        """Return whether to wait for the application, whose next call may wake those that wait.

        A lone call of a component with one function is a deadlock, because nothing else can be called.
        """
        if self.guest.several:
            return True
        live = list(self.live)
        return len(live) > 1 or not all(operation.begun for operation in live)

    def _set_deadline(self) -> None:
        """The turn ends at the earliest deadline of an operation; without one it is about to end.

        All operations have the same time and start in order, so the first one has the earliest deadline.
        """
        with self.lock:
            first = next((operation.deadline for operation in self.live if operation.deadline != math.inf), None)
        if first is not None:
            self.guest.end_at(first)
