"""Every wait of the host ends by the deadline, and by a cancellation from another thread.

The awaited event never occurs. Oracle: the wait begins, and then raises the error that ended it; bounds are generous.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, ClockCapability, KeyValueCapability, MemoryStore
from aegis.engine.call.door import Door
from aegis.errors import Cancelled, DeadlineExceeded
from aegis.host.blocking import DiskSync, in_order
from aegis.host.stdio import StandardInput, StandardOutput
from aegis.limits import Limits
from tests.host.http.client import Client, silent, wait_for
from tests.host.network.wire import connect, guest, listen, udp
from tests.host.network.wire import silent as silent_peer
from tests.host.preview2.guest import Guest, descriptors

SYSTEM = ClockCapability.parse("system")
Wait = tuple[Door, Callable[[], object]]


@contextlib.contextmanager
def _pipe(timeout: float, *, full: bool = False) -> Iterator[tuple[Guest, int, int]]:
    reading, writing = os.pipe()
    if full:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(65536))
        os.set_blocking(writing, True)
    try:
        with Guest(timeout=timeout) as made:
            yield made, reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def _stdin(made: Guest, descriptor: int) -> Any:
    made.grants.stdio.stdin = StandardInput(descriptor, made.door)
    return made.of("wasi:cli/stdin").get_stdin()


def _stdout(made: Guest, descriptor: int) -> Any:
    made.grants.stdio.stdout = StandardOutput("stdout", "inherit", descriptor, None, made.door)
    return made.of("wasi:cli/stdout").get_stdout()


@contextlib.contextmanager
def stdin_read(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout) as (made, reading, _):
        yield made.door, lambda: _stdin(made, reading).blocking_read(1)


@contextlib.contextmanager
def stdin_skip(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout) as (made, reading, _):
        yield made.door, lambda: _stdin(made, reading).blocking_skip(1)


@contextlib.contextmanager
def preview1_read(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout) as (made, reading, _):
        yield made.door, lambda: StandardInput(reading, made.door).read(1)


@contextlib.contextmanager
def preview1_write(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout, full=True) as (made, _, writing):
        yield made.door, lambda: StandardOutput("stdout", "inherit", writing, None, made.door).write(b"x")


@contextlib.contextmanager
def stdin_poll(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout) as (made, reading, _):
        yield made.door, lambda: made.of("wasi:io/poll").poll([_stdin(made, reading).subscribe()])


@contextlib.contextmanager
def stdout_write(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout, full=True) as (made, _, writing):
        yield made.door, lambda: _stdout(made, writing).blocking_write_and_flush(b"x")


@contextlib.contextmanager
def splice(timeout: float) -> Iterator[Wait]:
    with _pipe(timeout) as (made, reading, writing):
        yield made.door, lambda: _stdout(made, writing).blocking_splice(_stdin(made, reading), 10)


@contextlib.contextmanager
def fifo(timeout: float) -> Iterator[Wait]:
    """A FIFO as stdin, whose writer sends nothing."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/fifo"
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(path, os.O_WRONLY)
        try:
            with Guest(timeout=timeout) as made:
                yield made.door, lambda: _stdin(made, reading).blocking_read(1)
        finally:
            os.close(reading)
            os.close(writing)


@contextlib.contextmanager
def timer(timeout: float) -> Iterator[Wait]:
    with Guest(timeout=timeout, clock=SYSTEM) as made:
        hour = made.of("wasi:clocks/monotonic-clock").subscribe_duration(3600 * 10**9)
        yield made.door, hour.block


@contextlib.contextmanager
def socket_read(timeout: float) -> Iterator[Wait]:
    with silent_peer() as port, guest(f"127.0.0.1:{port}", timeout=timeout) as made:
        _, receive, _ = connect(made, port)
        yield made.door, lambda: receive.blocking_read(1)


@contextlib.contextmanager
def socket_write(timeout: float) -> Iterator[Wait]:
    def fill(send: Any) -> None:
        while True:
            send.blocking_write_and_flush(bytes(4096))

    with silent_peer() as port, guest(f"127.0.0.1:{port}", timeout=timeout) as made:
        _, _, send = connect(made, port)
        yield made.door, lambda: fill(send)


@contextlib.contextmanager
def socket_accept(timeout: float) -> Iterator[Wait]:
    with guest(listen=("127.0.0.1:*",), timeout=timeout) as made:
        opened, _ = listen(made)
        yield made.door, opened.subscribe().block


@contextlib.contextmanager
def datagram(timeout: float) -> Iterator[Wait]:
    with guest("udp://127.0.0.1:*", timeout=timeout) as made:
        heard, _ = udp(made).stream(None)
        yield made.door, heard.subscribe().block


@contextlib.contextmanager
def http(timeout: float) -> Iterator[Wait]:
    with silent() as port, Client(f"local:{port}", timeout=timeout) as client:
        future = client.handler.handle(client.request(f"http://localhost:{port}/"), None)
        try:
            yield client.door, lambda: wait_for(future)
        finally:
            future.__drop__()


@contextlib.contextmanager
def name(timeout: float) -> Iterator[Wait]:
    go = threading.Event()

    def resolver(_: str) -> list[str]:
        go.wait(60)
        return []

    try:
        with guest("*.example:*", resolver=resolver, timeout=timeout) as made:
            stream = made.of("wasi:sockets/ip-name-lookup").resolve_addresses(None, "a.example")
            yield made.door, stream.subscribe().block
    finally:
        go.set()


@contextlib.contextmanager
def slow_disk(timeout: float) -> Iterator[Wait]:
    go = threading.Event()
    door = Door(Limits(timeout=timeout))
    door.deadline = time.monotonic() + timeout
    descriptor = os.open(__file__, os.O_RDONLY)
    before = os.fsync
    os.fsync = lambda _: go.wait(60) and None  # type: ignore[assignment,func-returns-value]
    try:
        yield door, lambda: DiskSync(descriptor, door).wait()
    finally:
        os.fsync = before
        go.set()
        os.close(descriptor)
        door.close()


@contextlib.contextmanager
def bucket_in_memory(timeout: float) -> Iterator[Wait]:
    """A bucket that another thread holds."""
    store, begun, done = MemoryStore(), threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction(Door(Limits())):
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    try:
        with Guest(timeout=timeout, keyvalue=KeyValueCapability(buckets={"b": store})) as made:
            bucket = made.of("wasi:keyvalue/store").open("b")
            yield made.door, lambda: bucket.get("k")
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def bucket_in_a_file(timeout: float) -> Iterator[Wait]:
    """A bucket in a file that another connection has locked."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/kv.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with Guest(timeout=timeout, keyvalue=KeyValueCapability(buckets={"b": f"sqlite:{path}"})) as made:
                bucket = made.of("wasi:keyvalue/store").open("b")
                yield made.door, lambda: bucket.get("k")


WAITS = [
    stdin_read, stdin_skip, stdin_poll, preview1_read, preview1_write, stdout_write, splice, fifo, timer, socket_read,
    socket_write, socket_accept, datagram, http, name, slow_disk, bucket_in_memory,
    bucket_in_a_file,
]  # fmt: skip
every_wait = pytest.mark.parametrize("waiting", WAITS, ids=lambda wait: wait.__name__)


@every_wait
def test_a_wait_ends_by_the_deadline(waiting: Callable[[float], Any]) -> None:
    with waiting(0.15) as (door, wait):
        before = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            wait()
        assert time.monotonic() >= door.deadline
        assert time.monotonic() - before < 5


@every_wait
def test_a_wait_is_ended_by_a_cancellation_from_another_thread(waiting: Callable[[float], Any]) -> None:
    with waiting(60) as (door, wait):
        ended: list[BaseException] = []

        def run() -> None:
            try:
                wait()
            except BaseException as error:
                ended.append(error)

        waiter = threading.Thread(target=run)
        waiter.start()
        entered(door)
        assert not ended
        door.cancel()
        waiter.join(10)
        assert not waiter.is_alive()
        assert [type(error) for error in ended] == [Cancelled]


def entered(door: Door) -> None:
    """Block until a thread waits at ``door``, or has waited there."""
    while door._wake_pipe is None and door._wake_up is None:
        time.sleep(0)


@every_wait
def test_a_cancellation_that_comes_first_is_seen(waiting: Callable[[float], Any]) -> None:
    with waiting(60) as (door, wait):
        door.cancel()
        with pytest.raises(Cancelled):
            wait()


def test_many_cancellations_do_not_wait_for_one_another() -> None:
    """A pipe holds 64 KiB; a further cancellation must not block because it is full."""
    door = Door(Limits())
    with _pipe(20) as (_, reading, _):
        assert door.wait(0, read=(reading,)) == ([], [])
        for _ in range(70_000):
            door.cancel()
        with pytest.raises(Cancelled):
            door.wait(read=(reading,))
    door.close()


def test_a_cancellation_of_a_closed_door_writes_to_no_descriptor() -> None:
    """Its descriptor number may refer to another file by then."""
    door = Door(Limits())
    with _pipe(20) as (_, reading, _):
        door.wait(0, read=(reading,))
        numbers = door._wake_pipe
        door.close()
        assert numbers is not None
        reused = {os.dup(reading): None for _ in range(4)}
        door.cancel()
        for number in reused:
            os.close(number)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)


# -- what is not a wait, but long ------------------------------------------------------------------------


def test_a_large_listing_is_in_order_and_ends_by_the_deadline() -> None:
    numbers = [(n * 7919) % 100_003 for n in range(100_003)]
    door = Door(Limits(timeout=20))
    door.deadline = time.monotonic() + 20
    assert list(in_order(numbers, door, lambda n: n)) == sorted(numbers)
    assert list(in_order([], door, lambda n: n)) == []
    door.deadline = 0.0
    with pytest.raises(DeadlineExceeded):
        in_order(iter(numbers), door, lambda n: n)


def test_a_sync_is_done_and_its_failure_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(Limits())
    before = descriptors()
    with (tmp_path / "file").open("w") as file:
        file.write("text")
        DiskSync(file.fileno(), door).wait()
        DiskSync(file.fileno(), door, data=True).wait()

        def fails(_: int) -> None:
            raise OSError(5, "no")

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="no"):
            DiskSync(file.fileno(), door).wait()
    door.close()
    assert descriptors() <= before


def test_memory_held_for_a_slow_disk_is_released_afterwards() -> None:
    before = descriptors()
    with slow_disk(0.05) as (_, wait), pytest.raises(DeadlineExceeded):
        wait()
    for thread in threading.enumerate():
        if thread.name == "aegis-sync":
            thread.join(20)
    assert descriptors() <= before


SLEEPS = """(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\\01") (data (i32.const 24) "\\ff\\ff\\ff\\ff\\ff\\ff\\00")
  (func (export "sleep") (result i32) (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"""


def test_a_sleeping_guest_is_cancelled_from_another_thread() -> None:
    runtime = Aegis(cache=False, clock=SYSTEM, timeout="60s")
    with runtime.sandbox(runtime.load_wat(SLEEPS)) as sandbox:

        def cancel() -> None:
            entered(sandbox._run.door)
            sandbox.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(Cancelled):
            sandbox.call("sleep")
        canceller.join()
        assert sandbox.state == "poisoned"


def test_no_socket_is_left_when_a_wait_was_cancelled() -> None:
    before = descriptors()
    for waiting in (socket_read, http, name):
        test_a_cancellation_that_comes_first_is_seen(waiting)
    for thread in threading.enumerate():
        if thread.name == "aegis-resolver":
            thread.join(20)
    assert descriptors() <= before
