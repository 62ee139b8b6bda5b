"""``wasi:clocks``: the sandbox's clocks, and timers on them. All times in nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.bindings.wasi_clocks_wall_clock import Datetime
from aegis.host.denials import reading
from aegis.host.preview2.io import Interest, Pollable

if TYPE_CHECKING:
    from aegis.host.preview2 import Wasi

__all__ = ["datetime_of", "implementation", "nanoseconds_of"]

_MAX_INSTANT_NANOSECONDS = (1 << 63) - 1


class _Timer:
    """A pollable that is ready from an instant of the monotonic clock on."""

    def __init__(self, wasi: Wasi, instant: int) -> None:
        self._wasi, self._instant = wasi, min(instant, _MAX_INSTANT_NANOSECONDS)

    def ready(self) -> bool:
        return reading(self._wasi.scope, self._wasi.grants.clocks.monotonic) >= self._instant

    def interest(self) -> Interest:
        return Interest(instant=self._instant)


class _Monotonic:
    """``wasi:clocks/monotonic-clock``."""

    def __init__(self, wasi: Wasi) -> None:
        self._wasi = wasi

    def now(self) -> int:
        return reading(self._wasi.scope, self._wasi.grants.clocks.monotonic)

    def resolution(self) -> int:
        return self._wasi.grants.clocks.resolution

    def subscribe_instant(self, when: int) -> Pollable:
        return Pollable(_Timer(self._wasi, when), self._wasi)

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
