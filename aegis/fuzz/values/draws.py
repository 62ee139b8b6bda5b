"""Random draws that generation makes often, in less time than those of :class:`random.Random`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

__all__ = ["drawn", "one_of"]

_Item = TypeVar("_Item")
_MANY = 24
"""Draws from which bytes that choose among 256 items take less time than one random number for each."""


def one_of(rng: Random, items: Sequence[_Item]) -> _Item:
    """Return one of the items."""
    return items[int(rng.random() * len(items))]


def drawn(rng: Random, items: list[_Item], count: int) -> list[_Item]:
    """Return ``count`` items, each drawn from ``items``, of which there are 256 at most.

    If their number is no power of two, some items of a long result are likelier than others by a tenth or so.
    """
    if count < _MANY:
        draw, length = rng.random, len(items)
        return [items[int(draw() * length)] for _ in range(count)]
    table = (items * (256 // len(items) + 1))[:256]
    return list(map(table.__getitem__, rng.randbytes(count)))
