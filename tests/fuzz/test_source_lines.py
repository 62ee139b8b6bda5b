"""Source lines from DWARF: in the frames of findings, and as covered lines in a tracefile for lcov."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import Frame
from aegis.fuzz.campaign import Campaign
from aegis.fuzz.case import Case, Step
from aegis.fuzz.coverage.edge_map import EdgeMap
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.source_lines import CodeModule, SourceLines
from aegis.fuzz.worker import WorkerState
from aegis.policy import Policy
from aegis.wasm.edges import count_edges
from tests.cli.command import aegis as command
from tests.dwarf.line_programs import Row, Sequence, custom, program, unit

TEXT = """(module $named
  (func $check (export "check") (param $x i32) (result i32)
    (if (i32.eq (local.get $x) (i32.const 77))
      (then (unreachable))
      (else (if (i32.lt_s (local.get $x) (i32.const 0)) (then (return (i32.const 1))))))
    (i32.const 2))
  (func $never (export "never") (result i32) (i32.const 3))
  (func $pick (export "pick") (param $x i32) (result i32)
    (block $b (block $a (br_table $a $b (local.get $x))) (return (i32.const 5)))
    (i32.const 6)))"""
PLAIN = text_to_binary(TEXT)
LINES = {"entry": 10, "unreachable": 12, "return": 14, "last": 16}


def with_lines(module: bytes, *, path: str = "check.c") -> bytes:
    """Return the module with a line table: a line for each function, decision, and run of code between them."""
    code = CodeModule(module)
    sites = count_edges(module).sites
    sequences = []
    for number, (start, end) in enumerate(code.functions):
        marks = sorted({site.offset for site in sites if site.function == number} | markers(module, start, end))
        line, rows, at = 10 * (number + 1), [], start
        for mark in marks:
            rows.append(Row(mark - at if rows else 0, 1, line + len(rows)))
            at = mark
        sequences.append(Sequence(marks[0] - code.code, rows, end - at))
    return module + custom(".debug_line", unit(4, [(path, 0)], ["/"], program(sequences, special=True), wide=False))


def markers(module: bytes, start: int, end: int) -> set[int]:
    """Return the offsets of the constants 1, 2, 5 and 6, and of ``unreachable``: the blocks of the functions."""
    found = {
        at
        for at in range(start, end - 1)
        if module[at : at + 2] in (b"\x41\x01", b"\x41\x02", b"\x41\x05", b"\x41\x06")
    }
    return found | {at for at in range(start + 1, end) if module[at - 1 : at + 1] == b"\x40\x00"}


GUEST = with_lines(PLAIN)


def state_of(data: bytes) -> WorkerState:
    return WorkerState(CampaignPlan(data=data, name="guest.wasm", policy=Policy()))


def tracefile(*calls: tuple[str, list[int]]) -> dict[str, list[str]]:
    """Return the records of a tracefile after these calls, by their kind."""
    state = state_of(GUEST)
    assert state.copies is not None
    edges = EdgeMap(state.copies.size)
    for name, arguments in calls:
        state.copies.counting.run(Case((Step(name, tuple(arguments)),)))
        edges.fresh(state.copies.counting.written[0])
    found: dict[str, list[str]] = {}
    for line in state.copies.tracefile(edges.bits()).splitlines():
        kind, _, rest = line.partition(":")
        found.setdefault(kind, []).append(rest)
    return found


def hits(found: dict[str, list[str]]) -> dict[int, int]:
    return {int(line): int(hit) for line, _, hit in (text.partition(",") for text in found["DA"])}


def test_lines_are_covered_if_their_code_was_executed() -> None:
    """Oracle: the blocks that each call executes, by hand."""
    check = range(10, 20)
    none = hits(tracefile())
    assert not any(none.values())
    negative = hits(tracefile(("check", [-5])))
    positive = hits(tracefile(("check", [5])))
    trap = hits(tracefile(("check", [77])))
    both = hits(tracefile(("check", [-5]), ("check", [5])))
    lines = [line for line in none if line in check]
    assert len(lines) == 6  # the entry, two conditions, unreachable, and the constants 1 and 2
    entry, first, trapped, second, returned, last = sorted(lines)
    assert [negative[n] for n in (entry, first, trapped, second, returned, last)] == [1, 1, 0, 1, 1, 0]
    assert [positive[n] for n in (entry, first, trapped, second, returned, last)] == [1, 1, 0, 1, 0, 1]
    assert [trap[n] for n in (entry, first, trapped, second, returned, last)] == [1, 1, 1, 0, 0, 0]
    assert both == {line: max(negative[line], positive[line]) for line in none}


def test_functions_and_branches_are_counted() -> None:
    found = tracefile(("check", [5]), ("pick", [0]))
    assert found["SF"] == ["check.c"]
    assert sorted(found["FNDA"]) == ["0,never", "1,check", "1,pick"]
    assert (found["FNF"], found["FNH"]) == (["3"], ["2"])
    assert found["BRF"] == ["6"]
    taken = [text.rpartition(",")[2] for text in found["BRDA"]]
    assert taken == ["0", "1", "0", "1", "1", "0"]
    untouched = tracefile(("pick", [1]))
    assert [text.rpartition(",")[2] for text in untouched["BRDA"]] == ["-", "-", "-", "-", "0", "1"]
    assert found["LH"] == [str(sum(hits(found).values()))]


def test_a_frame_has_the_line_of_its_instruction() -> None:
    lines = SourceLines(GUEST)
    (module,) = lines.modules
    start, end = module.functions[0]
    assert lines.of(Frame(0, "check", start)) is None  # before the first row
    assert str(lines.of(Frame(0, "check", end - 1))).startswith("check.c:1")
    assert lines.of(Frame(1, "never", end - 1)) is None  # another function
    assert lines.of(Frame(9, None, end - 1)) is None
    assert module.names == {0: "check", 1: "never", 2: "pick"}


def test_a_frame_that_two_modules_may_have_gets_no_line() -> None:
    sections = b"".join(b"\x01" + size(len(GUEST)) + GUEST for _ in range(2))
    component = b"\0asm\x0d\0\1\0" + sections
    both = SourceLines(component)
    assert len(both.modules) == 2
    assert both.of(Frame(0, "check", both.modules[0].functions[0][1] - 1)) is None


def size(number: int) -> bytes:
    return bytes((number & 0x7F | 0x80, number >> 7)) if number > 0x7F else bytes((number,))


def test_a_malformed_guest_has_no_lines() -> None:
    assert SourceLines(b"\0asm\1\0\0\0\x0a\xff").modules == ()


def test_a_finding_names_the_source_line() -> None:
    chosen = CampaignPlan(data=GUEST, name="guest.wasm", policy=Policy(), functions=("check",))
    with ThreadPoolExecutor(1) as threads:
        campaign = Campaign(chosen, runs=1000, executor=threads)
        for _ in campaign.run():
            pass
    (finding,) = campaign.result.findings.values()
    assert finding["steps"] == [["check", ["77"]]]
    assert finding["frames"][0].endswith("(check.c:12)")


@pytest.mark.parametrize("path", ["../\x1b[31mred", "a\nend_of_record"])
def test_a_path_of_the_guest_cannot_forge_records_or_control_a_terminal(path: str) -> None:
    state = state_of(with_lines(PLAIN, path=path))
    assert state.copies is not None
    text = state.copies.tracefile(bytes(state.copies.size))
    assert text.splitlines().count("end_of_record") == 1
    assert "\x1b" not in text


def test_the_command_writes_a_tracefile(tmp_path: Path) -> None:
    guest, out = tmp_path / "guest.wasm", tmp_path / "lcov.info"
    guest.write_bytes(GUEST)
    run = command("fuzz", "--runs", "300", "--jobs", "1", "--invoke", "pick", "--coverage-out", out, guest)
    assert run.code == 0, run.err
    assert "FNDA:1,pick" in out.read_text()
    off = command("fuzz", "--runs", "10", "--jobs", "1", "--coverage", "off", "--coverage-out", tmp_path / "x", guest)
    assert "is not written, because there is no coverage" in off.err
    assert not (tmp_path / "x").exists()
