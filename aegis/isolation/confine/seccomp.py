"""Loading the filter of system calls. seccomp(2)."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char, c_ushort
from functools import lru_cache

from aegis.isolation.confine.filter import allowed, program
from aegis.isolation.confine.kernel import machine, prctl, syscall
from aegis.isolation.confine.model import Confinement, Situation

__all__ = ["assemble_filter", "filter_calls"]

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
    code, count = _filter(_essence(wanted), os.getpid(), machine())
    loaded = _Program(len(code) // _INSTRUCTION, ctypes.create_string_buffer(code, len(code)))
    if not _everywhere(loaded):
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(loaded))
        here.alone("are not filtered")
    return f"{count} system calls allowed"


def assemble_filter(wanted: Confinement) -> None:
    """Make the filter for ``wanted`` and keep it for :func:`filter_calls`: a millisecond that nobody waits for."""
    _filter(_essence(wanted), os.getpid(), machine())


@lru_cache(maxsize=4)
def _filter(wanted: Confinement, process: int, architecture: str) -> tuple[bytes, int]:
    """Return a filter's program, and of how many calls it speaks."""
    rules = allowed(wanted, process)
    return program(rules, architecture), len(rules)


def _essence(wanted: Confinement) -> Confinement:
    """Return what the filter depends on."""
    listens = wanted.bind_ports is None or bool(wanted.bind_ports)
    return Confinement(
        read_fds=(0,) if wanted.reads else (), write_fds=(0,) if wanted.write_fds else (), network=wanted.network,
        bind_ports=(0,) if listens else (), threads=wanted.threads,
    )  # fmt: skip
