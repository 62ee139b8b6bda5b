"""A directory in memory is a directory: for every sequence of operations it answers as one of the host does.

The oracle is the other implementation of the seam, on an equal tree: the same result or error number for each
operation, the same handles still usable, and the same tree in the end. What may differ is stated here: sizes and link
counts of directories, and times that no operation set.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aegis.errors import DeadlineExceeded
from aegis.host.files.base import DirectoryHandle, FileHandle
from aegis.host.files.directory import HostDirectory, OpenDescriptors
from aegis.host.files.file_times import NewTimes
from aegis.host.files.memory import MemoryDirectory, MemoryFile, MemoryFileSystem
from aegis.host.files.single_file import SingleFiles
from tests.directories import MemoryPath, in_memory, walked
from tests.host.harness import ALL, FIRST, AegisDriver

PINNING = getattr(os, "O_PATH", 0)
"""The flag of Linux to open a file of any kind without reading it."""
LONG, TOO_LONG = "n" * 255, "n" * 256
SEGMENTS = (
    "a", "b", "c", "a", "b", "f", "l", "..", ".", "", "out", "up", "absolute", "loop", "é", LONG, TOO_LONG, "x\0y",
)  # fmt: skip
TARGETS = (
    "a", "b", "a/b", "f", ".", "a/", "f/", "l", "c/l", "missing", "", "..", "../b", "a/..", "/", "/a", "x\0",
    "t" * 4095, "t" * 4096,
)  # fmt: skip
SET_TIMES = (0, 1_000_000_000, 1_234_567_890_123_456_789)

paths = st.one_of(
    st.sampled_from(("a", "b", "c", "f", "l", "a/b", "a/f", "a/l", "b/c", ".", "a/b/c")),
    st.builds(
        lambda root, parts, slash: root + "/".join(parts) + slash,
        st.sampled_from(("",) * 9 + ("/",)), st.lists(st.sampled_from(SEGMENTS), max_size=4),
        st.sampled_from(("",) * 5 + ("/", "/.", "//")),
    ),
)  # fmt: skip
handles = st.integers(0, 3)
offsets = st.sampled_from((0, 1, 5, 70_000))
sizes = st.sampled_from((0, 1, 4, 100, 70_001))
contents = st.sampled_from((b"", b"x", b"some bytes"))
times = st.builds(NewTimes, st.sampled_from((None, *SET_TIMES)), st.sampled_from((None, *SET_TIMES)))
flags = st.fixed_dictionaries(
    {name: st.booleans() for name in ("follow", "read", "write", "directory", "create", "exclusive", "truncate")}
)

LINKS = {"out": "../outside", "up": "..", "absolute": "/etc", "loop": "loop", "a/up": "../f", "a/b/far": "../../../x"}


def plant(root: Path | MemoryPath) -> None:
    """Make the first tree, with links of the embedder's that lead out."""
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "f").write_bytes(b"in a")
    (root / "f").write_bytes(b"contents")
    (root.parent / "outside").write_bytes(b"secret")
    for name, target in LINKS.items():
        (root / name).symlink_to(target)


class Side:
    """One implementation: its open directories, of which the first is the root, its open files, and its inodes."""

    def __init__(self, root: DirectoryHandle, reader: DirectoryHandle) -> None:
        self.directories: list[DirectoryHandle] = [root, reader]
        self.files: list[FileHandle] = []
        self.inodes: dict[int, int] = {}

    def shown(self, status: os.stat_result) -> tuple[Any, ...]:
        """Return what of a status must be the same: inodes are numbered by their first sight."""
        inode = self.inodes.setdefault(status.st_ino, len(self.inodes))
        kind = stat.S_IFMT(status.st_mode)
        counted = () if kind == stat.S_IFDIR else (status.st_nlink, status.st_size)
        modified = status.st_mtime_ns if status.st_mtime_ns in SET_TIMES else "now"
        return kind, inode, modified, *counted

    def directory(self, number: int) -> DirectoryHandle:
        return self.directories[number % len(self.directories)]

    def file(self, number: int) -> FileHandle:
        return self.files[number % len(self.files)]

    def open(self, number: int, path: str, chosen: dict[str, bool]) -> str:
        opened = self.directory(number).open(path, **chosen)
        if opened.is_directory:
            self.directories.append(opened)
            return "directory"
        self.files.append(opened)
        return "file"


def answer(side: Side, operation: Any) -> Any:
    """Return the result of an operation, or the name of its error."""
    try:
        result = operation(side)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return side.shown(result) if isinstance(result, os.stat_result) else result


class Comparison(RuleBasedStateMachine):
    """Does each operation on both sides."""

    @initialize()
    def begin(self) -> None:
        self.stack = contextlib.ExitStack()
        self.host_root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()), "root")
        self.memory_root = self.stack.enter_context(in_memory()) / "root"
        self.opened = OpenDescriptors()
        self.stack.callback(self.opened.close_all)
        plant(self.host_root)
        plant(self.memory_root)
        self.host = Side(self.of_host(writable=True), self.of_host(writable=False))
        self.pinned: set[int] = set()
        memory = self.memory_root.directory
        self.memory = Side(memory(writable=True), memory(writable=False))

    def of_host(self, *, writable: bool) -> HostDirectory:
        descriptor = self.opened.keep(os.open(self.host_root, os.O_RDONLY))
        return HostDirectory(descriptor, writable=writable, opened=self.opened)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            with self.stack:
                assert walked(self.memory_root) == walked(self.host_root)

    def both(self, operation: Any) -> None:
        self.pin()
        assert answer(self.memory, operation) == answer(self.host, operation)

    def pin(self) -> None:
        """Keep each inode of the host's tree, because the kernel gives the number of a free one to the next file."""
        for folder, *names in os.walk(self.host_root):
            for path in (os.path.join(folder, name) for name in itertools.chain(*names)):
                number = os.lstat(path).st_ino
                if PINNING and number not in self.pinned:
                    self.pinned.add(number)
                    self.stack.callback(os.close, os.open(path, PINNING | os.O_NOFOLLOW))

    @rule(number=handles, path=paths, chosen=flags)
    def open(self, number: int, path: str, chosen: dict[str, bool]) -> None:
        self.both(lambda side: side.open(number, path, chosen))

    @rule(number=handles, path=paths)
    def open_plainly(self, number: int, path: str) -> None:
        chosen = {"follow": True, "read": True, "write": False}
        self.both(lambda side: side.open(number, path, chosen))

    @rule(number=handles, path=paths)
    def make_a_file(self, number: int, path: str) -> None:
        chosen = {"follow": False, "read": True, "write": True, "create": True}
        self.both(lambda side: side.open(number, path, chosen))

    @rule(number=handles, path=paths)
    def mkdir(self, number: int, path: str) -> None:
        self.both(lambda side: side.directory(number).mkdir(path))

    @rule(number=handles, path=paths)
    def rmdir(self, number: int, path: str) -> None:
        self.both(lambda side: side.directory(number).rmdir(path))

    @rule(number=handles, path=paths)
    def unlink(self, number: int, path: str) -> None:
        self.both(lambda side: side.directory(number).unlink(path))

    @rule(number=handles, path=paths, said=st.sampled_from(TARGETS))
    def symlink(self, number: int, path: str, said: str) -> None:
        self.both(lambda side: side.directory(number).symlink(said, path))

    @rule(number=handles, path=paths)
    def readlink(self, number: int, path: str) -> None:
        self.both(lambda side: side.directory(number).readlink(path))

    @rule(number=handles, path=paths, other=handles, new=paths)
    def link(self, number: int, path: str, other: int, new: str) -> None:
        self.both(lambda side: side.directory(number).link(path, side.directory(other), new))

    @rule(number=handles, path=paths, other=handles, new=paths)
    def rename(self, number: int, path: str, other: int, new: str) -> None:
        self.both(lambda side: side.directory(number).rename(path, side.directory(other), new))

    @rule(number=handles, path=paths, follow=st.booleans())
    def stat(self, number: int, path: str, follow: bool) -> None:
        self.both(lambda side: side.directory(number).stat(path, follow=follow))

    @rule(number=handles)
    def list(self, number: int) -> None:
        def listed(side: Side) -> list[Any]:
            return [(name, side.shown(status)) for name, status in sorted(side.directory(number).entries())]

        self.both(listed)

    @rule(number=handles, path=paths, follow=st.booleans(), new=times)
    def utime(self, number: int, path: str, follow: bool, new: NewTimes) -> None:
        def set_them(side: Side) -> tuple[Any, ...]:
            status = side.directory(number).utime(path, new, follow=follow)
            return (*side.shown(status), new.access is None or status.st_atime_ns)

        self.both(set_them)

    @rule(number=handles, new=times)
    def set_times_of_a_directory(self, number: int, new: NewTimes) -> None:
        self.both(lambda side: side.directory(number).set_times(new))

    @rule(number=handles)
    def status_of_a_directory(self, number: int) -> None:
        self.both(lambda side: side.directory(number).status())

    has_files = precondition(lambda self: hasattr(self, "stack") and self.host.files)

    @has_files
    @rule(number=handles, count=sizes, offset=offsets)
    def read(self, number: int, count: int, offset: int) -> None:
        self.both(lambda side: side.file(number).read(count, offset))

    @has_files
    @rule(number=handles, data=contents, offset=offsets)
    def write(self, number: int, data: bytes, offset: int) -> None:
        self.both(lambda side: side.file(number).write(data, offset))

    @has_files
    @rule(number=handles, size=sizes)
    def truncate(self, number: int, size: int) -> None:
        self.both(lambda side: side.file(number).truncate(size))

    @has_files
    @rule(number=handles)
    def status_of_a_file(self, number: int) -> None:
        self.both(lambda side: side.file(number).status())

    @has_files
    @rule(number=handles, new=times)
    def set_times_of_a_file(self, number: int, new: NewTimes) -> None:
        self.both(lambda side: side.file(number).set_times(new))

    @has_files
    @rule(number=handles)
    def close(self, number: int) -> None:
        for side in (self.host, self.memory):
            file = side.file(number)
            file.close()
            file.close()
            side.files.remove(file)


Comparison.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestComparison = pytest.mark.skipif(sys.platform != "linux", reason="the error numbers are those of Linux")(
    Comparison.TestCase
)


# -- quotas: only a directory in memory has them ---------------------------------------------------


def system_of(*, max_bytes: int | None = None, max_entries: int | None = None) -> MemoryFileSystem:
    return MemoryFileSystem(max_bytes=max_bytes, max_entries=max_entries)


def file_of(system: MemoryFileSystem, name: str, **chosen: bool) -> MemoryFile:
    chosen = {"follow": False, "read": True, "write": True, "create": True, **chosen}
    opened = MemoryDirectory(system, writable=True).open(name, **chosen)
    assert isinstance(opened, MemoryFile)
    return opened


def refused(number: int) -> Any:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def test_the_quota_of_bytes_is_met_to_the_byte_over_all_files() -> None:
    system = system_of(max_bytes=10)
    one, other = file_of(system, "one"), file_of(system, "other")
    assert one.write(b"123456", 0) == 6
    assert other.write(b"abcdef", 0) == 4, "as much as fits, as POSIX says"
    with refused(errno.ENOSPC):
        other.write(b"x", 4)
    assert other.write(b"ABCD", 0) == 4, "what is there already is overwritten"
    with refused(errno.ENOSPC):
        one.truncate(7)
    with refused(errno.ENOSPC):
        one.write(b"x", 1 << 40)
    with refused(errno.ENOSPC):
        one.truncate((1 << 63) - 1)
    with refused(errno.ENOSPC):
        MemoryDirectory(system, writable=True).symlink("one", "link")
    one.truncate(2)
    assert other.write(b"5678", 4) == 4
    assert (system.bytes_used, one.status().st_size, other.status().st_size) == (10, 2, 8)


def test_a_hole_counts_like_written_bytes() -> None:
    system = system_of(max_bytes=10)
    assert file_of(system, "file").write(b"xyz", 8) == 2
    assert system.bytes_used == 10


def test_bytes_are_free_again_when_names_and_handles_are_gone() -> None:
    system = system_of(max_bytes=10)
    root = MemoryDirectory(system, writable=True)
    file = file_of(system, "file")
    file.write(b"12345", 0)
    root.link("file", root, "twin")
    root.symlink("four", "link")
    assert system.bytes_used == 9
    root.unlink("file")
    root.unlink("link")
    assert system.bytes_used == 5
    root.unlink("twin")
    assert (system.bytes_used, file.read(10, 0), file.status().st_nlink) == (5, b"12345", 0)
    file.close()
    assert system.bytes_used == 0
    with refused(errno.EBADF):
        file.read(1, 0)


def test_a_replaced_file_and_a_dropped_handle_free_their_bytes() -> None:
    system = system_of(max_bytes=10)
    root = MemoryDirectory(system, writable=True)
    for name in ("one", "other"):
        file_of(system, name).write(b"12345", 0)
    assert system.bytes_used == 10
    root.rename("one", root, "other")
    assert system.bytes_used == 5
    unnamed = file_of(system, "other")
    root.unlink("other")
    del unnamed
    assert (system.bytes_used, system.entries_used) == (0, 0)


def test_the_quota_of_entries_counts_every_name() -> None:
    system = system_of(max_entries=4)
    root = MemoryDirectory(system, writable=True)
    root.mkdir("d")
    file_of(system, "d/f")
    root.symlink("d", "l")
    root.link("d/f", root, "h")
    for more in (
        lambda: root.mkdir("x"), lambda: file_of(system, "x"), lambda: root.symlink("d", "x"),
        lambda: root.link("h", root, "x"),
    ):  # fmt: skip
        with refused(errno.ENOSPC):
            more()
    root.rename("h", root, "d/moved")
    root.rename("d/moved", root, "d/f")
    assert system.entries_used == 4, "two names of one file: rename(2) leaves both"
    root.unlink("l")
    root.mkdir("x")
    assert {name for name, _ in root.entries()} == {"d", "x"}


def test_what_a_guest_writes_in_memory_does_not_count_as_written_to_disk() -> None:
    with in_memory() as folder, contextlib.closing(AegisDriver(folder, disk_written=10)) as guest:
        file = guest.opened("file", 1)
        assert guest.fd_write(file, bytes(100)) == (0, 100)
        assert guest.fd_filestat_set_size(file, 200) == 0
        assert guest.grants.disk.used == 0


def test_a_guest_meets_the_quota_as_an_error_and_not_as_an_end() -> None:
    with in_memory() as folder, contextlib.closing(AegisDriver(folder)) as guest:
        folder.system.max_bytes = 10
        file = guest.opened("file", 1, ALL)
        assert guest.fd_write(file, bytes(11))[0] == 51, "NOSPC"
        assert guest.fd_filestat_get(file)[1].size == 10  # type: ignore[union-attr]
        folder.system.max_entries = folder.system.entries_used
        assert guest.path_create_directory(FIRST, "d") == 51


# -- where it differs from the host, and what several handles see ----------------------------------


def test_a_link_or_move_to_another_file_system_is_refused(tmp_path: Path) -> None:
    opened = OpenDescriptors()
    host = HostDirectory(opened.keep(os.open(tmp_path, os.O_RDONLY)), writable=True, opened=opened)
    memory, other = (MemoryDirectory(system_of(), writable=True) for _ in range(2))
    (tmp_path / "file").write_bytes(b"x")
    for system in (memory.system, other.system):
        file_of(system, "file")
    try:
        for one, two in ((host, memory), (memory, host), (memory, other)):
            for move in (one.link, one.rename):
                with refused(errno.EXDEV):
                    move("file", two, "new")
                with refused(errno.EPERM):
                    move("file", SingleFiles(number=0, opened=opened), "new")
    finally:
        opened.close_all()
    assert os.listdir(tmp_path) == ["file"]


def test_two_file_systems_have_no_file_in_common() -> None:
    one, other = (MemoryDirectory(system_of(), writable=True).status() for _ in range(2))
    assert one.st_ino == other.st_ino
    assert not os.path.samestat(one, other)
    assert one.st_dev > 1 << 64, "no device of the host has such a number"


def test_a_search_for_links_in_a_moved_directory_checks_the_deadline() -> None:
    system = system_of()
    root = MemoryDirectory(system, writable=True)
    root.mkdir("a")
    root.mkdir("b")
    for n in range(2000):
        file_of(system, f"a/{n}").close()
    checks = []
    root.rename("a", root, "b/a", check=lambda: checks.append(1))
    assert len(checks) == 2

    def expire() -> None:
        raise DeadlineExceeded("late", limit="timeout")

    with pytest.raises(DeadlineExceeded):
        root.rename("b/a", root, "a", check=expire)
    assert [name for name, _ in root.entries()] == ["b"]


def test_a_very_deep_tree_is_made_moved_and_dropped() -> None:
    """No recursion: neither here nor where Python frees the tree."""
    system = system_of()
    here: MemoryDirectory = MemoryDirectory(system, writable=True)
    for _ in range(20_000):
        here.mkdir("d")
        below = here.open("d", follow=False, read=True, write=False)
        assert isinstance(below, MemoryDirectory)
        here = below
    root = MemoryDirectory(system, writable=True)
    root.mkdir("e")
    root.rename("d", root, "e/d")
    with refused(errno.EINVAL):
        root.rename("e", here, "x")
    del here, below, root, system


def test_threads_that_share_a_file_system_keep_its_counts_true() -> None:
    system = system_of()
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            barrier.wait()
            root = MemoryDirectory(system, writable=True)
            for n in range(200):
                file = file_of(system, f"{number}-{n}")
                file.write(bytes(n), 0)
                root.rename(f"{number}-{n}", root, "same")
                file.truncate(3)
                file.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (system.entries_used, system.bytes_used) == (1, 3)
