"""Assembles and loads the seccomp filter (seccomp(2))."""

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
_INSTRUCTION_BYTES = 8
_UINT = Struct("=I")
_PROCESS_PLACEHOLDER = 0x5AFE1D5A
"""Stands for the process id in a filter that is assembled before the fork. No real id: PID_MAX_LIMIT is 2**22."""


def _load_for_all_threads(loaded: _SockFprog) -> bool:
    """Load the program for all threads of the process; return whether the kernel did so."""
    try:
        # A positive result is the id of a thread with a diverging filter; the kernel then loaded nothing.
        return syscall("seccomp", _SET_MODE_FILTER, _TSYNC, ctypes.byref(loaded)) == 0
    except OSError:
        return False


class _SockFprog(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", c_ushort), ("instructions", POINTER(c_char)))


def filter_calls(wanted: Confinement, here: Situation) -> str:
    """Load the filter for :func:`~aegis.isolation.confine.filter.allowed`, for every thread of the process."""
    code, count = filter_for(wanted, os.getpid())
    loaded = _SockFprog(len(code) // _INSTRUCTION_BYTES, ctypes.create_string_buffer(code, len(code)))
    if not _load_for_all_threads(loaded):
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(loaded))
        here.require_single_thread("are not filtered")
    return f"{count} system calls allowed"


def assemble_filter(wanted: Confinement) -> None:
    """Assemble the filter for ``wanted`` in advance and cache it for :func:`filter_calls`, also in forked children."""
    _assembled(_filter_key(wanted), machine())


def filter_for(wanted: Confinement, process: int) -> tuple[bytes, int]:
    """Return the BPF program for the process with the id ``process``, and the number of system calls it allows."""
    code, count = _assembled(_filter_key(wanted), machine())
    return code.replace(_UINT.pack(_PROCESS_PLACEHOLDER), _UINT.pack(process)), count


@lru_cache(maxsize=16)
def _assembled(wanted: Confinement, architecture: str) -> tuple[bytes, int]:
    rules = allowed(wanted, _PROCESS_PLACEHOLDER)
    return program(rules, architecture), len(rules)


def _filter_key(wanted: Confinement) -> Confinement:
    """Return a confinement with only the settings that the filter depends on, as cache key."""
    return Confinement(
        read_fds=(0,) if wanted.reads else (), write_fds=(0,) if wanted.write_fds else (), network=wanted.network,
        listens=wanted.listens, threads=wanted.threads,
    )  # fmt: skip
