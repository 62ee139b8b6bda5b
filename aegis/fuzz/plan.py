"""What a campaign does, as plain data: every process of it is given the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aegis.policy import Policy

__all__ = ["FUEL", "Plan", "with_fuel"]

FUEL = 1_000_000_000
"""Fuel of one call where the policy has no limit: what a campaign finds must be the same when it is run again."""


def with_fuel(policy: Policy) -> Policy:
    """Return a policy under which fuel is counted, for a deadline ends the same call here and there."""
    if policy.limits.fuel is not None:
        return policy
    return replace(policy, limits=policy.limits.with_(fuel=FUEL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign does, as every process of it knows it."""

    data: bytes
    name: str
    policy: Policy
    """With a limit of fuel: where there is none it becomes :data:`FUEL`."""
    functions: tuple[str, ...] = ()
    oracles: tuple[str, ...] = ()
    """Names; none are the usual ones. ``round-trip:A,B``, ``differential:FILE`` and ``module:function`` besides."""
    hostile: bool = False
    goal: str = ""
    seed: int = 0
    buffers: bool = True
    """Whether an address and a length that a core function takes are one buffer, placed through its allocator."""
    config: str = ""
    flags: tuple[str, ...] = ()
    """The policy file and the flags that made the policy, for the commands that show a finding."""
    others: tuple[tuple[str, bytes], ...] = ()
    """The files that oracles name."""

    own_fuel: bool = False
    """Whether the limit of fuel is :data:`FUEL`, which no other command knows of."""

    def __post_init__(self) -> None:
        if self.policy.limits.fuel is None:
            object.__setattr__(self, "policy", with_fuel(self.policy))
            object.__setattr__(self, "own_fuel", True)
