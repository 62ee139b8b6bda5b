"""A compromised worker: hostile Python in real workers, confined by every layer.

``reach`` tries every way to reach a path that a system call offers. The result is compared exactly: a worker with a
grant can open the granted paths, and a worker without one cannot even inspect them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

import aegis as package
from aegis import FilesystemCapability, NetworkCapability, WorkerCrashed
from aegis.host.net.http.transport import roots
from tests.isolation.confined import all_but, attack
from tests.isolation.names import sockets_and_files
from tests.isolation.takeover import captive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")

NETWORK = NetworkCapability(allow=["tcp://*.example:80", "https://public.example", "public:443"])
TIME = 2 * 10**18
LOOKS = {"hold", "stat", "lstat", "statat", "readlinkat"}
ELSEWHERE = [
    "/", ".", "..", "/etc", "/etc/passwd", "/etc/shadow", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs",
    "/etc/ssl/certs/ca-certificates.crt", "/run", "/run/systemd/resolve", "/usr/share/zoneinfo", "/root", "/home",
    "/proc", "/proc/self", "/proc/self/maps", "/proc/self/environ", "/proc/self/mem", "/proc/self/fd", "/proc/cpuinfo",
    "/proc/net/tcp", "/sys", "/sys/kernel", "/dev", "/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/dev/shm",
    "/tmp", "/var", "/var/log", sys.prefix, sys.executable, os.path.dirname(package.__file__),
    os.path.dirname(pytest.__file__), os.getcwd(),
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two directories with a file in each, and a secret beside them."""
    (tmp_path / "secret").write_text("secret")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
        (tmp_path / name / "link").symlink_to("file")
    os.utime(tmp_path / "secret", ns=(10**18, 10**18))
    return tmp_path


@pytest.fixture(autouse=True, scope="module")
def _fork_server() -> None:
    """Start the fork server, whose socket stays open, before descriptors are counted."""
    with captive():
        pass


def elsewhere(tree: Path) -> list[str]:
    parent = f"/proc/{os.getpid()}"
    return [*ELSEWHERE, parent, f"{parent}/environ", f"{parent}/cwd", f"{parent}/maps", str(tree), str(tree / "secret")]


# -- what a worker can open ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{}, {"network": NETWORK}], ids=["nothing", "network"])
def test_a_worker_without_a_file_grant_opens_nothing_and_sees_no_path(policy: dict[str, Any], tree: Path) -> None:
    with captive(**policy) as attacker:
        found = attacker("reach", paths=[*elsewhere(tree), str(tree / "one"), str(tree / "one" / "file")])
        assert attacker("read_file", path="/etc/passwd").errno == errno.EPERM
    root = {"stat", "lstat", "statat"}  # its own root directory, which is empty, deleted, and used by no other process
    assert {path: set(ways) for path, ways in found.items()} == {
        "/": root,
        ".": root - {"statat"},
        "..": root - {"statat"},
    }


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("network", [None, NETWORK], ids=["", "network"])
def test_a_worker_with_one_directory_reaches_that_directory_and_sees_no_other_path(
    tree: Path, write: bool, network: NetworkCapability | None
) -> None:
    host = f"{tree / 'one'}::/data"
    granted = FilesystemCapability.read_write(host) if write else FilesystemCapability.read_only(host)
    inside = ["/", ".", "..", "/file", "/link", "../file"]
    with captive(filesystem=granted, network=network) as attacker:
        found = attacker("reach", paths=[*elsewhere(tree), str(tree / "one"), *inside])
        assert attacker("climb", folder=0) == sorted(os.listdir(tree / "one"))
    assert set(found) == set(inside)
    assert all(set(ways) - LOOKS <= {"open", "list", "write"} for ways in found.values())
    assert ("write" in found["/file"]) == write


@pytest.mark.parametrize("write", [False, True])
def test_a_worker_with_several_grants_opens_exactly_the_granted_paths(tree: Path, write: bool) -> None:
    host = f"{tree / 'one'}::/data"
    granted = FilesystemCapability.read_write(host) if write else FilesystemCapability.read_only(host)
    granted += FilesystemCapability.read_only(f"{tree / 'two' / 'file'}::/file")
    inside = [str(tree / "one"), str(tree / "one" / "file"), str(tree / "two" / "file")]
    with captive(filesystem=granted, network=NETWORK) as attacker:
        found = attacker("reach", paths=[*elsewhere(tree), str(tree / "two"), *inside])
        assert attacker("climb", folder=0).errno == errno.EACCES
    assert set(found.pop(inside[0])) - LOOKS == {"open", "list"}
    assert set(found.pop(inside[1])) - LOOKS == {"open"} | ({"write"} if write else set())
    assert set(found.pop(inside[2])) - LOOKS == {"open"}
    assert "readlinkat" not in found.get(f"/proc/{os.getpid()}/cwd", ())
    # It can see that other paths exist, which SECURITY.md states; it can open or list none of them.
    assert all(set(ways) <= LOOKS for ways in found.values())


def test_a_worker_opens_a_file_that_is_granted_alone_and_nothing_beside_it(tree: Path) -> None:
    granted = FilesystemCapability.read_only(f"{tree / 'one' / 'file'}::/data/file")
    paths = [str(tree / "one"), str(tree / "one" / "link"), str(tree / "one" / "file"), *elsewhere(tree)]
    with captive(filesystem=granted) as attacker:
        found = attacker("reach", paths=paths)
    opened = {path for path, ways in found.items() if not set(ways) <= LOOKS}
    assert opened == {str(tree / "one" / "file"), str(tree / "one" / "link")}


def test_the_descriptors_of_a_worker_with_a_network_lead_to_no_file(tree: Path) -> None:
    with captive(network=NETWORK) as attacker:
        assert attacker("reach", paths=[f"/proc/self/fd/{n}" for n in range(30)]) == {}


def test_a_worker_read_every_root_of_trust_before_its_doors_closed() -> None:
    here = roots().cert_store_stats()["x509_ca"]
    with captive(network=NETWORK) as attacker:
        assert attacker("known_roots") == here


# -- system calls by path --------------------------------------------------------------------------------


def test_outside_a_sandbox_the_calls_by_path_work(tree: Path) -> None:
    free = attack("calls_by_path", skip=all_but(), path=str(tree / "secret"))
    assert {"utimensat", "fchmodat", "truncate", "inotify_init1", "chdir"} <= set(free.value)


@pytest.mark.parametrize("kind", ["nothing", "network", "read", "write", "both"])
def test_no_system_call_by_path_reaches_a_file_outside_the_grants(kind: str, tree: Path) -> None:
    grants = {
        "read": FilesystemCapability.read_only(f"{tree / 'one'}::/one"),
        "write": FilesystemCapability.read_write(f"{tree / 'one'}::/one"),
        "both": FilesystemCapability.read_only(f"{tree / 'one'}::/one")
        + FilesystemCapability.read_write(f"{tree / 'two'}::/two"),
    }
    policy: dict[str, Any] = {"network": NETWORK} if kind == "network" else {}
    if kind in grants:
        policy["filesystem"] = grants[kind]
    before = (tree / "secret").stat()
    with captive(**policy) as attacker:
        assert attacker("calls_by_path", path=str(tree / "secret")) == []
        assert attacker("calls_by_path", path=str(tree / "one" / "file")) == []
    assert (tree / "secret").stat() == before


def test_a_read_only_grant_changes_no_times_even_beside_a_grant_for_writing(tree: Path) -> None:
    both = FilesystemCapability.read_only(f"{tree / 'one'}::/one") + FilesystemCapability.read_write(
        f"{tree / 'two'}::/two"
    )
    before = (tree / "one" / "file").stat().st_mtime_ns
    with captive(filesystem=both) as attacker:
        assert attacker("time_of_open_file", path=str(tree / "one" / "file")).errno == errno.EPERM
    assert (tree / "one" / "file").stat().st_mtime_ns == before


LIES: list[dict[str, Any]] = [
    {"path": "secret"},  # held, not open
    {"path": "one/file", "open": "read"},  # granted for reading
    {"path": "two/file"},  # granted for writing, and not open at all
    {"path": "one", "open": "read"},  # a directory without a name
    {"path": ".", "name": "secret"},
    {"path": "one", "name": "file"},
    {"path": "one", "name": "."},
    {"path": "two", "name": ".."},
    {"path": "two", "name": "../secret"},
    {"path": "two", "name": ""},
    {"path": "two", "name": "/etc/hostname"},
    {"path": "two", "name": "fi\0le"},
    {"path": "/etc", "name": "hostname"},
    {"path": "two", "name": "file", "count": 0},
    {"path": "two", "name": "file", "count": 3},
    {"path": "two", "name": "file", "times": (1 << 70, 1)},
    {"path": "two", "name": 5},
]


def test_a_file_granted_alone_lends_no_times_to_its_siblings(tree: Path) -> None:
    granted = FilesystemCapability.read_write(f"{tree / 'two' / 'file'}::/data/file")
    before = (tree / "two" / "link").lstat().st_mtime_ns
    with captive(filesystem=granted) as attacker:
        order = {"path": str(tree / "two" / "file"), "times": (TIME, TIME)}
        assert attacker("have_times_set", open="write", **order) is None
        with pytest.raises(WorkerCrashed, match="broke the protocol"):
            attacker("have_times_set", name="link", **{**order, "path": str(tree / "two")})
    assert (tree / "two" / "file").stat().st_mtime_ns == TIME
    assert (tree / "two" / "link").lstat().st_mtime_ns == before


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_the_parent_sets_no_times_for_a_worker_that_lies(lie: dict[str, Any], tree: Path) -> None:
    both = FilesystemCapability.read_only(f"{tree / 'one'}::/one") + FilesystemCapability.read_write(
        f"{tree / 'two'}::/two"
    )
    paths = [tree, *tree.rglob("*")]
    before = {path: path.lstat().st_mtime_ns for path in paths}
    held_before = sockets_and_files()
    with captive(filesystem=both) as attacker, pytest.raises(WorkerCrashed, match="broke the protocol"):
        attacker("have_times_set", **{**lie, "path": str(tree / lie["path"])})
    assert {path: path.lstat().st_mtime_ns for path in paths} == before
    assert sockets_and_files() == held_before


@pytest.mark.parametrize(
    ("path", "name", "mode"),
    [
        ("two", "file", "hold"),
        ("two", "link", "hold"),
        ("two", ".", "hold"),
        ("two/file", None, "write"),
        ("two/file", None, "read"),
    ],
)
def test_the_parent_sets_times_beneath_a_grant_for_writing(path: str, name: str | None, mode: str, tree: Path) -> None:
    both = FilesystemCapability.read_only(f"{tree / 'one'}::/one") + FilesystemCapability.read_write(
        f"{tree / 'two'}::/two"
    )
    with captive(filesystem=both) as attacker:
        order = {"path": str(tree / path), "name": name, "open": mode, "times": (3 * 10**18, 2 * 10**18)}
        assert attacker("have_times_set", **order) is None
        assert attacker("have_times_set", **{**order, "name": "absent"}) == errno.ENOENT if name else True
    assert (tree / path / (name or "")).lstat().st_mtime_ns == 2 * 10**18


def test_a_worker_without_a_writable_grant_cannot_have_times_set(tree: Path) -> None:
    granted = FilesystemCapability.read_only(f"{tree / 'one'}::/one")
    with captive(filesystem=granted) as attacker, pytest.raises(WorkerCrashed, match="broke the protocol"):
        attacker("have_times_set", path="/", count=0)


# -- what is of other processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2], ids=["cold", "warm"])
def test_no_two_workers_hold_a_file_that_either_may_change(workers: int) -> None:
    isolation = {"isolation": {"workers": workers}}
    with captive(**isolation) as one, captive(**isolation) as other:
        first, second = ({(d["device"], d["inode"]) for d in changeable(each("held"))} for each in (one, other))
        assert first & second == set()


def changeable(held: list[dict[str, int]]) -> list[dict[str, int]]:
    """Return the writable files, except devices, which are ``/dev/null``, and sealed ones."""
    sealed = fcntl.F_SEAL_WRITE
    return [
        d for d in held if d["access"] != os.O_RDONLY and not d["seals"] & sealed and not stat.S_ISCHR(d["mode"])
    ]  # fmt: skip


def test_a_worker_holds_no_descriptor_of_another_process() -> None:
    with captive() as one, captive() as two, captive() as three:
        for each in (one, two, three):
            kinds = {d["number"]: stat.S_IFMT(d["mode"]) for d in each("held")}
            assert set(kinds.values()) <= {stat.S_IFREG, stat.S_IFCHR, stat.S_IFSOCK}, kinds


def test_a_worker_learns_neither_the_time_nor_the_processors_of_another_process() -> None:
    with captive() as attacker:
        assert attacker("time_others", processes=[1, os.getpid(), os.getppid(), 1 << 21]) == {}
