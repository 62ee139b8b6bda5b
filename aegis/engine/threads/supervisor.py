"""Waits for a guest on another thread, so that Ctrl-C and the deadline take effect whatever the guest does (D9)."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from aegis.engine.call.door import Door
from aegis.engine.threads.guest_thread import Job, run_on_guest_thread
from aegis.errors import DeadlineExceeded
from aegis.limits import exceeded
from aegis.support.lean import Any
from aegis.text import printable

__all__ = [
    "GRACE",
    "Abandoned",
    "abandoned",
    "expiring",
    "host_function",
    "in_guest",
    "spans",
    "supervise",
    "time_left",
]

GRACE = 0.1
"""Seconds that a guest thread may take to end after its deadline, and again after it was cancelled."""

MAX_CANCEL_SECONDS = 1.0
"""Longest wait, after a cancellation, for a thread that executes guest code: a bulk instruction such as ``memory.copy``
may delay the stop, but always finishes."""

_TRIES = 10
"""Cancellations within one :data:`GRACE`."""


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
        ended = ended or _stopped(job, expiring(door, cancel))
    except BaseException:
        ended = _stopped(job, cancel)
        job.error = None
        raise
    finally:
        if not ended:  # also if a second Ctrl-C interrupted _stopped
            where = host_function(job.thread)
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
    return max(started + timeout, own, door.ready_by) + GRACE - time.monotonic()


def expiring(door: Door, cancel: Callable[[], None]) -> Callable[[], None]:
    """Return a function that cancels a call such that it ends with ``DeadlineExceeded``."""

    def expire() -> None:
        door.expire()
        cancel()

    return expire


def _stopped(job: Job, cancel: Callable[[], None]) -> bool:
    """Cancel repeatedly until the job ends; return whether it did.

    Once is not enough: a cancellation before the guest is entered has no effect.
    """
    return any(job.wait(span) for span in spans(job, cancel))


def spans(job: Job, cancel: Callable[[], None]) -> Iterator[float]:
    """Cancel, and yield the seconds to wait for the end before the next attempt.

    Stop after :data:`GRACE` if the thread is in a host function, and otherwise after :data:`MAX_CANCEL_SECONDS`.
    """
    for tries in range(int(_TRIES * MAX_CANCEL_SECONDS / GRACE)):
        if tries >= _TRIES and host_function(job.thread) is not None:
            return
        cancel()
        yield GRACE / _TRIES


def abandoned(door: Door, where: str | None) -> Abandoned:
    """Return the error of an abandoned call; ``where`` is the host function that does not return, if known."""
    allowed = door.limits.timeout or 0.0
    inside = f", the host function {printable(where)} does not return" if where else ""
    message = exceeded("timeout", allowed, allowed, after=f"{inside}; its sandbox is abandoned")
    return Abandoned(message, limit="timeout", used=allowed, allowed=allowed)


def host_function(thread: int) -> str | None:
    """Return the name of the import that ``thread`` is serving, or ``None``.

    It is found in the local variables of the thread's stack, so that calls need not record it.
    """
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None:
        name = frame.f_code.co_name
        if name == "trampoline" and "named" in frame.f_locals:  # a component's: aegis.component.trampoline
            return str(frame.f_locals["named"](frame.f_locals.get("which", 0)))
        if name == "trampoline" and "served" in frame.f_globals:
            return str(frame.f_locals.get("name", "?"))
        if name == "serve_host_function" and "HostFunctions" in frame.f_globals:
            return str(frame.f_locals["label"])
        frame = frame.f_back
    return None


_ENTERING = frozenset({"invoke", "_invoke", "_instance_new"})
"""Variable names under which the callers of engine functions that enter a guest refer to them."""


def in_guest(thread: int) -> bool:
    """Return whether ``thread`` executes guest code now.

    The guest code may itself run within a host call: for a nested call, or for a realloc for the host call's result.
    """
    frame = sys._current_frames().get(thread)
    return frame is not None and not _ENTERING.isdisjoint((*frame.f_code.co_freevars, *frame.f_code.co_names))
