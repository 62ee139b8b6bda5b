"""Streams and futures between an application and a worker that lies: violations end it, and nothing is lost or told."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from aegis import HostError, QuotaExceeded, SandboxStateError, WorkerCrashed
from aegis.isolation.protocol.errors import to_plain
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Liar, Peer, done, lying

pytestmark = only_where_there_are_workers
DROP, TAKE, UNTAKE = -1, -4, -5
COMPONENT = """(component
  (import "thing" (type $thing (sub resource)))
  (import "use" (func (param "t" (borrow $thing)) (result u32)))
  (type $own (own $thing))
  (type $numbers (stream u32))
  (type $bytes (stream u8))
  (type $things (stream $own))
  (type $text (future string))
  (type $gift (future $own))
  (core module $m (memory (export "memory") 1)
    (func (export "f") (param i32) (result i32) local.get 0)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 64))
  (core instance $m (instantiate $m))
  (func (export "numbers") (param "s" $numbers) (result $numbers) (canon lift (core func $m "f")))
  (func (export "bytes") (param "s" $bytes) (result $bytes) (canon lift (core func $m "f")))
  (func (export "things") (param "s" $things) (result u32) (canon lift (core func $m "f")))
  (func (export "text") (param "s" $text) (result $text) (canon lift (core func $m "f")))
  (func (export "gift") (param "s" $gift) (result u32) (canon lift (core func $m "f")))
  (func (export "back") (param "n" u32) (result $things) (canon lift (core func $m "f")))
  (func (export "whole") (param "t" $own) (result u32) (canon lift (core func $m "f"))))"""


def asked(request: int, number: int, values: list[Any]) -> list[Any]:
    """Return the message of a request; elements may come later."""
    return ["later" if number == TAKE else "host", request, number, values]


class Thing:
    def __init__(self) -> None:
        self.dropped = 0

    def __drop__(self) -> None:
        self.dropped += 1


class Conversation:
    """The worker's side: makes requests during the first call, answers it, and answers later requests in order.

    In a request, ``...`` is the number of the argument. ``heard`` are the answers of the parent.
    """

    def __init__(self, requests: list[tuple[int, list[Any]]], result: Any = 1, later: tuple[Any, ...] = ()) -> None:
        self.requests, self.result, self.later = requests, result, list(later)
        self.heard: list[Any] = []
        self.calls = 0

    def __call__(self, peer: Peer, message: Any) -> None:
        if message[0] != "call":
            answer = self.later.pop(0) if self.later else None
            peer.send(done(answer))
            return
        self.calls += 1
        if self.calls == 1:
            for mine, (number, values) in enumerate(self.requests, 1):
                peer.send(asked(mine, number, [message[2][0] if v is ... else v for v in values]))
                self.heard.append(peer.recv())
                if self.heard[-1][2]:
                    peer.send(["fail", to_plain(HostError("a host function raised")), GOOD, []])
                    return
        peer.send(done(self.result))


def box(script: Any, **policy: Any) -> tuple[Any, Liar]:
    return lying(COMPONENT, script, {"use": lambda thing: 1}, **policy)


def closing(values: Any, log: list[str]) -> Generator[Any, None, None]:
    try:
        yield from values
    finally:
        log.append("closed")


# -- what the guest reads -------------------------------------------------------------------------

VIOLATIONS: dict[str, list[tuple[int, list[Any]]]] = {
    "a number never given": [(TAKE, [77, 1])],
    "a negative number": [(TAKE, [-1, 1])],
    "a huge number": [(TAKE, [1 << 200, 1])],
    "a text for a number": [(TAKE, ["1", 1])],
    "a truth for a number": [(TAKE, [True, 1])],
    "a list for a number": [(TAKE, [[1], 1])],
    "no elements": [(TAKE, [..., 0])],
    "fewer than none": [(TAKE, [..., -1])],
    "too many": [(TAKE, [..., (1 << 16) + 1])],
    "a float for a count": [(TAKE, [..., 1.0])],
    "no count": [(TAKE, [...])],
    "too long": [(TAKE, [..., 1, 1])],
    "nothing": [(TAKE, [])],
    "dropped twice": [(UNTAKE, [...]), (UNTAKE, [...])],
    "read after its drop": [(UNTAKE, [...]), (TAKE, [..., 1])],
    "read after its end": [(TAKE, [..., 100]), (TAKE, [..., 100]), (TAKE, [..., 1])],
    "dropped after its end": [(TAKE, [..., 100]), (TAKE, [..., 100]), (UNTAKE, [...])],
    "dropped as an object": [(DROP, [...])],
    "used as an object": [(0, [...])],
    "another that was never given dropped": [(UNTAKE, [2])],
    "a text dropped": [(UNTAKE, ["1"])],
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_false_request_for_elements_ends_the_worker_and_closes_the_stream(name: str) -> None:
    values = closing([1, 2, 3], [])
    sandbox, liar = box(Conversation(VIOLATIONS[name], None))
    with sandbox:
        with pytest.raises(WorkerCrashed):
            sandbox.call("numbers", values)
        assert liar.killed.is_set()
    assert inspect.getgeneratorstate(values) == inspect.GEN_CLOSED


def test_true_requests_for_elements_are_served() -> None:
    script = Conversation([(TAKE, [..., 2]), (TAKE, [..., 2]), (TAKE, [..., 2])], 5)
    sandbox, _ = box(script)
    with sandbox:
        sandbox.call("numbers", [1, 2, 3])
    assert [each[2:] for each in script.heard] == [[False, [1, 2]], [False, [3]], [False, None]]


def test_an_object_is_no_stream() -> None:
    for request in ((TAKE, [..., 1]), (UNTAKE, [...])):
        thing = Thing()
        sandbox, _ = box(Conversation([request]))
        with sandbox, pytest.raises(WorkerCrashed):
            sandbox.call("whole", thing)
        assert thing.dropped <= 1


def test_the_value_of_a_future_is_given_once() -> None:
    thing = Thing()
    script = Conversation([(TAKE, [..., 1]), (TAKE, [..., 1])])
    sandbox, _ = box(script)
    with sandbox, pytest.raises(WorkerCrashed):
        sandbox.call("gift", thing)
    assert thing.dropped == 1
    assert len(script.heard) == 1


def test_a_future_that_was_read_is_no_handle_any_more() -> None:
    script = Conversation([], 1)
    script_calls: list[Any] = []

    def each(peer: Peer, message: Any) -> None:
        if message[0] == "call":
            peer.send(asked(1, TAKE, [message[2][0], 1]))
            script_calls.append(peer.recv())
            peer.send(done(len(script_calls)))
        else:
            script(peer, message)

    sandbox, _ = box(each, handles=3)
    with sandbox:
        for number in range(1, 9):
            sandbox.call("text", "value").close()
            assert script_calls[-1][2:] == [False, ["value"]]
            assert len(script_calls) == number


def test_an_element_that_fails_leaves_no_object_with_the_guest() -> None:
    """The first elements of the request were numbered before the last one failed: the application keeps them."""
    one, two = Thing(), Thing()
    sandbox, _ = box(Conversation([(TAKE, [..., 10])]))
    with sandbox, pytest.raises(HostError):
        sandbox.call("things", [one, two, None])
    assert (one.dropped, two.dropped) == (0, 0)


def test_an_element_that_arrives_is_dropped_once() -> None:
    one, two = Thing(), Thing()
    script = Conversation([(TAKE, [..., 10])])
    sandbox, _ = box(script)
    with sandbox:
        assert sandbox.call("things", [one, two]) == 1
    assert (one.dropped, two.dropped) == (1, 1)


SECRET = "/home/secret/path"


def failing() -> Iterator[Any]:
    yield 1
    raise FileNotFoundError(2, "No such file", SECRET)


def wrong() -> Iterator[Any]:
    yield SECRET


@pytest.mark.parametrize(("values", "takes"), [(failing, 2), (failing, 1), (wrong, 1)])
def test_errors_of_the_applications_iterator_tell_the_worker_nothing(values: Any, takes: int) -> None:
    script = Conversation([(TAKE, [..., takes]), (TAKE, [..., 1])])
    sandbox, _ = box(script)
    with sandbox, pytest.raises(HostError) as caught:
        sandbox.call("numbers", values())
    assert any(answer[2] for answer in script.heard)
    assert SECRET not in repr(script.heard), "the worker learns nothing"
    assert "FileNotFoundError" in str(caught.value) or "wrong element" in str(caught.value), "the application does"


def test_a_stream_whose_close_raises_does_not_keep_the_others_open() -> None:
    log: list[str] = []

    def broken() -> Iterator[Any]:
        try:
            yield 1
            yield 2
        finally:
            log.append("broken")
            raise RuntimeError("no")

    def each(peer: Peer, message: Any) -> None:
        if message[0] == "call":
            peer.send(asked(1, TAKE, [message[2][0], 1]))
            peer.recv()
            peer.send(done(message[2][0] + 100))
        else:
            peer.send(done(None))

    sandbox, _ = box(each)
    with sandbox:
        readers = [sandbox.call("numbers", made) for made in (closing([1, 2], log), broken(), closing([1, 2], log))]
        assert len(readers) == 3
    assert log == ["closed", "broken", "closed"]


@pytest.mark.parametrize("read", [False, True])
def test_an_object_that_comes_back_in_a_stream_is_the_applications(read: bool) -> None:
    thing = Thing()

    def each(peer: Peer, message: Any) -> None:
        answers = {"call": 5, "take": [1], "untake": None}
        peer.send(done(answers[message[0]]))

    sandbox, _ = box(each)
    with sandbox:
        sandbox.call("whole", thing)
        things = sandbox.call("back", 0)
        if read:
            assert next(things) is thing
            with pytest.raises(WorkerCrashed):  # the guest has it no more
                next(things)
    assert thing.dropped == (0 if read else 1)


# -- what the application reads -------------------------------------------------------------------

FALSE_ELEMENTS: dict[str, tuple[str, Any]] = {
    "more than requested": ("numbers", [1, 2, 3]),
    "more bytes than requested": ("bytes", b"abc"),
    "no numbers": ("numbers", []),
    "no bytes": ("bytes", b""),
    "numbers out of range": ("numbers", [1 << 32]),
    "texts": ("numbers", ["a"]),
    "bytes for numbers": ("numbers", b"a"),
    "numbers for bytes": ("bytes", [1]),
    "a number": ("numbers", 1),
    "a dictionary": ("numbers", {}),
}


@pytest.mark.parametrize("name", FALSE_ELEMENTS)
def test_false_elements_end_the_worker(name: str) -> None:
    export, answer = FALSE_ELEMENTS[name]
    sandbox, liar = box(Conversation([], 5, (answer,)))
    with sandbox:
        reader = sandbox.call(export, b"" if export == "bytes" else [])
        with pytest.raises(WorkerCrashed):
            reader.read(2)
        assert liar.killed.is_set()
        with pytest.raises(SandboxStateError, match="closed or replaced"):
            reader.read(2)


def test_true_elements_arrive() -> None:
    for export, answer in (("numbers", [1, 2]), ("bytes", b"ab")):
        sandbox, _ = box(Conversation([], 5, (answer, None)))
        with sandbox:
            reader = sandbox.call(export, b"" if export == "bytes" else [])
            assert reader.read(2) == answer
            assert not reader.read(2)
            assert not reader.read(2), "the end is the end"


def test_a_future_has_one_value() -> None:
    for answer, fits in ((["a"], True), (["a", "b"], False), ([], False), ([1], False)):
        sandbox, _ = box(Conversation([], 5, (answer,)))
        with sandbox:
            future = sandbox.call("text", "x")
            if fits:
                assert (future.result(), future.result()) == ("a", "a")
            else:
                with pytest.raises(WorkerCrashed):
                    future.result()


@pytest.mark.parametrize("number", [-1, 1 << 53, "1", None, True, 1.0, [1]])
def test_a_false_number_of_a_stream_ends_the_worker(number: Any) -> None:
    sandbox, _ = box(Conversation([], number))
    with sandbox, pytest.raises(WorkerCrashed):
        sandbox.call("numbers", [])


def test_the_same_stream_is_not_given_out_twice() -> None:
    sandbox, _ = box(Conversation([], 5))
    with sandbox:
        reader = sandbox.call("numbers", [])
        with pytest.raises(WorkerCrashed):
            sandbox.call("numbers", [])
        reader.close()


def test_streams_count_as_handles_with_the_objects() -> None:
    """One limit for all: two streams of the application and one object make three."""
    numbers = iter(range(5, 100))

    def each(peer: Peer, message: Any) -> None:
        peer.send(["done", next(numbers) if message[0] == "call" else None, GOOD, []])

    sandbox, _ = box(each, handles=4)
    with sandbox:
        first = sandbox.call("numbers", [])
        assert sandbox.call("whole", Thing()) == 6
        assert sandbox.call("whole", Thing()) == 7
        with pytest.raises(QuotaExceeded, match="handles"):
            sandbox.call("whole", Thing())
        first.close()


def test_requests_without_end_stop_at_the_deadline() -> None:
    def each(peer: Peer, message: Any) -> None:
        if message[0] == "call":
            for mine in range(1, 10_000_000):
                peer.send(asked(mine, TAKE, [message[2][0], 1]))
                if peer.recv()[2]:
                    break
            while True:
                peer.send(asked(1, TAKE, [message[2][0], 1]))
                peer.recv()

    def endless() -> Iterator[int]:
        while True:
            yield 1

    sandbox, _ = box(each, timeout="300ms")
    with sandbox:
        outcome = sandbox.run("numbers", endless())
        assert outcome.status == "timeout"
