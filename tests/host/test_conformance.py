"""Behaviour that public WASI preview 1 programs rely on, call by call: each test is one fact that they assert.

Where a set of answers is given, programs accept all of them, and Aegis' answer is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aegis.host.preview1.abi import Errno, Rights
from aegis.policy import FilesystemCapability, PathGrant
from tests.directories import Folder
from tests.host.harness import ALL, FIRST, AegisDriver, clock_event, fd_event

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
FOLLOW = 1
APPEND, NONBLOCK, SYNC = 1, 4, 16
ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8
SET, CURRENT, END = 0, 1, 2
READ, WRITE = int(Rights.FD_READ), int(Rights.FD_WRITE)


@pytest.fixture
def guest(either_folder: Folder) -> Iterator[AegisDriver]:
    """A guest with one directory, ``/``, that it may change."""
    root = either_folder / "root"
    root.mkdir()
    capability = FilesystemCapability(paths=(PathGrant(host=str(root), guest="/", write=True),))
    driver = AegisDriver(capability=capability)
    yield driver
    driver.close()


@pytest.fixture
def folder(guest: AegisDriver) -> int:
    """A new directory, opened with the rights that programs request."""
    assert guest.path_create_directory(FIRST, "folder.cleanup") == 0
    return guest.opened("folder.cleanup", DIRECTORY, ALL & ~(READ | WRITE))


def made(guest: AegisDriver, fd: int, path: str) -> None:
    """Create an empty file."""
    assert guest.fd_close(guest.opened(path, CREAT, 0, fd=fd)) == 0


# -- preopens and descriptors -------------------------------------------------------------------


def test_the_preopen_is_the_first_descriptor_and_has_its_name(guest: AegisDriver) -> None:
    assert guest.fd_prestat_get(FIRST) == (0, 1)
    assert guest.fd_prestat_get(FIRST + 1)[0] == Errno.BADF
    assert guest.fd_prestat_dir_name(FIRST, 1) == (0, b"/")
    assert guest.fd_prestat_dir_name(FIRST, 0)[0] in (Errno.INVAL, Errno.NAMETOOLONG)
    number, name = guest.fd_prestat_dir_name(FIRST, 2)
    assert (number, name[:1]) == (0, b"/")


def test_a_preopen_has_the_rights_that_programs_look_for_and_opens_again_with_them(guest: AegisDriver) -> None:
    number, status = guest.fd_fdstat_get(FIRST)
    assert number == 0
    assert status is not None
    for name in ("FD_READ", "FD_WRITE", "FD_SEEK", "FD_TELL", "FD_ALLOCATE", "FD_ADVISE", "FD_FILESTAT_SET_SIZE"):
        assert status.inheriting & int(getattr(Rights, name)), name
    for name in ("PATH_OPEN", "FD_READDIR", "PATH_CREATE_FILE", "PATH_FILESTAT_GET", "FD_FILESTAT_SET_TIMES"):
        assert status.rights & int(getattr(Rights, name)), name
    assert not status.rights & int(Rights.FD_FILESTAT_SET_SIZE | Rights.FD_SEEK)
    assert status.flags == 0
    assert guest.path_open(FIRST, 0, ".", 0, status.rights, status.inheriting)[0] == 0
    assert guest.path_open(FIRST, 0, ".", 0, 0, 0)[0] == 0
    assert guest.path_open(FIRST, 0, ".", DIRECTORY, READ, 0)[0] == 0
    assert guest.path_open(FIRST, 0, ".", DIRECTORY, READ | WRITE, 0)[0] == Errno.ISDIR
    assert guest.path_open(FIRST, 0, ".", 0, 0, 0, NONBLOCK)[0] == 0


def test_a_preopen_can_be_closed_while_another_descriptor_of_it_stays(guest: AegisDriver) -> None:
    other = guest.opened(".", DIRECTORY, ALL & ~(READ | WRITE))
    assert other > FIRST
    assert guest.fd_close(FIRST) == 0
    assert guest.fd_fdstat_get(FIRST)[0] == Errno.BADF
    assert guest.fd_fdstat_get(other)[0] == 0
    assert guest.path_create_directory(other, "still") == 0


def test_renumbering_replaces_the_target_even_a_preopen(guest: AegisDriver, folder: int) -> None:
    before = guest.fd_filestat_get(folder)[1]
    assert guest.fd_renumber(folder, FIRST) == 0
    after = guest.fd_filestat_get(FIRST)[1]
    assert before is not None
    assert after is not None
    assert (before.dev, before.ino) == (after.dev, after.ino)
    assert guest.fd_fdstat_get(folder)[0] == Errno.BADF


def test_renumbering_moves_a_file_and_needs_an_open_target(guest: AegisDriver, folder: int) -> None:
    first, second = guest.opened("1", CREAT, fd=folder), guest.opened("2", CREAT, fd=folder)
    status = guest.fd_fdstat_get(first)
    assert guest.fd_renumber(first, second) == 0
    assert guest.fd_close(first) == Errno.BADF
    assert guest.fd_fdstat_get(second) == status
    assert guest.fd_renumber(second, first) == Errno.BADF


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_standard_stream_can_be_renumbered(guest: AegisDriver, stream: int) -> None:
    target = guest.opened("f", CREAT, 0)
    assert guest.fd_renumber(stream, target) == 0
    assert guest.fd_fdstat_get(target)[0] == 0
    assert guest.fd_fdstat_get(stream)[0] == Errno.BADF


def test_a_directory_is_not_read_written_or_sought(guest: AegisDriver) -> None:
    allowed = (Errno.ISDIR, Errno.BADF, Errno.NOTCAPABLE)
    assert guest.fd_read(FIRST, 128)[0] in allowed
    assert guest.fd_pread(FIRST, 128, 0)[0] in allowed
    assert guest.fd_write(FIRST, b"x")[0] in allowed
    assert guest.fd_pwrite(FIRST, b"x", 0)[0] in allowed
    for whence in (SET, CURRENT, END):
        assert guest.fd_seek(FIRST, 0, whence)[0] in allowed
    assert guest.fd_tell(FIRST)[0] in allowed
    assert guest.fd_allocate(FIRST, 0, 1) in allowed
    assert guest.fd_filestat_set_size(FIRST, 0) in (*allowed, Errno.INVAL)


def test_a_directory_opened_with_the_right_to_seek_does_not_get_it(guest: AegisDriver) -> None:
    assert guest.path_create_directory(FIRST, "d") == 0
    fd = guest.opened("d", DIRECTORY, int(Rights.FD_SEEK), inheriting=0)
    status = guest.fd_fdstat_get(fd)[1]
    assert status is not None
    assert (status.filetype, status.rights & int(Rights.FD_SEEK)) == (3, 0)


def test_a_file_is_no_directory_to_open_beneath(guest: AegisDriver) -> None:
    fd = guest.opened("f", CREAT, 0)
    assert guest.path_open(fd, 0, "x", CREAT, 0, 0)[0] in (Errno.NOTDIR, Errno.NOTCAPABLE)


# -- rights -------------------------------------------------------------------------------------


def test_dropped_rights_stay_dropped(guest: AegisDriver, folder: int) -> None:
    fd = guest.opened("f", CREAT, READ | WRITE | int(Rights.FD_SEEK | Rights.FD_TELL), fd=folder)
    assert guest.fd_write(fd, b"0123") == (0, 4)
    assert guest.fd_seek(fd, 0, SET) == (0, 0)
    assert guest.fd_read(fd, 4) == (0, b"0123")
    status = guest.fd_fdstat_get(fd)[1]
    assert status is not None
    kept = status.rights & ~(READ | WRITE)
    assert guest.fd_fdstat_set_rights(fd, kept, status.inheriting) == 0
    assert guest.fd_fdstat_get(fd)[1] == status._replace(rights=kept)
    assert kept & int(Rights.FD_SEEK)
    assert guest.fd_read(fd, 4)[0] == Errno.NOTCAPABLE
    assert guest.fd_write(fd, b"x")[0] == Errno.NOTCAPABLE
    assert guest.fd_fdstat_set_rights(fd, status.rights, status.inheriting) == Errno.NOTCAPABLE


def test_truncation_needs_the_right_of_the_directory(guest: AegisDriver, folder: int) -> None:
    made(guest, folder, "f")
    status = guest.fd_fdstat_get(folder)[1]
    assert status is not None
    assert guest.path_open(folder, 0, "f", TRUNC, 0, 0)[0] == 0
    inheriting = status.inheriting & ~int(Rights.FD_FILESTAT_SET_SIZE)
    assert guest.fd_fdstat_set_rights(folder, status.rights, inheriting) == 0
    assert guest.path_open(folder, 0, "f", TRUNC, 0, 0)[0] == 0
    rights = status.rights & ~int(Rights.PATH_FILESTAT_SET_SIZE)
    assert guest.fd_fdstat_set_rights(folder, rights, inheriting) == 0
    assert guest.path_open(folder, 0, "f", TRUNC, 0, 0)[0] in (Errno.PERM, Errno.NOTCAPABLE)


def test_a_file_opened_for_one_thing_does_not_do_the_other(guest: AegisDriver) -> None:
    made(guest, FIRST, "f")
    refused = (Errno.BADF, Errno.NOTCAPABLE, Errno.ACCES)
    reader = guest.opened("f", 0, READ)
    assert guest.fd_read(reader, 100) == (0, b"")
    assert guest.fd_write(reader, b"x")[0] in refused
    writer = guest.opened("f", 0, WRITE)
    assert guest.fd_read(writer, 100)[0] in refused
    assert guest.fd_write(writer, b"x" * 50) == (0, 50)
    both = guest.opened("f", 0, READ | WRITE | int(Rights.FD_FILESTAT_GET))
    assert guest.fd_read(both, 100) == (0, b"x" * 50)
    assert guest.fd_write(both, b"y" * 25) == (0, 25)
    status = guest.fd_filestat_get(both)[1]
    assert status is not None
    assert status.size == 75
    for fd, has, lacks in ((reader, READ, WRITE), (writer, WRITE, READ)):
        stat = guest.fd_fdstat_get(fd)[1]
        assert stat is not None
        assert (stat.rights & has, stat.rights & lacks) == (has, 0)


# -- data ---------------------------------------------------------------------------------------


def test_seek_and_tell(guest: AegisDriver) -> None:
    fd = guest.opened("f", CREAT, READ | WRITE | int(Rights.FD_SEEK | Rights.FD_TELL))
    assert guest.fd_tell(fd) == (0, 0)
    assert guest.fd_write(fd, bytes(100)) == (0, 100)
    assert guest.fd_tell(fd) == (0, 100)
    assert guest.fd_seek(fd, -50, CURRENT) == (0, 50)
    assert guest.fd_seek(fd, 0, SET) == (0, 0)
    assert guest.fd_seek(fd, 1000, CURRENT) == (0, 1000)
    assert guest.fd_seek(fd, -2000, CURRENT)[0] == Errno.INVAL
    assert guest.fd_seek(fd, -1, END) == (0, 99)
    assert guest.fd_seek(fd, 0, 3)[0] == Errno.INVAL
    assert guest.fd_seek(fd, 0, SET) == (0, 0)
    assert guest.fd_read(fd, 100) == (0, bytes(100))
    assert guest.fd_tell(fd) == (0, 100)


def test_positioned_access_leaves_the_position_alone(guest: AegisDriver) -> None:
    fd = guest.opened("f", CREAT, READ | WRITE | int(Rights.FD_SEEK))
    assert guest.fd_pwrite(fd, b"\0\1\2\3", 0) == (0, 4)
    assert guest.fd_pread(fd, 4, 0) == (0, b"\0\1\2\3")
    assert guest.fd_pread(fd, 4, 2) == (0, b"\2\3")
    assert guest.fd_pwrite(fd, b"\1\0", 2) == (0, 2)
    assert guest.fd_read(fd, 2, 2) == (0, b"\0\1\1\0")
    assert guest.fd_write(fd, b"ab", b"", b"c") == (0, 3)
    assert guest.fd_pread(fd, 16, 0) == (0, b"\0\1\1\0abc")


def test_a_write_is_seen_at_once_through_another_descriptor(guest: AegisDriver) -> None:
    reader, writer = guest.opened("f", CREAT, READ), guest.opened("f", 0, WRITE)
    assert guest.fd_write(writer, b"\1") == (0, 1)
    assert guest.fd_read(reader, 1) == (0, b"\1")


def test_append_writes_at_the_end_until_it_is_switched_off(guest: AegisDriver) -> None:
    fd = guest.opened("f", CREAT, fdflags=APPEND)
    assert guest.fd_write(fd, b"0" * 100) == (0, 100)
    assert guest.fd_seek(fd, 0, SET) == (0, 0)
    assert guest.fd_write(fd, b"1" * 100) == (0, 100)
    assert guest.fd_tell(fd) == (0, 200)
    assert guest.fd_pread(fd, 100, 100) == (0, b"1" * 100)
    assert guest.fd_pwrite(fd, b"22", 0) == (0, 2)
    assert guest.fd_tell(fd) == (0, 200)
    assert guest.fd_fdstat_set_flags(fd, 0) == 0
    assert guest.fd_seek(fd, 0, SET) == (0, 0)
    assert guest.fd_write(fd, b"3" * 100) == (0, 100)
    status = guest.path_filestat_get(FIRST, 0, "f")[1]
    assert status is not None
    assert status.size in (200, 202)


def test_flags_asked_for_at_opening_are_reported(guest: AegisDriver) -> None:
    number, fd = guest.path_open(FIRST, 0, "f", CREAT, READ | WRITE, 0, APPEND | SYNC)
    assert number in (0, Errno.NOTSUP)
    status = guest.fd_fdstat_get(fd)[1]
    assert status is not None
    assert (status.filetype, status.flags) == (4, APPEND | SYNC)


def test_truncating_at_opening_empties_the_file(guest: AegisDriver) -> None:
    fd = guest.opened("f", CREAT, WRITE)
    assert guest.fd_write(fd, b"content") == (0, 7)
    assert guest.fd_close(fd) == 0
    assert guest.fd_read(guest.opened("f", CREAT | TRUNC, READ | WRITE), 100) == (0, b"")


def test_allocating_grows_a_file_and_never_shrinks_it(guest: AegisDriver) -> None:
    fd = guest.opened("f", CREAT)
    sizes = []
    for offset, length in ((0, 100), (10, 10), (90, 20)):
        assert guest.fd_allocate(fd, offset, length) == 0
        status = guest.fd_filestat_get(fd)[1]
        assert status is not None
        sizes.append(status.size)
    assert sizes == [100, 100, 110]
    assert guest.call("fd_advise", fd, 10, 50, 0) == 0
    assert guest.fd_filestat_set_size(fd, 7) == 0
    status = guest.fd_filestat_get(fd)[1]
    assert status is not None
    assert status.size == 7


# -- times --------------------------------------------------------------------------------------


def test_times_are_set_one_by_one_and_nonsense_is_refused(guest: AegisDriver, folder: int) -> None:
    fd = guest.opened("f", CREAT, fd=folder)
    before = guest.fd_filestat_get(fd)[1]
    assert before is not None
    assert guest.fd_filestat_set_times(fd, 5, before.mtim - 100, MTIM) == 0
    after = guest.fd_filestat_get(fd)[1]
    assert after is not None
    assert (after.atim, after.mtim) == (before.atim, before.mtim - 100)
    for flags in (MTIM | MTIM_NOW, ATIM | ATIM_NOW):
        assert guest.fd_filestat_set_times(fd, 1, 2, flags) == Errno.INVAL
        assert guest.path_filestat_set_times(folder, 0, "f", 1, 2, flags) == Errno.INVAL
    assert guest.fd_filestat_get(fd)[1] == after


def test_the_times_of_a_link_are_its_own(guest: AegisDriver, folder: int) -> None:
    made(guest, folder, "f")
    assert guest.path_symlink("f", folder, "link") == 0
    file, link = guest.path_filestat_get(folder, 0, "f")[1], guest.path_filestat_get(folder, 0, "link")[1]
    assert file is not None
    assert link is not None
    assert link.filetype == 7
    assert guest.path_filestat_set_times(folder, 0, "link", 0, link.mtim - 200, MTIM) == 0
    moved = guest.path_filestat_get(folder, 0, "link")[1]
    assert moved is not None
    assert moved.mtim == link.mtim - 200
    assert guest.path_filestat_get(folder, 0, "f")[1] == file
    assert guest.path_filestat_get(folder, FOLLOW, "link")[1] == file
    assert guest.path_filestat_set_times(folder, FOLLOW, "link", 0, 123, MTIM) == 0
    set_through = guest.path_filestat_get(folder, 0, "f")[1]
    assert set_through is not None
    assert set_through.mtim == 123


# -- listing ------------------------------------------------------------------------------------


def test_an_empty_directory_lists_itself_and_its_parent(guest: AegisDriver, folder: int) -> None:
    status = guest.fd_filestat_get(folder)[1]
    number, entries, used = guest.fd_readdir(folder, 256)
    assert status is not None
    assert (number, [e.name for e in entries], used < 256) == (0, [".", ".."], True)
    assert (entries[0].ino, entries[0].filetype, entries[1].filetype) == (status.ino, 3, 3)


def test_a_cookie_goes_on_after_its_entry_and_a_new_file_shows(guest: AegisDriver, folder: int) -> None:
    assert len(guest.listed(folder)) == 2
    fd = guest.opened("f", CREAT, fd=folder)
    status = guest.fd_filestat_get(fd)[1]
    assert status is not None
    entries = guest.listed(folder)
    assert {(e.name, e.filetype, e.ino) for e in entries} >= {("f", 4, status.ino)}
    assert [e.name for e in guest.fd_readdir(folder, 256, entries[1].next)[1]] == [entries[2].name]
    assert guest.fd_readdir(folder, 256, 2**64 - 1)[1] == []


def test_many_entries_are_each_listed_once_through_a_small_buffer(guest: AegisDriver, folder: int) -> None:
    names = {f"file.{n}" for n in range(300)}
    for name in names:
        made(guest, folder, name)
    listed = [e.name for e in guest.listed(folder, 256)]
    assert len(listed) == 302
    assert set(listed) == names | {".", ".."}


def test_removing_while_listing_skips_nothing(guest: AegisDriver, folder: int) -> None:
    for n in range(100):
        made(guest, folder, f"file.{n}")
    cookie = 0
    while True:
        _, entries, used = guest.fd_readdir(folder, 256, cookie)
        for entry in entries:
            if entry.filetype == 4:
                assert guest.path_unlink_file(folder, entry.name) == 0
        if used < 256:
            break
        cookie = entries[-1].next
    assert len(guest.listed(folder)) == 2


# -- paths --------------------------------------------------------------------------------------


def test_interesting_paths(guest: AegisDriver, folder: int) -> None:
    assert guest.path_create_directory(folder, "dir") == 0
    assert guest.path_create_directory(folder, "dir/nested") == 0
    made(guest, folder, "dir/nested/file")

    def answer(path: str) -> int:
        return guest.path_open(folder, 0, path, 0, 0, 0)[0]

    assert answer("/dir/nested/file") in (Errno.PERM, Errno.NOTCAPABLE)
    assert answer("dir/.//nested/../../dir/nested/../nested///./file") == 0
    assert answer("dir/nested/file\0") in (Errno.INVAL, Errno.ILSEQ, Errno.NOENT)
    assert answer("dir/nested/file/") in (Errno.NOTDIR, Errno.NOENT)
    assert answer("dir/nested/file///") in (Errno.NOTDIR, Errno.NOENT)
    assert answer("dir/nested/") == answer("dir/nested///") == 0
    assert answer("dir/nested/../../../folder.cleanup/dir/nested/file") in (Errno.PERM, Errno.NOTCAPABLE)
    assert answer("missing") == Errno.NOENT
    assert answer("") == Errno.NOENT


def test_creating_exclusively_needs_a_new_name(guest: AegisDriver) -> None:
    assert guest.path_open(FIRST, 0, "f", CREAT | EXCL, 0, 0)[0] == 0
    assert guest.path_open(FIRST, 0, "f", CREAT | EXCL, 0, 0)[0] == Errno.EXIST


def test_a_link_is_not_opened_itself(guest: AegisDriver, folder: int) -> None:
    either = (Errno.LOOP, Errno.NOTDIR)
    assert guest.path_create_directory(folder, "target") == 0
    assert guest.path_symlink("target", folder, "link") == 0
    assert guest.path_open(folder, 0, "link", DIRECTORY, 0, 0)[0] in either
    assert guest.path_open(folder, 0, "link", 0, 0, 0)[0] in (Errno.LOOP, Errno.ACCES)
    assert guest.path_open(folder, FOLLOW, "link", DIRECTORY, 0, 0)[0] == 0
    assert guest.path_remove_directory(folder, "target") == 0
    made(guest, folder, "target")
    assert guest.path_open(folder, 0, "link", DIRECTORY, 0, 0)[0] in either
    assert guest.path_open(folder, 0, "link", 0, 0, 0)[0] == Errno.LOOP
    assert guest.path_open(folder, FOLLOW, "link", DIRECTORY, 0, 0)[0] == Errno.NOTDIR
    assert guest.path_open(folder, FOLLOW, "link", 0, 0, 0)[0] == 0
    assert guest.path_symlink("nowhere", folder, "dangling") == 0
    assert guest.path_open(folder, 0, "dangling", DIRECTORY, 0, 0)[0] in either
    assert guest.path_open(folder, 0, "dangling", 0, 0, 0)[0] == Errno.LOOP
    assert guest.path_symlink("loop", folder, "loop") == 0
    assert guest.path_open(folder, 0, "loop", 0, 0, 0)[0] == Errno.LOOP
    assert guest.path_open(folder, FOLLOW, "loop", 0, 0, 0)[0] == Errno.LOOP
    assert guest.path_symlink("/", folder, "root") != 0


def test_a_link_is_read_cut_to_the_buffer(guest: AegisDriver, folder: int) -> None:
    assert guest.path_symlink("target", folder, "link") == 0
    assert guest.path_readlink(folder, "link", 10) == (0, b"target")
    assert guest.path_readlink(folder, "link", 4) == (0, b"targ")


def test_a_link_is_not_made_where_a_slash_asks_for_a_directory(guest: AegisDriver, folder: int) -> None:
    assert guest.path_symlink("source", folder, "target/") == Errno.NOENT
    assert guest.path_create_directory(folder, "target") == 0
    assert guest.path_symlink("source", folder, "target/") == Errno.EXIST
    assert guest.path_symlink("source", folder, "target") == Errno.EXIST
    assert guest.path_remove_directory(folder, "target") == 0
    made(guest, folder, "target")
    assert guest.path_symlink("source", folder, "target/") in (Errno.NOTDIR, Errno.EXIST)
    assert guest.path_symlink("source", folder, "target") == Errno.EXIST


def test_hard_links(guest: AegisDriver, folder: int) -> None:
    fd = guest.opened("f", CREAT, fd=folder)
    assert guest.path_create_directory(folder, "sub") == 0
    sub = guest.opened("sub", DIRECTORY, ALL & ~(READ | WRITE), fd=folder)
    assert guest.path_link(folder, 0, "f", sub, "link") == 0
    linked = guest.opened("link", fd=sub)
    assert guest.fd_filestat_get(linked) == guest.fd_filestat_get(fd)
    assert guest.fd_fdstat_get(linked) == guest.fd_fdstat_get(fd)
    assert guest.path_link(folder, 0, "f", folder, "f") == Errno.EXIST
    assert guest.path_link(folder, 0, "f", folder, "sub") == Errno.EXIST
    assert guest.path_link(folder, 0, "sub", folder, "new") in (Errno.PERM, Errno.ACCES)
    assert guest.path_link(folder, 0, "f", folder, "new/") == Errno.NOENT
    assert guest.path_symlink("nowhere", folder, "dangling") == 0
    assert guest.path_link(folder, 0, "dangling", folder, "new") == 0
    assert guest.path_link(folder, 0, "f", folder, "dangling") == Errno.EXIST
    assert guest.path_link(folder, FOLLOW, "dangling", folder, "other") in (Errno.INVAL, Errno.NOENT)


def test_renaming(guest: AegisDriver, folder: int) -> None:
    def rename(old: str, new: str) -> int:
        return guest.path_rename(folder, old, folder, new)

    assert guest.path_create_directory(folder, "source") == 0
    assert rename("source", "target") == 0
    assert guest.path_open(folder, 0, "source", DIRECTORY, 0, 0)[0] == Errno.NOENT
    assert guest.path_create_directory(folder, "source") == 0
    assert rename("source", "target") == 0
    assert guest.path_create_directory(folder, "source") == 0
    made(guest, folder, "target/file")
    assert rename("source", "target") == Errno.NOTEMPTY
    assert rename("source", "target/file") == Errno.NOTDIR
    made(guest, folder, "f")
    made(guest, folder, "g")
    assert rename("f", "g") == 0
    assert rename("g", "source") == Errno.ISDIR
    assert rename("source/", "moved") == rename("moved", "source/") == rename("source/", "moved/") == 0


def test_removing(guest: AegisDriver, folder: int) -> None:
    assert guest.path_create_directory(folder, "dir") == 0
    assert guest.path_create_directory(folder, "dir/nested") == 0
    assert guest.path_remove_directory(folder, "dir") == Errno.NOTEMPTY
    assert guest.path_remove_directory(folder, "dir/nested/") in (0, Errno.ACCES)
    assert guest.path_unlink_file(folder, "dir") == guest.path_unlink_file(folder, "dir/") == Errno.ISDIR
    assert guest.path_remove_directory(folder, "dir") == 0
    made(guest, folder, "file")
    assert guest.path_remove_directory(folder, "file") == guest.path_remove_directory(folder, "file/") == Errno.NOTDIR
    assert guest.path_unlink_file(folder, "file/") == Errno.NOTDIR
    assert guest.path_unlink_file(folder, "file") == 0


def test_removed_entries_can_be_created_again(guest: AegisDriver) -> None:
    open_file = guest.opened("f", CREAT)
    assert guest.path_unlink_file(FIRST, "f") == 0
    assert guest.fd_write(open_file, b"gone") == (0, 4)
    assert guest.path_open(FIRST, 0, "f", CREAT | EXCL, 0, 0)[0] == 0
    for _ in range(2):
        assert guest.path_create_directory(FIRST, "d") == 0
        assert guest.fd_close(guest.opened("d", DIRECTORY, 0)) == 0
        assert guest.path_remove_directory(FIRST, "d") == 0


def test_two_files_differ_in_inode_and_agree_in_device(guest: AegisDriver) -> None:
    one, two = (guest.fd_filestat_get(guest.opened(name, CREAT))[1] for name in ("1", "2"))
    assert one is not None
    assert two is not None
    assert one.dev == two.dev
    assert one.ino != two.ino


# -- streams, clocks, sockets -------------------------------------------------------------------


def test_polling_the_standard_streams(guest: AegisDriver) -> None:
    number, events = guest.poll_oneoff(clock_event(7, 200_000_000), fd_event(8, 0))
    assert number == 0
    assert events
    assert all((e[0], e[1], e[2]) in ((7, 0, 0), (8, 0, 1)) for e in events)
    pending = {1: 1, 2: 2}
    while pending:
        waits = [fd_event(user, fd, write=True) for user, fd in pending.items()]
        number, events = guest.poll_oneoff(*waits, clock_event(9, 200_000_000))
        assert number == 0
        for user, error, kind, _ in events:
            assert (error, kind) == (0, 2)
            del pending[user]


def test_the_monotonic_clock_never_goes_back(guest: AegisDriver) -> None:
    readings = [guest.clock_time_get(1) for _ in range(5)]
    assert readings == sorted(readings)
    assert readings[0][0] == 0


def test_socket_calls_reject_other_descriptors(guest: AegisDriver) -> None:
    assert guest.call("sock_shutdown", 1, 1) == Errno.NOTSOCK
    assert guest.call("sock_shutdown", 4000, 1) == Errno.BADF
    assert guest.call("sched_yield") == 0
    assert guest.fd_write(4000, b"x")[0] == Errno.BADF
