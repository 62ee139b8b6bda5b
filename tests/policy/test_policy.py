"""The policy: a value that grants nothing by default, and describes its grants."""

from __future__ import annotations

import dataclasses

import pytest

import aegis.policy
from aegis.errors import PolicyError
from aegis.limits import Limits
from aegis.policy import (
    ClockCapability,
    EnvironmentCapability,
    FilesystemCapability,
    LoggingCapability,
    NetworkCapability,
    Policy,
    RandomCapability,
    StdioCapability,
)


def test_a_policy_grants_nothing_by_default() -> None:
    assert Policy().describe() == []
    assert Policy() == Policy.from_keywords()
    assert hash(Policy()) == hash(Policy())


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().limits = Limits()  # type: ignore[misc]


def test_a_policy_describes_its_grants() -> None:
    policy = Policy(
        limits=Limits(fuel=None, timeout=None),
        filesystem=FilesystemCapability.read_only("/a::in") + FilesystemCapability.read_write("/b::out"),
        environment=EnvironmentCapability(set=(("A", "secret"),), pass_=("B",)),
        clock=ClockCapability(mode="system"),
        random=RandomCapability(mode="system"),
        logging=LoggingCapability.production(),
        network=NetworkCapability(allow=["https://a"]),
        stdio=StdioCapability(stdin=b"x"),
    )
    assert policy.describe() == [
        "read-only /a as in",
        "read-write /b as out",
        "environment A set",
        "environment B passed on",
        "clock system",
        "random system",
        "logging from info",
        "standard input",
        "network https://a",
        "no limit on timeout",
    ]


def test_a_policy_of_keywords() -> None:
    clock = ClockCapability(mode="system")
    made = Policy.from_keywords(memory="1MiB", fuel=None, clock=clock)
    assert made == Policy(limits=Limits(memory=1 << 20, fuel=None), clock=clock)
    base = Limits(stack=1 << 20)
    assert Policy.from_keywords(limits=base, memory="1MiB").limits == Limits(stack=1 << 20, memory=1 << 20)
    assert Policy.from_keywords(limits=base).limits is base


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"memry": 1}, "'memry' is not a policy keyword: did you mean 'memory'?"),
        ({"limits": 5, "memory": 1}, "limits: expected Limits, not int"),
        ({"limits": {}}, "limits: expected Limits, not dict"),
        ({"clock": 5}, "clock: expected ClockCapability, not int"),
        ({"network": b"a:1"}, "network: expected NetworkCapability, not bytes"),
    ],
)
def test_a_refused_policy(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_keywords(**keywords)
    assert str(caught.value) == message


def test_a_keyword_like_no_other_shows_them_all() -> None:
    with pytest.raises(
        PolicyError, match=r"'xyzzy' is not a policy keyword: use one of clock, complexity, config, connections, d"
    ):
        Policy.from_keywords(xyzzy=1)


def test_the_package_has_its_names_and_no_others() -> None:
    assert all(getattr(aegis.policy, name) is not None for name in aegis.policy.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = aegis.policy.Nothing


def test_proposals_are_checked_and_sorted_wherever_they_are_given() -> None:
    both = Policy(proposals=("wide-arithmetic", "relaxed-simd"))
    assert both == aegis.policy.parse_policy('[engine]\nproposals = ["relaxed-simd", "wide-arithmetic"]')
    for name in ("nope", "gc"):
        with pytest.raises(PolicyError, match=name):
            Policy(proposals=(name,))


def test_limits_are_an_instance_of_limits() -> None:
    with pytest.raises(PolicyError, match="limits: expected Limits, not dict"):
        Policy(limits={"memory": 1})  # type: ignore[arg-type]
