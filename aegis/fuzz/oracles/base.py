"""What an oracle is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from aegis.fuzz.case import Finding, Seen

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["Oracle"]


class Oracle(Protocol):
    """Judges a case that was run. ``every``: of how many cases one is judged, 0 if it is asked at the end of a chunk.

    ``cost``: in how many calls; ``begin`` is called at the start of each chunk, for what is done but once in one.
    """

    @property
    def name(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def every(self) -> int: ...
    @property
    def cost(self) -> int: ...

    def begin(self, chunk: int) -> None: ...
    def thorough(self) -> Oracle:
        """Return the oracle as it judges when one case is all that matters: in shrinking and replay."""
        ...

    def judge(self, target: Target, seen: Seen) -> Finding | None:
        """Return what there is to object to, or ``None``."""
        ...


class Stateless:
    """An oracle that needs nothing to begin."""

    def begin(self, chunk: int) -> None:
        """Do nothing."""

    def thorough(self) -> Self:
        """Return itself."""
        return self
