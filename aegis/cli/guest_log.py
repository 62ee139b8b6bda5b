"""The log lines of guests, and the warnings of Aegis, on standard error."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["show_guest_log", "show_warnings"]


def show_guest_log() -> None:
    """Print the log lines of guests on stderr, independent of Python's logging configuration."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("log: %(guest_level)s: %(message)s"))
    logger = logging.getLogger("aegis.guest")
    logger.addHandler(handler)
    logger.setLevel(1)
    logger.propagate = False


def show_warnings(say: Callable[[str], None]) -> None:
    """Print the warnings that Aegis logs, such as that of a missing extra, as notes by ``say``."""
    import logging

    class WarningNotes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"note: {record.getMessage()}")

    logger = logging.getLogger("aegis")
    logger.addHandler(WarningNotes())
    logger.propagate = False
