"""``wasi:clocks``: the sandbox's clocks, and timers on them. All times in nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_clocks_wall_clock import Datetime
from aegis.host.denials import reading
from aegis.host.preview2.io import Pollable
from aegis.host.timer import Timer

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["datetime_of", "implementation", "nanoseconds_of"]


class _Monotonic:
    """``wasi:clocks/monotonic-clock``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def now(self) -> int:
        return reading(self._wasi.scope, self._wasi.grants.clocks.monotonic)

    def resolution(self) -> int:
        return self._wasi.grants.clocks.resolution

    def subscribe_instant(self, when: int) -> Pollable:
        return Pollable(Timer(self._wasi, when), self._wasi)

    def subscribe_duration(self, when: int) -> Pollable:
        return self.subscribe_instant(self.now() + when)


class _Wall:
    """``wasi:clocks/wall-clock``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def now(self) -> Datetime:
        return datetime_of(reading(self._wasi.scope, self._wasi.grants.clocks.realtime))

    def resolution(self) -> Datetime:
        return datetime_of(self._wasi.grants.clocks.resolution)


def datetime_of(nanoseconds: int) -> Datetime:
    """Return a time since the Unix epoch as a ``datetime`` of WASI; a time before the epoch becomes the epoch."""
    return Datetime(*divmod(max(0, nanoseconds), 1_000_000_000))


def nanoseconds_of(time: Datetime) -> int:
    """Return a ``datetime`` of WASI as nanoseconds since the Unix epoch."""
    return time.seconds * 1_000_000_000 + time.nanoseconds


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _Wall(wasi) if interface == "wasi:clocks/wall-clock" else _Monotonic(wasi)
