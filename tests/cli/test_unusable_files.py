"""Whatever is wrong with a file that Aegis is to open: one clear line, exit 125, JSON where asked for, and no wait."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli.command import ROOT, aegis, guest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, sockets and devices are POSIX's")

LONG_NAME, LONG_PATH = "n" * 300, "p/" * 2100
WHY = {
    "gone": "no such file or directory", "gone/file": "no such file or directory", "file/x": "not a directory",
    "loop": "too many levels of symbolic links", LONG_NAME: "file name too long", "": "empty",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    return tmp_path


def refused(here: Path, *words: str) -> str:
    """Return the message, after making sure that it is one line in both forms, and that nothing ran."""
    plain = aegis("run", *words, guest("hello"), cwd=here)
    assert (plain.code, plain.out) == (125, "")
    assert plain.err.startswith("error: ")
    assert plain.err.count("\n") == 1
    as_json = aegis("--format=json", "run", *words, guest("hello"), cwd=here)
    assert as_json.code == as_json.document["exit_code"] == 125
    message = str(as_json.document["error"]["message"])
    assert plain.err == f"error: {message}\n"
    assert len(message) < 1500, "a long path is cut"
    return message


@pytest.mark.parametrize("how", ["--allow-read", "--allow-write"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        *WHY.items(),
        ("fifo", "neither a directory nor a regular file"),
        ("socket", "neither a directory nor a regular file"),
        ("/dev/null", "own state"),
        ("/proc/self/environ", "own state"),
        ("/sys", "own state"),
        ("\udcff", "not Unicode"),
    ],
)
def test_a_grant_that_cannot_be_had_is_refused_before_the_guest_runs(here: Path, how: str, path: str, why: str) -> None:
    assert why in refused(here, how, path)


@pytest.mark.parametrize(
    ("path", "why"),
    [*WHY.items(), ("folder", "is a directory"), ("socket", "no such device or address"), (LONG_PATH, "too long")],
)
def test_a_standard_input_that_cannot_be_read_is_refused(here: Path, path: str, why: str) -> None:
    assert why in refused(here, f"--stdin={path}")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        *[(path, why) for path, why in WHY.items() if path not in ("gone", "")],
        ("", "no such file"),
        ("folder", "is a directory"),
        ("fifo", "no process reads from it"),
        ("socket", "no process reads from it"),
        (LONG_PATH, "too long"),
    ],
)
def test_events_that_cannot_be_written_are_refused(here: Path, path: str, why: str) -> None:
    assert why in refused(here, f"--events={path}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_events_that_found_no_room_are_told_of_after_the_run(here: Path) -> None:
    for form in ("human", "json"):
        done = aegis(f"--format={form}", "run", "--events=/dev/full", guest("hello"), cwd=here)
        assert done.code == 125
        assert done.err == (
            "error: --events: '/dev/full' cannot be written: no space left on device; name one where there is room\n"
        )
    assert done.document["status"] == "returned"


def test_events_go_to_a_fifo_that_is_read(here: Path) -> None:
    reader = os.open(here / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert aegis("run", "--events=fifo", guest("hello"), cwd=here).code == 0
    assert b"execution_completed" in os.read(reader, 65536)
    os.close(reader)


@pytest.mark.parametrize("how", ["--allow-read", "--allow-write"])
def test_files_without_permission_are_refused_with_the_reason(how: str) -> None:
    """As a user who is not root, to whom nothing would be refused."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        refuse_without_permission(Path(folder), how)


def refuse_without_permission(here: Path, how: str) -> None:
    (here / "closed").write_text("x")
    (here / "closed").chmod(0)
    (here / "read-only").write_text("x")
    (here / "read-only").chmod(0o444)
    (here / "closed-folder").mkdir(mode=0)
    allowed = [] if how == "--allow-write" else ["read-only"]
    script = f"""
import os, sys
from pathlib import Path
from aegis import FilesystemCapability
from aegis.errors import PolicyError
from aegis.host.preopens import acquire_filesystem
os.chdir({str(here)!r})
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)
make = getattr(FilesystemCapability, {"read_only" if how == "--allow-read" else "read_write"!r})
for name in ("closed", "read-only", "closed-folder"):
    try:
        acquire_filesystem(make(name + "::/d/" + name))
        print("granted", name)
    except PolicyError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert (len(lines), done.stderr) == (3, "")
    for name, line in zip(("closed", "read-only", "closed-folder"), lines, strict=True):
        if name in allowed:
            assert line == f"granted {name}"
        else:
            assert "permission denied; let this user open it, or leave the grant out" in line


def test_a_full_or_read_only_file_system_is_told_to_the_guest_by_its_number(here: Path) -> None:
    script = f"""
import ctypes, sys
from pathlib import Path
from aegis.errors import PolicyError
from aegis.policy import FilesystemCapability
from tests.host.harness import ALL, FIRST, Ours
root = Path({str(here / "folder")!r})
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"tmpfs", bytes(root), b"tmpfs", 0, b"size=64k"):
    raise SystemExit(77)
guest = Ours(root)
fd = guest.opened("new", 1)
answers = [guest.fd_write(fd, bytes(50_000))[0] for _ in range(3)]
print(answers[0], answers[-1])
guest.close()
(root / "old").touch()
libc.mount(None, bytes(root), None, 33, None)  # MS_REMOUNT | MS_RDONLY
guest = Ours(root)
print(guest.path_open(FIRST, 0, "other", 1)[0], guest.path_unlink_file(FIRST, "new"))
guest.close()
guest = Ours(capability=FilesystemCapability.read_write(str(root / "old") + "::/d/old"))
try:
    guest.fd_prestat_get(FIRST)
except PolicyError as error:
    print(error)
"""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user may not mount")
    first, second, third = done.stdout.splitlines()
    assert first == "0 51", "all is well, and then NOSPC"
    assert second == "69 69", "ROFS"
    assert "read-only file system; grant it for reading, or leave the grant out" in third


@pytest.mark.parametrize("path", ["a" * 4096, "a" * 4097, "a" * 256, "d/" * 2000 + "x", "a\0b", "", "\udcff"])
def test_a_path_that_no_system_takes_is_answered_with_its_number(tmp_path: Path, path: str) -> None:
    from aegis.host.preview1.abi import Errno
    from tests.host.harness import FIRST, Ours

    made = Ours(tmp_path)
    raw = path.encode("utf-8", "surrogateescape")
    answers = {made.path_open(FIRST, 0, raw)[0], made.path_create_directory(FIRST, raw), made.path_filestat_get(
        FIRST, 0, raw)[0], made.path_unlink_file(FIRST, raw), made.path_readlink(FIRST, raw)[0]}  # fmt: skip
    made.close()
    expected = {"a\0b": {Errno.INVAL}, "": {Errno.NOENT}, "\udcff": {Errno.ILSEQ}}
    assert answers <= expected.get(path, {Errno.NAMETOOLONG, Errno.NOENT})
