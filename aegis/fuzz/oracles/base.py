"""The interface of oracles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from aegis.fuzz.case import Finding, Trace

if TYPE_CHECKING:
    from aegis.fuzz.target import Target

__all__ = ["Oracle"]


class Oracle(Protocol):
    """A property of guests that is checked on traces.

    ``name`` is the public name, and ``sentence`` states the property. The search checks one test case in ``every``; 0
    means that the oracle is run at the end of a chunk instead. ``cost`` is the approximate number of calls of one
    check. ``begin`` is called at the start of each chunk.
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
        """Return a slower, more sensitive version of the oracle, for minimisation and replay of one test case."""
        ...

    def judge(self, target: Target, trace: Trace) -> Finding | None:
        """Return a finding if the trace violates the property, else ``None``."""
        ...

    def explained(self, target: Target, found: Finding) -> Finding:
        """Return a minimised finding with more about its cause, if the oracle can find out."""
        ...


class Unexplained:
    """Base class of oracles whose message says everything."""

    def explained(self, target: Target, found: Finding) -> Finding:
        """Return the finding as it is."""
        return found


class Stateless(Unexplained):
    """Base class of oracles that keep no state between test cases."""

    def begin(self, chunk: int) -> None:
        """Do nothing."""

    def thorough(self) -> Self:
        """Return the oracle itself."""
        return self
