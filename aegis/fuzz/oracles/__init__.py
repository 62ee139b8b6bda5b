"""Oracles: each states a property in one sentence and checks the trace of one test case.

endings        no trap, no limit exceeded, the user's own predicates
agreement      determinism, round trips, and comparison with another component of the same world
refused_memory traps after a refused growth of memory
growth         memory leaks, and cost that grows faster than the input
surroundings   the state of the host is unchanged
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
