"""Clocks and randomness: each mode reveals the documented information, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import CapabilityDenied, QuotaExceeded
from aegis.host.preview2.clocks import datetime_of, nanoseconds_of
from aegis.policy import ClockCapability, RandomCapability
from tests.host.preview2.guest import Guest

SECOND = 10**9


def clocks(mode: str = "virtual") -> tuple[Guest, Any, Any]:
    guest = Guest(clock=ClockCapability.parse(mode))
    return guest, guest.of("wasi:clocks/monotonic-clock"), guest.of("wasi:clocks/wall-clock")


def test_a_stand_in_clock_advances_at_each_reading_so_that_a_busy_wait_ends() -> None:
    guest, monotonic, _ = clocks()
    with guest:
        readings = [monotonic.now() for _ in range(100)]
        assert readings == sorted(set(readings))
        assert readings[-1] < SECOND


def test_both_virtual_clocks_advance_by_the_time_slept() -> None:
    guest, monotonic, wall = clocks()
    with guest:
        monotonic.subscribe_duration(5 * SECOND).block()
        assert wall.now().seconds == 5
        monotonic.subscribe_instant(60 * SECOND).block()
        assert wall.now().seconds == 60
        assert monotonic.now() // SECOND == 60


def test_the_same_guest_reads_the_same_times_in_every_run() -> None:
    runs = []
    for _ in range(2):
        guest, monotonic, wall = clocks()
        with guest:
            monotonic.subscribe_duration(12345).block()
            runs.append([monotonic.now(), wall.now(), monotonic.now()])
    assert runs[0] == runs[1]


def test_a_fixed_clock_starts_where_it_was_set() -> None:
    guest, monotonic, wall = clocks("fixed:2026-01-01T00:00:00Z")
    with guest:
        assert wall.now().seconds == 1_767_225_600
        monotonic.subscribe_duration(SECOND).block()
        assert wall.now().seconds == 1_767_225_601


def test_a_coarse_clock_returns_multiples_of_its_resolution() -> None:
    guest, monotonic, wall = clocks("coarse:50ms")
    with guest:
        assert monotonic.now() % 50_000_000 == 0
        assert nanoseconds_of(wall.now()) % 50_000_000 == 0
        assert monotonic.resolution() == 50_000_000
        assert nanoseconds_of(wall.resolution()) == 50_000_000
        monotonic.subscribe_duration(1).block()


def test_the_systems_clock_never_goes_back() -> None:
    guest, monotonic, _ = clocks("system")
    with guest:
        readings = [monotonic.now() for _ in range(100)]
        assert readings == sorted(readings)
        assert readings[0] < 60 * SECOND, "it starts with the run: the uptime of the host is not revealed"


def test_a_denied_clock_reports_its_remedy_at_every_reading() -> None:
    guest, monotonic, wall = clocks("deny")
    with guest:
        timer = monotonic.subscribe_instant(5)
        poll = guest.of("wasi:io/poll").poll
        for reading in (monotonic.now, wall.now, timer.ready, timer.block, lambda: poll([timer])):
            with pytest.raises(CapabilityDenied, match="--allow-clock"):
                reading()
        with pytest.raises(CapabilityDenied):
            monotonic.subscribe_duration(0)


def test_timers_become_ready_in_their_order() -> None:
    guest, monotonic, _ = clocks()
    with guest:
        timers = [monotonic.subscribe_duration(n * SECOND) for n in (3, 1, 2)]
        poll = guest.of("wasi:io/poll").poll
        assert poll(timers) == [1]
        assert poll([timers[0], timers[2]]) == [1]
        timers[0].block()
        assert poll(timers) == [0, 1, 2]
        assert monotonic.subscribe_duration(0).ready()
        assert monotonic.subscribe_instant(0).ready()


@pytest.mark.parametrize("call", ["subscribe_duration", "subscribe_instant"])
def test_a_timer_of_the_largest_number_is_one(call: str) -> None:
    guest, monotonic, wall = clocks()
    with guest:
        timer = getattr(monotonic, call)(2**64 - 1)
        assert not timer.ready()
        timer.block()
        assert monotonic.now() <= monotonic.now() < 2**64
        assert wall.now().seconds < 2**64


@given(st.integers(-(2**70), 2**70))
def test_a_time_is_returned_in_whole_seconds_and_nanoseconds(nanoseconds: int) -> None:
    """For every time: the nanoseconds are less than a second, and from 1970 on the conversion loses nothing."""
    reported = datetime_of(nanoseconds)
    assert 0 <= reported.nanoseconds < SECOND
    assert nanoseconds_of(reported) == max(0, nanoseconds)


# -- randomness ----------------------------------------------------------------------------------------


def draw(capability: RandomCapability, *counts: int) -> bytes:
    with Guest(random=capability) as guest:
        return b"".join(guest.of("wasi:random/random").get_random_bytes(count) for count in counts)


def test_a_seed_alone_decides_the_bytes() -> None:
    seeded = RandomCapability.parse("seed:7")
    assert draw(seeded, 100) == draw(seeded, 1, 0, 63, 36) == draw(seeded, 100)
    assert draw(seeded, 32) != draw(RandomCapability.parse("seed:8"), 32)


def test_the_insecure_interfaces_draw_from_the_same_stream() -> None:
    with Guest() as guest:
        assert guest.of("wasi:random/insecure").get_insecure_random_u64() == int.from_bytes(
            draw(RandomCapability(), 8), "little"
        )
        first = guest.of("wasi:random/insecure-seed").insecure_seed()
        assert first != guest.of("wasi:random/insecure-seed").insecure_seed()
        assert all(0 <= half < 2**64 for half in first)


def test_denied_randomness_reports_its_remedy() -> None:
    with Guest(random=RandomCapability.parse("deny")) as guest:
        for call in (
            lambda: guest.of("wasi:random/random").get_random_bytes(1),
            guest.of("wasi:random/random").get_random_u64,
            lambda: guest.of("wasi:random/insecure").get_insecure_random_bytes(1),
            guest.of("wasi:random/insecure-seed").insecure_seed,
        ):
            with pytest.raises(CapabilityDenied, match="--allow-random"):
                call()


@pytest.mark.parametrize("interface", ["random", "insecure"])
@pytest.mark.parametrize(("limit", "most"), [(100, 100), (None, 64 << 20)])
def test_so_many_bytes_at_once_and_no_more(interface: str, limit: int | None, most: int) -> None:
    with Guest(limits={"value_bytes": limit}, random=RandomCapability.parse("system")) as guest:
        source = guest.of(f"wasi:random/{interface}")
        call = source.get_random_bytes if interface == "random" else source.get_insecure_random_bytes
        assert len(call(100)) == 100
        for count in (most + 1, 2**64 - 1):
            with pytest.raises(QuotaExceeded) as caught:
                call(count)
            assert (caught.value.limit, caught.value.allowed) == ("value_bytes", most)
