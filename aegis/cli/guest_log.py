"""The log lines of guests on standard error."""

from __future__ import annotations

__all__ = ["show_guest_log"]


def show_guest_log() -> None:
    """Print the log lines of guests on stderr, independent of Python's logging configuration."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("log: %(guest_level)s: %(message)s"))
    logger = logging.getLogger("aegis.guest")
    logger.addHandler(handler)
    logger.setLevel(1)
    logger.propagate = False
