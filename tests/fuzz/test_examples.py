"""Campaigns start from the user's examples, keep calls that return handles, and grow sequences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis
from aegis.engine.compile.artifact import read_file, text_to_binary
from aegis.errors import ExportNotFound, PolicyError
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.case import Case, HandleRef, Step
from aegis.fuzz.case_maker import CaseMaker
from aegis.fuzz.examples import example_cases, group_examples, read_examples
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.target import Target
from aegis.fuzz.worker import WorkerState
from aegis.limits import Limits
from aegis.policy import Policy
from tests.cli.command import aegis as command
from tests.fuzz.test_campaign import Here
from tests.guests.catalogue import source

API = "test:buggy/api@0.1.0"
DOOR = """(component
  (core module $m
    (global $tries (mut i32) (i32.const 0))
    (func (export "enter") (param i64) (result i32)
      ;; The key cannot be guessed: the code never compares it with a constant.
      (if (result i32) (i64.eq (i64.mul (local.get 0) (i64.const 3)) (i64.const 370370367037036701))
        (then (global.set $tries (i32.add (global.get $tries) (i32.const 1))) (global.get $tries))
        (else (i32.const 0))))
    (func (export "leave") (result i32)
      (if (i32.ge_u (global.get $tries) (i32.const 2)) (then unreachable))
      (global.get $tries)))
  (core instance $m (instantiate $m))
  (func (export "enter") (param "key" u64) (result u32) (canon lift (core func $m "enter")))
  (func (export "leave") (result u32) (canon lift (core func $m "leave"))))"""
KEY = 370370367037036701 // 3


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with Aegis(cache=False) as runtime:
        yield Target(runtime, runtime.load_file(source("buggy/wrong-state")))


def _campaign(data: bytes, runs: int = 3000, executor: Any = None, **options: Any) -> Any:
    plan = CampaignPlan(data=data, name="guest", policy=Policy(), **options)
    campaign = Campaign(plan, runs=runs, executor=executor or Here())
    for _ in campaign.run():
        pass
    return campaign.result


def test_a_file_has_sequences_that_empty_lines_divide() -> None:
    text = "// how a file is used\nopen()\nread(#0)\n\n\n  close() \n"
    assert read_examples(text) == [("open()", "read(#0)"), ("close()",)]
    assert read_examples("// nothing") == []


def test_examples_of_the_command_line_are_one_sequence_if_they_share_handles() -> None:
    assert group_examples(["f(1)", "g(2)"]) == [("f(1)",), ("g(2)",)]
    assert group_examples(["file()", "read(#0, 7)"]) == [("file()", "read(#0, 7)")]


def test_each_call_of_a_sequence_is_an_example_with_its_handles(target: Target) -> None:
    calls = [f"{API}#[constructor]file()", f"{API}#[method]file.close(#0)", f"{API}#[method]file.read(#0)"]
    cases = list(example_cases(target, [calls]))
    names = [[step.function.rpartition(".")[2] for step in case.steps] for case in cases]
    assert [len(case.steps) for case in cases] == [3, 1, 2, 2]
    assert names[-1][-1] == "read"
    assert cases[-1].steps[-1].arguments == (HandleRef(0),)


@pytest.mark.parametrize("call", ["nothing()", f"{API}#[method]file.read(#0)", "close", f"{API}#[method]file.read(7)"])
def test_an_example_that_cannot_be_called_is_an_error_that_quotes_it(target: Target, call: str) -> None:
    with pytest.raises(PolicyError, match="example "):
        list(example_cases(target, [[call]]))


def test_an_example_is_run_verbatim_and_leads_further() -> None:
    """Oracle: a value that no search finds without the operands of comparisons is found with an example, in the two
    calls that the trap needs.
    """
    data = text_to_binary(DOOR)
    assert not _campaign(data, 4000, coverage=False).findings
    (finding,) = _campaign(data, 4000, coverage=False, examples=((f"enter({KEY})",),)).findings.values()
    assert [step[0] for step in finding["steps"]] == ["enter", "enter", "leave"]


@pytest.mark.long
def test_examples_and_learned_words_do_not_depend_on_the_executor() -> None:
    data, options = text_to_binary(DOOR), {"examples": ((f"enter({KEY})",),), "seed": 4}
    one = _campaign(data, 2500, **options)
    with ThreadPoolExecutor(1) as executor:
        two = _campaign(data, 2500, executor, **options)
    assert (one.statuses, one.behaviours, one.words) == (two.statuses, two.behaviours, two.words)


SHOP = """(component
  (core module $m
    (import "own" "new" (func $own (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 512) "{\\22properties\\22:{\\22level\\22:{\\22type\\22:\\22integer\\22}},"
      "\\22required\\22:[\\22level\\22]}")
    (data (i32.const 700) "no level")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "make") (param $at i32) (param $size i32) (result i32)
      ;; A configuration begins with {"level": the rest is not read.
      (i32.store8 (i32.const 256) (i32.const 0))
      (if (i32.and (i32.ge_u (local.get $size) (i32.const 10))
            (i64.eq (i64.load (local.get $at)) (i64.const 0x226c6576656c227b)))
        (then (i32.store (i32.const 260) (call $own (i32.const 1))))
        (else
          (i32.store8 (i32.const 256) (i32.const 1))
          (i32.store (i32.const 260) (i32.const 700))
          (i32.store (i32.const 264) (i32.const 8))))
      (i32.const 256))
    (func (export "use") (param i32) (result i32) unreachable)
    (func (export "schema") (result i32)
      (i32.store (i32.const 256) (i32.const 512))
      (i32.store (i32.const 260) (i32.const 62))
      (i32.const 256)))
  (type $r (resource (rep i32)))
  (core func $own (canon resource.new $r))
  (core instance $i (instantiate $m (with "own" (instance (export "new" (func $own))))))
  (alias core export $i "memory" (core memory $memory))
  (func $make (param "config" string) (result (result (own $r) (error string)))
    (canon lift (core func $i "make") (memory $memory) (realloc (core func $i "realloc"))))
  (func $use (param "self" (borrow $r)) (result u32) (canon lift (core func $i "use")))
  (func $schema (result string) (canon lift (core func $i "schema") (memory $memory)))
  (component $shape
    (import "codec" (type $r (sub resource)))
    (import "make" (func $make (param "config" string) (result (result (own $r) (error string)))))
    (import "use" (func $use (param "self" (borrow $r)) (result u32)))
    (import "schema" (func $schema (result string)))
    (export $e "codec" (type $r))
    (export "[static]codec.make" (func $make) (func (param "config" string) (result (result (own $e) (error string)))))
    (export "[method]codec.use" (func $use) (func (param "self" (borrow $e)) (result u32)))
    (export "schema" (func $schema)))
  (instance $api (instantiate $shape (with "codec" (type $r)) (with "make" (func $make)) (with "use" (func $use))
    (with "schema" (func $schema))))
  (export "test:codec/api" (instance $api)))"""


@pytest.mark.long
def test_a_constructor_of_a_document_is_reached_by_the_schema_that_another_export_returns() -> None:
    """Oracle: the method traps, and only a handle from ``{"level": …`` can be passed to it."""
    (finding,) = _campaign(text_to_binary(SHOP), 6000, max_size=4000).findings.values()
    assert [step[0].partition("#")[2] for step in finding["steps"]] == ["[static]codec.make", "[method]codec.use"]
    assert finding["steps"][0][1][0].startswith('"{\\"level\\"')


def test_a_kept_producer_is_used_verbatim_for_handles() -> None:
    with Aegis(cache=False) as runtime:
        target = Target(runtime, runtime.load_wat(SHOP))
        maker, rng = CaseMaker(target, largest=64), random.Random(3)
        make, use = "test:codec/api#[static]codec.make", "test:codec/api#[method]codec.use"
        good = Case((Step(make, ('{"level": 3}',)),))
        maker.start_from([Case((Step(make, ("bad",)),)), good])
        used = [
            case.steps[step.arguments[0].step].arguments
            for case in (maker.case(rng) for _ in range(300)) for step in case.steps if step.function == use
        ]  # fmt: skip
        assert used.count(good.steps[0].arguments) > len(used) / 2


def test_a_step_without_its_handle_is_skipped_and_the_case_goes_on() -> None:
    with Aegis(cache=False) as runtime:
        target = Target(runtime, runtime.load_wat(SHOP))
        api = "test:codec/api#"
        steps = (
            Step(f"{api}[static]codec.make", ("bad",)), Step(f"{api}[method]codec.use", (HandleRef(0),)),
            Step(f"{api}schema", ()),
        )  # fmt: skip
        results = target.run(Case(steps)).results
        assert [result.status for result in results] == ["returned", "usage", "returned"]
        assert results[2].value.startswith("{")


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command_takes_examples_words_and_skips(tmp_path: Path) -> None:
    guest, words, calls = tmp_path / "door.wat", tmp_path / "words.dict", tmp_path / "calls.txt"
    guest.write_text(DOOR)
    words.write_text(f'key="{KEY}"\n')
    calls.write_text(f"enter({KEY})\n")
    fuzz = ["fuzz", str(guest), "--runs", "3000", "--jobs", "1"]
    for given in (["--example", f"enter({KEY})"], ["--examples", str(calls)], ["--dict", str(words)]):
        done = command(*fuzz, *given)
        assert (done.code, "leave ended as trap" in done.out) == (1, True), given
    done = command(*fuzz, "--example", f"enter({KEY})", "--skip", "lea*")
    assert done.code == 0
    assert "left out: leave: skipped by --skip" in done.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--skip", "nothing"], 127, "--skip nothing: no export"),
        (["--example", "midpoint(1)"], 125, "example midpoint(1): "),
        (["--examples", "/nonexistent"], 125, "--examples: /nonexistent cannot be read"),
        (["--dict", "/nonexistent"], 125, "--dict: /nonexistent cannot be read"),
        (["--max-size", "0"], 125, "--max-size: 0 is not a limit"),
        (["--max-size", "1e9"], 125, "--max-size: 1e9 is not a number from 1 to"),
        (["--allocator", "malloc"], 125, "are for core modules"),
    ],
)
def test_a_wrong_option_is_one_line(words: list[str], code: int, message: str) -> None:
    done = command("fuzz", str(source("buggy/overflow")), *words)
    assert (done.code, done.out) == (code, "")
    assert message in done.err


def test_every_export_may_not_be_skipped() -> None:
    plan = CampaignPlan(data=read_file(source("buggy/overflow"), Limits()), name="x", policy=Policy(), skip=("mid*",))
    with pytest.raises(Exception, match="skipped by --skip"):
        WorkerState(plan)
    with pytest.raises(ExportNotFound, match="no export has this name"):
        WorkerState(CampaignPlan(data=plan.data, name="x", policy=Policy(), skip=("top*",)))


def test_arguments_are_no_larger_than_the_plan_allows() -> None:
    data = read_file(source("buggy/long-text"), Limits())
    assert not _campaign(data, 1500, max_size=4000).findings
    assert _campaign(data, 3000, max_size=70_000).findings
