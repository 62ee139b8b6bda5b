"""The progress of a campaign on stderr: one line in place on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from aegis.cli.output import Output
from aegis.limits import format_seconds
from aegis.text import count

if TYPE_CHECKING:
    from aegis.fuzz.plan import Progress

__all__ = ["Live"]

_INTERVAL_SECONDS = 5.0


class Live:
    """The progress line of one campaign; ``unit`` is the name of its distinct behaviours."""

    def __init__(self, output: Output, unit: str = "behaviour") -> None:
        self.output, self.unit = output, unit
        self.shown = 0.0
        self.live = sys.stderr.isatty() and not output.quiet and not output.json

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
