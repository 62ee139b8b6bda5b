"""Waiting for a guest on another thread, so that Ctrl-C and the deadline reach it whatever it does (D9)."""

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
"""Seconds that a guest thread has to end after its deadline, and again once it was cancelled."""

MOST = 1.0
"""The latter for a thread that is in no host function: it is in one long instruction, and does end."""

_TRIES = 10


class Abandoned(DeadlineExceeded):
    """The call did not end: a host function does not return. Its sandbox is left to that thread."""


def supervise(function: Callable[[], Any], door: Door, cancel: Callable[[], None], leave: Callable[[Job], None]) -> Any:
    """Run ``function`` on a guest thread and wait for it; raise what it raised.

    A signal handler that raises in the caller cancels the call first. When the call does not end in
    time, ``leave`` takes the job over and :class:`Abandoned` names the host function that is stuck.
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
        if not ended:  # whatever came between, a second Ctrl-C too
            where = host_function(job.thread)
            leave(job)
    if not ended:
        raise abandoned(door, where)
    return job.outcome()


def time_left(door: Door, started: float) -> float:
    """Return how many seconds a call that began at ``started`` may still take, until it is stopped from outside.

    Its own deadline is later than it was at first where a worker had to get ready before.
    """
    timeout = door.limits.timeout
    if timeout is None:
        return math.inf
    own = door.deadline if door.deadline != math.inf else 0.0
    return max(started + timeout, own, door.ready_by) + GRACE - time.monotonic()


def expiring(door: Door, cancel: Callable[[], None]) -> Callable[[], None]:
    """Return what cancels a call that takes too long, so that it ends as past its deadline."""

    def expire() -> None:
        door.expire()
        cancel()

    return expire


def _stopped(job: Job, cancel: Callable[[], None]) -> bool:
    """Cancel until the job ends: a cancellation that comes before the call began has met nothing."""
    return any(job.wait(span) for span in spans(job, cancel))


def spans(job: Job, cancel: Callable[[], None]) -> Iterator[float]:
    """Cancel, and yield how long to wait for the end before the next try, as long as there is hope."""
    for tries in range(int(_TRIES * MOST / GRACE)):
        if tries >= _TRIES and host_function(job.thread) is not None:
            return
        cancel()
        yield GRACE / _TRIES


def abandoned(door: Door, where: str | None) -> Abandoned:
    """Return why a call was given up: it is past its deadline, and ``where`` does not return."""
    allowed = door.limits.timeout or 0.0
    inside = f", the host function {printable(where)} does not return" if where else ""
    message = exceeded("timeout", allowed, allowed, after=f"{inside}; its sandbox is abandoned")
    return Abandoned(message, limit="timeout", used=allowed, allowed=allowed)


def host_function(thread: int) -> str | None:
    """Return the import that ``thread`` serves now, from its own stack: no call pays for this."""
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
"""Names of the engine's functions that enter a guest, where they are called."""


def in_guest(thread: int) -> bool:
    """Tell whether ``thread`` runs a guest now, and no host function, be it within a host call: of a call inside it,
    or of a realloc for its result."""
    frame = sys._current_frames().get(thread)
    return frame is not None and not _ENTERING.isdisjoint((*frame.f_code.co_freevars, *frame.f_code.co_names))
