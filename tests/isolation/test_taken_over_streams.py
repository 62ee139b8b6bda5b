"""A compromised worker holds none of its parent's streams, and cannot read or write beyond its grants.

The attacks are hostile Python in real workers with their real confinement (:mod:`.takeover`).
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.guests.catalogue import ROOT
from tests.isolation.attacks.streams import JUNK
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.takeover import COMMAND, GUEST, application

pytestmark = only_where_there_are_workers
ISOLATE = pytest.mark.parametrize("how", ["--isolate", "--isolate=strict"])
BEFORE = b"what stood in the log before\n"


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    path = tmp_path / "guest.wat"
    path.write_text(GUEST)
    return path


def identity(descriptor: int) -> list[int]:
    status = os.fstat(descriptor)
    return [status.st_dev, status.st_ino]


def attacked(guest: Path, name: str, *options: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, "run", *options, "-e", name, str(guest)], cwd=ROOT, timeout=60, check=False, **streams
    )


def skip_if_refused(done: subprocess.CompletedProcess[bytes]) -> None:
    if b"this system lacks" in (done.stderr or b""):
        pytest.skip(done.stderr.decode())


@ISOLATE
def test_no_open_file_of_the_parents_streams_is_within_reach_of_a_worker(guest: Path, tmp_path: Path, how: str) -> None:
    """Its stdin is a terminal with a typed line, its stdout a log opened for appending, its stderr a pipe."""
    controller, terminal = pty.openpty()
    os.write(controller, b"typed by a person\n")
    settings = termios.tcgetattr(terminal)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    os.write(log, BEFORE)
    flags = [fcntl.fcntl(each, fcntl.F_GETFL) for each in (terminal, log)]
    try:
        done = attacked(
            guest, "descriptors", how, "--stdin", "inherit", stdin=terminal, stdout=log, stderr=subprocess.PIPE
        )
        skip_if_refused(done)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stderr)["value"]
        mine = {tuple(identity(each)) for each in (terminal, log, controller)}
        assert not mine & {tuple(each["file"]) for each in found.values()}
        assert [fcntl.fcntl(each, fcntl.F_GETFL) for each in (terminal, log)] == flags
        assert (tmp_path / "log").read_bytes() == BEFORE + b"guest\n"
        assert termios.tcgetattr(terminal) == settings
        assert os.read(terminal, 100) == b"typed by a person\n", "nobody read what the guest did not ask for"
    finally:
        for each in (controller, terminal, log):
            os.close(each)


@ISOLATE
def test_a_worker_can_change_the_flags_of_no_descriptor(guest: Path, how: str) -> None:
    done = attacked(guest, "descriptors", how, stdin=subprocess.DEVNULL, capture_output=True)
    skip_if_refused(done)
    found = json.loads(done.stderr)["value"]
    assert found
    for number, each in found.items():
        assert "errno" in each["set flags"], (number, each)
        assert "errno" in each["own"], (number, each)
        assert "errno" in each["terminal"], (number, each)
        assert "errno" in each["window"], (number, each)


@ISOLATE
def test_a_file_granted_for_reading_cannot_be_opened_anew_for_writing(guest: Path, tmp_path: Path, how: str) -> None:
    granted = tmp_path / "granted"
    granted.mkdir()
    (granted / "file").write_bytes(BEFORE)
    done = attacked(
        guest, "descriptors", how, "--allow-read", f"{granted / 'file'}::/in/file",
        "--allow-read", f"{granted}::/all", stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    skip_if_refused(done)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stderr)["value"]
    theirs = [each for each in found.values() if each["file"] == [granted.stat().st_dev, granted.stat().st_ino]]
    assert theirs
    assert all("errno" in each["reopen"] and "errno" in each["write"] for each in theirs if each["write"] is not None)
    assert (granted / "file").read_bytes() == BEFORE
    assert sorted(granted.iterdir()) == [granted / "file"]


def test_standard_input_is_not_read_for_a_worker_without_the_grant(guest: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"not for the guest")
    try:
        done = attacked(guest, "ask_for_input", "--isolate", stdin=reading, capture_output=True)
        assert done.returncode == 134
        assert b"broke the protocol" in done.stderr
        os.set_blocking(reading, False)
        assert os.read(reading, 100) == b"not for the guest"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("mode", ["inherit", "capture"])
def test_a_worker_that_writes_past_the_limit_is_stopped_by_its_parent(mode: str) -> None:
    code = (
        "a = Aegis(isolation=True, cache=False, stdout=100_000)\n"
        f"box = a.sandbox(a.load_wat(GUEST), stdio=StdioCapability(stdout={mode!r}, stderr='capture'))\n"
        "outcome = box.run('flood')\n"
        "import sys; sys.stderr.write(f'{outcome.status} {outcome.usage.stdout} {len(box.stdout)}\\n')\n"
    )
    done = application(code)
    assert done.stderr == f"output-exceeded 100000 {100_000 if mode == 'capture' else 0}\n", done.stdout[-500:]
    assert done.stdout == ("" if mode == "capture" else "x" * 100_000)


def test_output_of_a_worker_before_its_death_arrives(guest: Path) -> None:
    done = attacked(guest, "die", "--isolate", stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 134
    assert done.stdout == b"last words\n"
    assert b"SIGABRT" in done.stderr


def test_captured_output_stays_as_it_was_written(guest: Path) -> None:
    """The parent keeps captured output: no file of it is within reach of the worker."""
    code = (
        "a = Aegis(isolation=True, cache=False)\n"
        "with a.sandbox(a.load_wat(GUEST)) as box:\n"
        "    box.call('honest'); box.call('descriptors'); print(box.stdout)\n"
    )
    done = application(code)
    assert done.stdout == "b'guest\\nguest\\n'\n", done.stderr
    assert JUNK.decode() not in done.stdout
