"""Elements of the application's streams and futures have the same meaning in process and in a worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from aegis import (
    AegisError,
    CallError,
    DeadlineExceeded,
    FutureWriter,
    GuestTrap,
    HostError,
    QuotaExceeded,
    Sandbox,
    SandboxStateError,
)
from aegis.wit.types import Future, Option, Stream, Tuple, WitType
from tests.component.tasks.async_guests import copier
from tests.isolation.isolated import PLACES, isolated, only_where_there_are_workers, runtime, shared

pytestmark = only_where_there_are_workers
PACE = (5, 1)
GOOD: dict[str, tuple[WitType, list[Any]]] = {
    "integers": ("u32", [0, 2**32 - 1, True]),
    "texts": ("string", ["", "ä", "\U0001f600"]),
    "floats": ("f32", [1, 0.5]),
    "options": (Option("s8"), [None, -128, 127]),
    "bytes": ("u8", [b"ab", b"", b"c"]),
}
WRONG: dict[str, tuple[WitType, list[Any], str]] = {
    "too large": ("u32", [1, 2, 2**40], "element 2: 1099511627776 is out of range for u32"),
    "negative": ("u8", [b"a", [-1]], "expected bytes"),
    "a text": ("s64", ["x"], "element 0: expected an integer"),
    "a surrogate": ("string", ["a", "\ud800"], "element 1: the text contains a lone surrogate"),
    "nothing": ("f64", [None], "element 0: "),
    "after a hundred": (Option("s8"), [*range(100), 128], "element 100: 128 is out of range"),
}


def sandbox(place: str, of: WitType) -> Sandbox:
    runtime = shared(place)
    return runtime.sandbox(runtime.load_wat(copier(of, imports=False)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", GOOD)
def test_elements_come_back(place: str, name: str) -> None:
    of, values = GOOD[name]
    expected: Any = b"".join(values) if of == "u8" else values
    with sandbox(place, of) as guest:
        assert guest.call("collect", values, *PACE, len(expected)) == expected


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_element_is_named_with_its_position(place: str, name: str) -> None:
    of, values, message = WRONG[name]
    with sandbox(place, of) as guest, pytest.raises(HostError) as raised:
        guest.call("collect", values, *PACE, len(values))
    assert message in str(raised.value)
    assert "a stream of the host has a wrong element: " in str(raised.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_value_of_a_future_is_named(place: str) -> None:
    with sandbox(place, "u32") as guest, pytest.raises(HostError, match=r"^a future of the host has a wrong value: "):
        guest.call("keep", 2**40)


NESTED: dict[str, tuple[WitType, list[Any], Any, list[Any]]] = {
    "streams": (Stream("u8"), [b"ab", [b"c", b"d"]], b"".join, [b"ab", b"cd"]),
    "futures": (Future("string"), ["x", "y"], lambda future: future.result(), ["x", "y"]),
    "tuples": (Tuple(("u8", Stream("u32"))), [(1, [1, 2])], lambda pair: [pair[0], *pair[1]], [[1, 1, 2]]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("through", ["same", "relay"])
@pytest.mark.parametrize("name", NESTED)
def test_streams_within_elements_come_back_as_readers(place: str, through: str, name: str) -> None:
    """Also if the guest gives the outer stream back unread, so that the host reads its own elements."""
    of, values, read, expected = NESTED[name]
    with sandbox(place, of) as guest:
        reader = guest.call(through, values, *(() if through == "same" else PACE))
        assert [read(element) for element in reader] == expected


def _empty(log: list[str]) -> Iterator[bytes]:
    try:
        while True:
            yield b""
    finally:
        log.append("closed")


async def _empty_later(log: list[str]) -> AsyncIterator[bytes]:
    for piece in _empty(log):
        yield piece


def _collect(guest: Sandbox, how: str, log: list[str]) -> None:
    if how == "call":
        guest.call("collect", _empty(log), *PACE, 9)
    else:
        asyncio.run(guest.acall("collect", _empty_later(log), *PACE, 9))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["call", "acall"])
def test_empty_pieces_without_end_meet_the_deadline(place: str, how: str) -> None:
    log: list[str] = []
    with (
        runtime(place, timeout="0.2s") as made,
        made.sandbox(made.load_wat(copier("u8", imports=False))) as guest,
        pytest.raises(DeadlineExceeded),
    ):
        _collect(guest, how, log)
    assert log == ["closed"]


_STARTS = """(component
  (type $S (stream u8))
  (import "give" (func $give async (result $S)))
  (core module $Memory (memory (export "m") 1))
  (core instance $memory (instantiate $Memory))
  (core func $give' (canon lower (func $give)))
  (core func $read (canon stream.read $S (memory (core memory $memory "m"))))
  (core module $M
    (import "" "m" (memory 1))
    (import "" "give" (func $give (result i32)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func $start (drop (call $read (call $give) (i32.const 0) (i32.const 2))) {})
    (start $start)
    (func (export "seen") (result i32) (i32.load16_u (i32.const 0)))
    (func (export "read") (param i32) (result i32)
      (drop (call $read (local.get 0) (i32.const 0) (i32.const 2))) (i32.load16_u (i32.const 0))))
  (core instance $i (instantiate $M (with "" (instance
    (export "m" (memory $memory "m")) (export "give" (func $give')) (export "read" (func $read))))))
  (func (export "seen") (result u32) (canon lift (core func $i "seen")))
  (func (export "read") async (param "s" $S) (result u32) (canon lift (core func $i "read"))))"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("traps", [False, True], ids=["returns", "traps"])
def test_a_start_function_reads_a_stream_of_the_host_which_its_sandbox_closes(place: str, traps: bool) -> None:
    log: list[str] = []

    def give() -> Iterator[bytes]:
        try:
            yield b"ab"
            yield b"more"
        finally:
            log.append("closed")

    component = shared(place).load_wat(_STARTS.format("unreachable" if traps else ""))
    if traps:
        with pytest.raises(GuestTrap):
            shared(place).sandbox(component, imports={"give": give})
    else:
        with shared(place).sandbox(component, imports={"give": give}) as guest:
            assert guest.call("seen") == int.from_bytes(b"ab", "little")
            assert guest.call("read", b"cd") == int.from_bytes(b"cd", "little")
            assert not log
    assert log == ["closed"]


OWN_ERRORS: dict[str, Callable[[], AegisError]] = {
    "an error of arguments": lambda: CallError("mine"),
    "an error of a sandbox": lambda: SandboxStateError("mine", state="closed"),
    "a limit": lambda: QuotaExceeded("mine", limit="tasks", used=1, allowed=1),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("carrier", ["future", "later", "generator", "asynchronous generator"])
@pytest.mark.parametrize("name", OWN_ERRORS)
def test_an_error_of_aegis_that_the_application_raises_in_a_call_poisons_the_sandbox(
    place: str, carrier: str, name: str
) -> None:
    """The guest was left in the middle, though this error at the beginning of a call means that it was not entered."""
    error = OWN_ERRORS[name]()

    async def future(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise error

    def generate() -> Iterator[int]:
        yield 1
        raise error

    async def generate_later() -> AsyncIterator[int]:
        yield 1
        raise error

    async def main(guest: Sandbox) -> None:
        if carrier in ("future", "later"):
            call = guest.acall("keep", future(0 if carrier == "future" else 20))
        else:
            call = guest.acall("collect", generate() if carrier == "generator" else generate_later(), *PACE, 5)
        with pytest.raises(type(error), match="mine"):
            await call
        assert guest.state == "poisoned"

    with sandbox(place, "u32") as guest:
        asyncio.run(main(guest))


# Copies its argument to a stream that it gives to ``shout``, and copies that function's stream to its result.
_SHOUTS = """(component
  (type $S (stream u8))
  (import "shout" (func $shout async (param "s" $S) (result $S)))
  (component $Copier
    (type $S (stream u8))
    (core module $Memory (memory (export "m") 1))
    (core instance $memory (instantiate $Memory))
    (core func $new (canon stream.new $S))
    (core func $read (canon stream.read $S async (memory (core memory $memory "m"))))
    (core func $write (canon stream.write $S async (memory (core memory $memory "m"))))
    (core func $drop-r (canon stream.drop-readable $S))
    (core func $drop-w (canon stream.drop-writable $S))
    (core func $set (canon waitable-set.new))
    (core func $join (canon waitable.join))
    (core func $return (canon task.return (result $S)))
    (core module $M
      (import "" "new" (func $new (result i64))) (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (import "" "drop-r" (func $drop-r (param i32))) (import "" "drop-w" (func $drop-w (param i32)))
      (import "" "set" (func $set (result i32))) (import "" "join" (func $join (param i32 i32)))
      (import "" "return" (func $return (param i32)))
      (global $in (mut i32) (i32.const 0)) (global $out (mut i32) (i32.const 0)) (global $s (mut i32) (i32.const 0))
      (func $wait (param i32) (result i32)
        (call $join (local.get 0) (global.get $s))
        (i32.or (i32.const 2) (i32.shl (global.get $s) (i32.const 4))))
      (func $got (param $r i32) (result i32) (local $n i32)
        (if (i32.eq (local.get $r) (i32.const -1)) (then (return (call $wait (global.get $in)))))
        (local.set $n (i32.shr_u (local.get $r) (i32.const 4)))
        (if (i32.eqz (local.get $n)) (then
          (call $drop-w (global.get $out)) (call $drop-r (global.get $in)) (return (i32.const 0))))
        (call $put (call $write (global.get $out) (i32.const 0) (local.get $n))))
      (func $put (param $r i32) (result i32)
        (if (i32.eq (local.get $r) (i32.const -1)) (then (return (call $wait (global.get $out)))))
        (call $got (call $read (global.get $in) (i32.const 0) (i32.const 64))))
      (func (export "copy") (param $s i32) (result i32) (local $pair i64)
        (global.set $s (call $set)) (global.set $in (local.get $s))
        (local.set $pair (call $new))
        (global.set $out (i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32))))
        (call $return (i32.wrap_i64 (local.get $pair)))
        (call $got (call $read (global.get $in) (i32.const 0) (i32.const 64))))
      (func (export "cb") (param i32 i32 i32) (result i32)
        (call $join (local.get 1) (i32.const 0))
        (if (i32.eq (local.get 0) (i32.const 2)) (then (return (call $got (local.get 2)))))
        (call $put (local.get 2))))
    (core instance $m (instantiate $M (with "" (instance
      (export "new" (func $new)) (export "read" (func $read)) (export "write" (func $write))
      (export "drop-r" (func $drop-r)) (export "drop-w" (func $drop-w)) (export "set" (func $set))
      (export "join" (func $join)) (export "return" (func $return))))))
    (func (export "copy") async (param "s" $S) (result $S)
      (canon lift (core func $m "copy") async (callback (core func $m "cb")))))
  (instance $first (instantiate $Copier))
  (instance $second (instantiate $Copier))
  (component $Outer
    (type $S (stream u8))
    (import "first" (func $first async (param "s" $S) (result $S)))
    (import "shout" (func $shout async (param "s" $S) (result $S)))
    (import "second" (func $second async (param "s" $S) (result $S)))
    (core func $first' (canon lower (func $first))) (core func $shout' (canon lower (func $shout)))
    (core func $second' (canon lower (func $second)))
    (core module $M
      (import "" "first" (func $first (param i32) (result i32)))
      (import "" "shout" (func $shout (param i32) (result i32)))
      (import "" "second" (func $second (param i32) (result i32)))
      (func (export "run") (param i32) (result i32) (call $second (call $shout (call $first (local.get 0))))))
    (core instance $m (instantiate $M (with "" (instance
      (export "first" (func $first')) (export "shout" (func $shout')) (export "second" (func $second'))))))
    (func (export "run") async (param "s" $S) (result $S) (canon lift (core func $m "run"))))
  (instance $outer (instantiate $Outer (with "first" (func $first "copy")) (with "shout" (func $shout))
    (with "second" (func $second "copy"))))
  (export "run" (func $outer "run")))"""


@pytest.mark.parametrize("place", PLACES)
def test_a_host_function_returns_its_callers_stream_changed(place: str) -> None:
    """The guest writes what the generator reads while it waits for the generator."""

    async def shouted(stream: Any) -> AsyncIterator[bytes]:
        async for piece in stream:
            yield piece.upper()

    async def main(guest: Sandbox) -> bytes:
        reader = await guest.acall("run", b"text")
        return b"".join([piece async for piece in reader])

    component = shared(place).load_wat(_SHOUTS)
    with shared(place).sandbox(component, imports={"shout": lambda stream: shouted(stream)}) as guest:
        assert asyncio.run(main(guest)) == b"TEXT"


@pytest.mark.parametrize("left", ["a stream", "a future", "a stream of the guest"])
def test_a_worker_serves_again_though_the_guest_before_left_ends_open(left: str) -> None:
    """Oracle: the next sandbox is in the same process, and its streams are its own."""
    with isolated(isolation={"recycle": 5, "workers": 1}) as runtime:
        component = runtime.load_wat(copier("u32", imports=False))
        served = []
        for _ in range(3):
            with runtime.sandbox(component) as guest:
                served.append(guest._run.store.worker.pid)  # type: ignore[union-attr]
                assert guest.call("collect", [1, 2, 3], *PACE, 3) == [1, 2, 3]
                if left == "a stream":
                    kept: Any = guest.call("same", iter(range(10**9)))
                elif left == "a future":
                    kept = guest.call("same-future", FutureWriter())
                else:
                    kept = guest.call("feed", list(range(1000)), *PACE)
                    assert kept.read(3)
            del kept
        assert len(set(served)) == 1
        assert os.path.exists(f"/proc/{served[0]}")
