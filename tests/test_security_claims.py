"""The figures and names in SECURITY.md match the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aegis.host.net.network import LOOKUPS_AT_ONCE
from aegis.host.net.resolver import RESOLVER_THREADS
from aegis.isolation.confine import Confinement
from aegis.isolation.confine.filter import allowed
from aegis.isolation.parent import compiling
from aegis.isolation.protocol.wit_values import message_budget
from aegis.limits import MIB, Limits
from aegis.policy.isolation import FIELDS, LAYERS, Isolation

TEXT = (Path(__file__).resolve().parents[1] / ".github" / "SECURITY.md").read_text(encoding="utf-8")
FLAT = " ".join(TEXT.split())
NOTHING = Confinement()
EVERYTHING = Confinement(read_fds=(3,), write_fds=(4,), network=True, listens=True)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is ``heading``."""
    lines = TEXT.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def figures(pattern: str) -> list[int]:
    """Return the numbers in the single passage that ``pattern`` matches; each of its groups is a number."""
    found = re.findall(pattern, FLAT)
    assert len(found) == 1, f"{pattern}: {len(found)} times in SECURITY.md"
    groups = found[0] if isinstance(found[0], tuple) else (found[0],)
    return [int(group.replace(",", "")) for group in groups]


def row(name: str) -> str:
    """Return the description of a layer in the table of layers."""
    return next(cells[1] for cells in table("layer") if cells[0] == f"`{name}`")


def test_the_layers_are_those_of_a_worker_in_their_order() -> None:
    assert tuple(cells[0].strip("`") for cells in table("layer")) == LAYERS


def test_the_number_of_system_calls_is_that_of_the_filter() -> None:
    fewest, most = figures(r"all but (\d+) system calls, (\d+) with every grant")
    assert fewest == len(allowed(NOTHING, 1))
    assert most == len(allowed(EVERYTHING, 1))


def test_the_system_calls_that_are_named_as_refused_are_in_no_filter() -> None:
    named = re.findall(r"no `(\w+)`", row("seccomp"))
    assert {"execve", "fork", "ptrace", "kill", "io_uring_setup", "bpf", "socket", "connect", "bind"} == set(named)
    assert not set(named) & set(allowed(EVERYTHING, 1))


@pytest.mark.parametrize(
    ("call", "condition", "without", "granted"),
    [
        ("openat", "only with granted files", Confinement(network=True, listens=True), Confinement(read_fds=(3,))),
        (
            "accept",
            "only with a network that lets it listen",
            Confinement(read_fds=(3,), write_fds=(4,), network=True),
            Confinement(network=True, listens=True),
        ),
    ],
)
def test_a_system_call_that_needs_a_grant_is_in_no_other_filter(
    call: str, condition: str, without: Confinement, granted: Confinement
) -> None:
    assert f"`{call}` {condition}" in row("seccomp")
    assert call not in allowed(without, 1)
    assert call in allowed(granted, 1)


def test_no_filter_allows_a_call_that_changes_metadata_of_a_file() -> None:
    assert "no call that changes owners, modes, times or attributes of a file" in row("seccomp")
    changing = re.compile(r"f?utimes?(at)?|utimensat|.*(chmod|chown|setxattr|removexattr|setattr).*")
    assert not [name for name in allowed(EVERYTHING, 1) if changing.fullmatch(name)]


def test_look_ups_are_bounded_as_documented() -> None:
    assert figures(r"takes at most (\d+) names of a sandbox at the same time") == [LOOKUPS_AT_ONCE]
    assert figures(r"uses at most (\d+) threads of your process") == [RESOLVER_THREADS]


def test_a_message_of_a_worker_takes_no_more_memory_than_documented() -> None:
    times, mib = figures(r"at most (\d+) times `value_bytes` and (\d+) MiB of memory for its values")
    for value_bytes in (4096, 64 * MIB):
        assert message_budget(Limits(value_bytes=value_bytes)) == times * value_bytes + mib * MIB
    assert figures(r"a worker that compiles, (\d+) MiB and (\d+) times the size of the artifact") == [
        compiling._WORLD_BYTES // MIB,
        compiling._WORLD_FACTOR,
    ]


def test_default_limits_are_those_that_are_named() -> None:
    assert figures(r"killed after `grace` \((\d+) ms\)") == [round(Isolation().grace * 1000)]
    assert figures(r"worst whole module of (\d+) MiB") == [(Limits().module_size or 0) // MIB]


def test_the_settings_of_isolation_that_are_named_exist() -> None:
    named = set(re.findall(r"`(grace|compile_\w+|recycle|without|overhead|workers|strict)`", TEXT))
    assert {"grace", "compile_time", "compile_memory", "recycle"} <= named <= set(FIELDS)


def test_each_kind_of_grant_says_what_a_worker_opens() -> None:
    assert [cells[:2] for cells in table("the policy grants")] == [
        ["nothing", "nothing"],
        ["a network", "nothing"],
        ["one directory", "that directory and what lies beneath it"],
        ["a file alone, or several directories", "those, and what lies beneath them"],
    ]
