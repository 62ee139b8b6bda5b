"""What a worker does while the parent is busy: it dies under a host function, sends what takes long, or descriptors."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aegis import AegisError, DeadlineExceeded, WorkerCrashed
from aegis.isolation.wire import LARGE, Broken, Channel, Late, Region, decode
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


@pytest.mark.parametrize("length", [10, LARGE, 5 * LARGE])
@pytest.mark.parametrize("reused", [True, False])
def test_what_a_host_function_gives_a_worker_that_is_gone_goes_nowhere(
    tmp_path: Path, length: int, reused: bool
) -> None:
    """The descriptor of the shared memory is closed by then, and its number may be another file's."""
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
    with sandbox, pytest.raises(WorkerCrashed, match="no answer to read"):
        sandbox.call("go")


@pytest.mark.parametrize("write", [False, True])
def test_a_region_that_was_closed_is_mapped_no_more(write: bool) -> None:
    descriptor = Region.new(1 << 20)
    try:
        region = Region(descriptor, 0, 1 << 20, write=write)
        region.view()
        region.close()
        with pytest.raises(Broken):
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
    with pytest.raises(Late):
        decode(HEAVY[name], late=lambda: bool(asked.append(1) or len(asked) > 3))
    assert len(asked) == 4
    sandbox, _ = lying(TEXT, said(frame(HEAVY[name])), {"env": {"f": lambda: 1}}, timeout="50ms")
    with sandbox, pytest.raises(DeadlineExceeded):
        sandbox.call("go")


def test_reading_a_heavy_message_ends_by_cancelling_it() -> None:
    heavy = frame(HEAVY["lists"])
    with a_pair() as (channel, far):
        far.sendall(heavy[:1000])
        sender = threading.Thread(target=far.sendall, args=(heavy[1000:],))
        sender.start()
        with pytest.raises(Late):
            channel.recv(None, lambda: not channel.waiting())
        sender.join()


def test_keys_count_as_values() -> None:
    many = (1 << 23) + 1
    with pytest.raises(Broken, match="more values"):
        decode(struct.pack("<cI", b"m", many) + b"s\0\0\0\0n" * many)


# -- descriptors --------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_that_a_worker_sends_are_not_taken() -> None:
    """Received without room for them, they are closed by the system; a parent's table does not fill."""
    with a_pair() as (channel, far), Path("/dev/null").open() as file:
        before = descriptors()
        for _ in range(50):
            socket.send_fds(far, [frame(b"n")], [file.fileno()] * 200)
            assert channel.recv() is None
        assert descriptors() <= before
