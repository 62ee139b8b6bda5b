"""Run a guest so that the deadline and signals stop it, even if native code never returns.

Loading, compiling and running happen on a guest thread, while the main thread waits. At the deadline, at Ctrl-C, at
SIGTERM and at SIGHUP, the main thread cancels the run and waits for :data:`GRACE_SECONDS`; then the process ends, even
if the guest thread is stuck in native code.
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


_SIGNALS = {signal.SIGTERM: "terminated", getattr(signal, "SIGHUP", signal.SIGTERM): "hung up"}
"""The signals that end a run, besides Ctrl-C, with their message; the exit code is 128 plus the number."""


class Terminated(BaseException):
    """Raised by the handler of a signal in :data:`_SIGNALS`."""

    def __init__(self, number: int) -> None:
        self.code, self.word = 128 + number, _SIGNALS[number]


class Stopped(Exception):
    """The run was stopped; ``stuck`` is true if its thread has not ended."""

    def __init__(self, error: AegisError, code: int, *, stuck: bool) -> None:
        self.error, self.code, self.stuck = error, code, stuck


def run_interruptibly(work: Callable[[], Any], cancel: Callable[[AegisError, int], None], timeout: float | None) -> Any:
    """Run ``work`` on a guest thread; return its result or raise its exception.

    Raise :class:`Stopped` if the run did not end within ``timeout`` seconds or a signal arrived; call ``cancel`` first,
    with the error and the exit code of the report.
    """
    started = time.monotonic()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # a parent that ignores a signal, as nohup does, wants it ignored here
            signal.signal(number, _terminate)
    job = run_on_guest_thread(work)
    try:
        try:
            ended = job.wait(None if timeout is None else max(0.0, started + timeout - time.monotonic()))
        except KeyboardInterrupt:
            raise _stop(job, cancel, Cancelled("interrupted"), 130) from None
        except Terminated as end:
            raise _stop(job, cancel, Cancelled(end.word), end.code) from None
    except (KeyboardInterrupt, Terminated) as second:  # a second signal during the handling of the first
        code, word = (second.code, second.word) if isinstance(second, Terminated) else (130, "interrupted")
        raise Stopped(Cancelled(word), code, stuck=True) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
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


def _stop(job: Job, cancel: Callable[[AegisError, int], None], error: AegisError, code: int) -> Stopped:
    try:
        cancel(error, code)
        stuck = not job.wait(GRACE_SECONDS)
    except (KeyboardInterrupt, Terminated):
        stuck = True  # a second Ctrl-C ends the wait
    return Stopped(error, code, stuck=stuck)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def leave(code: int) -> NoReturn:
    """Flush the standard streams and end the process without waiting for threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
