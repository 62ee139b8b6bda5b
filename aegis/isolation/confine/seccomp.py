"""Loading the filter of system calls. seccomp(2)."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char, c_ushort

from aegis.isolation.confine.filter import allowed, program
from aegis.isolation.confine.kernel import machine, prctl, syscall
from aegis.isolation.confine.model import Confinement, Situation

__all__ = ["filter_calls"]

_SET_MODE_FILTER, _TSYNC, _PR_SET_SECCOMP, _MODE_FILTER = 1, 1, 22, 2
_INSTRUCTION = 8


def _everywhere(loaded: _Program) -> bool:
    """Load the program for all threads; tell whether the kernel could."""
    try:
        # Not negative but the number of a thread: that one has a filter of its own, and nothing was loaded.
        return syscall("seccomp", _SET_MODE_FILTER, _TSYNC, ctypes.byref(loaded)) == 0
    except OSError:
        return False


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", c_ushort), ("instructions", POINTER(c_char)))


def filter_calls(wanted: Confinement, here: Situation) -> str:
    """Allow the calls of :func:`~aegis.isolation.confine.filter.allowed`, on every thread of the process."""
    rules = allowed(wanted, os.getpid())
    code = program(rules, machine())
    loaded = _Program(len(code) // _INSTRUCTION, ctypes.create_string_buffer(code, len(code)))
    if not _everywhere(loaded):
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(loaded))
        here.alone("are not filtered")
    return f"{len(rules)} system calls allowed"
