"""Record the denials of stand-ins: a clock or random bytes that the policy does not grant."""

from __future__ import annotations

from collections.abc import Callable

from aegis.errors import CapabilityDenied
from aegis.support.lean import TypeVar
from aegis.values import CallScope, Decision

__all__ = ["reading"]

_Result = TypeVar("_Result")


def reading(scope: CallScope, function: Callable[[], _Result]) -> _Result:
    """Read a clock or random bytes; record a denial before it ends the run."""
    try:
        return function()
    except CapabilityDenied as denial:
        scope.decided(
            Decision(
                capability=denial.capability, action="read", target=denial.target, allowed=False,
                rule=f"{denial.capability} deny", wanted=denial.capability,
            )
        )  # fmt: skip
        raise
