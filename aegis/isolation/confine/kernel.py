"""The kernel, called directly: what the standard library has no function for."""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_long, c_ulong
from functools import cache

from aegis.isolation.confine.model import Unavailable
from aegis.isolation.confine.numbers import NUMBERS
from aegis.support.lean import Any

__all__ = ["MACHINES", "Struct", "libc", "machine", "other_threads", "prctl", "syscall"]

MACHINES = ("x86_64", "aarch64")
"""The architectures whose system calls are known here, in the order of the table's columns."""

_LINUX = sys.platform.startswith("linux")
libc: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
if _LINUX:
    libc.syscall.restype = c_long
_ZEROS = (c_ulong(0),) * 4
Struct = ctypes.create_string_buffer
"""Packed bytes as an argument that the kernel reads, or writes."""


@cache
def machine() -> str:
    """Return this process's architecture, one of ``MACHINES``; raise :class:`Unavailable` for another."""
    if not _LINUX:
        raise Unavailable(f"{sys.platform} has nothing of the kind; Linux has")
    name = os.uname().machine
    if name not in MACHINES or sys.maxsize < 1 << 32 or sys.byteorder != "little":
        raise Unavailable(f"the system calls of {name} ({sys.maxsize.bit_length() + 1} bit) are not known here")
    return name


def syscall(name: str, *arguments: Any) -> int:
    """Make the system call ``name``; raise ``OSError`` if it fails, :class:`Unavailable` on another system."""
    number = NUMBERS[name][MACHINES.index(machine())]
    assert number is not None
    result: int = libc.syscall(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))
    return _checked(result)


def prctl(option: int, *arguments: Any) -> int:
    """Call prctl(2) with all five arguments; errors as for :func:`syscall`."""
    machine()
    given = [c_ulong(a) if isinstance(a, int) else a for a in arguments]
    result: int = libc.prctl(option, *given, *_ZEROS[len(given) :])
    return _checked(result)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def other_threads() -> int:
    """Return how many threads run besides this one, 0 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except OSError:
        return 0
