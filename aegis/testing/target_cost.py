"""Having hypothesis look for expensive inputs: what a call used is what its search aims at."""

from __future__ import annotations

from hypothesis import target

from aegis.observe.outcome import Outcome

__all__ = ["aim"]


def aim(outcome: Outcome, *, label: str = "") -> Outcome:
    """Have hypothesis look for inputs that use more fuel, memory and host calls; return the outcome.

    Call it once a test case, within ``@given``, for each call that matters, under a ``label`` of its own::

        @given(from_export(component, "parse"))
        def test_parsing_is_cheap(arguments):
            with runtime.sandbox(component) as sandbox:
                assert aim(sandbox.run("parse", *arguments)).usage.fuel < 100_000

    Fuel is a measure where it is limited. What was used is a property of the run, whatever its end. Raise
    ``hypothesis.errors.InvalidArgument`` outside a test, or for a second call under the same label.
    """
    usage = outcome.usage
    prefix = f"{label} " if label else ""
    if usage.fuel is not None:
        target(usage.fuel, label=f"{prefix}fuel")
    target(usage.peak_memory, label=f"{prefix}memory")
    target(usage.host_calls, label=f"{prefix}host calls")
    return outcome
