"""Cases come in and go out, a corpus becomes small, a campaign goes on where it ended, and runs are counted exactly."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.fuzz.campaign import ROUND_CHUNKS, Campaign
from aegis.fuzz.case import Case, Step
from aegis.fuzz.continuation import STATE_FILE, SavedCampaign, to_state
from aegis.fuzz.corpus import Corpus
from aegis.fuzz.exchange import export_cases, import_cases
from aegis.fuzz.plan import CampaignResult
from aegis.fuzz.portable import read_case, write_case
from aegis.fuzz.program_words import GivenWords, parse_words
from aegis.fuzz.set_cover import cover
from aegis.fuzz.target import Target
from aegis.fuzz.values.buffers import Buffer
from aegis.fuzz.worker import WorkerState
from tests.cli.command import aegis as command
from tests.fuzz.test_campaign import Here, _campaign, _plan
from tests.guests.catalogue import source


def _target(path: Path) -> Target:
    return WorkerState(_plan(path)).target


# -- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.usual("empty-list-0", "leak-2", "wrong-state-47")
@pytest.mark.parametrize(
    ("name", "runs"), [("empty-list", 0), ("wrong-state", 1), ("wrong-state", 47), ("wrong-state", 1001), ("leak", 2)]
)
def test_a_campaign_runs_exactly_as_many_calls_as_it_was_told(name: str, runs: int) -> None:
    result = _campaign(source(f"buggy/{name}"), runs)
    assert result.cases == runs
    assert sum(result.statuses.values()) <= runs


def test_calls_of_a_corpus_come_on_top_of_the_runs(tmp_path: Path) -> None:
    path = source("buggy/empty-list")
    first = Campaign(_plan(path), runs=500, executor=Here(), corpus=Corpus(tmp_path))
    list(first.run())
    second = Campaign(_plan(path), runs=500, executor=Here(), corpus=Corpus(tmp_path))
    list(second.run())
    assert second.result.cases == 500
    assert second.result.replayed >= len(first.result.behaviours)


# -- continuing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["buggy/wrong-state", pytest.param("buggy/code-point", marks=pytest.mark.long)])
def test_a_campaign_that_was_continued_finds_the_same_as_one_that_ran_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Oracle: two rounds in one campaign, and in two campaigns with a file in between."""
    monkeypatch.setattr("aegis.fuzz.campaign.CHUNK_CALLS", 150)
    path, size = source(name), 150 * ROUND_CHUNKS
    whole = _campaign(path, 2 * size, seed=3)
    (tmp_path / STATE_FILE).write_text(json.dumps(to_state(_campaign(path, size, seed=3))))
    saved = SavedCampaign(str(tmp_path))
    assert saved.seed == 3
    second = Campaign(_plan(path, seed=3), runs=size, executor=Here(), resumed=saved.result(_plan(path, seed=3)))
    list(second.run())
    for attribute in ("cases", "chunks", "calls", "findings", "behaviours", "errors"):
        assert getattr(second.result, attribute) == getattr(whole, attribute), attribute
    assert [(cases, seen) for _, cases, seen in second.result.line] == [(cases, seen) for _, cases, seen in whole.line]
    assert all(a[0] <= b[0] for a, b in zip(second.result.line, second.result.line[1:], strict=False))


def test_the_command_continues_a_campaign_by_its_directory(tmp_path: Path) -> None:
    out, words = str(tmp_path / "out"), ("--jobs", "1", "--runs", "1000")
    assert command("fuzz", str(source("buggy/empty-list")), *words, "--seed", "5", "--out", out).code == 1
    done = command("-f", "json", "fuzz", "--continue", out, *words)
    assert done.code == 1
    assert (done.document["seed"], done.document["cases"]) == (5, 2000)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["cases"] == 2000


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["--hostile-host"], "ran with other options: leave out --hostile-host, or"),
        (["--memory-limit", "1MiB"], "ran with other options: leave out --memory-limit=1MiB, or"),
        (["--seed", "4"], "--continue keeps the seed"),
        (["components/counter"], "has changed since the campaign"),
    ],
)
def test_a_campaign_is_not_continued_with_other_options(tmp_path: Path, words: list[str], reported: str) -> None:
    out = str(tmp_path / "out")
    command("fuzz", str(source("buggy/empty-list")), "--runs", "10", "--jobs", "1", "--out", out)
    other = [str(source(word)) if "/" in word else word for word in words]
    done = command("fuzz", "--continue", out, *other)
    assert done.code in (2, 125)
    assert reported in done.err


def test_options_that_a_continued_campaign_lacks_are_named(tmp_path: Path) -> None:
    plan = _plan(
        source("buggy/empty-list"), flags=("--fuel-limit=1e6",), buffers=False, coverage=False, max_size=9,
        functions=("largest",), skip=("a", "b"), examples=(("largest([])",),), goal="slow",
    )  # fmt: skip
    (tmp_path / STATE_FILE).write_text(json.dumps(to_state(CampaignResult(plan=plan))))
    saved = SavedCampaign(str(tmp_path))
    with pytest.raises(PolicyError) as caught:
        saved.result(replace(plan, flags=(), buffers=True, coverage=True, max_size=1 << 17, functions=(), skip=("b",),
            examples=(), goal="big"))  # fmt: skip
    assert str(caught.value).partition("options: ")[2].split(", ") == [
        "add --invoke=largest", "add --find=slow", "leave out --find=big", "add --no-buffers", "add --fuel-limit=1e6",
        "add --coverage=off", "--example differs", "add --max-size=9", "add --skip=a", "or start a new campaign",
    ]  # fmt: skip
    saved.result(plan)


@given(st.data())
def test_no_damaged_state_is_continued(data: st.DataObject) -> None:
    """Oracle: a state with a part replaced by another value is refused by one error, or it has the same form."""
    state = json.loads(json.dumps(to_state(_SMALL)))
    key = data.draw(st.sampled_from(sorted(state)))
    state[key] = data.draw(
        st.sampled_from([None, 3, "x", [], {}, [[1, 2]], [{"a": 1}], {"f": 3}, {"f": {"g": "h"}}, [[]]])
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / STATE_FILE).write_text(json.dumps(state))
        try:
            result = SavedCampaign(folder).result(_SMALL.plan)
        except PolicyError:
            return
    json.dumps(to_state(result))


_SMALL = _campaign(source("buggy/empty-list"), 300)


# -- import and export ----------------------------------------------------------------------------------------------


def test_raw_inputs_become_arguments_of_the_exports_that_can_hold_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"caf\xc3\xa9")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c").write_bytes(b"")
    cases, unused = import_cases(_target(source("buggy/code-point")), [str(tmp_path)])
    assert [case["steps"] for case in cases] == [[["measure", ['"café"']]], [["measure", ['""']]]]
    assert unused == 1  # the bytes are not UTF-8
    cases, unused = import_cases(_target(source("buggy/unterminated")), [str(tmp_path / "b")])
    assert [case["steps"] for case in cases] == [[["quoted", ["b'\\xff\\xfe'"]]]]


def test_an_imported_case_finds_the_bug_without_a_generated_one(tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes("\ufeff".encode())
    campaign_words = ("--runs", "0", "--jobs", "1")
    found = command("fuzz", str(source("buggy/code-point")), *campaign_words, "--import", str(tmp_path))
    assert (found.code, "finding: no-trap" in found.out) == (1, True)
    assert command("fuzz", str(source("buggy/code-point")), *campaign_words).code == 0


def test_findings_reports_and_corpora_can_be_imported(tmp_path: Path) -> None:
    path = source("buggy/empty-list")
    target = _target(path)
    campaign = Campaign(_plan(path), runs=1000, executor=Here(), corpus=Corpus(tmp_path / "corpus"))
    list(campaign.run())
    finding = next(iter(campaign.result.findings.values()))
    (tmp_path / "finding.json").write_text(json.dumps(finding))
    (tmp_path / "report.json").write_text(json.dumps({"findings": [finding]}))
    (tmp_path / "other.json").write_text(json.dumps({"steps": [["gone", []]]}))
    for name, number in (("finding.json", 1), ("report.json", 1), ("other.json", 0)):
        cases, unused = import_cases(target, [str(tmp_path / name)])
        assert (len(cases), unused) == (number, 1 - number)
    cases, _ = import_cases(target, [str(tmp_path / "corpus")])
    assert len(cases) == len(Corpus(tmp_path / "corpus").entries) + len(campaign.result.findings)


def test_a_path_that_does_not_exist_cannot_be_imported(tmp_path: Path) -> None:
    done = command("fuzz", str(source("buggy/empty-list")), "--import", str(tmp_path / "missing"))
    assert (done.code, "does not exist" in done.err) == (125, True)


@given(st.lists(st.text(max_size=20) | st.binary(max_size=20), max_size=5))
def test_exported_cases_are_imported_again(values: list[str | bytes]) -> None:
    """Oracle: the set of cases after export and import is that before, also with answers and several steps."""
    import tempfile

    for name, function in (("buggy/code-point", "measure"), ("buggy/unterminated", "quoted")):
        target = _target_of(name)
        made = [value.encode() if isinstance(value, str) else value for value in values]
        texts = [Buffer(one) if function == "quoted" else one.decode("utf-8", "replace") for one in made]
        cases = [Case((Step(function, (text,)),)) for text in texts]
        cases += [Case((*case.steps, *case.steps), case.answers) for case in cases[:2]]
        with tempfile.TemporaryDirectory() as folder:
            assert export_cases(target, cases, folder) == len(cases)
            again, unused = import_cases(target, [folder])
        assert unused == 0
        assert _set(again) == _set([write_case(target, case) for case in cases])


_TARGETS: dict[str, Target] = {}


def _target_of(name: str) -> Target:
    if name not in _TARGETS:
        _TARGETS[name] = _target(source(name))
    return _TARGETS[name]


def _set(cases: list[dict[str, Any]]) -> set[str]:
    return {json.dumps(case, sort_keys=True) for case in cases}


def test_the_command_exports_raw_inputs_by_export(tmp_path: Path) -> None:
    words = ("--runs", "1000", "--jobs", "1", "--export", str(tmp_path / "seeds"))
    command("fuzz", str(source("buggy/code-point")), *words)
    files = list((tmp_path / "seeds" / "measure").iterdir())
    assert files
    assert all(not file.suffix for file in files)
    assert len({file.read_bytes() for file in files}) == len(files)


# -- minimising a corpus --------------------------------------------------------------------------------------------


@given(st.lists(st.frozensets(st.integers(0, 12), max_size=6), max_size=12), st.data())
def test_a_cover_has_all_features_and_no_set_that_is_not_needed(
    sets: list[frozenset[int]], data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(sets), max_size=len(sets)))
    chosen = cover(sets, weights)
    everything = frozenset().union(*sets)
    assert frozenset().union(*(sets[n] for n in chosen)) == everything
    for without in chosen:
        assert frozenset().union(*(sets[n] for n in chosen if n != without)) != everything


def test_a_minimised_corpus_is_smaller_and_shows_the_same_behaviours(tmp_path: Path) -> None:
    path = source("buggy/wrong-state")
    list(Campaign(_plan(path), runs=3000, executor=Here(), corpus=Corpus(tmp_path)).run())
    before = Corpus(tmp_path).entries
    doubled = [[f"{entry[0]} again", *entry[1:]] for entry in before]  # the same cases, as if they showed more
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in (*before, *doubled)))
    done = command("fuzz", str(path), "--corpus", str(tmp_path), "--minimize", "--jobs", "1")
    after = Corpus(tmp_path).entries
    assert "0 cases" in done.out
    assert len(after) <= len(before)
    state = WorkerState(_plan(path))
    assert _behaviours(state, after) == _behaviours(state, [*before, *doubled])


def _behaviours(state: WorkerState, entries: list[Any]) -> set[str]:
    from aegis.fuzz.worker import _features

    return set().union(*(_features(state, entry) for entry in entries))


def test_only_a_corpus_can_be_minimised() -> None:
    done = command("fuzz", str(source("buggy/empty-list")), "--minimize")
    assert (done.code, "--minimize requires --corpus" in done.err) == (2, True)


# -- arguments of programs ------------------------------------------------------------------------------------------

LINES = [["convert", "--from", "@@", "-"], ["--name=@@.txt", "@@"], ["check"]]


@given(st.integers(0, 2**32), st.integers(0, 30))
def test_given_words_stay_and_marks_become_text(seed: int, changes: int) -> None:
    """Oracle: after any changes, the value still matches one of the lines, and simpler values do too."""
    shape, rng = GivenWords(LINES), Random(seed)
    value = shape.random(rng, 20)
    for _ in range(changes):
        value = shape.mutate(rng, value)
    for one in [value, *list(shape.simpler(value))[:50]]:
        assert any(len(one) == len(line) and all(map(_fits, line, one)) for line in LINES)
    assert shape.size(value) >= 1


def _fits(word: str, given: str) -> bool:
    before, mark, after = word.partition("@@")
    return given.startswith(before) and given.endswith(after) if mark else given == word


def test_words_are_split_like_a_shell_does() -> None:
    assert parse_words("a 'b c' \"d\" @@") == ("a", "b c", "d", "@@")
    with pytest.raises(PolicyError, match="--args"):
        parse_words("a 'b")


def test_a_program_is_run_with_the_given_words(tmp_path: Path) -> None:
    """The guest traps if it has more than three arguments, which generated words would soon be."""
    path = tmp_path / "program.wat"
    path.write_text(
        """(module (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (drop (call $sizes (i32.const 0) (i32.const 4)))
          (if (i32.ne (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))))"""
    )
    words = ("fuzz", str(path), "--runs", "200", "--jobs", "1")
    assert command(*words).code == 1
    assert command(*words, "--args", "one 'two words'").code == 0
    assert command(*words, "--args", "one @@", "--args", "--x=@@ y").code == 0
    assert command(*words, "--args", "one", "--args", "one two").code == 1


def test_cases_of_a_program_with_given_words_can_be_read_again() -> None:
    target = _target(source("buggy/code-point"))
    data = {"steps": [["measure", ['"a"']]], "answers": []}
    assert write_case(target, read_case(target, data)) == data


def test_a_chunk_that_does_not_end_is_stopped_some_time_after_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor never completes the second chunk. The results of the first one are kept."""

    class Stuck(Here):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(fn, *args, **kwargs) if args[1] != 1 else Future()

    monkeypatch.setattr("aegis.fuzz.campaign._OVERTIME_SECONDS", 0.5)
    campaign = Campaign(_plan(source("buggy/empty-list")), seconds=1.0, executor=Stuck())
    list(campaign.run())
    assert 0 in campaign.result.chunks
    assert 1 not in campaign.result.chunks
    assert campaign.result.cases > 0
    assert not campaign.result.lost


def test_a_raw_input_becomes_a_c_string_where_a_signature_says_so(tmp_path: Path) -> None:
    path = tmp_path / "guest.wat"
    path.write_text(
        """(module (memory (export "memory") 1) (func (export "malloc") (param i32) (result i32) (i32.const 64))
        (func (export "render") (param i32 i32) (result i32) (i32.load8_u (local.get 0))))"""
    )
    target = WorkerState(_plan(path, signatures=("render(cstr, u32)",))).target
    (tmp_path / "seed").write_bytes(b"text")
    cases, unused = import_cases(target, [str(tmp_path / "seed")])
    assert (cases[0]["steps"], unused) == ([["render", ["b'text'", "0"]]], 0)
    assert export_cases(target, [read_case(target, cases[0])], tmp_path / "out") == 1
    (file,) = (tmp_path / "out" / "render").iterdir()
    assert file.read_bytes() == b"text"
