"""A denial is recorded if and only if a grant refused the operation, with the rule of that grant.

Oracle: the system's own ``EPERM`` (a hard link to a directory, an immutable file) is no denial. Every operation that a
read-only grant refuses is one denial, and its option is the wider grant. Every other denial names its rule.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import FilesystemCapability, PathGrant
from aegis.bindings.wasi_filesystem_types import (
    DescriptorFlags,
    NewTimestampNoChange,
    NewTimestampNow,
    OpenFlags,
    PathFlags,
)
from aegis.values import Decision
from tests.directories import Folder
from tests.host.preview2.guest import Guest, refusal
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

EPERM_OF_WASI = 63
READ, SET_TIMES = 1 << 1, 1 << 23
GUEST = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink" (func $readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_times" (func $times (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (data (i32.const 0) "{one}") (data (i32.const 100) "{two}")
  (func (export "_start") (call $exit {call})))"""
ONE, TWO = "(i32.const 0) (i32.const {m})", "(i32.const 100) (i32.const {n})"
FIRST = "(i32.const 3)"
CALLS = {
    "link": f"(call $link {FIRST} (i32.const 0) {ONE} {FIRST} {TWO})",
    "rename": f"(call $rename {FIRST} {ONE} {FIRST} {TWO})",
    "symlink": f"(call $symlink {TWO} {FIRST} {ONE})",
    "mkdir": f"(call $mkdir {FIRST} {ONE})",
    "unlink": f"(call $unlink {FIRST} {ONE})",
    "readlink": f"(call $readlink {FIRST} {ONE} (i32.const 200) (i32.const 100) (i32.const 300))",
    "directory times": f"(call $times {FIRST} (i64.const 1) (i64.const 1) (i32.const 5))",
    "file times": f"""(drop (call $open {FIRST} (i32.const 0) {ONE} (i32.const 0) (i64.const {READ | SET_TIMES})
        (i64.const 0) (i32.const 0) (i32.const 64)))
      (call $times (i32.load (i32.const 64)) (i64.const 1) (i64.const 1) (i32.const 5))""",
}

everywhere = pytest.mark.parametrize("place", PLACES)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    made = tmp_path / "box"
    (made / "folder" / "inner").mkdir(parents=True)
    (made / "other").mkdir()
    (made / "file").write_bytes(b"contents")
    (made / "out").symlink_to("/etc")
    (made / "folder" / "up").symlink_to("../..")
    return made


def run(place: str, box: Path, call: str, one: str = "", two: str = "", *, write: bool) -> tuple[int, list[Decision]]:
    """Return the error number of a guest's call, and its denials."""
    wat = GUEST.format(one=one, two=two, call=CALLS[call].format(m=len(one), n=len(two)))
    heard: list[Decision] = []
    grant = FilesystemCapability(paths=(PathGrant(host=str(box), guest="/box", write=write),))
    with runtime(place, filesystem=grant) as made, made.sandbox(made.load_wat(wat), denied=heard.append) as sandbox:
        outcome = sandbox.run("_start")
    assert list(outcome.denials) == heard
    assert outcome.exit_code is not None
    return outcome.exit_code, heard


@only_where_there_are_workers
@everywhere
def test_an_error_of_the_system_is_no_denial(place: str, box: Path) -> None:
    """link(2) raises ``EPERM`` for a directory, whoever may write there."""
    assert run(place, box, "link", "folder", "second", write=True) == (EPERM_OF_WASI, [])


@pytest.mark.usual(every=3)
@only_where_there_are_workers
@everywhere
@pytest.mark.parametrize(
    ("call", "one", "two", "target"),
    [
        ("link", "folder", "second", "/box/folder"), ("rename", "file", "moved", "/box/file"),
        ("symlink", "new", "file", "/box/new"), ("mkdir", "folder/new", "", "/box/folder/new"),
        ("unlink", "file", "", "/box/file"), ("unlink", "out", "", "/box/out"),
        ("directory times", "", "", "/box"), ("file times", "file", "", "/box/file"),
    ],
)  # fmt: skip
def test_every_change_beneath_a_read_only_grant_is_one_denial_with_its_option(
    place: str, call: str, one: str, two: str, target: str, box: Path
) -> None:
    before = (box / "file").stat().st_mtime_ns, box.stat().st_mtime_ns
    number, [denial] = run(place, box, call, one, two, write=False)
    assert number == EPERM_OF_WASI
    assert (denial.action, denial.target, denial.rule) == (
        "write",
        target,
        "read-only /box" + target[4:] * (call == "file times"),
    )
    assert denial.remedy == f"--allow-write {box}::/box"
    assert ((box / "file").stat().st_mtime_ns, box.stat().st_mtime_ns) == before
    assert run(place, box, call, one, two, write=True)[1] == []


@pytest.mark.usual(every=3)
@only_where_there_are_workers
@everywhere
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("call", "one", "two", "rule"),
    [
        ("mkdir", "../new", "", "the path leaves /box"),
        ("mkdir", "folder/../../new", "", "the path leaves /box"),
        ("mkdir", "out/new", "", "a symbolic link in the path leads out of /box"),
        ("mkdir", "folder/up/new", "", "a symbolic link in the path leads out of /box"),
        ("mkdir", "/box/new", "", "the path is absolute, but must be relative to a granted directory"),
        ("mkdir", "/etc/new", "", "no grant contains this path"),
        ("readlink", "out", "", "a symbolic link in the path leads out of /box"),
    ],
)
def test_a_path_that_leaves_is_denied_by_that_rule_whether_or_not_the_grant_writes(
    place: str, call: str, one: str, two: str, rule: str, write: bool, box: Path
) -> None:
    number, [denial] = run(place, box, call, one, two, write=write)
    assert (number, denial.rule, denial.remedy) == (EPERM_OF_WASI, f"{rule}; no option allows that", "")


@only_where_there_are_workers
@everywhere
@pytest.mark.parametrize(
    ("call", "one", "two", "rule"),
    [
        ("symlink", "new", "../file", "a new symbolic link must lead to its own directory or further down"),
        ("symlink", "new", "/etc", "a new symbolic link must lead to its own directory or further down"),
        ("rename", "out", "other/out", "a symbolic link that leads out of its directory cannot be moved"),
        ("link", "out", "other/out", "a symbolic link that leads out of its directory cannot be moved"),
        ("rename", "folder", "other/folder", "a symbolic link that leads out of its directory cannot be moved"),
    ],
)
def test_a_link_that_would_lead_elsewhere_is_denied_by_that_rule(
    place: str, call: str, one: str, two: str, rule: str, box: Path
) -> None:
    number, [denial] = run(place, box, call, one, two, write=True)
    assert number == EPERM_OF_WASI
    assert denial.rule.startswith(rule)
    assert denial.rule.endswith("; no option allows that")
    assert not denial.remedy


NONE, PLAIN = PathFlags(0), OpenFlags(0)
R, M = DescriptorFlags.READ, DescriptorFlags.MUTATE_DIRECTORY
NOW, SAME = NewTimestampNow(), NewTimestampNoChange()


def granted(root: Folder, *, write: bool) -> Guest:
    return Guest(filesystem=FilesystemCapability(paths=(PathGrant(host=str(root), guest="/in", write=write),)))


CHANGES: dict[str, Callable[[Any], object]] = {
    "own times": lambda top: top.set_times(NOW, SAME),
    "times of a file": lambda top: top.open_at(NONE, "file", PLAIN, R).set_times(NOW, SAME),
    "times of a directory": lambda top: top.open_at(NONE, "sub", PLAIN, R).set_times(NOW, SAME),
    "a directory to change": lambda top: top.open_at(NONE, "sub", PLAIN, R | M),
    "a new directory": lambda top: top.create_directory_at("new"),
    "a link": lambda top: top.symlink_at("file", "new"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_through_wasi_0_2_beneath_a_read_only_grant_is_one_denial(
    change: str, either_folder: Folder
) -> None:
    (either_folder / "sub").mkdir()
    (either_folder / "file").write_bytes(b"contents")
    with granted(either_folder, write=False) as guest:
        [(top, _)] = guest.of("wasi:filesystem/preopens").get_directories()
        assert refusal(CHANGES[change], top) == "not-permitted"
        [denial] = [decision for decision in guest.decisions if not decision.allowed]
    assert denial.action == "write"
    assert denial.remedy == f"--allow-write {either_folder}::/in"


def test_times_of_a_file_that_was_opened_for_reading_are_no_denial_under_a_writable_grant(
    either_folder: Folder,
) -> None:
    """The descriptor's flags refuse it, not the grant: no option would help."""
    (either_folder / "file").write_bytes(b"contents")
    with granted(either_folder, write=True) as guest:
        [(top, _)] = guest.of("wasi:filesystem/preopens").get_directories()
        file = top.open_at(NONE, "file", PLAIN, R)
        assert refusal(file.set_times, NOW, SAME) == "not-permitted"
        assert all(decision.allowed for decision in guest.decisions)


@pytest.mark.parametrize("name", ["mkdir", "unlink", "rename"])
def test_an_immutable_file_is_no_denial(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system call raises ``EPERM`` here, as for a file with the attribute ``i``, which only root can set."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "file").write_bytes(b"contents")
    calls: dict[str, Callable[[Any], object]] = {
        "mkdir": lambda top: top.create_directory_at("new"),
        "unlink": lambda top: top.unlink_file_at("file"),
        "rename": lambda top: top.rename_at("file", top, "new"),
    }
    with granted(tmp_path, write=True) as guest:  # type: ignore[arg-type]
        [(top, _)] = guest.of("wasi:filesystem/preopens").get_directories()
        monkeypatch.setattr(os, name, refuse)
        assert refusal(calls[name], top) == "not-permitted"
        assert guest.decisions == []
