"""Policies merge like a list of statements: a later scalar wins, grants and denials add.

Oracles: laws (associative, the empty policy changes nothing, no denial is lost, every grant stays), and for scalars a
model that walks the policies from the last one to the first that states the key.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aegis import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    FilesystemCapability,
    Isolation,
    KeyValueCapability,
    Limits,
    LoggingCapability,
    NetworkCapability,
    Policy,
    PolicyError,
    RandomCapability,
    StdioCapability,
    parse_policy,
)
from aegis.cli.options import make_policy
from aegis.policy.capabilities import CAPABILITIES

NAMES = st.sampled_from(["A", "B", "C"])
TEXTS = st.sampled_from(["", "1", "2"])
PAIRS = st.dictionaries(NAMES, TEXTS, max_size=3).map(lambda d: tuple(d.items()))
PATTERNS = st.lists(st.sampled_from(["https://a.example", "tcp://10.0.0.1:5", "b.example:443"]), max_size=2)
DENIALS = st.lists(st.sampled_from(["private", "a.example", "local", "tcp://10.0.0.1:5"]), max_size=2)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    # one guest path for each host path, so that any two of them are compatible
    "filesystem": st.dictionaries(st.sampled_from(["/srv/a", "/srv/b", "/opt/c"]), st.booleans(), max_size=3).map(
        lambda d: FilesystemCapability(
            paths=(*FilesystemCapability.read_only(*(p for p, w in d.items() if not w)).paths,
                   *FilesystemCapability.read_write(*(p for p, w in d.items() if w)).paths)
        )
    ),
    "environment": st.builds(EnvironmentCapability, set=PAIRS, pass_=st.lists(NAMES, max_size=2)),
    "clock": st.sampled_from(["virtual", "system", "coarse:1ms", "deny"]).map(ClockCapability.parse),
    "random": st.sampled_from(["seed:0", "seed:1", "system", "deny"]).map(RandomCapability.parse),
    "logging": st.builds(LoggingCapability, enabled=st.booleans(), min_level=st.sampled_from(["info", "warn"])),
    "stdio": st.builds(StdioCapability, stdin=st.sampled_from(["empty", "inherit", b"x"]),
                       stdout=st.sampled_from(["capture", "discard"])),
    "network": st.none() | st.builds(NetworkCapability, allow=PATTERNS, deny=DENIALS, listen=st.just([])),
    "keyvalue": st.none() | st.builds(
        KeyValueCapability, buckets=st.dictionaries(NAMES, st.sampled_from(["memory", "sqlite:/x.db"]), max_size=2),
        max_keys=st.sampled_from([10_000, 5, None]), max_bytes=st.sampled_from([16 << 20, 9]),
    ),
    "config": st.builds(ConfigCapability, set=PAIRS),
}  # fmt: skip
KEYS = ["limits.timeout", "limits.fuel", "limits.memory", "clock.mode", "random.mode", "logging.enabled",
        "logging.min_level", "keyvalue.max_keys", "keyvalue.max_bytes", "stdio.stdin", "isolation.workers"]  # fmt: skip
POLICIES = st.builds(
    Policy,
    **STRATEGIES,
    limits=st.builds(
        Limits, timeout=st.sampled_from([30.0, 5.0, None]), fuel=st.sampled_from([None, 7]),
        memory=st.sampled_from([64 << 20, 1 << 20]),
    ),
    isolation=st.none() | st.builds(Isolation, strict=st.booleans(), workers=st.sampled_from([2, 0, 5])),
    imports=st.dictionaries(st.sampled_from(["a:b/c", "d:e/f"]), st.sampled_from(["m:x", "m:y"])).map(
        lambda d: tuple(d.items())
    ),
    sources=st.lists(st.sampled_from(["/etc/a.toml", "/etc/b.toml"]), max_size=2, unique=True).map(tuple),
    named=st.sets(st.sampled_from(KEYS)).map(frozenset),
)  # fmt: skip


def whole(policy: Policy) -> tuple[Policy, tuple[str, ...]]:
    """Return a policy in a form that compares the files that it came from too."""
    return policy, policy.sources


def test_every_capability_has_a_strategy() -> None:
    assert set(STRATEGIES) == {row.name for row in CAPABILITIES}


@given(POLICIES, POLICIES, POLICIES)
def test_merging_is_associative(first: Policy, second: Policy, third: Policy) -> None:
    left, right = first.merged(second).merged(third), first.merged(second.merged(third))
    assert whole(left) == whole(right)
    assert left.named == right.named


@given(POLICIES)
def test_the_empty_policy_changes_nothing(policy: Policy) -> None:
    assert whole(policy.merged(Policy())) == whole(Policy().merged(policy)) == whole(policy)
    assert policy.merged(Policy()).named == Policy().merged(policy).named == policy.named


@given(POLICIES)
def test_merging_a_policy_with_itself_changes_nothing(policy: Policy) -> None:
    assume(policy.environment.pass_ == () or policy.environment.set == ())  # a name in both moves to the end
    assert policy.merged(policy) == policy


@given(st.lists(POLICIES, min_size=1, max_size=4))
def test_no_denial_and_no_confinement_is_lost(policies: list[Policy]) -> None:
    merged = policies[0]
    for policy in policies[1:]:
        merged = merged.merged(policy)
    for policy in policies:
        if policy.network is not None:
            assert merged.network is not None
            assert set(policy.network.deny) <= set(merged.network.deny)
        if policy.isolation is not None:
            assert merged.isolation is not None
            assert merged.isolation.strict or not policy.isolation.strict
    if any("tcp://10.0.0.1:5" in map(str, p.network.deny) for p in policies if p.network is not None):
        assert merged.network is not None
        assert not merged.network.decide("tcp", "10.0.0.1", 5)


@given(POLICIES, POLICIES)
def test_every_grant_of_both_stays(first: Policy, second: Policy) -> None:
    merged = first.merged(second)
    for policy in (first, second):
        for grant in policy.filesystem.paths:
            held = next(g for g in merged.filesystem.paths if g.guest == grant.guest)
            assert (held.host, held.write) >= (grant.host, grant.write)
        if policy.network is not None:
            assert merged.network is not None
            assert set(policy.network.allow) <= set(merged.network.allow)
        if policy.keyvalue is not None:
            assert merged.keyvalue is not None
            assert set(dict(policy.keyvalue.buckets)) <= set(dict(merged.keyvalue.buckets))
        assert set(dict(policy.config.set)) <= set(dict(merged.config.set))
        assert set(dict(policy.imports)) <= set(dict(merged.imports))


def value_of(policy: Policy, key: str) -> object:
    """Return the value of a scalar key; the mode of clock and of random is the whole statement."""
    name, _, field = key.partition(".")
    part = getattr(policy, name)
    return part if field == "mode" else getattr(part, field)


@given(st.lists(POLICIES, min_size=2, max_size=4), st.sampled_from(KEYS))
def test_the_last_policy_that_states_a_scalar_decides_it(policies: list[Policy], key: str) -> None:
    """A policy states a key if it names it or has another value than the default."""
    kinds = {"keyvalue": KeyValueCapability(), "isolation": Isolation()}
    plain = Policy(**kinds)  # type: ignore[arg-type]
    have = [p for p in policies if getattr(p, key.partition(".")[0]) is not None]
    merged = policies[0]
    for policy in policies[1:]:
        merged = merged.merged(policy)
    if not have:
        assert getattr(merged, key.partition(".")[0]) is None
        return
    stating = [p for p in have if key in p.named or value_of(p, key) != value_of(plain, key)]
    assert value_of(merged, key) == value_of((stating or [plain])[-1], key)


# -- examples ---------------------------------------------------------------------------------------


def merged(*texts: str) -> Policy:
    """Return the merge of policy files."""
    policy = Policy()
    for text in texts:
        policy = policy.merged(parse_policy(text, base="/base"))
    return policy


def test_a_file_overrides_the_limits_that_it_names_and_leaves_the_others() -> None:
    base = "[limits]\ntimeout = '5s'\nmemory = '1MiB'\nfuel = 7"
    made = merged(base, "[limits]\ntimeout_seconds = 30\nfuel = 'none'")
    assert made.limits == Limits(timeout=30, memory=1 << 20, fuel=None)


def test_a_file_resets_a_mode_only_by_naming_it() -> None:
    base = "[capabilities.clock]\nmode = 'system'\n[capabilities.random]\nmode = 'deny'"
    assert merged(base, "[capabilities.clock]\n").clock == ClockCapability(mode="system")
    assert merged(base, "[capabilities.clock]\nmode = 'virtual'").clock == ClockCapability()
    assert merged(base, "[capabilities.random]\nmode = 'seed:0'").random == RandomCapability()


def test_the_reader_keeps_the_keys_that_were_named() -> None:
    text = (
        "[limits]\nmemory_bytes = 67108864\n[capabilities.keyvalue]\nmax_keys = 10000\nbuckets = {}\n"
        "[capabilities.logging]\nmin_level = 'info'\n[isolation]\nenabled = true\nworkers = 2\n"
    )
    policy = parse_policy(text)
    assert policy == Policy(keyvalue=KeyValueCapability(), isolation=Isolation())
    assert policy.named == {
        "limits.memory", "keyvalue.max_keys", "keyvalue.buckets", "logging.min_level", "isolation.workers",
    }  # fmt: skip


def test_a_variable_comes_from_the_later_statement_whether_set_or_passed() -> None:
    first = "[capabilities.environment]\nset = { TZ = 'UTC', A = '1' }"
    made = merged(first, "[capabilities.environment]\npass = ['TZ']").environment
    assert made == EnvironmentCapability(set={"A": "1"}, pass_=["TZ"])  # type: ignore[arg-type]
    again = merged(first, "[capabilities.environment]\npass = ['TZ']", "[capabilities.environment]\nset = { TZ = 'x' }")
    assert dict(again.environment.set) == {"A": "1", "TZ": "x"}


def test_isolation_that_one_file_switches_on_stays_on() -> None:
    made = merged(
        "[isolation]\nstrict = true\nworkers = 5", "[isolation]\nenabled = false", "[isolation]\ngrace = '1s'"
    )
    assert made.isolation == Isolation(strict=True, workers=5, grace=1.0)
    assert merged("[isolation]\nenabled = false").isolation is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            "[capabilities.filesystem]\npaths = ['/a::x']",
            "[capabilities.filesystem]\npaths = ['/b::x']",
            "both '/a' and",
        ),
        ("[isolation]\nstrict = true", "[isolation]\nwithout = ['seccomp']", "`strict` requires every layer"),
    ],
)
def test_statements_that_contradict_each_other_are_an_error(first: str, second: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        merged(first, second)


def options(**given: Any) -> dict[str, Any]:
    """Return the parsed options of a command line."""
    return {"isolate": None, **given}


def test_an_option_overrides_the_file_even_by_a_default(tmp_path: Any) -> None:
    path = tmp_path / "aegis.toml"
    path.write_text(
        "[limits]\ntimeout = '5s'\nmemory = '1MiB'\n[capabilities.clock]\nmode = 'system'\n"
        "[capabilities.logging]\nenabled = true\nmin_level = 'warn'\n[capabilities.network]\ndeny = ['private']\n"
        "[capabilities.keyvalue]\nmax_keys = 5\n[isolation]\nworkers = 5\n"
    )
    given = options(
        allow_clock="virtual", allow_logging="info", limit_timeout="30s", allow_net=("public:*",), isolate="strict",
        allow_keyvalue=("b",), allow_env=("A=1",),
    )  # fmt: skip
    policy = make_policy([str(path)], given, capture=False)
    assert policy.clock == ClockCapability()
    assert policy.logging == LoggingCapability(enabled=True, min_level="info")
    assert (policy.limits.timeout, policy.limits.memory) == (30.0, 1 << 20)
    assert policy.network == NetworkCapability(allow=["public:*"], deny=["private"])
    assert policy.keyvalue == KeyValueCapability(buckets={"b": "memory"}, max_keys=5)
    assert policy.isolation == Isolation(strict=True, workers=5)
    assert policy.environment == EnvironmentCapability(set=(("A", "1"),))
    assert policy.stdio == StdioCapability(stdout="inherit", stderr="inherit", sigpipe=True)
    assert policy.sources == (str(path),)
