"""Choose a small set of test cases that together show all that a corpus shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence, Set

__all__ = ["cover"]


def cover(features: Sequence[Set[Hashable]], weights: Sequence[float]) -> list[int]:
    """Return the positions of sets whose union is that of all ``features``, in order, preferring small ``weights``.

    For each feature, the rarest first, take the lightest set that has it, unless a taken set has it already. Then drop
    every set, the heaviest first, whose features others have. No proper subset of the result has all features.
    """
    holders: dict[Hashable, list[int]] = {}
    for place, some in enumerate(features):
        for feature in some:
            holders.setdefault(feature, []).append(place)
    taken: set[int] = set()
    covered: set[Hashable] = set()
    for feature in sorted(holders, key=lambda one: (len(holders[one]), repr(one))):
        if feature not in covered:
            best = min(holders[feature], key=lambda place: (weights[place], -len(features[place]), place))
            taken.add(best)
            covered |= features[best]
    times = Counter(feature for place in taken for feature in features[place])
    for place in sorted(taken, key=lambda one: (-weights[one], one)):
        if all(times[feature] > 1 for feature in features[place]):
            taken.remove(place)
            times.subtract(features[place])
    return sorted(taken)
