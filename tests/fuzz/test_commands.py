"""The command of every finding is short and shows the finding again, in the directory where it was printed.

The oracle is the shell: it runs the command, and the exit code is that of the ending, or 1 for ``aegis fuzz``.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, SECONDS
from tests.cli.command import aegis as command

GUESTS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "an import that is missing and not called": (
        """(module (import "env" "log" (func $log (param i32)))
        (func (export "f") (param i32) (if (i32.eq (local.get 0) (i32.const 5)) (then unreachable))))""",
        "--trap-missing", (134,),
    ),
    "an import that is missing and called": (
        """(module (import "env" "log" (func $log (param i32)))
        (func (export "f") (param i32) (call $log (local.get 0)) (if (i32.eqz (local.get 0)) (then unreachable))))""",
        "--call", (1,),
    ),
    "an import whose answer matters": (
        """(module (import "env" "get" (func $get (result i32)))
        (func (export "f") (if (i32.eq (call $get) (i32.const 0)) (then (return))) unreachable))""",
        "--answers", (1,),
    ),
    "memory that the limit refuses": (
        """(module (memory 1) (func (export "f") (param i32)
        (if (i32.eq (memory.grow (i32.and (local.get 0) (i32.const 0xfff))) (i32.const -1)) (then unreachable))))""",
        "--oracle no-limit", (1,),
    ),
    "fuel": ('(module (func (export "f") (loop $l (br $l))))', "--fuel-limit", (152,)),
    "a float that is no number": (
        """(module (func (export "f") (param f64)
        (if (f64.ne (local.get 0) (local.get 0)) (then unreachable))))""",
        "nan", (134,),
    ),
    "a negative number": (
        """(module (func (export "f") (param i32)
        (if (i32.lt_s (local.get 0) (i32.const -3)) (then unreachable))))""",
        "-- -4", (134,),
    ),
    "a name with quotes and spaces": (
        """(module (func (export "it's a $(name)") (param i32) (if (i32.eqz (local.get 0)) (then unreachable))))""",
        "name", (134,),
    ),
    "a name like an option": (
        """(module (func (export "--help") (param i32) (if (i32.eqz (local.get 0)) (then unreachable))))""",
        "--function=--help", (134,),
    ),
    "a long buffer": (
        """(module (memory (export "memory") 64) (global $at (mut i32) (i32.const 1024))
        (func (export "malloc") (param i32) (result i32)
          (global.get $at) (global.set $at (i32.add (global.get $at) (local.get 0))))
        (func (export "f") (param $p i32) (param $len i32) (drop (i32.load8_u (local.get $p)))
          (if (i32.gt_u (local.get $len) (i32.const 700)) (then unreachable))))""",
        "--replay aegis-findings/", (1,),
    ),
    "a program": (
        """(module (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (drop (call $sizes (i32.const 0) (i32.const 4)))
          (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 2)) (then unreachable))))""",
        "aegis run", (134,),
    ),
}  # fmt: skip


def _shell(line: str, folder: Path) -> int:
    """Run a line in a shell that has ``aegis`` as a function."""
    program = f'aegis() {{ {shlex.join(COMMAND)} "$@"; }}\n{line}\n'
    done = subprocess.run(["sh", "-c", program], capture_output=True, timeout=SECONDS, check=False, cwd=folder)
    return done.returncode


def _findings(folder: Path, text: str, *words: str) -> list[dict[str, Any]]:
    (folder / "guest.wat").write_text(text)
    done = command(
        "-f", "json", "fuzz", "guest.wat", "--jobs", "1", "--runs", "1500", "--fuel-limit", "1e5", *words, cwd=folder
    )
    assert done.code == 1
    found: list[dict[str, Any]] = done.document["findings"]
    return found


@pytest.mark.usual(every=4)
@pytest.mark.parametrize("case", GUESTS)
def test_the_command_of_a_finding_is_short_and_reproduces_it(tmp_path: Path, case: str) -> None:
    text, part, codes = GUESTS[case]
    found = _findings(tmp_path, text, "--oracle", "no-trap", "--oracle", "no-limit")
    assert any(part in finding["command"] for finding in found), [finding["command"] for finding in found]
    for finding in found:
        assert len(finding["command"]) <= 2000
        assert _shell(finding["command"], tmp_path) in codes, finding["command"]


def test_a_finding_for_a_file_is_written_to_out_or_to_a_directory_of_its_own(tmp_path: Path) -> None:
    text = GUESTS["a long buffer"][0]
    (finding,) = _findings(tmp_path, text, "--oracle", "no-trap")
    assert [path.name for path in tmp_path.iterdir()].count("aegis-findings") == 1
    (finding,) = _findings(tmp_path, text, "--oracle", "no-trap", "--out", "my out")
    assert "--replay 'my out/no_trap_f_" in finding["command"]
    assert _shell(finding["command"], tmp_path) == 1


def test_short_findings_write_no_directory(tmp_path: Path) -> None:
    _findings(tmp_path, GUESTS["fuel"][0], "--oracle", "no-limit")
    assert [path.name for path in tmp_path.iterdir()] == ["guest.wat"]


NUL = """(component
  (core module $m (memory (export "memory") 64)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
    (func (export "f") (param i32 i32)
      (if (local.get 1) (then (if (i32.eqz (i32.load8_u (local.get 0))) (then unreachable))))))
  (core instance $i (instantiate $m))
  (func (export "f") (param "text" string) (canon lift (core func $i "f") (memory (core memory $i "memory"))
    (realloc (core func $i "realloc")))))"""


def test_a_text_with_a_nul_is_escaped_or_read_from_a_file(tmp_path: Path) -> None:
    (finding,) = _findings(tmp_path, NUL, "--oracle", "no-trap")
    assert finding["steps"] == [["f", ['"\\u{0}"']]]
    assert _shell(finding["command"], tmp_path) in (1, 134)


def test_a_replay_without_the_guest_says_so_and_shows_the_command_of_the_finding(tmp_path: Path) -> None:
    finding = tmp_path / "finding.json"
    finding.write_text(json.dumps({"oracle": "no-trap", "command": "aegis run -e f guest.wasm"}))
    for text in (finding.read_text(), "[]"):
        finding.write_text(text)
        ended = command("fuzz", "--replay", finding)
        assert ended.code == 2
        assert "name the component or module of the finding" in ended.err
        assert ("aegis run -e f guest.wasm" in ended.err) == ("guest.wasm" in text)
    assert "name the component or module of the finding" in command("fuzz", "--replay", tmp_path / "none").err
