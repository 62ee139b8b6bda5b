"""Whatever a worker sends, the parent ends in a documented error, in time, and makes no call that it must not make."""

from __future__ import annotations

import math
import struct
import threading
import time
from typing import Any

import pytest

from aegis import Aegis, AegisError, Cancelled, CollectingSubscriber, DeadlineExceeded, Outcome, WorkerCrashed
from aegis.isolation.protocol.channel import encode
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Peer, account, done, host, lying, said

pytestmark = only_where_there_are_workers
TEXT = """(module
  (import "env" "f" (func $f (param i32 f32) (result i32)))
  (memory (export "memory") 1)
  (global (export "g") (mut f32) (f32.const 0))
  (func (export "go") (param i32) (result i32) (call $f (local.get 0) (f32.const 0)))
  (func (export "two") (result i32 f32) (i32.const 0) (f32.const 0))
  (func (export "none")))"""


def frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def listed(*items: bytes) -> bytes:
    return struct.pack("<cI", b"l", len(items)) + b"".join(items)


def part(offset: int, length: int, kind: bytes = b"B") -> bytes:
    return struct.pack("<cQQ", kind, offset, length)


REGION = 256 << 20
RAW: dict[str, bytes] = {
    "garbage": b"\xff" * 100,
    "a frame of four gigabytes": struct.pack("<I", 0xFFFF_FFFF) + b"n",
    "an empty frame": frame(b""),
    "an unknown kind": frame(b"Z"),
    "something behind the value": frame(b"nn"),
    "a text longer than its frame": frame(struct.pack("<cI", b"s", 1000) + b"x"),
    "a text that is none": frame(struct.pack("<cI", b"s", 2) + b"\xff\xff"),
    "a list longer than its frame": frame(struct.pack("<cI", b"l", 1 << 31)),
    "lists in lists": frame(struct.pack("<cI", b"l", 1) * 100_000 + b"n"),
    "mappings in mappings": frame((struct.pack("<cI", b"m", 1) + b"s\x00\x00\x00\x00") * 10_000 + b"n"),
    "a key that is a list": frame(struct.pack("<cI", b"m", 1) + listed() + b"n"),
    "more values than memory is for": frame(struct.pack("<cI", b"l", 1 << 25) + b"n" * (1 << 25)),
    "a number of a megabyte": frame(struct.pack("<cI", b"I", 1 << 20) + bytes(1 << 20)),
    "memory before the region's end": frame(part(REGION - 1, 2)),
    "memory beyond all": frame(part((1 << 64) - 1, (1 << 64) - 1)),
    "the same memory many times": frame(listed(*[part(0, REGION)] * 1000)),
    "a text before the region's end": frame(part(REGION - 1, 2, b"S")),
    "a text beyond all": frame(part((1 << 64) - 1, (1 << 64) - 1, b"S")),
    "the same text many times": frame(listed(*[part(0, REGION, b"S")] * 1000)),
    "a key beyond all": frame(struct.pack("<cI", b"m", 1) + part(1 << 40, 1, b"S") + b"n"),
}


def fail(*error: Any) -> list[Any]:
    return ["fail", *error, GOOD, []]


MESSAGES: list[Any] = [
    None, 5, "text", [], [[]], {}, {"host": 1}, ["what"], ["host"], host(1), host(1, 0), host("x", 0, [1, 1.0]),
    host(1, 99, [1, 1.0]), host(1, -5, [1, 1.0]), host(1, 0, []), host(1, 0, [1]), host(1, 0, ["1", 1.0]),
    host(1, 0, [1 << 31, 1.0]), host(1, 0, [True, 1.0]), host(1, 0, [1, 1]), host(1, 0, [1, 1e300]), host(1, 0, {}),
    host(1, 0, [1, 0.1]), host(1, True, [1, 1.0]), host(1, -1, [1]), host(1, -1, []), host(1, -2, []),
    host(1, 0, [1, 1.0], 5), host(1, None, [1, 1.0]), ["answer", 1, False, 3], ["setup", b""], ["custom", "x", 1],
    ["resolve"], ["resolve", 1, "a.example"], ["resolve", "x", []], ["times"], ["times", 1, "x", 1, 1],
    ["times", 1] * 3,
    ["rows"], ["rows", 1, 0, b"", 1], ["rows", None, 0, b"", 0],
    ["called"], ["called", "m", "n", "x", None], ["called", "m", "n", math.inf, None], ["called", "m", 5, 0.1, None],
    ["called", "m", "n", math.nan, None], ["called", "m", "n", -1.0, []], ["decided"], ["decided", 1, 2, 3, 4, 5, 6],
    ["decided", "filesystem", "read", "c", "yes", "d", "e"], ["decided", "a", "read", "c", True, "d", "e"],
    ["log"], ["log", [], "x"], ["log", {}, {}], ["log", "info", 1 << 99],
    ["done"], ["done", 1], ["done", 1, GOOD], done(1, b"", []), done(1, "x", []), done(1, GOOD, 5), done("x"),
    done([1]), done(1 << 31), done(True), done(1.0), done(None), done(1, GOOD, [], 1), done({}), fail(None), fail(5),
    fail(["X", "m", {}]), fail(["GuestTrap", 5, {}]), fail(["GuestTrap", "m", {"code": [], "frames": 5}]),
    fail(["GuestTrap", "m", {"code": "x", "frames": [[1, 2, 3, 4]]}]), fail([[], "m", {}]),
    fail(["AegisError", "", {}]),
    fail(["OutOfFuel", "m", {"limit": "x", "used": "y", "allowed": 1}]),
    fail(["GuestExit", "m", {"code": "\x1b"}]),
    ["rejected", None, GOOD, []], ["fault", "x", GOOD, []], ["fault", 5, GOOD, []],
    ["out"], ["out", 1, b"x"], ["out", 0, b"x", False], ["out", 3, b"x", False], ["out", 1, "x", False],
    ["out", True, b"x", False], ["out", 1, b"x", 0], ["out", [], b"x", False], ["in"], ["in", 1], ["in", 0], ["in", -1],
    ["in", True], ["in", 1 << 60], ["watch"], ["watch", 1], ["prepared"], ["took", 0], ["ready", True], ["lost", 1],
]  # fmt: skip


def refusing(*_: Any) -> Any:
    raise AssertionError("a host function was called that should not have been")


def ended(script: Any, ask: Any = None, **options: Any) -> BaseException:
    """Return the error of a question to a fake worker; it must be a documented one."""
    sandbox, liar = lying(TEXT, script, {"env": {"f": refusing}}, **options)
    try:
        with pytest.raises(AegisError) as caught:
            (ask or (lambda box: box.call("go", 1)))(sandbox)
        return caught.value
    finally:
        sandbox.close()
        liar.thread.join(10)
        assert not liar.thread.is_alive()
        assert liar.shared == -1, "it was discarded"


@pytest.mark.parametrize("name", RAW)
def test_frames_that_cannot_be_read_end_the_worker(name: str) -> None:
    assert isinstance(ended(said(RAW[name])), WorkerCrashed)


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages_that_mean_nothing_end_the_worker(number: int) -> None:
    error = ended(said(MESSAGES[number]))
    assert isinstance(error, WorkerCrashed)
    assert "protocol" in str(error)


@pytest.mark.parametrize(
    ("ask", "answers"),
    [
        (lambda box: box.memory.read(0, 4), [done(b"12345"), done(1 << 40), done("text"), done(None), done([1])]),
        (lambda box: box.memory.size, [done(-1), done("x"), done([]), done(1 << 60), done(None)]),
        (lambda box: box.memory.write(0, b"x"), [done(1), done([])]),
        (lambda box: box.globals["g"], [done(1), done(1e300), done("x"), done(None), done(True)]),
        (lambda box: box.call("two"), [done(None), done([1]), done([1.0, 1]), done([1, 2.0, 3]), done("ab")]),
        (lambda box: box.call("none"), [done(0), done([]), done("x")]),
    ],
    ids=["read", "size", "write", "global", "two", "none"],
)
def test_answers_of_another_type_than_the_question_end_the_worker(ask: Any, answers: list[Any]) -> None:
    for answer in answers:
        assert isinstance(ended(said(answer), ask), WorkerCrashed), answer


@pytest.mark.parametrize("answer", [None, 5, [5], [["a", True]], [[1, 2, 3]], "abc"])
def test_layers_that_cannot_be_read_end_the_worker_before_it_is_used(answer: Any) -> None:
    with pytest.raises(WorkerCrashed):
        lying(TEXT, said(), {"env": {"f": refusing}}, begins=said(done(answer)))


@pytest.mark.parametrize("answer", [["done"], ["done", 5], ["done", ["x", 1 << 80]], ["done", [1, 2]], ["fail"], [5]])
def test_a_malformed_final_report_is_no_obstacle(answer: Any) -> None:
    sandbox, _ = lying(TEXT, said(answer), {"env": {"f": refusing}})
    sandbox.close()
    assert sandbox.undelivered is None


# -- ends in the middle ---------------------------------------------------------------------------


def closing(*before: Any) -> Any:
    """Send this message, then exit."""
    speak = said(*before)

    def script(peer: Peer, message: Any) -> None:
        speak(peer, message)
        peer.socket.shutdown(2)

    return script


GO = encode(host(1, 0, [7, 0.5]))


@pytest.mark.parametrize("cut", range(0, len(GO) + 4, 5))
def test_a_worker_that_goes_in_the_middle_of_a_message_has_crashed(cut: int) -> None:
    assert isinstance(ended(closing(frame(bytes(GO))[:cut])), WorkerCrashed)


def test_a_worker_that_goes_at_once_or_while_its_host_call_is_served_has_crashed() -> None:
    with pytest.raises(WorkerCrashed):
        lying(TEXT, said(), {"env": {"f": refusing}}, begins=closing())
    calls: list[Any] = []

    def f(*values: Any) -> int:
        calls.append(values)
        return 1

    sandbox, _ = lying(TEXT, closing(host(1, 0, [7, 0.5])), {"env": {"f": f}})
    with sandbox, pytest.raises(WorkerCrashed):
        sandbox.call("go", 1)
    assert calls == [(7, 0.5)]


# -- floods ---------------------------------------------------------------------------------------

EVENTS = [
    ["called", "m", "n", 0.1, None], ["decided", "filesystem", "read", "c", True, "d", "e"], ["log", "info", "x"],
]  # fmt: skip


def flooding(message: Any) -> Any:
    def script(peer: Peer, _: Any) -> None:
        while True:
            peer.send(message)

    return script


@pytest.mark.parametrize("message", EVENTS, ids=lambda m: m[0])
def test_a_flood_of_events_ends_at_the_deadline(message: Any) -> None:
    started = time.monotonic()
    assert isinstance(ended(flooding(message), timeout="200ms"), DeadlineExceeded)
    assert time.monotonic() - started < 5


def test_a_flood_of_events_ends_by_cancelling_it() -> None:
    sandbox, _ = lying(TEXT, flooding(EVENTS[0]), {"env": {"f": refusing}})
    threading.Timer(0.1, sandbox.cancel).start()
    started = time.monotonic()
    with sandbox, pytest.raises(Cancelled):
        sandbox.call("go", 1)
    assert time.monotonic() - started < 5


def test_a_flood_in_place_of_the_final_report_ends_too() -> None:
    sandbox, _ = lying(TEXT, flooding(EVENTS[0]), {"env": {"f": refusing}})
    started = time.monotonic()
    sandbox.close()
    assert time.monotonic() - started < 5


def test_a_trickle_of_bytes_ends_at_the_deadline() -> None:
    def trickle(peer: Peer, _: Any) -> None:
        peer.socket.sendall(struct.pack("<I", 1 << 20))
        while True:
            peer.socket.sendall(b"n")
            threading.Event().wait(0.01)

    started = time.monotonic()
    assert isinstance(ended(trickle, timeout="200ms"), DeadlineExceeded)
    assert time.monotonic() - started < 5


def test_a_worker_that_never_reads_what_it_is_sent_is_killed_at_the_deadline() -> None:
    def deaf(peer: Peer, _: Any) -> None:
        for _ in range(10_000):
            peer.socket.sendall(frame(bytes(GO)))
        threading.Event().wait(5)

    sandbox, _ = lying(TEXT, deaf, {"env": {"f": lambda a, b: 1}}, timeout="300ms")
    with sandbox, pytest.raises((DeadlineExceeded, WorkerCrashed)):
        sandbox.call("go", 1)


def test_host_calls_end_at_their_limit_whatever_the_worker_counts() -> None:
    calls: list[int] = []

    def endless(peer: Peer, _: Any) -> None:
        number = 0
        while True:
            number += 1
            peer.send(host(number, 0, [number, 0.5]))
            peer.recv()

    def f(number: int, _: float) -> int:
        calls.append(number)
        return 0

    sandbox, _ = lying(TEXT, endless, {"env": {"f": f}}, host_calls=20)
    with sandbox, pytest.raises(WorkerCrashed, match="host-call limit"):
        sandbox.call("go", 1)
    assert len(calls) == 20


def test_a_host_function_that_calls_back_is_not_led_into_an_endless_depth() -> None:
    def again(peer: Peer, _: Any) -> None:
        peer.send(host(1, 0, [1, 0.5]))

    calls: list[int] = []

    def f(number: int, _: float) -> Any:
        calls.append(number)
        return sandbox.call("go", 1)

    sandbox, _ = lying(TEXT, again, {"env": {"f": f}}, timeout="500ms")
    with sandbox:
        assert sandbox.run("go", 1).status in ("timeout", "host-error")
    assert 10 < len(calls) < 100


# -- counters, events, memory ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "reported",
    [
        account(*[-(1 << 63)] * 5, -1.0, *[-(1 << 63)] * 4), account(*[(1 << 63) - 1] * 5, 1e300, *[(1 << 63) - 1] * 4),
        account(seconds=math.nan), account(seconds=math.inf),
    ],
    ids=["negative", "huge", "nan", "infinite"],
)  # fmt: skip
def test_an_account_that_cannot_be_is_believed_only_as_far_as_it_can(reported: bytes) -> None:
    sandbox, _ = lying(TEXT, said(done(1, reported, [])), {"env": {"f": refusing}}, memory="1MiB", fuel=1000)
    with sandbox:
        before = sandbox.usage
        outcome: Outcome = sandbox.run("go", 1)
        used = sandbox.usage
        assert outcome.ok
        assert used.fuel is not None
        assert 0 <= used.fuel <= 1000
        assert 0 <= used.peak_memory <= 1 << 20
        assert 0 <= before.host_calls <= used.host_calls
        assert math.isfinite(used.host_seconds or 0.0)
        assert min(used.bytes_in, used.bytes_out, used.denials, used.stdout, used.stderr) >= 0


def test_no_text_of_a_worker_reaches_a_terminal_unescaped() -> None:
    seen = CollectingSubscriber()
    evil = "\x1b[2J\n\u202e"
    script = said(
        ["called", evil, evil, 0.1, evil], ["decided", evil, evil, evil, False, evil, evil],
        fail(["GuestTrap", evil, {"code": evil, "frames": [[1, evil, 2]]}]),
    )  # fmt: skip
    sandbox, _ = lying(TEXT, script, {"env": {"f": refusing}}, subscribers=[seen])
    with sandbox:
        outcome = sandbox.run("go", 1)
    reported = "".join(map(repr, seen.events)) + str(outcome.error) + "".join(str(e) for e in seen.events)
    assert len(seen.events) > 3
    assert all(sign not in reported for sign in "\x1b\n\u202e")


def test_memory_that_changes_while_it_is_read_gives_a_value_all_the_same() -> None:
    stop = threading.Event()
    length = 1 << 20

    def changing(peer: Peer, message: Any) -> None:
        peer.send(done(b"a" * length))
        view = peer.outgoing.view()  # type: ignore[union-attr]
        while not stop.is_set():
            view[:length] = b"b" * length
            if peer.socket.recv(1, 0x40):
                return

    sandbox, _ = lying(TEXT, changing, {"env": {"f": refusing}})
    found = sandbox.memory.read(0, length)
    assert type(found) is bytes
    assert len(found) == length
    assert bytes(found) == found
    stop.set()
    sandbox.close()


def test_a_runtime_outlives_a_lying_worker() -> None:
    aegis: Aegis
    sandbox, _ = lying(TEXT, said(b"\xff" * 10), {"env": {"f": lambda a, b: 42}})
    aegis = sandbox._run.backend  # type: ignore[assignment]
    del aegis.pool.take  # type: ignore[attr-defined]
    with sandbox:
        with pytest.raises(WorkerCrashed):
            sandbox.call("go", 1)
        assert sandbox.call("go", 1) == 42
