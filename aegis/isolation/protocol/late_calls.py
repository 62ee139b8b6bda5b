"""The end of a call that is late in a worker: its counters go to where the parent finds them without asking.

Code without epoch checks ends with its process alone, and a host function may not return. The parent kills such a
worker, and it tells no more. So the clock's thread writes the counters into a page of the shared memory as soon as a
call is past its deadline or cancelled. Where nothing but the process can end the guest, that thread then ends the
process: the parent need not wait until its patience is over.

The page is a worker's word like any other: the parent believes of it what it believes of an account in a message.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from aegis.engine.threads.supervisor import host_function, in_guest
from aegis.isolation.protocol.channel import PAGE, Region
from aegis.isolation.protocol.setup import ACCOUNT
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["LateCalls", "forget_account", "left_account"]

_ENDED = b"e"
"""After the account: the worker ended itself."""
_EXIT = 0


class LateCalls:
    """In a worker: looks at each tick whether the call under way is late. ``account`` returns the counters."""

    def __init__(self, shared: int, size: int, account: Callable[[], bytes]) -> None:
        self._page = Region(shared, 2 * size, PAGE, write=True)
        self._account = account
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._thread = 0
        self.entered = self.seen = 0
        """Calls under way, one inside another; and ticks at which the latest was late."""
        self._endless = False

    def begin(self, sandbox: Sandbox, *, endless: bool) -> None:
        """Watch a sandbox whose calls come from this thread; ``endless``: only the process's end stops its guest."""
        self._sandbox, self._endless = sandbox, endless
        self._thread = threading.get_ident()

    def end(self) -> None:
        """Look no more at the sandbox, whose store is about to be closed."""
        with self._lock:
            self._sandbox = None

    def __enter__(self) -> None:
        """A call of the guest begins, or its instantiation; it may be inside another."""
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        self.entered -= 1
        self.seen = 0

    def look(self) -> None:
        """Tell of a late call, and end the process where that is what ends the call; on the clock's thread.

        A call that is late at one tick only may be about to answer by itself.
        """
        with self._lock:
            sandbox = self._sandbox
            if sandbox is None or not self.entered:
                return
            door, store = sandbox._door, sandbox._store
            if door.stop is None and time.monotonic() < door.deadline:
                return
            if store is not None and not store.in_call():
                return
            self._write(self._account())
            self.seen += 1
            if self.seen > 1 and self._is_stuck():
                self._write(self._account() + _ENDED)
                os._exit(_EXIT)

    def _is_stuck(self) -> bool:
        """Tell whether the guest runs, or will, and nothing else ends it; a host function ends its call by itself."""
        return self._endless and (host_function(self._thread) is None or in_guest(self._thread))

    def _write(self, said: bytes) -> None:
        self._page.view()[: len(said)] = said


def forget_account(shared: int, size: int) -> None:
    """In the parent: clear the page, for a worker that begins a sandbox."""
    os.pwrite(shared, bytes(ACCOUNT.size + len(_ENDED)), 2 * size)


def left_account(shared: int, size: int) -> tuple[Any, bool]:
    """In the parent: return a late call's counters, ``None`` if there are none, and whether the worker ended itself."""
    said = os.pread(shared, ACCOUNT.size + len(_ENDED), 2 * size)
    account = said[: ACCOUNT.size]
    return (account if any(account) else None), said[ACCOUNT.size :] == _ENDED
