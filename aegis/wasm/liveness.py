"""Measure the live range of each local of a function, in branches.

WebAssembly's control flow is structured, so one pass suffices. A value set in a block is visible until the block ends;
afterwards the value set outside may be read too. A value is live from the instruction that sets it to its last read,
and through every loop after it that reads it. The result is an upper bound.
"""

from __future__ import annotations

from bisect import bisect_right

from aegis.wasm.binary import BinaryReader

__all__ = ["Liveness"]


class _LiveRange:
    """The live range of one value: the depth and number of the block that sets it, its first and its last branch."""

    __slots__ = ("block", "depth", "first", "last")

    def __init__(self, depth: int, block: int, first: int) -> None:
        self.depth, self.block = depth, block
        self.first = self.last = first


class Liveness:
    """The live ranges of a function's locals, fed with its tokens in order.

    A loop counts as three branches, ``memory.grow`` as four, as in :mod:`aegis.wasm.cost`.
    """

    def __init__(self, count: int) -> None:
        self.branches = self.merged = self.deepest = 0
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
            if op == 0x20:
                self._get(token[1] if len(token) == 2 else BinaryReader(token, 1).leb())
            elif op in (0x21, 0x22):
                self._set(token[1] if len(token) == 2 else BinaryReader(token, 1).leb())
            elif op in (2, 3, 4):
                self._open(op)
            elif op == 0x0B:
                self._close()
            elif op:
                self.branches += 4 if op == 0x40 or (op == 0xFC and token[1] & 0x7F == 0x0F) else 2 if op == 0xFC else 1

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
        if op == 3:
            self._loops.append(set())
            self._depths.append(len(self._blocks) - 1)
        self.deepest = max(self.deepest, len(self._blocks) - 1)
        self.branches += 3 if op == 3 else 1

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
