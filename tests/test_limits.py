"""Limits and their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis.limits
import aegis.policy
from aegis.errors import PolicyError
from aegis.limits import (
    LIMIT_NAMES,
    Limits,
    format_bytes,
    format_count,
    format_seconds,
    parse_bytes,
    parse_count,
    parse_limit,
    parse_seconds,
    without_aliases,
)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1), (4096.0, 4096), ("1", 1), ("1b", 1), ("1k", 1024), ("1K", 1024), ("2KiB", 2048), ("1kB", 1000),
        ("64MiB", 64 << 20), ("64 MB", 64_000_000), ("1.5GiB", 3 << 29), ("1_000", 1000), (" 3 ", 3), ("1e3", 1000),
        ("1.001MB", 1_001_000), ("4.35kb", 4350), ("1TiB", 1 << 40), ("1tb", 10**12),
    ],
)  # fmt: skip
def test_a_size(value: object, size: int) -> None:
    assert parse_bytes(value) == size
    assert type(parse_bytes(value)) is int


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0), (0.25, 0.25), ("30", 30.0), ("30s", 30.0), ("250ms", 0.25), ("5 us", 5e-6), ("5µs", 5e-6),
        ("5\u03bcs", 5e-6), ("7ns", 7e-9), ("5m", 300.0), ("5min", 300.0), ("1h", 3600.0), ("1.5s", 1.5), ("0.1", 0.1),
        ("0.5ns", 5e-10),
    ],
)  # fmt: skip
def test_a_duration(value: object, seconds: float) -> None:
    assert parse_seconds(value) == seconds


@pytest.mark.parametrize(
    ("value", "number"), [(7, 7), (1e9, 10**9), ("1e9", 10**9), ("1E+9", 10**9), ("10k", 10_000), ("1.5m", 1_500_000),
                          ("2b", 2 * 10**9), ("1g", 10**9)]
)  # fmt: skip
def test_a_count(value: object, number: int) -> None:
    assert parse_count(value) == number
    assert type(parse_count(value)) is int


TOO_LARGE = "the number is not finite or too large: write it like 64MiB"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "'' is not a quantity: write it like 64MiB"),
        ("-1", "'-1' is not a quantity: write it like 64MiB"),
        ("1_", "'1_' is not a quantity: write it like 64MiB"),
        ("_1", "'_1' is not a quantity: write it like 64MiB"),
        ("1 e3", "'1 e3' is not a quantity: write it like 64MiB"),
        ("1e400", "'1e400' is not a quantity: write it like 64MiB"),
        ("\u0661", "'\u0661' is not a quantity: write it like 64MiB"),
        ("\x1b1", "'\\x1b1' is not a quantity: write it like 64MiB"),
        ("9" * 5000, f"'{'9' * 60}… (5000 characters)' is not a quantity: write it like 64MiB"),
        ("12Mi", "'Mi' is not a unit: use one of b, kb, mb, gb, tb, k, m, g, kib, mib, gib, tib"),
        ("1e99", TOO_LARGE),
        (float("nan"), TOO_LARGE),
        (float("inf"), TOO_LARGE),
        (10**400, TOO_LARGE),
        (-(10**400), TOO_LARGE),
        (0, "0 is not a limit: give a positive value, or none for no limit"),
        ("0", "0 is not a limit: give a positive value, or none for no limit"),
        (-1.5, "-1.5 is not a limit: give a positive value, or none for no limit"),
        ("1.5", "'1.5' is not a whole number of bytes"),
        (1.5, "1.5 is not a whole number of bytes"),
        (True, "expected a quantity like 64MiB, not bool"),
        (None, "expected a quantity like 64MiB, not NoneType"),
        (b"1", "expected a quantity like 64MiB, not bytes"),
    ],
)
def test_invalid_sizes(value: object, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_bytes(value, "memory")
    assert str(caught.value) == f"memory: {message}"


def test_invalid_counts_and_durations() -> None:
    with pytest.raises(PolicyError, match=r"^count: '1.5' is not a whole number$"):
        parse_count("1.5")
    with pytest.raises(PolicyError, match=r"^timeout: 'kib' is not a unit: use one of ns, us, ms, s, m, min, h$"):
        parse_seconds("1kib")


@given(st.text(max_size=50) | st.floats() | st.integers())
def test_any_value_is_a_quantity_or_a_policy_error(value: object) -> None:
    for parse in (parse_bytes, parse_seconds, parse_count):
        try:
            assert parse(value) > 0
        except PolicyError:
            continue


@given(st.integers(1, 10**12), st.sampled_from(["", "k", "m", "g"]))
def test_a_count_is_exact(number: int, unit: str) -> None:
    scale = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[unit]
    assert parse_count(f"{number:_}{unit}") == number * scale


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (format_bytes(1), "1 byte"),
        (format_bytes(1000), "1,000 bytes"),
        (format_bytes(1536), "1.5 KiB"),
        (format_bytes(64 << 20), "64 MiB"),
        (format_bytes(4 << 30), "4 GiB"),
        (format_seconds(30), "30 s"),
        (format_seconds(0.0015), "1.5 ms"),
        (format_seconds(2e-6), "2 µs"),
        (format_seconds(5e-9), "5 ns"),
        (format_seconds(86_400), "86,400 s"),
        (format_count(1_000_000), "1,000,000"),
        (format_count(1e6), "1,000,000"),
        (format_count((1 << 63) - 1), "9,223,372,036,854,775,807"),
    ],
)
def test_a_quantity_shown(shown: str, text: str) -> None:
    assert shown == text


# -- limits -------------------------------------------------------------------------------------


def test_every_limit_is_on_by_default() -> None:
    assert Limits().lifted() == ()
    assert all(parse_limit(name, getattr(Limits(), name)) == getattr(Limits(), name) for name in LIMIT_NAMES)


def test_bytes_through_host_calls_are_for_one_call_and_bytes_of_one_value_are_fewer() -> None:
    assert (Limits().host_bytes, Limits().value_bytes) == (1 << 30, 64 << 20)
    made = Limits(host_bytes="2GiB", value_bytes="1.5MiB")  # type: ignore[arg-type]
    assert (made.host_bytes, made.value_bytes) == (2 << 30, 3 << 19)


def test_limits_parse_text_and_keep_their_types() -> None:
    limits = Limits(memory="1MiB", timeout=5, fuel=1e6)  # type: ignore[arg-type]
    assert (limits.memory, limits.timeout, limits.fuel) == (1 << 20, 5.0, 1_000_000)
    assert type(limits.timeout) is float
    assert type(limits.fuel) is int


def test_limits_changed_and_lifted() -> None:
    limits = Limits().with_(memory="1MiB", fuel=None)
    assert limits == Limits(memory=1 << 20)
    assert Limits(timeout=None, fuel=7).lifted() == ("timeout",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stack", None, "stack: this limit cannot be lifted; the maximum is 2 MiB"),
        ("stack", "3MiB", "stack: 3 MiB is out of range: give a value from 16 KiB to 2 MiB"),
        ("stack", 1, "stack: 1 byte is out of range: give a value from 16 KiB to 2 MiB"),
        ("memory", "5GiB", "memory: 5 GiB is out of range: give a value from 1 byte to 4 GiB"),
        ("module_size", "2GiB", "module_size: 2 GiB is out of range: give a value from 1 byte to 1 GiB"),
        ("timeout", "1us", "timeout: 1 µs is out of range: give a value from 1 ms to 31,622,400 s"),
        (
            "table_elements", 10_000_001,
            "table_elements: 10,000,001 is out of range: give a value from 1 to 10,000,000",
        ),
        (
            "fuel", 1 << 63,
            "fuel: 9,223,372,036,854,775,808 is out of range: give a value from 1 to 9,223,372,036,854,775,807",
        ),
    ],
)  # fmt: skip
def test_a_limit_out_of_range(name: str, value: object, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Limits().with_(**{name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [("memry", "'memry' is not a limit: did you mean memory?"), ("xyzzy", "'xyzzy' is not a limit")],
)
def test_an_unknown_limit(name: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Limits().with_(**{name: 1})
    assert str(caught.value) == message


def test_a_limit_and_its_alias_are_one_limit_in_either_order() -> None:
    for names in (("memory", "memory_limit"), ("memory_limit", "memory")):
        with pytest.raises(PolicyError, match="memory and memory_limit are one limit: give one of them"):
            without_aliases(dict.fromkeys(names, 1 << 20))


def test_the_modules_of_limits_and_policies_list_their_public_names() -> None:
    assert dir(aegis.limits) == sorted(aegis.limits.__all__)
    assert dir(aegis.policy) == sorted(aegis.policy.__all__)
