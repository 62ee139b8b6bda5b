"""Run a guest so that the deadline and signals stop it, even if native code never returns.

Loading, compiling and running happen on a guest thread, while the main thread waits. At the deadline, at Ctrl-C and at
SIGTERM, the main thread cancels the run and waits for ``GRACE_SECONDS``; then the process ends, even if the guest
thread is stuck in native code.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from types import FrameType

from aegis.engine.threads.guest_thread import Job, run_on_guest_thread
from aegis.engine.threads.supervisor import GRACE_SECONDS
from aegis.errors import AegisError, Cancelled, DeadlineExceeded
from aegis.limits import exceeded
from aegis.support.lean import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import signal
else:  # _signal imports faster: signal wraps it in enumerations
    import _signal as signal

__all__ = ["Stopped", "leave", "run_interruptibly"]


class Terminated(BaseException):
    """Raised by the handler of SIGTERM."""


class Stopped(Exception):
    """The run was stopped; ``stuck`` is true if its thread has not ended."""

    def __init__(self, error: AegisError, code: int, *, stuck: bool) -> None:
        self.error, self.code, self.stuck = error, code, stuck


def run_interruptibly(work: Callable[[], Any], cancel: Callable[[], None], timeout: float | None) -> Any:
    """Run ``work`` on a guest thread; return its result or raise its exception.

    Raise :class:`Stopped` if the run did not end within ``timeout`` seconds or a signal arrived; call ``cancel`` first.
    """
    started = time.monotonic()
    before = signal.getsignal(signal.SIGTERM)
    if before != signal.SIG_IGN:  # a parent that ignores SIGTERM for this process wants it ignored
        signal.signal(signal.SIGTERM, _terminate)
    job = run_on_guest_thread(work)
    try:
        try:
            ended = job.wait(None if timeout is None else max(0.0, started + timeout - time.monotonic()))
        except KeyboardInterrupt:
            raise _stop(job, cancel, Cancelled("interrupted"), 130) from None
        except Terminated:
            raise _stop(job, cancel, Cancelled("terminated"), 143) from None
    except (KeyboardInterrupt, Terminated) as second:  # a second signal during the handling of the first
        code, word = (143, "terminated") if isinstance(second, Terminated) else (130, "interrupted")
        raise Stopped(Cancelled(word), code, stuck=True) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if not ended:
        # The guest thread may be raising its own DeadlineExceeded now, which has more details.
        if job.wait(GRACE_SECONDS / 3):
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
        stuck = not job.wait(GRACE_SECONDS)
    except (KeyboardInterrupt, Terminated):
        stuck = True  # a second Ctrl-C ends the wait
    return Stopped(error, code, stuck=stuck)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def leave(code: int) -> NoReturn:
    """Flush the standard streams and end the process without waiting for threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
