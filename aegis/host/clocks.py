"""Clocks: the host's, cut, standing still, or a stand-in that moves only by what the guest does (D2)."""

from __future__ import annotations

import time

from aegis.policy import ClockCapability
from aegis.policy.remedies import denied_reading
from aegis.values import CallScope

__all__ = ["Clocks", "acquire_clocks"]

READING_NS = 1_000
"""Nanoseconds by which a stand-in advances at each reading, so that a guest's busy wait ends."""


class Clocks:
    """The two clocks that a guest can read and wait on; all times in nanoseconds."""

    resolution = 1_000
    """What the guest is told of the clocks' resolution."""

    def realtime(self) -> int:
        """Nanoseconds since the Unix epoch."""
        raise denied_reading("clock")

    def monotonic(self) -> int:
        """Nanoseconds since some fixed moment of the run."""
        raise denied_reading("clock")

    def sleep(self, nanoseconds: int, scope: CallScope) -> None:
        """Let ``nanoseconds`` pass on both clocks, no further than the deadline."""
        raise denied_reading("clock")

    def stamp(self) -> int:
        """Return the time of a file that changes now, for a guest that may not have the host's time."""
        return 0

    real = False
    """Whether waiting takes the host's time."""


class SystemClocks(Clocks):
    """The host's clocks, cut to a multiple of ``resolution``; the monotonic one starts with the run."""

    real = True

    def __init__(self, resolution: int) -> None:
        self.resolution = max(1, resolution)
        self._start = time.monotonic_ns()

    def realtime(self) -> int:
        now = time.time_ns()
        return now - now % self.resolution

    def monotonic(self) -> int:
        now = time.monotonic_ns() - self._start
        return now - now % self.resolution

    def sleep(self, nanoseconds: int, scope: CallScope) -> None:
        scope.wait(nanoseconds / 1e9)


class VirtualClocks(Clocks):
    """A stand-in: starts at ``epoch``, advances a little at each reading and by what the guest sleeps."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._passed = 0

    def realtime(self) -> int:
        return self._epoch + self.monotonic()

    def monotonic(self) -> int:
        self._passed = min(self._passed + READING_NS, (1 << 63) - 1)
        return self._passed

    def stamp(self) -> int:
        return self.realtime()

    def sleep(self, nanoseconds: int, scope: CallScope) -> None:
        scope.remaining()
        self._passed = min(self._passed + nanoseconds, (1 << 63) - 1)


def acquire_clocks(capability: ClockCapability) -> Clocks:
    """Return the clocks that ``capability`` names."""
    if capability.mode in ("system", "coarse"):
        return SystemClocks(capability.resolution_ns)
    if capability.mode == "deny":
        return Clocks()
    return VirtualClocks(capability.instant_ns if capability.mode == "fixed" else 0)
