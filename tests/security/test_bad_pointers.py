"""A host function that reads or writes where the guest pointed: bad pointers and bad text are faults of the guest.

Oracle: the call ends with a trap that blames the guest and names the host function, and its event is that of a trap;
a host function that catches the fault decides itself; an error in the host function's own code remains the host's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import aegis
from aegis import Caller, CollectingSubscriber, GuestTrap, HostError, MemoryFault
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
every_place = pytest.mark.parametrize("place", PLACES)
PAGE = 1 << 16
GUEST = """(module
  (import "env" "take" (func $take (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "caf\\c3\\a9\\ff\\c3")
  (func (export "give") (param i32 i32) (result i32) (call $take (local.get 0) (local.get 1))))"""
USES: dict[str, Callable[[Caller, int, int], Any]] = {
    "read": lambda caller, offset, length: caller.read(offset, length),
    "read_text": lambda caller, offset, length: caller.read_text(offset, length),
    "write": lambda caller, offset, length: caller.write(offset, bytes(max(length, 1))),
}
POINTERS = {"just past the end": PAGE, "across the end": PAGE - 1, "above 2 GiB": 1 << 31, "u32 max": (1 << 32) - 1}


def give(place: str, take: Callable[..., Any], *values: int, **options: Any) -> Any:
    made = runtime(place)
    function = aegis.with_caller(take)
    with made.sandbox(made.load_wat(GUEST), imports={"env": {"take": function}}, **options) as sandbox:
        return sandbox.run("give", *values)


@every_place
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("pointer", POINTERS)
def test_a_range_outside_the_memory_is_a_trap_of_the_guest(place: str, use: str, pointer: str) -> None:
    def take(caller: Caller, offset: int, length: int) -> int:
        USES[use](caller, offset, length)
        return 0

    outcome = give(place, take, POINTERS[pointer], 4)
    assert isinstance(outcome.error, GuestTrap)
    assert (outcome.status, outcome.error.blame, outcome.error.code) == ("trap", "guest", "memory-out-of-bounds")
    assert "in the host call env.take" in str(outcome.error)
    assert f"{POINTERS[pointer]}" in str(outcome.error)
    assert isinstance(outcome.error.__cause__, MemoryFault)


@every_place
def test_a_length_beyond_the_memory_is_a_trap_too(place: str) -> None:
    outcome = give(place, lambda caller, offset, length: len(caller.read(offset, length)), 0, (1 << 32) - 1)
    assert (outcome.status, outcome.error.code) == ("trap", "memory-out-of-bounds")


@every_place
@pytest.mark.parametrize(("offset", "length", "bad"), [(8, 6, 13), (8, 4, 11), (13, 1, 13), (14, 1, 14)])
def test_text_that_is_not_utf_8_is_a_trap_that_names_the_byte(place: str, offset: int, length: int, bad: int) -> None:
    outcome = give(place, lambda caller, *range_: len(caller.read_text(*range_)), offset, length)
    assert (outcome.status, outcome.error.blame, outcome.error.code) == ("trap", "guest", "invalid-utf-8")
    assert "in the host call env.take" in str(outcome.error)
    assert f"at {bad}" in str(outcome.error)


@every_place
def test_good_text_is_read(place: str) -> None:
    assert give(place, lambda caller, *range_: len(caller.read_text(*range_)), 8, 5).value == len("café")


@every_place
def test_a_host_function_that_catches_the_fault_answers_itself(place: str) -> None:
    def take(caller: Caller, offset: int, length: int) -> int:
        try:
            return len(caller.read(offset, length))
        except MemoryFault:
            return -1

    assert give(place, take, PAGE, 1).value == -1
    assert give(place, take, PAGE - 1, 1).value == 1


@every_place
def test_an_error_of_the_host_functions_own_code_remains_the_hosts(place: str) -> None:
    outcome = give(place, lambda caller, *range_: caller.read(*range_).decode(), 13, 1)
    assert isinstance(outcome.error, HostError)
    assert outcome.error.blame == "host"


@every_place
def test_the_event_of_the_host_call_is_that_of_a_trap(place: str) -> None:
    heard = CollectingSubscriber()
    give(place, lambda caller, *range_: len(caller.read(*range_)), PAGE, 1, subscribers=[heard])
    (event,) = [event for event in heard.events if event.kind == "host_function_called"]
    assert (event.ok, event.error) == (False, "trap")
