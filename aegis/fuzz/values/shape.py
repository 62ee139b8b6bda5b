"""The interface of shapes, which generate, mutate and shrink the values of one type."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Protocol

from aegis.errors import CallError

__all__ = ["CannotGenerate", "ValueShape"]


class CannotGenerate(CallError):
    """Values of this type cannot be generated: it is a handle or a reference, or every value of it is too large."""


class ValueShape(Protocol):
    """Generates, mutates and shrinks the values of one type."""

    def simplest(self) -> Any:
        """Return the simplest value."""
        ...

    def random(self, rng: Random, size: int) -> Any:
        """Return a random value with at most about ``size`` characters, elements and parts."""
        ...

    def mutate(self, rng: Random, value: Any) -> Any:
        """Return a value that differs a little from ``value``."""
        ...

    def simpler(self, value: Any) -> Iterator[Any]:
        """Yield strictly simpler values, the simplest first. Shrinking repeatedly must terminate."""
        ...

    def size(self, value: Any) -> int:
        """Return the number of characters, elements and parts of a value, at least 1."""
        ...
