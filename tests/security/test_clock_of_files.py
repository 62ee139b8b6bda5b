"""Metadata of files reveals neither the time, nor random numbers, nor the host's inode numbers.

For every run of one guest on equal trees, without the clock and without random bytes, everything it sees is the same.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis.bindings.wasi_filesystem_types import DescriptorFlags, NewTimestampNow, OpenFlags, PathFlags
from aegis.errors import CapabilityDenied, QuotaExceeded
from aegis.host.files.file_times import FileTimes, NewTimes, beginning
from aegis.policy import ClockCapability
from tests.directories import Folder, every_place, set_times
from tests.file_guests import Preview1, Preview2, grants
from tests.host.harness import FIRST, AegisDriver
from tests.host.preview2.guest import Guest
from tests.isolation.isolated import PLACES, only_where_there_are_workers

pytestmark = only_where_there_are_workers

CREAT = 1
SECOND = 10**9
SYSTEM = ClockCapability.parse("system")
OLD = 1_234_567_890_123_456_789
ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8


@pytest.fixture
def folder(either_folder: Folder) -> Folder:
    return filled(either_folder / "granted")


def filled(folder: Folder) -> Folder:
    folder.mkdir()
    for name in ("b", "a", "c"):
        (folder / name).write_text(name)
        set_times(folder / name, OLD, OLD)
    return folder


def modified(guest: Any, path: str) -> int:
    """Return the modification time of a file, as the guest sees it."""
    if isinstance(guest, Preview2):
        return int(guest.sandbox.call("modified", path))
    number, status = guest.path_filestat_get(FIRST, 0, path)
    assert number == 0
    return int(status.mtim)


KINDS = {"preview 1": Preview1, "0.2": Preview2}


@every_place
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changes_is_no_clock_without_the_clock(folder: Folder, place: str, kind: str) -> None:
    """With the grant the same guest sees the time pass; without it, it sees the sandbox's own."""
    capability = grants((folder, "/in", True))

    def seen(**policy: Any) -> tuple[int, ...]:
        with KINDS[kind](place, capability, **policy) as guest:
            times = [modified(guest, "a")]
            for name in ("new", "newer"):
                if isinstance(guest, Preview2):
                    assert guest.open(name, 1, 3) == ""
                else:
                    guest.opened(name, CREAT)
                times.append(modified(guest, name))
                (folder / name).unlink()
            return tuple(times)

    before = time.time_ns()
    first, second, real = seen(), seen(), seen(clock=SYSTEM)
    assert first == second, "a run repeats"
    assert first[0] == OLD // SECOND * SECOND
    assert 0 < first[1] < first[2] < SECOND
    assert real[0] == OLD
    assert before - SECOND < real[1] <= real[2]


@pytest.mark.parametrize("mode", ["virtual", "deny", "fixed:2020-01-01T00:00:00Z"])
def test_every_stand_in_for_the_clock_stands_in_for_files_too(folder: Folder, mode: str) -> None:
    clock = ClockCapability.parse(mode)
    guest = AegisDriver(folder, clock=clock)
    guest.opened("new", CREAT)
    status = guest.path_filestat_get(FIRST, 0, "new")[1]
    assert status is not None
    for shown in status[5:]:
        assert clock.instant_ns <= shown < clock.instant_ns + SECOND
    assert modified(guest, "a") == OLD // SECOND * SECOND
    guest.close()


def test_files_are_no_finer_clock_than_the_coarse_one_that_was_granted(folder: Folder) -> None:
    guest = AegisDriver(folder, clock=ClockCapability.parse("coarse:10ms"))
    for path in ("a", "new"):
        guest.opened(path, CREAT)
        assert modified(guest, path) % 10_000_000 == 0
    guest.close()


def test_a_time_that_was_seen_stays_until_the_file_changes_again(folder: Folder) -> None:
    guest = AegisDriver(folder)
    fd = guest.opened("new", CREAT)
    first = guest.path_filestat_get(FIRST, 0, "new")
    assert guest.clock_time_get(0)[0] == 0
    assert guest.path_filestat_get(FIRST, 0, "new") == guest.fd_filestat_get(fd) == first
    set_times(folder / "new", time.time_ns(), time.time_ns())  # another program changes it
    assert modified(guest, "new") > first[1].mtim  # type: ignore[union-attr]
    guest.close()


@pytest.mark.parametrize("when", [0, 1, OLD, 4_000_000_000_000_000_123])
def test_a_guest_reads_back_the_times_it_sets(folder: Folder, when: int) -> None:
    """In the past and in the future: comparing with the time of its own choice tells it nothing of the real one."""
    guest = AegisDriver(folder)
    assert guest.path_filestat_set_times(FIRST, 0, "a", when, when, ATIM | MTIM) == 0
    fd = guest.opened("b")
    assert guest.fd_filestat_set_times(fd, when, when, ATIM | MTIM) == 0
    for status in (guest.path_filestat_get(FIRST, 0, "a")[1], guest.fd_filestat_get(fd)[1]):
        assert status is not None
        assert (status.atim, status.mtim) == (when, when)
    assert (folder / "a").stat().st_mtime_ns == when
    guest.close()


def test_now_is_the_sandboxs_clock_in_files_as_well(folder: Folder) -> None:
    guest = AegisDriver(folder)
    assert guest.path_filestat_set_times(FIRST, 0, "a", 0, 0, ATIM_NOW | MTIM_NOW) == 0
    assert 0 < modified(guest, "a") < SECOND
    assert (folder / "a").stat().st_mtime_ns == modified(guest, "a")
    guest.close()
    with Guest(filesystem=grants((folder, "/in", True))) as other:
        [(top, _)] = other.of("wasi:filesystem/preopens").get_directories()
        file = top.open_at(PathFlags(0), "b", OpenFlags(0), DescriptorFlags.READ | DescriptorFlags.WRITE)
        file.set_times(NewTimestampNow(), NewTimestampNow())
        assert file.stat().data_modification_timestamp.seconds == 0
        assert 0 < (folder / "b").stat().st_mtime_ns < SECOND


def test_without_any_clock_now_cannot_be_set(folder: Folder) -> None:
    guest = AegisDriver(folder, clock=ClockCapability.parse("deny"))
    with pytest.raises(CapabilityDenied):
        guest.path_filestat_set_times(FIRST, 0, "a", 0, 0, MTIM_NOW)
    assert (folder / "a").stat().st_mtime_ns == OLD
    guest.close()


def test_the_time_from_which_on_changes_belong_to_a_sandbox_is_in_whole_seconds() -> None:
    now = time.time_ns()
    assert beginning() % SECOND == 0
    assert now - 3 * SECOND <= beginning() <= time.time_ns() - 2 * SECOND


def test_remembered_times_are_bounded_by_value_bytes(folder: Folder) -> None:
    guest = AegisDriver(folder, value_bytes=5_000)

    def flood() -> Iterator[int]:
        for n in itertools.count():
            guest.path_filestat_set_times(FIRST, 0, "abc"[n % 3], n, n, ATIM | MTIM)
            assert guest.path_create_directory(FIRST, f"d{n}") == 0
            yield modified(guest, f"d{n}")

    with pytest.raises(QuotaExceeded) as caught:
        list(flood())
    assert caught.value.limit == "value_bytes"
    guest.close()


def test_a_change_that_leaves_one_time_alone_forgets_nothing_of_the_other(folder: Folder) -> None:
    guest = AegisDriver(folder)
    times = guest.grants.times
    assert isinstance(times, FileTimes)
    assert guest.path_filestat_set_times(FIRST, 0, "a", 7, 9, ATIM | MTIM) == 0
    assert guest.path_filestat_set_times(FIRST, 0, "a", 8, 0, ATIM) == 0
    status = guest.path_filestat_get(FIRST, 0, "a")[1]
    assert status is not None
    assert (status.atim, status.mtim) == (8, 9)
    assert NewTimes(8, None)((folder / "a").stat()) == (8, 9)
    guest.close()


# -- numbers --------------------------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal trees, whose files have different inodes, in another order."""
    for name, order in (("one", "abcd"), ("two", "dcba")):
        (tmp_path / name).mkdir()
        for file in order:
            (tmp_path / name / file).write_text(file)
        (tmp_path / name / "e").hardlink_to(tmp_path / name / "b")
        for file in order:
            os.utime(tmp_path / name / file, ns=(OLD, OLD))
    return tmp_path / "one", tmp_path / "two"


@pytest.mark.parametrize("place", PLACES)
def test_inode_numbers_reveal_nothing_about_the_host_and_are_the_same_in_every_run(
    twins: tuple[Path, Path], place: str
) -> None:
    seen = []
    for folder in (*twins, twins[0]):
        with Preview1(place, grants((folder, "/in", True))) as guest:
            listed = {entry.name: entry.ino for entry in guest.listed(FIRST)}
            for name in ("a", "b", "e"):
                status = guest.path_filestat_get(FIRST, 0, name)[1]
                assert status is not None
                assert status.ino == listed[name], "the same by every way"
            guest.opened("new", CREAT)
            listed["new"] = guest.path_filestat_get(FIRST, 0, "new")[1].ino  # type: ignore[union-attr]
            seen.append(listed)
        (folder / "new").unlink()
        assert not {path.stat().st_ino for path in folder.iterdir()} & set(listed.values())
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["b"] == seen[0]["e"], "hard links are one file"
    assert len(set(seen[0].values())) == len(seen[0]) - 2, "and other names are not; '.' and '..' are one here"


@pytest.mark.parametrize("place", PLACES)
def test_hashes_of_metadata_reveal_no_more(twins: tuple[Path, Path], place: str) -> None:
    seen = []
    for folder in twins:
        with Preview2(place, grants((folder, "/in", True))) as guest:
            seen.append([guest.sandbox.call("number", name) for name in ("d", "b", "e", "a", ".", "d")])
    assert seen[0] == seen[1] == [1, 2, 2, 3, 4, 1]


def test_the_same_inode_on_another_device_is_another_file(folder: Folder) -> None:
    guest = AegisDriver(folder)
    status, numbers = (folder / "a").stat(), guest.grants.numbers
    elsewhere = os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))
    assert numbers.of(status) == numbers.of((folder / "a").stat()) != numbers.of(elsewhere)
    guest.close()


def test_numbers_are_counted_against_value_bytes(folder: Folder) -> None:
    guest = AegisDriver(folder, value_bytes=5_000)

    def flood() -> Iterator[int]:
        for n in itertools.count():
            assert guest.path_create_directory(FIRST, f"d{n}") == 0
            yield guest.path_filestat_get(FIRST, 0, f"d{n}")[0]

    with pytest.raises(QuotaExceeded):
        list(flood())
    guest.close()
