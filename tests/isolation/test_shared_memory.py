"""Large values travel through shared memory, copied once on each side, and no message shows the data of another.

Oracle: the received value equals the sent one, at every size, whatever was sent before and after it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis.errors import AegisInternalError
from aegis.isolation.protocol.channel import SHARED_MIN_BYTES, Channel, ProtocolError, SharedRegion, decode
from aegis.wit.types import List, Option, Record, Result, Tuple, WitType
from aegis.wit.values import Err, Ok
from tests.echo import echo_component
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

pytestmark = only_where_there_are_workers
SIZE = 1 << 20
SIZES = [
    0,
    1,
    SHARED_MIN_BYTES - 1,
    SHARED_MIN_BYTES,
    SHARED_MIN_BYTES + 1,
    SIZE - 64,
    SIZE - 1,
    SIZE,
    SIZE + 1,
    3 * SIZE,
]


class Ends:
    """A parent and a worker with one region: one fills it, the other reads it."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        self.shared = SharedRegion.new(SIZE)
        self.parent = Channel(near, *SharedRegion.pair(self.shared, SIZE, parent=True))
        self.worker = Channel(far, *SharedRegion.pair(self.shared, SIZE, parent=False), views=True, patient=True)

    def close(self) -> None:
        self.parent.close()
        self.worker.close()
        os.close(self.shared)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def frame_of(channel: Channel, message: Any) -> bytes:
    """Return the frame of a message."""
    sent: list[bytes] = []
    channel._put = lambda data, descriptors, late: sent.append(bytes(data)) or len(data)  # type: ignore[method-assign, func-returns-value]
    channel.send(message)
    del channel._put  # type: ignore[method-assign]
    return b"".join(sent)


# -- what is kept is not copied again -----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_kept_bytes_are_those_that_were_given(ends: Ends, size: int) -> None:
    data = memoryview(os.urandom(size))
    region = ends.worker.outgoing
    assert region is not None
    kept = region.keep(data)
    assert kept == data
    assert isinstance(kept, memoryview) is (SHARED_MIN_BYTES <= size <= SIZE), (
        "small ones, and those without room, are bytes"
    )
    frame = frame_of(ends.worker, ["done", kept])
    assert (len(frame) < 100) is (size <= 16 or SHARED_MIN_BYTES <= size <= SIZE), "large bytes are not in the frame"
    assert decode(frame[4:], ends.parent.incoming) == ["done", data]


def test_several_kept_values_of_one_message_lie_beside_one_another(ends: Ends) -> None:
    region = ends.worker.outgoing
    assert region is not None
    values = [os.urandom(SHARED_MIN_BYTES + n) for n in range(20)]
    kept = [region.keep(memoryview(value)) for value in values]
    other = os.urandom(2 * SHARED_MIN_BYTES)
    frame = frame_of(ends.worker, [kept[3], other, *kept, "text" * SHARED_MIN_BYTES, kept[3]])
    expected = [values[3], other, *values, "text" * SHARED_MIN_BYTES, values[3]]
    assert decode(frame[4:], ends.parent.incoming) == expected


def test_a_kept_value_is_good_for_the_next_message_alone(ends: Ends) -> None:
    """Afterwards its space belongs to another value, and must not be read for this one."""
    region = ends.worker.outgoing
    assert region is not None
    kept = region.keep(memoryview(os.urandom(SHARED_MIN_BYTES)))
    frame_of(ends.worker, ["something else"])
    with pytest.raises(AegisInternalError):
        ends.worker.send(["done", kept])


def test_a_message_that_cannot_be_said_leaves_the_whole_region_to_the_next(ends: Ends) -> None:
    for _ in range(3):
        with pytest.raises(TypeError):
            ends.worker.send([bytes(SIZE // 2), object()])
    assert len(frame_of(ends.worker, [bytes(SIZE // 2)])) < 100


def test_a_notice_takes_nothing_of_the_region(ends: Ends) -> None:
    """Its reader may still be busy when the next message is created."""
    text = "x" * (3 * SHARED_MIN_BYTES)
    ends.worker.send(["log", "info", text], notice=True)
    ends.worker.send(["done", b"y" * (3 * SHARED_MIN_BYTES)])
    assert ends.parent.recv() == ["log", "info", text]
    assert ends.parent.recv() == ["done", b"y" * (3 * SHARED_MIN_BYTES)]


# -- text ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text(max_size=20), st.sampled_from(["", "a", "é", "€", "\U0001f600", "\ud800"]), st.integers(0, 3))
def test_a_long_text_comes_as_it_was(text: str, character: str, times: int) -> None:
    value = [text, character * (SHARED_MIN_BYTES - 2 + times), {character * SHARED_MIN_BYTES: text}]
    made = Ends()
    try:
        frame = frame_of(made.worker, value)
        assert decode(frame[4:], made.parent.incoming) == value
        assert decode(frame_of(made.parent, value)[4:], made.worker.incoming, views=True) == value
    finally:
        made.close()


@pytest.mark.parametrize(("character", "width"), [("a", 1), ("é", 2), ("€", 2), ("\U0001f600", 4)])
def test_a_shared_text_is_charged_its_size(ends: Ends, character: str, width: int) -> None:
    text = character * (2 * SHARED_MIN_BYTES)
    frame = frame_of(ends.worker, text)
    assert len(frame) < 100
    assert decode(frame[4:], ends.parent.incoming, budget=16 * len(text) + 1000) == text
    with pytest.raises(ProtocolError, match="exceeds its memory budget"):
        decode(frame[4:], ends.parent.incoming, budget=width * len(text) - 1)


def test_memory_that_is_no_text_is_refused(ends: Ends) -> None:
    region = ends.worker.outgoing
    assert region is not None
    for raw in (b"\xff" * SHARED_MIN_BYTES, b"a" * SHARED_MIN_BYTES + b"\xc3", b"\xf5\x80\x80\x80" * SHARED_MIN_BYTES):
        at = region.put(raw, len(raw))
        assert at is not None
        with pytest.raises(ProtocolError):
            decode(struct.pack("<cQQ", b"S", at, len(raw)), ends.parent.incoming)


def test_received_data_does_not_change_afterwards(ends: Ends) -> None:
    region = ends.worker.outgoing
    assert region is not None
    frame = frame_of(ends.worker, [b"x" * SHARED_MIN_BYTES, "x" * SHARED_MIN_BYTES])
    received = decode(frame[4:], ends.parent.incoming)
    region.view()[:] = b"y" * SIZE
    assert received == [b"x" * SHARED_MIN_BYTES, "x" * SHARED_MIN_BYTES]


# -- values of guests ----------------------------------------------------------------------------------------

BYTES = List("u8")
VALUES: list[tuple[WitType, Any]] = [
    (BYTES, b"b"), (Tuple((BYTES, "string", BYTES)), (b"b", "é", b"c")), (List(BYTES), [b"b", b"", b"c"]),
    (Option(BYTES), b"b"), (Result(BYTES, "string"), Ok(b"b")), (Result(BYTES, "string"), Err("é")),
    (Record("pair", (("one", BYTES), ("two", List("string")))), {"one": b"b", "two": ["x", "€"]}),
]  # fmt: skip


def grown(value: Any, times: int) -> Any:
    """Return a value whose bytes and strings are repeated."""
    match value:
        case bytes() | str():
            return value * times
        case tuple() | list():
            return type(value)(grown(item, times) for item in value)
        case dict():
            return {name: grown(item, times) for name, item in value.items()}
        case Ok(inner):
            return Ok(grown(inner, times))
        case Err():
            return Err(grown(value.value, times))
    raise AssertionError(value)


def plain(value: Any) -> Any:
    """Convert a value so that equal values compare equal."""
    if isinstance(value, Ok | Err):
        return type(value).__name__, plain(value.value)
    if hasattr(value, "one"):
        return {"one": plain(value.one), "two": plain(value.two)}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_large_values_come_back_as_they_were(place: str, number: int) -> None:
    """As argument of an export, of a host function, and as result of both; with smaller values before and after."""
    of, value = VALUES[number]
    wrapped = Tuple((of,))  # an error that is the whole result is raised
    made = runtime(place, memory="512MiB")
    with made.sandbox(made.load_wat(echo_component(wrapped)), imports={"echo": lambda x: x}) as sandbox:
        for times in (1, SHARED_MIN_BYTES, 3, 10 * SHARED_MIN_BYTES, SHARED_MIN_BYTES - 1, 1):
            given = (grown(value, times),)
            assert plain(sandbox.call("echo-back", given)[0]) == plain(given[0])
