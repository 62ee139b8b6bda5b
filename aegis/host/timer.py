"""Timers on the clocks of a sandbox, for every version of WASI for components."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.host.denials import reading
from aegis.values import Interest

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["Timer"]

_MAX_INSTANT_NANOSECONDS = (1 << 63) - 1


class Timer:
    """An object that is ready from an instant of the monotonic clock on."""

    def __init__(self, wasi: Wasi, instant: int) -> None:
        self._wasi, self._instant = wasi, min(instant, _MAX_INSTANT_NANOSECONDS)

    def ready(self) -> bool:
        """Return whether the instant has passed."""
        return reading(self._wasi.scope, self._wasi.grants.clocks.monotonic) >= self._instant

    def interest(self) -> Interest:
        """Return the instant to wait for."""
        return Interest(instant=self._instant)
