"""Late calls: a worker leaves their counters in shared memory, where the parent reads them after killing the worker.

A call is late if it exceeds its deadline or is cancelled. Only the end of the process stops a guest without epoch
checks, and a host function may never return. The parent kills such a worker, which then cannot answer. Therefore the
ticker's thread writes the counters to a page of shared memory as soon as a call is late. If only the end of the process
can stop the guest, that thread then ends it, so that the parent need not wait until the grace period is over.

A compromised worker can write anything to the page: the parent validates the counters as it does those in messages.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from aegis.isolation.protocol.channel import PAGE, SharedRegion
from aegis.isolation.protocol.specs import ACCOUNT
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.sandbox.backend import Run

__all__ = ["LateCalls", "forget_account", "left_account"]

_ENDED = b"e"
"""Follows the account if the worker ended itself."""
_EXIT = 0


class LateCalls:
    """Checks in a worker, at each tick, whether the running call is late. ``account`` returns the encoded counters."""

    def __init__(self, shared: int, size: int, account: Callable[[], bytes]) -> None:
        self._page = SharedRegion(shared, 2 * size, PAGE, write=True)
        self._account = account
        self._lock = threading.Lock()
        self._run: Run | None = None
        self.entered = self.late_ticks = 0
        """The number of running calls, one inside another; the number of ticks at which the innermost was late."""
        self._endless = False

    def begin(self, run: Run, *, endless: bool) -> None:
        """Watch a sandbox; ``endless``: only the end of the process stops its guest."""
        self._run, self._endless = run, endless

    def end(self) -> None:
        """Stop watching the sandbox; its store is about to be closed."""
        with self._lock:
            self._run = None

    def __enter__(self) -> None:
        """Begin a call or an instantiation of the guest, possibly inside another call."""
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        self.entered -= 1
        self.late_ticks = 0

    def check(self) -> None:
        """Write the counters of a late call, and end the process if nothing else ends the call; on the ticker's thread.

        End it only from the second tick on: a call that is late at a single tick may be about to answer.
        """
        with self._lock:
            run = self._run
            if run is None or not self.entered:
                return
            door, store = run.door, run.store
            if door.stop is None and time.monotonic() < door.deadline:
                return
            if store is not None and not store.in_call():
                return
            self._write(self._account())
            self.late_ticks += 1
            # A host function ends its call by itself; the door names none while the guest runs inside one.
            if self.late_ticks > 1 and self._endless and door.serving is None:
                self._write(self._account() + _ENDED)
                os._exit(_EXIT)

    def _write(self, data: bytes) -> None:
        self._page.view()[: len(data)] = data


def forget_account(shared: int, size: int) -> None:
    """Clear the page before a worker serves its next sandbox; called in the parent."""
    os.pwrite(shared, bytes(ACCOUNT.size + len(_ENDED)), 2 * size)


def left_account(shared: int, size: int) -> tuple[Any, bool]:
    """Return the counters of a late call, or ``None``, and whether the worker ended itself; called in the parent."""
    data = os.pread(shared, ACCOUNT.size + len(_ENDED), 2 * size)
    account = data[: ACCOUNT.size]
    return (account if any(account) else None), data[ACCOUNT.size :] == _ENDED
