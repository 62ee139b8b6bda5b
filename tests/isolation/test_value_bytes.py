"""The memory that one value may take in either process, whichever side sends it.

Oracle: ``tracemalloc``. The values of a message take at most as much in CPython as ``value_bytes`` counts, and no
process allocates more than a small multiple of ``value_bytes`` for a message, whatever the other process sends.
"""

from __future__ import annotations

import gc
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from aegis.engine.call.door import Door
from aegis.errors import QuotaExceeded, WorkerCrashed
from aegis.isolation.protocol.channel import ProtocolError, decode, encode
from aegis.isolation.protocol.wit_values import Signature, message_budget, packer, unpacker
from aegis.limits import Limits
from aegis.wit.python_types import with_python_types
from aegis.wit.types import Enum, Flags, Function, List, Option, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok, Some
from tests.echo import echo_component
from tests.isolation.isolated import only_where_there_are_workers, runtime
from tests.isolation.liar import GOOD, Peer, host, lying
from tests.wit.strategies import typed_values

MIB = 1 << 20
NO_HANDLES: Any = None
BITS: Any = with_python_types(Flags("bits", tuple(f"f{n}" for n in range(18))))
COLOUR: Any = with_python_types(Enum("colour", ("red", "green")))
SHAPE: Any = with_python_types(Variant("shape", (("circle", "u32"), ("none", None), ("named", "string"))))
PLACE: Any = with_python_types(Record("place", (("x", "s64"), ("colour", COLOUR), ("near", Option("u8")))))
RED = next(iter(COLOUR.python))

ELEMENTS: dict[str, tuple[WitType, Callable[[int], Any]]] = {
    "bool": ("bool", lambda n: True),
    "u8": ("u8", lambda n: n % 256),
    "u32": ("u32", lambda n: 1000 + n),
    "u64": ("u64", lambda n: (1 << 64) - 1 - n),
    "f64": ("f64", lambda n: n + 0.5),
    "char": ("char", lambda n: chr(0x1F600 + n % 99)),
    "string": ("string", lambda n: f"text {n}"),
    "accented string": ("string", lambda n: f"é {n}"),
    "wide string": ("string", lambda n: f"\U0001f600 {n}"),
    "list<u8>": (List("u8"), lambda n: b"%d" % n),
    "list<u16>": (List("u16"), lambda n: []),
    "list<string>": (List("string"), lambda n: [f"{n}", ""]),
    "tuple": (Tuple(("u32", "f32")), lambda n: (1000 + n, 0.5)),
    "tuple of tuples": (Tuple((Tuple((Tuple(("bool",)),)),)), lambda n: (((True,),),)),
    "option<u8>": (Option("u8"), lambda n: n % 256),
    "option<bool>": (Option("bool"), lambda n: True),
    "option<option<bool>>": (Option(Option("bool")), lambda n: Some(True)),
    "result, good": (Result("u32", None), lambda n: Ok(1000 + n)),
    "result, bad": (Result(), lambda n: Err(None)),
    "enum": (COLOUR, lambda n: RED),
    "option<enum>": (Option(COLOUR), lambda n: RED),
    "flags": (BITS, lambda n: BITS.python(300 + n)),
    "variant": (SHAPE, lambda n: SHAPE.python[0](1000 + n)),
    "variant without a payload": (SHAPE, lambda n: SHAPE.python[1]()),
    "variant with text": (SHAPE, lambda n: SHAPE.python[2](f"name {n}")),
    "record": (PLACE, lambda n: PLACE.python(1 << 60, RED, n % 256)),
}
"""A type, and a function that creates one value of it that shares no objects with the others."""


def door(value_bytes: int | None = None) -> Door:
    return Door(Limits(value_bytes=value_bytes))


def held(budget: Door) -> int:
    return budget.value_limit - budget.value_left


def memory(read: Callable[[], Any]) -> tuple[int, int]:
    """Return the size of the value that ``read`` returns, and the peak of the allocations."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = read()
        taken = tracemalloc.get_traced_memory()
        del kept
        return taken
    finally:
        tracemalloc.stop()


# -- what a value counts ----------------------------------------------------------------------------

COUNT = 2000


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", ELEMENTS)
def test_a_value_counts_no_less_than_its_size(name: str) -> None:
    of, make = ELEMENTS[name]
    sent, received = door(), door()
    plain = decode(encode(packer(List(of), NO_HANDLES, sent)([make(n) for n in range(COUNT)])))
    unpack = unpacker(List(of), NO_HANDLES, received)
    unpack(plain)  # flags cache their first combinations
    del plain
    message = encode(packer(List(of), NO_HANDLES, door())([make(n) for n in range(COUNT)]))
    taken, _ = memory(lambda: unpack(decode(message)))
    assert taken <= held(sent) * 1.05 + 2000
    assert held(received) == 2 * held(sent), "both sides count alike"


@pytest.mark.parametrize("name", ELEMENTS)
def test_values_within_value_bytes_fit_into_a_message(name: str) -> None:
    """A value that a worker may hold, its parent may receive."""
    of, make = ELEMENTS[name]
    budget = door()
    message = encode(packer(List(of), NO_HANDLES, budget)([make(n) for n in range(COUNT)]))
    values = message_budget(Limits(value_bytes=held(budget))) - message_budget(Limits(value_bytes=1))
    decode(message, budget=values + 100)


@settings(max_examples=100, deadline=None)
@given(typed_values())
def test_any_value_fits_the_message_that_its_size_allows(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    budget = door()
    function = Function((), List(of))
    message = encode(Signature(function, NO_HANDLES, budget).pack_result([value] * 200))
    decode(message, budget=3 * held(budget) + 100)


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("direction", ["pack", "unpack"])
def test_a_value_that_is_too_large_is_refused_before_it_is_made(name: str, direction: str) -> None:
    of, make = ELEMENTS[name]
    values = [make(n) for n in range(12 * COUNT)]
    plain = packer(List(of), NO_HANDLES, door())(values)
    limit = 20_000
    convert, given = (packer, values) if direction == "pack" else (unpacker, plain)

    def refused() -> None:
        with pytest.raises(QuotaExceeded) as caught:
            convert(List(of), NO_HANDLES, door(limit))(given)
        error = caught.value
        assert (error.limit, error.allowed) == ("value_bytes", limit)
        assert error.used is not None
        assert error.used > limit

    assert memory(refused)[1] < limit + 100_000  # of the test itself


def test_the_parameters_of_a_function_are_one_value_together_and_each_call_has_its_own() -> None:
    function = Function((("a", List("u8")), ("b", "string")), List("u8"))
    signature = Signature(function, NO_HANDLES, door(100))
    for _ in range(3):
        assert signature.pack([bytes(60), "x" * 40]) == [bytes(60), "x" * 40]
        assert signature.pack_result(bytes(100)) == bytes(100)
        assert signature.unpack([bytes(60), "x" * 40]) == [bytes(60), "x" * 40]
        assert signature.unpack_result(bytes(100)) == bytes(100)
    for refused in (
        lambda: signature.pack([bytes(60), "x" * 41]), lambda: signature.unpack([bytes(61), "x" * 40]),
        lambda: signature.pack_result(bytes(101)), lambda: signature.unpack_result(bytes(101)),
    ):  # fmt: skip
        with pytest.raises(QuotaExceeded, match=r"\(101/100 bytes in one value\): raise it with value_bytes or "):
            refused()


# -- what a worker sends ------------------------------------------------------------------------------

LIMIT = MIB


def many(item: bytes, count: int) -> bytes:
    return struct.pack("<cI", b"l", count) + item * count


def once(message: bytes | list[Any], answers: list[Any]) -> Callable[[Peer, Any], None]:
    """Send ``message`` when there is a call; the parent's answer to it ends the call."""

    def script(peer: Peer, asked: Any) -> None:
        if asked[0] != "call":
            answers.append(asked)
            peer.send(["fail", ["HostError", "a host function failed", {}], GOOD, []])
        elif isinstance(message, bytes):
            peer.socket.sendall(struct.pack("<I", len(message)) + message)
        else:
            peer.send(message)

    return script


LIES: dict[str, tuple[WitType, bytes, int]] = {
    # More of each than LIMIT allows, in plain data within the message's own budget.
    "flags": (BITS, b"i" + (77_777).to_bytes(8, "little"), 70_000),
    "bad results": (Result(), b"l\2\0\0\0i" + (1).to_bytes(8, "little") + b"n", 20_000),
    "records": (PLACE, b"l\3\0\0\0i" + b"\1" * 8 + b"i" + bytes(8) + b"n", 15_000),
    "options of options": (Option(Option("u8")), b"l\1\0\0\0l\1\0\0\0i" + b"\7" + bytes(7), 14_000),
    "texts": ("string", b"s\4\0\0\0abcd", 30_000),
}


@pytest.mark.usual(every=3)
@only_where_there_are_workers
@pytest.mark.parametrize("where", ["result", "argument"])
@pytest.mark.parametrize("name", LIES)
def test_a_lying_workers_values_take_no_more_than_value_bytes(name: str, where: str) -> None:
    """The plain data may take 3 times ``value_bytes``, the message as much, the values themselves once."""
    of, item, count = LIES[name]
    body = many(item, count)
    decode(body, budget=message_budget(Limits(value_bytes=LIMIT)))
    heard: list[Any] = []
    answers: list[Any] = []
    whole = (
        struct.pack("<cI", b"l", 4) + b"s\4\0\0\0done" + body + encode(b"\0" * 80) + b"l\0\0\0\0"
        if where == "result"
        else struct.pack("<cI", b"l", 4) + b"s\4\0\0\0host" + encode(1) + encode(0) + struct.pack("<cI", b"l", 1) + body
    )
    script = once(whole, answers)
    sandbox, _ = lying(echo_component(List(of)), script, {"echo": heard.append}, value_bytes=LIMIT)

    def call() -> None:
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("echo-back", [])
        assert caught.value.limit == "value_bytes"

    with sandbox:
        assert memory(call)[1] < 3 * LIMIT + len(whole) + LIMIT + MIB
    assert heard == []
    assert len(answers) == (where == "argument")


def test_a_message_of_flags_that_is_within_the_budget_of_its_plain_data_is_refused_by_its_values() -> None:
    of, item, count = LIES["flags"]
    plain = decode(many(item, count), budget=message_budget(Limits(value_bytes=LIMIT)))
    with pytest.raises(QuotaExceeded):
        unpacker(List(of), NO_HANDLES, door(LIMIT))(plain)


@only_where_there_are_workers
def test_a_frame_larger_than_value_bytes_allow_is_not_read() -> None:
    def script(peer: Peer, _: Any) -> None:
        peer.socket.sendall(struct.pack("<I", 4 * LIMIT + MIB) + b"l")

    sandbox, _ = lying(echo_component(List("u8")), script, {"echo": lambda x: x}, value_bytes=LIMIT)
    with sandbox, pytest.raises(WorkerCrashed, match="a frame of"):
        sandbox.call("echo-back", b"")


# -- what is sent to a worker -------------------------------------------------------------------------


@only_where_there_are_workers
@pytest.mark.parametrize(
    ("of", "value"),
    [
        (List("u32"), [7] * 3_000_000), (List("string"), [""] * 1_200_000), (List(Option("u8")), [None] * 9_000_000),
        (List(Tuple(("bool", "bool"))), [(True, False)] * 1_200_000), ("string", "x" * (65 * MIB)),
        (List("u8"), bytes(65 * MIB)), (List(List("u8")), [bytes(MIB)] * 65),
    ],
    ids=["u32", "string", "option", "tuple", "text", "bytes", "blobs"],
)  # fmt: skip
def test_an_argument_that_is_too_large_for_a_worker_is_refused_before_it_is_sent(of: WitType, value: Any) -> None:
    """Under the default limits, with nothing allocated for it here, and no message to the worker."""
    reported: list[Any] = []
    sandbox, _ = lying(
        echo_component(of), lambda peer, message: reported.append(message), {"echo": lambda x: x}, memory="1GiB"
    )

    def call() -> None:
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("echo-back", value)
        assert caught.value.limit == "value_bytes"
        assert "raise it with value_bytes or --value-bytes" in str(caught.value)

    with sandbox:
        assert memory(call)[1] < 2 * MIB
        assert reported == []
        assert sandbox.state == "poisoned"


@only_where_there_are_workers
def test_the_results_of_host_functions_for_a_worker_are_bounded_too() -> None:
    answers: list[Any] = []
    script = once(host(1, 0, [[]]), answers)
    made = lying(echo_component(List("u32")), script, {"echo": lambda x: [7] * 100_000}, value_bytes=LIMIT)
    with made[0] as sandbox, pytest.raises(QuotaExceeded) as caught:
        sandbox.call("echo-back", [])
    assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("value_bytes", 4_000_000, LIMIT)
    assert [message[:3] for message in answers] == [["answer", 1, True]]


@only_where_there_are_workers
def test_values_of_nearly_value_bytes_pass_both_ways() -> None:
    """The worker may have enough memory for them, and its messages are not rejected."""
    with runtime("isolated", value_bytes="4MiB", memory="8MiB", fuel=None, timeout="60s") as made:
        for of, value in (
            (List("u32"), list(range(1000, 90_000))),
            (List("string"), [f"{n}" for n in range(30_000)]),
            (List(Option("u8")), [n % 256 for n in range(45_000)]),
            (List(Tuple(("u32", "bool"))), [(1000 + n, True) for n in range(37_000)]),
        ):
            with made.sandbox(made.load_wat(echo_component(of)), imports={"echo": lambda x: x}) as sandbox:
                assert sandbox.call("echo-back", value) == value


def test_a_value_of_another_type_is_refused_by_its_type_first() -> None:
    with pytest.raises(ProtocolError):
        unpacker(List("u32"), NO_HANDLES, door(10))("text")
