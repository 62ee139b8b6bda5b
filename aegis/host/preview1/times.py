"""Timestamps that a guest sets (``fstflags``)."""

from __future__ import annotations

import os
from collections.abc import Callable

from aegis.host.clocks import Clocks
from aegis.host.preview1 import abi
from aegis.host.preview1.abi import Errno, Refused

__all__ = ["new_times"]


def new_times(atim: int, mtim: int, flags: int, clocks: Clocks) -> Callable[[os.stat_result], tuple[int, int]]:
    """Return what makes the new access and modification times of the old status.

    "Now" is the guest's own clock. Refuse (``INVAL``) a time that is both given and "now".
    """
    if flags > 15 or _both(flags, abi.ATIM, abi.ATIM_NOW) or _both(flags, abi.MTIM, abi.MTIM_NOW):
        raise Refused(Errno.INVAL)
    now = clocks.realtime() if flags & (abi.ATIM_NOW | abi.MTIM_NOW) else 0

    def times(status: os.stat_result) -> tuple[int, int]:
        access = atim if flags & abi.ATIM else now if flags & abi.ATIM_NOW else status.st_atime_ns
        change = mtim if flags & abi.MTIM else now if flags & abi.MTIM_NOW else status.st_mtime_ns
        return access, change

    return times


def _both(flags: int, one: int, other: int) -> bool:
    return bool(flags & one and flags & other)
