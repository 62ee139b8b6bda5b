"""Direct system calls, for those that the standard library does not offer."""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_long, c_ulong
from functools import cache

from aegis.isolation.confine.model import LayerUnavailable
from aegis.isolation.confine.numbers import NUMBERS
from aegis.support.lean import Any

__all__ = ["MACHINES", "Struct", "libc", "machine", "other_threads", "prctl", "syscall"]

MACHINES = ("x86_64", "aarch64")
"""Supported architectures, in the order of the columns of ``NUMBERS``."""

_LINUX = sys.platform.startswith("linux")
libc: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
if _LINUX:
    libc.syscall.restype = c_long
_ZEROS = (c_ulong(0),) * 4
Struct = ctypes.create_string_buffer
"""A buffer for a C structure that the kernel reads or writes."""


@cache
def machine() -> str:
    """Return this process's architecture, one of ``MACHINES``; raise :class:`LayerUnavailable` for any other."""
    if not _LINUX:
        raise LayerUnavailable(f"not supported on {sys.platform}: use Linux")
    name = os.uname().machine
    if name not in MACHINES or sys.maxsize < 1 << 32 or sys.byteorder != "little":
        raise LayerUnavailable(
            f"not supported on {name} ({sys.maxsize.bit_length() + 1} bit): use 64-bit x86_64 or aarch64"
        )
    return name


def syscall(name: str, *arguments: Any) -> int:
    """Make the system call ``name``; raise ``OSError`` if it fails, :class:`LayerUnavailable` on other systems."""
    number = NUMBERS[name][MACHINES.index(machine())]
    assert number is not None
    result: int = libc.syscall(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))
    return _checked(result)


def prctl(option: int, *arguments: Any) -> int:
    """Call prctl(2), passing 0 for missing arguments; raise the same errors as :func:`syscall`."""
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
    """Return the number of other threads of this process, or 0 if ``/proc`` is not readable."""
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except OSError:
        return 0
