"""The guest's log: filtered by level, truncated and escaped, then passed to Python's logging and the run's events."""

from __future__ import annotations

from aegis.policy import LOG_LEVELS, LoggingCapability
from aegis.text import printable
from aegis.values import CallScope

__all__ = ["MAX_LINE_CHARACTERS", "GuestLog"]

MAX_LINE_CHARACTERS = 4096
"""Characters of a line beyond which it is truncated."""
_PYTHON_LEVELS = (5, 10, 20, 30, 40, 50)


class GuestLog:
    """The destination of log lines. Without a grant they are discarded, which the guest cannot see."""

    def __init__(self, capability: LoggingCapability, scope: CallScope) -> None:
        self.least = LOG_LEVELS.index(capability.min_level) if capability.enabled else len(LOG_LEVELS)
        self._scope = scope

    def write(self, level: int, message: bytes) -> None:
        """Log a line of ``level``, an index into the levels of ``wasi:logging``; a higher one counts as critical."""
        level = min(max(level, 0), len(LOG_LEVELS) - 1)
        if level < self.least:
            return
        import logging

        text = printable(message, MAX_LINE_CHARACTERS)
        logging.getLogger("aegis.guest").log(
            _PYTHON_LEVELS[level], "%s", text, extra={"guest_level": LOG_LEVELS[level]}
        )
        self._scope.logged(LOG_LEVELS[level], text)
