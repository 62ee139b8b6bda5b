"""The log of ``--events`` is append-only, complete until the moment of a SIGKILL, and shared without broken lines."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aegis
from aegis.observe import (
    CollectingSubscriber,
    Custom,
    EventBus,
    ExecutionCompleted,
    JsonLinesWriter,
    SubscriberWarning,
)
from tests.cli.command import COMMAND, ROOT, SECONDS, guest
from tests.cli.command import aegis as command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs and signals are POSIX's")

SPINS = '(module (func (export "_start") (loop (br 0))))'
ASKS = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00") (data (i32.const 16) "ready\\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (loop (br 0))))"""
TALKS = """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1) (func (export "_start") (local $n i32)
    (loop (drop (call $yield))
      (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300))))))"""


def events(log: Path) -> list[Any]:
    """Return the events of a log; fail for a line that is not JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def kinds(log: Path) -> list[str]:
    return [event["kind"] for event in events(log)]


def written(folder: Path, text: str) -> Path:
    path = folder / "guest.wat"
    path.write_text(text)
    return path


def begin(*words: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *map(str, words)], cwd=ROOT, stderr=subprocess.PIPE, **options)


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


@pytest.mark.parametrize("how", [(), pytest.param(("--isolate",), marks=LINUX)])
def test_a_killed_run_has_left_each_event_until_then(tmp_path: Path, how: tuple[str, ...]) -> None:
    log = tmp_path / "log"
    with begin("run", *how, "--events", log, written(tmp_path, ASKS), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.wait(SECONDS)
    assert kinds(log)[:2] == ["run_started", "module_loaded"]
    assert "execution_started" in kinds(log)
    assert events(log)[0]["path"].endswith("guest.wat")
    assert "run_ended" not in kinds(log)


def test_the_next_run_appends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"kind":"older"}\n')
    assert command("run", "--events", log, guest("hello")).code == 0
    assert command("run", "--events", log, tmp_path / "gone.wasm").code == 127
    assert command("run", "--events", log, "--allow-read", tmp_path / "gone", guest("hello")).code == 125
    found = events(log)
    assert found[0] == {"kind": "older"}
    assert [(e["status"], e["exit_code"]) for e in found if e["kind"] == "run_ended"] == [
        ("returned", 0), ("not-found", 127), ("policy-error", 125),
    ]  # fmt: skip
    assert len({e["run"] for e in found[1:]}) == 3
    for run in {e["run"] for e in found[1:]}:
        mine = [e for e in found if e.get("run") == run]
        assert [e["seq"] for e in mine] == list(range(1, len(mine) + 1))


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "not found": (("gone.wasm",), "no such file"),
    "not WebAssembly": (("text.wasm",), "magic"),
    "no such export": (("-e", "nope", "guest.wat"), "nope"),
    "a missing grant": (("--allow-read", "gone", "guest.wat"), "no such file"),
    "a bad policy file": (("-c", "bad.toml", "guest.wat"), "unknown"),
    "a bad limit": (("--timeout", "never", "guest.wat"), "timeout"),
    "wrong arguments": (("-e", "f", "guest.wat", "1", "2"), "argument"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_that_is_refused_has_events_with_its_reason(tmp_path: Path, case: str) -> None:
    words, why = REFUSED[case]
    (tmp_path / "guest.wat").write_text('(module (func (export "f") (param i32)))')
    (tmp_path / "text.wasm").write_text("no magic bytes here")
    (tmp_path / "bad.toml").write_text("unknown = 1\n")
    done = command("-f", "json", "run", "--events", "log", *words, cwd=tmp_path)
    started, ended = events(tmp_path / "log")
    assert (started["kind"], ended["kind"]) == ("run_started", "run_ended")
    assert started["path"] == ended["path"] == done.document["artifact"]
    assert (ended["status"], ended["exit_code"]) == (done.document["status"], done.document["exit_code"])
    assert done.code == ended["exit_code"] != 0
    assert ended["message"] == done.document["error"]["message"]
    assert why in ended["message"]


def test_a_refused_run_is_not_recorded_where_a_guest_may_have_left_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "log").symlink_to(victim)
    assert command("run", "--events", tmp_path / "log", "--timeout", "never", guest("hello")).code == 125
    assert victim.read_text() == ""
    assert command("run", "--events", tmp_path / "log", guest("hello")).code == 0
    assert "run_ended" in victim.read_text()


ENDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "returned": ('(module (func (export "_start")))', (), "returned"),
    "trap": ('(module (func (export "_start") unreachable))', (), "trap"),
    "fuel": (SPINS, ("--fuel-limit=1000",), "out-of-fuel"),
    "timeout": (SPINS, ("--timeout=200ms",), "timeout"),
    "timeout in the start function": (
        '(module (func $f (loop (br 0))) (start $f) (func (export "_start")))',
        ("--timeout=0.2s",),
        "timeout",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_events_and_report_have_one_exit_code(tmp_path: Path, case: str) -> None:
    text, words, status = ENDS[case]
    log = tmp_path / "log"
    report = command("-f", "json", "run", "--events", log, *words, written(tmp_path, text))
    assert report.document["status"] == status
    codes = {(e["status"], e["exit_code"]) for e in events(log) if "exit_code" in e}
    assert codes == {(status, report.code)} == {(status, report.document["exit_code"])}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_has_one_exit_code_in_events_report_and_process(tmp_path: Path, number: int, code: int) -> None:
    log = tmp_path / "log"
    with begin("-f", "json", "run", "--events", log, written(tmp_path, SPINS), stdout=subprocess.PIPE) as process:
        wait_for(log, "execution_started")
        process.send_signal(number)
        out, _ = process.communicate(timeout=SECONDS)
    report = json.loads(out)
    codes = {e["exit_code"] for e in events(log) if "exit_code" in e}
    assert codes == {code} == {report["exit_code"]} == {process.returncode}
    assert kinds(log)[-1] == "run_ended"


def wait_for(log: Path, text: str) -> None:
    """Return when the log contains ``text``."""
    ticks = threading.Event()
    while not (log.exists() and text in log.read_text()):
        ticks.wait(0.01)


FAILS = """(component
  (core module $m (func (export "run") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $out (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $out))
  (export "f" (func $run)))"""


def test_a_failed_program_of_a_component_has_the_exit_code_of_its_report(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = command("-f", "json", "run", "--events", log, written(tmp_path, FAILS))
    assert (done.document["status"], done.code) == ("exited", 1)
    assert {(e["status"], e["exit_code"]) for e in events(log) if "exit_code" in e} == {("exited", 1)}


def test_a_call_that_returns_its_error_case_is_completed_without_an_error() -> None:
    seen = CollectingSubscriber()
    runtime = aegis.Aegis(cache=False)
    with runtime.sandbox(runtime.load_wat(FAILS), subscribers=[seen]) as box:
        assert box.run("f").value == aegis.Err(None)
    assert [(e.status, e.exit_code) for e in seen.of(ExecutionCompleted)] == [("returned", 0)]


def test_runs_that_share_a_log_break_no_line(tmp_path: Path) -> None:
    log, path = tmp_path / "log", written(tmp_path, TALKS)
    processes = [begin("run", "--events", log, path, stdout=subprocess.DEVNULL) for _ in range(3)]
    for process in processes:
        with process:
            assert process.wait(SECONDS) == 0
    found = events(log)
    runs = {e["run"] for e in found}
    assert len(runs) == 3
    for run in runs:
        mine = [e["seq"] for e in found if e["run"] == run]
        assert mine == list(range(1, len(mine) + 1))
        assert len(mine) > 300


def fail_beyond(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_disk_that_fills_during_the_run_is_reported_and_the_next_run_begins_a_line(tmp_path: Path, form: str) -> None:
    log, path = tmp_path / "log", written(tmp_path, TALKS)
    limit = fail_beyond(5000)
    with begin("-f", form, "run", "--events", log, path, stdout=subprocess.PIPE, preexec_fn=limit) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 125
    assert err.decode().startswith(f"error: --events: '{log}' cannot be written: file too large;")
    if form == "json":
        report = json.loads(out)
        assert (report["status"], report["exit_code"], report["subscribers_failed"]) == ("returned", 125, 1)
    assert log.stat().st_size == 5000
    assert not log.read_bytes().endswith(b"\n")
    assert command("run", "--events", log, guest("hello")).code == 0
    lines = log.read_text().splitlines()
    assert [is_json(line) for line in lines].count(False) == 1, "the line that found no room"
    assert json.loads(lines[-1])["kind"] == "run_ended"


def is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_a_fifo_whose_reader_goes_away_ends_the_log_and_not_the_guest(tmp_path: Path) -> None:
    fifo, path = tmp_path / "fifo", written(tmp_path, TALKS)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    with begin("run", "--events", fifo, path, stdout=subprocess.PIPE) as process:
        assert select.select([reader], [], [], SECONDS)[0], "the run has written"
        assert b"run_started" in os.read(reader, 4096)
        os.close(reader)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 125
    assert b"cannot be written: broken pipe; the last events are missing" in err


def test_a_fifo_whose_reader_does_not_read_delays_the_deadline_by_little(tmp_path: Path) -> None:
    fifo, path = tmp_path / "fifo", written(tmp_path, TALKS.replace("300", "2000000"))
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with begin("run", "--timeout=1s", "--events", fifo, path, stdout=subprocess.PIPE) as process:
            _, err = process.communicate(timeout=SECONDS)
    finally:
        os.close(reader)
    assert process.returncode == 124
    assert b"the last events are missing" in err


# -- the library -------------------------------------------------------------------------------------------------------


def test_a_writer_of_the_library_appends_each_event_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"kind":"older"}\n')
    with JsonLinesWriter(log) as writer, JsonLinesWriter(log) as other:
        for number, one in enumerate((writer, other, writer)):
            EventBus("r", [one]).emit(Custom, name=str(number))
            assert len(events(log)) == number + 2
    assert [event.get("name") for event in events(log)] == [None, "0", "1", "2"]


def test_a_line_that_another_process_left_unfinished_is_ended_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"kind":"to')
    for _ in range(2):
        with JsonLinesWriter(log) as writer:
            EventBus("r", [writer]).emit(Custom, name="x")
    assert [is_json(line) for line in log.read_text().splitlines()] == [False, True, True]


def test_a_forked_process_shares_the_log_and_has_runs_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with JsonLinesWriter(log) as writer:
        runtime = aegis.Aegis(cache=False, subscribers=[writer])
        module = runtime.load_wat('(module (func (export "f")))')
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    with runtime.sandbox(module) as box:
                        box.call("f")
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len({event["run"] for event in events(log)}) == 3


def test_a_writer_after_close_is_a_failed_subscriber_and_not_a_failed_run(tmp_path: Path) -> None:
    writer = JsonLinesWriter(tmp_path / "log")
    writer.close()
    writer.close()
    bus = EventBus("r", [writer])
    with pytest.warns(SubscriberWarning, match="JsonLinesWriter"):
        bus.emit(Custom, name="x")
    assert len(bus.failures) == 1


def test_a_log_that_cannot_be_opened_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        JsonLinesWriter(tmp_path)
    with pytest.raises(FileNotFoundError):
        JsonLinesWriter(tmp_path / "gone" / "log")
