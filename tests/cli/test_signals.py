"""Ctrl-C, SIGTERM and the deadline end the process, whatever it is doing."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, ROOT, aegis, guest
from tests.guests.catalogue import GUESTS, built

SPINS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00") (data (i32.const 16) "ready\\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $for_ever (br $for_ever))))"""


@contextmanager
def started(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``aegis``, and kill it after the test, whatever happens."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


EARLY = """
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from aegis.cli import main
main()
"""


@pytest.mark.parametrize(
    "module", ["aegis.cli.process", "aegis.cli.main", "aegis.cli.command_line", "aegis.errors", "aegis.runtime"]
)
def test_ctrl_c_while_the_command_is_imported_is_one_line_and_130(module: str) -> None:
    """The interrupt comes as the module is looked for, which is one of the moments at which Ctrl-C may come."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", EARLY.format(module=module), "run", guest("hello")], cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_spinning_guest_ends_at_a_signal(tmp_path_factory: pytest.TempPathFactory, number: int, code: int) -> None:
    path = tmp_path_factory.mktemp("spin") / "spin.wat"
    path.write_text(SPINS)
    with started("run", "--fuel-limit=none", "--timeout=50s", path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"  # the guest is spinning now
        before = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - before
    assert process.returncode == code
    assert err.startswith(b"error: ")
    assert b"Traceback" not in err
    assert took < 2.0  # a quarter of a second on an idle machine


@pytest.mark.parametrize(
    "options", [(), ("--isolate",), ("--fuel-limit=1e18",)], ids=lambda o: o[0] if o else "default"
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_guest_that_makes_no_calls_ends_at_a_signal(
    tmp_path: Path, options: tuple[str, ...], number: int, code: int
) -> None:
    """A program's guest runs on the main thread, so Python handles Ctrl-C only after it ends. The command exits at
    once.
    """
    path = tmp_path / "spin.wat"
    path.write_text('(module (func (export "_start") (loop $for_ever (br $for_ever))))')
    with started("run", "--events=-", "--timeout=500s", *options, path) as process:
        assert process.stderr is not None
        assert any(b"execution_started" in line for line in iter(process.stderr.readline, b""))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"error: " in err
    assert b"Traceback" not in err


def test_two_signals_at_once_end_the_command_as_one_does(tmp_path: Path) -> None:
    """Both signals are pending when Python checks, so the second arrives while the first is being handled."""
    (tmp_path / "spin.wat").write_text(SPINS)
    with started("run", "--fuel-limit=none", "--timeout=50s", tmp_path / "spin.wat") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode in (130, 143)
    assert b"Traceback" not in err


def test_the_deadline_ends_a_compiler_that_does_not() -> None:
    bomb = built("hostile/compile-bomb")
    before = time.monotonic()
    ended = aegis("-f", "json", "run", "--no-cache", "--timeout=500ms", "--complexity=none", bomb)
    took = time.monotonic() - before
    assert ended.code == 124
    assert ended.document["status"] == "timeout"
    assert took < 5.0  # unless it is stopped, the bomb takes ten seconds and all memory


def test_the_deadline_ends_the_compilation_of_a_module_within_the_limits(tmp_path: Path) -> None:
    bombs = runpy.run_path(str(GUESTS / "hostile" / "compile-bombs" / "make.py"))
    bomb = tmp_path / "bomb.wasm"
    bomb.write_bytes(bombs["function"](size=900_000, times=12))  # compiles for most of a minute on one core
    before = time.monotonic()
    ended = aegis("-f", "json", "run", "--no-cache", "--timeout=3s", bomb)
    took = time.monotonic() - before
    assert (ended.code, ended.document["status"]) == (124, "timeout")
    assert took < 8.0


def test_a_guest_that_waits_for_silent_input_ends_at_its_deadline() -> None:
    with started("run", "--stdin=inherit", "--timeout=300ms", guest("hostile/stdin-wait")) as process:
        assert process.stderr is not None
        err = process.stderr.read()  # stdin stays open and sends nothing
        process.wait(30)
    assert process.returncode == 124
    assert b"deadline" in err
