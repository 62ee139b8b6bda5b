"""``wasi:filesystem`` on real files: with a grant the guest can, without it the same call is denied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis.bindings.wasi_clocks_wall_clock import Datetime
from aegis.bindings.wasi_filesystem_types import (
    Advice,
    DescriptorFlags,
    DescriptorType,
    ErrorCode,
    NewTimestampNoChange,
    NewTimestampNow,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from aegis.errors import QuotaExceeded
from aegis.host.preview2.io import IoError
from aegis.policy import FilesystemCapability
from aegis.wit.values import Err
from tests.directories import Folder, set_times
from tests.host.preview2.guest import Guest, descriptors, refusal

R, W, M = DescriptorFlags.READ, DescriptorFlags.WRITE, DescriptorFlags.MUTATE_DIRECTORY
NONE, FOLLOW = PathFlags(0), PathFlags.SYMLINK_FOLLOW
PLAIN, CREATE, TRUNCATE = OpenFlags(0), OpenFlags.CREATE, OpenFlags.TRUNCATE
EXCLUSIVE, DIRECTORY = OpenFlags.EXCLUSIVE, OpenFlags.DIRECTORY


@pytest.fixture
def tree(either_folder: Folder) -> Folder:
    return grown(either_folder)


@pytest.fixture
def host_tree(tmp_path: Path) -> Path:
    """The same on the host, for what there is for its files alone."""
    grown(tmp_path)
    return tmp_path / "granted"


def grown(above: Folder) -> Folder:
    root = above / "granted"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"contents")
    (root / "sub" / "inner").write_bytes(b"inner")
    (root / "link").symlink_to("file")
    (root / "out").symlink_to("../secret")
    (above / "secret").write_text("secret")
    return root


def guest_of(tree: Folder, *, write: bool, **limits: Any) -> Guest:
    grant = FilesystemCapability.read_write if write else FilesystemCapability.read_only
    return Guest(filesystem=grant(f"{tree}::/in"), limits=limits)


def top(guest: Guest) -> Any:
    [(directory, name)] = guest.of("wasi:filesystem/preopens").get_directories()
    assert name == "/in"
    return directory


@pytest.fixture
def reader(tree: Folder) -> Iterator[Any]:
    with guest_of(tree, write=False) as guest:
        yield top(guest)


@pytest.fixture
def writer(tree: Folder) -> Iterator[Any]:
    with guest_of(tree, write=True) as guest:
        yield top(guest)


def test_without_a_grant_there_are_no_directories() -> None:
    with Guest() as guest:
        assert guest.of("wasi:filesystem/preopens").get_directories() == []


def test_a_granted_file_is_read(reader: Any) -> None:
    file = reader.open_at(NONE, "file", PLAIN, R)
    assert file.read(100, 0) == (b"contents", False)
    assert file.read(3, 5) == (b"nts", False)
    assert file.read(10, 8) == (b"", True)
    assert file.get_flags() == R
    assert file.get_type() is DescriptorType.REGULAR_FILE
    stream = file.read_via_stream(4)
    assert stream.read(100) == b"ents"
    assert refusal(stream.read, 1) == "StreamErrorClosed"
    assert refusal(file.read, 1, 2**63) == "invalid"
    assert refusal(file.write, b"x", 0) == "bad-descriptor"
    assert refusal(file.set_size, 0) == "bad-descriptor"
    assert refusal(file.write_via_stream, 0) == "bad-descriptor"
    file.advise(0, 10, Advice.SEQUENTIAL)
    file.sync()
    file.sync_data()


CHANGES: list[tuple[str, Any]] = [
    ("create", lambda d: d.open_at(NONE, "new", CREATE, R | W)),
    ("open to write", lambda d: d.open_at(NONE, "file", PLAIN, R | W)),
    ("truncate", lambda d: d.open_at(NONE, "file", TRUNCATE, R)),
    ("make a directory", lambda d: d.create_directory_at("made")),
    ("remove a file", lambda d: d.unlink_file_at("file")),
    ("make a link", lambda d: d.symlink_at("file", "link2")),
    ("make a hard link", lambda d: d.link_at(NONE, "file", d, "hard")),
    ("rename", lambda d: d.rename_at("file", d, "moved")),
    ("set times", lambda d: d.set_times_at(NONE, "file", NewTimestampNow(), NewTimestampNow())),
]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
def test_each_change_needs_a_grant_that_writes(change: Any, tree: Folder) -> None:
    before = sorted(p.name for p in tree.iterdir())
    with guest_of(tree, write=False) as guest:
        assert refusal(change, top(guest)) == "not-permitted"
        assert guest.denied
        assert all(flag.startswith("--allow-write") for flag in guest.denied)
    assert sorted(p.name for p in tree.iterdir()) == before
    assert (tree / "file").read_bytes() == b"contents"
    with guest_of(tree, write=True) as guest:
        change(top(guest))
        assert guest.denied == []


ESCAPES = ["..", "../secret", "sub/../../secret", "/etc/passwd", "/", "out", "sub/../../granted/file"]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_no_path_leads_out(path: str, write: bool, tree: Folder) -> None:
    with guest_of(tree, write=write) as guest:
        directory = top(guest)
        for call in (
            lambda: directory.open_at(FOLLOW, path, PLAIN, R),
            lambda: directory.stat_at(FOLLOW, path),
            lambda: directory.metadata_hash_at(FOLLOW, path),
        ):
            assert refusal(call) in ("not-permitted", "loop")
        assert guest.denied


NAMES = [
    ("a\0b", "invalid"),
    ("x" * 5000, "name-too-long"),
    ("é" * 3000, "name-too-long"),
    ("", "no-entry"),
    ("none", "no-entry"),
    ("file/x", "not-directory"),
]


@pytest.mark.parametrize(("path", "code"), NAMES, ids=[code for _, code in NAMES])
def test_a_path_that_is_none_is_refused(path: str, code: str, reader: Any) -> None:
    assert refusal(reader.open_at, NONE, path, PLAIN, R) == code
    assert refusal(reader.stat_at, NONE, path) == code


def test_opening_keeps_the_rules_of_its_flags(writer: Any, tree: Folder) -> None:
    assert refusal(writer.open_at, NONE, "file", CREATE | EXCLUSIVE, R | W) == "exist"
    assert refusal(writer.open_at, NONE, "sub", PLAIN, W) == "is-directory"
    assert refusal(writer.open_at, NONE, "file", DIRECTORY, R) == "not-directory"
    assert refusal(writer.open_at, NONE, "file", DIRECTORY | CREATE, R) == "invalid"
    assert refusal(writer.open_at, NONE, "link", PLAIN, R) == "loop"
    assert writer.open_at(FOLLOW, "link", PLAIN, R).read(100, 0)[0] == b"contents"
    sub = writer.open_at(NONE, "sub", DIRECTORY, R)
    assert sub.get_flags() == R | M
    sub.create_directory_at("x")
    assert (tree / "sub" / "x").is_dir()
    file = writer.open_at(NONE, "file", PLAIN, R)
    assert refusal(file.open_at, NONE, "x", PLAIN, R) == "not-directory"
    assert refusal(file.read_directory) == "not-directory"
    assert refusal(sub.read, 1, 0) == "is-directory"


def test_a_listing_is_complete_and_in_order(reader: Any) -> None:
    stream = reader.read_directory()
    found = []
    while (entry := stream.read_directory_entry()) is not None:
        found.append((entry.name, entry.type_))
    link = DescriptorType.SYMBOLIC_LINK
    assert found == [
        ("file", DescriptorType.REGULAR_FILE), ("link", link), ("out", link), ("sub", DescriptorType.DIRECTORY),
    ]  # fmt: skip


def test_a_status_says_what_it_should(writer: Any, tree: Folder) -> None:
    set_times(tree / "file", 1, 1_234_567_890_123_456_789)
    status = writer.stat_at(NONE, "file")
    assert (status.type_, status.size, status.link_count) == (DescriptorType.REGULAR_FILE, 8, 1)
    assert status.data_modification_timestamp == Datetime(1_234_567_890, 0)
    assert writer.stat_at(NONE, "link").type_ is DescriptorType.SYMBOLIC_LINK
    assert writer.stat_at(FOLLOW, "link").type_ is DescriptorType.REGULAR_FILE
    writer.link_at(NONE, "file", writer, "hard")
    assert writer.metadata_hash_at(NONE, "file") == writer.metadata_hash_at(NONE, "hard")
    assert writer.metadata_hash_at(NONE, "file") != writer.metadata_hash_at(NONE, "sub/inner")
    one, other = (writer.open_at(NONE, name, PLAIN, R) for name in ("file", "hard"))
    assert one.is_same_object(other)
    assert not one.is_same_object(writer)
    assert one.metadata_hash() == other.metadata_hash()
    assert writer.readlink_at("link") == "file"
    assert refusal(writer.readlink_at, "file") == "invalid"
    assert refusal(writer.link_at, FOLLOW, "file", writer, "x") == "invalid"


def test_times_are_set(writer: Any, tree: Folder) -> None:
    when = NewTimestampTimestamp(Datetime(1_000_000, 5))
    writer.set_times_at(NONE, "file", NewTimestampNoChange(), when)
    assert (tree / "file").stat().st_mtime_ns == 1_000_000_000_000_005
    file = writer.open_at(NONE, "file", PLAIN, R | W)
    file.set_times(NewTimestampNow(), NewTimestampNow())
    assert (tree / "file").stat().st_mtime_ns < 10**9, "now is the guest's own clock"
    far = NewTimestampTimestamp(Datetime(2**64 - 1, 0))
    assert refusal(file.set_times, far, far) == "overflow"


def test_writing_by_all_its_ways(writer: Any, tree: Folder) -> None:
    file = writer.open_at(NONE, "new", CREATE, R | W)
    assert file.write(b"0123456789", 0) == 10
    stream = file.write_via_stream(5)
    stream.blocking_write_and_flush(b"AB")
    stream.blocking_write_and_flush(b"CD")
    append = file.append_via_stream()
    append.blocking_write_and_flush(b"end")
    assert (tree / "new").read_bytes() == b"01234ABCD9end"
    file.set_size(4)
    append.blocking_write_and_flush(b"!")
    assert (tree / "new").read_bytes() == b"0123!"
    assert refusal(file.set_size, 2**64 - 1) == "invalid"
    assert refusal(file.write, b"x", 2**64 - 1) == "invalid"
    late = file.write_via_stream(2**63 - 1)
    assert refusal(late.blocking_write_and_flush, b"xx") == "StreamErrorLastOperationFailed"


def test_disk_writes_have_a_limit(host_tree: Path) -> None:
    with guest_of(host_tree, write=True, disk_written=100) as guest:
        file = top(guest).open_at(NONE, "new", CREATE, R | W)
        file.write(bytes(60), 0)
        for way in (
            lambda: file.write(bytes(60), 0), lambda: file.set_size(1000),
            lambda: file.append_via_stream().blocking_write_and_flush(bytes(60)),
        ):  # fmt: skip
            with pytest.raises(QuotaExceeded, match="100 bytes"):
                way()


def test_open_files_have_a_limit(tree: Folder) -> None:
    with guest_of(tree, write=False, open_files=3) as guest:
        directory = top(guest)
        held = [directory.open_at(NONE, "file", PLAIN, R) for _ in range(3)]
        assert refusal(directory.open_at, NONE, "file", PLAIN, R) == "insufficient-memory"
        held.pop().__drop__()
        held.append(directory.open_at(NONE, "sub", DIRECTORY, R))
        for descriptor in held:
            descriptor.__drop__()


def test_descriptors_and_streams_are_dropped_in_any_order(tree: Folder) -> None:
    before = descriptors()
    with guest_of(tree, write=True) as guest:
        directory = top(guest)
        for first in (True, False):
            file = directory.open_at(NONE, "file", PLAIN, R | W)
            stream = file.read_via_stream(0)
            (file if first else stream).__drop__()
            if first:
                assert stream.read(3) == b"con"
            (stream if first else file).__drop__()
        directory.open_at(NONE, "sub", DIRECTORY, R).__drop__()
    assert descriptors() <= before


def test_a_streams_failure_is_found_again() -> None:
    with Guest() as guest:
        types = guest.of("wasi:filesystem/types")
        assert types.filesystem_error_code(IoError("io", ErrorCode.IO)) is ErrorCode.IO
        assert types.filesystem_error_code(IoError("other")) is None


def test_removing_and_moving(writer: Any, tree: Folder) -> None:
    assert refusal(writer.remove_directory_at, "sub") == "not-empty"
    assert refusal(writer.unlink_file_at, "sub") in ("is-directory", "not-permitted")
    writer.unlink_file_at("sub/inner")
    writer.remove_directory_at("sub")
    writer.create_directory_at("made")
    assert refusal(writer.create_directory_at, "made") == "exist"
    made = writer.open_at(NONE, "made", DIRECTORY, R | M)
    writer.rename_at("file", made, "moved")
    assert (tree / "made" / "moved").read_bytes() == b"contents"
    assert refusal(writer.symlink_at, "../../secret", "planted") == "not-permitted"
    assert refusal(writer.symlink_at, "/etc/passwd", "planted") == "not-permitted"


def test_a_file_granted_alone_is_all_there_is(host_tree: Path) -> None:
    with Guest(filesystem=FilesystemCapability.read_only(f"{host_tree / 'file'}::/in/file")) as guest:
        directory = top(guest)
        assert directory.open_at(NONE, "file", PLAIN, R).read(8, 0)[0] == b"contents"
        assert refusal(directory.open_at, NONE, "sub", PLAIN, R) == "no-entry"
        stream = directory.read_directory()
        assert stream.read_directory_entry().name == "file"
        assert stream.read_directory_entry() is None


def test_an_error_is_a_value_for_the_guest(reader: Any) -> None:
    with pytest.raises(Err) as caught:
        reader.stat_at(NONE, "none")
    assert caught.value.value is ErrorCode.NO_ENTRY
