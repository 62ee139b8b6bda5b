"""Coverage: campaigns guided by edges and operands find what behaviour alone does not show, and cost what they say."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aegis.engine.compile.artifact import text_to_binary
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.case import Case, Step
from aegis.fuzz.corpus import Corpus
from aegis.fuzz.coverage import copies as copies_module
from aegis.fuzz.coverage import recorded as recorded_module
from aegis.fuzz.coverage.covers import edges_of
from aegis.fuzz.coverage.edge_map import EdgeMap, adds, bits_of, merged, packed, reached
from aegis.fuzz.coverage.operands import Pair, matched_cases, pairs_of, related, replaced
from aegis.fuzz.plan import CampaignPlan, CampaignResult
from aegis.fuzz.values.buffers import Buffer
from aegis.fuzz.values.core_signatures import CString, OutPointer
from aegis.fuzz.worker import WorkerState
from aegis.policy import Isolation, Policy
from aegis.wasm.comparisons import Operands
from tests.cli.command import aegis as command

ROOT = Path(__file__).resolve().parents[2]

MAGIC = """(module
  (func (export "magic") (param $x i64) (param $y i32) (result i32)
    (if (i64.eq (local.get $x) (i64.const 7213948571234))
      (then
        (if (i32.lt_s (local.get $y) (i32.const -1000000))
          (then (if (i32.ge_s (local.get $y) (i32.const -1000007)) (then (unreachable)))))))
    (i32.const 0))
  (func (export "wave") (param $x f64) (result i32)
    (if (f64.eq (local.get $x) (f64.const 1234.5678)) (then (unreachable)))
    (i32.const 1))
  (func (export "steps") (param $x i32) (result i32)
    (local $n i32)
    (local.set $x (i32.and (local.get $x) (i32.const 1023)))
    (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $x))))
    (local.get $n)))"""


def plan(text: str, **options: Any) -> CampaignPlan:
    policy = options.pop("policy", Policy())
    return CampaignPlan(data=text_to_binary(text), name="guest.wat", policy=policy, **options)


def campaign(plan: CampaignPlan, *, runs: int, jobs: int = 1) -> CampaignResult:
    with ThreadPoolExecutor(jobs) as threads:
        made = Campaign(plan, runs=runs, executor=threads)
        for _ in made.run():
            pass
    assert not made.result.lost
    return made.result


def trapped(result: CampaignResult) -> set[str]:
    return {finding["steps"][-1][0] for finding in result.findings.values() if finding["oracle"] == "no-trap"}


def test_compared_operands_lead_to_a_bug_behind_three_comparisons() -> None:
    """Oracle: the planted constants, one of 64 bits, a range of seven integers, and a float."""
    with_operands = campaign(plan(MAGIC, functions=("magic", "wave")), runs=6000)
    assert trapped(with_operands) == {"magic", "wave"}
    (magic,) = [f for f in with_operands.findings.values() if f["steps"][-1][0] == "magic"]
    assert magic["steps"][-1][1][0] == "7213948571234"
    assert -1000007 <= int(magic["steps"][-1][1][1]) < -1000000


def test_a_campaign_with_coverage_is_a_function_of_the_seed() -> None:
    one, two = (campaign(plan(MAGIC, seed=5), runs=3000, jobs=1) for _ in range(2))
    assert (one.calls, one.behaviours, one.coverage) == (two.calls, two.behaviours, two.coverage)
    assert one.findings == two.findings


def test_exact_numbers_of_calls_are_made_with_coverage() -> None:
    result = campaign(plan(MAGIC, functions=("steps",)), runs=1234)
    assert result.cases == 1234


def test_behaviours_have_the_fuel_of_the_original_guest() -> None:
    """Oracle: the fuel that the case burns in a sandbox of the original module."""
    chosen = plan(MAGIC, functions=("steps",))
    result = campaign(chosen, runs=1000)
    state = WorkerState(chosen)
    entries = [entry for entry in result.behaviours.values() if " edges " in entry[0]]
    assert entries
    for entry in entries:
        (case,) = state.cases([entry[1]])
        assert state.target.run(case).results[-1].fuel == entry[3]


def test_calls_like_those_of_earlier_chunks_do_not_run_again_in_the_original() -> None:
    """Oracle: the runs in the original, which a chunk with the campaign's knowledge makes fewer of."""
    state = WorkerState(plan(MAGIC, functions=("steps",)))
    first = state.search([], [])
    before = first.run(0, 1000)
    again = state.search([*(b.signature for b in before.behaviours), *before.usual], [], [], before.edges)
    anew = state.search([], [])
    after, other = again.run(1, 1000), anew.run(1, 1000)
    assert not after.usual
    assert other.usual
    assert len(after.behaviours) < len(other.behaviours)


@pytest.mark.parametrize("start", ["(start $begin)", '(export "_initialize" (func $begin))'])
def test_edges_before_the_first_call_are_covered_but_no_reason_to_keep_it(start: str) -> None:
    """Oracle: the edges of the code that runs before the first call, and those of the call."""
    text = f"""(module (func $begin (local $n i32)
        (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9)))))
      {start}
      (func (export "f") (param i32) (if (local.get 0) (then))))"""
    state = WorkerState(plan(text, functions=("f",)))
    search = state.search([], [])
    batch = search.run(0, 200)
    assert state.copies is not None
    (module,) = state.copies.modules
    kinds = {site.first + n: site.kind for site in module.sites for n in range(site.counters)}
    assert {kinds[n] for n, bits in enumerate(batch.edges) if bits} == {"entry", "br_if", "if"}
    kept = {kinds[place] for bits in batch.fresh.values() for place in kinds if bits >> (8 * place) & 0xFF}
    assert kept == {"entry", "if"}


def test_suggested_runs_of_a_program_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a sandbox can run a program once."""
    words = ROOT / "guests" / "wordcount" / "wordcount.wat"
    made = CampaignPlan(data=text_to_binary(words.read_bytes()), name="words", policy=Policy(), max_size=64)
    search = WorkerState(made).search([], [])
    cases: list[Case] = []
    explore = search.explore
    monkeypatch.setattr(search, "explore", lambda case, batch: (cases.append(case), explore(case, batch)))
    search.run(0, 60)
    assert len(cases) == 60
    assert {len(case.steps) for case in cases} == {1}


def test_suggested_calls_of_functions_share_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    search = WorkerState(plan(MAGIC, functions=("magic", "wave"))).search([], [])
    cases: list[Case] = []
    explore = search.explore
    monkeypatch.setattr(search, "explore", lambda case, batch: (cases.append(case), explore(case, batch)))
    batch = search.run(0, 2000)
    assert batch.cases == 2000
    assert len(cases) < 400
    assert {finding.case.steps[-1].function for finding in batch.findings} == {"magic", "wave"}


def test_without_coverage_no_guest_is_instrumented() -> None:
    result = campaign(plan(MAGIC, coverage=False), runs=500)
    assert (result.coverage, result.edges, result.cost) == (b"", [], (0.0, 0.0, 0.0))
    assert not any(" edges " in signature for signature in result.behaviours)


@pytest.mark.parametrize("goal", ["slow", "big", "chatty"])
def test_a_goal_is_searched_without_coverage(goal: str) -> None:
    assert WorkerState(plan(MAGIC, goal=goal)).copies is None


def test_an_isolated_guest_has_no_coverage_and_the_report_says_why() -> None:
    state = WorkerState(plan(MAGIC, policy=Policy(isolation=Isolation())))
    assert state.copies is None
    assert "--isolate" in state.uncovered


def test_code_without_branches_has_no_coverage_and_the_report_says_why() -> None:
    state = WorkerState(plan('(module (func (export "f") (result i32) (i32.const 1)))'))
    assert state.copies is None
    assert state.uncovered == "the code has no branches"


COMPONENT = ROOT / "guests" / "components" / "values.wat"


def test_records_variants_and_handles_pass_to_the_copies_of_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the original component, whose values the copies must accept and return alike."""
    monkeypatch.setattr(copies_module, "_probed", lambda module: True)  # its modules have no branches
    made = CampaignPlan(data=text_to_binary(COMPONENT.read_bytes()), name="values", policy=Policy(), max_size=64)
    state = WorkerState(made)
    search = state.search([], [])
    copies = state.copies
    assert copies is not None
    assert copies.comparing is not None
    rng = random.Random(4)
    for _ in range(40):
        case = search.next_case(rng)
        original = state.target.run(case)
        for copy in (copies.counting, copies.comparing):
            trace = copy.run(case)
            assert [one.status for one in trace.results] == [one.status for one in original.results]
            assert [repr(one.value) for one in trace.results] == [repr(one.value) for one in original.results]
            assert len(copy.written) == len(trace.results)


def test_signatures_and_allocators_of_a_core_module_hold_for_its_copies() -> None:
    """Oracle: the original, which reads the bytes at the address where the named allocator placed them."""
    text = """(module (memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))
      (func (export "room") (param i32) (result i32)
        (global.get $next) (global.set $next (i32.add (global.get $next) (local.get 0))))
      (func (export "first") (param $at i32) (param $plus i32) (result i32)
        (if (i32.eqz (local.get $plus)) (then (return (i32.const -1))))
        (i32.add (i32.load8_u (local.get $at)) (local.get $plus))))"""
    chosen = plan(text, allocator="room", signatures=("first(cstr, i32)",), functions=("first",))
    state = WorkerState(chosen)
    assert state.copies is not None
    assert state.copies.comparing is not None
    rng = random.Random(1)
    search = state.search([], [])
    for case in (search.next_case(rng) for _ in range(20)):
        original = state.target.run(case).results
        for copy in (state.copies.counting, state.copies.comparing):
            assert [(one.status, one.value) for one in copy.run(case).results] == [
                (one.status, one.value) for one in original
            ]
        assert any(one.value for one in original)


def test_memory_for_probes_is_not_the_guests_memory() -> None:
    """Oracle: a guest that grows until it is refused gets as many pages with probes as without."""
    text = """(module (memory (export "memory") 1) (func (export "fill") (result i32)
      (local $n i32)
      (loop $l (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
        (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l))))
      (local.get $n)))"""
    state = WorkerState(plan(text))
    assert state.copies is not None
    case = Case((Step("fill", ()),))
    assert state.copies.counting.run(case).results[0].value == state.target.run(case).results[0].value


def test_comparisons_of_a_test_case_are_kept_and_equal_arguments_that_differ_are_told_apart() -> None:
    """Oracle: a copy of the guest that has run nothing. The floats 0.0 and -0.0 are equal, and so are lists of them."""
    text = """(component (core module $m (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
      (func (export "sign") (param f64) (result i32) (i64.lt_s (i64.reinterpret_f64 (local.get 0)) (i64.const 7)))
      (func (export "first") (param $at i32) (param $size i32) (result i32)
        (if (i32.eqz (local.get $size)) (then (return (i32.const 0))))
        (i64.lt_s (i64.load (local.get $at)) (i64.const 7))))
      (core instance $m (instantiate $m))
      (func (export "sign") (param "x" f64) (result bool) (canon lift (core func $m "sign")))
      (func (export "first") (param "xs" (list s64)) (result bool) (canon lift (core func $m "first")
        (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""
    cases = [Case((Step("sign", (value,)),)) for value in (0.0, -0.0, 1.0)]
    cases += [Case((Step("first", ([value],)), Step("sign", (0.0,)))) for value in (0, 1)]
    copies = WorkerState(plan(text)).copies
    assert copies is not None
    assert copies.recorded is not None
    once = [copies.recorded.of(case) for case in cases]
    assert [copies.recorded.of(case) for case in cases] == once
    assert len({str(found) for found in once}) == len(cases)
    for case, found in zip(cases, once, strict=True):
        fresh = WorkerState(plan(text)).copies
        assert fresh is not None
        assert fresh.recorded is not None
        assert fresh.recorded.of(case) == found


def test_kept_comparisons_take_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_module, "_MAX_KEPT_ENTRIES", 100)
    copies = WorkerState(plan(MAGIC)).copies
    assert copies is not None
    assert copies.recorded is not None
    for number in range(100):
        found = copies.recorded.of(Case((Step("steps", (number,)),)))
        assert len(copies.recorded._kept) <= 100 // 8
        assert found is copies.recorded.of(Case((Step("steps", (number,)),)))


def test_each_copy_of_a_guest_with_several_modules_reads_what_each_of_them_wrote() -> None:
    """Oracle: copies of the two modules by themselves."""
    modules = [
        f"""(module (memory (export "memory") 1) (func (export "{name}") (param i32) (result i32)
          (if (i32.lt_u (local.get 0) (i32.const {number})) (then (return (i32.const 1)))) (i32.const 0)))"""
        for name, number in (("one", 5), ("two", 77))
    ]
    whole = (
        "(component "
        + "".join(
            text.replace("(module", f"(core module ${name}")
            + f"""(core instance ${name} (instantiate ${name}))
        (func (export "{name}") (param "x" u32) (result u32) (canon lift (core func ${name} "{name}")))"""
            for text, name in zip(modules, ("one", "two"), strict=True)
        )
        + ")"
    )
    copies = WorkerState(plan(whole)).copies
    assert copies is not None
    assert copies.recorded is not None
    for text, name in zip(modules, ("one", "two"), strict=True):
        alone = WorkerState(plan(text)).copies
        assert alone is not None
        assert alone.recorded is not None
        for value in (1, 60, 100):
            case = Case((Step(name, (value,)), Step(name, (value + 1,))))
            assert copies.recorded.of(case) == alone.recorded.of(case)


def test_the_corpus_keeps_minimal_cases_that_cover_the_same_edges(tmp_path: Path) -> None:
    """Oracle: the cases of the corpus, run alone, reach all edges of the campaign, about as often."""
    chosen = plan(MAGIC, functions=("steps",))
    with ThreadPoolExecutor(1) as threads:
        made = Campaign(chosen, runs=2000, executor=threads, corpus=Corpus(tmp_path), cover=True)
        for _ in made.run():
            pass
    state = WorkerState(chosen)
    assert state.copies is not None
    edges: set[str] = set()
    for case in state.cases(Corpus(tmp_path).cases()):
        edges |= edges_of(state.copies, case)
    everything = int.from_bytes(made.result.coverage, "little")
    assert edges == {f"edge {n}" for n in range(everything.bit_length()) if everything >> n & 1}


# -- the map of edges --------------------------------------------------------------------------------


def test_each_class_of_a_counter_is_new_once() -> None:
    found = []
    edges = EdgeMap(1)
    for count in [*range(256), *range(256)]:
        if edges.fresh(bytes([count])):
            found.append(count)
    assert found == [1, 2, 3, 4, 8, 16, 32, 128]
    assert edges.bits() == b"\xff"


def test_a_map_starts_from_the_edges_of_earlier_chunks() -> None:
    one = EdgeMap(3)
    assert one.fresh(b"\1\0\5")
    two = EdgeMap(3, one.bits())
    assert not two.fresh(b"\1\0\7")
    assert two.fresh(b"\1\1\7") == bits_of(b"\0\1\0")
    assert merged(one.bits(), two.bits()) == two.bits()
    assert (reached(one.bits()), reached(two.bits())) == (2, 3)
    assert adds(packed(bits_of(b"\1\1\7"), 3), one.bits())
    assert not adds(packed(bits_of(b"\1\0\7"), 3), two.bits())


# -- operands ----------------------------------------------------------------------------------------


def pair(found: int, wanted: int, bits: int = 32) -> Pair:
    return Pair(bits, False, found, wanted)


@pytest.mark.parametrize(
    ("value", "one", "expected"),
    [
        (5, pair(5, 77), 77),
        (-1, pair(0xFFFFFFFF, 0x80000000), -(1 << 31)),
        (0xFFFFFFFF, pair(0xFFFFFFFF, 0xFFFFFFF0), 0xFFFFFFF0),
        (1 << 40, pair(1 << 40, 3, 64), 3),
        (1.5, Pair(64, True, 0x3FF8000000000000, 0x4000000000000000), 2.0),
        (1.5, Pair(32, True, 0x3FC00000, 0x40000000), 2.0),
        (b"..\x78\x56\x34\x12..", pair(0x12345678, 0xAABBCCDD), b"..\xdd\xcc\xbb\xaa.."),
        (b"..\x12\x34\x56\x78..", pair(0x12345678, 0xAABBCCDD), b"..\xaa\xbb\xcc\xdd.."),
        ("abc", pair(ord("b"), ord("Z")), "aZc"),
        ("aéc", pair(ord("é"), 0x20AC), "a€c"),
        ("abc", pair(3, 65536), "abc" * 21845 + "a"),
        (b"", pair(0, 0), b""),
        ([1, 2, 3], pair(2, 9), [1, 9, 3]),
        ([1, 2, 3], pair(3, 5), [1, 2, 3, 1, 2]),
        ((1, "x"), pair(ord("x"), ord("y")), (1, "y")),
        (Buffer(b"ab"), pair(ord("a"), ord("z")), Buffer(b"zb")),
    ],
)
def test_an_operand_in_a_value_is_replaced_by_the_other(value: Any, one: Pair, expected: Any) -> None:
    assert expected in list(replaced(value, one))


def test_values_without_the_operand_stay_alone() -> None:
    for value in (6, "abc", b"abc", [1, [2]], True, None, 0.5):
        assert list(replaced(value, pair(77, 78))) == []


@pytest.mark.parametrize(
    ("value", "one", "expected"),
    [
        (5, pair((5 - 100_000) % (1 << 32), 7), 100_006),
        (5, pair((5 - 100_000) % (1 << 32), 7), 100_007),
        (-9, pair((-9 + 20_000) % (1 << 32), 0), -20_000),
        (6, pair(6 * 24, 0x7FFFFFF8), 0x7FFFFFF8 // 24 + 1),
        (3, pair(3 - 10 + (1 << 64), 2, 64), 11),
        (b"RIFF\x41\xe2\x12\xe6....", pair(0xE612E241 + 8, 12), b"RIFF\x04\0\0\0...."),
        (Buffer(b"\x12\x34.."), pair(0x1234 - 2, 0x500), Buffer(b"\x05\x02..")),
        (b"abcdef", pair(6 - 4, 10), b"abcdefabcdefab"),
        ([7, 7, 7], pair(3 + 1, 2), [7]),
        ("ab", pair(2 + 9, 12), "aba"),
    ],
)
def test_a_value_is_changed_as_its_sum_or_multiple_demands(value: Any, one: Pair, expected: Any) -> None:
    assert expected in list(related(value, one))


def test_a_range_that_a_compiler_turned_into_one_comparison_is_found() -> None:
    """Oracle: the planted range of three integers in two powers of 32."""
    text = """(module (func (export "f") (param i32 i64)
      (if (i32.lt_u (i32.sub (local.get 0) (i32.const 748193642)) (i32.const 3))
        (then
          (if (i64.lt_u (i64.add (local.get 1) (i64.const 90909090909090)) (i64.const 2)) (then (unreachable)))))))"""
    found = campaign(plan(text), runs=3000)
    assert trapped(found) == {"f"}


def test_operands_of_rare_comparisons_come_first() -> None:
    loop = [Operands(0, 32, False, n, 1000) for n in range(9)]
    pairs = pairs_of([*loop, Operands(1, 32, False, 5, 0x41)])
    assert pairs[:2] == [pair(5, 0x41), pair(0x41, 5)]
    assert len(pairs) == 20


def test_only_the_last_call_is_changed() -> None:
    case = Case((Step("f", (5,)), Step("f", (5,))))
    state = WorkerState(plan('(module (func (export "f") (param i32) (if (local.get 0) (then))))'))
    found = list(matched_cases(case, [pair(5, 9)], state.target.exports))
    assert Case((Step("f", (5,)), Step("f", (9,)))) in found
    assert all(one.steps[0] == case.steps[0] for one in found)


# -- the command -------------------------------------------------------------------------------------


def test_the_report_prints_edges_and_cost(tmp_path: Path) -> None:
    guest = tmp_path / "guest.wat"
    guest.write_text(MAGIC)
    run = command("fuzz", "--runs", "500", "--jobs", "1", "--invoke", "steps", guest)
    assert re.search(r"coverage: \d+ of \d+ edges \(\d+%\); cost: calls took [\d.]+ times as long, further", run.out)
    off = command("fuzz", "--runs", "500", "--jobs", "1", "--invoke", "steps", "--coverage", "off", guest)
    assert "coverage:" not in off.out


def test_without_a_line_table_no_tracefile_is_written_and_a_note_says_how_to_get_one(tmp_path: Path) -> None:
    guest, out = tmp_path / "guest.wat", tmp_path / "lcov.info"
    guest.write_text(MAGIC)
    run = command("fuzz", "--runs", "100", "--jobs", "1", "--invoke", "steps", "--coverage-out", out, guest)
    assert "compile it with -g" in run.err
    assert not out.exists()


def test_the_json_report_has_the_figures_of_coverage(tmp_path: Path) -> None:
    guest = tmp_path / "guest.wat"
    guest.write_text(MAGIC)
    run = command("-f", "json", "fuzz", "--runs", "500", "--jobs", "1", "--invoke", "steps", guest)
    coverage = run.document["coverage"]
    assert 0 < coverage["edges"] <= coverage["total"]
    assert coverage["slowdown"] > 0
    assert 0 <= coverage["share"] <= 1


def test_operands_change_no_size_of_a_result_and_put_no_nul_into_a_c_string() -> None:
    """Oracle: memory for a result has the size of its type, and a C string ends at its first NUL."""
    for found in (4, 0x61, 0x6161):
        for wanted in (0, 2, 0x6200, 0x7FFFFFFF):
            pair = Pair(32, False, found, wanted)
            for change in (replaced, related):
                assert list(change(OutPointer(4), pair)) == []
                for text in change(CString(b"aaaa"), pair):
                    assert isinstance(text, CString)
                    assert b"\0" not in text.data
