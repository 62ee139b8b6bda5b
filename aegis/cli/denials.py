"""The lines about requests that the policy denied, each with the option that grants it."""

from __future__ import annotations

from aegis.policy import Policy
from aegis.values import Decision

__all__ = ["denial_line"]


def denial_line(decision: Decision, policy: Policy) -> str:
    """Return the line about one denial."""
    why = f": grant it with {decision.remedy}" if decision.remedy else f": {_why(decision, policy)}"
    if decision.action == "look up" and decision.remedy.rstrip("'").endswith(":PORT"):
        why += ", where PORT is the port that the guest connects to"
    return f"denied: {decision.action} {decision.target} ({decision.capability}){why}"


def _why(decision: Decision, policy: Policy) -> str:
    """Return the reason of a denial without a remedy; a rule from a worker must be known, as it may be forged."""
    network = policy.network
    rules = () if network is None else tuple(f"deny {rule}" for rule in network.deny)
    known = decision.capability == "filesystem" or decision.rule in rules
    return decision.rule if known else "no option allows that"
