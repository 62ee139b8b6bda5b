"""An assembler for classic BPF, as far as seccomp(2) programs need it.

A jump names labels; no label means the next instruction. Jumps go forward, 255 instructions at most.
"""

from __future__ import annotations

import struct

from aegis.support.lean import NamedTuple

__all__ = ["ALLOW", "KILL", "LONGEST", "Assembler", "fail"]

ALLOW = 0x7FFF0000
"""SECCOMP_RET_ALLOW."""
KILL = 0x80000000
"""SECCOMP_RET_KILL_PROCESS."""
LONGEST = 4096
"""BPF_MAXINSNS."""

_LOAD, _AND, _RET = 0x20, 0x54, 0x06  # ld word absolute; and constant; ret constant
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35
_FARTHEST = 255


def fail(number: int) -> int:
    """Return the verdict SECCOMP_RET_ERRNO with an error number."""
    return 0x00050000 | number


class _Instruction(NamedTuple):
    code: int
    constant: int
    then: str | None = None
    otherwise: str | None = None


class Assembler:
    """Instructions and labels, gathered in order. ``assemble`` gives an array of ``struct sock_filter``."""

    def __init__(self) -> None:
        self._instructions: list[_Instruction] = []
        self._labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        """Load the 32-bit word at ``offset`` of ``struct seccomp_data`` into the accumulator."""
        self._instructions.append(_Instruction(_LOAD, offset))

    def mask(self, constant: int) -> None:
        """Keep of the accumulator the bits that ``constant`` has."""
        self._instructions.append(_Instruction(_AND, constant))

    def jump_equal(self, constant: int, *, then: str | None = None, otherwise: str | None = None) -> None:
        """Go to ``then`` if the accumulator is ``constant``, else to ``otherwise``."""
        self._instructions.append(_Instruction(_JEQ, constant, then, otherwise))

    def jump_greater(self, constant: int, *, then: str | None = None, otherwise: str | None = None) -> None:
        """Go to ``then`` if the accumulator is greater than ``constant``, else to ``otherwise``."""
        self._instructions.append(_Instruction(_JGT, constant, then, otherwise))

    def jump_at_least(self, constant: int, *, then: str | None = None, otherwise: str | None = None) -> None:
        """Go to ``then`` if the accumulator is ``constant`` or greater, else to ``otherwise``."""
        self._instructions.append(_Instruction(_JGE, constant, then, otherwise))

    def ret(self, verdict: int) -> None:
        """End with ``verdict``."""
        self._instructions.append(_Instruction(_RET, verdict))

    def label(self, name: str) -> None:
        """Call the next instruction ``name``."""
        if name in self._labels:
            raise ValueError(f"the label {name!r} is there already")
        self._labels[name] = len(self._instructions)

    def assemble(self) -> bytes:
        """Return the program; raise ``ValueError`` for a jump that cannot be made, or a program too long."""
        if len(self._instructions) > LONGEST:
            raise ValueError(f"{len(self._instructions)} instructions, {LONGEST} are allowed")
        return b"".join(
            struct.pack("=HBBI", i.code, self._distance(at, i.then), self._distance(at, i.otherwise), i.constant)
            for at, i in enumerate(self._instructions)
        )

    def _distance(self, at: int, label: str | None) -> int:
        if label is None:
            return 0
        if label not in self._labels:
            raise ValueError(f"there is no label {label!r}")
        distance = self._labels[label] - at - 1
        if not 0 <= distance <= _FARTHEST:
            raise ValueError(f"the jump from {at} to {label!r} is {distance} instructions long")
        return distance
