"""Waits for a guest on another thread, so that Ctrl-C and the deadline take effect whatever the guest does (D9)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from aegis.engine.call.door import Door
from aegis.engine.threads.guest_thread import Job, run_on_guest_thread
from aegis.errors import DeadlineExceeded
from aegis.limits import exceeded
from aegis.support.lean import Any
from aegis.text import printable

__all__ = [
    "GRACE_SECONDS",
    "Abandoned",
    "abandoned",
    "expiring",
    "spans",
    "supervise",
    "time_left",
]

GRACE_SECONDS = 0.1
"""Seconds that a guest thread may take to end after its deadline, and again after it was cancelled."""

MAX_CANCEL_SECONDS = 1.0
"""Longest wait, after a cancellation, for a thread that executes guest code: a bulk instruction such as ``memory.copy``
may delay the stop, but always finishes."""

_TRIES = 10
"""Cancellations within one :data:`GRACE_SECONDS`."""


class Abandoned(DeadlineExceeded):
    """The call did not end, because a host function does not return. The sandbox now belongs to that thread."""


def supervise(function: Callable[[], Any], door: Door, cancel: Callable[[], None], leave: Callable[[Job], None]) -> Any:
    """Run ``function`` on a guest thread, wait for it, and return its result or raise its exception.

    If a Python signal handler raises while the caller waits, cancel the call and raise that exception. If the call does
    not end in time, pass the job to ``leave`` and raise :class:`Abandoned`, which names the stuck host function.
    """
    started = time.monotonic()
    job = run_on_guest_thread(function)
    ended = False
    try:
        while not ended and (left := time_left(door, started)) > 0:
            ended = job.wait(None if left == math.inf else left)
        ended = ended or _stopped(job, door, expiring(door, cancel))
    except BaseException:
        ended = _stopped(job, door, cancel)
        job.error = None
        raise
    finally:
        if not ended:  # also if a second Ctrl-C interrupted _stopped
            where = door.serving
            leave(job)
    if not ended:
        raise abandoned(door, where)
    return job.outcome()


def time_left(door: Door, started: float) -> float:
    """Return the seconds until a call that began at ``started`` is stopped from outside: its deadline plus a grace.

    The door's deadline is later than ``started`` plus the timeout if the call first had to wait for a worker.
    """
    timeout = door.limits.timeout
    if timeout is None:
        return math.inf
    own = door.deadline if door.deadline != math.inf else 0.0
    return max(started + timeout, own, door.ready_by) + GRACE_SECONDS - time.monotonic()


def expiring(door: Door, cancel: Callable[[], None]) -> Callable[[], None]:
    """Return a function that cancels a call such that it ends with ``DeadlineExceeded``."""

    def expire() -> None:
        door.expire()
        cancel()

    return expire


def _stopped(job: Job, door: Door, cancel: Callable[[], None]) -> bool:
    """Cancel repeatedly until the job ends; return whether it did.

    Once is not enough: a cancellation before the guest is entered has no effect.
    """
    return any(job.wait(span) for span in spans(door, cancel))


def spans(door: Door, cancel: Callable[[], None]) -> Iterator[float]:
    """Cancel, and yield the seconds to wait for the end before the next attempt.

    Stop after :data:`GRACE_SECONDS` if the call is in a host function, and otherwise after :data:`MAX_CANCEL_SECONDS`.
    """
    for tries in range(int(_TRIES * MAX_CANCEL_SECONDS / GRACE_SECONDS)):
        if tries >= _TRIES and door.serving is not None:
            return
        cancel()
        yield GRACE_SECONDS / _TRIES


def abandoned(door: Door, where: object) -> Abandoned:
    """Return the error of an abandoned call; ``where`` is the host function that does not return, if known."""
    allowed = door.limits.timeout or 0.0
    inside = f", the host function {printable(str(where))} does not return" if where else ""
    message = exceeded("timeout", allowed, allowed, after=f"{inside}; its sandbox is abandoned")
    return Abandoned(message, limit="timeout", used=allowed, allowed=allowed)
