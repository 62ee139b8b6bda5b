"""The standard streams on real pipes and terminals: non-blocking calls do not wait, and every wait ends."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aegis.errors import Cancelled, DeadlineExceeded
from aegis.host.preview2.io import CHUNK_BYTES
from aegis.host.stdio import StandardInput, StandardOutput
from aegis.policy import StdioCapability
from tests.host.preview2.guest import Guest, refusal

PIPE_ATOMIC = 4096


class Pipe:
    """A pipe; ends that the test has closed are not closed again."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fill(self, *, but: int = 0) -> int:
        """Write until the pipe is full, then read ``but`` bytes again; return the number of bytes left in it."""
        os.set_blocking(self.writing, False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.write(self.writing, bytes(PIPE_ATOMIC))
        os.set_blocking(self.writing, True)
        return count - len(os.read(self.reading, but)) if but else count

    def close(self, *ends: int) -> None:
        for end in ends or (self.reading, self.writing):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def stdin_of(guest: Guest, descriptor: int) -> Any:
    guest.grants.stdio.stdin = StandardInput(descriptor, guest.door)
    return guest.of("wasi:cli/stdin").get_stdin()


def stdout_of(guest: Guest, descriptor: int, limit: int | None = None) -> Any:
    guest.grants.stdio.stdout = StandardOutput("stdout", "inherit", descriptor, limit, guest.door)
    return guest.of("wasi:cli/stdout").get_stdout()


# -- writing -------------------------------------------------------------------------------------------


def test_a_pipe_takes_the_permitted_bytes_without_waiting(pipe: Pipe) -> None:
    pipe.fill(but=2 * PIPE_ATOMIC)
    with Guest(timeout=20) as guest:
        stdout = stdout_of(guest, pipe.writing)
        permit = stdout.check_write()
        assert 0 < permit <= 2 * PIPE_ATOMIC
        stdout.write(bytes(permit))


def test_a_writer_goes_on_when_its_reader_does(pipe: Pipe) -> None:
    data = os.urandom(1 << 20)
    heard: list[bytes] = []

    def read() -> None:
        heard.extend(iter(lambda: os.read(pipe.reading, 10_000), b""))

    reader = threading.Thread(target=read)
    reader.start()
    with Guest() as guest:
        stdout = stdout_of(guest, pipe.writing)
        at = 0
        while at < len(data):
            stdout.subscribe().block()
            permit = stdout.check_write()
            stdout.write(data[at : at + permit])
            at += permit
        stdout.blocking_flush()
    pipe.close(pipe.writing)
    reader.join()
    assert b"".join(heard) == data


def test_a_reader_that_goes_away_while_a_writer_waits_closes_the_stream(pipe: Pipe) -> None:
    pipe.fill()
    with Guest() as guest:
        stdout = stdout_of(guest, pipe.writing)
        pollable = stdout.subscribe()
        assert not pollable.ready()
        pipe.close(pipe.reading)
        pollable.block()
        assert refusal(stdout.blocking_write_and_flush, b"x") == "StreamErrorLastOperationFailed"
        assert refusal(stdout.check_write) == "StreamErrorClosed"
        assert refusal(stdout.write, b"") == "StreamErrorClosed"
        assert refusal(stdout.flush) == "StreamErrorClosed"
        assert pollable.ready()


def test_output_that_is_captured_or_discarded_never_waits() -> None:
    for mode in ("capture", "discard"):
        with Guest(stdio=StdioCapability(stdout=mode)) as guest:
            stdout = guest.of("wasi:cli/stdout").get_stdout()
            for _ in range(3):
                assert stdout.check_write() == CHUNK_BYTES
                stdout.write_zeroes(CHUNK_BYTES)
            assert len(guest.grants.stdio.stdout_bytes()) == (3 * CHUNK_BYTES if mode == "capture" else 0)


# -- reading -------------------------------------------------------------------------------------------


def test_a_slow_drip_is_read_as_it_comes(pipe: Pipe) -> None:
    with Guest() as guest:
        stdin = stdin_of(guest, pipe.reading)
        for n in range(50):
            assert stdin.read(10) == b""
            os.write(pipe.writing, bytes([n]))
            assert stdin.blocking_read(10) == bytes([n])
        pipe.close(pipe.writing)
        assert refusal(stdin.blocking_skip, 1) == "StreamErrorClosed"
        assert refusal(stdin.blocking_read, 0) == "StreamErrorClosed"


def test_a_read_leaves_the_remaining_bytes(pipe: Pipe) -> None:
    with Guest() as guest:
        stdin = stdin_of(guest, pipe.reading)
        os.write(pipe.writing, b"abcdef")
        assert (stdin.read(0), stdin.skip(2), stdin.read(3), stdin.blocking_read(9)) == (b"", 2, b"cde", b"f")
        assert stdin.skip(1) == 0


def test_a_file_as_stdin_is_read_to_its_end(tmp_path: Any) -> None:
    file = tmp_path / "input"
    file.write_bytes(bytes(CHUNK_BYTES + 1))
    with Guest(stdio=StdioCapability(stdin=f"file:{file}")) as guest:
        stdin = guest.of("wasi:cli/stdin").get_stdin()
        assert len(stdin.blocking_read(2**64 - 1)) == CHUNK_BYTES
        assert len(stdin.blocking_read(2**64 - 1)) == 1
        assert refusal(stdin.read, 1) == "StreamErrorClosed"


# -- both ----------------------------------------------------------------------------------------------


def test_splicing_waits_for_both_sides(pipe: Pipe) -> None:
    other = Pipe()
    try:
        with Guest(timeout=0.2) as guest:
            stdin, stdout = stdin_of(guest, pipe.reading), stdout_of(guest, other.writing)
            assert stdout.splice(stdin, 100) == 0
            assert stdout.blocking_splice(stdin, 0) == 0
            os.write(pipe.writing, b"passing through")
            assert stdout.blocking_splice(stdin, 2**64 - 1) == 15
            assert os.read(other.reading, 100) == b"passing through"
            other.fill()
            os.write(pipe.writing, b"stays")
            assert stdout.splice(stdin, 100) == 0
            with pytest.raises(DeadlineExceeded):
                stdout.blocking_splice(stdin, 100)
        assert os.read(pipe.reading, 100) == b"stays"
    finally:
        other.close()


def test_splicing_into_a_closed_stream_takes_nothing(pipe: Pipe) -> None:
    other = Pipe()
    try:
        with Guest() as guest:
            stdin, stdout = stdin_of(guest, pipe.reading), stdout_of(guest, other.writing)
            other.close(other.reading)
            refusal(stdout.blocking_write_and_flush, b"x")
            os.write(pipe.writing, b"stays")
            assert refusal(stdout.splice, stdin, 5) == "StreamErrorClosed"
            assert refusal(stdout.blocking_splice, stdin, 5) == "StreamErrorClosed"
            assert stdin.read(9) == b"stays"
    finally:
        other.close()


def test_polling_returns_the_ready_pollables_and_accepts_duplicates(pipe: Pipe) -> None:
    with Guest() as guest:
        stdin, stdout = stdin_of(guest, pipe.reading), stdout_of(guest, pipe.writing)
        reading, writing, poll = stdin.subscribe(), stdout.subscribe(), guest.of("wasi:io/poll").poll
        assert poll([reading, writing, reading, writing]) == [1, 3]
        count = pipe.fill()
        assert poll([reading, writing]) == [0]
        while count:
            count -= len(stdin.read(CHUNK_BYTES))
        assert poll([reading, writing]) == [1]


def test_as_many_as_may_be_polled_are_polled() -> None:
    with Guest() as guest:
        timer = guest.of("wasi:clocks/monotonic-clock").subscribe_duration(0)
        assert guest.of("wasi:io/poll").poll([timer] * 65536) == list(range(65536))


@pytest.mark.parametrize("way", ["read", "write", "poll"])
def test_a_wait_is_cancelled(way: str, pipe: Pipe) -> None:
    with Guest() as guest:
        if way == "write":
            pipe.fill()
            call = lambda: stdout_of(guest, pipe.writing).blocking_write_and_flush(b"x")  # noqa: E731
        else:
            stdin = stdin_of(guest, pipe.reading)
            pollables = [stdin.subscribe()]
            call = {"read": lambda: stdin.blocking_read(1), "poll": lambda: guest.of("wasi:io/poll").poll(pollables)}[
                way
            ]
        canceller = threading.Thread(target=guest.door.cancel)
        canceller.start()
        with pytest.raises(Cancelled):
            call()
        canceller.join()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="the system has no pseudo-terminals")
def test_a_terminal_is_one_where_it_was_passed_on() -> None:
    leader, follower = os.openpty()
    try:
        with Guest() as guest:
            stdin_of(guest, follower)
            stdout_of(guest, follower)
            assert guest.of("wasi:cli/terminal-stdin").get_terminal_stdin() is not None
            assert guest.of("wasi:cli/terminal-stdout").get_terminal_stdout() is not None
            assert guest.of("wasi:cli/terminal-stderr").get_terminal_stderr() is None
    finally:
        os.close(leader)
        os.close(follower)
