"""Campaigns find and minimise every planted bug, find none in clean guests, and are reproducible by seed."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis
from aegis.engine.compile.artifact import read_file
from aegis.errors import AegisError, ArtifactError, CallError, ExportNotFound, PolicyError
from aegis.fuzz import replay
from aegis.fuzz.campaign import Campaign, chunk_calls
from aegis.fuzz.case import Case, HandleRef, Step
from aegis.fuzz.corpus import Corpus
from aegis.fuzz.plan import CampaignPlan, CampaignResult
from aegis.fuzz.portable import read_step, write_step
from aegis.fuzz.report import to_data, to_text
from aegis.fuzz.report_html import to_html
from aegis.fuzz.search import ChunkResult
from aegis.fuzz.target import Target
from aegis.fuzz.worker import WorkerState
from aegis.limits import Limits
from aegis.policy import Policy
from tests.cli.command import COMMAND, ROOT, SECONDS
from tests.cli.command import aegis as command
from tests.guests.catalogue import GUESTS, source

API = "test:buggy/api@0.1.0"
BUGGY: dict[str, tuple[str, Any]] = {
    "off-by-one": ("no-trap", [["sum", [f"[{', '.join(['0'] * 64)}]"]]]),
    "code-point": ("no-trap", [["measure", ['"\\u{feff}"']]]),
    "quadratic": ("scales", [["commas", ['","']]]),
    "leak": ("steady", [["remember", ['""']]]),
    "unchecked-host": ("no-trap", [["price", ["0"]]]),
    "wrong-state": (
        "no-trap",
        [[f"{API}#[constructor]file", []], [f"{API}#[method]file.close", ["#0"]], [f"{API}#[method]file.read", ["#0"]]],
    ),
    "used-after-drop": ("no-trap", None),
    "overflow": ("no-trap", None),
    "empty-list": ("no-trap", [["largest", ["[]"]]]),
    "round-trip": ("round-trip:encode,decode", [["encode", ["-0"]]]),
    "denied-socket": ("no-trap", [["reaches", ["1"]]]),
    "uninitialised": ("deterministic", [["checksum", ['""']]]),
    "unterminated": ("no-trap", [["quoted", ["b'\"'"]]]),
    "long-text": ("no-trap", None),
    "area": ("no-trap", None),
    "magic": ("no-trap", [["version", ["[81, 65, 75, 26]"]]]),
    "protocol": ("no-trap", [["open", []], ["authorise", ["1"]], ["fill", ["10"]], ["commit", []]]),
    "resource-protocol": (
        "no-trap",
        [
            [f"{API}#[constructor]order", []],
            [f"{API}#[method]order.open", ["#0"]],
            [f"{API}#[method]order.authorise", ["#0", "1"]],
            [f"{API}#[method]order.fill", ["#0", "10"]],
            [f"{API}#[method]order.commit", ["#0"]],
        ],
    ),
    "normalise": ("no-trap", None),
    "backwards": ("no-trap", [["elapsed", ["0"]]]),
    "chunks": ("no-trap", [["samples", [str([*b"RIFF", 14, 0, 0, 0, *b"fmt ", 6, *[0] * 9])]]]),
    "checksum": ("no-trap", [["frame", [str([165, 126, 241, 165 ^ 126 ^ 241])]]]),
    "settings": ("no-trap", None),
    "redact": ("scales", None),
    "runs": ("round-trip:encode,decode", [["encode", [f"[{', '.join(['0'] * 256)}]"]]]),
}
DEFAULT_RUNS = ("long-text", "area", "magic", "protocol", "normalise", "backwards", "runs", "chunks", "checksum")
"""Guests in which the bug is found by a default campaign, of 20,000 calls."""
TIMES = float(os.environ.get("AEGIS_EXAMPLES") or 1)
CLEAN = ["components/counter", "shop", "buggy/clean/ledger", "buggy/clean/words"]


def _plan(path: Path, **options: Any) -> CampaignPlan:
    return CampaignPlan(data=read_file(path, Limits()), name=str(path), **{"policy": Policy(), **options})


QUICKLY_FOUND = ("off-by-one", "wrong-state")
"""The planted bugs that usual runs of the tests look for; long ones look for all."""


class Here(Executor):
    """An executor that runs every task synchronously in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def _campaign(path: Path, runs: int = 3000, executor: Executor | None = None, **options: Any) -> CampaignResult:
    campaign = Campaign(_plan(path, **options), runs=runs, executor=executor or Here())
    for _ in campaign.run():
        pass
    return campaign.result


ENDLESS = """(module
  (import "host" "next" (func $next))
  (func (export "repeat") (param $times i32)
    (loop $more
      (call $next)
      (br_if $more (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))"""


def test_calls_of_an_export_that_is_known_not_to_end_get_less_fuel_and_fewer_host_calls(tmp_path: Path) -> None:
    """Oracle: after the finding, a case that would make 100,000 host calls makes a 64th of the limit, and a short one
    is judged as before."""
    limits = Limits(host_calls=64_000)
    (tmp_path / "endless.wat").write_text(ENDLESS)
    data = read_file(tmp_path / "endless.wat", limits)
    plan = CampaignPlan(data=data, name="endless.wat", policy=Policy(limits=limits))
    for coverage in (True, False):
        search = WorkerState(replace(plan, coverage=coverage)).search((), ())
        batch = ChunkResult(0)
        long, short = (Case((Step("repeat", (times,)),)) for times in (100_000, 7))
        assert not search.hurries(long)
        search.explore(long, batch)
        assert [finding.signature for finding in batch.findings] == ["no-limit repeat quota-exceeded/host_calls"]
        assert search.hurries(long)
        made: list[int] = []
        for target in {search.target, getattr(getattr(search, "copies", None), "counting", search.target)}:
            made += [target.run(case, target.hurried).results[0].host_calls for case in (long, short)]
        assert made == [1000, 7] * (1 + coverage)
        before = len(batch.behaviours)
        search.explore(long, batch)
        assert len(batch.behaviours) == before
        search.explore(short, batch)
        assert len(batch.behaviours) > before
        assert len(batch.findings) == 1


def test_every_buggy_guest_is_in_the_table_and_documents_its_bug() -> None:
    table = (GUESTS / "buggy" / "README.md").read_text()
    folders = {path.parent.name for path in (GUESTS / "buggy").glob("*/*.wat")} - {"clean"}
    assert folders == set(BUGGY)
    for name, (oracle, _) in BUGGY.items():
        assert f"[{name}]" in table
        assert oracle in (GUESTS / "buggy" / name / "README.md").read_text()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICKLY_FOUND else [pytest.mark.long]) for name in BUGGY]
)
def test_a_planted_bug_is_found_and_shrunk_to_its_minimal_case(name: str) -> None:
    oracle, minimal = BUGGY[name]
    path = source(f"buggy/{name}")
    result = _campaign(path, 20_000 if name in DEFAULT_RUNS else 3000)
    (finding,) = result.findings.values()
    assert finding["oracle"] == oracle
    if minimal is not None:
        assert finding["steps"] == minimal
    if name == "used-after-drop":
        assert len(finding["steps"]) == 5
    if name == "overflow":
        assert sum(int(text) for text in finding["steps"][0][1]) == 1 << 31
    if name == "area":
        width, height = (int(text) for text in finding["steps"][0][1])
        assert 0 < width <= 100_000 >= height > 0
        assert 1 << 31 <= width * height < (1 << 31) + 100_000
    if name == "long-text":
        assert 65_536 <= len(json.loads(re.sub(r"\\u\{.*?\}", "", finding["steps"][0][1][0]) or '""').encode()) < 66_000
    if name == "settings":
        assert sorted(json.loads(finding["steps"][0][1][0]).split()) == ["level=", "mode=fast"]
    if name == "normalise":
        assert len(json.loads(re.sub(r"\\u\{.*?\}", "_", finding["steps"][0][1][0]))) <= 96
    assert bool(finding["answers"]) == (name in ("unchecked-host", "backwards"))
    assert replay(path, finding) is not None


@pytest.mark.usual("0-components/*", "0-buggy/*")
@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_nothing_is_found_in_a_guest_without_a_bug(name: str, seed: int) -> None:
    runs = round((500 if name == "shop" else 2000) * TIMES)
    result = _campaign(source(name), runs, seed=seed)
    assert result.findings == {}
    assert result.cases >= runs


def test_the_same_seed_does_the_same_whatever_the_executor() -> None:
    path = source("buggy/code-point")
    one = _campaign(path, 2500, seed=3)
    with ThreadPoolExecutor(1) as executor:
        two = _campaign(path, 2500, executor, seed=3)
    other = _campaign(path, 2500, seed=4)
    assert (one.statuses, one.behaviours, one.findings) == (two.statuses, two.behaviours, two.findings)
    assert other.statuses != one.statuses


class Dying(Here):
    """An executor some of whose processes die with their task."""

    def __init__(self, times: int) -> None:
        self.left = times

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.left and args[1] % 3 == 1:
            self.left -= 1
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("a process died"))
            return future
        return super().submit(fn, *args, **kwargs)


def test_chunks_of_a_dying_process_are_repeated_and_counted_once() -> None:
    path = source("buggy/code-point")
    whole, dying = _campaign(path, 2500, seed=3), _campaign(path, 2500, Dying(1), seed=3)
    assert sorted(dying.chunks) == sorted(whole.chunks)
    assert (dying.cases, dying.statuses, dying.findings) == (whole.cases, whole.statuses, whole.findings)


def test_processes_that_always_die_end_the_campaign_with_its_findings() -> None:
    result = _campaign(source("buggy/empty-list"), 5000, Dying(100))
    assert result.lost
    assert result.findings
    assert sorted(result.chunks) == [0, 2, 3]


def test_a_campaign_on_processes_leaves_nothing_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    campaign = Campaign(_plan(source("buggy/empty-list")), runs=1000, jobs=1)
    for _ in campaign.run():
        pass
    assert campaign.result.findings
    assert list(tmp_path.glob("aegis-*")) == []


def test_ctrl_c_keeps_the_findings() -> None:
    class Interrupted(Here):
        count = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.count += 1
            if self.count == 4:
                raise KeyboardInterrupt
            return super().submit(fn, *args, **kwargs)

    result = _campaign(source("buggy/empty-list"), 5000, Interrupted())
    assert result.interrupted


def _children(pid: int) -> list[int]:
    """Return the child processes of a process that run Python code of a campaign."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for task in tasks for word in task.read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_a_campaign_that_was_killed() -> None:
    """Oracle: a worker process that would run for minutes ends when its parent is killed."""
    words = [*COMMAND, "fuzz", "--runs", "none", "--time", "10m", "--jobs", "1", str(source("add"))]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as campaign:
        try:
            until = time.monotonic() + SECONDS
            while not (found := _children(campaign.pid)):
                assert campaign.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)  # there is no event for the start of another process's child
            handles = [os.pidfd_open(child) for child in found]
        finally:
            campaign.kill()
    try:
        for handle in handles:
            assert select.select([handle], [], [], SECONDS)[0], "a worker process outlived its campaign"
    finally:
        for handle in handles:
            os.close(handle)


# -- the corpus ------------------------------------------------------------------------------------------------


def test_a_corpus_keeps_behaviours_and_findings_and_replays_them_first(tmp_path: Path) -> None:
    path = source("buggy/empty-list")
    first = Campaign(_plan(path), runs=800, executor=Here(), corpus=Corpus(tmp_path))
    for _ in first.run():
        pass
    kept = Corpus(tmp_path)
    assert len(kept.entries) == len(first.result.behaviours)
    assert [finding["signature"] for finding in kept.findings] == list(first.result.findings)
    second = Campaign(_plan(path), runs=0, executor=Here(), corpus=kept)
    for _ in second.run():
        pass
    assert second.result.findings.keys() == first.result.findings.keys()
    assert second.result.cases < 1000


def test_lines_of_a_corpus_that_mean_nothing_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"no": 1}\n[1]\nnonsense\n["sig", {"steps": [["largest", ["[1]"]]], "answers": []}, 2]\n'
        '["x", {"steps": [["gone", []]], "answers": []}, 1]\n'
    )
    corpus = Corpus(tmp_path)
    assert corpus.skipped == 1
    campaign = Campaign(_plan(source("buggy/empty-list")), runs=500, executor=Here(), corpus=corpus)
    for _ in campaign.run():
        pass
    assert campaign.result.cases >= 500


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_corpus_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PolicyError, match="cannot be written"):
        Corpus(tmp_path / "corpus")


def test_a_full_disk_does_not_hide_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: Any) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    campaign = Campaign(_plan(source("buggy/empty-list")), runs=1000, executor=Here(), corpus=Corpus(tmp_path))
    monkeypatch.setattr("aegis.fuzz.corpus.write_regular", full)
    for _ in campaign.run():
        pass
    assert len(campaign.result.findings) == 1
    assert [problem.rpartition(": ")[2] for problem in campaign.result.lost] == ["No space left on device"]
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_path_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="cannot be written"):
        Corpus(tmp_path / "file")


# -- oracles ------------------------------------------------------------------------------------------------


def test_a_user_defined_predicate_is_an_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_of_test.py").write_text(
        "def small(function, arguments, outcome):\n"
        '    """Sums are small."""\n'
        "    if outcome.ok and outcome.value >= 10:\n"
        '        raise AssertionError("large")\n'
        "def broken(function, arguments, outcome):\n"
        "    raise KeyError(function)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = _campaign(source("buggy/overflow"), 2000, oracles=("mine_of_test:small",))
    (finding,) = result.findings.values()
    assert finding["text"] == "mine_of_test:small: midpoint: large"
    broken = _campaign(source("buggy/overflow"), 2000, oracles=("no-trap", "mine_of_test:broken"))
    assert broken.lost == ["oracle mine_of_test:broken raised KeyError: 'midpoint'"]
    with pytest.raises(PolicyError, match="no attribute 'missing'"):
        WorkerState(_plan(source("buggy/overflow"), oracles=("mine_of_test:missing",)))


def test_two_components_of_one_world_are_compared() -> None:
    text = """(component (core module $m (func (export "f") (param i32) (result i32) {}))
      (core instance $m (instantiate $m))
      (func (export "f") (param "x" u32) (result u32) (canon lift (core func $m "f"))))"""
    one, two = (_binary(text.format(body)) for body in ("local.get 0", "(i32.and (local.get 0) (i32.const 0xffff))"))
    for other, count in ((one, 0), (two, 1)):
        plan = CampaignPlan(
            data=one, name="one", policy=Policy(), oracles=("differential:two",), others=(("two", other),)
        )
        campaign = Campaign(plan, runs=1000, executor=Here())
        for _ in campaign.run():
            pass
        assert len(campaign.result.findings) == count
    (finding,) = campaign.result.findings.values()
    assert finding["steps"] == [["f", ["65536"]]]


@pytest.mark.usual("1", "60")
@pytest.mark.parametrize("runs", [1, 60, 1100])
def test_a_campaign_makes_few_more_calls_than_requested(runs: int) -> None:
    """A test case that has begun is completed, and has at most a few dozen calls."""
    campaign = Campaign(_plan(source("buggy/overflow")), runs=runs, executor=Here())
    for _ in campaign.run():
        pass
    assert runs <= campaign.result.cases < runs + 100


def test_a_component_of_another_world_is_not_compared() -> None:
    text = """(component (core module $m (func (export "f")))
      (core instance $m (instantiate $m)) (func (export "{}") (canon lift (core func $m "f"))))"""
    plan = CampaignPlan(
        data=_binary(text.format("f")), name="one", policy=Policy(), oracles=("differential:two",),
        others=(("two", _binary(text.format("g"))),),
    )  # fmt: skip
    with pytest.raises(
        PolicyError,
        match=r"oracle differential:two: the other component does not export f: compare components of the same",
    ):
        WorkerState(plan)


def test_a_campaign_without_a_fuel_limit_is_refused_because_it_is_not_reproducible() -> None:
    done = command("fuzz", "--fuel-limit=none", str(source("buggy/overflow")))
    assert done.code == 125
    assert "give a number, such as 1e9" in done.err


def _binary(text: str) -> bytes:
    from aegis.engine.compile.artifact import text_to_binary

    return text_to_binary(text)


def test_an_unknown_oracle_is_reported() -> None:
    for oracle, reported in (
        ("no-traps", "unknown oracle 'no-traps': use no-trap"),
        ("round-trip:a,b", "'a' is not a callable export"),
        ("differential:x", "no component to compare with"),
        ("nowhere:f", "No module named 'nowhere'"),
    ):
        with pytest.raises(PolicyError, match=re.escape(reported)):
            WorkerState(_plan(source("buggy/overflow"), oracles=(oracle,)))


# -- targets and cases ----------------------------------------------------------------------------------------


def test_an_unknown_export_is_reported_and_so_is_an_artifact_without_functions() -> None:
    with pytest.raises(ExportNotFound, match="did you mean midpoint"):
        WorkerState(_plan(source("buggy/overflow"), functions=("midpiont",)))
    with pytest.raises(CallError, match="exports no function"):
        WorkerState(CampaignPlan(data=_binary("(component)"), name="empty", policy=Policy()))
    with pytest.raises(ArtifactError, match="externref"):
        WorkerState(
            CampaignPlan(data=_binary('(module (func (export "f") (param externref)))'), name="refs", policy=Policy())
        )


def test_steps_are_removed_unless_a_later_step_needs_them() -> None:
    case = Case((Step("new", ()), Step("f", (1,)), Step("get", (HandleRef(0),))))
    assert case.without(1, 2) == Case((Step("new", ()), Step("get", (HandleRef(0),))))
    assert case.without(0, 1) is None


def test_a_step_is_written_as_text_and_read_back() -> None:
    runtime = Aegis(cache=False)
    target = Target(runtime, runtime.load_file(source("components/values")))
    import random

    rng = random.Random(5)
    for export in target.exports.values():
        for _ in range(20):
            step = Step(export.name, tuple(shape.random(rng, 16) for shape in export.shapes if shape is not None))
            reported = json.loads(json.dumps(write_step(target, step)))
            assert write_step(target, read_step(target, reported)) == reported
    with pytest.raises((ValueError, AegisError)):
        read_step(target, ["nothing", []])


# -- the report and the command ----------------------------------------------------------------------------------


def test_a_report_is_text_json_and_a_page() -> None:
    path = source("buggy/quadratic")
    result = _campaign(path, 800, goal="slow", seed=1)
    data = to_data(result, "component", {"f": "a handle"})
    json.dumps(data)
    text, page = to_text(data), to_html(data, result)
    assert "finding: scales: commas" in text
    assert "slow: commas(" in text
    assert "left out: f: a handle" in text
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 2
    assert "://" not in page
    assert "<script" not in page


def test_the_command_finds_reports_and_writes(tmp_path: Path) -> None:
    path = source("buggy/empty-list")
    done = command("fuzz", str(path), "--runs", "2000", "--jobs", "1", "--out", str(tmp_path))
    assert done.code == 1
    assert "largest([])" in done.out
    (found,) = tmp_path.glob("no_trap_largest_*.json")
    shown = re.search(r"aegis (run --invoke 'largest\(\[\]\)' \S+)", done.out)
    assert shown is not None
    (test,) = tmp_path.glob("test_*.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        capture_output=True, text=True, timeout=120, check=False, cwd=GUESTS.parent,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    assert "an unreachable instruction" in run.stdout
    replayed = command("fuzz", str(path), "--replay", str(found))
    assert (replayed.code, replayed.out.startswith("still there: ")) == (1, True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["findings"][0]["steps"] == [["largest", ["[]"]]]


def test_a_clean_guest_exits_with_nought() -> None:
    done = command("fuzz", str(source("components/counter")), "--runs", "1000", "--jobs", "1")
    assert done.code == 0
    assert "0 findings" in done.out


@pytest.mark.parametrize(
    ("words", "code", "reported"),
    [
        (["--invoke", "nothing"], 127, "no export 'nothing'"),
        (["--oracle", "nothing"], 125, "unknown oracle 'nothing'"),
        (["--runs", "many"], 125, "--runs"),
        (["--replay", "/nonexistent"], 125, "cannot be read"),
        (["--corpus", "/dev/null/x"], 125, "cannot be written"),
        (["--out", "/dev/null/x"], 125, "cannot be written"),
        (["--out", "/dev/null"], 125, "it is not a directory, or is inside a file: name a directory"),
    ],
)
def test_a_campaign_that_cannot_begin_is_one_clear_line(words: list[str], code: int, reported: str) -> None:
    done = command("fuzz", str(source("buggy/overflow")), *words)
    assert (done.code, done.out) == (code, "")
    assert reported in done.err
    assert done.err.count("\n") == 1


# -- looking for the worst -------------------------------------------------------------------------------------------


def _worst(name: str, goal: str, runs: int = 3000) -> dict[str, Any]:
    result = _campaign(source(name), runs, goal=goal, oracles=("no-trap",))
    return dict(to_data(result, "component", {})["best"][0])


@pytest.mark.long
def test_the_slowest_input_for_its_size_is_looked_for() -> None:
    """Oracle: with the goal, the most fuel per size is more than twice that of the same campaign without it."""
    slow, plain = _worst("buggy/quadratic", "slow"), _worst("buggy/quadratic", "")
    assert slow["fuel"] / slow["size"] > 2 * plain["fuel"] / plain["size"]


@pytest.mark.long
def test_the_chattiest_input_is_measured_by_the_host_calls_of_one_call() -> None:
    worst = _worst("shop", "chatty", 2000)
    assert 0.9 < worst["host_calls"] / worst["size"] <= 1


def test_the_input_that_takes_most_memory_is_looked_for() -> None:
    assert _worst("buggy/leak", "big")["memory"] > 65536


@pytest.mark.parametrize("runs", [1, 999, 1000, 16_001, 80_000, 200_000])
def test_the_chunks_of_a_campaign_have_all_its_calls(runs: int) -> None:
    campaign = Campaign(_plan(source("buggy/magic")), runs=runs)
    calls = [campaign._calls_in(chunk) for chunk in range(200)]
    full = [number for number, one in enumerate(calls) if one == chunk_calls(number)]
    assert sum(calls) == runs
    assert full == list(range(len(full)))
    assert sum(map(bool, calls)) - len(full) <= 1
