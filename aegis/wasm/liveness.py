"""Measure the live range of each local of a function, in branches.

WebAssembly's control flow is structured, so one pass suffices. A value set in a block is visible until the block ends;
afterwards the value set outside may be read too. A value is live from the instruction that sets it to its last read,
and through every loop after it that reads it. The result is an upper bound.
"""

from __future__ import annotations

from bisect import bisect_right

from aegis.wasm.binary import BinaryReader
from aegis.wasm.instructions import (
    BLOCK,
    BULK,
    END,
    IF,
    LOCAL_GET,
    LOCAL_SET,
    LOCAL_TEE,
    LOOP,
    MEMORY_GROW,
    TABLE_GROW,
)

__all__ = ["Liveness"]

_SETS = (LOCAL_SET, LOCAL_TEE)


class _LiveRange:
    """The live range of one value: the depth and number of the block that sets it, its first and its last branch."""

    __slots__ = ("block", "depth", "first", "last")

    def __init__(self, depth: int, block: int, first: int) -> None:
        self.depth, self.block = depth, block
        self.first = self.last = first


class Liveness:
    """The live ranges of a function's locals, fed with its tokens in order.

    A loop counts as three branches, ``memory.grow`` as four, a bulk instruction, which tests its ranges, as two; the
    weights are those of :mod:`aegis.wasm.cost`.
    """

    def __init__(self, count: int) -> None:
        self.branches = 0
        """Branches so far; the unit of all positions here."""
        self.merged = 0
        """For each block, the locals that it sets, added together: their values merge where it ends."""
        self.deepest = 0
        """The greatest depth of nested blocks."""
        self._values = [[_LiveRange(0, 0, 0)] for _ in range(count)]
        self._blocks = [0]
        self._sets = [0]
        self._loops: list[set[_LiveRange]] = []
        self._depths: list[int] = []
        self._opened = self._past = 0

    def read(self, tokens: list[bytes]) -> None:
        """Process the next tokens."""
        for token in tokens:
            if not token:
                continue
            op = token[0]
            if op == LOCAL_GET:
                self._get(token[1] if len(token) == 2 else BinaryReader(token, 1).leb())
            elif op in _SETS:
                self._set(token[1] if len(token) == 2 else BinaryReader(token, 1).leb())
            elif BLOCK <= op <= IF:
                self._open(op)
            elif op == END:
                self._close()
            elif op:
                grows = op == MEMORY_GROW or (op == BULK and token[1] & 0x7F == TABLE_GROW)
                self.branches += 4 if grows else 2 if op == BULK else 1

    def carried(self) -> int:
        """Return the total length of all live ranges in branches."""
        return self._past + sum(life.last - life.first for lives in self._values for life in lives)

    def _visible(self, lives: list[_LiveRange]) -> _LiveRange:
        """Drop the values whose blocks have ended, and return the visible one; the initial value always remains."""
        while True:
            life = lives[-1]
            if life.depth < len(self._blocks) and self._blocks[life.depth] == life.block:
                return life
            self._past += life.last - life.first
            lives.pop()

    def _get(self, index: int) -> None:
        if index >= len(self._values):
            return  # invalid: the engine rejects the module here
        life = self._visible(self._values[index])
        life.last = self.branches
        outermost = bisect_right(self._depths, life.depth)
        if outermost < len(self._loops):
            self._loops[outermost].add(life)

    def _set(self, index: int) -> None:
        if index >= len(self._values):
            return
        self._sets[-1] |= 1 << index
        lives, depth = self._values[index], len(self._blocks) - 1
        life = self._visible(lives)
        if life.depth == depth:
            self._past += life.last - life.first
            life.first = life.last = self.branches
        else:
            lives.append(_LiveRange(depth, self._blocks[-1], self.branches))

    def _open(self, op: int) -> None:
        self._opened += 1
        self._blocks.append(self._opened)
        self._sets.append(0)
        if op == LOOP:
            self._loops.append(set())
            self._depths.append(len(self._blocks) - 1)
        self.deepest = max(self.deepest, len(self._blocks) - 1)
        self.branches += 3 if op == LOOP else 1

    def _close(self) -> None:
        if len(self._blocks) == 1:
            return  # the end of the function
        if self._depths and self._depths[-1] == len(self._blocks) - 1:
            self._depths.pop()
            for life in self._loops.pop():
                life.last = self.branches
        self._blocks.pop()
        sets = self._sets.pop()
        self._sets[-1] |= sets
        self.merged += sets.bit_count()
