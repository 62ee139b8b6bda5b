"""Standard streams of a guest in a worker: the same bytes, order, waits and errors as in process."""

from __future__ import annotations

import fcntl
import os
import pty
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, StdioCapability
from tests.cli.command import COMMAND, ROOT, SECONDS
from tests.guests.catalogue import built
from tests.isolation.isolated import isolated, only_where_there_are_workers

pytestmark = only_where_there_are_workers
HOW = pytest.mark.parametrize("how", [(), ("--isolate",)], ids=["in-process", "isolated"])
HEAD = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
"""
READS_FOUR = (
    HEAD
    + """(data (i32.const 0) "\\40\\00\\00\\00\\04\\00\\00\\00")
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
    (i32.store (i32.const 4) (i32.load (i32.const 32)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"""
)
"""A guest that reads four bytes, and writes them."""
ALTERNATES = (
    HEAD
    + """(data (i32.const 0) "\\20\\00\\00\\00\\02\\00\\00\\00\\22\\00\\00\\00\\02\\00\\00\\00")
  (data (i32.const 32) "o\\0ae\\0a")
  (func (export "_start") (local $n i32)
    (loop $l
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
      (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 64)))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200))))))"""
)
FLOODS = (
    HEAD
    + """(data (i32.const 0) "\\00\\04\\00\\00\\00\\40\\00\\00")
  (func (export "_start") (local $n i32)
    (loop $l
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 30))))))"""
)
"""A guest that writes 30 times 16 KiB."""
POLLS = (
    HEAD
    + """(data (i32.const 0) "\\01") (data (i32.const 8) "\\01")
  (data (i32.const 48) "\\02") (data (i32.const 64) "\\01") (data (i32.const 72) "\\00\\00\\00\\00\\20")
  (func (export "_start")
    (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 2) (i32.const 512)))
    (call $exit (i32.add (i32.mul (i32.const 10) (i32.load (i32.const 512))) (i32.load (i32.const 256))))))"""
)
"""A guest that waits for stdin (1) or a clock minutes away (2); it exits with ten times the events plus the first of
them.
"""
KINDS = (
    HEAD
    + """(func $kind (param i32) (result i32)
    (drop (call $stat (local.get 0) (i32.const 0))) (i32.load8_u (i32.const 0)))
  (func (export "_start")
    (call $exit (i32.add (i32.mul (i32.const 10) (call $kind (i32.const 0))) (call $kind (i32.const 1))))))"""
)


def start(tmp_path: Path, text: str, *options: str, **streams: Any) -> subprocess.Popen[bytes]:
    path = tmp_path / "guest.wat"
    path.write_text(text)
    return subprocess.Popen([*COMMAND, "run", *options, str(path)], cwd=ROOT, **streams)


@HOW
def test_no_more_of_stdin_is_read_than_the_guest_asked_for(tmp_path: Path, how: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"fourrest")
    process = start(tmp_path, READS_FOUR, *how, "--stdin", "inherit", stdin=reading, stdout=subprocess.PIPE)
    assert process.communicate(timeout=SECONDS)[0] == b"four"
    os.close(writing)
    assert os.read(reading, 100) == b"rest"
    os.close(reading)


@HOW
def test_the_end_of_stdin_is_the_end_and_a_file_is_read_likewise(tmp_path: Path, how: tuple[str, ...]) -> None:
    given = tmp_path / "given"
    given.write_bytes(b"abc")
    process = start(tmp_path, READS_FOUR, *how, "--stdin", str(given), stdout=subprocess.PIPE)
    assert process.communicate(timeout=SECONDS)[0] == b"abc"
    process = start(tmp_path, READS_FOUR, *how, "--stdin", "inherit", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.communicate(timeout=SECONDS)[0] == b""


@HOW
@pytest.mark.parametrize("clock", ["virtual", "system"])
def test_a_poll_ends_when_stdin_is_ready_and_not_before(tmp_path: Path, how: tuple[str, ...], clock: str) -> None:
    """With a virtual clock no time passes while the host waits: an event that is not ready is later than any timer."""
    options = (*how, "--stdin", "inherit", *(["--allow-clock"] if clock == "system" else []))
    process = start(tmp_path, POLLS, *options, stdin=subprocess.PIPE)
    assert process.stdin is not None
    if clock == "system":
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.wait(SECONDS) == 11
    else:
        assert process.wait(SECONDS) == 12
    process.stdin.close()
    reading, writing = os.pipe()
    os.write(writing, b"ready")
    assert start(tmp_path, POLLS, *options, stdin=reading).wait(SECONDS) == 11
    os.close(reading)
    os.close(writing)


@HOW
def test_a_guest_that_waits_for_stdin_ends_at_its_deadline(tmp_path: Path, how: tuple[str, ...]) -> None:
    process = start(
        tmp_path, READS_FOUR, *how, "--stdin", "inherit", "--timeout", "1s", stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.wait(SECONDS) == 124
    for stream in (process.stdin, process.stderr):
        assert stream is not None
        stream.close()


@HOW
def test_both_streams_write_to_one_file_in_the_guests_order(tmp_path: Path, how: tuple[str, ...]) -> None:
    process = start(tmp_path, ALTERNATES, *how, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.communicate(timeout=SECONDS)[0] == b"o\ne\n" * 200


@HOW
def test_a_slow_reader_gets_everything_from_a_stream_that_does_not_block(tmp_path: Path, how: tuple[str, ...]) -> None:
    """The stream is shared with another process, which made it non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start(tmp_path, FLOODS, *how, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    got = 0
    while piece := os.read(reading, 1000):
        got += len(piece)
        time.sleep(0)
    os.close(reading)
    assert process.wait(SECONDS) == 0
    assert got == 30 << 14
    assert process.stderr is not None
    process.stderr.close()


@HOW
def test_an_unread_flood_ends_at_the_deadline(tmp_path: Path, how: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    process = start(tmp_path, FLOODS, *how, "--timeout", "4s", stdout=writing, stderr=subprocess.PIPE)
    assert process.wait(SECONDS) == 124
    assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(writing)
    assert set(os.read(reading, 1 << 20)) == {0}
    os.close(reading)
    assert process.stderr is not None
    process.stderr.close()


@HOW
def test_a_guest_sees_which_streams_are_terminals(tmp_path: Path, how: tuple[str, ...]) -> None:
    controller, terminal = pty.openpty()
    options = (*how, "--stdin", "inherit")
    try:
        process = start(tmp_path, KINDS, *options, stdin=terminal, stdout=subprocess.DEVNULL)
        assert process.wait(SECONDS) == 20, "stdin is a character device"
        process = start(tmp_path, KINDS, *options, stdin=subprocess.DEVNULL, stdout=terminal)
        assert process.wait(SECONDS) == 2, "stdout is"
    finally:
        os.close(controller)
        os.close(terminal)


def test_a_cancelled_wait_for_stdin_ends_and_a_file_is_closed_with_its_sandbox(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    keeper = os.open(tmp_path / "fifo", os.O_RDWR)
    aegis: Aegis = isolated(timeout="20s")
    module = aegis.load_wat(READS_FOUR)
    before = len(os.listdir("/proc/self/fd"))
    stdio = StdioCapability(stdin=f"file:{tmp_path / 'fifo'}", stdout="capture")
    with aegis.sandbox(module, stdio=stdio) as sandbox:
        ends: list[Any] = []
        thread = threading.Thread(target=lambda: ends.append(sandbox.run("_start")))
        thread.start()
        while not sandbox._run.store.delivery.pending:  # type: ignore[union-attr]
            assert thread.is_alive()
        sandbox.cancel()
        thread.join(SECONDS)
        assert ends[0].status == "interrupted"
    aegis._isolated.pool.close()  # type: ignore[union-attr]
    assert len(os.listdir("/proc/self/fd")) <= before
    os.close(keeper)


STOPPED = """
import sys, time
a = Aegis(isolation=True, cache=False, timeout='1s')
box = a.sandbox(a.load_wat(sys.argv[1]), stdio=StdioCapability(stdout='inherit', stderr='capture'))
started = time.monotonic()
outcome = box.run('_start')
print(outcome.status, time.monotonic() - started < 4, file=sys.stderr)
"""


def test_a_terminal_that_is_stopped_does_not_hold_up_the_parent_past_the_deadline(tmp_path: Path) -> None:
    """poll(2) reports the terminal as writable, but a write would wait until a person presses Ctrl-Q."""
    controller, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"from aegis import *{STOPPED}", FLOODS], stdin=subprocess.DEVNULL,
            stdout=terminal, stderr=subprocess.PIPE, cwd=ROOT, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.stderr == b"timeout True\n"
        assert not fcntl.fcntl(terminal, fcntl.F_GETFL) & os.O_NONBLOCK
    finally:
        termios.tcflow(terminal, termios.TCOON)
        os.close(controller)
        os.close(terminal)


@pytest.mark.parametrize("isolation", [False, True], ids=["in-process", "isolated"])
def test_a_socket_that_takes_less_than_a_write_does_not_hold_up_the_parent(isolation: bool) -> None:
    """poll(2) reports the pipe as writable, but a blocking write would wait for a reader to take the rest."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as output:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        output.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2304)
        output.connect(server.getsockname())
        code = "from aegis import *" + STOPPED.replace("isolation=True", f"isolation={isolation}")
        done = subprocess.run(
            [sys.executable, "-c", code, FLOODS], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE,
            cwd=ROOT, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.stderr == b"timeout True\n"
        assert not fcntl.fcntl(output, fcntl.F_GETFL) & os.O_NONBLOCK


def test_sandboxes_with_inherited_streams_leave_no_descriptor_behind(tmp_path: Path) -> None:
    code = """
from aegis import *; import os, sys, gc
a = Aegis(isolation=True, cache=False); module = a.load_wat(sys.argv[1])
stdio = StdioCapability(stdin='inherit', stdout='inherit', stderr='inherit')
def count():
    gc.collect(); return len(os.listdir('/proc/self/fd'))
def once():
    with a.sandbox(module, stdio=stdio) as box: box.call('_start')
once(); before = count()
for _ in range(5): once()
a.sandbox(module, stdio=stdio).call('_start')
sys.exit(count() > before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, READS_FOUR], input=b"x" * 100, capture_output=True, cwd=ROOT, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"x" * 28


@pytest.mark.parametrize("isolate", [False, True], ids=["in-process", "isolated"])
def test_a_directory_as_standard_input_is_an_error_of_the_read(isolate: bool) -> None:
    """Python does not start with such an input; an application may get one later."""
    program = f"""
import os
os.dup2(os.open("/", os.O_RDONLY), 0)
import aegis
runtime = aegis.Aegis(cache=False, stdio=aegis.StdioCapability(stdin="inherit"), isolation={isolate})
with runtime.sandbox(runtime.load_file({str(built("cat"))!r}), args=("cat",)) as sandbox:
    outcome = sandbox.run("_start")
assert outcome.exit_code == 1 and b"Is a directory" in outcome.stderr, outcome
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=SECONDS, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
