"""Memory that the host holds for a guest between calls is bounded in total, and released in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis.bindings.wasi_logging_logging import Level
from aegis.errors import QuotaExceeded
from aegis.host.host_quota import HostQuota
from aegis.host.preview1.abi import ALL_RIGHTS, Rights
from aegis.policy import FilesystemCapability, LoggingCapability
from tests.host.harness import AegisDriver
from tests.host.http.client import Client
from tests.host.preview2.guest import Guest

CHUNK_BYTES = 65536


def test_parts_are_counted_together_and_given_back() -> None:
    held = HostQuota(100)
    one, two = held.reserve(), held.reserve()
    one.add(60)
    with pytest.raises(QuotaExceeded) as caught:
        two.add(41)
    assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("value_bytes", 101, 100)
    two.add(40)
    two.clear()
    two.add(30)
    assert held.used == 90
    del one
    assert held.used == 30
    HostQuota(None).reserve().add(1 << 60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for n in range(50):
        (tmp_path / f"a-name-{n}").touch()
    return tmp_path


def test_listings_of_directories_are_kept_within_value_bytes(tree: Path) -> None:
    grant = FilesystemCapability.read_only(f"{tree}::/in")
    with Guest(filesystem=grant, limits={"value_bytes": 25_000}) as guest:
        [(directory, _)] = guest.of("wasi:filesystem/preopens").get_directories()
        listings = [directory.read_directory() for _ in range(2)]
        with pytest.raises(QuotaExceeded) as caught:
            directory.read_directory()
        assert caught.value.limit == "value_bytes"
        listings.pop().__drop__()
        assert directory.read_directory().read_directory_entry() is not None
        while listings[0].read_directory_entry() is not None:
            pass
        del listings
        assert guest.grants.host_quota.used == 0


def test_listings_of_preview_1_are_kept_within_value_bytes_until_they_are_replaced_or_closed(tree: Path) -> None:
    guest = AegisDriver(tree, value_bytes=33_000)
    try:
        held = guest.grants.host_quota
        folders = [guest.opened(".", 2, ALL_RIGHTS & ~Rights.FD_WRITE) for _ in range(3)]
        assert guest.fd_readdir(folders[0])[0] == 0
        first = held.used
        assert guest.fd_readdir(folders[1])[0] == 0
        once = held.used - first
        assert first - once == 150 * 51, "the files and their directory are numbered once, for all listings"
        assert guest.fd_readdir(folders[0])[0] == 0
        assert held.used == first + once
        with pytest.raises(QuotaExceeded):
            guest.fd_readdir(folders[2])
        assert guest.fd_close(folders[0]) == 0
        assert guest.fd_readdir(folders[2])[0] == 0
    finally:
        guest.close()
    assert held.used == first - once


def test_a_request_that_is_not_sent_keeps_no_more_than_value_bytes() -> None:
    with Client(value_bytes=3 * CHUNK_BYTES + 1) as client:
        bodies: list[Any] = []
        for _ in range(3):
            body = client.request("http://a.example/").body()
            stream = body.write()
            assert stream.check_write() == CHUNK_BYTES
            stream.write_zeroes(CHUNK_BYTES)
            bodies += [body]
        body = client.request("http://a.example/").body()
        stream = body.write()
        assert stream.check_write() == CHUNK_BYTES
        with pytest.raises(QuotaExceeded):
            stream.write_zeroes(2)
        bodies.pop().__drop__()
        stream.write_zeroes(2)
        del bodies, body, stream
        assert client.grants.host_quota.used == 0


def test_a_log_line_is_cut_before_it_is_copied(caplog: pytest.LogCaptureFixture) -> None:
    with (
        Guest(logging=LoggingCapability(enabled=True)) as guest,
        caplog.at_level("INFO", logger="aegis.guest"),
    ):
        guest.of("wasi:logging/logging").log(Level.INFO, "c" * 10_000_000, "m" * 10_000_000)
    assert len(caplog.messages[0]) <= 4200
