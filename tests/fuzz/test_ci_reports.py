"""SARIF, JUnit, baselines, exit codes and signals: what a CI server reads of a campaign.

The demands on SARIF are those of its standard, 2.1.0, and of code-scanning services: a version, a tool with rules, and
for each result a known rule, a message, a place with a line, and a fingerprint. JUnit readers demand that the counts of
a suite are those of its test cases, and that a test case has one failure at most.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.fuzz.baseline import Baseline
from aegis.fuzz.junit import to_junit
from aegis.fuzz.sarif import source_of, to_sarif
from tests.cli.command import COMMAND, ROOT, SECONDS
from tests.cli.command import aegis as command
from tests.guests.catalogue import source

TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["\0\x1b[31m", "\ufffe\uffff", "]]>&<'\"", "\u202e"]
)


def _finding(**changes: Any) -> dict[str, Any]:
    return {
        "oracle": "no-trap", "signature": "s", "key": "k", "cause": "c", "text": "t", "steps": [["f", ["1"]]],
        "frames": [], "command": "aegis run", "known": False, **changes,
    }  # fmt: skip


def _data(findings: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    row = {"called": 3, "ok": 3, "error": 0, "trap": 0, "limit": 0, "warning": ""}
    exports = [
        {"name": name, **row} for name in dict.fromkeys(["f", *(f["steps"][-1][0] for f in findings if f["steps"])])
    ]
    return {
        "artifact": "guest.wasm", "seed": 0, "cases": 3, "behaviours": 1, "seconds": 1.5, "problems": [],
        "left_out": {}, "exports": exports, "findings": findings, **changes,
    }  # fmt: skip


FINDINGS = st.lists(
    st.builds(
        _finding, oracle=st.sampled_from(["no-trap", "steady"]) | TEXT, text=TEXT, key=TEXT, signature=TEXT, cause=TEXT,
        command=TEXT, steps=st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=2)).map(list), max_size=3),
        frames=st.lists(TEXT, max_size=3), known=st.booleans(),
    ),
    max_size=5,
)  # fmt: skip


# -- SARIF ------------------------------------------------------------------------------------------------------


def demands(log: Any) -> None:
    """Fail unless a SARIF log meets what its readers demand."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    assert [int(part) for part in driver["semanticVersion"].split(".")[:2]]
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(rules) == len(set(rules))
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert isinstance(run["invocations"][0]["executionSuccessful"], bool)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"].strip()
        assert result["level"] in ("none", "note", "warning", "error")
        place = result["locations"][0]["physicalLocation"]
        uri = place["artifactLocation"]["uri"]
        assert uri
        assert uri.isascii()
        assert not set(uri) & set(' <>"{}|\\^`\n')
        assert place["region"]["startLine"] >= 1
        assert all(isinstance(value, str) and value for value in result["partialFingerprints"].values())
    json.dumps(log, allow_nan=False)


@given(FINDINGS, TEXT.filter(lambda name: "\0" not in name))
def test_any_findings_are_a_sarif_log_that_readers_accept(findings: list[dict[str, Any]], artifact: str) -> None:
    sentences = {"no-trap": "No call traps.", "steady": "Memory does not grow."}
    log = to_sarif(_data(findings, artifact=artifact or "x"), sentences, "1.2.3")
    demands(log)
    assert len(log["runs"][0]["results"]) == len(findings)
    kept = [finding["known"] for finding in findings]
    assert ["suppressions" in result for result in log["runs"][0]["results"]] == kept


@given(st.text("ab c/ü%#?", min_size=1, max_size=12), st.integers(1, 10**6))
def test_a_source_line_in_a_frame_is_the_place_of_a_result(name: str, line: int) -> None:
    file = f"src/{name.replace(' ', '').strip('/')}x.rs"
    frames = ["3: abort at 0x7", f"4: parse at 0x9a ({file}:{line})", "5: f at 0x1 (src/other.rs:9)"]
    assert source_of(frames) == (file, line)
    log = to_sarif(_data([_finding(frames=frames)]), {}, "1.0.0")
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": line}
    assert Path(unquote(place["artifactLocation"]["uri"])) == Path(os.path.normpath(file))
    assert len(log["runs"][0]["results"][0]["stacks"][0]["frames"]) == 3


@pytest.mark.parametrize(
    "frame", ["0: ? at 0x9a", "1: core::slice::index at 0x1f", "2: a::b:c at 0x10", "3: std::fmt::f"]
)
def test_a_frame_without_a_source_line_has_no_place(frame: str) -> None:
    assert source_of([frame]) is None


# -- JUnit ------------------------------------------------------------------------------------------------------


@given(FINDINGS, st.dictionaries(TEXT, TEXT, max_size=2), st.lists(TEXT, max_size=2))
def test_any_result_is_a_junit_document_whose_counts_are_right(
    findings: list[dict[str, Any]], left_out: dict[str, str], problems: list[str]
) -> None:
    data = _data(findings, left_out=left_out, problems=problems)
    suites = ElementTree.fromstring(to_junit(data, 0.0, "host").encode())
    (suite,) = suites
    cases = suite.findall("testcase")
    assert suite.tag == "testsuite"
    assert int(suite.attrib["tests"]) == len(cases)
    for tag, count in (("failure", "failures"), ("skipped", "skipped")):
        assert all(len(case.findall(tag)) <= 1 for case in cases)
        assert int(suite.attrib[count]) == sum(case.find(tag) is not None for case in cases)
    assert int(suite.attrib["errors"]) == bool(problems)
    assert all(case.attrib["name"] is not None and case.attrib["classname"] for case in cases)
    failing = {f["steps"][-1][0] if f["steps"] else None for f in findings if not f["known"]}
    assert int(suite.attrib["failures"]) == len(failing)


def test_an_export_that_was_not_tested_is_skipped_with_the_reason() -> None:
    row = {"name": "g", "called": 0, "ok": 0, "error": 0, "trap": 0, "limit": 0, "warning": "never called: no handle"}
    document = to_junit(_data([], exports=[row]), 0.0, "host")
    assert '<skipped message="never called: no handle" />' in document


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_both_and_a_baseline_makes_the_next_run_pass(tmp_path: Path) -> None:
    guest = source("buggy/empty-list")
    out, sarif, junit = tmp_path / "out", tmp_path / "a.sarif", tmp_path / "a.xml"
    words = ("fuzz", str(guest), "--runs", "1000", "--jobs", "1", "--sarif", str(sarif), "--junit", str(junit))
    assert command(*words, "--out", str(out)).code == 1
    log = json.loads(sarif.read_text())
    demands(log)
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["no-trap"]
    assert {"no-trap", "no-limit", "steady"} <= {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "1"

    known = command(*words, "--baseline", str(out / "report.json"))
    assert known.code == 0
    assert "known finding: no-trap" in known.out
    assert "1 finding, 0 new" in known.out
    assert "suppressions" in json.loads(sarif.read_text())["runs"][0]["results"][0]
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "0"

    other = command("fuzz", str(source("components/counter")), *words[2:6], "--baseline", str(out / "report.json"))
    assert other.code == 0
    assert "baseline: no-trap / largest / unreachable was not found" in other.out


@pytest.mark.parametrize("text", ["no", "[1]", '{"findings": 3}', '{"findings": [{"key": 4}]}', "[[]]"])
def test_a_file_that_is_no_baseline_is_refused_before_the_campaign(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline"
    path.write_text(text)
    done = command("fuzz", str(source("buggy/empty-list")), "--baseline", str(path))
    assert (done.code, done.out) == (125, "")
    assert "name a report.json of aegis fuzz" in done.err


def test_a_report_that_cannot_be_written_is_a_problem_that_keeps_the_findings(tmp_path: Path) -> None:
    done = command(
        "fuzz",
        str(source("buggy/empty-list")),
        "--runs",
        "500",
        "--jobs",
        "1",
        "--junit",
        str(tmp_path / "no" / "x.xml"),
    )
    assert done.code == 125
    assert "finding: no-trap" in done.out
    assert "cannot be written" in done.out


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_a_baseline_knows_as_many_findings_of_a_key_as_it_has(known: list[str], found: list[str]) -> None:
    """Oracle: for each key, the number of known findings is the smaller of the two counts."""
    baseline = Baseline(json.dumps({"findings": [{"key": key} for key in known]}))
    flags = baseline.known([{"key": key, "signature": f"other {key}"} for key in found])
    for key in "abc":
        marked = sum(flag for flag, one in zip(flags, found, strict=True) if one == key)
        assert marked == min(known.count(key), found.count(key))
    assert baseline.absent([{"key": key, "signature": ""} for key in found]) == sorted(set(known) - set(found))


@pytest.mark.parametrize(
    ("what", "name", "code"),
    [
        ("guest", "SIGTERM", 143),
        pytest.param("guest", "SIGHUP", 129, marks=pytest.mark.long),
        pytest.param("--host", "SIGTERM", 143, marks=pytest.mark.long),
    ],
)
def test_a_signal_stops_a_campaign_and_its_report_is_written(tmp_path: Path, what: str, name: str, code: int) -> None:
    """The campaign has no bound; the test waits for its first progress line, which comes after some seconds."""
    target = str(source("components/counter")) if what == "guest" else "--host"
    words = ["-f", "human", "fuzz", target, "--runs", "none", "--jobs", "1", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert "a second" in process.stderr.readline()
        os.killpg(process.pid, getattr(signal, name))
        out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == code, out
    assert "interrupted" in out
    if what == "--host":
        return
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["interrupted"]
    assert report["cases"] > 0


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    script = (
        "import os, signal\nfrom aegis.cli.fuzz_signals import stopped_by_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with stopped_by_signals() as stop:\n    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n    except KeyboardInterrupt:\n"
        "        print(stop.exit_code)\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "143\n"
