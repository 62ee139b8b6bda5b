"""``wasi:logging`` and ``wasi:config/store``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.policy.capabilities import LOG_LEVELS

if TYPE_CHECKING:
    from aegis.bindings.wasi_logging_logging import Level
    from aegis.host.preview2 import Wasi

__all__ = ["implementation"]

_MAX_TEXT_CHARACTERS = 1 << 14


class _Logging:
    """``wasi:logging/logging``. Without a grant the lines are discarded, which the guest cannot see."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def log(self, level: Level, context: str, message: str) -> None:
        line = (
            f"{context[:_MAX_TEXT_CHARACTERS]}: {message[:_MAX_TEXT_CHARACTERS]}"
            if context
            else message[:_MAX_TEXT_CHARACTERS]
        )
        self._wasi.grants.log.write(LOG_LEVELS.index(level.value), line.encode())


class _Store:
    """``wasi:config/store``: the values in the policy, and no others."""

    def __init__(self, wasi: Wasi) -> None:
        self._values = dict(wasi.grants.policy.config.set)

    def get(self, key: str) -> str | None:
        return self._values.get(key)

    def get_all(self) -> list[tuple[str, str]]:
        return list(self._values.items())


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Logging(wasi) if interface == "wasi:logging/logging" else _Store(wasi)
