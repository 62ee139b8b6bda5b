"""What knows how to make the values of one type."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Protocol

from aegis.errors import CallError

__all__ = ["Shape", "Unfit"]


class Unfit(CallError):
    """A type of which no value can be made here."""


class Shape(Protocol):
    """How values of one type are made, changed and made simpler."""

    def simplest(self) -> Any:
        """Return the value that nothing is simpler than."""
        ...

    def random(self, rng: Random, size: int) -> Any:
        """Return any value, of about ``size`` characters, elements and parts at most."""
        ...

    def mutate(self, rng: Random, value: Any) -> Any:
        """Return a neighbour of ``value``."""
        ...

    def simpler(self, value: Any) -> Iterator[Any]:
        """Yield strictly simpler values, the most drastic first; taking one again and again ends."""
        ...

    def size(self, value: Any) -> int:
        """Return how many characters, elements and parts it has, at least 1."""
        ...
