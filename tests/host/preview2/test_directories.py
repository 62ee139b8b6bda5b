"""Directories opened inside a grant: the grant decides about changes, as in native WASI 0.2.

The adapters of preview 1 open directories without ``mutate-directory`` and then change their contents; wasi-libc opens
every file that it writes with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis.bindings.wasi_filesystem_types import DescriptorFlags, NewTimestampNow, OpenFlags, PathFlags
from aegis.policy import FilesystemCapability
from tests.directories import Folder
from tests.host.preview2.guest import Guest, refusal

R, W, M = DescriptorFlags.READ, DescriptorFlags.WRITE, DescriptorFlags.MUTATE_DIRECTORY
NONE, PLAIN, CREATE, DIRECTORY = PathFlags(0), OpenFlags(0), OpenFlags.CREATE, OpenFlags.DIRECTORY


@pytest.fixture
def tree(either_folder: Folder) -> Folder:
    return grown(either_folder / "granted")


def grown(root: Folder) -> Folder:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "inner").write_bytes(b"inner")
    return root


def guest_of(path: Folder, name: str, *, write: bool) -> Guest:
    grant = FilesystemCapability.read_write if write else FilesystemCapability.read_only
    return Guest(filesystem=grant(f"{path}::{name}"))


def top(guest: Guest) -> Any:
    [(directory, _)] = guest.of("wasi:filesystem/preopens").get_directories()
    return directory


CHANGES: dict[str, Any] = {
    "make a file": lambda d: d.open_at(NONE, "new", CREATE, R | W).__drop__(),
    "open to write": lambda d: d.open_at(NONE, "inner", PLAIN, W | M).__drop__(),
    "make a directory": lambda d: d.create_directory_at("made"),
    "remove a directory": lambda d: d.remove_directory_at("deep"),
    "remove a file": lambda d: d.unlink_file_at("inner"),
    "rename": lambda d: d.rename_at("inner", d, "moved"),
    "link": lambda d: d.link_at(NONE, "inner", d, "hard"),
    "make a link": lambda d: d.symlink_at("inner", "soft"),
    "set times": lambda d: d.set_times_at(NONE, "inner", NewTimestampNow(), NewTimestampNow()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_entries_of_a_directory_are_changed_if_the_grant_is_writable(change: Any, tree: Folder) -> None:
    before = sorted(p.name for p in (tree / "sub").iterdir())
    with guest_of(tree, "/in", write=False) as guest:
        sub = top(guest).open_at(NONE, "sub", DIRECTORY, R)
        assert sub.get_flags() == R
        assert refusal(change, sub) == "not-permitted"
        assert guest.denied == [f"--allow-write {tree}::/in"]
        sub.__drop__()
    assert sorted(p.name for p in (tree / "sub").iterdir()) == before
    with guest_of(tree, "/in", write=True) as guest:
        sub = top(guest).open_at(NONE, "sub", DIRECTORY, R)
        assert sub.get_flags() == R | M
        change(sub)
        assert guest.denied == []
        sub.__drop__()


def test_a_tree_is_removed_through_its_directories(tree: Folder) -> None:
    with guest_of(tree, "/in", write=True) as guest:
        directory = top(guest)
        sub = directory.open_at(NONE, "sub", DIRECTORY, R)
        sub.unlink_file_at("inner")
        sub.remove_directory_at("deep")
        sub.__drop__()
        directory.remove_directory_at("sub")
    assert list(tree.iterdir()) == []


def test_a_directory_to_be_changed_is_not_had_from_a_grant_that_reads(tree: Folder) -> None:
    with guest_of(tree, "/in", write=False) as guest:
        for path in ("sub", "."):
            assert refusal(top(guest).open_at, NONE, path, DIRECTORY, R | M) == "not-permitted"
        assert all(flag == f"--allow-write {tree}::/in" for flag in guest.denied)
        assert len(guest.denied) == 2


@pytest.mark.parametrize("flags", [W, W | M, R | W | M], ids=["write", "as wasi-libc", "both"])
def test_a_file_granted_alone_is_written_by_every_way_of_asking(flags: DescriptorFlags, tmp_path: Path) -> None:
    file = grown(tmp_path / "granted") / "sub" / "inner"
    with guest_of(file, "/in/file", write=False) as guest:
        assert refusal(top(guest).open_at, NONE, "file", PLAIN, flags) == "not-permitted"
        assert guest.denied == [f"--allow-write {file}::/in/file"]
    assert file.read_bytes() == b"inner"
    with guest_of(file, "/in/file", write=True) as guest:
        opened = top(guest).open_at(NONE, "file", PLAIN, flags)
        assert opened.get_flags() == flags & (R | W)
        opened.write(b"I", 0)
        assert guest.denied == []
        assert refusal(top(guest).open_at, NONE, ".", DIRECTORY, R | M) == "not-permitted"
        opened.__drop__()
    assert file.read_bytes() == b"Inner"
