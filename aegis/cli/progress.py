"""Progress on stderr: of a campaign, and of any step that takes longer than a second.

On a terminal it is one line in place. Otherwise a campaign prints a line every few seconds, and a step prints nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aegis.cli.output import Output
from aegis.limits import format_seconds
from aegis.support.lean import TYPE_CHECKING
from aegis.text import count, printable

if TYPE_CHECKING:
    from threading import Event

    from aegis.fuzz.plan import Progress

__all__ = ["Live", "working"]

_INTERVAL_SECONDS = 5.0
_QUIET_SECONDS = 1.0
"""Duration of a step that prints nothing."""


@contextmanager
def working(output: Output, verb: str, path: str) -> Iterator[None]:
    """Show on a terminal that a step takes long: ``compiling plugin.wasm: 12 s``. The line is erased at the end."""
    if output.quiet or output.json or not _in_place_works():
        yield
        return
    from threading import Event, Thread

    ended = Event()
    shower = Thread(
        target=_show_time, args=(f"{verb} {printable(path, 60)}", ended), name="aegis-progress", daemon=True
    )
    shower.start()
    try:
        yield
    finally:
        ended.set()
        shower.join()


def _show_time(text: str, ended: Event) -> None:
    started = time.monotonic()
    if ended.wait(_QUIET_SECONDS):
        return
    while True:
        _in_place(f"{text}: {time.monotonic() - started:.0f} s")
        if ended.wait(0.5):
            break
    _in_place("")


def _in_place_works() -> bool:
    """Return whether stderr is a terminal that can replace a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _in_place(text: str) -> None:
    """Replace the line of the terminal; a broken terminal must not end the step."""
    try:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
    except OSError:
        pass


class Live:
    """The progress line of one campaign; ``unit`` is the name of its distinct behaviours."""

    def __init__(self, output: Output, unit: str = "behaviour") -> None:
        self.output, self.unit = output, unit
        self.shown = 0.0
        self.live = _in_place_works() and not output.quiet and not output.json

    def show(self, progress: Progress) -> None:
        """Print the progress, unless it was printed very recently."""
        now = time.monotonic()
        if self.output.quiet or self.output.json or now - self.shown < (0.1 if self.live else _INTERVAL_SECONDS):
            return
        if not self.shown and not self.live:
            self.shown = now
            return
        self.shown = now
        rate = progress.cases / progress.seconds if progress.seconds else 0
        line = (
            f"{format_seconds(progress.seconds)}: {count(progress.cases, 'case')} ({rate:,.0f} a second), "
            f"{count(progress.behaviours, self.unit)}, {count(progress.findings, 'finding')}"
        )
        if self.live:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            self.output.say(line)

    def clear(self) -> None:
        """Erase the line before the result is printed."""
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
