"""Grants in pairs: with a grant the guest can, without it the same guest cannot."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aegis.errors import PolicyError, QuotaExceeded
from aegis.host.preview1.abi import Errno, Rights
from aegis.policy import FilesystemCapability, PathGrant
from tests.host.harness import ALL, FIRST, AegisDriver, tree

CREAT, DIRECTORY, TRUNC = 1, 2, 8
READ, WRITE = int(Rights.FD_READ), int(Rights.FD_WRITE)
FOLDER = ALL & ~(READ | WRITE)


def granted(*grants: tuple[Path, str, bool], **policy: object) -> AegisDriver:
    """Return a guest with (host path, guest path, whether it is writable)."""
    paths = tuple(PathGrant(host=str(host), guest=guest, write=write) for host, guest, write in grants)
    return AegisDriver(capability=FilesystemCapability(paths=paths), **policy)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "d" / "full").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "f").write_bytes(b"content")
    (root / "link").symlink_to("f")
    return root


# -- reading and writing ------------------------------------------------------------------------

MUTATIONS: dict[str, Callable[[AegisDriver], int]] = {
    "create": lambda g: g.path_open(FIRST, 0, "new", CREAT)[0],
    "open for writing": lambda g: g.path_open(FIRST, 0, "f", 0, WRITE)[0],
    "truncate at opening": lambda g: g.path_open(FIRST, 0, "f", TRUNC, READ)[0],
    "truncate through a link": lambda g: g.path_open(FIRST, 1, "link", TRUNC, READ)[0],
    "set size": lambda g: g.fd_filestat_set_size(g.opened("f", 0, ALL & ~WRITE), 0),
    "allocate": lambda g: g.fd_allocate(g.opened("f", 0, ALL & ~WRITE), 0, 100),
    "write": lambda g: g.fd_write(g.opened("f", 0, ALL & ~WRITE), b"x")[0],
    "set times by path": lambda g: g.path_filestat_set_times(FIRST, 0, "f", 1, 1, 5),
    "set times of a file": lambda g: g.fd_filestat_set_times(g.opened("f", 0, ALL & ~WRITE), 1, 1, 5),
    "set times of the directory": lambda g: g.fd_filestat_set_times(FIRST, 1, 1, 5),
    "mkdir": lambda g: g.path_create_directory(FIRST, "new"),
    "rmdir": lambda g: g.path_remove_directory(FIRST, "empty"),
    "unlink": lambda g: g.path_unlink_file(FIRST, "f"),
    "symlink": lambda g: g.path_symlink("f", FIRST, "new"),
    "link": lambda g: g.path_link(FIRST, 0, "f", FIRST, "new"),
    "rename": lambda g: g.path_rename(FIRST, "f", FIRST, "new"),
    "rename by another name of it": lambda g: g.path_rename(g.opened("d/..", DIRECTORY, FOLDER), "f", FIRST, "new"),
}
ONLY_OPENED_FOR_READING = ("set size", "allocate", "write")  # denied in either case


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_grant_to_read_changes_nothing(root: Path, mutation: Callable[[AegisDriver], int]) -> None:
    before, times = tree(root), os.stat(root / "f").st_mtime_ns
    guest = granted((root, "/", False))
    assert mutation(guest) in (Errno.PERM, Errno.NOTCAPABLE, Errno.INVAL, Errno.BADF)
    assert (tree(root), os.stat(root / "f").st_mtime_ns) == (before, times)
    assert guest.path_open(FIRST, 0, "f", 0, READ)[0] == 0
    guest.close()


@pytest.mark.parametrize("name", [n for n in MUTATIONS if n not in ONLY_OPENED_FOR_READING])
def test_the_same_is_done_with_a_grant_to_write(root: Path, name: str) -> None:
    guest = granted((root, "/", True))
    assert MUTATIONS[name](guest) == 0
    guest.close()


def test_a_refused_change_reports_the_flag_that_would_allow_it(root: Path) -> None:
    guest = granted((root, "/data", False))
    assert guest.path_unlink_file(FIRST, "f") == Errno.PERM
    denied = [d for d in guest.scope.decisions if not d.allowed]
    assert [(d.capability, d.target, d.remedy) for d in denied] == [
        ("filesystem", "/data/f", f"--allow-write {root}::/data")
    ]
    guest.close()


@pytest.mark.parametrize("change", ["rename", "link"])
@pytest.mark.parametrize(("one", "other"), [(False, True), (True, False), (True, True)])
def test_between_two_grants_both_must_write(root: Path, tmp_path: Path, change: str, one: bool, other: bool) -> None:
    second = tmp_path / "second"
    second.mkdir()
    guest = granted((root, "/one", one), (second, "/two", other))
    before = (tree(root), tree(second))
    if change == "rename":
        answer = guest.path_rename(FIRST, "f", FIRST + 1, "f")
    else:
        answer = guest.path_link(FIRST, 0, "f", FIRST + 1, "f")
    assert answer == (0 if one and other else Errno.PERM)
    assert ((tree(root), tree(second)) == before) != (one and other)
    if not (one and other):
        assert (
            guest.scope.decisions[-1].remedy == f"--allow-write {second if one else root}::{'/two' if one else '/one'}"
        )
    guest.close()


def test_without_a_grant_there_is_nothing(tmp_path: Path) -> None:
    guest = granted()
    assert guest.fd_prestat_get(FIRST)[0] == Errno.BADF
    assert guest.path_open(FIRST, 0, str(tmp_path))[0] == Errno.BADF
    guest.close()


# -- what is no file ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True])
def test_fifos_sockets_and_devices_neither_hang_nor_open(
    root: Path, write: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "fifo")
    monkeypatch.chdir(root)  # the path of a Unix socket must be short
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    os.symlink("fifo", root / "to-fifo")
    guest = granted((root, "/", write))
    for name in ("fifo", "socket", "to-fifo"):
        for rights in (READ, WRITE, READ | WRITE, 0) if write else (READ, 0):
            assert guest.path_open(FIRST, 1, name, 0, rights)[0] == Errno.ACCES
            if write:
                assert guest.path_open(FIRST, 1, name, TRUNC, rights)[0] == Errno.ACCES
                assert guest.path_open(FIRST, 1, name, CREAT, rights)[0] == Errno.ACCES
    assert {e.name for e in guest.listed(FIRST)} >= {"fifo", "socket"}
    server.close()
    guest.close()


def test_a_name_that_is_not_unicode_is_left_out_of_a_listing(root: Path) -> None:
    try:
        (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    guest = granted((root, "/", False))
    assert [e.name for e in guest.listed(FIRST)] == [".", "..", "d", "empty", "f", "link"]
    assert guest.path_open(FIRST, 0, b"\xff\xfe")[0] == Errno.ILSEQ
    guest.close()


# -- links that a guest makes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/etc/passwd", "q"), ("..", "q"), ("../x", "q"), ("../../x", "d/q"), ("f/../../x", "q"), ("./../x", "q"),
        ("here/here/../../x", "q"), ("../../x", "here/here/here/q"), ("../../x", "d/full/../q"),
        ("../f", "d/q"), ("../../f", "d/full/q"), ("..", "d/q"), ("d/../f", "q"), ("d/full/..", "q"), ("./..", "d/q"),
    ],
)  # fmt: skip
def test_a_guest_makes_no_link_that_is_absolute_or_has_a_parent_component(root: Path, target: str, path: str) -> None:
    guest = granted((root, "/", True))
    assert guest.path_symlink(".", FIRST, "here") == 0
    before = tree(root)
    assert guest.path_symlink(target, FIRST, path) == Errno.PERM
    assert tree(root) == before
    guest.close()


@pytest.mark.parametrize(
    ("target", "path"), [("f", "q"), (".", "d/q"), ("full/..x", "d/q"), ("...", "q"), ("nowhere/at/all", "q")]
)
def test_a_guest_makes_links_to_siblings_and_descendants(root: Path, target: str, path: str) -> None:
    guest = granted((root, "/", True))
    assert guest.path_symlink(target, FIRST, path) == 0
    assert os.readlink(root / path) == target
    directory = guest.opened("d", DIRECTORY, FOLDER)
    assert guest.path_symlink("full", directory, "from-here") == 0
    assert guest.path_symlink("../f", directory, "from-there") == Errno.PERM
    guest.close()


def test_the_target_of_an_absolute_host_link_is_not_revealed(root: Path) -> None:
    (root / "host").symlink_to("/etc/passwd")
    guest = granted((root, "/", False))
    assert guest.path_readlink(FIRST, "host")[0] == Errno.PERM
    assert guest.path_readlink(FIRST, "link") == (0, b"f")
    guest.close()


# -- acquiring ----------------------------------------------------------------------------------


def refusal(*grants: tuple[Path, str, bool]) -> str:
    """Return why the grants are rejected."""
    guest = granted(*grants)
    try:
        with pytest.raises(PolicyError) as caught:
            guest.fd_prestat_get(FIRST)
    finally:
        guest.close()
    return str(caught.value)


def test_a_grant_of_a_missing_path_names_it_and_the_remedy(tmp_path: Path) -> None:
    message = refusal((tmp_path / "gone", "/data", False))
    assert str(tmp_path / "gone") in message
    assert "create it first" in message


def test_a_grant_of_a_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "neither a directory nor a regular file" in refusal((tmp_path / "fifo", "/data", False))


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev", "/proc/self", "/proc/self/environ"])
def test_the_hosts_own_state_is_not_granted_through_a_link(tmp_path: Path, place: str) -> None:
    if not os.path.exists(place):
        pytest.skip(f"no {place} here")
    (tmp_path / "link").symlink_to(place)
    assert "state of the host" in refusal((tmp_path / "link", "/data", False))


def test_the_hosts_own_state_is_not_opened_beneath_a_wider_grant() -> None:
    if not os.path.exists("/proc/self/environ"):
        pytest.skip("no /proc here")
    guest = granted((Path("/"), "/", False))
    for path in ("proc", "proc/self/environ", "proc/self/mem", "sys", "dev", "dev/null", "usr/../proc/version"):
        assert guest.path_open(FIRST, 1, path, 0, READ)[0] in (Errno.ACCES, Errno.PERM), path
    assert guest.path_open(FIRST, 1, "usr", 0, READ)[0] == 0
    guest.close()


def test_a_promise_to_only_read_is_not_broken_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root / "d")
    assert "granted read-only" in refusal((tmp_path / "alias", "/ro", False), (root, "/rw", True))
    guest = granted((tmp_path / "alias", "/rw", True), (root, "/ro", False))
    assert guest.fd_prestat_get(FIRST)[0] == 0
    guest.close()


def test_windows_has_no_filesystem_grants(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "Linux or macOS" in refusal((root, "/", False))


def test_failing_to_acquire_leaves_no_descriptor_open(root: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    refusal((root, "/", False), (root / "f", "/x/f", False), (tmp_path / "gone", "/gone", False))
    refusal((root, "/", False), (root / "f", "/other", False))
    assert len(os.listdir("/dev/fd")) == before


# -- single files -------------------------------------------------------------------------------


def test_a_file_granted_alone_is_all_that_shows(root: Path) -> None:
    (root / "g").write_bytes(b"other")
    guest = granted((root / "f", "/data/f", False))
    assert guest.fd_prestat_dir_name(FIRST, 5) == (0, b"/data")
    assert [e.name for e in guest.listed(FIRST)] == [".", "..", "f"]
    assert guest.fd_read(guest.opened("f", 0, READ), 100) == (0, b"content")
    assert guest.fd_read(guest.opened("./f", 0, READ), 100) == (0, b"content")
    for path in ("g", "d", "link", "./g", "f/../g"):
        assert guest.path_open(FIRST, 1, path, 0, READ)[0] in (Errno.NOENT, Errno.NOTDIR, Errno.PERM), path
    assert guest.path_open(FIRST, 1, "..", 0, READ)[0] == Errno.PERM
    for name, mutation in MUTATIONS.items():
        assert "another name" in name or mutation(guest) != 0, name
    again = guest.opened(".", DIRECTORY, FOLDER)
    assert [e.name for e in guest.listed(again)] == [".", "..", "f"]
    assert (root / "f").read_bytes() == b"content"
    guest.close()


def test_a_file_granted_for_writing_is_written_and_stays_where_it_is(root: Path) -> None:
    guest = granted((root / "f", "f", True))
    assert guest.fd_write(guest.opened("f", TRUNC, WRITE), b"new") == (0, 3)
    assert guest.path_unlink_file(FIRST, "f") == Errno.PERM
    assert guest.path_rename(FIRST, "f", FIRST, "g") == Errno.PERM
    assert guest.path_open(FIRST, 0, "new", CREAT)[0] in (Errno.PERM, Errno.NOENT)
    assert (root / "f").read_bytes() == b"new"
    guest.close()


def test_a_file_inside_a_granted_directory_is_covered(root: Path) -> None:
    guest = granted((root, ".", False), (root / "f", "f", False))
    assert guest.fd_prestat_get(FIRST + 1)[0] == Errno.BADF
    assert guest.path_open(FIRST, 0, "empty", 0, READ)[0] == 0
    guest.close()
    assert "granted already" in refusal((root, ".", False), (root / "d", "d", False), (root / "f", "d/f", False))


def test_files_of_several_folders_share_a_guest_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(b"other")
    guest = granted((root / "f", "/in/f", False), (tmp_path / "g", "/in/g", True))
    assert [e.name for e in guest.listed(FIRST)] == [".", "..", "f", "g"]
    assert guest.path_open(FIRST, 0, "f", 0, WRITE)[0] == Errno.PERM
    assert guest.path_open(FIRST, 0, "g", 0, WRITE)[0] == 0
    guest.close()


# -- limits -------------------------------------------------------------------------------------


def test_open_files_are_counted_and_closing_gives_them_back(root: Path) -> None:
    guest = granted((root, "/", False), open_files=2)
    first = guest.opened("f", 0, READ)
    guest.opened("d", 0, READ)
    assert guest.path_open(FIRST, 0, "f", 0, READ)[0] == Errno.MFILE
    assert guest.fd_close(first) == 0
    third = guest.opened("f", 0, READ)
    assert guest.fd_renumber(third, FIRST) == 0
    assert guest.path_open(FIRST, 0, "f", 0, READ)[0] == Errno.NOTDIR
    guest.close()


@pytest.mark.parametrize("how", ["fd_write", "fd_pwrite", "fd_filestat_set_size", "fd_allocate"])
def test_bytes_written_are_counted_before_they_are(root: Path, how: str) -> None:
    guest = granted((root, "/", True), disk_written=10)
    fd = guest.opened("new", CREAT)

    def grow(size: int) -> int:
        if how == "fd_write":
            return guest.fd_write(fd, bytes(size))[0]
        if how == "fd_pwrite":
            return guest.fd_pwrite(fd, bytes(size), 0)[0]
        return guest.call(how, fd, *((0, size) if how == "fd_allocate" else (size,)))

    assert grow(10) == 0
    with pytest.raises(QuotaExceeded) as caught:
        grow(21)
    assert caught.value.limit == "disk_written"
    assert os.stat(root / "new").st_size == 10
    guest.close()
