"""What a campaign does, as plain data: every process of it is given the same."""

from __future__ import annotations

from dataclasses import dataclass

from aegis.policy import Policy

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign does, as every process of it knows it."""

    data: bytes
    name: str
    policy: Policy
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
