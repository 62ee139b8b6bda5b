"""Short forms of capabilities and other names of limits: a keyword takes what its command-line option takes.

Oracle: the policy equals the one that is written out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis import (
    Aegis,
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    FilesystemCapability,
    KeyValueCapability,
    Limits,
    LoggingCapability,
    NetworkCapability,
    Policy,
    PolicyError,
    RandomCapability,
    run,
)

SHORT: list[tuple[str, Any, Any]] = [
    ("network", "tcp://10.0.0.1:5432", NetworkCapability(allow=["tcp://10.0.0.1:5432"])),
    ("network", ["https://a.example", "b.test:443"], NetworkCapability(allow=["https://a.example", "b.test:443"])),
    ("network", (), NetworkCapability()),
    ("network", None, None),
    ("filesystem", "/data", FilesystemCapability.read_only("/data")),
    ("filesystem", Path("/data"), FilesystemCapability.read_only("/data")),
    ("filesystem", ["/data::in", Path("/etc/app")], FilesystemCapability.read_only("/data::in", "/etc/app")),
    ("environment", "LANG", EnvironmentCapability(pass_=["LANG"])),
    ("environment", ["LANG", "TZ=UTC"], EnvironmentCapability(pass_=["LANG"], set={"TZ": "UTC"})),
    ("environment", {"TZ": "UTC"}, EnvironmentCapability(set={"TZ": "UTC"})),
    ("config", "mode=fast", ConfigCapability(set={"mode": "fast"})),
    ("config", {"mode": "fast"}, ConfigCapability(set={"mode": "fast"})),
    ("keyvalue", "cache", KeyValueCapability.parse("cache")),
    ("keyvalue", ["a", "b=memory"], KeyValueCapability(buckets={"a": "memory", "b": "memory"})),
    ("clock", "system", ClockCapability(mode="system")),
    ("random", "seed:42", RandomCapability(seed=42)),
    ("logging", "warn", LoggingCapability(enabled=True, min_level="warn")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "short", "capability"), SHORT, ids=str)
def test_a_keyword_takes_the_text_of_its_option(name: str, short: Any, capability: Any) -> None:
    whole = Policy(**{name: capability})
    assert Policy.from_keywords(**{name: short}) == whole
    assert Aegis(cache=False, **{name: short}).policy == whole
    assert getattr(Aegis.builder(), f"with_{name}")(short).build().policy == whole
    assert Policy.from_keywords(**{name: capability}) == whole


def test_a_path_by_itself_is_never_writable() -> None:
    assert not any(grant.write for grant in Aegis(cache=False, filesystem=["/a", "/b"]).policy.filesystem.paths)


def test_the_builder_adds_a_path_to_earlier_grants() -> None:
    built = Aegis.builder().with_filesystem(FilesystemCapability.read_write("/a")).with_filesystem("/b").build()
    wanted = FilesystemCapability.read_write("/a") + FilesystemCapability.read_only("/b")
    assert built.policy.filesystem == wanted


def test_the_function_run_takes_them_too(tmp_path: Path) -> None:
    module = tmp_path / "m.wat"
    module.write_text('(module (func (export "f")))')
    assert run(module, filesystem=tmp_path, memory_limit="1MiB").ok


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"network": 5}, "network: expected NetworkCapability, not int"),
        ({"network": "ftp://x"}, "'ftp' is not a scheme"),
        ({"network": {"a": "b"}}, "network: expected NetworkCapability, not dict"),
        ({"filesystem": {"/a": "/b"}}, "filesystem: expected FilesystemCapability, not dict"),
        ({"filesystem": [5]}, "filesystem"),
        ({"filesystem": ""}, "filesystem"),
        ({"clock": "sundial"}, "'sundial' is not a mode"),
        ({"clock": ["system"]}, "clock: expected ClockCapability, not list"),
        ({"logging": "loud"}, "'loud' is not a level"),
        ({"config": "mode"}, "write KEY=VALUE"),
        ({"keyvalue": [5]}, "keyvalue"),
    ],
    ids=str,
)
def test_an_invalid_short_form_is_a_policy_error(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy.from_keywords(**keywords)


ALIASES = ("memory", "fuel", "stack", "stdout", "stderr")


@pytest.mark.parametrize("name", ALIASES)
def test_a_limit_also_has_the_name_of_its_option(name: str) -> None:
    value = 1 << 20
    wanted = Limits(**{name: value})  # type: ignore[arg-type]
    alias: dict[str, Any] = {f"{name}_limit": value}
    assert Aegis(cache=False, **alias).policy.limits == wanted
    assert Policy.from_keywords(**alias).limits == wanted
    assert Limits().with_(**alias) == wanted
    assert Aegis.builder().with_limits(**alias).build().policy.limits == wanted


@pytest.mark.parametrize("name", ALIASES)
def test_both_names_of_a_limit_are_an_error(name: str) -> None:
    both: dict[str, Any] = {name: 1 << 20, f"{name}_limit": 1 << 20}
    for give in (Policy.from_keywords, Limits().with_, Aegis.builder().with_limits, Aegis):
        with pytest.raises(PolicyError, match=f"{name} and {name}_limit are one limit: give one of them"):
            give(**both)


def test_a_misspelt_limit_is_still_an_error() -> None:
    with pytest.raises(PolicyError, match="'memory_limt' is not a policy keyword: did you mean"):
        Policy.from_keywords(memory_limt="1MiB")  # type: ignore[arg-type]
