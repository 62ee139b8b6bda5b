"""``wasi:clocks``: the sandbox's clocks, and waits on them. All times in nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_clocks_system_clock_0_3 import Instant
from aegis.host.denials import reading
from aegis.host.timer import Timer

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["implementation", "instant_of", "nanoseconds_of"]

_SECOND = 1_000_000_000


class _Sleep(Timer):
    """A wait of a guest, which ends at an instant of the monotonic clock."""

    def result(self) -> None:
        """Return nothing, as the functions that wait do."""

    def cancel(self) -> None:
        """Release nothing: a timer holds nothing."""


class _MonotonicClock:
    """``wasi:clocks/monotonic-clock``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def now(self) -> int:
        return reading(self._wasi.scope, self._wasi.grants.clocks.monotonic)

    def get_resolution(self) -> int:
        return self._wasi.grants.clocks.resolution

    def wait_until(self, when: int) -> Timer:
        self._wasi.scope.clocks = self._wasi.grants.clocks
        return _Sleep(self._wasi, when)

    def wait_for(self, how_long: int) -> Timer:
        return self.wait_until(self.now() + how_long)


class _SystemClock:
    """``wasi:clocks/system-clock``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def now(self) -> Instant:
        return instant_of(reading(self._wasi.scope, self._wasi.grants.clocks.realtime))

    def get_resolution(self) -> int:
        return self._wasi.grants.clocks.resolution


def instant_of(nanoseconds: int) -> Instant:
    """Return a time since the Unix epoch as an ``instant`` of WASI, which may be before the epoch."""
    return Instant(*divmod(nanoseconds, _SECOND))


def nanoseconds_of(time: Instant) -> int:
    """Return an ``instant`` of WASI as nanoseconds since the Unix epoch."""
    return time.seconds * _SECOND + time.nanoseconds


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _SystemClock(wasi) if interface == "wasi:clocks/system-clock" else _MonotonicClock(wasi)
