"""A denial of clocks or random bytes is recorded, as in preview 1; generating bytes observes the deadline."""

from __future__ import annotations

from typing import Any

import pytest

from aegis.errors import CapabilityDenied, DeadlineExceeded
from aegis.policy import ClockCapability, RandomCapability
from tests.host.preview2.guest import Guest

READINGS: dict[str, tuple[str, Any]] = {
    "wall": ("clock", lambda guest: guest.of("wasi:clocks/wall-clock").now()),
    "monotonic": ("clock", lambda guest: guest.of("wasi:clocks/monotonic-clock").now()),
    "span": ("clock", lambda guest: guest.of("wasi:clocks/monotonic-clock").subscribe_duration(1)),
    "instant": ("clock", lambda guest: guest.of("wasi:clocks/monotonic-clock").subscribe_instant(1).block()),
    "bytes": ("random", lambda guest: guest.of("wasi:random/random").get_random_bytes(1)),
    "number": ("random", lambda guest: guest.of("wasi:random/random").get_random_u64()),
    "insecure": ("random", lambda guest: guest.of("wasi:random/insecure").get_insecure_random_u64()),
    "seed": ("random", lambda guest: guest.of("wasi:random/insecure-seed").insecure_seed()),
}


@pytest.mark.parametrize(("capability", "read"), READINGS.values(), ids=READINGS)
def test_a_denied_reading_is_recorded_once_with_its_remedy(capability: str, read: Any) -> None:
    with Guest() as guest:
        read(guest)
        assert guest.decisions == []
    with Guest(clock=ClockCapability.parse("deny"), random=RandomCapability.parse("deny")) as guest:
        with pytest.raises(CapabilityDenied):
            read(guest)
        [decision] = guest.decisions
        assert (decision.capability, decision.action, decision.rule) == (capability, "read", f"{capability} deny")
        assert guest.denied == [f"--allow-{capability}"]


def test_making_random_bytes_ends_with_the_deadline() -> None:
    with Guest() as guest:
        guest.door.deadline = 0.0
        with pytest.raises(DeadlineExceeded):
            guest.of("wasi:random/random").get_random_bytes(1 << 20)


def test_pieces_do_not_change_the_bytes() -> None:
    with Guest() as whole, Guest() as parts:
        counts = (1, 65536, 65537, 3)
        bytes_at_once = whole.of("wasi:random/random").get_random_bytes(sum(counts))
        assert bytes_at_once == b"".join(parts.of("wasi:random/random").get_random_bytes(n) for n in counts)
        assert whole.of("wasi:random/random").get_random_bytes(0) == b""
