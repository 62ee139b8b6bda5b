"""The small capabilities: the value that each text parses to, and the texts that are rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.policy import (
    LOG_LEVELS,
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
    StdioCapability,
)


def refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        make()
    assert str(caught.value) == message


# -- environment --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=B", EnvironmentCapability(set=(("A", "B"),))),
        ("A=", EnvironmentCapability(set=(("A", ""),))),
        ("A=B=C", EnvironmentCapability(set=(("A", "B=C"),))),
        ("A", EnvironmentCapability(pass_=("A",))),
    ],
)
def test_an_environment(text: str, expected: EnvironmentCapability) -> None:
    assert EnvironmentCapability.parse(text) == expected


def test_an_environment_of_mappings_and_repeats() -> None:
    made = EnvironmentCapability(set={"A": "1"}, pass_=["B", "B"])  # type: ignore[arg-type]
    assert made == EnvironmentCapability(set=(("A", "1"),), pass_=("B",))
    assert EnvironmentCapability(set=(("A", "1"), ("A", "2"))).set == (("A", "2"),)
    assert hash(made) == hash(EnvironmentCapability(set=(("A", "1"),), pass_=("B",)))


def test_environments_add_up_and_the_later_value_wins() -> None:
    left, right = EnvironmentCapability.parse("A=1"), EnvironmentCapability(set=(("A", "2"),), pass_=("B",))
    assert left + right + right == right


NAME = "is not a variable name: write a non-empty name without '=' and NUL"
PAIRS = 'environment.set: expected names with their values, such as {"TZ": "UTC"}'
PASS = 'environment.pass: expected a list of names, such as ["LANG"]'


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"set": {"": "1"}}, f"environment: '' {NAME}"),
        ({"set": {"A=B": "1"}}, f"environment: 'A=B' {NAME}"),
        ({"set": {5: "1"}}, f"environment: 5 {NAME}"),
        ({"set": {"A": 1}}, "environment: the value of 'A' must be a string, not int"),
        ({"set": {"A": "\0"}}, "environment: the value of 'A' contains a NUL: remove it"),
        ({"set": {"A": "\ud800"}}, "environment: the value of 'A' is not valid Unicode, which WASI strings must be"),
        ({"set": 5}, PAIRS),
        ({"set": ["AB"]}, PAIRS),
        ({"set": [("A",)]}, PAIRS),
        ({"pass_": "A"}, PASS),
        ({"pass_": 5}, PASS),
        ({"pass_": ["\0"]}, f"environment: '\\x00' {NAME}"),
        ({"pass_": ["\ud800"]}, "environment: a name is not valid Unicode, which WASI strings must be"),
    ],
)
def test_a_refused_environment(keywords: dict[str, object], message: str) -> None:
    refused(lambda: EnvironmentCapability(**keywords), message)  # type: ignore[arg-type]


# -- clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("virtual", ClockCapability()),
        ("system", ClockCapability(mode="system")),
        ("deny", ClockCapability(mode="deny")),
        ("coarse", ClockCapability(mode="coarse", resolution_ns=1_000_000)),
        ("coarse:1h", ClockCapability(mode="coarse", resolution_ns=3600 * 10**9)),
        ("coarse:0.1ns", ClockCapability(mode="coarse", resolution_ns=1)),
        ("fixed:1970-01-01", ClockCapability(mode="fixed")),
        ("fixed:2026-01-01T00:00:00Z", ClockCapability(mode="fixed", instant_ns=1_767_225_600 * 10**9)),
        (
            "fixed:2026-01-01T02:00:00.000001+02:00",
            ClockCapability(mode="fixed", instant_ns=1_767_225_600 * 10**9 + 1000),
        ),
    ],
)
def test_a_clock(text: str, expected: ClockCapability) -> None:
    assert ClockCapability.parse(text) == expected


MODES = "use system, coarse:1ms, fixed:2026-01-01T00:00:00Z, virtual or deny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", f"clock: 'x' is not a mode: {MODES}"),
        ("system:", "clock: 'system' takes no value: leave out the colon"),
        ("coarse:x", "clock: the resolution: 'x' is not a quantity: write it like 30s"),
        (
            "coarse:300000000h",
            "clock: the resolution must be at least 1 ns and less than 2^63 ns",
        ),
        ("fixed:soon", "clock: 'soon' is not an instant: write it like fixed:2026-01-01T00:00:00Z"),
        ("fixed:1969-12-31", "clock: the instant must be between 1970 and 2262"),
        ("fixed:9999-01-01", "clock: the instant must be between 1970 and 2262"),
    ],
)
def test_a_refused_clock(text: str, message: str) -> None:
    refused(lambda: ClockCapability.parse(text), message)


def test_a_clock_of_other_types_is_refused() -> None:
    refused(lambda: ClockCapability(resolution_ns=True), "clock: the resolution must be a whole number, not bool")
    refused(
        lambda: ClockCapability(instant_ns=1.5),  # type: ignore[arg-type]
        "clock: the instant must be a whole number, not float",
    )


# -- randomness ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("system", RandomCapability(mode="system")),
        ("deny", RandomCapability(mode="deny")),
        ("seed:42", RandomCapability(seed=42)),
        ("seed:18446744073709551615", RandomCapability(seed=(1 << 64) - 1)),
    ],
)
def test_a_random_source(text: str, expected: RandomCapability) -> None:
    assert RandomCapability.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "random: 'x' is not a mode: use system, seed:42 or deny"),
        ("deny:1", "random: 'deny' takes no value: leave out the colon"),
        ("seed", "random: '' is not a seed: write it like seed:42"),
        ("seed:-1", "random: '-1' is not a seed: write it like seed:42"),
        ("seed:²", "random: '²' is not a seed: write it like seed:42"),
        ("seed:18446744073709551616", "random: the seed must be a whole number below 2^64"),
        ("seed:" + "9" * 5000, "random: the seed must be a whole number below 2^64"),
    ],
)
def test_a_refused_random_source(text: str, message: str) -> None:
    refused(lambda: RandomCapability.parse(text), message)


def test_a_seed_of_another_type_is_refused() -> None:
    refused(lambda: RandomCapability(seed="1"), "random: the seed must be a whole number, not str")  # type: ignore[arg-type]


# -- the log and the streams --------------------------------------------------------------------


def test_the_log() -> None:
    assert not LoggingCapability().enabled
    assert LoggingCapability.production() == LoggingCapability(enabled=True, min_level="info")
    assert LoggingCapability.development().min_level == LOG_LEVELS[0]
    assert LoggingCapability.parse("warn") == LoggingCapability(enabled=True, min_level="warn")


def test_a_refused_log() -> None:
    levels = ", ".join(LOG_LEVELS)
    refused(lambda: LoggingCapability.parse("loud"), f"logging: 'loud' is not a level: use one of {levels}")
    refused(
        lambda: LoggingCapability(enabled=1),  # type: ignore[arg-type]
        "logging: enabled must be true or false, not 1",
    )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"stdin": "x"}, "stdio: stdin 'x' is neither empty, inherit nor file:PATH"),
        ({"stdin": "file:"}, "stdio: stdin names no file: write file:PATH"),
        ({"stdin": "file:a\0"}, "stdio: the path of stdin contains a NUL: remove it"),
        ({"stdin": None}, "stdio: stdin must be empty, inherit, file:PATH or bytes, not NoneType"),
        ({"stdout": "x"}, "stdio: stdout 'x' is neither capture, inherit nor discard"),
        ({"stderr": None}, "stdio: stderr None is neither capture, inherit nor discard"),
    ],
)
def test_refused_streams(keywords: dict[str, object], message: str) -> None:
    refused(lambda: StdioCapability(**keywords), message)  # type: ignore[arg-type]


def test_the_file_of_stdin_starts_at_the_base() -> None:
    made = StdioCapability(stdin="file:in.txt", stdout="discard", stderr="inherit").resolved("/base")
    assert made == StdioCapability(stdin="file:/base/in.txt", stdout="discard", stderr="inherit")
    for stdin in ("empty", "inherit", b"bytes"):
        assert StdioCapability(stdin=stdin).resolved("/base").stdin == stdin


@given(
    st.text(max_size=30) | st.sampled_from(["coarse:", "fixed:", "seed:"]).flatmap(lambda p: st.text().map(p.__add__))
)
def test_any_text_is_a_capability_or_a_policy_error(text: str) -> None:
    for kind in (EnvironmentCapability, ClockCapability, RandomCapability, LoggingCapability):
        try:
            assert kind.parse(text) == kind.parse(text)
        except PolicyError:
            continue


@pytest.mark.parametrize(
    "capability", [ClockCapability, ConfigCapability, EnvironmentCapability, LoggingCapability, RandomCapability]
)
def test_parsed_values_are_text(capability: Any) -> None:
    with pytest.raises(PolicyError, match="expected text, not int"):
        capability.parse(3)
