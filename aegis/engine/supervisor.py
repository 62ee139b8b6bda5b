"""Waiting for a guest on another thread, so that Ctrl-C and the deadline reach it whatever it does (D9)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from aegis.engine.door import Door
from aegis.engine.threads import Job, run_on_guest_thread
from aegis.errors import DeadlineExceeded
from aegis.limits import format_seconds
from aegis.names import printable

__all__ = ["GRACE", "Abandoned", "supervise"]

GRACE = 0.1
"""Seconds that a guest thread has to end after its deadline, and again once it was cancelled."""


_TRIES = 10


class Abandoned(DeadlineExceeded):
    """The call did not end: a host function does not return. Its sandbox is left to that thread."""


def supervise(function: Callable[[], Any], door: Door, cancel: Callable[[], None], leave: Callable[[Job], None]) -> Any:
    """Run ``function`` on a guest thread and wait for it; raise what it raised.

    A signal handler that raises in the caller cancels the call first. When the call does not end in
    time, ``leave`` takes the job over and :class:`Abandoned` names the host function that is stuck.
    """
    timeout = door.limits.timeout
    job = run_on_guest_thread(function)
    try:
        ended = job.wait(None if timeout is None else timeout + GRACE)
    except BaseException:
        if not _stopped(job, cancel):
            leave(job)
        job.error = None
        raise
    if not ended and not _stopped(job, cancel):
        leave(job)
        _abandon(door, job)
    return job.outcome()


def _stopped(job: Job, cancel: Callable[[], None]) -> bool:
    """Cancel until the job ends: a cancellation that comes before the call began has met nothing."""
    for _ in range(_TRIES):
        cancel()
        if job.wait(GRACE / _TRIES):
            return True
    return False


def _abandon(door: Door, job: Job) -> NoReturn:
    allowed = door.limits.timeout or 0.0
    where = _host_function(job.thread)
    inside = f": the host function {printable(where)} does not return" if where else ""
    raise Abandoned(
        f"the call reached its deadline of {format_seconds(allowed)}{inside}; its sandbox is abandoned",
        limit="timeout",
        allowed=allowed,
    )


def _host_function(thread: int) -> str | None:
    """Return the import that ``thread`` serves now, from its own stack: no call pays for this."""
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_name == "trampoline":
            local = frame.f_locals
            return f"{local.get('module', '?')}.{local.get('name', '?')}"
        frame = frame.f_back
    return None
