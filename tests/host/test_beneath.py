"""No path leads out: both ways to resolve a path agree and stay inside, whatever links contain or become."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.host.files import beneath
from aegis.host.preview1.abi import Errno, Rights
from aegis.policy import FilesystemCapability
from tests.directories import Folder
from tests.host.harness import ALL, FIRST, NAMES, AegisDriver, tree

CREAT, DIRECTORY, EXCL, TRUNC, FOLLOW = 1, 2, 4, 8, 1
READ, WRITE = Rights.FD_READ, Rights.FD_WRITE
OPENERS = {"kernel": beneath._by_kernel, "walk": beneath._by_walk}

ways = [
    pytest.param("kernel", marks=pytest.mark.skipif(not beneath.kernel_resolves(), reason="no openat2 here")),
    "walk",
]


@pytest.fixture(params=ways)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Resolve paths in one of the two ways."""
    monkeypatch.setattr(beneath, "_opener", OPENERS[request.param])
    return str(request.param)


# -- the two ways agree -------------------------------------------------------------------------

NAMES_IN_TREE = ("a", "b", "c")
STEPS = (*NAMES_IN_TREE, *NAMES_IN_TREE, "l", "m", "..", ".", "missing")

# For each of a few places: nothing, a directory, a file, or a link with its target.
targets = st.one_of(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=4).map("/".join),
    st.sampled_from(("/", "/etc", "../outside", "../../outside", "l", "m", "a/", "./", "..", "a//b")),
)
things = st.one_of(st.just("directory"), st.just("directory"), st.just("file"), targets.map(lambda t: f"link {t}"))
trees = st.dictionaries(
    st.lists(st.sampled_from((*NAMES_IN_TREE, "l", "m")), min_size=1, max_size=3).map("/".join), things, max_size=12
)
walks = st.lists(st.sampled_from(STEPS), min_size=1, max_size=5)


def grow(root: Path, plan: dict[str, str]) -> None:
    """Create the tree of ``plan``, as far as its parts do not conflict."""
    for path, thing in sorted(plan.items(), key=lambda item: (item[1].startswith("link"), item[0])):
        place = root / path
        above = os.path.realpath(place.parent)
        if os.path.commonpath((above, os.path.realpath(root))) != os.path.realpath(root) or os.path.lexists(place):
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if thing == "directory":
                place.mkdir()
            elif thing == "file":
                place.write_bytes(b"x")
            else:
                place.symlink_to(thing.removeprefix("link "))
        except OSError:
            continue


@contextmanager
def grown(plan: dict[str, str]) -> Iterator[tuple[int, set[tuple[int, int]]]]:
    """Yield an open root with the tree of ``plan``, and the files and directories below it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        (root.parent / "outside" / "a").mkdir(parents=True)
        root.mkdir()
        grow(root, plan)
        inside = {identity(root)} | {identity(p) for p in root.rglob("*")}
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor, inside
        finally:
            os.close(descriptor)


def identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def outcome(function: Callable[[], int]) -> tuple[str, Any]:
    """Return the directory that ``function`` opened, or its error."""
    try:
        descriptor = function()
    except OSError as error:
        return "error", errno.errorcode[error.errno or 0]
    try:
        status = os.fstat(descriptor)
        return "directory", (status.st_dev, status.st_ino)
    finally:
        os.close(descriptor)


@pytest.mark.skipif(not beneath.kernel_resolves(), reason="no openat2 here")
@given(plan=trees, paths=st.lists(walks, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_walk_and_the_kernel_agree_and_stay_inside(plan: dict[str, str], paths: list[list[str]]) -> None:
    """For every tree and path, both ways open the same directory below the root, or fail with the same error."""
    with grown(plan) as (root, inside):
        for parts in paths:
            by_kernel = outcome(lambda parts=parts: beneath._by_kernel(root, parts))  # type: ignore[misc]
            by_walk = outcome(lambda parts=parts: beneath._by_walk(root, parts))  # type: ignore[misc]
            assert by_walk == by_kernel, parts
            assert by_walk[0] == "error" or by_walk[1] in inside


@given(plan=trees, parts=walks, slash=st.booleans(), follow=st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_located_path_is_inside_and_not_a_link_when_followed(
    plan: dict[str, str], parts: list[str], slash: bool, follow: bool
) -> None:
    """For every tree and path, the parent of the result is below the root, and a followed link is fully resolved."""
    with grown(plan) as (root, inside):
        try:
            place = beneath.locate(root, "/".join(parts) + "/" * slash, follow=follow)
        except OSError:
            return
        with place:
            parent = os.fstat(place.parent)
            assert (parent.st_dev, parent.st_ino) in inside
            assert "/" not in place.name
            assert place.name != ".."
            try:
                status = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
            except FileNotFoundError:
                return
            assert (status.st_dev, status.st_ino) in inside
            assert not (follow and stat.S_ISLNK(status.st_mode))


def test_as_many_links_as_linux_follows_are_followed(way: str, either_folder: Folder) -> None:
    (either_folder / "d").mkdir()
    (either_folder / "l0").symlink_to("d")
    for number in range(1, 45):
        (either_folder / f"l{number}").symlink_to(f"l{number - 1}")
    with closing(AegisDriver(either_folder)) as guest:
        assert guest.path_filestat_get(FIRST, 0, "l39/.")[0] == 0
        assert guest.path_filestat_get(FIRST, 0, "l40/.")[0] == Errno.LOOP
        assert guest.path_filestat_get(FIRST, FOLLOW, "l39")[0] == 0
        assert guest.path_filestat_get(FIRST, FOLLOW, "l44")[0] == Errno.LOOP


# -- links that lead out ------------------------------------------------------------------------

OUTSIDE = b"the outside file"


@pytest.fixture
def host_root(tmp_path: Path) -> Path:
    """A directory of the host with links that lead out of it, for races with the host."""
    planted(tmp_path)
    return tmp_path / "root"


@pytest.fixture
def root(either_folder: Folder) -> Folder:
    """A directory with links that lead out of it, in every way."""
    planted(either_folder)
    return either_folder / "root"


def planted(above: Folder) -> None:
    outside = above / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(OUTSIDE)
    inside = above / "root"
    (inside / "d").mkdir(parents=True)
    (inside / "d" / "secret").write_bytes(b"inside")
    links = {
        "up": "..", "relative": "../outside", "absolute": str(outside), "file": "../outside/secret",
        "absolute-file": str(outside / "secret"), "d/deep": "../../outside", "chain": "up/outside",
        "back": "../root/d", "host": "/", "new": "../outside/new",
    }  # fmt: skip
    for name, target in links.items():
        (inside / name).symlink_to(target)


@pytest.mark.parametrize(
    "path",
    [
        "up/outside/secret", "relative/secret", "absolute/secret", "file", "absolute-file", "d/deep/secret",
        "chain/secret", "back/secret", "host/etc/passwd", "d/../up/outside/secret", "d/../../outside/secret", "new",
    ],
)  # fmt: skip
def test_no_link_leads_out(way: str, root: Folder, path: str) -> None:
    before = tree(root.parent)
    with closing(AegisDriver(root)) as guest:
        for oflags in (0, CREAT, TRUNC, CREAT | TRUNC):
            assert guest.path_open(FIRST, FOLLOW, path, oflags)[0] == Errno.PERM
        assert guest.path_filestat_get(FIRST, FOLLOW, path)[0] == Errno.PERM
        assert guest.path_filestat_set_times(FIRST, FOLLOW, path, 1, 1, 5) == Errno.PERM
        if "/" in path:
            assert guest.path_unlink_file(FIRST, path) == Errno.PERM
            assert guest.path_create_directory(FIRST, path + "d") == Errno.PERM
            assert guest.path_remove_directory(FIRST, path) == Errno.PERM
            assert guest.path_symlink("x", FIRST, path + "l") == Errno.PERM
            assert guest.path_rename(FIRST, path, FIRST, "mine") == Errno.PERM
            assert guest.path_rename(FIRST, "d", FIRST, path) == Errno.PERM
            assert guest.path_link(FIRST, 0, path, FIRST, "mine") == Errno.PERM
            assert guest.path_link(FIRST, 0, "d/secret", FIRST, path + "l") == Errno.PERM
        assert not all(d.allowed for d in guest.scope.decisions)
    assert tree(root.parent) == before


def test_the_target_of_an_absolute_link_is_not_revealed(root: Folder) -> None:
    with closing(AegisDriver(root)) as guest:
        assert guest.path_readlink(FIRST, "absolute") == (Errno.PERM, b"")
        assert guest.path_readlink(FIRST, "up") == (0, b"..")


def test_a_hard_link_to_a_link_that_leads_out_is_still_that_link(root: Folder) -> None:
    with closing(AegisDriver(root)) as guest:
        guest.path_link(FIRST, 0, "file", FIRST, "twin")
        assert guest.path_open(FIRST, FOLLOW, "twin")[0] in (Errno.PERM, Errno.NOENT)
    assert (root.parent / "outside" / "secret").stat().st_nlink == 1


# -- races --------------------------------------------------------------------------------------


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Let a thread exchange two names repeatedly."""
    away = one.with_name("away")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(one, away)
            os.rename(other, one)
            os.rename(one, other)
            os.rename(away, one)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


ROUNDS = 2000


def look(guest: AegisDriver, path: str, seen: set[str]) -> None:
    """Open and read ``path``; the opened file must not be the outside file."""
    for lookup in (0, FOLLOW):
        number, fd = guest.path_open(FIRST, lookup, path, 0, READ)
        seen.add(NAMES[number])
        if number == 0:
            assert guest.fd_read(fd, 100)[1] in (b"inside", b"")  # empty: created by the guest in a gap
            assert guest.fd_close(fd) == 0
        status = guest.path_filestat_get(FIRST, lookup, path)[1]
        assert status is None or status.size != len(OUTSIDE) or status.filetype != 4


def test_a_directory_swapped_for_a_link_out_never_leaks(way: str, host_root: Path) -> None:
    outside = tree(host_root.parent / "outside")
    seen: set[str] = set()
    with closing(AegisDriver(host_root, disk_written=None)) as guest, swapping(host_root / "d", host_root / "relative"):
        for number in range(ROUNDS):
            look(guest, "d/secret", seen)
            look(guest, "d/../d/secret", seen)
            guest.path_create_directory(FIRST, f"d/made{number}")
            guest.path_unlink_file(FIRST, "d/secret/x")
            opened, fd = guest.path_open(FIRST, FOLLOW, "d/planted", CREAT | TRUNC)
            if opened == 0:
                guest.fd_close(fd)
    assert "SUCCESS" in seen
    assert tree(host_root.parent / "outside") == outside


def test_a_file_swapped_for_a_link_out_never_leaks(way: str, host_root: Path) -> None:
    (host_root / "plain").write_bytes(b"inside")
    seen: set[str] = set()
    with closing(AegisDriver(host_root)) as guest, swapping(host_root / "plain", host_root / "file"):
        for _ in range(ROUNDS):
            look(guest, "plain", seen)
            number, fd = guest.path_open(FIRST, FOLLOW, "plain", CREAT, WRITE)
            if number == 0:
                guest.fd_close(fd)
            guest.path_filestat_set_times(FIRST, FOLLOW, "plain", 5, 5, 5)
    assert "SUCCESS" in seen
    secret = host_root.parent / "outside" / "secret"
    assert secret.read_bytes() == OUTSIDE
    assert secret.stat().st_mtime_ns != 5


# -- what is no file ----------------------------------------------------------------------------


def at_once(function: Callable[[], object]) -> None:
    """Run ``function`` and fail if it hangs."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits"
    if failures:
        raise failures[0]


def make(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the path of a Unix socket must be short
    if kind == "fifo":
        os.mkfifo("thing")
    elif kind == "socket":
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind("thing")
    else:
        try:
            os.mknod("thing", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except OSError:
            pytest.skip("no device can be made here")
    os.symlink("thing", "link")


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_a_path_that_is_not_a_file_is_refused_at_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(kind, tmp_path, monkeypatch)

    def attempts() -> None:
        with closing(AegisDriver(tmp_path)) as guest:
            for rights in (READ, WRITE, ALL):
                for oflags in (0, CREAT, TRUNC):
                    assert guest.path_open(FIRST, 0, "thing", oflags, rights)[0] == Errno.ACCES
                    assert guest.path_open(FIRST, FOLLOW, "link", oflags, rights)[0] == Errno.ACCES
            assert guest.path_filestat_get(FIRST, 0, "thing")[0] == 0
            assert "thing" in [e.name for e in guest.listed(FIRST)]
            assert guest.scope.waits == []

    at_once(attempts)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_a_path_that_is_not_a_file_is_not_granted(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(kind, tmp_path, monkeypatch)

    def attempt() -> None:
        refusal = pytest.raises(PolicyError, match="neither a directory nor a regular file")
        with closing(AegisDriver(capability=FilesystemCapability.read_only(tmp_path / "link"))) as guest, refusal:
            guest.fd_prestat_get(FIRST)

    at_once(attempt)


def test_a_file_swapped_for_a_fifo_never_makes_the_host_wait(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"inside")
    os.mkfifo(tmp_path / "fifo")

    def attempts() -> None:
        with closing(AegisDriver(tmp_path)) as guest, swapping(tmp_path / "plain", tmp_path / "fifo"):
            for _ in range(ROUNDS):
                number, fd = guest.path_open(FIRST, 0, "plain")
                assert NAMES[number] in ("SUCCESS", "ACCES", "NOENT", "NXIO")
                if number == 0:
                    assert guest.fd_read(fd, 10) == (0, b"inside")
                    guest.fd_close(fd)

    at_once(attempts)


# -- the host's own state -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/sys", "/dev", "/dev/null"])
def test_the_hosts_own_state_is_not_granted(place: str) -> None:
    for grant in (FilesystemCapability.read_only, FilesystemCapability.read_write):
        with pytest.raises(PolicyError, match="state of the host"):
            grant(place)


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/sys", "/dev", "/dev/null"])
def test_the_hosts_own_state_is_not_granted_through_a_link(place: str, tmp_path: Path) -> None:
    if not os.path.exists(place):
        pytest.skip(f"no {place} here")
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "chain").symlink_to("link")
    for name in ("link", "chain"):
        guest = AegisDriver(capability=FilesystemCapability.read_write(f"{tmp_path / name}::x"))
        with closing(guest), pytest.raises(PolicyError, match="state of the host"):
            guest.fd_prestat_get(FIRST)


def test_the_hosts_own_state_is_not_reached_from_above() -> None:
    with closing(AegisDriver(capability=FilesystemCapability.read_only("/"))) as guest:
        for path in ("proc/self/status", "proc/self/environ", "proc/1/cmdline", "sys/kernel/uevent_seqnum", "dev/null"):
            if os.path.exists(f"/{path}"):
                assert guest.path_open(FIRST, FOLLOW, path, 0, READ)[0] != 0, path


# -- grants in pairs ----------------------------------------------------------------------------


def changes(guest: AegisDriver) -> dict[str, int]:
    """Try every kind of change; return the results."""
    reader = guest.opened("file", 0, ALL & ~WRITE)
    folder = guest.opened("d", DIRECTORY, ALL & ~WRITE)
    return {
        "write": guest.path_open(FIRST, 0, "file", 0, ALL)[0],
        "write alone": guest.path_open(FIRST, 0, "file", 0, WRITE)[0],
        "create": guest.path_open(FIRST, 0, "new", CREAT, READ)[0],
        "create in a subdirectory": guest.path_open(folder, 0, "new", CREAT, READ)[0],
        "truncate": guest.path_open(FIRST, 0, "file", TRUNC, READ)[0],
        "times of a path": guest.path_filestat_set_times(FIRST, 0, "file", 1, 1, 5),
        "times of a file": guest.fd_filestat_set_times(reader, 1, 1, 5),
        "times of a directory": guest.fd_filestat_set_times(folder, 1, 1, 5),
        "make a directory": guest.path_create_directory(FIRST, "made"),
        "make a link": guest.path_symlink("file", FIRST, "planted"),
        "make a hard link": guest.path_link(FIRST, 0, "file", FIRST, "twin"),
        "move": guest.path_rename(FIRST, "file", FIRST, "moved"),
        "move back": guest.path_rename(FIRST, "moved", FIRST, "file"),
        "remove": guest.path_unlink_file(FIRST, "other"),
        "remove a directory": guest.path_remove_directory(FIRST, "empty"),
    }


def changes_through_a_reader(guest: AegisDriver) -> dict[str, int]:
    """Try to write through a read-only descriptor; return the results."""
    reader = guest.opened("file", 0, ALL & ~WRITE)
    return {
        "write": guest.fd_write(reader, b"x")[0],
        "write at": guest.fd_pwrite(reader, b"x", 0)[0],
        "size": guest.fd_filestat_set_size(reader, 0),
        "allocate": guest.fd_allocate(reader, 0, 1000),
    }


@pytest.fixture
def folder(either_folder: Folder) -> Folder:
    """A directory with something of each kind to change."""
    return filled(either_folder / "root")


@pytest.fixture
def host_folder(tmp_path: Path) -> Path:
    """The same on the host, for grants that there are for files of the host alone."""
    filled(tmp_path / "root")
    return tmp_path / "root"


def filled(root: Folder) -> Folder:
    for name in ("d", "empty"):
        (root / name).mkdir(parents=True)
    for name in ("file", "other", "d/inner"):
        (root / name).write_bytes(name.encode())
    return root


def record(root: Folder) -> dict[str, object]:
    """Return what is beneath ``root``, with its modes, times and counts of links."""
    status = {str(p): (s := p.lstat(), (s.st_mode, s.st_mtime_ns, s.st_nlink, s.st_size))[1] for p in root.rglob("*")}
    return {"tree": tree(root), "status": status, "itself": root.stat().st_mtime_ns}


def test_a_read_only_grant_refuses_every_change(way: str, folder: Folder) -> None:
    before = record(folder)
    with closing(AegisDriver(capability=FilesystemCapability.read_only(f"{folder}::."))) as guest:
        answers = changes(guest)
        assert {name: NAMES[number] for name, number in answers.items()} == dict.fromkeys(answers, "PERM")
        assert all(changes_through_a_reader(guest).values())
        denied = [d for d in guest.scope.decisions if not d.allowed]
        assert {d.remedy for d in denied} == {f"--allow-write {folder}::."}
        assert guest.fd_read(guest.opened("d/inner", 0, READ), 20) == (0, b"d/inner")
    assert record(folder) == before


def test_a_grant_to_write_allows_every_change(way: str, folder: Folder) -> None:
    with closing(AegisDriver(capability=FilesystemCapability.read_write(f"{folder}::."))) as guest:
        answers = changes(guest)
        assert {name: NAMES[number] for name, number in answers.items()} == dict.fromkeys(answers, "SUCCESS")
        assert all(changes_through_a_reader(guest).values())
        assert all(d.allowed for d in guest.scope.decisions)


def test_without_a_grant_there_is_nothing(folder: Folder) -> None:
    with closing(AegisDriver()) as guest:
        assert guest.fd_prestat_get(FIRST)[0] == Errno.BADF
        assert guest.path_open(FIRST, 0, "file")[0] == Errno.BADF


def test_a_file_grant_shows_that_file_alone(way: str, host_folder: Path) -> None:
    before = record(host_folder)
    with closing(AegisDriver(capability=FilesystemCapability.read_only(f"{host_folder / 'file'}::data/file"))) as guest:
        assert guest.fd_prestat_dir_name(FIRST, 4) == (0, b"data")
        assert [e.name for e in guest.listed(FIRST)] == [".", "..", "file"]
        assert guest.fd_read(guest.opened("file", 0, READ), 10) == (0, b"file")
        guest.opened("./file", 0, READ)
        for path in ("other", "d", "d/inner", "../root/file", "..", "file/../other", "./other", "file/"):
            assert guest.path_open(FIRST, FOLLOW, path, 0, READ)[0] != 0, path
            assert guest.path_filestat_get(FIRST, FOLLOW, path)[0] != 0, path
        itself = guest.opened(".", DIRECTORY, ALL & ~WRITE)
        assert [e.name for e in guest.listed(itself)] == [".", "..", "file"]
        assert guest.path_open(itself, 0, "other", 0, READ)[0] == Errno.NOENT
        assert guest.path_open(FIRST, 0, "file", 0, ALL)[0] == Errno.PERM
        assert guest.path_open(FIRST, 0, "new", CREAT)[0] == Errno.PERM
    assert record(host_folder) == before


def test_a_file_granted_for_writing_is_written_in_place_alone(host_folder: Path) -> None:
    with closing(
        AegisDriver(capability=FilesystemCapability.read_write(f"{host_folder / 'file'}::data/file"))
    ) as guest:
        fd = guest.opened("file", TRUNC)
        assert guest.fd_write(fd, b"changed") == (0, 7)
        assert guest.path_filestat_set_times(FIRST, 0, "file", 1_000, 1_000, 5) == 0
        assert guest.path_open(FIRST, 0, "new", CREAT)[0] != 0
        assert guest.path_open(FIRST, 0, "other", TRUNC)[0] != 0
        assert guest.path_unlink_file(FIRST, "file") == Errno.PERM
        assert guest.path_rename(FIRST, "file", FIRST, "moved") == Errno.PERM
        assert guest.path_link(FIRST, 0, "file", FIRST, "twin") == Errno.PERM
        assert guest.path_symlink("file", FIRST, "link") == Errno.PERM
        assert guest.path_create_directory(FIRST, "made") == Errno.PERM
    assert tree(host_folder) | {"file": ("file", b"file")} == {
        "d": ("directory", b""), "empty": ("directory", b""), "file": ("file", b"file"),
        "other": ("file", b"other"), "d/inner": ("file", b"d/inner"),
    }  # fmt: skip
    assert (host_folder / "file").read_bytes() == b"changed"


def test_a_granted_file_replaced_by_a_link_is_still_the_one_that_was_granted(host_folder: Path) -> None:
    with closing(AegisDriver(capability=FilesystemCapability.read_only(f"{host_folder / 'file'}::data/file"))) as guest:
        contents = (host_folder / "file").read_bytes()
        assert guest.fd_prestat_get(FIRST)[0] == 0
        (host_folder / "file").unlink()
        (host_folder / "file").symlink_to("other")
        assert guest.fd_read(guest.opened("file", 0, READ, lookup=FOLLOW), 100) == (0, contents)


def test_two_grants_are_two_directories(folder: Folder) -> None:
    capability = FilesystemCapability.read_only(f"{folder / 'd'}::in") + FilesystemCapability.read_write(
        f"{folder / 'empty'}::out"
    )
    with closing(AegisDriver(capability=capability)) as guest:
        assert guest.path_open(FIRST, 0, "new", CREAT)[0] == Errno.PERM
        guest.opened("new", CREAT, fd=FIRST + 1)
        assert guest.path_rename(FIRST, "inner", FIRST + 1, "taken") == Errno.PERM
        assert guest.path_link(FIRST, 0, "inner", FIRST + 1, "taken") == Errno.PERM
        assert guest.path_rename(FIRST + 1, "new", FIRST, "given") == Errno.PERM
        assert guest.path_link(FIRST + 1, 0, "new", FIRST, "given") == Errno.PERM
    assert [path.name for path in (folder / "d").iterdir()] == ["inner"]
    assert [path.name for path in (folder / "empty").iterdir()] == ["new"]
