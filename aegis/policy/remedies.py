"""Build the command-line option that would allow a denied request.

The user may copy the option into a shell, but its text comes from the guest, or from a compromised worker. So an option
is never built by joining text: the declaration of the capability parses the denied target as a value of its grants,
builds the option from the parsed value and quotes it. If no option would allow the request, the remedy is empty.
"""

from __future__ import annotations

from aegis.errors import CapabilityDenied
from aegis.policy.capabilities import declaration, row_of
from aegis.support.lean import TYPE_CHECKING
from aegis.text import printable
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.policy.policy import Policy

__all__ = ["denied_reading", "explained"]

_MAX_TARGET_CHARACTERS = 300


def explained(policy: Policy, decision: Decision) -> Decision:
    """Return a raw decision in a form that is safe to show: target escaped, remedy a quoted option or empty.

    In a raw decision ``wanted`` is the missing grant in the guest's terms: a path, a network pattern or the name of a
    capability.
    """
    remedy, rule = "", decision.rule
    if not decision.allowed and row_of(decision.capability) is not None:
        declared = declaration(decision.capability)
        if decision.wanted and declared.remedy is not None:
            remedy = declared.remedy(policy, decision)
        if not remedy and declared.reason is not None:
            rule = declared.reason(policy, decision)
    target = printable(decision.target, _MAX_TARGET_CHARACTERS)
    return decision._replace(target=target, rule=rule, remedy=remedy, wanted="")


def denied_reading(capability: str) -> CapabilityDenied:
    """Return the error for a guest that reads a clock or random bytes without the capability."""
    use = declaration(capability).reading if row_of(capability) is not None else ""
    if not use:
        return CapabilityDenied("denied", capability=printable(capability), target="", remedy="")
    remedy = f"--allow-{capability}"
    return CapabilityDenied(
        f"denied: {use}: grant it with {remedy}", capability=capability, target=capability, remedy=remedy
    )
