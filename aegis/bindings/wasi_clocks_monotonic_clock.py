# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:clocks/monotonic-clock@0.2.12``."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from aegis.bindings.wasi_io_poll import POLLABLE, Pollable
from aegis.wit.types import Function, Interface, Own

__all__ = ["DURATION", "INSTANT", "INTERFACE", "POLLABLE", "Duration", "Host", "Instant", "Pollable"]

Instant: TypeAlias = int

Duration: TypeAlias = int


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def now(self) -> Instant: ...

    def resolution(self) -> Duration: ...

    def subscribe_instant(self, when: Instant) -> Pollable: ...

    def subscribe_duration(self, when: Duration) -> Pollable: ...


_NAME = "wasi:clocks/monotonic-clock@0.2.12"

INSTANT = "u64"
DURATION = "u64"

INTERFACE = Interface(
    _NAME,
    functions={
        "now": Function((), INSTANT),
        "resolution": Function((), DURATION),
        "subscribe-instant": Function((("when", INSTANT),), Own(POLLABLE)),
        "subscribe-duration": Function((("when", DURATION),), Own(POLLABLE)),
    },
    types={"pollable": POLLABLE, "instant": INSTANT, "duration": DURATION},
)
