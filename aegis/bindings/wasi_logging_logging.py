# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:logging/logging@0.1.0-draft``.

Log messages with a priority and a context.
"""

from __future__ import annotations

import enum
from typing import Protocol

from aegis.wit.types import Enum, Function, Interface

__all__ = ["INTERFACE", "LEVEL", "Host", "Level"]


class Level(enum.Enum):
    """What kind of message it is, least severe first."""

    TRACE = "trace"
    """Values and the flow of control."""
    DEBUG = "debug"
    """Of interest to who debugs the program."""
    INFO = "info"
    """Of interest to who watches the program."""
    WARN = "warn"
    """Something hazardous."""
    ERROR = "error"
    """A serious error."""
    CRITICAL = "critical"
    """A fatal error."""


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def log(self, level: Level, context: str, message: str) -> None:
        """Emit one message. The context is any string by which a reader groups messages."""


_NAME = "wasi:logging/logging@0.1.0-draft"

LEVEL = Enum("level", ("trace", "debug", "info", "warn", "error", "critical"), python=Level, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={"log": Function((("level", LEVEL), ("context", "string"), ("message", "string")))},
    types={"level": LEVEL},
)
