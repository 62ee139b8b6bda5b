"""The supervisor waits for a call on another thread until the call's own deadline, even if that moves.

A worker that first has to get ready has separate time for it; the guest's time begins after that.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from aegis.engine.call.door import Door
from aegis.engine.threads.event_loop import supervise_on_loop
from aegis.engine.threads.supervisor import supervise, time_left
from aegis.errors import DeadlineExceeded
from aegis.limits import Limits


def on_a_thread(function: Callable[[], Any], door: Door, cancel: Callable[[], None]) -> Any:
    return supervise(function, door, cancel, lambda job: None)


def on_a_loop(function: Callable[[], Any], door: Door, cancel: Callable[[], None]) -> Any:
    return asyncio.run(supervise_on_loop(function, door, cancel, lambda job: None))


@pytest.mark.parametrize("supervised", [on_a_thread, on_a_loop])
@pytest.mark.parametrize("name", ["deadline", "ready_by"])
def test_a_call_whose_time_began_later_is_not_cancelled_by_the_clock_of_its_start(supervised: Any, name: str) -> None:
    door, cancelled = Door(Limits(timeout=0.05)), []

    def call() -> str:
        setattr(door, name, time.monotonic() + 60)
        door.wait(0.4) if name == "deadline" else time.sleep(0.4)  # the duration of the call
        return "returned"

    assert supervised(call, door, lambda: cancelled.append(True)) == "returned"
    assert not cancelled


@pytest.mark.parametrize("supervised", [on_a_thread, on_a_loop])
def test_a_call_past_its_deadline_is_cancelled_and_ends(supervised: Any) -> None:
    door = Door(Limits(timeout=0.05))

    def call() -> None:
        door.deadline = time.monotonic() + 0.05
        door.wait(60)

    with pytest.raises(Exception, match="deadline exceeded"):
        supervised(call, door, door.cancel)


@pytest.mark.parametrize("supervised", [on_a_thread, on_a_loop])
def test_a_call_that_got_no_turn_until_its_deadline_ends_as_past_it(supervised: Any) -> None:
    door, begun = Door(Limits(timeout=0.05)), threading.Event()

    def call() -> None:
        begun.wait(60)  # the machine was busy
        door.deadline = time.monotonic() + 60  # armed late
        door.wait(60)

    def cancel() -> None:
        door.cancel()
        begun.set()

    with pytest.raises(DeadlineExceeded):
        supervised(call, door, cancel)


def test_the_time_left_is_that_of_the_latest_of_start_deadline_and_readiness() -> None:
    door, now = Door(Limits(timeout=10)), time.monotonic()
    assert 9 < time_left(door, now) < 10.2
    door.deadline = now + 50
    assert 49 < time_left(door, now) < 50.2
    door.ready_by = now + 70
    assert 69 < time_left(door, now) < 70.2
    assert time_left(Door(Limits(timeout=None)), now) == math.inf
