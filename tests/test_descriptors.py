"""The library neither occupies descriptors 0, 1 and 2 of its process nor depends on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aegis.support.descriptors import above_standard, can_read, can_write, standard_reserved
from tests.guests.catalogue import ROOT
from tests.isolation.isolated import only_where_there_are_workers

GUEST = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00\\40\\00\\00\\00\\40\\00\\00\\00")
  (data (i32.const 16) "guest\\0a")
  (func (export "go") (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 32)))
    (i32.load (i32.const 32))))"""
DAEMON = """
import json, os, sys
from aegis import Aegis, FilesystemCapability, StdioCapability
def low(): return [n for n in (0, 1, 2) if os.path.exists(f"/proc/self/fd/{n}")]
def mine():
    "Open a file of the application: it gets the lowest free number."
    return os.open(sys.argv[3], os.O_RDWR)
closes, place, path, report = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
for number in closes:
    os.close(number)
found = {"before": low()}
inherit = StdioCapability(stdin="inherit", stdout="inherit", stderr="inherit")
aegis = Aegis(isolation=True if place == "isolated" else None, cache=False, timeout="20s",
              filesystem=FilesystemCapability.read_only(os.path.dirname(path)))
guest = aegis.load_wat(sys.argv[5])
with aegis.sandbox(guest) as box, aegis.sandbox(guest, stdio=inherit) as other:
    found["captured"] = [box.call("go"), box.stdout.decode()]
    found["inherited"] = other.call("go")
    found["inside"] = low()
    files = []
    while len(files) < 3 and (number := mine()) < 3:
        files.append(number)
    found["files"] = files
    with aegis.sandbox(guest, stdio=inherit) as third:
        found["beside files"] = third.call("go")
    found["untouched"] = open(path).read()
aegis.close() if hasattr(aegis, "close") else None
with open(report, "w") as file:
    json.dump(found, file)
"""
EXPECTED = "the file of an application"


def daemon(
    tmp_path: Path,
    place: str,
    *,
    closes: Sequence[int] = (),
    redirections: str = "",
) -> dict[str, Any]:
    """Run an application that is started without streams, or closes them itself; return its output."""
    path, report = tmp_path / "folder" / "file", tmp_path / "report"
    path.parent.mkdir()
    path.write_text(EXPECTED)
    done = subprocess.run(
        [
            "sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", DAEMON,
            json.dumps(list(closes)), place, str(path), str(report), GUEST,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert report.exists(), (done.returncode, done.stderr)
    return dict(json.loads(report.read_text()))


PLACES = ["in-process", pytest.param("isolated", marks=only_where_there_are_workers)]


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("redirections", ["<&-", ">&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_process_started_without_streams_keeps_their_numbers_for_itself(
    tmp_path: Path, redirections: str, place: str
) -> None:
    found = daemon(tmp_path, place, redirections=redirections)
    assert found["inside"] == found["before"], "Aegis took none"
    assert found["captured"] == [0, "guest\n"]
    assert found["inherited"] == 0, "a stdin that is not there is empty"
    closed = [n for n in (0, 1, 2) if n not in found["before"]]
    assert found["files"] == closed, "the application's next files get the numbers"
    assert found["beside files"] == 0, "a file of the application is no stream"
    assert found["untouched"] == EXPECTED


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("closes", [[0], [1], [0, 1], [2, 1, 0]])
def test_a_process_that_closes_its_streams_itself_keeps_their_numbers(
    tmp_path: Path, closes: list[int], place: str
) -> None:
    found = daemon(tmp_path, place, closes=closes)
    assert found["inside"] == found["before"] == [n for n in (0, 1, 2) if n not in closes]
    assert found["captured"] == [0, "guest\n"]
    assert found["inherited"] == 0
    assert found["files"] == sorted(closes)


@only_where_there_are_workers
def test_a_fork_server_has_nothing_but_dev_null_on_the_standard_numbers(tmp_path: Path) -> None:
    code = (
        "import os, sys; from aegis import Aegis; import aegis.isolation.parent.pool as pool\n"
        "a = Aegis(isolation=True, cache=False)\n"
        "with a.sandbox(a.load_wat('(module (func (export \"f\")))')) as box:\n"
        "    box.call('f')\n"
        "    own = f'/proc/{pool._fork_server._process.pid}/fd'\n"
        "    open(sys.argv[1], 'w').write(' '.join(os.readlink(f'{own}/{n}') for n in (0, 1, 2)))\n"
    )
    report = tmp_path / "report"
    subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, str(report)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=True,
    )  # fmt: skip
    assert report.read_text() == "/dev/null /dev/null /dev/null"


def test_a_low_descriptor_is_moved_and_stays_the_same_file(tmp_path: Path) -> None:
    code = (
        "import os, sys; from aegis.support.descriptors import above_standard\n"
        "os.close(0); low = os.open(sys.argv[1], os.O_RDONLY); high = above_standard(low)\n"
        "assert (low, high > 2, os.get_inheritable(high)) == (0, True, False)\n"
        "try: os.fstat(0)\n"
        "except OSError: print(os.read(high, 10).decode())\n"
    )
    path = tmp_path / "file"
    path.write_text("moved")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "moved\n", done.stderr


def test_a_descriptor_above_the_streams_stays_where_it_is() -> None:
    reading, writing = os.pipe()
    try:
        assert (above_standard(reading), above_standard(writing)) == (reading, writing)
        assert (can_read(reading), can_write(reading)) == (True, False)
        assert (can_read(writing), can_write(writing)) == (False, True)
    finally:
        os.close(reading)
        os.close(writing)
    assert not can_read(reading)


RESERVES = """
import os, threading
from aegis.support.descriptors import inherited, standard_reserved
os.close(0); os.close(1)
inside, leave = threading.Event(), threading.Event()
def hold():
    with standard_reserved():
        inside.set(); leave.wait(20)
thread = threading.Thread(target=hold); thread.start(); inside.wait(20)
with standard_reserved():
    leave.set(); thread.join()
    assert os.dup(2) > 2, "the first to leave does not release what another thread needs"
    assert (inherited(0), inherited(1)) == (None, None), "a placeholder is no stream"
    try: os.write(1, b"x")
    except OSError as error: assert error.errno == 9
    own = os.open("/dev/null", os.O_RDWR); os.dup2(own, 1)
assert os.open("/dev/null", os.O_RDONLY) == 0, "released"
os.write(1, b"kept: it was opened by the application meanwhile")
os.write(2, b"fine")
"""


def test_reserved_numbers_are_released_by_the_last_thread_and_only_if_they_are_placeholders_still() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESERVES], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == "fine"


def test_nothing_is_reserved_where_all_streams_are_open() -> None:
    before = sorted(os.listdir("/dev/fd"))
    with standard_reserved():
        assert sorted(os.listdir("/dev/fd")) == before
    assert threading.active_count() >= 1
