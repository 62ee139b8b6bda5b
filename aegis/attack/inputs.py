"""An input of the attack: bytes, where they come from, and what makes them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

__all__ = ["Artifacts", "Input", "Make", "chance"]

Artifacts: TypeAlias = Sequence[tuple[str, bytes]]
"""Seed artifacts by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Bytes to run. Its source, the campaign's seed and its number make it again.

    ``turn`` chooses what it is called with and what it is granted.
    """

    source: str
    number: int
    data: bytes
    label: str
    """How it was made, for people."""

    @property
    def turn(self) -> int:
        return self.number


Make: TypeAlias = Callable[[int], Input]
"""A source, ready: from a number to an input."""


def chance(seed: int, source: str, number: int) -> Random:
    """Return the randomness of one input: the same for the same three, wherever it runs."""
    return Random(f"{seed}/{source}/{number}")
