"""Show the progress of a campaign: a line updated in place on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from aegis.cli.output import Output
from aegis.limits import format_seconds
from aegis.text import count

if TYPE_CHECKING:
    from aegis.fuzz.result import Progress

__all__ = ["Live"]

_LINE_SECONDS, _TERMINAL_SECONDS = 5.0, 0.1


class Live:
    """The progress line of one campaign on stderr; ``what`` is its name for distinct behaviours."""

    def __init__(self, output: Output, what: str = "behaviour") -> None:
        self.output, self.what = output, what
        self.shown = 0.0
        self.live = sys.stderr.isatty() and not output.quiet and not output.json

    def show(self, progress: Progress) -> None:
        """Print the progress, unless it was printed a moment ago."""
        now = time.monotonic()
        if (
            self.output.quiet
            or self.output.json
            or now - self.shown < (_TERMINAL_SECONDS if self.live else _LINE_SECONDS)
        ):
            return
        if not self.shown and not self.live:
            self.shown = now
            return
        self.shown = now
        rate = progress.cases / progress.seconds if progress.seconds else 0
        line = (
            f"{format_seconds(progress.seconds)}: {count(progress.cases, 'case')} ({rate:,.0f} a second), "
            f"{count(progress.behaviours, self.what)}, {count(progress.findings, 'finding')}"
        )
        if self.live:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            self.output.say(line)

    def clear(self) -> None:
        """Remove the line before the result is printed."""
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
