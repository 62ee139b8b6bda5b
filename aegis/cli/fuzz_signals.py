"""Stop a campaign at Ctrl-C, SIGTERM and SIGHUP alike: its findings are reported and its corpus is saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

__all__ = ["StopSignal", "stopped_by_signals", "until_stopped"]

_Step = TypeVar("_Step")

_INTERRUPTED_CODE = 130
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ONCE_SECONDS = 1.0
"""Time in which further signals count as the same one: ``timeout`` sends its signal twice in a row."""


class StopSignal:
    """The signal that stopped a campaign. ``exit_code`` is 128 plus its number; 130 before one arrived."""

    def __init__(self) -> None:
        self.exit_code = _INTERRUPTED_CODE
        self._last = -_ONCE_SECONDS

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record the signal and raise ``KeyboardInterrupt``, which stops the campaign."""
        now = time.monotonic()
        if now - self._last < _ONCE_SECONDS:
            return
        self._last = now
        self.exit_code = 128 + number
        raise KeyboardInterrupt


@contextmanager
def stopped_by_signals() -> Iterator[StopSignal]:
    """Handle the signals while the block runs. A signal that the parent ignores, as nohup does, stays ignored."""
    stop = StopSignal()
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers if here}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until_stopped(steps: Generator[_Step, None, None], show: Callable[[_Step], None]) -> bool:
    """Show the steps of a campaign until it ends; return whether a signal arrived while one was shown.

    The campaign does not know of such a signal. It is raised there, so that the campaign ends as at any other time.
    """
    try:
        for step in steps:
            show(step)
    except KeyboardInterrupt:
        with contextlib.suppress(StopIteration, KeyboardInterrupt):
            steps.throw(KeyboardInterrupt())
        return True
    return False
