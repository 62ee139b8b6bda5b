"""How far a campaign is: in place on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from aegis.cli.render import Face
from aegis.limits import format_seconds
from aegis.text import count

if TYPE_CHECKING:
    from aegis.fuzz.plan import Progress

__all__ = ["Live"]

_SHOWN_EVERY = 5.0


class Live:
    """The line of one campaign on stderr; ``what`` it calls its distinct behaviours."""

    def __init__(self, face: Face, what: str = "behaviour") -> None:
        self.face, self.what = face, what
        self.shown = 0.0
        self.live = sys.stderr.isatty() and not face.quiet and not face.json

    def show(self, progress: Progress) -> None:
        """Tell how far it is, if that was not told just now."""
        now = time.monotonic()
        if self.face.quiet or self.face.json or now - self.shown < (0.1 if self.live else _SHOWN_EVERY):
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
            self.face.say(line)

    def clear(self) -> None:
        """Take the line away: what comes now is the result."""
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
