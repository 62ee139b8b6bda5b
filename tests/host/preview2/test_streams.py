"""Streams and polling: permitted amounts, how an end is reported, and that waiting ends."""

from __future__ import annotations

import errno
import os
import time
from typing import Any, NoReturn

import pytest

from aegis.errors import DeadlineExceeded, GuestExit, GuestTrap, OutputExceeded, QuotaExceeded
from aegis.host.stdio import StandardInput, StandardOutput
from aegis.policy import (
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    LoggingCapability,
    RandomCapability,
    StdioCapability,
)
from aegis.wit.values import Err, Ok
from tests.host.preview2.guest import Guest, refusal


def captured() -> StdioCapability:
    return StdioCapability(stdin=b"some input", stdout="capture", stderr="capture")


def test_a_read_returns_the_available_bytes_and_then_the_end() -> None:
    with Guest(stdio=captured()) as guest:
        stdin = guest.of("wasi:cli/stdin").get_stdin()
        assert stdin.read(0) == b""
        assert stdin.read(4) == b"some"
        assert stdin.blocking_skip(1) == 1
        assert stdin.blocking_read(2**64 - 1) == b"input"
        assert refusal(stdin.read, 1) == "StreamErrorClosed"
        assert refusal(stdin.blocking_read, 1) == "StreamErrorClosed"


def test_a_read_is_never_larger_than_a_chunk() -> None:
    with Guest(stdio=StdioCapability(stdin=bytes(1 << 20))) as guest:
        assert len(guest.of("wasi:cli/stdin").get_stdin().read(2**64 - 1)) == 65536


def test_a_write_needs_its_permit() -> None:
    with Guest(stdio=captured()) as guest:
        stdout = guest.of("wasi:cli/stdout").get_stdout()
        with pytest.raises(GuestTrap, match=r"beyond the permit of check-write \(\d+/0 bytes\): call check-write"):
            stdout.write(b"x")
        assert stdout.check_write() == 65536
        stdout.write(b"abc")
        stdout.write_zeroes(2)
        stdout.flush()
        with pytest.raises(GuestTrap, match="65,532/65,531 bytes"):
            stdout.write(bytes(65532))
        stdout.blocking_write_and_flush(b"more")
        for call in (stdout.blocking_write_and_flush, lambda data: stdout.blocking_write_zeroes_and_flush(len(data))):
            with pytest.raises(
                GuestTrap, match=r"blocking write too long \([\d,]+/4,096 bytes\): write in several parts"
            ):
                call(bytes(4097))
        assert guest.grants.stdio.stdout_bytes() == b"abc\0\0more"


def test_splice_moves_no_more_than_fits() -> None:
    with Guest(stdio=captured()) as guest:
        stdin = guest.of("wasi:cli/stdin").get_stdin()
        stderr = guest.of("wasi:cli/stderr").get_stderr()
        assert stderr.splice(stdin, 4) == 4
        assert stderr.blocking_splice(stdin, 2**64 - 1) == 6
        assert refusal(stderr.splice, stdin, 1) == "StreamErrorClosed"
        assert guest.grants.stdio.stderr_bytes() == b"some input"


def test_output_beyond_its_limit_ends_the_run() -> None:
    with Guest(stdio=captured(), limits={"stdout": 10}) as guest:
        stdout = guest.of("wasi:cli/stdout").get_stdout()
        with pytest.raises(OutputExceeded):
            stdout.blocking_write_and_flush(bytes(11))


@pytest.fixture
def pipe() -> Any:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_an_empty_pipe_is_waited_for_and_its_end_reported(pipe: tuple[int, int]) -> None:
    with Guest(timeout=0.2) as guest:
        stdin = guest.of("wasi:cli/stdin").get_stdin()
        stdin._reader._source = StandardInput(pipe[0], guest.door)
        assert stdin.read(10) == b""
        assert not stdin.subscribe().ready()
        os.write(pipe[1], b"now")
        assert stdin.subscribe().ready()
        stdin.subscribe().block()
        assert stdin.blocking_read(10) == b"now"
        with pytest.raises(DeadlineExceeded):
            stdin.blocking_read(10)
        guest.door.stop = None
        guest.door.deadline = time.monotonic() + 20
        os.close(pipe[1])
        assert stdin.subscribe().ready()
        assert refusal(stdin.read, 1) == "StreamErrorClosed"


def test_a_full_pipe_holds_its_writer_back(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    try:
        while True:
            os.write(pipe[1], bytes(65536))
    except BlockingIOError:
        os.set_blocking(pipe[1], True)
    with Guest(timeout=0.2) as guest:
        stdout = guest.of("wasi:cli/stdout").get_stdout()
        stdout._writer._sink = StandardOutput("stdout", "inherit", pipe[1], None, guest.door)
        assert stdout.check_write() == 0
        assert not stdout.subscribe().ready()
        with pytest.raises(DeadlineExceeded):
            stdout.blocking_write_and_flush(b"x")


def test_a_reader_that_went_away_closes_the_stream(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with Guest() as guest:
        stdout = guest.of("wasi:cli/stdout").get_stdout()
        stdout._writer._sink = StandardOutput("stdout", "inherit", pipe[1], None, guest.door)
        assert error_code(guest, stdout.blocking_write_and_flush, b"x") == "pipe"
        assert refusal(stdout.blocking_write_and_flush, b"x") == "StreamErrorClosed"


def error_code(guest: Guest, function: Any, argument: object) -> str | None:
    """Return what ``filesystem-error-code`` tells about the error of a stream."""
    with pytest.raises(Err) as caught:
        function(argument)
    code = guest.of("wasi:filesystem/types").filesystem_error_code(caught.value.value.value)
    return None if code is None else str(code.value)


CODES = [
    (errno.ENOSPC, "insufficient-space"), (errno.EDQUOT, "quota"), (errno.EIO, "io"), (errno.EFBIG, "file-too-large"),
    (errno.EPIPE, "pipe"), (errno.EBADF, "bad-descriptor"), (errno.EROFS, "read-only"), (errno.ENXIO, "no-such-device"),
    (errno.EISDIR, "is-directory"), (errno.ENOTSUP, "unsupported"), (errno.ECONNRESET, "io"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "code"), CODES)
def test_an_error_of_a_standard_stream_keeps_its_code(number: int, code: str) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    for name in ("stdout", "stderr"):
        with Guest() as guest:
            stream = getattr(guest.of(f"wasi:cli/{name}"), f"get_{name}")()
            sink = StandardOutput(name, "inherit", 1, None, guest.door)
            sink.write = fail  # type: ignore[method-assign]
            sink.awaited = lambda: None  # type: ignore[method-assign]
            stream._writer._sink = sink
            assert error_code(guest, stream.blocking_write_and_flush, b"x") == code
            assert refusal(stream.check_write) == "StreamErrorClosed"
    with Guest() as guest:
        stdin = guest.of("wasi:cli/stdin").get_stdin()
        stdin._reader._source.read = fail
        assert error_code(guest, stdin.blocking_read, 1) == code


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_device_is_out_of_space() -> None:
    with open("/dev/full", "wb") as full, Guest() as guest:
        stdout = guest.of("wasi:cli/stdout").get_stdout()
        stdout._writer._sink = StandardOutput("stdout", "inherit", full.fileno(), None, guest.door)
        assert error_code(guest, stdout.blocking_write_and_flush, b"x") == "insufficient-space"


# -- polling and clocks ----------------------------------------------------------------------------------


def test_polling_nothing_traps_and_too_much_is_refused() -> None:
    with Guest() as guest:
        poll = guest.of("wasi:io/poll").poll
        with pytest.raises(GuestTrap, match="empty list"):
            poll([])
        timer = guest.of("wasi:clocks/monotonic-clock").subscribe_duration(0)
        with pytest.raises(GuestTrap, match=r"too many pollables in one poll \(65,537/65,536\): poll fewer"):
            poll([timer] * 65537)


def test_a_stand_in_clock_passes_when_nothing_else_is_ready(pipe: tuple[int, int]) -> None:
    with Guest() as guest:
        clock = guest.of("wasi:clocks/monotonic-clock")
        stdin = guest.of("wasi:cli/stdin").get_stdin()
        stdin._reader._source = StandardInput(pipe[0], guest.door)
        started = time.monotonic()
        hour = clock.subscribe_duration(3600 * 10**9)
        assert guest.of("wasi:io/poll").poll([stdin.subscribe(), hour]) == [1]
        assert time.monotonic() - started < 10
        assert clock.now() >= 3600 * 10**9
        os.write(pipe[1], b"x")
        later = clock.subscribe_duration(10**9)
        assert guest.of("wasi:io/poll").poll([stdin.subscribe(), later]) == [0]
        never = clock.subscribe_instant(2**64 - 1)
        assert not never.ready()


def test_the_systems_clock_takes_its_time_and_no_longer_than_the_deadline() -> None:
    with Guest(clock=ClockCapability.parse("system"), timeout=0.2) as guest:
        clock = guest.of("wasi:clocks/monotonic-clock")
        clock.subscribe_duration(1000).block()
        assert guest.of("wasi:clocks/wall-clock").now().seconds > 1_600_000_000
        with pytest.raises(DeadlineExceeded):
            clock.subscribe_duration(3600 * 10**9).block()


def test_the_clock_of_an_ungranted_run_starts_in_1970() -> None:
    with Guest() as guest:
        assert guest.of("wasi:clocks/wall-clock").now().seconds == 0
        assert guest.of("wasi:clocks/wall-clock").resolution().nanoseconds == 1000


# -- the small interfaces ----------------------------------------------------------------------------------


def test_randomness_repeats_unless_granted_and_has_a_bound() -> None:
    draws = []
    for capability in (RandomCapability(), RandomCapability(), RandomCapability.parse("system")):
        with Guest(random=capability) as guest:
            draws.append(guest.of("wasi:random/random").get_random_bytes(32))
            assert len(guest.of("wasi:random/insecure").get_insecure_random_bytes(5)) == 5
            assert len(guest.of("wasi:random/insecure-seed").insecure_seed()) == 2
            assert guest.of("wasi:random/random").get_random_u64() < 2**64
            with pytest.raises(QuotaExceeded):
                guest.of("wasi:random/random").get_random_bytes(2**64 - 1)
    assert draws[0] == draws[1] != draws[2]


def test_arguments_environment_and_exit() -> None:
    environment = EnvironmentCapability(set=(("A", "1"),))
    with Guest(args=("program", "a\udcffb"), environment=environment) as guest:
        cli = guest.of("wasi:cli/environment")
        assert cli.get_arguments() == ["program", "a\N{REPLACEMENT CHARACTER}b"]
        assert cli.get_environment() == [("A", "1")]
        assert cli.initial_cwd() is None
        for call, argument, code in (("exit", Ok(None), 0), ("exit", Err(None), 1), ("exit_with_code", 42, 42)):
            with pytest.raises(GuestExit) as caught:
                getattr(guest.of("wasi:cli/exit"), call)(argument)
            assert caught.value.code == code
        for name in ("stdin", "stdout", "stderr"):
            assert getattr(guest.of(f"wasi:cli/terminal-{name}"), f"get_terminal_{name}")() is None


def test_configuration_has_the_entries_of_the_policy() -> None:
    with Guest(config=ConfigCapability(set=(("a", "1"),))) as guest:
        store = guest.of("wasi:config/store")
        assert (store.get("a"), store.get("b"), store.get_all()) == ("1", None, [("a", "1")])
    with Guest() as guest:
        assert guest.of("wasi:config/store").get_all() == []


def test_a_log_line_needs_its_grant() -> None:
    from aegis.bindings.wasi_logging_logging import Level

    for capability, heard in ((LoggingCapability(), 0), (LoggingCapability(enabled=True, min_level="warn"), 1)):
        with Guest(logging=capability) as guest:
            lines: list[tuple[str, str]] = []
            guest.door.on_log = lambda level, text, lines=lines: lines.append((level, text))
            log = guest.of("wasi:logging/logging").log
            log(Level.INFO, "ctx", "too quiet")
            log(Level.ERROR, "ctx", "bad \x1b[31m")
            assert len(lines) == heard
            assert not heard or lines == [("error", "ctx: bad \\x1b[31m")]
