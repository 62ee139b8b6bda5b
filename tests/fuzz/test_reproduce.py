"""Every finding has a command line that reproduces it, whatever shell metacharacters its values contain."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aegis.fuzz import replay
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.plan import FUEL, CampaignPlan
from aegis.fuzz.report import to_data, with_command
from aegis.fuzz.reproduce import command_of, pytest_file
from aegis.limits import Limits
from aegis.policy import Policy
from tests.cli.command import COMMAND
from tests.cli.command import aegis as command
from tests.guests.catalogue import source

ARGUMENT = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 16))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.gt_u (i32.load8_u (i32.const 64)) (i32.const 127)) (then unreachable))))"""


def _shell(line: str) -> int:
    """Run a line in a shell that has ``aegis`` as a function."""
    program = f'aegis() {{ {shlex.join(COMMAND)} "$@"; }}\n{line}\n'
    return subprocess.run(["sh", "-c", program], capture_output=True, timeout=120, check=False).returncode


def _found(path: Path, runs: int = 6000, **options: Any) -> dict[str, Any]:
    """Return the one finding of a campaign, which has a process of its own: other tests leave threads in this one."""
    plan = CampaignPlan(data=path.read_bytes() if path.suffix == ".wasm" else _binary(path), name=str(path), **options)
    campaign = Campaign(plan, runs=runs)
    for _ in campaign.run():
        pass
    kind = "module" if b"(module" in path.read_bytes() else "component"
    findings = to_data(campaign.result, kind, {})["findings"]
    assert len(findings) == 1, findings
    return dict(findings[0])


def _binary(path: Path) -> bytes:
    from aegis.engine.compile.artifact import read_file

    return read_file(path, Limits())


@pytest.mark.usual("unchecked-host-1")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("empty-list", 134), ("unchecked-host", 1),
        *(pytest.param(*one, marks=pytest.mark.long) for one in (("code-point", 134), ("wrong-state", 1), ("leak", 1))),
    ],
)  # fmt: skip
def test_the_command_of_a_finding_shows_it_again(name: str, code: int) -> None:
    finding = _found(source(f"buggy/{name}"), 3000, policy=Policy())
    assert _shell(finding["command"]) == code


def test_a_program_is_given_its_input_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "it's a program.wat"
    path.write_text(ARGUMENT)
    finding = _found(path, 300, policy=Policy())
    assert "printf" in finding["command"]
    assert _shell(finding["command"]) == 134


def test_the_command_has_the_policy_under_which_it_was_found(tmp_path: Path) -> None:
    path = source("buggy/clean/words")
    done = command("fuzz", "--fuel-limit", "300", "--runs", "1000", "--jobs", "1", "--out", tmp_path, path)
    line = next(line.strip() for line in done.out.splitlines() if line.startswith("  aegis run"))
    assert (done.code, _shell(line)) == (1, 152)
    (test,) = tmp_path.glob("test_*.py")
    assert ", fuel=300)" in test.read_text()


def test_a_reproducer_test_contains_the_non_default_parts_of_the_policy() -> None:
    """Oracle: the printed keywords evaluate to the policy."""
    import aegis

    policy = Policy.from_keywords(
        fuel=7, network=aegis.NetworkCapability(allow=["tcp://10.0.0.1:80", "https://*.example.com"]),
        random=aegis.RandomCapability(seed=3), clock=aegis.ClockCapability.parse("coarse:1ms"),
        environment=aegis.EnvironmentCapability.parse("A=b"), isolation=aegis.Isolation(recycle=3),
    )  # fmt: skip
    reported = {"oracle": "no-trap", "signature": "s", "steps": [["f", []]], "answers": [], "text": 'say """no"""\\'}
    text = pytest_file("x.wasm", reported, policy)
    keywords = text.partition("FINDING, ")[2].partition(")\n    assert")[0]
    assert eval(f"Policy.from_keywords({keywords})", {**vars(aegis), "Policy": Policy}) == policy
    compile(text, "test_it.py", "exec")


def test_a_finding_too_long_for_a_command_line_is_replayed_from_its_file() -> None:
    finding = {
        "oracle": "steady", "signature": "s", "steps": [["f", [f"[{'1, ' * 60_000}1]"]]], "answers": [], "text": "t",
    }  # fmt: skip
    assert "--replay steady_f_" in command_of("x.wasm", "component", finding)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("words", "code", "reported"),
    [
        (["--call", "price(0)", "--answers", "1"], 1, "no-trap: price ended as trap"),
        (["--call", "price(0)", "--answers", "0"], 0, "no findings"),
        (["--call", "price(0"], 2, "invalid call price(0: write NAME(ARGUMENT, …)"),
        (["--call", "price()"], 2, "price takes 1 argument"),
        (["--call", "prize(0)"], 2, "prize is not a callable export"),
        (["--call", "price(0)", "--answers", "-1"], 2, "--answers: expected comma-separated numbers"),
        (["--call", "price(#3)"], 2, "uses a handle that no earlier call returned"),
        (["--call", 'price("x")'], 2, "expected"),
    ],
)
def test_one_case_is_run_from_the_command_line(words: list[str], code: int, reported: str) -> None:
    done = command("fuzz", "--oracle", "no-trap", *words, source("buggy/unchecked-host"))
    assert done.code == code, done.err
    assert reported in (done.out if code < 2 else done.err)


def test_a_campaign_counts_fuel_and_its_commands_say_so_where_it_matters() -> None:
    """Oracle: a replay has the fuel limit of the campaign, which no other command sets by default."""
    reported = {"signature": "s", "steps": [["f", []]], "answers": [], "text": "t"}
    own = CampaignPlan(data=b"", name="x.wasm", policy=Policy())
    assert own.policy.limits == Limits(fuel=FUEL)
    assert replace(own, goal="slow").own_fuel
    assert "--fuel-limit=1000000000" in with_command(own, "module", {**reported, "oracle": "no-limit"})["command"]
    assert "fuel" not in with_command(own, "module", {**reported, "oracle": "no-trap"})["command"]
    given = CampaignPlan(data=b"", name="x.wasm", policy=Policy(limits=Limits(fuel=7)), flags=("--fuel-limit=7",))
    assert given.policy.limits.fuel == 7
    for oracle in ("no-limit", "no-trap"):
        command = with_command(given, "module", {**reported, "oracle": oracle})["command"]
        assert command.count("--fuel-limit") == command.count("--fuel-limit=7") == 1
    assert ", fuel=" not in pytest_file("x.wasm", {**reported, "oracle": "no-limit"}, Policy())


def test_a_finding_that_ran_out_of_fuel_is_still_there_when_it_is_replayed_without_a_policy(tmp_path: Path) -> None:
    path = tmp_path / "endless.wat"
    path.write_text('(module (func (export "f") (loop $again (br $again))))')
    reported = {"oracle": "no-limit", "signature": "s", "steps": [["f", []]], "answers": [], "text": "t"}
    for policy in ({}, {"fuel": 1000}, {"fuel": None}):
        assert "fuel" in (replay(path, reported, **policy) or "")
