"""The timestamps that a guest sets on files (``fstflags``)."""

from __future__ import annotations

from aegis.host.files.file_times import NewTimes
from aegis.host.preview1 import abi
from aegis.host.preview1.abi import Errno, Refused
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.host.clocks import Clocks

__all__ = ["new_times"]


def new_times(atim: int, mtim: int, flags: int, clocks: Clocks) -> NewTimes:
    """Return the access and modification times that the guest sets.

    "Now" is the time of the guest's own clock. Raise ``INVAL`` for a time that is both given and "now".
    """
    if flags > 15 or _both(flags, abi.ATIM, abi.ATIM_NOW) or _both(flags, abi.MTIM, abi.MTIM_NOW):
        raise Refused(Errno.INVAL)
    now = clocks.realtime() if flags & (abi.ATIM_NOW | abi.MTIM_NOW) else 0
    return NewTimes(
        access=atim if flags & abi.ATIM else now if flags & abi.ATIM_NOW else None,
        change=mtim if flags & abi.MTIM else now if flags & abi.MTIM_NOW else None,
    )


def _both(flags: int, one: int, other: int) -> bool:
    return bool(flags & one and flags & other)
