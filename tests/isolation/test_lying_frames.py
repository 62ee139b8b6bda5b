"""A worker that answers a call by an invalid fixed frame: the call returns a value of its type, or the worker is ended.

The fake worker answers the first call by a general message, as a real one does, and later ones as the test directs.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from aegis import DeadlineExceeded, Sandbox, WorkerCrashed
from aegis.isolation.protocol.specs import ACCOUNT
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import GOOD, Liar, Peer, account, done, host, lying, ready

pytestmark = only_where_there_are_workers
MODULE = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) local.get 0)
  (func (export "single") (param f32) (result f32) local.get 0)
  (func (export "two") (result i64 f64) i64.const 0 f64.const 0)
  (func (export "none")))"""
COMPONENT = """(component
  (core module $m (func (export "f") (param i32) (result i32) local.get 0))
  (core instance $i (instantiate $m))
  (type $t (enum "red" "green" "blue"))
  (export $e "colour" (type $t))
  (func (export "bool") (param "x" bool) (result bool) (canon lift (core func $i "f")))
  (func (export "char") (param "x" char) (result char) (canon lift (core func $i "f")))
  (func (export "enum") (param "x" $e) (result $e) (canon lift (core func $i "f")))
  (func (export "s8") (param "x" s8) (result s8) (canon lift (core func $i "f"))))"""

Answer = Callable[[int], bytes]
"""Returns the fake worker's answer to a call of this number."""


def fixed(mine: int, results: bytes = b"", *, kind: bytes = b"r", told: bytes = GOOD, more: int = 0) -> bytes:
    """Return an answer; its length is wrong by ``more``."""
    body = kind + struct.pack("<I", mine) + told + results
    return struct.pack("<I", len(body) + more) + body


def i32(value: int) -> bytes:
    return struct.pack("<i", value)


def scripted(first: Any, *answers: Answer | list[Any]) -> Any:
    """Answer the first call with the value ``first``, and later requests with ``answers``, one after another."""
    left = iter(answers)

    def script(peer: Peer, message: Any) -> None:
        if isinstance(message, bytes):
            (mine,) = struct.unpack_from("<I", message, 5)
        elif message[0] == "call":
            peer.send(done(first))
            return
        else:
            mine = 0
        answer = next(left)
        if callable(answer):
            peer.socket.sendall(answer(mine))
        else:
            peer.send(answer)

    return script


def refusing(*_: Any) -> Any:
    raise AssertionError("a host function was called that should not have been")


def begun(text: str, first: Any, *answers: Any, **options: Any) -> tuple[Sandbox, Liar]:
    imports = {"env": {"f": refusing}} if text is MODULE else None
    return lying(text, scripted(first, *answers), imports, **options)


WRONG: dict[str, Answer] = {
    "no result": lambda n: fixed(n),
    "half a result": lambda n: fixed(n, b"\0\0"),
    "a result of 64 bits": lambda n: fixed(n, i32(1) + i32(0)),
    "two results": lambda n: fixed(n, i32(1) * 2),
    "a byte behind it": lambda n: fixed(n, i32(1)) + b"\0",
    "half of it behind it": lambda n: fixed(n, i32(1)) + fixed(n, i32(1))[:20],
    "the same twice at once": lambda n: fixed(n, i32(1)) * 2,
    "a length that is too small": lambda n: fixed(n, i32(1), more=-1),
    "a length of nothing": lambda n: struct.pack("<I", 0) + fixed(n, i32(1))[4:],
    "a length of four gigabytes": lambda n: b"\xff" * 4 + fixed(n, i32(1))[4:],
    "a call": lambda n: fixed(n, i32(1), kind=b"c"),
    "another kind": lambda n: fixed(n, i32(1), kind=b"R"),
    "no kind": lambda n: fixed(n, i32(1), kind=b"\0"),
    "an answer to the call before": lambda n: fixed(n - 1, i32(1)),
    "an answer to the next call": lambda n: fixed(n + 1, i32(1)),
    "an answer to no call": lambda n: fixed(0xFFFF_FFFF, i32(1)),
    "no account": lambda n: fixed(n, i32(1), told=b""),
    "a longer account": lambda n: fixed(n, i32(1), told=GOOD + bytes(8)),
    "a shorter account": lambda n: fixed(n, i32(1), told=GOOD[:-8]),
    "noise": lambda n: b"\xff" * len(fixed(n, i32(1))),
    "zeros": lambda n: bytes(len(fixed(n, i32(1)))),
    "a general answer behind it": lambda n: fixed(n, i32(1)) + general(done(1)),
    "a general answer before it": lambda n: general(["log", "info", "x"]) + fixed(n, i32(1)),
}


def general(message: Any) -> bytes:
    from aegis.isolation.protocol.channel import encode

    body = bytes(encode(message))
    return struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("name", WRONG)
def test_a_frame_that_is_not_the_answer_to_this_call_ends_the_worker(name: str) -> None:
    sandbox, liar = begun(MODULE, 5, WRONG[name])
    with sandbox:
        assert sandbox.call("go", 5) == 5
        with pytest.raises(WorkerCrashed, match="protocol"):
            sandbox.call("go", 5)
        assert liar.killed.is_set()
    assert liar.shared == -1, "it was discarded"


@pytest.mark.parametrize("name", ["single", "two", "none"])
def test_an_answer_of_the_length_of_another_signature_ends_the_worker(name: str) -> None:
    good = {"single": struct.pack("<f", 0.5), "two": struct.pack("<qd", 1, 0.5), "none": b""}
    values = {"single": (0.5,), "two": (), "none": ()}
    first = {"single": 0.5, "two": [1, 0.5], "none": None}
    for other, results in (*good.items(), ("padded", good[name] + b"\0"), ("cut", good[name][:-1] + b"\0" * 9)):
        sandbox, _ = begun(MODULE, first[name], lambda n, results=results: fixed(n, results))
        with sandbox:
            sandbox.call(name, *values[name])
            if results == good[name]:
                wanted = first[name]
                assert sandbox.call(name, *values[name]) == (tuple(wanted) if isinstance(wanted, list) else wanted)
            else:
                with pytest.raises(WorkerCrashed, match="protocol"):
                    sandbox.call(name, *values[name])
                assert other != name


@pytest.mark.parametrize(
    ("name", "argument", "first", "good", "bad"),
    [
        ("bool", True, True, {b"\0": False, b"\1": True}, [b"\2", b"\xff", b"\x80"]),
        (
            "char", "x", "x", {i32(0): "\0", i32(0xD7FF): "\ud7ff", i32(0xE000): "\ue000", i32(0x10FFFF): "\U0010ffff"},
            [i32(0xD800), i32(0xDFFF), i32(0x110000), i32(-1), i32(-(1 << 31))],
        ),
        ("s8", 1, 1, {b"\x80": -128, b"\x7f": 127}, [b"\0\0", b""]),
    ],
)  # fmt: skip
def test_a_value_that_its_type_does_not_have_ends_the_worker(
    name: str, argument: Any, first: Any, good: dict[bytes, Any], bad: list[bytes]
) -> None:
    sandbox, _ = begun(COMPONENT, first, *[lambda n, results=results: fixed(n, results) for results in good])
    with sandbox:
        sandbox.call(name, argument)
        assert [sandbox.call(name, argument) for _ in good] == list(good.values())
    for results in bad:
        sandbox, _ = begun(COMPONENT, first, lambda n, results=results: fixed(n, results))
        with sandbox:
            sandbox.call(name, argument)
            with pytest.raises(WorkerCrashed, match="protocol"):
                sandbox.call(name, argument)


def test_a_case_that_its_enum_does_not_have_ends_the_worker() -> None:
    for number in (0, 2, 3, 255):
        sandbox, _ = begun(COMPONENT, 1, lambda n, number=number: fixed(n, bytes((number,))))
        with sandbox:
            case = sandbox.call("enum", "green")
            assert case.value == "green"
            if number < 3:
                assert sandbox.call("enum", case).value == ("red", "green", "blue")[number]
            else:
                with pytest.raises(WorkerCrashed, match="protocol"):
                    sandbox.call("enum", case)


def test_an_unsolicited_answer_is_not_taken_for_that_of_the_next_call() -> None:
    """It waits in the socket, and has the length and the kind that the next call expects."""
    twice = scripted(5, lambda n: fixed(n, i32(1)), lambda n: fixed(n, i32(2)))

    def script(peer: Peer, message: Any) -> None:
        twice(peer, message)
        if isinstance(message, bytes):
            peer.socket.sendall(fixed(struct.unpack_from("<I", message, 5)[0], i32(9)))

    sandbox, _ = lying(MODULE, script, {"env": {"f": refusing}})
    with sandbox:
        sandbox.call("go", 5)
        with pytest.raises(WorkerCrashed, match="protocol"):
            assert _twice(sandbox) == [1, 2]


def _twice(sandbox: Sandbox) -> list[int]:
    """Call twice: the invalid answer may arrive together with the first one, or after it."""
    return [sandbox.call("go", 5), sandbox.call("go", 5)]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_answer_before_any_call_is_rejected(number: int) -> None:
    def begins(peer: Peer, message: Any) -> None:
        ready(peer, message)
        peer.socket.sendall(fixed(number, i32(9)))

    sandbox, _ = lying(MODULE, scripted(5), {"env": {"f": refusing}}, begins=begins)
    with sandbox, pytest.raises(WorkerCrashed, match="protocol"):
        sandbox.call("go", 5)


@pytest.mark.parametrize("mine", [0, 1, 2])
def test_a_fixed_answer_to_a_general_message_ends_the_worker(mine: int) -> None:
    def script(peer: Peer, message: Any) -> None:
        assert isinstance(message, list)
        peer.socket.sendall(fixed(mine, i32(1)))

    for ask in (lambda box: box.memory.size, lambda box: box.memory.read(0, 4), lambda box: box.call("go", 1)):
        sandbox, _ = lying(MODULE, script, {"env": {"f": refusing}})
        with sandbox, pytest.raises(WorkerCrashed, match="protocol"):
            ask(sandbox)


def test_a_general_answer_to_a_fixed_call_is_held_to_the_same_types() -> None:
    for answer in ("x", None, True, 1.0, 1 << 31, [1], [], {}):
        sandbox, _ = begun(MODULE, 5, done(answer))
        with sandbox:
            sandbox.call("go", 5)
            with pytest.raises(WorkerCrashed, match="protocol"):
                sandbox.call("go", 5)
    for message in (
        ["rejected", None, GOOD, []],
        ["fault", "x", GOOD, []],
        done(1, GOOD, 5),
        ["done", 1],
        host(1, 0, []),
    ):
        sandbox, _ = begun(MODULE, 5, message)
        with sandbox:
            sandbox.call("go", 5)
            with pytest.raises(WorkerCrashed, match="protocol"):
                sandbox.call("go", 5)
    sandbox, _ = begun(MODULE, 5, done(7), lambda n: fixed(n, i32(8)))
    with sandbox:
        assert [sandbox.call("go", 5) for _ in range(3)] == [5, 7, 8]


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 20, -1])
def test_an_answer_that_stops_in_the_middle_ends_at_the_deadline_or_with_the_worker(cut: int) -> None:
    whole = scripted(5, lambda n: fixed(n, i32(1))[:cut])

    def closing(peer: Peer, message: Any) -> None:
        whole(peer, message)
        if isinstance(message, bytes):
            peer.socket.shutdown(2)

    for script, ended in ((whole, DeadlineExceeded), (closing, WorkerCrashed)):
        whole = scripted(5, lambda n: fixed(n, i32(1))[:cut])
        sandbox, _ = lying(MODULE, script, {"env": {"f": refusing}}, timeout="300ms")
        started = time.monotonic()
        with sandbox:
            sandbox.call("go", 5)
            with pytest.raises(ended):
                sandbox.call("go", 5)
        assert time.monotonic() - started < 5


def test_an_answer_after_the_deadline_is_discarded() -> None:
    def late(n: int) -> bytes:
        until = sandbox._run.door.deadline
        while time.monotonic() < until:
            pass
        return fixed(n, i32(1))

    sandbox, _ = begun(MODULE, 5, late, timeout="200ms", isolation={"workers": 0, "grace": "10s"})
    with sandbox:
        sandbox.call("go", 5)
        with pytest.raises(DeadlineExceeded):
            sandbox.call("go", 5)


@pytest.mark.parametrize(
    "told",
    [
        account(*[-(1 << 63)] * 5, -1.0, *[-(1 << 63)] * 4), account(*[(1 << 63) - 1] * 5, 1e300, *[(1 << 63) - 1] * 4),
        account(seconds=math.nan), account(seconds=math.inf), b"\xff" * ACCOUNT.size, bytes(ACCOUNT.size),
    ],
    ids=["negative", "huge", "nan", "infinite", "ones", "zeros"],
)  # fmt: skip
def test_an_account_in_a_fixed_answer_is_believed_only_as_far_as_it_is_possible(told: bytes) -> None:
    answers = [lambda n: fixed(n, i32(1), told=told), lambda n: fixed(n, i32(1)), lambda n: fixed(n, i32(1), told=told)]
    sandbox, _ = begun(MODULE, 5, *answers, memory="1MiB", fuel=1000, timeout=None)
    with sandbox:
        sandbox.call("go", 5)
        before = sandbox.usage
        for _ in answers:
            outcome = sandbox.run("go", 1)
            used = sandbox.usage
            assert outcome.ok
            assert used.fuel is not None
            assert 0 <= used.fuel <= 1000
            assert 0 <= used.peak_memory <= 1 << 20
            assert 0 <= before.host_calls <= used.host_calls
            assert math.isfinite(used.host_seconds or 0.0)
            assert min(used.bytes_in, used.bytes_out, used.denials, used.stdout, used.stderr) >= 0
            before = used
