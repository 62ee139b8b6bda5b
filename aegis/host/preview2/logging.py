"""``wasi:logging/logging``: lines of the guest's log, for the log of the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.policy.statements import LOG_LEVELS

if TYPE_CHECKING:
    from aegis.bindings.wasi_logging_logging import Level
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]

_MAX_TEXT_CHARACTERS = 1 << 14
"""Characters of a context, and of a message, that reach the log. The rest is cut off."""


class _Logging:
    """``wasi:logging/logging``. Without a grant the lines are discarded, and the guest cannot detect that."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def log(self, level: Level, context: str, message: str) -> None:
        text = message[:_MAX_TEXT_CHARACTERS]
        line = f"{context[:_MAX_TEXT_CHARACTERS]}: {text}" if context else text
        self._wasi.grants.log.write(LOG_LEVELS.index(level.value), line.encode())


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Logging(wasi)
