"""A command line in a forked process of the tests ends as in a started one.

Oracle: a process that is started for the same line, with the same input, directory and environment.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli import preloaded
from tests.cli.command import COMMAND, ROOT, SECONDS, guest

ECHO = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\00\\10\\00\\00")
  (func (export "_start")
    (loop $more
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 12) (i32.const 16))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.const 4096))
        (br $more))))))"""
LINES = {
    "a run": (["run", str(guest("hello"))], b""),
    "a run that reads its input": (["run", "--stdin", "inherit", "echo.wat"], b"0123456789abcdef" * 20_000),
    "a missing file": (["run", "missing.wat"], b""),
    "a mistake": (["run", "--no-such-option"], b""),
    "help": (["--help"], b""),
    "a trap": (["-f", "json", "run", "-e", "missing", str(guest("hello"))], b""),
    "a policy": (["policy", "show", "-f", "toml"], b""),
    "input that nobody reads": (["policy", "show"], b"x" * 200_000),
}


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", LINES)
def test_a_forked_command_line_ends_like_a_started_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, stdin = LINES[name]
    (tmp_path / "echo.wat").write_text(ECHO)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # the limit would empty the cache of all tests
    monkeypatch.setenv("AEGIS_CACHE_SIZE", "1MiB")
    started = subprocess.run([*COMMAND, *words], input=stdin, capture_output=True, cwd=tmp_path, check=False)
    forked = preloaded.run(words, stdin=stdin, cwd=tmp_path, seconds=SECONDS)
    assert forked == (started.returncode, started.stdout, started.stderr)


def test_a_forked_command_line_has_the_environment_of_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_CACHE_SIZE", "much")
    code, _, err = preloaded.run(["cache", "info"], stdin=b"", cwd=ROOT, seconds=SECONDS)
    assert (code, b"AEGIS_CACHE_SIZE" in err) == (125, True)


def test_a_forked_command_line_that_does_not_end_is_killed_and_the_next_one_runs() -> None:
    endless = ["run", "--timeout", "50s", "--fuel-limit", "none", str(guest("hostile/spin"))]
    with pytest.raises(subprocess.TimeoutExpired):
        preloaded.run(endless, stdin=b"", cwd=ROOT, seconds=0.5)
    assert preloaded.run(["--version"], stdin=b"", cwd=ROOT, seconds=SECONDS)[0] == 0


@pytest.mark.skipif("COVERAGE_PROCESS_CONFIG" in os.environ, reason="a measured process is always started")
def test_what_the_start_decides_is_run_in_a_started_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preloaded.suitable(["run", "x.wat"])
    assert not preloaded.suitable(["run", "--isolate=strict", "x.wat"])
    for name in ("PYTHONPATH", "PYTHONIOENCODING", "LC_ALL", "COVERAGE_PROCESS_CONFIG"):
        with monkeypatch.context() as changed:
            changed.setenv(name, "x")
            assert not preloaded.suitable(["run", "x.wat"])
