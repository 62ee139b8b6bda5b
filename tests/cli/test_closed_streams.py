"""Started without standard streams, each command ends with its usual code, and opens no file in their place."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, ROOT, SECONDS, guest
from tests.isolation.isolated import only_where_there_are_workers

CLOSED = [each for count in (1, 2, 3) for each in combinations(("<&-", ">&-", "2>&-"), count)]
SAYS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\0c\\00\\00\\00\\40\\00\\00\\00\\40\\00\\00\\00")
  (data (i32.const 16) "{\\"forged\\":1}")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 32)))
    (call $exit (i32.add (i32.const 40) (i32.load (i32.const 32))))))"""
"""A guest that writes to both outputs, reads its input, and exits with 40 plus the number of bytes it read."""


def begin(words: list[str], closed: tuple[str, ...], folder: Path) -> subprocess.Popen[bytes]:
    """Start ``aegis`` with some streams closed; the others are files."""
    name = "".join(closed) or "open"
    with open(folder / f"{name}.out", "wb") as out, open(folder / f"{name}.err", "wb") as err:
        return subprocess.Popen(
            ["sh", "-c", f'exec "$@" {" ".join(closed)}', "sh", *COMMAND, *words],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT,
        )  # fmt: skip


@pytest.fixture
def says(tmp_path: Path) -> str:
    path = tmp_path / "says.wat"
    path.write_text(SAYS)
    return str(path)


HELLO = str(guest("hello"))
COMMANDS: list[Any] = [
    ["run", HELLO],
    ["run", "nothing.wat"],
    ["--help"],
    *[
        pytest.param(words, marks=pytest.mark.long)
        for words in (
            ["run", "--format", "json", HELLO],
            ["validate", HELLO],
            ["inspect", HELLO],
            ["doctor"],
            ["fuzz", "--runs", "20", HELLO],
            ["bindgen", "--check", "nothing.wit"],
            ["run", "--no-such-option"],
        )
    ],
    *[
        pytest.param(words, marks=[only_where_there_are_workers, *marks])
        for words, marks in (
            (["run", "--isolate", HELLO], []),
            (["run", "--isolate=strict", HELLO], [pytest.mark.long]),
            (["validate", "--isolate", HELLO], [pytest.mark.long]),
        )
    ],
]


@pytest.mark.usual("run --isolate*", "--help")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_exit_code_does_not_depend_on_which_streams_are_closed(words: list[str], tmp_path: Path) -> None:
    running = {closed: begin(words, closed, tmp_path) for closed in [(), *CLOSED]}
    codes = {closed: process.wait(SECONDS) for closed, process in running.items()}
    assert set(codes.values()) == {codes[()]}, codes
    assert codes[()] not in (1, 124, 125), (tmp_path / "open.err").read_text()
    for path in tmp_path.glob("*.err"):
        assert b"Traceback" not in path.read_bytes()


@pytest.mark.parametrize("how", [(), pytest.param(("--isolate",), marks=only_where_there_are_workers)])
def test_a_closed_stdin_is_empty_and_closed_outputs_discard_writes(
    says: str, tmp_path: Path, how: tuple[str, ...]
) -> None:
    events = {closed: tmp_path / f"{''.join(closed)}.events" for closed in CLOSED}
    running = {
        closed: begin(["run", *how, "--stdin", "inherit", "--events", str(events[closed]), says], closed, tmp_path)
        for closed in CLOSED
    }
    for closed, process in running.items():
        assert process.wait(SECONDS) == 40, closed
        written = events[closed].read_text()
        assert "forged" not in written, "no line of the events is the guest's"
        assert [json.loads(line) for line in written.splitlines()]
        for stream, path in ((">&-", f"{''.join(closed)}.out"), ("2>&-", f"{''.join(closed)}.err")):
            expected = "" if stream in closed else '{"forged":1}'
            assert (tmp_path / path).read_text() == expected


@pytest.mark.parametrize("how", [(), pytest.param(("--isolate",), marks=only_where_there_are_workers)])
def test_streams_of_the_wrong_direction_neither_hang_nor_pass_for_delivered(says: str, how: tuple[str, ...]) -> None:
    """Stdin is the writing end of a pipe, stdout the reading end of another: poll(2) never reports them ready."""
    (unused, stdin), (stdout, other) = os.pipe(), os.pipe()
    try:
        done = subprocess.run(
            [*COMMAND, "run", *how, "--stdin", "inherit", says], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
            timeout=SECONDS, cwd=ROOT, check=False,
        )  # fmt: skip
    finally:
        for each in (unused, stdin, stdout, other):
            os.close(each)
    assert done.returncode == 40
    assert b"error: output of the guest was lost: its stdout failed: bad file descriptor" in done.stderr
