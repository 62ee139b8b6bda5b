"""Streams, clocks, randomness, environment, log and waits: by default, with grants, and at the limits."""

from __future__ import annotations

import logging
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis.errors import Cancelled, CapabilityDenied, GuestExit, OutputExceeded, PolicyError
from aegis.host import acquire, host_functions
from aegis.host.preview1.abi import SIGNATURES, Errno
from aegis.policy import (
    ClockCapability,
    EnvironmentCapability,
    FilesystemCapability,
    LoggingCapability,
    Policy,
    RandomCapability,
    StdioCapability,
)
from aegis.values import FuncType
from tests.host.harness import PAGES, AegisDriver, Memory, Scope, clock_event, fd_event

NONE = FilesystemCapability()
REALTIME, MONOTONIC = 0, 1
AT = 0x4000


def guest(**policy: Any) -> AegisDriver:
    """Return a guest without files."""
    return AegisDriver(capability=NONE, **policy)


def strings(driver: AegisDriver, get: str, sizes: str) -> list[bytes]:
    """Return the arguments or the environment variables that a guest sees."""
    assert driver.call(sizes, AT, AT + 4) == 0
    count, size = struct.unpack("<II", driver.peek(AT, 8))
    assert driver.call(get, AT, AT + 0x1000) == 0
    pointers = struct.unpack(f"<{count}I", driver.peek(AT, 4 * count))
    raw = driver.peek(AT + 0x1000, size)
    return [raw[p - AT - 0x1000 :].partition(b"\0")[0] for p in pointers]


# -- arguments and environment ------------------------------------------------------------------


def test_arguments_arrive_byte_by_byte() -> None:
    driver = guest()
    driver.grants.close()
    driver.grants = acquire(driver.policy, args=["prog", "", "ä b"], scope=driver.scope)
    functions = host_functions(
        driver.grants,
        driver.memory,
        driver.scope,
        driver.policy.limits,
        {("wasi_snapshot_preview1", name): kind for name, kind in SIGNATURES.items()},
    )
    driver.functions = {f.name: f.call for f in functions}
    assert strings(driver, "args_get", "args_sizes_get") == [b"prog", b"", "ä b".encode()]


def test_an_argument_with_a_nul_is_refused() -> None:
    with pytest.raises(PolicyError, match="NUL"):
        acquire(Policy(), args=["a\0b"], scope=Scope())


def test_the_environment_is_empty_until_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PASSED", "from the host")
    monkeypatch.delenv("AEGIS_MISSING", raising=False)
    assert strings(guest(), "environ_get", "environ_sizes_get") == []
    capability = EnvironmentCapability(set=(("A", "1"), ("B", "")), pass_=("AEGIS_PASSED", "AEGIS_MISSING"))
    seen = strings(guest(environment=capability), "environ_get", "environ_sizes_get")
    assert sorted(seen) == [b"A=1", b"AEGIS_PASSED=from the host", b"B="]


# -- clocks -------------------------------------------------------------------------------------


def test_the_virtual_clock_starts_at_the_epoch_and_moves_only_with_the_guest() -> None:
    one, two = guest(), guest()
    readings = [[g.clock_time_get(c)[1] for c in (REALTIME, MONOTONIC, REALTIME)] for g in (one, two)]
    assert readings[0] == readings[1] == sorted(readings[0])
    assert readings[0][-1] < 1_000_000
    assert one.poll_oneoff(clock_event(1, 3_600 * 10**9)) == (0, [(1, 0, 0, 0)])
    assert one.clock_time_get(MONOTONIC)[1] >= 3_600 * 10**9
    assert two.clock_time_get(MONOTONIC)[1] < 1_000_000
    assert one.scope.waits == []


def test_a_fixed_clock_returns_its_instant() -> None:
    driver = guest(clock=ClockCapability.parse("fixed:2026-01-01T00:00:00Z"))
    assert driver.clock_time_get(REALTIME)[1] // 10**9 == 1_767_225_600


def test_the_systems_clock_is_the_hosts_and_coarse_cuts_it() -> None:
    import time

    before = time.time_ns()
    exact = guest(clock=ClockCapability.parse("system")).clock_time_get(REALTIME)[1]
    assert before <= exact <= time.time_ns()
    coarse = guest(clock=ClockCapability.parse("coarse:1s"))
    assert coarse.clock_time_get(REALTIME)[1] % 10**9 == 0
    assert coarse.call("clock_res_get", REALTIME, AT) == 0
    assert int.from_bytes(coarse.peek(AT, 8), "little") == 10**9


def test_a_denied_clock_ends_the_run_and_names_its_grant() -> None:
    driver = guest(clock=ClockCapability.parse("deny"))
    with pytest.raises(CapabilityDenied, match="--allow-clock"):
        driver.clock_time_get(REALTIME)
    assert [(d.capability, d.allowed, d.remedy) for d in driver.scope.decisions] == [("clock", False, "--allow-clock")]


def test_the_clocks_of_the_process_are_not_there() -> None:
    assert [guest().clock_time_get(c)[0] for c in (2, 3)] == [Errno.BADF, Errno.BADF]
    assert guest().clock_time_get(4)[0] == Errno.INVAL


# -- waiting ------------------------------------------------------------------------------------


def test_a_wait_on_the_systems_clock_takes_the_hosts_time_and_stops_with_the_call() -> None:
    driver = guest(clock=ClockCapability.parse("system"))
    assert driver.poll_oneoff(clock_event(5, 2 * 10**9), clock_event(6, 10**9)) == (0, [(6, 0, 0, 0)])
    assert driver.scope.waits == [1.0]


def test_a_wait_ends_when_the_call_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> tuple[list[int], list[int]]:
        raise Cancelled("the run was cancelled")

    driver = guest(clock=ClockCapability.parse("system"))
    monkeypatch.setattr(driver.scope, "wait", stop)
    with pytest.raises(Cancelled):
        driver.poll_oneoff(clock_event(1, 2**64 - 1))


@pytest.mark.parametrize("clock", ["virtual", "system"])
@pytest.mark.parametrize("absolute", [False, True])
def test_the_longest_wait_that_can_be_said_is_safe(clock: str, absolute: bool) -> None:
    driver = guest(clock=ClockCapability.parse(clock))
    for which in (REALTIME, MONOTONIC):
        assert driver.poll_oneoff(clock_event(1, 2**64 - 1, clock=which, absolute=absolute)) == (0, [(1, 0, 0, 0)])
    assert driver.clock_time_get(MONOTONIC)[0] == 0


def test_an_absolute_wait_for_the_past_is_due_at_once() -> None:
    driver = guest(clock=ClockCapability.parse("system"))
    assert driver.poll_oneoff(clock_event(1, 0, clock=REALTIME, absolute=True)) == (0, [(1, 0, 0, 0)])
    assert all(not w for w in driver.scope.waits)


def test_waiting_for_nothing_or_for_a_missing_descriptor() -> None:
    driver = guest()
    assert driver.poll_oneoff()[0] == Errno.INVAL
    assert driver.poll_oneoff(fd_event(9, 77)) == (0, [(9, Errno.BADF, 1, 0)])
    assert driver.poll_oneoff(fd_event(9, 1))[1][0][1] == Errno.BADF
    assert driver.poll_oneoff(struct.pack("<QB39x", 1, 7))[0] == Errno.INVAL
    assert driver.call("poll_oneoff", AT, AT, 0xFFFFFFFF, AT) in (Errno.INVAL, Errno.FAULT)


def test_an_inherited_input_is_waited_for() -> None:
    with pipe() as (reader, writer), replaced(0, reader):
        driver = guest(stdio=StdioCapability(stdin="inherit"), clock=ClockCapability.parse("system"))
        assert driver.poll_oneoff(fd_event(1, 0), clock_event(2, 1_000)) == (0, [(2, 0, 0, 0)])
        os.write(writer, b"line\n")
        number, events = driver.poll_oneoff(fd_event(1, 0), clock_event(2, 10**12))
        assert (number, [e[:3] for e in events]) == (0, [(1, 0, 1)])
        assert driver.fd_read(0, 100) == (0, b"line\n")


# -- randomness ---------------------------------------------------------------------------------


def test_random_bytes_repeat_by_seed_and_only_then() -> None:
    def drawn(*sizes: int, **policy: Any) -> bytes:
        driver = guest(**policy)
        for size in sizes:
            assert driver.call("random_get", AT, size) == 0
        return driver.peek(AT, sizes[-1])

    assert drawn(64) == drawn(64)
    assert drawn(64) != drawn(64, random=RandomCapability(seed=1))
    assert drawn(10, 54) == drawn(64)[10:]
    system = RandomCapability.parse("system")
    assert drawn(64, random=system) != drawn(64, random=system)
    assert drawn(0) == b""


def test_denied_randomness_ends_the_run_and_names_its_grant() -> None:
    with pytest.raises(CapabilityDenied, match="--allow-random"):
        guest(random=RandomCapability.parse("deny")).call("random_get", AT, 1)


def test_random_bytes_are_made_piece_by_piece_and_stop_with_the_call() -> None:
    driver = guest()
    assert driver.call("random_get", 0, 0xFFFFFFFF) == Errno.FAULT
    assert driver.call("random_get", 0, PAGES * 65536) == 0


# -- streams ------------------------------------------------------------------------------------


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose ends are closed after the test."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            try:
                os.close(end)
            except OSError:
                continue


@contextmanager
def replaced(number: int, descriptor: int) -> Iterator[None]:
    """Temporarily replace stream ``number`` of the process by ``descriptor``."""
    kept = os.dup(number)
    os.dup2(descriptor, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def test_output_is_captured_by_default_and_input_is_empty() -> None:
    driver = guest()
    assert driver.fd_write(1, b"out ", b"put") == (0, 7)
    assert driver.fd_write(2, b"error") == (0, 5)
    assert driver.fd_read(0, 10) == (0, b"")
    stdio = driver.grants.stdio
    assert (stdio.stdout_bytes(), stdio.stderr_bytes()) == (b"out put", b"error")
    assert (stdio.written(1), stdio.written(2)) == (7, 5)
    assert driver.fd_read(1, 1)[0] in (Errno.BADF, Errno.NOTCAPABLE)
    assert driver.fd_write(0, b"x")[0] in (Errno.BADF, Errno.NOTCAPABLE)


@pytest.mark.parametrize(("stream", "limit"), [(1, "stdout"), (2, "stderr")])
def test_output_over_its_limit_ends_the_run_after_delivering_the_part_that_fits(stream: int, limit: str) -> None:
    driver = guest(**{limit: 10})
    assert driver.fd_write(stream, b"12345678") == (0, 8)
    with pytest.raises(OutputExceeded) as caught:
        driver.fd_write(stream, b"9abc")
    assert (caught.value.limit, caught.value.allowed) == (limit, 10)
    stdio = driver.grants.stdio
    assert (stdio.stdout_bytes() if stream == 1 else stdio.stderr_bytes()) == b"123456789a"


def test_discarded_output_is_counted_and_gone() -> None:
    driver = guest(stdio=StdioCapability(stdout="discard"))
    assert driver.fd_write(1, b"gone") == (0, 4)
    assert (driver.grants.stdio.stdout_bytes(), driver.grants.stdio.written(1)) == (b"", 4)


def test_inherited_output_is_passed_through_as_bytes() -> None:
    data = bytes(range(256)) * 64
    with tempfile.TemporaryFile() as file, replaced(1, file.fileno()):
        driver = guest(stdio=StdioCapability(stdout="inherit"))
        assert driver.fd_write(1, data) == (0, len(data))
        file.seek(0)
        assert file.read() == data


def test_a_reader_that_went_away_is_reported_to_the_guest() -> None:
    with pipe() as (reader, writer), replaced(1, writer):
        os.close(reader)
        driver = guest(stdio=StdioCapability(stdout="inherit"))
        assert driver.fd_write(1, b"x")[0] == Errno.PIPE


def test_a_full_device_is_reported_to_the_guest() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb", buffering=0) as full, replaced(1, full.fileno()):
        driver = guest(stdio=StdioCapability(stdout="inherit"))
        assert driver.fd_write(1, b"x")[0] == Errno.NOSPC


def test_input_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    driver = guest(stdio=StdioCapability(stdin=b"some input"))
    assert driver.fd_read(0, 4) == (0, b"some")
    assert driver.fd_read(0, 1, 100) == (0, b" input")
    assert driver.fd_read(0, 4) == (0, b"")
    (tmp_path / "in").write_bytes(b"from a file")
    driver = guest(stdio=StdioCapability(stdin=f"file:{tmp_path / 'in'}"))
    assert driver.fd_read(0, 100) == (0, b"from a file")
    driver.close()


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_an_input_that_cannot_be_read_is_the_embedders_mistake(tmp_path: Path, what: str) -> None:
    (tmp_path / "folder").mkdir()
    driver = guest(stdio=StdioCapability(stdin=f"file:{tmp_path / what}"))
    with pytest.raises(PolicyError, match=what):
        driver.fd_read(0, 1)


def test_buffers_that_overlap_write_no_more_than_a_memory_holds() -> None:
    driver = guest(stdout=None)
    size = PAGES * 65536
    driver.poke(AT, struct.pack("<II", 0, size) * 1000)
    assert driver.call("fd_write", 1, AT, 1000, AT) == 0
    assert int.from_bytes(driver.peek(AT, 4), "little") == size == len(driver.grants.stdio.stdout_bytes())


# -- ending, logging ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 255, 0xFFFFFFFF])
def test_exiting_ends_the_run_with_its_code(code: int) -> None:
    with pytest.raises(GuestExit) as caught:
        guest().call("proc_exit", code)
    assert caught.value.code == code


def logged(capability: LoggingCapability, *lines: tuple[int, bytes]) -> list[tuple[str, str]]:
    """Return the events that observers receive for the lines that a guest logs."""
    scope, memory = Scope(), Memory()
    grants = acquire(Policy(logging=capability), scope=scope)
    wanted = {("aegis", "log"): FuncType(("i32", "i32", "i32"), ())}
    (log,) = host_functions(grants, memory, scope, grants.policy.limits, wanted)
    for level, text in lines:
        memory.write(0, text)
        assert log.call(level, 0, len(text)) is None
    assert log.call(5, -1, 10) is None  # outside memory: dropped
    return scope.lines


def test_log_lines_are_filtered_escaped_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    lines = ((0, b"trace"), (2, b"info \x1b[31m\xff"), (99, b"worst"), (4, b"x" * 10_000))
    with caplog.at_level(logging.DEBUG, logger="aegis.guest"):
        heard = logged(LoggingCapability.production(), *lines)
    assert [level for level, _ in heard] == ["info", "critical", "error"]
    assert "\x1b" not in heard[0][1]
    assert len(heard[2][1]) < 4200
    assert [r.getMessage() for r in caplog.records] == [text for _, text in heard]


def test_without_a_grant_log_lines_go_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(LoggingCapability(), (5, b"critical")) == []
    assert not caplog.records
