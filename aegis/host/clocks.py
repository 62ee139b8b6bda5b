"""Clocks: the host's, the host's with reduced resolution, or a stand-in that advances with the guest's actions (D2)."""

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
    """The resolution that the guest reads, in nanoseconds."""

    def realtime(self) -> int:
        """Return the nanoseconds since the Unix epoch; raise ``CapabilityDenied`` without a clock."""
        raise denied_reading("clock")

    def monotonic(self) -> int:
        """Return the nanoseconds since a fixed moment of the run; raise ``CapabilityDenied`` without a clock."""
        raise denied_reading("clock")

    def sleep(self, nanoseconds: int, scope: CallScope) -> None:
        """Let ``nanoseconds`` pass on both clocks, no longer than until the deadline."""
        raise denied_reading("clock")

    def stamp(self) -> int:
        """Return the time to show for a file that changes now, to a guest without the host's clock."""
        return 0

    real = False
    """Whether waiting takes real time."""


class SystemClocks(Clocks):
    """The host's clocks, rounded down to a multiple of ``resolution``; the monotonic one starts with the run."""

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
    """A stand-in that starts at ``epoch`` and advances with each reading and each sleep of the guest."""

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
    """Return the clocks that ``capability`` grants."""
    if capability.mode in ("system", "coarse"):
        return SystemClocks(capability.resolution_ns)
    if capability.mode == "deny":
        return Clocks()
    return VirtualClocks(capability.instant_ns if capability.mode == "fixed" else 0)
