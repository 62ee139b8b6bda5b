"""The life of each local in a function body, measured in the branches that it is carried past.

Wasm's control flow is structured, so one pass is enough: a value that is set in a block is known to all that follows
in that block, and is forgotten when the block ends; then the value set before, further out, may be meant too. A value
lives from where it is set to its last read, and throughout every loop after that which reads it. Errs upwards.
"""

from __future__ import annotations

from bisect import bisect_right

from aegis.wasm.binary import Reader

__all__ = ["Lives"]


class _Life:
    """A value's: the block where it is set (its depth and number), and from which branch to which it lives."""

    __slots__ = ("block", "depth", "first", "last")

    def __init__(self, depth: int, block: int, first: int) -> None:
        self.depth, self.block = depth, block
        self.first = self.last = first


class Lives:
    """Takes the tokens of a function in order; a loop counts for three branches, growing a memory for four."""

    def __init__(self, count: int) -> None:
        self.branches = self.merged = self.deepest = 0
        self._values = [[_Life(0, 0, 0)] for _ in range(count)]
        self._blocks = [0]
        self._sets = [0]
        self._loops: list[set[_Life]] = []
        self._depths: list[int] = []
        self._opened = self._past = 0

    def read(self, tokens: list[bytes]) -> None:
        """Follow the next tokens."""
        for token in tokens:
            if not token:
                continue
            op = token[0]
            if op == 0x20:
                self._get(token[1] if len(token) == 2 else Reader(token, 1).leb())
            elif op in (0x21, 0x22):
                self._set(token[1] if len(token) == 2 else Reader(token, 1).leb())
            elif op in (2, 3, 4):
                self._open(op)
            elif op == 0x0B:
                self._close()
            elif op:
                self.branches += 4 if op == 0x40 or token[:2] == b"\xfc\x0f" else 2 if op == 0xFC else 1

    def carried(self) -> int:
        """Return the sum, over locals, of the branches that each is carried past."""
        return self._past + sum(life.last - life.first for lives in self._values for life in lives)

    def _known(self, lives: list[_Life]) -> _Life:
        """Forget the values whose blocks have ended; the first, which the function starts with, always stays."""
        while True:
            life = lives[-1]
            if life.depth < len(self._blocks) and self._blocks[life.depth] == life.block:
                return life
            self._past += life.last - life.first
            lives.pop()

    def _get(self, index: int) -> None:
        if index >= len(self._values):
            return  # not valid: the engine stops here
        life = self._known(self._values[index])
        life.last = self.branches
        outermost = bisect_right(self._depths, life.depth)
        if outermost < len(self._loops):
            self._loops[outermost].add(life)

    def _set(self, index: int) -> None:
        if index >= len(self._values):
            return
        self._sets[-1] |= 1 << index
        lives, depth = self._values[index], len(self._blocks) - 1
        life = self._known(lives)
        if life.depth == depth:
            self._past += life.last - life.first
            life.first = life.last = self.branches
        else:
            lives.append(_Life(depth, self._blocks[-1], self.branches))

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
            return  # the function's own end
        if self._depths and self._depths[-1] == len(self._blocks) - 1:
            self._depths.pop()
            for life in self._loops.pop():
                life.last = self.branches
        self._blocks.pop()
        sets = self._sets.pop()
        self._sets[-1] |= sets
        self.merged += sets.bit_count()
