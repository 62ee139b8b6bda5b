"""For every plan of file operations, Aegis and wasmtime's native preview 1 answer alike on identical trees.

The oracle: the same error number, the same results, and the same tree afterwards. Intentional differences are listed
with their reasons in ``DIFFERENCES``; there are no others.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis.host.preview1.abi import Fdflags, Rights
from aegis.policy import ClockCapability
from tests.directories import IMPLEMENTATIONS, Folder, new_folder
from tests.host.harness import ALL, FIRST, NAMES, AegisDriver, Driver, Native, tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the table of differences is that of Linux")

READ, WRITE = Rights.FD_READ, Rights.FD_WRITE


class Difference(NamedTuple):
    """Aegis answers ``aegis`` and the native host ``native``, with a reason; ``*`` stands for any answer.

    ``when`` restricts it to some cases. Without answers the operation is not run, because its results cannot be
    compared.
    """

    operations: str
    aegis: str
    native: str
    reason: str
    when: Callable[[Side, tuple[Any, ...]], bool] = lambda side, operation: True


def slashed(side: Side, operation: tuple[Any, ...]) -> bool:
    return str(operation[2]).endswith("/")


def appends(side: Side, operation: tuple[Any, ...]) -> bool:
    status = side.driver.fd_fdstat_get(operation[1])[1]
    return status is not None and bool(status.flags & Fdflags.APPEND)


MOVES = "fd_read fd_pread fd_write fd_pwrite fd_seek fd_tell"
DIFFERENCES = [
    Difference(MOVES, "NOTCAPABLE", "BADF", "preview 1 has an error for a missing right; natively rights are modes"),
    Difference(MOVES, "NOTCAPABLE", "SUCCESS", "natively a right that was not asked for may be there all the same"),
    Difference("fd_filestat_set_size", "INVAL", "SUCCESS", "the same: opened without the right to write"),
    Difference("path_symlink", "PERM", "*", "a link that a guest makes has no '..', so that moved it never climbs"),
    Difference("path_rename path_link", "PERM", "*", "nor is a link of the host's moved that climbs, or is absolute"),
    Difference("path_filestat_set_times", "NOENT", "SUCCESS", "natively a call that sets no time looks at no file"),
    Difference("fd_pwrite", "", "", "natively appends, as Linux does; preview 1 writes at the offset", appends),
    *(
        Difference("path_remove_directory", mine, "*", "a slash at the end: we answer as Linux does", slashed)
        for mine in ("NOTDIR", "NOTEMPTY", "SUCCESS")
    ),
]


SEGMENTS = ("a", "b", "c", "f", "new", ".", "..", "link", "dangling", "loop", "folder", "up", "out", "absolute")
TARGETS = ("f", "a", "a/b", "..", "../..", "new", "nowhere/x", "link", ".", "a/", "/etc", "")


def plant(root: Folder) -> None:
    """Make the tree on which plans run."""
    (root / "a" / "c").mkdir(parents=True)
    (root / "a" / "b").write_bytes(b"in a")
    (root / "f").write_bytes(b"hello, file")
    links = {
        "link": "f", "dangling": "nowhere", "loop": "loop", "folder": "a", "a/up": "..", "out": "../outside",
        "absolute": "/etc", "a/link": "../f",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)


@dataclass
class Side:
    """A driver, with the inode numbers it returned in the order of their first appearance.

    A plan numbers descriptors like Aegis, by the lowest free number; ``fds`` maps them to the numbers here.
    """

    driver: Driver
    root: Folder
    inodes: dict[int, int] = field(default_factory=dict)
    fds: dict[int, int] = field(default_factory=lambda: {FIRST: FIRST})

    def inode(self, number: int) -> int:
        return self.inodes.setdefault(number, len(self.inodes))


@contextmanager
def both(implementation: str) -> Iterator[tuple[Side, Side]]:
    """Two drivers on two identical trees, ours in one of the implementations."""
    with new_folder(implementation) as mine, tempfile.TemporaryDirectory() as folder:
        roots = mine / "root", Path(folder, "root")
        for root in roots:
            plant(root)
            (root.parent / "outside").write_bytes(b"secret")
        clock = ClockCapability.parse("system")
        sides = [Side(AegisDriver(roots[0], clock=clock), roots[0]), Side(Native(roots[1]), roots[1])]
        try:
            yield sides[0], sides[1]
        finally:
            for side in sides:
                side.driver.close()


# -- operations ---------------------------------------------------------------------------------

paths = st.builds(
    lambda absolute, parts, slash: absolute + "/".join(parts) + slash,
    st.sampled_from(("",) * 12 + ("/",)), st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3),
    st.sampled_from(("",) * 6 + ("/", "/.", "//")),
)  # fmt: skip
folders = st.sampled_from((FIRST,) * 6 + (4, 5, 6))
opened = st.sampled_from((4,) * 4 + (5, 5, 6, 7, FIRST, 99))
lookups = st.sampled_from((0, 1))
sizes = st.sampled_from((0, 1, 3, 7, 100))
rights = st.sampled_from((ALL, ALL, ALL & ~WRITE, ALL & ~READ, ALL & ~WRITE & ~READ))
times = st.sampled_from((0, 1_000_000_000, 1_234_567_890_123_456_000))
data = st.sampled_from((b"", b"x", b"some bytes"))

FILES = ("f", "a/b", "link", "new", "b")
modes = st.sampled_from((0, 0, 1, 4))
FOLDERS = ("a", "a/c", "folder", ".")
LIKELY = ("path_open", FIRST, 1)

operations = st.one_of(
    st.tuples(st.just("path_open"), folders, lookups, paths, st.integers(0, 15), rights, st.just(ALL), modes),
    st.tuples(st.just("path_open"), folders, lookups, paths, st.sampled_from((0, 0, 1, 2)), st.just(ALL)),
    st.builds(lambda path, held, mode: (*LIKELY, path, 1, held, ALL, mode), st.sampled_from(FILES), rights, modes),
    st.builds(lambda path: (*LIKELY, path, 2, ALL & ~WRITE), st.sampled_from(FOLDERS)),
    st.tuples(st.just("fd_read"), opened, sizes),
    st.tuples(st.just("fd_write"), opened, data),
    st.tuples(st.just("fd_pread"), opened, sizes, sizes),
    st.tuples(st.just("fd_pwrite"), opened, data, sizes),
    st.tuples(st.just("fd_seek"), opened, st.sampled_from((-3, 0, 2, 50)), st.sampled_from((0, 1, 2))),  # another trap
    st.tuples(st.just("fd_tell"), opened),
    st.tuples(st.just("fd_filestat_get"), opened),
    st.tuples(st.just("fd_filestat_set_size"), opened, sizes),
    st.tuples(st.just("fd_filestat_set_times"), opened, times, times, st.integers(0, 15)),
    st.tuples(st.just("fd_fdstat_set_flags"), opened, st.sampled_from((0, 1, 4))),
    st.tuples(st.just("fd_readdir"), folders),
    st.tuples(st.just("fd_close"), opened),
    st.tuples(st.just("fd_renumber"), opened, opened),
    st.tuples(st.just("path_filestat_get"), folders, lookups, paths),
    st.tuples(st.just("path_filestat_set_times"), folders, lookups, paths, times, times, st.integers(0, 15)),
    st.tuples(st.just("path_create_directory"), folders, paths),
    st.tuples(st.just("path_remove_directory"), folders, paths),
    st.tuples(st.just("path_unlink_file"), folders, paths),
    st.tuples(st.just("path_symlink"), st.sampled_from(TARGETS), folders, paths),
    st.tuples(st.just("path_readlink"), folders, paths, st.sampled_from((512, 2))),
    st.tuples(st.just("path_rename"), folders, paths, folders, paths),
    st.tuples(st.just("path_link"), folders, st.sampled_from((0, 0, 0, 1)), paths, folders, paths),
)  # fmt: skip

# The positions of an operation's descriptors, if not the first argument.
DESCRIPTORS = {"fd_renumber": (0, 1), "path_symlink": (1,), "path_rename": (0, 2), "path_link": (0, 3)}
SET_TIMES = {0, 1_000_000_000, 1_234_567_890_123_456_000}


def run(side: Side, operation: tuple[Any, ...]) -> tuple[int, Any]:
    """Run an operation, and return the error number with the comparable results."""
    name, *args = operation
    for at in DESCRIPTORS.get(name, (0,)):
        args[at] = side.fds.get(args[at], 1000 + args[at])
    answer = getattr(side.driver, name)(*args)
    if isinstance(answer, int):
        return answer, None
    number, *results = answer
    if number:
        return number, None
    if name.endswith("filestat_get"):
        status = results[0]
        now = [t if t in SET_TIMES else "now" for t in (status.mtim,)]
        size = status.size if status.filetype != 3 else None
        return 0, (side.inode(status.ino), status.filetype, status.nlink, size, now)
    if name == "fd_readdir":
        entries = sorted(results[0], key=lambda e: e.name)
        return 0, [(e.name, e.filetype, side.inode(e.ino)) for e in entries]
    return 0, results


def track(aegis: Side, native: Side, operation: tuple[Any, ...], mine: Any, its: Any) -> None:
    """Record which numbers refer to the same descriptor after a success on both sides."""
    if operation[0] == "path_open":
        number = mine[0]
        aegis.fds[number], native.fds[number] = number, its[0]
        mine[0] = its[0] = number
    elif operation[0] == "fd_close" or (operation[0] == "fd_renumber" and operation[1] != operation[2]):
        del aegis.fds[operation[1]], native.fds[operation[1]]


def excused(side: Side, operation: tuple[Any, ...], aegis: str, native: str) -> bool:
    """Return whether the table of differences contains this case."""
    return any(
        operation[0] in d.operations.split()
        and d.aegis in ("*", aegis)
        and d.native in ("*", native)
        and d.when(side, operation)
        for d in DIFFERENCES
    )


def compare(plan: list[tuple[Any, ...]], implementation: str) -> None:
    """Run ``plan`` on both sides; fail at the first difference that the table does not know."""
    with both(implementation) as (aegis, native):
        for operation in plan:
            if excused(aegis, operation, "", ""):
                continue
            mine, its = run(aegis, operation), run(native, operation)
            if mine[0] != its[0]:
                answers = NAMES[mine[0]], NAMES[its[0]]
                assert excused(aegis, operation, *answers), f"{operation}: {answers[0]}, natively {answers[1]}"
                if 0 in (mine[0], its[0]):
                    return  # the states of the two hosts differ from here on
                continue
            if mine[0] == 0:
                track(aegis, native, operation, mine[1], its[1])
            assert mine == its, f"{operation}: {mine}, natively {its}"
        assert tree(aegis.root) == tree(native.root), "the trees differ"


@pytest.mark.usual("host")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(plan=st.lists(operations, min_size=10, max_size=25))
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_aegis_answers_like_the_native_host(implementation: str, plan: list[tuple[Any, ...]]) -> None:
    compare(plan, implementation)
