"""The times of files as a guest sees them. They are a clock too: write a byte, then read the modification time.

Without the host's clock a guest sees
- for a change since the sandbox began, the sandbox's own time at which the guest first saw the change;
- for a time that it set itself and that did not change since, exactly that time;
- for any other time, which dates a change by the host or an earlier run, whole seconds.

With the host's clock it sees times of that clock's resolution.
"""

from __future__ import annotations

import os
import time

from aegis.host.files.file_id import identity
from aegis.support.lean import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from aegis.host.clocks import Clocks
    from aegis.host.host_quota import HostQuota

__all__ = ["FileTimes", "NewTimes", "beginning"]

_SECOND = 1_000_000_000
_ENTRY_BYTES = 250
_ACCESS, _CHANGE = 0, 1


def beginning() -> int:
    """Return the time (ns) from which on changes of files belong to a sandbox that begins now.

    Kernels stamp files with a clock that is some milliseconds late, and file servers have their own clocks. The result
    is in whole seconds, so that a guest that compares a time of its choice with it learns whole seconds at most.
    """
    return (time.time_ns() // _SECOND - 2) * _SECOND


@dataclass(frozen=True, slots=True)
class NewTimes:
    """Times to set, in nanoseconds; ``None`` leaves one unchanged."""

    access: int | None
    change: int | None

    def __call__(self, status: os.stat_result) -> tuple[int, int]:
        """Return both times for a file with this status."""
        return (
            status.st_atime_ns if self.access is None else self.access,
            status.st_mtime_ns if self.change is None else self.change,
        )


class FileTimes:
    """The times of files as one sandbox shows them. ``start`` is the :func:`beginning` of the sandbox."""

    def __init__(self, clocks: Clocks, quota: HostQuota, start: int) -> None:
        self._clocks, self._start = clocks, start
        self._reservation = quota.reserve()
        self._shown: dict[tuple[int, int, int], tuple[int, int]] = {}
        """By file and kind of time: the real time, and the time shown for it."""

    def shown(self, status: os.stat_result) -> tuple[int, int, int]:
        """Return the times of access, modification and status change, in nanoseconds since the epoch."""
        real = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
        stamp = 0
        if not self._clocks.real and max(real) >= self._start:
            stamp = self._clocks.stamp()  # one stamp for all three: one change may have set them all
        access, change, other = (self._one(status, kind, max(0, t), stamp) for kind, t in enumerate(real))
        return access, change, other

    def _one(self, status: os.stat_result, kind: int, real: int, stamp: int) -> int:
        clocks = self._clocks
        if clocks.real and clocks.resolution == 1:
            return real
        known = self._shown.get((*identity(status), kind))
        if known is not None and known[0] == real:
            return known[1]
        if clocks.real:
            return real - real % clocks.resolution
        if real < self._start:
            return real - real % _SECOND
        return self._keep(status, kind, real, stamp)

    def _keep(self, status: os.stat_result, kind: int, real: int, shown: int) -> int:
        key = (*identity(status), kind)
        if key not in self._shown:
            self._reservation.add(_ENTRY_BYTES)
        self._shown[key] = real, shown
        return shown

    def were_set(self, status: os.stat_result, new: NewTimes) -> None:
        """Remember that the guest set ``new``; ``status`` is the file's status afterwards."""
        if new.access is not None:
            self._keep(status, _ACCESS, max(0, status.st_atime_ns), new.access)
        if new.change is not None:
            self._keep(status, _CHANGE, max(0, status.st_mtime_ns), new.change)
