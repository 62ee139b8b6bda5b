"""Descriptors belong to the grants: however a guest loses a handle, and however it ends, none stays open."""

from __future__ import annotations

import fcntl
import gc
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, AegisError
from aegis.host.files.base import Handle
from aegis.host.files.directory import OpenDescriptors
from aegis.host.preview1.abi import Errno, Rights
from tests.file_guests import Preview1, Preview2, grants
from tests.host.harness import ALL, FIRST, AegisDriver
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers

RUNS = int(os.environ.get("AEGIS_SOAK", "10"))
UNUSED = 700
"""Nothing else in this process uses descriptors from here on."""
WARM_UP = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "file").write_text("contents")
    (tmp_path / "alone").write_text("alone")
    return tmp_path


def flood(guest: Any) -> None:
    """Open more files than there are handles, or than may be open."""
    for n in range(100):
        path = ("file", "sub", "missing")[n % 3]
        if isinstance(guest, Preview2):
            guest.open(path)
        else:
            guest.path_open(FIRST, 0, path, 0, ALL & ~Rights.FD_WRITE)


def nothing(guest: Any) -> None:
    """Open some files, and exit normally."""
    open_one(guest)


def open_one(guest: Any) -> None:
    if isinstance(guest, Preview2):
        assert guest.open("file") == guest.open("sub") == ""
    else:
        guest.opened("file")
        guest.opened("sub", 2, ALL & ~Rights.FD_WRITE)


def trap(guest: Any) -> None:
    open_one(guest)
    guest.sandbox.call("trap")


def reset(guest: Any) -> None:
    for _ in range(3):
        open_one(guest)
        guest.sandbox.reset()
    open_one(guest)


def out_of_fuel(guest: Any) -> None:
    open_one(guest)
    guest.sandbox.call("spin")


def cancel(guest: Any) -> None:
    open_one(guest)
    ended = threading.Event()

    def cancelling() -> None:
        while not ended.is_set():
            guest.sandbox.cancel()

    thread = threading.Thread(target=cancelling)
    thread.start()
    try:
        guest.sandbox.call("spin")
    finally:
        ended.set()
        thread.join()


def descriptors() -> int:
    """Count this process's descriptors, after collecting sandboxes that other tests dropped."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usual("*-preview 1-in-process", "*-0.2-isolated")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [Preview1, Preview2], ids=["preview 1", "0.2"])
@pytest.mark.parametrize("ending", [flood, nothing, trap, reset, out_of_fuel, cancel], ids=lambda f: f.__name__)
def test_no_descriptor_is_left_whichever_way_a_handle_got_lost(
    folder: Path, place: str, kind: type[Preview1 | Preview2], ending: Callable[[Any], None]
) -> None:
    capability = grants((folder / "in", "/in", True), (folder / "alone", "/alone/alone", False))
    policy = {"fuel": 10**6} if ending is out_of_fuel else {}
    runs = RUNS if ending is flood else 6
    with runtime(place, filesystem=capability, handles=20, **policy) as aegis:
        counts = []
        for _ in range(WARM_UP + runs):
            run(aegis, kind, place, ending)
            assert beneath(folder) == []
            counts.append(len(os.listdir("/proc/self/fd")))
    if place == "in-process":  # workers are prepared in the background, and each has a few descriptors
        assert max(counts[-runs:]) <= max(counts[:-runs])


def beneath(folder: Path) -> list[str]:
    """Return the files below ``folder`` that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(str(folder))]


def run(aegis: Aegis, kind: type[Preview1 | Preview2], place: str, ending: Callable[[Any], None]) -> None:
    """Run the guest once."""
    with kind(place, grants(), aegis) as guest:
        try:
            ending(guest)
        except AegisError:
            assert ending is not nothing


def test_a_file_stays_open_when_the_directory_that_it_was_found_in_is_closed(folder: Path) -> None:
    guest = AegisDriver(capability=grants((folder / "in", "/in", True)))
    file = guest.opened("file")
    assert guest.fd_close(FIRST) == 0
    assert guest.fd_read(file, 100) == (0, b"contents")
    assert guest.path_open(FIRST, 0, "file", 0, ALL)[0] == Errno.BADF
    guest.close()


def test_a_descriptor_is_closed_once_however_often_it_is_asked_for() -> None:
    opened, root = OpenDescriptors(), os.open("/", os.O_RDONLY)
    number = opened.keep(fcntl.fcntl(root, fcntl.F_DUPFD, UNUSED))
    opened.close(number)
    again = fcntl.fcntl(root, fcntl.F_DUPFD, UNUSED)
    os.close(root)
    assert again == number, "the system gives the number out again"
    opened.close(number)
    opened.close_all()
    os.fstat(again)
    os.close(again)


def test_a_descriptor_without_a_handle_is_closed_with_the_grants(folder: Path) -> None:
    """As after a full table of handles: the descriptor is open, and no handle refers to it."""
    guest = AegisDriver(capability=grants((folder / "in", "/in", True), (folder / "alone", "/alone/alone", True)))
    before = descriptors()
    directory, alone = (preopen.directory for preopen in guest.grants.preopens)
    held = descriptors()
    found: list[Handle] = []
    for place, path in ((directory, "file"), (directory, "sub"), (directory, "."), (alone, "alone"), (alone, ".")):
        found.append(place.open(path, follow=True, read=True, write=False))
    found.append(directory.open("new", follow=False, read=True, write=True, create=True))
    assert descriptors() == held + 5, "the folder of files granted alone is none of the system's"
    guest.close()
    assert descriptors() == before
