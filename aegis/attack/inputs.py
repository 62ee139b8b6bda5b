"""Inputs of an attack: bytes, with the source, seed and number that reproduce them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

__all__ = ["Artifacts", "AttackInput", "Make", "seeded_random"]

Artifacts: TypeAlias = Sequence[tuple[str, bytes]]
"""The seed corpus: names and contents of artifacts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackInput:
    """Bytes to run. Source, number and the campaign's seed reproduce them.

    ``turn`` seeds the arguments of calls, and selects the grants. It differs from ``number`` only in saved findings.
    """

    source: str
    number: int
    data: bytes
    label: str
    """A description of how the input was generated, for the report."""

    @property
    def turn(self) -> int:
        return self.number


Make: TypeAlias = Callable[[int], AttackInput]
"""A source with its seed and corpus: a function from a number to an input."""


def seeded_random(seed: int, source: str, number: int) -> Random:
    """Return the random generator of one input, which depends on nothing but the arguments."""
    return Random(f"{seed}/{source}/{number}")
