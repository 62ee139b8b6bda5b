"""Make hypothesis search for expensive inputs: report the cost of a call as a target of its search."""

from __future__ import annotations

from hypothesis import target

from aegis.observe.outcome import Outcome

__all__ = ["aim"]


def aim(outcome: Outcome, *, label: str = "") -> Outcome:
    """Make hypothesis maximise the fuel, memory and host calls of a call; return the outcome unchanged.

    Call it inside a ``@given`` test, once per test case and ``label``; use one label for each call of interest::

        @given(from_export(component, "parse"))
        def test_parsing_is_cheap(arguments):
            with runtime.sandbox(component) as sandbox:
                assert aim(sandbox.run("parse", *arguments)).usage.fuel < 100_000

    Fuel is a target only if the policy limits it. Calls that fail count too. Raise
    ``hypothesis.errors.InvalidArgument`` outside a test, or if a label is used twice in a test case.
    """
    usage = outcome.usage
    prefix = f"{label} " if label else ""
    if usage.fuel is not None:
        target(usage.fuel, label=f"{prefix}fuel")
    target(usage.peak_memory, label=f"{prefix}memory")
    target(usage.host_calls, label=f"{prefix}host calls")
    return outcome
