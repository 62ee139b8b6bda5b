"""``sync`` and ``sync-data`` of WASI 0.3 wait for the disk beside other tasks, on few threads."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis.bindings import wasi_filesystem_types_0_3 as three
from aegis.policy import FilesystemCapability
from aegis.values import Interest
from aegis.wit.values import Err
from tests.host.preview2.guest import Guest, descriptors
from tests.host.preview3.test_versions import roots

THREADS = 4


class SlowDisk:
    """A disk that stores nothing until :attr:`go` is set; ``most`` counts the threads that waited at the same time."""

    def __init__(self) -> None:
        self.go, self._lock = threading.Event(), threading.Lock()
        self._waiting = self.most = 0

    def store(self, _: int) -> None:
        with self._lock:
            self._waiting += 1
            self.most = max(self.most, self._waiting)
        self.go.wait(60)
        with self._lock:
            self._waiting -= 1


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk()
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, disk.store)
    yield disk
    disk.go.set()


def finished(later: Any) -> Any:
    while not later.ready():
        interest = later.interest()
        assert interest != Interest()
        left = 20.0 if interest.host_time is None else max(0.0, interest.host_time - time.monotonic())
        assert any(select.select(interest.read, interest.write, [], left)) or interest.host_time is not None
    return later.result()


def opened(guest: Guest) -> Any:
    root = roots(guest)[1]
    return root.open_at(three.PathFlags(0), "file", three.OpenFlags.CREATE, three.DescriptorFlags.WRITE)


def test_a_sync_is_done_for_files_and_directories(tmp_path: Path) -> None:
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        file, before = opened(guest), descriptors()
        for one in (file, roots(guest)[1]):
            assert finished(one.sync()) is None
            assert finished(one.sync_data()) is None
        assert len(descriptors()) <= len(before) + 2  # those of the root, and of the listing itself
        file.__drop__()


def test_the_error_of_a_sync_has_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(os, "fsync", fails)
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        file = opened(guest)
        with pytest.raises(Err) as caught:
            finished(file.sync())
        assert caught.value.value == three.ErrorCodeInsufficientSpace()
        file.__drop__()


@pytest.mark.parametrize("name", ["sync", "sync_data"])
def test_a_slow_disk_keeps_few_threads_busy_even_if_the_guest_gives_up(
    name: str, tmp_path: Path, slow: SlowDisk
) -> None:
    with Guest(filesystem=FilesystemCapability.read_write(tmp_path)) as guest:
        file = opened(guest)
        waits = [getattr(file, name)() for _ in range(5 * THREADS)]
        assert not any(one.ready() for one in waits)
        for one in waits[:THREADS]:
            one.cancel()
        assert not any(one.ready() for one in waits[THREADS:])  # an abandoned thread counts until it ends
        slow.go.set()
        assert [finished(one) for one in waits[THREADS:]] == [None] * (4 * THREADS)
        assert slow.most <= THREADS
        file.__drop__()
