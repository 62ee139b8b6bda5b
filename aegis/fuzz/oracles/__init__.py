"""Oracles: what a guest should never do, each a sentence and a judgement of one case that was run.

endings        no trap, no limit, the user's own predicates
agreement      the same again, there and back, another component of the same world
growth         memory that is never given back, work that grows faster than its input
surroundings   the host, untouched
"""

from __future__ import annotations

from aegis.fuzz.oracles.agreement import Deterministic, Differential, RoundTrip, same
from aegis.fuzz.oracles.base import Oracle
from aegis.fuzz.oracles.endings import NoLimit, NoTrap, Predicate
from aegis.fuzz.oracles.growth import Scales, Steady
from aegis.fuzz.oracles.surroundings import HostUntouched

__all__ = [
    "Deterministic", "Differential", "HostUntouched", "NoLimit", "NoTrap", "Oracle", "Predicate", "RoundTrip", "Scales",
    "Steady", "same",
]  # fmt: skip
