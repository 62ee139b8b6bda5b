"""The supervisor of ``aegis run``: it owns the wall clock and the signals, and outlives whatever is stuck.

Everything that touches the guest, loading and compiling included, happens on a guest thread. The main
thread waits. At the deadline, at Ctrl-C and at SIGTERM it asks the guest to stop and gives it a moment;
after that the process ends, whatever native code is doing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from types import FrameType

from aegis.engine.threads.guest_thread import Job, run_on_guest_thread
from aegis.errors import AegisError, Cancelled, DeadlineExceeded
from aegis.limits import exceeded
from aegis.support.lean import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import signal
else:  # what the module signal wraps, without its enumerations, which a start would wait for
    import _signal as signal

__all__ = ["GRACE", "Stopped", "leave", "supervise"]

GRACE = 0.1
"""Seconds that a guest has to stop once it was asked to."""


class Terminated(BaseException):
    """SIGTERM arrived."""


class Stopped(Exception):
    """The run was stopped from outside; ``stuck`` tells that its thread does not end."""

    def __init__(self, error: AegisError, code: int, *, stuck: bool) -> None:
        self.error, self.code, self.stuck = error, code, stuck


def supervise(work: Callable[[], Any], cancel: Callable[[], None], timeout: float | None) -> Any:
    """Run ``work`` on a guest thread and return what it returns, or raise what it raises.

    Raise :class:`Stopped` when the run did not end by itself within ``timeout`` seconds.
    """
    started = time.monotonic()
    before = signal.getsignal(signal.SIGTERM)
    if before != signal.SIG_IGN:  # whoever started this command with the signal ignored meant it
        signal.signal(signal.SIGTERM, _terminate)
    job = run_on_guest_thread(work)
    try:
        try:
            ended = job.wait(None if timeout is None else max(0.0, started + timeout - time.monotonic()))
        except KeyboardInterrupt:
            raise _stop(job, cancel, Cancelled("interrupted"), 130) from None
        except Terminated:
            raise _stop(job, cancel, Cancelled("terminated"), 143) from None
    except (KeyboardInterrupt, Terminated) as second:  # another signal, before the first one was answered
        code, word = (143, "terminated") if isinstance(second, Terminated) else (130, "interrupted")
        raise Stopped(Cancelled(word), code, stuck=True) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if not ended:
        # The guest's own deadline may be due at this very moment, and its account of it is better.
        if job.wait(GRACE / 3):
            return job.outcome()
        allowed = timeout or 0.0
        error = DeadlineExceeded(
            exceeded("timeout", allowed, allowed, unit="in one run"), limit="timeout", used=allowed, allowed=allowed
        )
        raise _stop(job, cancel, error, error.exit_code)
    return job.outcome()


def _stop(job: Job, cancel: Callable[[], None], error: AegisError, code: int) -> Stopped:
    try:
        cancel()
        stuck = not job.wait(GRACE)
    except (KeyboardInterrupt, Terminated):
        stuck = True  # a second Ctrl-C waits for nothing
    return Stopped(error, code, stuck=stuck)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def leave(code: int) -> NoReturn:
    """End the process now: threads that do not return would keep it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
