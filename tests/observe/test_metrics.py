from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegis.observe import (
    CapabilityChecked,
    Custom,
    ErrorRaised,
    Event,
    ExecutionCompleted,
    ExecutionStarted,
    FuelConsumed,
    GuestLogged,
    HostFunctionCalled,
    MemoryGrew,
    Metrics,
    MetricsSubscriber,
    ModuleLoaded,
    fold,
)


def checked(allowed: bool) -> CapabilityChecked:
    return CapabilityChecked(capability="filesystem", action="read", target="/x", allowed=allowed, rule="r")


RUN: list[Event] = [
    ModuleLoaded(digest="d", size=1, cached=False, seconds=0.5),
    MemoryGrew(before=0, after=65536),
    ExecutionStarted(function="f"),
    HostFunctionCalled(module="m", name="n", seconds=0.25),
    HostFunctionCalled(module="m", name="n", seconds=0.25, ok=False, error="denied"),
    checked(True),
    checked(False),
    MemoryGrew(before=65536, after=131072),
    GuestLogged(level="info", message="m"),
    Custom(name="c"),
    FuelConsumed(fuel=70, limit=100),
    ExecutionCompleted(function="f", status="denied", exit_code=126, seconds=2.0, bytes_in=3, bytes_out=4),
    ErrorRaised(error_kind="denied", blame="guest", message="m"),
]


def test_a_run_in_numbers() -> None:
    metrics = Metrics.of(RUN)
    assert metrics == Metrics(
        executions=1,
        fuel=70,
        seconds=2.0,
        host_seconds=0.5,
        peak_memory=131072,
        host_calls=2,
        denials=1,
        bytes_in=3,
        bytes_out=4,
        logs=1,
        modules=1,
        errors=1,
        outcomes=(("denied", 1),),
    )
    assert metrics.guest_seconds == 1.5
    assert metrics.to_dict()["outcomes"] == {"denied": 1}
    assert metrics.to_dict()["guest_seconds"] == 1.5


def test_statuses_are_counted_by_name() -> None:
    ends = [ExecutionCompleted(function="f", status=s, exit_code=0, seconds=0.0) for s in ("trap", "exited", "trap")]
    assert Metrics.of(ends).outcomes == (("exited", 1), ("trap", 2))


@given(st.lists(st.sampled_from(RUN)), st.lists(st.sampled_from(RUN)))
def test_a_fold_can_be_taken_up_where_it_stopped(first: list[Event], second: list[Event]) -> None:
    subscriber = MetricsSubscriber()
    for event in first + second:
        subscriber(event)
    resumed = Metrics.of(first)
    for event in second:
        resumed = fold(resumed, event)
    assert subscriber.metrics == resumed == Metrics.of(first + second)
