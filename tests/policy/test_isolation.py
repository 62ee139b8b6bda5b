"""Isolation options are a value: every field has a range, and an error names its field, key and line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aegis.errors import PolicyError
from aegis.limits import GIB, MIB
from aegis.policy import Policy, parse_policy
from aegis.policy.isolation import FIELDS, LAYERS, Isolation

RANGES = [
    ("workers", 0, 256),
    ("recycle", 0, 1_000_000),
    ("compile_time", 0.1, 86_400.0),
    ("compile_memory", 64 * MIB, 1 << 46),
    ("overhead", 64 * MIB, 1 << 46),
    ("grace", 0.01, 60.0),
]


def test_the_defaults_isolate_with_every_limit_on() -> None:
    assert Isolation() == Isolation(
        strict=False,
        workers=2,
        recycle=0,
        without=(),
        compile_time=60,
        compile_memory=2 * GIB,
        overhead=256 * MIB,
        grace=0.1,
    )
    assert Isolation().lifted() == ()


def test_an_isolation_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Isolation().strict = True  # type: ignore[misc]


def test_every_number_of_it_has_a_tested_range() -> None:
    assert {name for name, _, _ in RANGES} == set(FIELDS) - {"strict", "without"}


@pytest.mark.parametrize(("name", "low", "high"), RANGES, ids=[name for name, _, _ in RANGES])
def test_a_number_at_either_end_of_its_range_is_kept(name: str, low: float, high: float) -> None:
    assert [getattr(Isolation(**{name: end}), name) for end in (low, high)] == [low, high]


@pytest.mark.parametrize(("name", "low", "high"), RANGES, ids=[name for name, _, _ in RANGES])
def test_a_number_out_of_its_range_is_an_error_that_names_the_range(name: str, low: float, high: float) -> None:
    beyond: list[Any] = [high + 1] if low == 0 else [low / 2, high + 1]
    for value in beyond:
        with pytest.raises(PolicyError, match=rf"^isolation: {name} .* is out of range: give a value from "):
            Isolation(**{name: value})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("workers", "2", 2),
        ("recycle", "1k", 1000),
        ("compile_time", "500ms", 0.5),
        ("compile_memory", "1GiB", GIB),
        ("overhead", "128MiB", 128 * MIB),
        ("grace", "50ms", 0.05),
    ],
)
def test_a_number_may_be_text_with_its_unit(name: str, text: str, value: float) -> None:
    assert getattr(Isolation(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"strict": 1}, "isolation: strict must be true or false, not 1"),
        ({"strict": "yes"}, "isolation: strict must be true or false, not 'yes'"),
        ({"workers": -1}, "isolation: workers"),
        ({"workers": False}, "isolation: workers"),
        ({"workers": 1.5}, "isolation: workers"),
        ({"workers": None}, "isolation: workers"),
        ({"recycle": "often"}, "isolation: recycle"),
        ({"overhead": None}, "isolation: overhead"),
        ({"overhead": 0}, "isolation: overhead"),
        ({"grace": None}, "isolation: grace"),
        ({"grace": float("inf")}, "isolation: grace"),
        ({"grace": float("nan")}, "isolation: grace"),
        ({"compile_time": 0}, "isolation: compile_time"),
        ({"compile_memory": "2 cows"}, "isolation: compile_memory"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_that_names_its_field(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Isolation(**fields)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        ("seccomp", "isolation: `without` must be a list such as ['seccomp'], not 'seccomp'"),
        (7, "isolation: `without` must be a list such as ['seccomp'], not 7"),
        (["secomp"], "isolation: 'secomp' is not a layer: did you mean seccomp?"),
        ([3], "isolation: 3 is not a layer: use private-tmp, "),
    ],
)
def test_an_unknown_layer_cannot_be_omitted(without: Any, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Isolation(without=without)
    assert str(caught.value).startswith(reason)


def test_a_skipped_layer_is_reported() -> None:
    policy = parse_policy('[isolation]\nwithout = ["namespaces", "seccomp"]')
    assert policy.isolation == Isolation(without=("namespaces", "seccomp"))
    assert policy.describe() == ["isolation without namespaces", "isolation without seccomp"]


def test_strict_leaves_nothing_out() -> None:
    with pytest.raises(PolicyError, match=r"^isolation: `strict` requires every layer, but `without` names "):
        Isolation(strict=True, without=("seccomp",))


def test_the_layers_are_those_of_the_confinement() -> None:
    from aegis.isolation.confine import _STEPS

    assert tuple(_STEPS) == LAYERS


def test_the_bounds_of_compiling_may_be_lifted_with_a_warning() -> None:
    lifted = Isolation(compile_time=None, compile_memory=None)
    assert lifted.lifted() == ("compile_time", "compile_memory")
    assert Policy(isolation=lifted).describe() == ["no limit on compile_time", "no limit on compile_memory"]
    assert Policy(isolation=Isolation()).describe() == []


def test_layers_that_are_left_out_are_kept_and_said() -> None:
    made = Isolation(without=["seccomp", "no-dump"])  # type: ignore[arg-type]
    assert made.without == ("seccomp", "no-dump")
    assert Policy(isolation=made).describe() == ["isolation without seccomp", "isolation without no-dump"]


@pytest.mark.parametrize("names", ["seccomp", None, 3])
def test_layers_that_are_no_list_are_an_error(names: Any) -> None:
    with pytest.raises(PolicyError, match=r"^isolation: `without` must be a list such as \['seccomp'\], not "):
        Isolation(without=names)


def test_a_layer_that_does_not_exist_is_an_error_that_shows_the_nearest() -> None:
    with pytest.raises(PolicyError, match=r"^isolation: 'secomp' is not a layer: did you mean seccomp\?$"):
        Isolation(without=("secomp",))
    with pytest.raises(PolicyError, match=r"^isolation: 'zzz' is not a layer: use private-tmp, .*, seccomp$"):
        Isolation(without=("zzz",))


def test_strict_with_a_layer_left_out_is_an_error() -> None:
    with pytest.raises(PolicyError, match=r"^isolation: `strict` requires every layer, but `without` names "):
        Isolation(strict=True, without=("seccomp",))


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (None, None),
        (False, None),
        (True, Isolation()),
        ("strict", Isolation(strict=True)),
        ({}, Isolation()),
        ({"workers": 3, "grace": "1s"}, Isolation(workers=3, grace=1.0)),
        (Isolation(recycle=7), Isolation(recycle=7)),
    ],
)
def test_the_meaning_of_policy_keywords(value: object, meaning: Isolation | None) -> None:
    assert Isolation.of(value) == meaning
    assert Policy.from_keywords(isolation=value).isolation == meaning


@pytest.mark.parametrize("value", ["lax", "", 0, 1, ["strict"], Isolation], ids=repr)
def test_a_keyword_of_no_meaning_is_an_error(value: object) -> None:
    with pytest.raises(PolicyError, match=r"^isolation: expected true, false, 'strict' or a dict of fields, not "):
        Policy(isolation=value)  # type: ignore[arg-type]


def test_a_misspelt_field_shows_the_nearest_one() -> None:
    with pytest.raises(PolicyError, match=r"^isolation: 'worker' is not an option: did you mean workers\?$"):
        Isolation.of({"worker": 2})
    with pytest.raises(
        PolicyError,
        match=r"^isolation: 'zzz' is not an option: use strict, workers, .*, grace$",
    ):
        Isolation.of({"zzz": 2})
    with pytest.raises(
        PolicyError,
        match=r"^isolation: 3 is not an option: use strict, workers, ",
    ):
        Isolation.of({3: 2})


# -- the policy file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "isolation"),
    [
        ("", None),
        ("[isolation]\n", Isolation()),
        ("[isolation]\nenabled = true\n", Isolation()),
        ("[isolation]\nenabled = false\nstrict = true\n", None),
        ("isolation = { strict = true }\n", Isolation(strict=True)),
        ('[isolation]\nwithout = ["seccomp"]\n', Isolation(without=("seccomp",))),
        (
            '[isolation]\nworkers = 0\nrecycle = 5\ncompile_time = "10s"\ncompile_memory = "1GiB"\n'
            'overhead = "96MiB"\ngrace = 0.25\n',
            Isolation(
                workers=0, recycle=5, compile_time=10, compile_memory=GIB, overhead=96 * MIB, grace=0.25, strict=False
            ),
        ),
        (
            '[isolation]\ncompile_time = "none"\ncompile_memory = "none"\n',
            Isolation(compile_time=None, compile_memory=None),
        ),
    ],
)
def test_the_table_of_a_policy_file(text: str, isolation: Isolation | None) -> None:
    assert parse_policy(text).isolation == isolation


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '[isolation]\nwithout = "seccomp"\n',
            "policy:2: isolation: `without` must be a list such as ['seccomp'], not 'seccomp'",
        ),
        ("isolation = true\n", "policy:1: 'isolation' must be a table, not true or false"),
        ("\n[isolation]\nworker = 1\n", "policy:3: 'worker' is not a key of isolation: did you mean 'workers'?"),
        ("[isolation]\n\nenabled = 1\n", "policy:3: 'enabled' must be true or false, not a number"),
        ("[isolation]\nworkers = 1\nstrict = 1\n", "policy:3: isolation: strict must be true or false, not 1"),
        ('[isolation]\nworkers = 1\n\ngrace = "none"\n', "policy:4: isolation: grace"),
        (
            "[isolation]\nworkers = 257\n",
            "policy:2: isolation: workers 257 is out of range: give a value from 0 to 256",
        ),
        ("[isolation]\nenabled = false\nworkers = 257\n", "policy:3: isolation: workers 257"),
    ],
)
def test_a_mistake_in_the_table_names_its_line(text: str, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    assert str(caught.value).startswith(reason)
