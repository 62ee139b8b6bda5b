"""A grant of a single file: the rest of its directory is neither visible nor reachable, even for a hostile worker."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from aegis.bindings.wasi_filesystem_types import DescriptorFlags, DescriptorType, OpenFlags, PathFlags
from aegis.host.preview1.abi import Errno, Fdflags, Rights
from aegis.wit.values import Err
from tests.file_guests import Preview1, grants
from tests.host.harness import ALL, FIRST, AegisDriver
from tests.host.preview2.guest import Guest, refusal
from tests.isolation.confined import attack
from tests.isolation.isolated import PLACES, only_where_there_are_workers

pytestmark = only_where_there_are_workers

READ, WRITE = int(Rights.FD_READ), int(Rights.FD_WRITE)
DIRECTORY, TRUNC = 2, 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "real-folder"
    for name in ("one", "two", "three"):
        (folder / name).mkdir(parents=True)
    (folder / "file").write_text("contents")
    (folder / "sibling").write_text("secret")
    return folder


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("write", [False, True])
def test_the_directory_of_a_file_granted_alone_is_made_up(folder: Path, place: str, write: bool) -> None:
    def seen() -> list[object]:
        with Preview1(place, grants((folder / "file", "/in/file", write))) as guest:
            again = guest.opened(".", DIRECTORY, ALL & ~WRITE)
            found = [guest.fd_filestat_get(FIRST), guest.fd_filestat_get(again), guest.path_filestat_get(FIRST, 0, ".")]
            assert found[0] == found[1] == found[2]
            status = found[0][1]
            assert status is not None
            assert status[2:] == (3, 2, 0, 0, 0, 0), "a directory with two links, and no size or time"
            assert [entry.name for entry in guest.listed(again)] == [".", "..", "file"]
            for path in ("sibling", "one", "../real-folder/sibling", "./sibling", "file/../sibling"):
                assert guest.path_open(FIRST, 1, path, 0, READ)[0] in (Errno.NOENT, Errno.NOTDIR)
            assert guest.path_open(FIRST, 1, "..", 0, READ)[0] == Errno.PERM
            assert guest.fd_filestat_set_times(FIRST, 1, 1, 5) == Errno.PERM
            return [found, guest.listed(FIRST)]

    first = seen()
    (folder / "four").mkdir()
    os.utime(folder, ns=(1, 1))
    assert seen() == first, "whatever becomes of the real one"


@pytest.mark.parametrize("place", PLACES)
def test_a_file_granted_alone_is_read_and_written_as_it_was_granted(folder: Path, place: str) -> None:
    capability = grants((folder / "file", "/in/file", False), (folder / "sibling", "/in/sibling", True))
    with Preview1(place, capability) as guest:
        file = guest.opened("file", 0, READ)
        assert guest.fd_read(file, 4) == (0, b"cont")
        assert guest.fd_read(guest.opened("file", 0, READ), 100) == (0, b"contents"), "each opening starts at 0"
        assert guest.path_open(FIRST, 0, "file", 0, WRITE)[0] == Errno.PERM
        assert guest.path_open(FIRST, 0, "file", TRUNC, READ)[0] == Errno.PERM
        for flags in (0, Fdflags.SYNC, Fdflags.DSYNC, Fdflags.APPEND):
            written = guest.opened("sibling", TRUNC, READ | WRITE, fdflags=flags)
            assert guest.fd_write(written, b"new") == (0, 3)
            assert guest.fd_pread(written, 100, 0) == (0, b"new")
        reader = guest.opened("sibling", 0, READ)
        assert guest.fd_write(reader, b"x")[0] == Errno.NOTCAPABLE
        assert guest.fd_filestat_set_size(reader, 0) != 0
        assert guest.path_filestat_set_times(FIRST, 0, "sibling", 5, 6, 5) == 0
        assert guest.path_filestat_set_times(FIRST, 0, "file", 5, 6, 5) == Errno.PERM
    assert (folder / "file").read_text() == "contents"
    assert (folder / "sibling").read_text() == "new"
    assert os.stat(folder / "sibling").st_mtime_ns == 6


def test_the_made_up_directory_of_wasi_0_2(folder: Path) -> None:
    none, plain = PathFlags(0), OpenFlags(0)
    with Guest(filesystem=grants((folder / "file", "/in/file", False), (folder / "sibling", "/b/s", True))) as guest:
        (one, _), (other, _) = guest.of("wasi:filesystem/preopens").get_directories()
        status = one.stat()
        assert (status.type_, status.link_count, status.size) == (DescriptorType.DIRECTORY, 2, 0)
        assert {status.data_access_timestamp.seconds, status.status_change_timestamp.seconds} == {0}
        assert one.get_type() is DescriptorType.DIRECTORY
        again = one.open_at(none, ".", OpenFlags.DIRECTORY, DescriptorFlags.READ)
        assert one.is_same_object(again)
        assert not one.is_same_object(other)
        assert one.metadata_hash() == again.metadata_hash() != other.metadata_hash()
        one.sync()
        one.sync_data()
        assert refusal(one.open_at, none, "sibling", plain, DescriptorFlags.READ) == "no-entry"
        assert refusal(one.readlink_at, "file") == "invalid"
        assert refusal(one.unlink_file_at, "file") == "not-permitted"
        again.__drop__()
        assert one.open_at(none, "file", plain, DescriptorFlags.READ).read(100, 0)[0] == b"contents"
        with pytest.raises(Err):
            other.rename_at("s", other, "t")


def test_a_worker_is_given_the_file_and_not_its_directory(folder: Path) -> None:
    capability = grants((folder / "file", "/in/file", False), (folder / "sibling", "/in/s", True))
    with Preview1("isolated", capability) as guest:
        pid = guest.sandbox._run.store.worker.pid  # type: ignore[union-attr]
        assert guest.fd_read(guest.opened("file", 0, READ), 100) == (0, b"contents")
        try:
            held = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        except PermissionError:
            pytest.skip("only root looks into a process that cannot be dumped")
    assert {str(folder / "file"), str(folder / "sibling")} <= held
    assert not [path for path in held if str(folder).startswith(path.rstrip("/") or "/") and path != "/"]


@pytest.mark.parametrize("writes", [False, True])
def test_a_worker_that_was_taken_over_gets_nothing_beside_the_file(folder: Path, writes: bool) -> None:
    order = {"grant": [str(folder / "file")], "sibling": str(folder / "sibling")}
    found = attack("look_around_a_file", **order, **({"writes": True, "mode": os.O_RDWR} if writes else {})).value
    refused = {"ENOTDIR", "EACCES", "EPERM", "EBADF", "EINVAL"}
    assert found.pop("contents") == "contents"
    changes = {name: found.pop(name) for name in ("written", "cut", "reopened for writing")}
    assert set(found.values()) <= refused, found
    if not writes:
        assert set(changes.values()) <= refused, changes
        assert (folder / "file").read_text() == "contents"
    assert stat.S_ISREG(os.stat(folder / "sibling").st_mode)
    assert (folder / "sibling").read_text() == "secret"


def test_without_the_confinement_the_same_code_finds_the_siblings_by_their_names(folder: Path) -> None:
    order = {"grant": [str(folder / "file")], "sibling": str(folder / "sibling")}
    found = attack("look_around_a_file", skip={"landlock-files", "seccomp", "unprivileged"}, **order).value
    assert sorted(found["folder by name"]) == ["file", "one", "sibling", "three", "two"]
    assert found["listing"] == "ENOTDIR", "the descriptor itself gives nothing, confined or not"
    assert found["parent"] == found["sibling"] == "ENOTDIR"


def test_a_file_that_is_a_second_name_of_another_shows_itself_alone(folder: Path) -> None:
    (folder / "linked").hardlink_to(folder / "file")
    guest = AegisDriver(capability=grants((folder / "file", "in/a", False), (folder / "linked", "in/b", False)))
    listed = {entry.name: entry.ino for entry in guest.listed(FIRST)}
    assert listed["a"] == listed["b"]
    guest.close()
