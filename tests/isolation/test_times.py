"""A guest sets the times of files in process as in a worker, where the parent sets them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aegis import FilesystemCapability
from tests.isolation.isolated import PLACES, runtime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

GUEST = """(module
  (import "wasi_snapshot_preview1" "path_filestat_set_times"
    (func $path_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_times" (func $fd_times (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "by-path") (param $preopen i32) (param $follow i32) (param $length i32) (param $time i64) (result i32)
    (call $path_times (local.get $preopen) (local.get $follow) (i32.const 64) (local.get $length)
      (local.get $time) (local.get $time) (i32.const 5)))
  (func (export "by-descriptor")
    (param $preopen i32) (param $flags i32) (param $rights i64) (param $length i32) (param $time i64) (result i32)
    (local $error i32)
    (local.set $error (call $open (local.get $preopen) (i32.const 0) (i32.const 64) (local.get $length)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 0)))
    (if (local.get $error) (then (return (i32.add (i32.const 1000) (local.get $error)))))
    (call $fd_times (i32.load (i32.const 0)) (local.get $time) (local.get $time) (i32.const 5))))"""

READ, WRITE, SET_TIMES = 1 << 1, 1 << 6, 1 << 23
DIRECTORY = 2
PERM, NOENT = 63, 44
TIME = 1_234_567_890_123_456_789


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("out", "in"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "file").write_text("text")
        (tmp_path / name / "link").symlink_to("file")
    return tmp_path


def times(tree: Path) -> dict[str, bool]:
    """Return the files that have the time set by the guest."""
    return {str(path.relative_to(tree)): path.lstat().st_mtime_ns == TIME for path in tree.rglob("*")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("preopen", "follow", "path", "expected", "changed"),
    [
        (3, 0, "file", 0, "out/file"),
        (3, 0, "link", 0, "out/link"),
        (3, 1, "link", 0, "out/file"),
        (3, 0, "sub", 0, "out/sub"),
        (3, 0, "sub/", 0, "out/sub"),
        (3, 0, ".", 0, "out"),
        (3, 0, "absent", NOENT, ""),
        (4, 0, "file", PERM, ""),
        (4, 0, ".", PERM, ""),
        (3, 0, "../in/file", PERM, ""),
    ],
)
def test_a_guest_sets_times_by_path(
    place: str, preopen: int, follow: int, path: str, expected: int, changed: str, tree: Path
) -> None:
    granted = FilesystemCapability.read_write(f"{tree / 'out'}::/out") + FilesystemCapability.read_only(
        f"{tree / 'in'}::/in"
    )
    with runtime(place, filesystem=granted) as made, made.sandbox(made.load_wat(GUEST)) as sandbox:
        sandbox.memory.write(64, path.encode())
        assert sandbox.call("by-path", preopen, follow, len(path), TIME) == expected
    assert {name for name, same in times(tree).items() if same} == ({changed} if changed else set())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("preopen", "flags", "rights", "path", "expected"),
    [
        (3, 0, READ | WRITE, "file", 0),
        (3, 0, WRITE, "file", 0),
        (3, 0, READ, "file", 0),
        (3, DIRECTORY, READ, "sub", 0),
        (4, 0, READ, "file", PERM),
        (4, DIRECTORY, READ, "sub", PERM),
    ],
)
def test_a_guest_sets_times_by_descriptor(
    place: str, preopen: int, flags: int, rights: int, path: str, expected: int, tree: Path
) -> None:
    granted = FilesystemCapability.read_write(f"{tree / 'out'}::/out") + FilesystemCapability.read_only(
        f"{tree / 'in'}::/in"
    )
    with runtime(place, filesystem=granted) as made, made.sandbox(made.load_wat(GUEST)) as sandbox:
        sandbox.memory.write(64, path.encode())
        assert sandbox.call("by-descriptor", preopen, flags, rights | SET_TIMES, len(path), TIME) == expected
    assert {name for name, same in times(tree).items() if same} == (set() if expected else {f"out/{path}"})


@pytest.mark.parametrize("place", PLACES)
def test_a_guest_sets_the_times_of_a_file_that_is_granted_alone(place: str, tree: Path) -> None:
    granted = FilesystemCapability.read_write(f"{tree / 'out' / 'file'}::/data/file")
    with runtime(place, filesystem=granted) as made, made.sandbox(made.load_wat(GUEST)) as sandbox:
        sandbox.memory.write(64, b"file")
        assert sandbox.call("by-path", 3, 0, 4, TIME) == 0
        assert sandbox.call("by-descriptor", 3, 0, WRITE | SET_TIMES, 4, TIME) == 0
    assert times(tree)["out/file"]
    assert not os.listdir(tree / "out" / "sub")
