"""A policy that is written as a policy file is the same policy when it is read again, and merges as before.

Oracles: ``tomllib`` for the notation, and the reader of policy files for the meaning; the keys are those of the table
from which the reader and the reference derive.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
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
    MemoryStore,
    NetworkCapability,
    PathGrant,
    Policy,
    PolicyError,
    RandomCapability,
    StdioCapability,
    dump_policy,
    load_policy,
    parse_policy,
)
from aegis.limits import LIMIT_ROWS
from aegis.policy import file_writer
from aegis.policy.capabilities import CAPABILITIES, declaration
from aegis.policy.keys import all_keys
from aegis.policy.toml_writer import toml_document
from aegis.support.proposals import PROPOSALS

# -- the notation ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.booleans() | st.integers(-(2**63), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ITEMS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3))
DOCUMENTS = st.dictionaries(TEXT, ITEMS, max_size=5)


@given(DOCUMENTS)
def test_a_document_has_its_values_when_it_is_read_again(values: dict[str, Any]) -> None:
    text = toml_document(values)
    assert tomllib.loads(text) == values
    assert text.isascii()
    assert all(" " <= char <= "~" or char == "\n" for char in text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "a.b: a NoneType is an object of the program"), (b"x", "a.b: a bytes is an object of the program"),
        (float("inf"), "a.b: a float is"), (float("nan"), "a.b: a float is"), ([1, object()], "a.b: a object is"),
        ("\ud800", "a.b: text is not valid Unicode"), ([{"c": "\udcff"}], "a.b.c: text is not valid Unicode"),
    ],
)  # fmt: skip
def test_a_value_without_a_notation_is_an_error_with_its_key(value: object, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        toml_document({"a": {"b": value}})


# -- every key -------------------------------------------------------------------------------------

_LIMITS = {
    **{row.name: ("none", 1_000_000 if row.name == "stack" else int(row.low) or 1, int(row.low) + 1)
       for row in LIMIT_ROWS},
    "timeout": ("none", 0.25, "1h"), "stack": (100_000, "1MiB"),
    "memory_bytes": (65_536, 65_537), "timeout_seconds": (1, 2.5),
}  # fmt: skip
SAMPLES: dict[str, dict[str, tuple[Any, ...]]] = {
    "limits": _LIMITS,
    "capabilities.filesystem": {"paths": (["/srv/a"], ["/srv/a::b", {"path": "c d"}], [])},
    "capabilities.filesystem.paths": {
        "path": ("/srv/ü", "rel\"ative\n'\\"), "guest": (".", "/x/\t"), "read": (True, False), "write": (True, False),
    },
    "capabilities.environment": {"set": ({"A": "", "é.b c": '"\x7f\u202e\U0001f600'},), "pass": (["LANG", "A"], [])},
    "capabilities.clock": {
        "mode": ("virtual", "system", "deny", "coarse:1ms", "coarse:100.5h", "coarse:9223372036854775ns",
                 "fixed:2026-01-01T00:00:00Z", "fixed:2100-02-03T04:05:06.789012+01:00"),
    },
    "capabilities.random": {"mode": ("system", "deny", "seed:0", f"seed:{2**64 - 1}")},
    "capabilities.logging": {"enabled": (True, False), "min_level": ("trace", "info", "critical")},
    "capabilities.network": {
        "allow": (
            ["https://a.example", "GET https://*.b.example:8443", "local:1-5", "[2001:db8::/32]:*", "udp://1.2:9"],
        ),
        "deny": (["a.example", "http://private", "tcp://10.0.0.0/8", "https://x:443"],),
        "listen": (["tcp://127.0.0.1:0", "local:*"], []),
    },
    "capabilities.keyvalue": {
        "buckets": ({"a.b": "memory", "c": "sqlite:x/ü.db"}, {}), "max_keys": ("none", 5, "1e4"),
        "max_bytes": ("none", 1025, "16MiB"), "max_value_bytes": ("none", "1kB"), "max_key_bytes": ("none", 1 << 40),
    },
    "capabilities.config": {"set": ({" ": "x", "k": "\0 v"}, {})},
    "engine": {"proposals": ([], [row.name for row in PROPOSALS if row.state == "can be enabled"])},
    "imports": {"provider": ("m:x", "a.b")},
    "isolation": {
        "enabled": (True, False), "strict": (True, False), "workers": (0, 2, 7), "recycle": (0, 9),
        "without": ([], ["seccomp", "landlock-net"]), "compile_time": ("none", "90s", 0.5),
        "compile_memory": ("none", "3GiB"), "overhead": ("256MiB", 67_108_865), "grace": ("100ms", 1),
    },
}  # fmt: skip


def test_there_are_samples_of_every_key() -> None:
    listed = {table: set(known) for table, known in all_keys().items() if table not in ("", "capabilities")}
    assert {table: set(known) for table, known in SAMPLES.items()} == listed
    assert {f"capabilities.{name}" for name in all_keys()["capabilities"]} <= set(SAMPLES)
    assert set(all_keys()[""]) == {"include", *(table.partition(".")[0] for table in SAMPLES)}


def placed(table: str, key: str, value: object) -> dict[str, Any]:
    """Return the values of a policy file that states one key."""
    if table == "capabilities.filesystem.paths":
        return {"capabilities": {"filesystem": {"paths": [{"path": "/srv", key: value}]}}}
    if table == "imports":
        return {"imports": {'acme:"kv"/store@1.0.0': {key: value}}}
    values: dict[str, Any] = {key: value}
    for part in reversed(table.split(".")):
        values = {part: values}
    return values


def test_a_file_with_any_one_key_is_the_same_policy_when_it_is_written() -> None:
    tried = 0
    for table, known in SAMPLES.items():
        for key, samples in known.items():
            for value in samples:
                policy = parse_policy(toml_document(placed(table, key, value)))
                again = parse_policy(dump_policy(policy))
                assert again == policy, (table, key, value)
                assert again.named >= _mergeable(policy.named), (table, key, value)
                tried += 1
    assert tried > 90


def _mergeable(named: frozenset[str]) -> frozenset[str]:
    """Return the named keys that count in a merge even with the default value: those of limits, quotas and modes."""
    lists = {"filesystem.paths", "keyvalue.buckets"} | {f"network.{key}" for key in ("allow", "deny", "listen")}
    return named - lists - {"environment.set", "environment.pass", "config.set"}


def test_a_policy_without_statements_is_an_empty_file() -> None:
    assert dump_policy(Policy()) == ""
    assert dump_policy(parse_policy("")) == ""
    assert dump_policy(Policy(isolation=Isolation())) == "[isolation]\n"
    assert dump_policy(parse_policy("[capabilities.network]")) == "[capabilities.network]\n"


# -- whole policies --------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="=\0"), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SEGMENTS = st.lists(st.sampled_from(["a", "b c", "ü", "\n", '"', "'''", "\u202e"]), min_size=1, max_size=3)
HOSTS = SEGMENTS.map("/".join).map("/srv/{}".format)
STORES = st.just("memory") | HOSTS.map("sqlite:{}".format)
PATTERNS = st.sampled_from(
    ["https://a.example", "PUT http://b.example:81", "tcp://*.c.example:1-2", "public:*", "[::1]:5", "udp://10.0.0.0/8:*"]
)  # fmt: skip
DENIALS = st.sampled_from(["private", "a.example", "https://d.example", "udp://1.1.1.1:53", "[fd00::/8]"])
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "filesystem": st.dictionaries(HOSTS, st.booleans(), max_size=2).map(
        lambda d: FilesystemCapability(
            paths=tuple(PathGrant(host=h, guest=f"/{n}", write=w) for n, (h, w) in enumerate(d.items()))
        ) if not any(a != b and b.startswith(f"{a}/") for a in d for b in d) else FilesystemCapability()
    ),
    "environment": st.builds(
        EnvironmentCapability, set=st.dictionaries(NAMES, VALUES, max_size=3), pass_=st.lists(NAMES, max_size=3)
    ),
    "clock": st.sampled_from(["virtual", "system", "deny"]).map(ClockCapability.parse)
    | st.integers(1, 2**63 - 1).map(lambda ns: ClockCapability(mode="coarse", resolution_ns=ns))
    | st.integers(0, 2**63 // 1000 - 1).map(lambda us: ClockCapability(mode="fixed", instant_ns=us * 1000)),
    "random": st.sampled_from(["system", "deny"]).map(RandomCapability.parse)
    | st.integers(0, 2**64 - 1).map(lambda seed: RandomCapability(seed=seed)),
    "logging": st.builds(LoggingCapability, enabled=st.booleans(), min_level=st.sampled_from(["info", "warn"])),
    "network": st.none() | st.builds(
        NetworkCapability, allow=st.lists(PATTERNS, max_size=4), deny=st.lists(DENIALS, max_size=3),
        listen=st.lists(st.sampled_from(["tcp://127.0.0.1:0", "udp://[::1]:*", "local:80"]), max_size=2),
    ),
    "keyvalue": st.none() | st.builds(
        KeyValueCapability,
        buckets=st.dictionaries(NAMES.filter(str.isprintable), STORES, max_size=2),
        max_keys=st.none() | st.integers(1, 2**200), max_bytes=st.none() | st.integers(1, 2**70),
    ),
    "config": st.builds(ConfigCapability, set=st.dictionaries(NAMES, VALUES, max_size=3)),
}  # fmt: skip
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        row.name: (st.nothing() if row.name == "stack" else st.none()) | (
            st.floats(row.low, row.high) if row.name == "timeout" else st.integers(int(row.low), int(row.high))
        )
        for row in LIMIT_ROWS
    },
).map(lambda given: Limits(**given))  # fmt: skip
ISOLATION = st.none() | st.builds(
    Isolation, strict=st.booleans(), workers=st.integers(0, 256), compile_time=st.none() | st.floats(0.1, 86_400),
    overhead=st.integers(64 << 20, 1 << 46), grace=st.floats(0.01, 60),
)  # fmt: skip
KEYS = [
    *(f"limits.{row.name}" for row in LIMIT_ROWS), "clock.mode", "random.mode", "logging.enabled",
    "logging.min_level", "keyvalue.max_keys", "keyvalue.max_bytes", "isolation.strict", "isolation.workers",
]  # fmt: skip
POLICIES = st.builds(
    Policy, limits=LIMITS, isolation=ISOLATION, named=st.sets(st.sampled_from(KEYS), max_size=8).map(frozenset),
    imports=st.dictionaries(NAMES, st.sampled_from(["m:x", "a.b:C.d"]), max_size=2).map(lambda d: tuple(d.items())),
    proposals=st.sampled_from([(), ("exceptions",)]), **STRATEGIES,
)  # fmt: skip


def test_every_capability_that_a_file_can_state_is_among_the_random_policies() -> None:
    assert set(STRATEGIES) == {row.name for row in CAPABILITIES if declaration(row.name).read is not None}


@given(POLICIES, POLICIES)
def test_a_written_policy_is_the_same_and_merges_the_same(policy: Policy, other: Policy) -> None:
    again = parse_policy(dump_policy(policy))
    assert again == policy
    assert dump_policy(again) == dump_policy(policy)
    earlier = replace(other, network=None, keyvalue=None, filesystem=FilesystemCapability(), isolation=None)
    assert earlier.merged(again) == earlier.merged(policy)
    assert again.merged(earlier) == policy.merged(earlier)


def test_a_file_of_merged_files_states_their_merge(tmp_path: Any) -> None:
    (tmp_path / "base.toml").write_text("limits.fuel = 7\ncapabilities.filesystem.paths = ['data']\n")
    (tmp_path / "more.toml").write_text(
        "include = ['base.toml']\nlimits.fuel = 'none'\n[capabilities.clock]\nmode='virtual'"
    )
    merged = load_policy(tmp_path / "more.toml")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "one.toml").write_text(dump_policy(merged), encoding="ascii")
    again = load_policy(other / "one.toml")
    assert again == merged
    assert again.filesystem.paths[0].host == str(tmp_path / "data")
    assert {"limits.fuel", "clock.mode"} <= again.named


# -- what a file cannot state ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(keyvalue=KeyValueCapability(buckets={"c d": MemoryStore()})),
         "capabilities.keyvalue.buckets.c d: a MemoryStore is an object of the program"),
        (Policy(stdio=StdioCapability(stdin=b"x")), "stdio: a policy file cannot state it, because"),
        (Policy(stdio=StdioCapability(stdout="discard")), "stdio: a policy file cannot state it"),
        (Policy(clock=ClockCapability(mode="fixed", instant_ns=1)), "clock: a policy file has no notation for Clock"),
        (Policy(clock=ClockCapability(resolution_ns=5)), "clock: a policy file has no notation for"),
        (Policy(random=RandomCapability(mode="system", seed=5)), "random: a policy file has no notation for"),
        (Policy(imports=(("a:b/c", "m:x"), ("a:b/c", "m:y"))), "imports: a policy file has no notation for"),
        (Policy(filesystem=FilesystemCapability(paths=(PathGrant(host="/a::b", guest="/x"),))),
         "the host path '/a::b' contains '::'"),
        (Policy(filesystem=FilesystemCapability(paths=(PathGrant(host="/a\udcff", guest="/x"),))),
         "capabilities.filesystem.paths.path: text is not valid Unicode"),
    ],
)  # fmt: skip
def test_a_policy_that_no_file_states_is_an_error(policy: Policy, message: str) -> None:
    with pytest.raises(PolicyError, match=message.replace("(", r"\(")):
        dump_policy(policy)


def test_a_file_that_could_not_be_read_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_writer, "MAX_POLICY_BYTES", 100)
    with pytest.raises(PolicyError, match=r"larger than a policy file may be \(\d+/100 bytes\)"):
        dump_policy(Policy(config=ConfigCapability(set={"k": "v" * 80})))


def test_a_writer_that_the_reader_contradicts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_writer, "_limits", lambda policy: {"fuel": 8})
    with pytest.raises(PolicyError, match="limits: a policy file has no notation for Limits"):
        dump_policy(Policy(limits=Limits(fuel=7)))
