"""Loading the filter of system calls. seccomp(2)."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char, c_ushort
from functools import lru_cache
from struct import Struct

from aegis.isolation.confine.filter import allowed, program
from aegis.isolation.confine.kernel import machine, prctl, syscall
from aegis.isolation.confine.model import Confinement, Situation

__all__ = ["assemble_filter", "filter_calls", "filter_for"]

_SET_MODE_FILTER, _TSYNC, _PR_SET_SECCOMP, _MODE_FILTER = 1, 1, 22, 2
_INSTRUCTION = 8
_UINT = Struct("=I")
_SOMEBODY = 0x5AFE1D5A
"""Stands for the process's own id, in a filter that is made before it; the kernel's ids end at 2**22."""


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
    code, count = filter_for(wanted, os.getpid())
    loaded = _Program(len(code) // _INSTRUCTION, ctypes.create_string_buffer(code, len(code)))
    if not _everywhere(loaded):
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(loaded))
        here.alone("are not filtered")
    return f"{count} system calls allowed"


def assemble_filter(wanted: Confinement) -> None:
    """Make the filter for ``wanted`` and keep it for :func:`filter_calls`, here and in forks of this process."""
    _assembled(_essence(wanted), machine())


def filter_for(wanted: Confinement, process: int) -> tuple[bytes, int]:
    """Return the filter's program for the process with the id ``process``, and of how many calls it speaks."""
    code, count = _assembled(_essence(wanted), machine())
    return code.replace(_UINT.pack(_SOMEBODY), _UINT.pack(process)), count


@lru_cache(maxsize=16)
def _assembled(wanted: Confinement, architecture: str) -> tuple[bytes, int]:
    rules = allowed(wanted, _SOMEBODY)
    return program(rules, architecture), len(rules)


def _essence(wanted: Confinement) -> Confinement:
    """Return what the filter depends on."""
    return Confinement(
        read_fds=(0,) if wanted.reads else (), write_fds=(0,) if wanted.write_fds else (), network=wanted.network,
        listens=wanted.listens, threads=wanted.threads,
    )  # fmt: skip
