"""Every method of ``descriptor`` on real trees: rejections have the right code, and decisions are recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.bindings.wasi_clocks_wall_clock import Datetime
from aegis.bindings.wasi_filesystem_types import (
    Advice,
    DescriptorFlags,
    DescriptorType,
    NewTimestampNoChange,
    NewTimestampNow,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from aegis.errors import QuotaExceeded
from aegis.policy import FilesystemCapability, PathGrant
from aegis.wit.values import Err
from tests.directories import IMPLEMENTATIONS, Folder, new_folder
from tests.host.preview2.guest import Guest, refusal

R, W, M = DescriptorFlags.READ, DescriptorFlags.WRITE, DescriptorFlags.MUTATE_DIRECTORY
NONE, FOLLOW = PathFlags(0), PathFlags.SYMLINK_FOLLOW
PLAIN, CREATE, TRUNCATE = OpenFlags(0), OpenFlags.CREATE, OpenFlags.TRUNCATE
DIRECTORY = OpenFlags.DIRECTORY
NOW, SAME = NewTimestampNow(), NewTimestampNoChange()


@pytest.fixture
def tree(either_folder: Folder) -> Folder:
    return grown(either_folder)


@pytest.fixture
def host_tree(tmp_path: Path) -> Path:
    """The same on the host, for what only its files can be."""
    grown(tmp_path)
    return tmp_path / "granted"


def grown(above: Folder) -> Folder:
    root = above / "granted"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(b"contents")
    (root / "sub" / "inner").write_bytes(b"inner")
    (root / "link").symlink_to("file")
    (above / "secret").write_bytes(b"secret")
    return root


def granted(*grants: tuple[Folder, str, bool], **limits: Any) -> Guest:
    paths = tuple(PathGrant(host=str(host), guest=name, write=write) for host, name, write in grants)
    return Guest(filesystem=FilesystemCapability(paths=paths), limits=limits)


def tops(guest: Guest) -> list[Any]:
    return [directory for directory, _ in guest.of("wasi:filesystem/preopens").get_directories()]


@pytest.fixture
def reading(tree: Folder) -> Iterator[Guest]:
    with granted((tree, "/in", False)) as guest:
        yield guest


@pytest.fixture
def writing(tree: Folder) -> Iterator[Guest]:
    with granted((tree, "/in", True)) as guest:
        yield guest


def picture(root: Folder) -> dict[str, tuple[int, int, bytes]]:
    """Return what lies beneath ``root``: kind, time of change and contents by name."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


# -- in pairs ------------------------------------------------------------------------------------------

Change = Callable[[Any], Any]
CHANGES: dict[str, Change] = {
    "open at its place to write": lambda d: d.open_at(NONE, "sub/inner", PLAIN, W),
    "create beneath a directory": lambda d: d.open_at(NONE, "sub/new", CREATE, R | W),
    "create to read": lambda d: d.open_at(NONE, "new", CREATE, R),
    "truncate through a link": lambda d: d.open_at(FOLLOW, "link", TRUNCATE, R),
    "open a directory to change it": lambda d: d.open_at(NONE, "sub", DIRECTORY, R | M),
    "remove a directory": lambda d: d.remove_directory_at("sub/empty"),
    "remove a link": lambda d: d.unlink_file_at("link"),
    "link beneath": lambda d: d.link_at(NONE, "file", d, "sub/hard"),
    "rename a directory": lambda d: d.rename_at("sub", d, "bus"),
    "set times through a link": lambda d: d.set_times_at(FOLLOW, "link", NOW, NOW),
    "set times of a directory": lambda d: d.set_times_at(NONE, "sub", SAME, NOW),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_without_the_grant_and_made_with_it(name: str, tree: Folder) -> None:
    before = picture(tree)
    with granted((tree, "/in", False)) as guest:
        assert refusal(CHANGES[name], tops(guest)[0]) == "not-permitted"
        assert guest.denied == [f"--allow-write {tree}::/in"]
    assert picture(tree) == before
    with granted((tree, "/in", True)) as guest:
        CHANGES[name](tops(guest)[0])
        assert guest.denied == []


def test_a_file_open_only_to_read_is_changed_by_neither_grant(tree: Folder) -> None:
    before = picture(tree)
    for write in (False, True):
        with granted((tree, "/in", write)) as guest:
            directory = tops(guest)[0]
            file = directory.open_at(NONE, "file", PLAIN, R)
            assert refusal(file.write, b"x", 0) == "bad-descriptor"
            assert refusal(file.set_size, 0) == "bad-descriptor"
            assert refusal(file.write_via_stream, 0) == "bad-descriptor"
            assert refusal(file.append_via_stream) == "bad-descriptor"
            assert refusal(file.set_times, NOW, NOW) == "not-permitted"
    assert picture(tree) == before


def test_a_preopened_directorys_own_times_need_a_grant_that_writes(tree: Folder) -> None:
    when = NewTimestampTimestamp(Datetime(5, 0))
    with granted((tree, "/in", False)) as guest:
        assert refusal(tops(guest)[0].set_times, when, when) == "not-permitted"
    with granted((tree, "/in", True)) as guest:
        tops(guest)[0].set_times(when, SAME)
        assert tree.stat().st_atime == 5


def test_between_two_grants_the_one_that_reads_decides(tree: Folder) -> None:
    (tree.parent / "other").mkdir()
    (tree.parent / "other" / "own").write_bytes(b"own")
    with granted((tree, "/in", False), (tree.parent / "other", "/out", True)) as guest:
        reader, writer = tops(guest)
        for call in (
            lambda: reader.rename_at("file", writer, "taken"), lambda: writer.rename_at("own", reader, "given"),
            lambda: reader.link_at(NONE, "file", writer, "taken"), lambda: writer.link_at(NONE, "own", reader, "given"),
        ):  # fmt: skip
            assert refusal(call) == "not-permitted"
        assert set(guest.denied) == {f"--allow-write {tree}::/in"}
    with granted((tree, "/in", True), (tree.parent / "other", "/out", True)) as guest:
        one, other = tops(guest)
        one.rename_at("file", other, "taken")
        other.link_at(NONE, "own", one, "given")
    assert (tree.parent / "other" / "taken").read_bytes() == b"contents"
    assert (tree / "given").samefile(tree.parent / "other" / "own")


def test_a_file_granted_alone_is_written_if_its_grant_writes(host_tree: Path) -> None:
    file = host_tree / "file"
    with granted((file, "/in/file", False)) as guest:
        [directory] = tops(guest)
        assert refusal(directory.open_at, NONE, "file", PLAIN, R | W) == "not-permitted"
        assert refusal(directory.open_at, NONE, "file", TRUNCATE, R) == "not-permitted"
    assert file.read_bytes() == b"contents"
    with granted((file, "/in/file", True)) as guest:
        [directory] = tops(guest)
        directory.open_at(NONE, "file", PLAIN, R | W).write(b"C", 0)
        assert file.read_bytes() == b"Contents"
        directory.open_at(NONE, "file", CREATE | TRUNCATE, W).write(b"new", 0)
        assert file.read_bytes() == b"new"
        assert refusal(directory.open_at, NONE, "other", CREATE, R | W) in ("no-entry", "not-permitted")
        assert refusal(directory.unlink_file_at, "file") == "not-permitted"
        assert refusal(directory.open_at, NONE, ".", DIRECTORY, R | M) == "not-permitted"
    assert sorted(p.name for p in host_tree.iterdir()) == ["file", "link", "sub"]


# -- decisions -----------------------------------------------------------------------------------------


LEAVES = "the path leaves /in; no option allows that"


def test_decisions_are_recorded(tree: Folder) -> None:
    with granted((tree, "/in", False)) as guest:
        directory = tops(guest)[0]
        directory.open_at(NONE, "sub/inner", PLAIN, R)
        refusal(directory.unlink_file_at, "file")
        refusal(directory.open_at, NONE, "../secret", PLAIN, R)
        refusal(directory.open_at, NONE, "none", PLAIN, R)
        directory.stat_at(NONE, "file")
        assert [tuple(decision) for decision in guest.decisions] == [
            ("filesystem", "open", "/in/sub/inner", True, "read-only /in", "", ""),
            ("filesystem", "write", "/in/file", False, "read-only /in", f"--allow-write {tree}::/in", ""),
            ("filesystem", "open", "/in/../secret", False, LEAVES, "", ""),
        ]
        assert guest.door.denials == 2


def test_a_denial_is_counted_without_a_subscriber(tree: Folder) -> None:
    with granted((tree, "/in", False)) as guest:
        guest.door.listens = False
        directory = tops(guest)[0]
        directory.open_at(NONE, "file", PLAIN, R)
        refusal(directory.unlink_file_at, "file")
        assert [decision.allowed for decision in guest.decisions] == [False]


def test_a_target_is_shown_without_its_control_characters(reading: Guest) -> None:
    refusal(tops(reading)[0].unlink_file_at, "a\x1b[31m\n" + "b" * 2000)
    [decision] = reading.decisions
    assert not set(decision.target) & {"\x1b", "\n"}
    assert not set(decision.remedy) & {"\x1b", "\n"}
    assert len(decision.target) < 2000


# -- ways out ------------------------------------------------------------------------------------------


WAYS_OUT = [
    ("planted", "../secret"),
    ("planted", "/etc/passwd"),
    ("planted", "/"),
    ("planted", "sub/../../secret"),
    ("planted", "link2"),
    ("sub/planted", "../../secret"),
    ("sub/planted", "../link2"),
    ("sub/planted", "empty/../../../secret"),
]


@pytest.mark.parametrize(("place", "target"), WAYS_OUT)
def test_a_planted_link_leads_nowhere(place: str, target: str, tree: Folder) -> None:
    (tree / "link2").symlink_to("../secret")
    (tree / place).symlink_to(target)
    with granted((tree, "/in", True)) as guest:
        directory = tops(guest)[0]
        for call in (
            lambda: directory.open_at(FOLLOW, place, PLAIN, R), lambda: directory.open_at(FOLLOW, place, PLAIN, R | W),
            lambda: directory.open_at(FOLLOW, place, CREATE | TRUNCATE, W), lambda: directory.stat_at(FOLLOW, place),
            lambda: directory.set_times_at(FOLLOW, place, NOW, NOW), lambda: directory.stat_at(NONE, place + "/"),
            lambda: directory.open_at(NONE, place + "/x", CREATE, W), lambda: directory.metadata_hash_at(FOLLOW, place),
            lambda: directory.create_directory_at(place + "/x"), lambda: directory.unlink_file_at(place + "/x"),
        ):  # fmt: skip
            assert refusal(call) in ("not-permitted", "no-entry", "not-directory", "loop")
        assert directory.stat_at(NONE, place).type_ is DescriptorType.SYMBOLIC_LINK
    assert (tree.parent / "secret").read_bytes() == b"secret"


def test_links_in_a_circle_end(tree: Folder) -> None:
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    with granted((tree, "/in", False)) as guest:
        assert refusal(tops(guest)[0].open_at, FOLLOW, "a", PLAIN, R) == "loop"
        assert refusal(tops(guest)[0].stat_at, FOLLOW, "a/x") == "loop"


SEGMENTS = ["..", ".", "", "sub", "up", "root", "file", "empty", "new"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=150, deadline=None)
@given(segments=st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=7), flags=st.sampled_from([NONE, FOLLOW]))
def test_no_path_of_hostile_segments_reaches_what_was_not_granted(
    implementation: str, segments: list[str], flags: PathFlags
) -> None:
    """For every path: what it opens is beneath the grant, and what lies beside it is as before."""
    with new_folder(implementation) as folder:
        try_path(folder / "granted", "/".join(segments), flags)


def try_path(root: Folder, path: str, flags: PathFlags) -> None:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (root.parent / "file").write_bytes(b"secret")
    (root / "sub" / "up").symlink_to("../..")
    (root / "up").symlink_to("..")
    (root / "root").symlink_to(str(root.parent))
    before = {p for p in root.parent.rglob("*") if root not in p.parents}
    with granted((root, "/in", True)) as guest:
        directory = tops(guest)[0]
        for call in (
            lambda: directory.open_at(flags, path, PLAIN, R).read(9, 0)[0],
            lambda: directory.open_at(flags, path, CREATE, R | W).read(9, 0)[0],
        ):
            try:
                assert call() in (b"inside", b"")
            except Err:
                continue
        for change in (directory.create_directory_at, directory.unlink_file_at, directory.remove_directory_at):
            try:
                change(path)
            except Err:
                continue
    assert {p for p in root.parent.rglob("*") if root not in p.parents} == before
    assert (root.parent / "file").read_bytes() == b"secret"


# -- codes ---------------------------------------------------------------------------------------------


CODES: list[tuple[str, str, Change]] = [
    ("read a directory", "is-directory", lambda d: d.read(1, 0)),
    ("stream a directory", "is-directory", lambda d: d.read_via_stream(0)),
    ("write a directory", "is-directory", lambda d: d.write(b"x", 0)),
    ("stream into a directory", "is-directory", lambda d: d.write_via_stream(0)),
    ("append to a directory", "is-directory", lambda d: d.append_via_stream()),
    ("size a directory", "is-directory", lambda d: d.set_size(0)),
    ("advise on a directory", "bad-descriptor", lambda d: d.advise(0, 0, Advice.NORMAL)),
    ("advise too far", "invalid", lambda d: opened(d).advise(2**64 - 1, 1, Advice.NORMAL)),
    ("read too far", "invalid", lambda d: opened(d).read(1, 2**63)),
    ("write too far", "invalid", lambda d: opened(d).write(b"x", 2**63)),
    ("stream too far", "invalid", lambda d: opened(d).write_via_stream(2**63)),
    ("look beneath a file", "not-directory", lambda d: d.stat_at(NONE, "file/x")),
    ("look from a file", "not-directory", lambda d: opened(d).stat_at(NONE, "x")),
    ("read a link from a file", "not-directory", lambda d: opened(d).readlink_at("x")),
    ("make a directory from a file", "not-directory", lambda d: opened(d).create_directory_at("x")),
    ("rename into a file", "not-directory", lambda d: d.rename_at("file", opened(d), "x")),
    ("link into a file", "not-directory", lambda d: d.link_at(NONE, "file", opened(d), "x")),
    ("read what is no link", "invalid", lambda d: d.readlink_at("file")),
    ("read a link that is not there", "no-entry", lambda d: d.readlink_at("none")),
    ("remove what is not there", "no-entry", lambda d: d.unlink_file_at("none")),
    ("remove a file as a directory", "not-directory", lambda d: d.remove_directory_at("file")),
    ("remove a full directory", "not-empty", lambda d: d.remove_directory_at("sub")),
    ("remove the root", "invalid", lambda d: d.remove_directory_at(".")),
    ("make what is there", "exist", lambda d: d.create_directory_at("file")),
    ("make the root", "exist", lambda d: d.create_directory_at(".")),
    ("link over a file", "exist", lambda d: d.link_at(NONE, "file", d, "link")),
    ("make a link over a file", "exist", lambda d: d.symlink_at("x", "file")),
    ("make an empty link", "no-entry", lambda d: d.symlink_at("", "x")),
    ("rename over a full directory", "not-empty", lambda d: d.rename_at("sub/empty", d, "sub")),
    ("rename into itself", "invalid", lambda d: d.rename_at("sub", d, "sub/empty/x")),
    ("rename a file over a directory", "is-directory", lambda d: d.rename_at("file", d, "sub")),
    ("rename the root", "busy", lambda d: d.rename_at(".", d, "x")),
    ("open a name too long", "name-too-long", lambda d: d.open_at(NONE, "x" * 256, PLAIN, R)),
    ("create a name too long", "name-too-long", lambda d: d.open_at(NONE, "x" * 256, CREATE, W)),
    ("a NUL in a link", "invalid", lambda d: d.symlink_at("a\0b", "x")),
    ("a NUL in a new name", "invalid", lambda d: d.rename_at("file", d, "a\0b")),
    ("create where nothing is", "no-entry", lambda d: d.open_at(NONE, "none/x", CREATE, W)),
]  # fmt: skip


def opened(directory: Any) -> Any:
    return directory.open_at(NONE, "file", PLAIN, R | W)


@pytest.mark.parametrize(("code", "call"), [c[1:] for c in CODES], ids=[c[0] for c in CODES])
def test_a_refusal_has_its_code(code: str, call: Change, writing: Guest, tree: Folder) -> None:
    before = picture(tree)
    assert refusal(call, tops(writing)[0]) == code
    assert picture(tree) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_not_opened_and_nothing_waits(host_tree: Path) -> None:
    os.mkfifo(host_tree / "fifo")
    with granted((host_tree, "/in", True)) as guest:
        directory = tops(guest)[0]
        for flags in (R, W, R | W):
            assert refusal(directory.open_at, NONE, "fifo", PLAIN, flags) == "access"
        assert directory.stat_at(NONE, "fifo").type_ is DescriptorType.FIFO
        assert refusal(directory.open_at, NONE, "fifo", DIRECTORY, R) == "not-directory"


# -- contents ------------------------------------------------------------------------------------------


def test_a_read_gives_at_most_a_chunk_and_reports_the_end_anywhere(tree: Folder) -> None:
    (tree / "big").write_bytes(bytes(200_000))
    with granted((tree, "/in", False)) as guest:
        file = tops(guest)[0].open_at(NONE, "big", PLAIN, R)
        assert len(file.read(2**64 - 1, 0)[0]) == 65536
        assert file.read(2**64 - 1, 200_000) == (b"", True)
        assert file.read(2**64 - 1, 2**63 - 1) == (b"", True)
        stream = file.read_via_stream(199_999)
        assert len(stream.read(2**64 - 1)) == 1
        assert refusal(stream.read, 1) == "StreamErrorClosed"
        assert refusal(file.read_via_stream(2**64 - 1).blocking_read, 1) == "StreamErrorClosed"
        assert file.read_via_stream(0).skip(2**64 - 1) == 65536


def test_a_file_is_spliced_into_another(writing: Guest, tree: Folder) -> None:
    directory = tops(writing)[0]
    (tree / "big").write_bytes(os.urandom(150_000))
    source = directory.open_at(NONE, "big", PLAIN, R).read_via_stream(0)
    sink = directory.open_at(NONE, "copy", CREATE, W).write_via_stream(0)
    assert [sink.blocking_splice(source, 2**64 - 1) for _ in range(3)] == [65536, 65536, 150_000 - 2 * 65536]
    assert refusal(sink.splice, source, 1) == "StreamErrorClosed"
    sink.blocking_write_zeroes_and_flush(10)
    assert (tree / "copy").read_bytes() == (tree / "big").read_bytes() + bytes(10)


def test_two_that_append_do_not_write_over_each_other(writing: Guest, tree: Folder) -> None:
    file = opened(tops(writing)[0])
    one, other = file.append_via_stream(), file.append_via_stream()
    for stream, data in ((one, b"1"), (other, b"2"), (one, b"3")):
        stream.blocking_write_and_flush(data)
    assert (tree / "file").read_bytes() == b"contents123"


def test_a_file_has_the_size_it_was_given(writing: Guest, tree: Folder) -> None:
    file = opened(tops(writing)[0])
    file.set_size(12)
    assert file.read(100, 0) == (b"contents\0\0\0\0", False)
    file.set_size(0)
    assert file.stat().size == 0
    assert file.write(b"far", 5) == 3
    assert (tree / "file").read_bytes() == b"\0\0\0\0\0far"
    assert file.write(b"", 100) == 0
    assert file.stat().size == 8


@pytest.mark.parametrize(
    "flag",
    [
        DescriptorFlags.FILE_INTEGRITY_SYNC,
        DescriptorFlags.DATA_INTEGRITY_SYNC,
        DescriptorFlags.REQUESTED_WRITE_SYNC,
    ],
)
def test_a_file_opened_to_be_synced_is_written(flag: DescriptorFlags, writing: Guest, tree: Folder) -> None:
    file = tops(writing)[0].open_at(NONE, "file", PLAIN, R | W | flag)
    assert flag in file.get_flags()
    file.write(b"C", 0)
    file.sync()
    file.sync_data()
    assert (tree / "file").read_bytes() == b"Contents"


def test_every_advice_is_taken(reading: Guest) -> None:
    file = tops(reading)[0].open_at(NONE, "file", PLAIN, R)
    for advice in Advice:
        file.advise(0, 0, advice)
        file.advise(0, 2**63 - 1, advice)


def test_the_disk_quota_is_met_to_the_byte_and_kept_over_all_ways(host_tree: Path) -> None:
    with granted((host_tree, "/in", True), disk_written=20) as guest:
        file = tops(guest)[0].open_at(NONE, "new", CREATE, R | W)
        file.write(bytes(5), 0)
        file.write_via_stream(5).blocking_write_and_flush(bytes(5))
        file.append_via_stream().blocking_write_zeroes_and_flush(5)
        file.set_size(20)
        file.set_size(1)
        for way in (
            lambda: file.write(b"x", 0), lambda: file.set_size(2), lambda: opened(tops(guest)[0]).write(b"x", 0),
            lambda: file.write_via_stream(0).blocking_write_and_flush(b"x"),
        ):  # fmt: skip
            with pytest.raises(QuotaExceeded) as caught:
                way()
            assert caught.value.limit == "disk_written"
        assert (host_tree / "new").read_bytes() == b"\0"
        assert (host_tree / "file").read_bytes() == b"contents"


# -- listings, links and times -------------------------------------------------------------------------


def listed(directory: Any) -> list[str]:
    stream = directory.read_directory()
    return [entry.name for entry in iter(stream.read_directory_entry, None)]


def test_a_long_listing_is_complete_and_in_order(tree: Folder) -> None:
    names = sorted(f"{n * 7919 % 3000}é" for n in range(3000))
    (tree / "many").mkdir()
    for name in names:
        (tree / "many" / name).touch()
    with granted((tree, "/in", False)) as guest:
        assert listed(tops(guest)[0].open_at(NONE, "many", DIRECTORY, R)) == names


@pytest.mark.skipif(sys.platform != "linux", reason="the system's names are Unicode")
def test_a_name_that_is_not_unicode_is_left_out(host_tree: Path) -> None:
    with open(os.fsencode(host_tree) + b"/sub/\xff", "wb"):
        pass
    os.symlink(b"\xff", os.fsencode(host_tree) + b"/sub/odd")
    with granted((host_tree, "/in", False)) as guest:
        sub = tops(guest)[0].open_at(NONE, "sub", DIRECTORY, R)
        assert listed(sub) == ["empty", "inner", "odd"]
        assert refusal(sub.readlink_at, "odd") == "illegal-byte-sequence"


def test_a_link_says_what_it_was_made_to_say_but_no_path_of_the_host(writing: Guest, tree: Folder) -> None:
    directory = tops(writing)[0]
    directory.symlink_at("sub/inner", "made")
    assert directory.readlink_at("made") == str((tree / "made").readlink()) == "sub/inner"
    assert directory.open_at(FOLLOW, "made", PLAIN, R).read(9, 0)[0] == b"inner"
    (tree / "sub" / "up").symlink_to("../file")
    assert directory.open_at(FOLLOW, "sub/up", PLAIN, R).read(9, 0)[0] == b"contents"
    assert refusal(directory.symlink_at, "../file", "sub/again") == "not-permitted"
    (tree / "planted").symlink_to(str(tree))
    assert refusal(directory.readlink_at, "planted") == "not-permitted"


def test_identities_are_of_files_not_of_names(writing: Guest) -> None:
    directory = tops(writing)[0]
    directory.link_at(NONE, "file", directory, "sub/hard")
    hashes = [directory.metadata_hash_at(NONE, name) for name in ("file", "sub/hard", "sub/inner", "sub", "link")]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
    assert directory.metadata_hash_at(FOLLOW, "link") == hashes[0]
    assert directory.metadata_hash_at(NONE, ".") == directory.metadata_hash()
    assert directory.stat_at(NONE, "file").link_count == 2


def test_times_are_kept_to_the_nanosecond_and_unchanged_on_request(writing: Guest, tree: Folder) -> None:
    directory = tops(writing)[0]
    first = NewTimestampTimestamp(Datetime(2_000_000_000, 123_456_789))
    directory.set_times_at(NONE, "file", first, first)
    directory.set_times_at(NONE, "file", SAME, NewTimestampTimestamp(Datetime(7, 0)))
    status = directory.stat_at(NONE, "file")
    assert status.data_access_timestamp == Datetime(2_000_000_000, 123_456_789)
    assert status.data_modification_timestamp == Datetime(7, 0)
    directory.set_times_at(NONE, "link", first, first)
    assert directory.stat_at(NONE, "link").data_modification_timestamp == first.value
    assert directory.stat_at(FOLLOW, "link").data_modification_timestamp == Datetime(7, 0)
    opened(directory).set_times(SAME, SAME)
    assert directory.stat_at(NONE, "file").data_modification_timestamp == Datetime(7, 0)
    assert refusal(directory.set_times_at, NONE, "none", SAME, SAME) == "no-entry"
    far = NewTimestampTimestamp(Datetime(2**64 - 1, 999_999_999))
    assert refusal(directory.set_times_at, NONE, "file", far, SAME) == "overflow"
