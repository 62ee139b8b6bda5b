"""``aegis run --isolate`` gives the same results as without it, and no worker outlives the command."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aegis.policy.isolation import LAYERS, Isolation
from tests.cli.command import COMMAND, ROOT, SECONDS, Ended, aegis, guest
from tests.cli.test_signals import SPINS
from tests.guests.catalogue import built

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")

LIMIT = "--fuel-limit=none"
TELLS = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $tell
    (i32.store (i32.const 8) (i32.const 4096))
    (i32.store (i32.const 12) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))
  (func (export "_start")
    (drop (call $args_sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 1024) (i32.const 4096)))
    (call $tell)
    (drop (call $environ_sizes (i32.const 0) (i32.const 4)))
    (drop (call $environ (i32.const 1024) (i32.const 4096)))
    (call $tell)))"""
"""A guest that writes its arguments and environment variables, each terminated by a zero byte."""
MAKES = """(module
  (import "wasi_snapshot_preview1" "path_create_directory" (func $make (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (data (i32.const 0) "made")
  (func (export "_start") (call $exit (call $make (i32.const 3) (i32.const 0) (i32.const 4)))))"""
"""A guest that creates a directory in its first grant, and exits with the error number."""

ISOLATE = pytest.mark.parametrize("how", [(), ("--isolate",)], ids=["inside", "isolated"])


def isolated(*words: object, **keywords: Any) -> Ended:
    """Run ``aegis run --isolate`` with ``words``."""
    return aegis("run", "--isolate", *words, **keywords)


@pytest.fixture(scope="module")
def strict() -> bool:
    """Whether this system supports every isolation layer."""
    from aegis.isolation.confine import available

    return all(layer.active for layer in available())


# -- what goes in and comes out ------------------------------------------------------------------


def test_a_program_writes_to_stdout() -> None:
    assert isolated(guest("hello")) == (0, "hello, world\n", "")


def test_a_function_is_called_with_its_arguments() -> None:
    assert isolated("-e", "add", guest("add"), "2", "-3") == (0, "-1\n", "")


def test_a_program_gets_its_arguments_and_granted_variables_alone(tmp_path: Path) -> None:
    (tmp_path / "tell.wat").write_text(TELLS)
    words = (tmp_path / "tell.wat", "--", "one", "two words", "*")
    assert isolated(*words) == (0, "tell.wat\0one\0two words\0*\0", "")
    granted = isolated("--allow-env", "A=granted", "--allow-env", "B=", *words)
    assert granted == (0, "tell.wat\0one\0two words\0*\0A=granted\0B=\0", "")


def test_strict_runs_with_every_layer_and_refuses_without(strict: bool) -> None:
    ended = aegis("run", "--isolate=strict", guest("hello"))
    if strict:
        assert ended == (0, "hello, world\n", "")
    else:
        assert ended.code == 125
        assert "strict" in ended.err
        assert ended.out == ""


def test_standard_input_is_empty_unless_given() -> None:
    assert isolated(guest("wordcount"), stdin=b"a b c\n").out.split()[:3] == ["0", "0", "0"]
    assert isolated("--stdin", "inherit", guest("wordcount"), stdin=b"a b c\n").out.split()[:3] == ["1", "3", "6"]


def test_standard_input_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("one two\n")
    assert isolated("--stdin", tmp_path / "words", guest("wordcount")).out.split()[:3] == ["1", "2", "8"]


def test_the_module_comes_from_standard_input() -> None:
    from tests.cli.test_inspect import binary

    assert isolated("-", stdin=binary(guest("hello"))) == (0, "hello, world\n", "")


# -- directories: with the grant it can, without it the same guest cannot --------------------------


def test_a_granted_file_is_read_and_another_is_not(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("one two\nthree\n")
    (tmp_path / "other").write_text("secret\n")
    granted = isolated("--allow-read", "words", guest("wordcount"), "--", "words", cwd=tmp_path)
    assert (granted.code, granted.out.split()) == (0, ["2", "3", "14", "words"])
    denied = isolated("--allow-read", "words", guest("wordcount"), "--", "other", cwd=tmp_path)
    assert denied.code == 1
    assert "secret" not in denied.out


def test_a_file_beneath_a_granted_directory_is_read_and_one_beside_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "granted").mkdir()
    (tmp_path / "granted" / "words").write_text("one\n")
    (tmp_path / "secret").write_text("secret\n")
    grant = ("--allow-read", f"{tmp_path / 'granted'}::/data")
    inside = isolated(*grant, guest("wordcount"), "--", "/data/words")
    assert (inside.code, inside.out.split()[:3]) == (0, ["1", "1", "4"])
    outside = isolated(*grant, guest("wordcount"), "--", "/data/../secret")
    assert outside.code == 1
    without = isolated(guest("wordcount"), "--", "/data/words")
    assert without.code == 1


def test_a_directory_is_made_where_writing_is_granted_and_not_where_reading_is(tmp_path: Path) -> None:
    (tmp_path / "make.wat").write_text(MAKES)
    granted = tmp_path / "granted"
    granted.mkdir()
    assert isolated("--allow-read", granted, tmp_path / "make.wat").code != 0
    assert list(granted.iterdir()) == []
    assert isolated("--allow-write", granted, tmp_path / "make.wat") == (0, "", "")
    assert (granted / "made").is_dir()


# -- endings -------------------------------------------------------------------------------------


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("name", "options", "code", "status"),
    [
        ("hostile/spin", ["--timeout=2s", LIMIT], 124, "timeout"),
        ("hostile/spin", ["--fuel-limit=1e6"], 152, "out-of-fuel"),
        ("hostile/spin-in-start", ["--timeout=2s", LIMIT], 124, "timeout"),
        ("hostile/deep-recursion", [], 134, "stack-exhausted"),
        ("hostile/memory-initial", [], 137, "memory-exceeded"),
        ("hostile/memory-grown", [], 137, "memory-exceeded"),
        ("hostile/table-initial", [], 137, "memory-exceeded"),
        ("hostile/stdout-flood", [LIMIT], 153, "output-exceeded"),
        ("hostile/host-call-flood", ["--host-calls=1000", LIMIT], 153, "quota-exceeded"),
        ("hostile/wasi-unstable", [], 126, "refused"),
    ],
)
def test_each_ending_has_its_code_and_status(name: str, options: list[str], code: int, status: str) -> None:
    ended = aegis("-f", "json", "run", "--isolate", *options, guest(name))
    assert (ended.code, ended.document["status"], ended.document["exit_code"]) == (code, status, code)
    assert ended.document["error"]["message"]


@ISOLATE
@pytest.mark.parametrize(("text", "code"), [("(call $exit (i32.const 7))", 7), ("unreachable", 134)])
def test_a_guests_own_exit_code_and_its_trap(tmp_path: Path, how: tuple[str, ...], text: str, code: int) -> None:
    path = tmp_path / "ends.wat"
    path.write_text(
        '(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)'
        f'(func (export "_start") {text}))'
    )
    ended = aegis("run", *how, path)
    assert ended.code == code
    assert ended.out == ""


BAD = [
    (["no-such-file.wasm"], 127, "no such file"),
    (["."], 126, "directory"),
    (["-e", "ad", guest("add"), "1", "2"], 127, "did you mean add"),
    (["-e", "add", guest("add"), "1"], 2, "add(i32, i32) -> (i32)"),
    (["--allow-read", "/no/such/path", guest("wordcount"), "--", "x"], 125, "/no/such/path"),
    (["--allow-read", "/proc", guest("hello")], 125, "/proc"),
    (["--stdin", "/no/such/file", guest("hello")], 125, "/no/such/file"),
    ([guest("greet")], 126, "env.log"),
]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(("words", "code", "says"), BAD, ids=lambda v: None)
def test_bad_input_gets_the_line_and_code_that_it_gets_without(words: list[object], code: int, says: str) -> None:
    ended = isolated(*words)
    assert (ended.code, ended.err) == (code, aegis("run", *words).err)
    assert says in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "says"), [(b"", "is empty"), (b"hello", "magic"), (b"\0asm\1\0\0\0\1\5", "past the end")]
)
def test_an_invalid_module_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "odd.wasm").write_bytes(data)
    ended = isolated(tmp_path / "odd.wasm")
    assert ended.code == 126
    assert says in ended.err


def test_isolate_takes_nothing_but_strict() -> None:
    ended = aegis("run", "--isolate=bogus", guest("hello"))
    assert (ended.code, ended.out) == (2, "")
    assert "bogus" in ended.err
    assert "strict" in ended.err


# -- reports and policies --------------------------------------------------------------------------


def test_the_report_names_every_layer() -> None:
    document = aegis("-f", "json", "run", "--isolate", guest("hello")).document
    assert [layer["layer"] for layer in document["isolation"]] == list(LAYERS)
    assert all(layer["detail"] and layer["active"] in (True, False) for layer in document["isolation"])
    assert document["stdout"] == "hello, world\n"
    assert aegis("-f", "json", "run", guest("hello")).document["isolation"] == []
    assert "isolated" in isolated("--metrics", guest("hello")).err


def test_the_policy_file_isolates_and_a_flag_makes_it_strict(tmp_path: Path, strict: bool) -> None:
    (tmp_path / "on.toml").write_text("[isolation]\n")
    (tmp_path / "off.toml").write_text("[isolation]\nenabled = false\n")
    (tmp_path / "strict.toml").write_text("[isolation]\nstrict = true\n")
    (tmp_path / "odd.toml").write_text("\n[isolation]\nworker = 1\n")
    on, off = (aegis("-f", "json", "-c", tmp_path / f"{n}.toml", "run", guest("hello")) for n in ("on", "off"))
    assert (on.code, bool(on.document["isolation"])) == (0, True)
    assert (off.code, bool(off.document["isolation"])) == (0, False)
    strict_ones = (
        ("-c", tmp_path / "strict.toml", "run"),
        ("-c", tmp_path / "on.toml", "run", "--isolate=strict"),
        ("-c", tmp_path / "off.toml", "run", "--isolate=strict"),
    )
    for words in strict_ones:
        assert aegis(*words, guest("hello")).code == (0 if strict else 125)
    odd = aegis("-c", tmp_path / "odd.toml", "run", guest("hello"))
    assert odd.code == 125
    assert "odd.toml:3: 'worker' is not a key of isolation: did you mean 'workers'?" in odd.err


@pytest.mark.parametrize(
    ("text", "flags", "strict"),
    [
        ("", ["--isolate=strict"], True),
        ("", ["--isolate=on"], False),
        ("[isolation]\nstrict = true\n", [], True),
        ("[isolation]\nstrict = true\n", ["--isolate=on"], True),
        ("[isolation]\nworkers = 7\n", ["--isolate=strict"], True),
    ],
)
def test_a_flag_adds_to_the_file_and_loosens_nothing(tmp_path: Path, text: str, flags: list[str], strict: bool) -> None:
    from aegis.cli.options import make_policy
    from aegis.cli.run_command import command

    (tmp_path / "aegis.toml").write_text(text)
    options = command.make_context("run", [*flags, "guest.wasm"]).params
    isolation = make_policy([str(tmp_path / "aegis.toml")], options, capture=False).isolation
    assert isolation is not None
    assert isolation.strict is strict
    assert isolation.workers == (7 if "workers" in text else Isolation().workers)


def test_strict_and_a_layer_left_out_is_a_contradiction(tmp_path: Path) -> None:
    (tmp_path / "aegis.toml").write_text('[isolation]\nwithout = ["namespaces"]\n')
    ended = aegis("-f", "json", "-c", tmp_path / "aegis.toml", "run", guest("hello"))
    active = {layer["layer"]: layer["active"] for layer in ended.document["isolation"]}
    assert (ended.code, active["namespaces"], active["rlimits"]) == (0, False, True)
    ended = aegis("-c", tmp_path / "aegis.toml", "run", "--isolate=strict", guest("hello"))
    assert (ended.code, ended.out) == (125, "")
    assert "without" in ended.err


def test_events_arrive_in_order(tmp_path: Path) -> None:
    kinds = []
    for number, how in enumerate(((), ("--isolate",))):
        log = tmp_path / f"log{number}"
        aegis("run", *how, "--events", log, guest("hello"))
        lines = log.read_text().splitlines()
        kinds.append([line.split('"kind":"')[1].split('"')[0] for line in lines])
    assert kinds[0] == kinds[1]
    assert kinds[1][-2:] == ["execution_completed", "run_ended"]


def test_a_denial_names_its_remedy_as_without() -> None:
    inside, outside = (aegis("run", *how, guest("wordcount"), "--", "x") for how in ((), ("--isolate",)))
    assert outside == inside


def test_a_denial_that_traps_ends_as_without() -> None:
    words = ("--allow-clock=deny", guest("hostile/sleep-hour"))
    ended = isolated(*words)
    assert ended == aegis("run", *words)
    assert ended.code == 126
    assert "--allow-clock" in ended.err


def test_a_component_runs_and_answers_a_call_as_without() -> None:
    assert isolated(built("hello-component")) == (0, "hello, world\n", "")
    for call in ("sum([1, -5])", 'reverse("é")', "sum([1, x])", "cont()"):
        assert isolated("--invoke", call, built("c-text")) == aegis("run", "--invoke", call, built("c-text"))


def test_the_log_is_shown_where_it_is_granted() -> None:
    granted = isolated("--allow-logging=warn", guest("logging"))
    assert granted.err.splitlines() == ["log: warn: warn", "log: error: error", "log: critical: critical"]
    assert isolated(guest("logging")).err == ""


def test_doctor_prints_every_layer() -> None:
    checks = aegis("-f", "json", "doctor").document["checks"]
    named = [check["name"] for check in checks]
    assert named[named.index("isolation") + 1 :][: len(LAYERS)] == list(LAYERS)
    assert all(check["level"] in ("ok", "warning") for check in checks if check["name"] in LAYERS)


# -- processes -----------------------------------------------------------------------------------


@contextmanager
def spinning(tmp_path: Path, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start an isolated guest that reports that it is ready, and then computes forever."""
    (tmp_path / "spin.wat").write_text(SPINS)
    command = [*COMMAND, "run", "--isolate", LIMIT, "--timeout=50s", *map(str, words), str(tmp_path / "spin.wat")]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def descendants(pid: int) -> list[int]:
    """Return the descendants of ``pid``: the fork server, then its workers."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread ended
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def gone(handles: list[int], seconds: float = 10.0) -> bool:
    """Wait until all processes behind ``handles`` have exited; return whether they have."""
    until = time.monotonic() + seconds
    waiting = select.poll()
    for handle in handles:
        waiting.register(handle, select.POLLIN)
    left = set(handles)
    while left and time.monotonic() < until:
        for handle, _ in waiting.poll(1000 * max(0.0, until - time.monotonic())):
            waiting.unregister(handle)
            left.discard(handle)
    return not left


@pytest.fixture
def handles() -> Iterator[list[int]]:
    """Process descriptors, closed after the test."""
    found: list[int] = []
    yield found
    for handle in found:
        os.close(handle)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_command_and_every_process_of_it(
    tmp_path: Path, handles: list[int], number: int, code: int
) -> None:
    with spinning(tmp_path) as process:
        below = descendants(process.pid)
        assert below  # the guest's worker
        handles += map(os.pidfd_open, below)
        before = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
        took = time.monotonic() - before
        assert gone(handles)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert took < 2.0  # a quarter of a second on an idle machine


def test_the_deadline_leaves_no_process(tmp_path: Path, handles: list[int]) -> None:
    with spinning(tmp_path, "--timeout=3s") as process:
        handles += map(os.pidfd_open, descendants(process.pid))
        _, err = process.communicate(timeout=SECONDS)
        assert gone(handles)
    assert process.returncode == 124
    assert b"deadline" in err


def test_a_killed_worker_is_reported(tmp_path: Path) -> None:
    with spinning(tmp_path) as process:
        for pid in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 134
    assert err.startswith(b"error: the worker process died of signal 9 (SIGKILL)")


def test_an_end_of_the_reader_ends_the_flood_as_without(tmp_path: Path) -> None:
    ended = []
    for how in ([], ["--isolate"]):
        process = subprocess.Popen(
            [*COMMAND, "run", *how, LIMIT, "--stdout-limit=none", str(guest("hostile/stdout-flood"))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        # the amount of input read by then depends on the pipe's buffer
        ended.append((process.wait(SECONDS), re.sub(rb"\([\d,]+/", b"(used/", err)))
        process.stderr.close()
    assert ended[0] == ended[1]
    assert b"Traceback" not in ended[1][1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_reported() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "run", "--isolate", str(guest("hello"))], stdout=full, stderr=subprocess.PIPE,
            timeout=SECONDS, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 125
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
