"""The benchmark of threads: scaling of compute, latency of cancellation, cost of acall.

``cancels`` has no reference: its columns are the median and the maximum of 30 cancellations, from ``cancel()`` in one
thread to the error in the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
CANCELS = 30
PROMPT = 0.050

SPIN = """(module (import "env" "f" (func $f)) (func (export "go") (call $f) (loop $l (br $l))))"""
HOSTED = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "go") (param i32) (result i32) (call $f (local.get 0))))"""


def threads(rounds: int) -> list[Row]:
    """Two sandboxes that compute on two threads, against native code that also releases the interpreter lock."""
    import aegis

    runtime = aegis.Aegis(timeout="5m")
    module = runtime.load_file(ROOT / "guests" / "build" / "bench.wasm")
    boxes = [runtime.sandbox(module) for _ in range(2)]
    block = bytes(64 << 20)

    def measured(n: int) -> None:
        boxes[n].call("sieve", 20_000_000)

    def native(n: int) -> None:
        hashlib.sha256(block).digest()

    found = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            found.append((_scaling(pool, measured), _scaling(pool, native)))
    mine, reference = (statistics.median(column) for column in zip(*found, strict=True))
    for box in boxes:
        box.close()
    gate = ">= 0.8 of native scaling"
    return [
        Row("compute on 2 threads, times that of 1", mine, reference, mine / reference, gate, mine / reference >= 0.8)
    ]


def _scaling(pool: ThreadPoolExecutor, work: Callable[[int], None]) -> float:
    """Return the speed-up of two threads over one."""
    started = time.perf_counter()
    pool.submit(work, 0).result()
    alone = time.perf_counter() - started
    started = time.perf_counter()
    for job in [pool.submit(work, n) for n in range(2)]:
        job.result()
    return 2 * alone / (time.perf_counter() - started)


# -- cancelling --------------------------------------------------------------------------------------------


Waiting = tuple[Callable[[], None], Callable[[], object], Callable[[], None]]
"""Return when the call has started; make the call; cancel it."""


@contextlib.contextmanager
def _spinning() -> Iterator[Waiting]:
    import aegis

    entered = threading.Event()
    runtime = aegis.Aegis(timeout="60s")
    with runtime.sandbox(runtime.load_wat(SPIN), imports={"env": {"f": entered.set}}) as box:
        yield lambda: entered.wait() and None, lambda: box.call("go"), box.cancel


@contextlib.contextmanager
def _awaiting() -> Iterator[Waiting]:
    """A synchronous caller would block the event loop, so the loop has its own thread here."""
    import aegis

    entered = threading.Event()

    async def f(x: int) -> int:
        entered.set()
        await asyncio.Event().wait()
        return x

    runtime = aegis.Aegis(timeout="60s")
    with runtime.sandbox(runtime.load_wat(HOSTED), imports={"env": {"f": f}}) as box:
        yield lambda: entered.wait() and None, lambda: asyncio.run(box.acall("go", 1)), box.cancel


@contextlib.contextmanager
def _host(make: Callable[[Any], Callable[[], object]], **more: Any) -> Iterator[Waiting]:
    """A host function that waits, as a guest would reach it."""
    from tests.host.network.wire import guest

    with guest("local:*", "*.example:*", timeout=60, **more) as made:
        call = make(made)
        yield lambda: _waits(made.door), call, made.door.cancel


def _waits(door: Any) -> None:
    while door._wake_pipe is None and door._wake_up is None:
        time.sleep(0)


def _polling() -> Any:
    import aegis

    def make(made: Any) -> Callable[[], object]:
        hour = made.of("wasi:clocks/monotonic-clock").subscribe_duration(3600 * 10**9)
        return lambda: made.of("wasi:io/poll").poll([hour])

    return _host(make, clock=aegis.ClockCapability.parse("system"))


@contextlib.contextmanager
def _pipe() -> Iterator[Waiting]:
    from aegis.host.stdio import StandardInput

    ends = os.pipe()

    def make(made: Any) -> Callable[[], object]:
        made.grants.stdio.stdin = StandardInput(ends[0], made.door)
        stdin = made.of("wasi:cli/stdin").get_stdin()
        return lambda: stdin.blocking_read(1)

    try:
        with _host(make) as waiting:
            yield waiting
    finally:
        for end in ends:
            os.close(end)


@contextlib.contextmanager
def _socket() -> Iterator[Waiting]:
    from tests.host.network.wire import connect

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        _host(lambda made: connect(made, silent.getsockname()[1])[1]) as (_, receive, cancel),
    ):
        entered = threading.Event()

        def call() -> object:
            entered.set()
            return receive.blocking_read(1)  # type: ignore[attr-defined]

        yield lambda: entered.wait() and None, call, cancel


@contextlib.contextmanager
def _http() -> Iterator[Waiting]:
    from tests.host.http.client import Client, wait_for

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with Client(f"local:{port}", timeout=60) as client:
            future = client.handler.handle(client.request(f"http://localhost:{port}/"), None)
            yield lambda: _waits(client.door), lambda: wait_for(future), client.door.cancel
            future.__drop__()


@contextlib.contextmanager
def _name() -> Iterator[Waiting]:
    go = threading.Event()

    def make(made: Any) -> Callable[[], object]:
        stream = made.of("wasi:sockets/ip-name-lookup").resolve_addresses(None, "a.example")
        return stream.subscribe().block  # type: ignore[no-any-return]

    try:
        with _host(make, resolver=lambda _: go.wait(60) and []) as waiting:
            yield waiting
    finally:
        go.set()


CASES = (
    ("a spinning guest", _spinning), ("a guest in poll", _polling), ("a read of an idle pipe", _pipe),
    ("a read of an idle socket", _socket), ("HTTP with a silent server", _http), ("a name lookup that hangs", _name),
    ("an async host function", _awaiting),
)  # fmt: skip


def cancels(rounds: int) -> list[Row]:
    """The time from ``cancel()`` to the end of the call, by the call's activity; 30 of each."""
    rows = []
    for what, case in CASES:
        found = sorted(_cancelled(case) for _ in range(CANCELS))
        middle, worst = statistics.median(found), found[-1]
        rows.append(Row(f"cancel {what}: median, largest", middle, worst, worst, "<= 50 ms median", middle <= PROMPT))
    return rows


def _cancelled(case: Callable[[], Any]) -> float:
    """Return the seconds from one cancellation to the end of the call."""
    ended: list[float] = []
    with case() as (under_way, call, cancel):

        def run() -> None:
            with contextlib.suppress(BaseException):
                call()
            ended.append(time.perf_counter())

        worker = threading.Thread(target=run)
        worker.start()
        under_way()
        time.sleep(0.02)  # so that it is certainly waiting or spinning by now
        started = time.perf_counter()
        cancel()
        worker.join()
    return ended[0] - started


# -- event loops -----------------------------------------------------------------------------------------------


def loops(rounds: int) -> list[Row]:
    """One ``acall`` against one ``call`` on a supervised thread; and 500 that each wait 50 ms in an async function."""
    import aegis

    runtime = aegis.Aegis()
    module = runtime.load_wat(HOSTED)
    with runtime.sandbox(module, imports={"env": {"f": lambda x: x}}) as box:

        async def many() -> float:
            await box.acall("go", 1)
            started = time.perf_counter()
            for _ in range(500):
                await box.acall("go", 1)
            return (time.perf_counter() - started) / 500

        def called() -> float:
            box.call("go", 1)
            started = time.perf_counter()
            for _ in range(500):
                box.call("go", 1)
            return (time.perf_counter() - started) / 500

        pairs = [(asyncio.run(many()), called()) for _ in range(rounds)]
    mine, reference = min(a for a, _ in pairs), min(b for _, b in pairs)
    took, most = _five_hundred(runtime, module)
    return [
        Row("acall against a supervised call", mine, reference, mine / reference, "", None),
        Row(f"500 acalls of 50 ms each, on {most} threads at most", took, 0.05, took / 0.05, "", None),
    ]


def _five_hundred(runtime: Any, module: Any) -> tuple[float, int]:
    most = 0

    async def f(x: int) -> int:
        nonlocal most
        most = max(most, threading.active_count())
        await asyncio.sleep(0.05)
        return x

    async def main() -> float:
        boxes = [runtime.sandbox(module, imports={"env": {"f": f}}) for _ in range(500)]
        started = time.perf_counter()
        await asyncio.gather(*(box.acall("go", n) for n, box in enumerate(boxes)))
        took = time.perf_counter() - started
        for box in boxes:
            box.close()
        return took

    return asyncio.run(main()), most


PARTS = (threads, cancels, loops)
