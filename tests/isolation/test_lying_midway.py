"""A worker acts while the parent is busy: it dies during a host function, or sends large data or descriptors."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aegis import AegisError, DeadlineExceeded, WorkerCrashed
from aegis.isolation.protocol import channel as wire
from aegis.isolation.protocol.channel import (
    SHARED_MIN_BYTES,
    Channel,
    ChannelTimeout,
    ProtocolError,
    SharedRegion,
    decode,
    encode,
)
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import Peer, done, host, lying, said

pytestmark = only_where_there_are_workers
GIVES = """(component
  (import "give" (func $give (result (list u8))))
  (core module $memory (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $l (instantiate $memory))
  (core func $g (canon lower (func $give) (memory (core memory $l "memory")) (realloc (core func $l "realloc"))))
  (core module $m (import "" "give" (func $g (param i32))) (func (export "run") (call $g (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance (export "give" (func $g))))))
  (func (export "run") (canon lift (core func $i "run"))))"""
TEXT = """(module
  (import "env" "f" (func $f (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (result i32) (call $f)))"""


def frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def once_then(first: Any, *rest: Any) -> Any:
    """Answer the first message with one thing, and every other with another."""
    scripts = iter([said(first)])

    def script(peer: Peer, message: Any) -> None:
        next(scripts, said(*rest))(peer, message)

    return script


# -- a worker found out while a host function runs --------------------------------------------------


@pytest.mark.parametrize("length", [10, SHARED_MIN_BYTES, 5 * SHARED_MIN_BYTES])
@pytest.mark.parametrize("reused", [True, False])
def test_the_result_for_a_dead_worker_is_discarded(tmp_path: Path, length: int, reused: bool) -> None:
    """The descriptor of the shared memory is closed by then, and its number may refer to another file."""
    opened: list[int] = []
    file = tmp_path / "of-the-embedder"
    with file.open("wb") as made:
        made.truncate(1 << 29)

    def give() -> bytes:
        with suppress(WorkerCrashed):
            sandbox.call("run")
        assert liar.shared == -1
        if reused:
            opened.extend(os.open(file, os.O_RDWR) for _ in range(20))
        return b"x" * length

    sandbox, liar = lying(GIVES, once_then(host(1, 0, []), b"\xff" * 10), {"give": give})
    try:
        with sandbox, pytest.raises(WorkerCrashed):
            sandbox.call("run")
        with file.open("rb") as made:
            assert not any(made.read(1 << 16))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_a_host_function_that_swallows_its_workers_end_does_not_hide_it() -> None:
    def f() -> int:
        with suppress(AegisError):
            sandbox.memory.read(0, 4)
        return 1

    sandbox, _ = lying(TEXT, once_then(host(1, 0, []), done("no bytes")), {"env": {"f": f}})
    with sandbox, pytest.raises(WorkerCrashed, match="invalid answer to read"):
        sandbox.call("go")


@pytest.mark.parametrize("write", [False, True])
def test_a_region_that_was_closed_is_mapped_no_more(write: bool) -> None:
    descriptor = SharedRegion.new(1 << 20)
    try:
        region = SharedRegion(descriptor, 0, 1 << 20, write=write)
        region.view()
        region.close()
        with pytest.raises(ProtocolError):
            region.put(b"xx", 2) if write else region.get(0, 2)
    finally:
        os.close(descriptor)


@contextmanager
def a_pair() -> Iterator[tuple[Channel, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield Channel(near), far


# -- what takes long to read ------------------------------------------------------------------------

MANY = 1 << 22
HEAVY = {
    "nothings": struct.pack("<cI", b"l", MANY) + b"n" * MANY,
    "lists": struct.pack("<cI", b"l", MANY) + b"l\0\0\0\0" * MANY,
    "mappings": struct.pack("<cI", b"l", MANY) + b"m\0\0\0\0" * MANY,
    "one mapping": struct.pack("<cI", b"m", MANY) + b"s\0\0\0\0n" * MANY,
}


@pytest.mark.parametrize("name", HEAVY)
def test_reading_a_heavy_message_ends_at_the_deadline(name: str) -> None:
    asked: list[int] = []
    with pytest.raises(ChannelTimeout):
        decode(HEAVY[name], late=lambda: bool(asked.append(1) or len(asked) > 3))
    assert len(asked) == 4
    sandbox, _ = lying(TEXT, said(frame(HEAVY[name])), {"env": {"f": lambda: 1}}, timeout="50ms", value_bytes="1GiB")
    with sandbox, pytest.raises(DeadlineExceeded):
        sandbox.call("go")


def test_reading_a_heavy_message_ends_by_cancelling_it() -> None:
    heavy = frame(HEAVY["lists"])
    with a_pair() as (channel, far):
        far.sendall(heavy[:1000])
        sender = threading.Thread(target=far.sendall, args=(heavy[1000:],))
        sender.start()
        with pytest.raises(ChannelTimeout):
            channel.recv(None, lambda: not channel.waiting())
        sender.join()


# -- what takes much memory -------------------------------------------------------------------------

COUNT = 5000


def listed(item: bytes, count: int = COUNT) -> bytes:
    return struct.pack("<cI", b"l", count) + item * count


COSTLY = {
    "empty mappings": listed(b"m\0\0\0\0"),
    "empty lists": listed(b"l\0\0\0\0"),
    "lists of one": listed(b"l\1\0\0\0n"),
    "mappings of one": listed(b"m\1\0\0\0s\1\0\0\0an"),
    "one mapping": struct.pack("<cI", b"m", COUNT) + b"".join(b"s\4\0\0\0%04dn" % n for n in range(COUNT)),
    "numbers": listed(b"i" + b"\x7f" * 8),
    "floats": listed(b"d" + b"\x7f" * 8),
    "long numbers": listed(b"I\x20\0\0\0" + b"\x7f" * 32),
    "short texts": listed(b"s\2\0\0\0ab"),
    "accented texts": listed(b"s\4\0\0\0ab" + "é".encode()),
    "wide texts": listed(b"s\4\0\0\0" + "\U0001f600".encode()),
    "a text with one wide character": struct.pack("<cI", b"s", 100_004) + b"a" * 100_000 + "\U0001f600".encode(),
    "a text with one character of two bytes": struct.pack("<cI", b"s", 100_002) + b"a" * 100_000 + "Ā".encode(),
    "short bytes": listed(b"b\2\0\0\0ab"),
    "lists in lists": listed(b"l\1\0\0\0" * 50 + b"n", COUNT // 50),
}


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


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", COSTLY)
def test_a_message_is_charged_the_memory_that_its_values_take(name: str) -> None:
    data = COSTLY[name]
    taken, _ = memory(lambda: decode(data))
    with pytest.raises(ProtocolError, match="exceeds its memory budget"):
        decode(data, budget=int(taken * 0.9))
    assert decode(data, budget=4 * taken) == decode(data)  # a string takes eight bytes less since Python 3.12


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", sorted(set(COSTLY) - {"numbers", "floats"}))  # these are checked in bulk
def test_a_message_over_its_budget_takes_little_more_than_the_budget(name: str) -> None:
    data, budget = COSTLY[name], 50_000

    def read() -> None:
        with pytest.raises(ProtocolError, match="exceeds its memory budget"):
            decode(data, budget=budget)

    assert memory(read)[1] < budget + 250_000  # of the test itself


def test_shared_memory_counts_when_it_is_copied() -> None:
    descriptor = SharedRegion.new(1 << 20)
    try:
        mine, theirs = (
            SharedRegion.pair(descriptor, 1 << 20, parent=True),
            SharedRegion.pair(descriptor, 1 << 20, parent=False),
        )
        data = encode(bytes(100_000), theirs[0])
        with pytest.raises(ProtocolError, match="exceeds its memory budget"):
            decode(data, mine[1], budget=50_000)
        assert decode(data, mine[1], budget=150_000) == bytes(100_000)
        for region in (*mine, *theirs):
            region.close()
    finally:
        os.close(descriptor)


def test_a_frame_larger_than_its_budget_is_not_received() -> None:
    with a_pair() as (channel, far):
        channel.budget = 1000
        far.sendall(struct.pack("<I", 1001))
        with pytest.raises(ProtocolError, match="1,001 bytes"):
            channel.recv(time.monotonic() + 20)


def test_a_frame_may_be_as_large_as_its_budget_and_has_a_bound_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_UNBUDGETED_FRAME_BYTES", 1000)
    for budget, received in ((5000, True), (None, False)):
        with a_pair() as (channel, far):
            channel.budget = budget
            far.sendall(frame(b"s\xb8\x0b\0\0" + b"a" * 3000))
            if received:
                assert channel.recv(time.monotonic() + 20) == "a" * 3000
            else:
                with pytest.raises(ProtocolError, match="a frame of 3,005 bytes"):
                    channel.recv(time.monotonic() + 20)


@pytest.mark.parametrize("name", ["empty mappings", "lists of one", "short texts"])
@pytest.mark.parametrize("begin", ["call", "start"])
def test_a_worker_whose_message_takes_more_than_value_bytes_allow_is_ended(name: str, begin: str) -> None:
    item = {"empty mappings": b"m\0\0\0\0", "lists of one": b"l\1\0\0\0n", "short texts": b"s\1\0\0\0a"}[name]
    raw = frame(struct.pack("<cI", b"l", 60_000) + item * 60_000)
    script = said(raw)
    begins = script if begin == "start" else None

    def run() -> None:
        sandbox, _ = lying(TEXT, script, {"env": {"f": lambda: 1}}, begins=begins, value_bytes=4096)
        with sandbox:
            sandbox.call("go")

    with pytest.raises(WorkerCrashed, match="exceeds its memory budget"):
        run()


# -- descriptors --------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_that_a_worker_sends_are_not_taken() -> None:
    """Received without space for them, they are closed by the kernel; the parent's descriptor table does not fill."""
    with a_pair() as (channel, far), Path("/dev/null").open() as file:
        before = descriptors()
        for _ in range(50):
            socket.send_fds(far, [frame(b"n")], [file.fileno()] * 200)
            assert channel.recv() is None
        assert descriptors() <= before
