"""Resources that a guest drops are released, in any order, and those it still holds count as open."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from aegis.bindings.wasi_filesystem_types import DescriptorFlags, OpenFlags, PathFlags
from aegis.policy import FilesystemCapability, StdioCapability
from tests.directories import Folder
from tests.host.preview2.guest import Guest, descriptors, refusal

R, W = DescriptorFlags.READ, DescriptorFlags.WRITE
NONE, PLAIN = PathFlags(0), OpenFlags(0)


@pytest.fixture
def tree(either_folder: Folder) -> Folder:
    (either_folder / "sub").mkdir()
    (either_folder / "file").write_bytes(b"contents")
    return either_folder


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() <= before


def top(guest: Guest) -> Any:
    return guest.of("wasi:filesystem/preopens").get_directories()[0][0]


def granted(tree: Folder, **limits: Any) -> Guest:
    return Guest(filesystem=FilesystemCapability.read_write(f"{tree}::/in"), limits=limits)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_file_lives_as_long_as_its_streams(order: tuple[int, ...], tree: Folder) -> None:
    with granted(tree, open_files=1) as guest:
        file = top(guest).open_at(NONE, "file", PLAIN, R | W)
        reading, writing, append = file.read_via_stream(0), file.write_via_stream(0), file.append_via_stream()
        uses = [
            lambda: file.read(1, 0), lambda: reading.read(1),
            lambda: writing.blocking_write_and_flush(b"c"), lambda: append.blocking_write_and_flush(b"!"),
        ]  # fmt: skip
        held = [file, reading, writing, append]
        for n, which in enumerate(order):
            for still in order[n:]:
                uses[still]()
            assert refusal(top(guest).open_at, NONE, "file", PLAIN, R) == "insufficient-memory"
            held[which].__drop__()
        top(guest).open_at(NONE, "file", PLAIN, R).__drop__()


def test_a_file_that_only_a_stream_holds_still_counts_as_open(tree: Folder) -> None:
    with granted(tree, open_files=3) as guest:
        streams = []
        for _ in range(3):
            file = top(guest).open_at(NONE, "file", PLAIN, R)
            streams.append(file.read_via_stream(0))
            file.__drop__()
        assert refusal(top(guest).open_at, NONE, "file", PLAIN, R) == "insufficient-memory"
        assert refusal(top(guest).open_at, NONE, "sub", PLAIN, R) == "insufficient-memory"
        for stream in streams:
            stream.__drop__()
        top(guest).open_at(NONE, "sub", PLAIN, R).__drop__()


def test_a_failed_open_does_not_count(tree: Folder) -> None:
    with granted(tree, open_files=1) as guest:
        for path, flags in (("none", PLAIN), ("file", OpenFlags.DIRECTORY), ("../x", PLAIN), ("a\0", PLAIN)):
            refusal(top(guest).open_at, NONE, path, flags, R)
        for _ in range(5):
            top(guest).open_at(NONE, "file", PLAIN, R).__drop__()
            top(guest).open_at(NONE, "sub", PLAIN, R).__drop__()


def test_a_listing_outlives_its_directory(tree: Folder) -> None:
    with granted(tree, open_files=2) as guest:
        sub = top(guest).open_at(NONE, "sub", PLAIN, R)
        (tree / "sub" / "x").touch()
        listing = sub.read_directory()
        sub.__drop__()
        (tree / "sub" / "x").unlink()
        top(guest).open_at(NONE, "file", PLAIN, R).__drop__()
        assert listing.read_directory_entry().name == "x"
        assert listing.read_directory_entry() is None


def test_preopened_directories_are_shared_and_outlive_their_handles(tree: Folder) -> None:
    with granted(tree) as guest:
        first, second = top(guest), top(guest)
        first.__drop__()
        assert second.is_same_object(top(guest))
        second.open_at(NONE, "file", PLAIN, R).__drop__()


def test_a_pollable_that_outlives_its_stream_is_ready(tree: Folder) -> None:
    with granted(tree) as guest:
        file = top(guest).open_at(NONE, "file", PLAIN, R | W)
        streams = [file.read_via_stream(0), file.write_via_stream(0)]
        pollables = [stream.subscribe() for stream in streams]
        for stream in (*streams, file):
            stream.__drop__()
        assert guest.of("wasi:io/poll").poll(pollables) == [0, 1]
        for pollable in pollables:
            pollable.block()


def test_the_standard_streams_are_had_again_after_a_drop() -> None:
    with Guest(stdio=StdioCapability(stdin=b"abc", stdout="capture")) as guest:
        for letter in (b"a", b"b"):
            stdin, stdout = guest.of("wasi:cli/stdin").get_stdin(), guest.of("wasi:cli/stdout").get_stdout()
            stdout.blocking_write_and_flush(stdin.read(1))
            stdin.__drop__()
            stdout.__drop__()
            assert guest.grants.stdio.stdout_bytes().endswith(letter)


def test_the_end_of_a_sandbox_closes_its_directories(tmp_path: Path) -> None:
    before = descriptors()
    guest = granted(tmp_path)
    top(guest)
    assert not descriptors() <= before
    guest.grants.close()
    guest.door.close()
    assert descriptors() <= before
