"""The host keeps a directory listing until it is read to its end or dropped; it counts as an open directory."""

from __future__ import annotations

from typing import Any

import pytest

from aegis.bindings.wasi_filesystem_types import DescriptorFlags, OpenFlags, PathFlags
from aegis.policy import FilesystemCapability
from tests.directories import Folder
from tests.host.preview2.guest import Guest, refusal

NONE, PLAIN, READ = PathFlags(0), OpenFlags(0), DescriptorFlags.READ


@pytest.fixture
def tree(either_folder: Folder) -> Folder:
    for name in ("a", "b"):
        (either_folder / name).touch()
    return either_folder


def top(guest: Guest) -> Any:
    [(directory, _)] = guest.of("wasi:filesystem/preopens").get_directories()
    return directory


def guest_of(tree: Folder) -> Guest:
    return Guest(filesystem=FilesystemCapability.read_only(f"{tree}::/in"), limits={"open_files": 2})


def test_so_many_listings_are_kept_as_files_may_be_open(tree: Folder) -> None:
    with guest_of(tree) as guest:
        directory = top(guest)
        listings = [directory.read_directory() for _ in range(2)]
        assert refusal(directory.read_directory) == "insufficient-memory"
        assert refusal(directory.open_at, NONE, "a", PLAIN, READ) == "insufficient-memory"
        listings.pop().__drop__()
        file = directory.open_at(NONE, "a", PLAIN, READ)
        file.__drop__()
        assert listings[0].read_directory_entry().name == "a"


def test_a_listing_read_to_its_end_is_kept_no_longer(tree: Folder) -> None:
    with guest_of(tree) as guest:
        directory = top(guest)
        for _ in range(5):
            listing = directory.read_directory()
            assert [listing.read_directory_entry().name for _ in range(2)] == ["a", "b"]
            assert listing.read_directory_entry() is None
            assert listing.read_directory_entry() is None
        listing.__drop__()
        assert [directory.read_directory() for _ in range(2)]
        assert refusal(directory.read_directory) == "insufficient-memory", "a drop after the end frees nothing twice"


def test_a_failed_listing_does_not_count(tree: Folder) -> None:
    with guest_of(tree) as guest:
        file = top(guest).open_at(NONE, "a", PLAIN, READ)
        for _ in range(5):
            assert refusal(file.read_directory) == "not-directory"
        assert top(guest).read_directory().read_directory_entry().name == "a"
        file.__drop__()
