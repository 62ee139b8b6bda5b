"""An assembler for the subset of classic BPF that seccomp(2) programs need.

Jumps name labels; no label means the next instruction. A conditional jump has an unsigned 8-bit offset, so it goes
forward by at most 255 instructions (linux/filter.h, ``struct sock_filter``).
"""

from __future__ import annotations

import struct

from aegis.support.lean import NamedTuple

__all__ = ["ALLOW", "KILL", "MAX_INSTRUCTIONS", "Assembler", "fail"]

ALLOW = 0x7FFF0000
"""SECCOMP_RET_ALLOW."""
KILL = 0x80000000
"""SECCOMP_RET_KILL_PROCESS."""
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""

_LOAD, _AND, _RET = 0x20, 0x54, 0x06  # BPF_LD|BPF_W|BPF_ABS; BPF_ALU|BPF_AND|BPF_K; BPF_RET|BPF_K
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35  # BPF_JMP|BPF_JEQ|BPF_K and so on
_MAX_JUMP_INSTRUCTIONS = 255


def fail(number: int) -> int:
    """Return the verdict SECCOMP_RET_ERRNO with the error number ``number``."""
    return 0x00050000 | number


class _Instruction(NamedTuple):
    code: int
    constant: int
    then: str | None = None
    otherwise: str | None = None


class Assembler:
    """Collects instructions and labels in order; ``assemble`` returns an array of ``struct sock_filter``."""

    def __init__(self) -> None:
        self._instructions: list[_Instruction] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        """Load the 32-bit word at ``offset`` of ``struct seccomp_data`` into the accumulator."""
        self._instructions.append(_Instruction(_LOAD, offset))

    def mask(self, constant: int) -> None:
        """Clear all bits of the accumulator that are not set in ``constant``."""
        self._instructions.append(_Instruction(_AND, constant))

    def jump_equal(self, constant: int, *, then: str | None = None, otherwise: str | None = None) -> None:
        """Jump to ``then`` if the accumulator equals ``constant``, else to ``otherwise``."""
        self._instructions.append(_Instruction(_JEQ, constant, then, otherwise))

    def jump_greater(self, constant: int, *, then: str | None = None, otherwise: str | None = None) -> None:
        """Jump to ``then`` if the accumulator is greater than ``constant`` (unsigned), else to ``otherwise``."""
        self._instructions.append(_Instruction(_JGT, constant, then, otherwise))

    def jump_at_least(self, constant: int, *, then: str | None = None, otherwise: str | None = None) -> None:
        """Jump to ``then`` if the accumulator is at least ``constant`` (unsigned), else to ``otherwise``."""
        self._instructions.append(_Instruction(_JGE, constant, then, otherwise))

    def ret(self, verdict: int) -> None:
        """Return ``verdict``."""
        self._instructions.append(_Instruction(_RET, verdict))

    def label(self, name: str) -> None:
        """Define the label ``name`` for the next instruction."""
        if name in self._labels:
            raise ValueError(f"duplicate label {name!r}")
        self._labels[name] = len(self._instructions)

    def assemble(self) -> bytes:
        """Return the program; raise ``ValueError`` if a jump is too far or backward, or the program too long."""
        if len(self._instructions) > MAX_INSTRUCTIONS:
            raise ValueError(f"too many BPF instructions ({len(self._instructions)}/{MAX_INSTRUCTIONS})")
        return b"".join(
            struct.pack("=HBBI", i.code, self._distance(at, i.then), self._distance(at, i.otherwise), i.constant)
            for at, i in enumerate(self._instructions)
        )

    def _distance(self, at: int, label: str | None) -> int:
        if label is None:
            return 0
        if label not in self._labels:
            raise ValueError(f"undefined label {label!r}")
        distance = self._labels[label] - at - 1
        if not 0 <= distance <= _MAX_JUMP_INSTRUCTIONS:
            raise ValueError(f"the jump from {at} to {label!r} is too far ({distance}/{_MAX_JUMP_INSTRUCTIONS})")
        return distance
