"""The benchmark of isolation: the cost of a separate process for a guest.

Both sides are Aegis, in one run: the same calls isolated and in process. Rows of a median and of a ninetieth percentile
are of single sandboxes, created one after another. Memory is the proportional set size, which divides each page among
the processes that share it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
LARGE = 16 << 20

ADD = """(module (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))"""
LOOP = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "go") (param $n i32) (result i32) (local $x i32)
    (loop $again
      (local.set $x (call $f (local.get $x)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    local.get $x))"""
LARGE_MEMORY = '(module (memory (export "memory") 512) (func (export "run")))'
LISTS = """(component
  (core module $m (memory (export "memory") 512)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (func (export "take") (param i32 i32) (result i32) (local.get 1))
    (func (export "give") (param $n i32) (result i32)
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (local.get $n))
      (i32.const 0))
    (func (export "echo") (param $at i32) (param $n i32) (result i32)
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $n))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "take") (param "data" (list u8)) (result u32)
    (canon lift (core func $i "take") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "give") (param "n" u32) (result (list u8))
    (canon lift (core func $i "give") (memory (core memory $i "memory"))))
  (func (export "echo") (param "data" (list u8)) (result (list u8))
    (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"""
FIRST = """
import sys, time
sys.path.insert(0, sys.argv[1])
import aegis
started = time.perf_counter()
runtime = aegis.Aegis(cache=False, isolation=sys.argv[2] == "isolated")
with runtime.sandbox(runtime.load_wat(sys.argv[3])) as sandbox:
    sandbox.call("add", 2, 3)
    print(time.perf_counter() - started)
"""


def _row(what: str, measured: float, reference: float, gate: str = "", met: bool | None = None, unit: str = "s") -> Row:
    return Row(f"isolated: {what}", measured, reference, measured / reference if reference else 0.0, gate, met, unit)


def _runtime(**keywords: Any) -> Any:
    import aegis

    return aegis.Aegis(**{"cache": False, "timeout": "5m", "host_calls": None, **keywords})


@contextlib.contextmanager
def _both(text: str, value_bytes: Any = "64MiB", **keywords: Any) -> Iterator[tuple[Any, Any]]:
    """One sandbox isolated and one in process, with the same guest."""
    measured, reference = _runtime(isolation=True, value_bytes=value_bytes), _runtime(value_bytes=value_bytes)
    with (
        measured.sandbox(measured.load_wat(text), **keywords) as isolated,
        reference.sandbox(reference.load_wat(text), **keywords) as inside,
    ):
        yield isolated, inside


def _times(function: Callable[[], object], count: int, *, pause: float = 0.0) -> list[float]:
    """Return the sorted seconds of ``count`` runs."""
    found = []
    for _ in range(count):
        if pause:
            time.sleep(pause)
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return sorted(found)


def _per_call(function: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - started) / count


def _in_turns(measured: Callable[[], float], reference: Callable[[], float], rounds: int) -> tuple[float, float]:
    pairs = [(measured(), reference()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def _p90(times: list[float]) -> float:
    return times[len(times) * 9 // 10]


# -- the life of a sandbox -------------------------------------------------------------------------


def isolation_life(rounds: int) -> list[Row]:
    """Create, call and close: sequentially, with an idle pool, and in a recycled worker."""
    inside = _times(_life(_runtime()), 100)
    rows = []
    for what, keywords, pause, gate in (
        ("", {"isolation": True}, 0.0, True),
        (", the pool at rest", {"isolation": True}, 0.03, True),
        (", recycled", {"isolation": {"recycle": 1_000_000}}, 0.0, False),
    ):
        times = _times(_life(_runtime(**keywords)), 30 * rounds, pause=pause)
        median, met = statistics.median(times), None
        if gate:
            met = median <= 0.005
        rows.append(
            _row(f"create + call + close{what}, median", median, statistics.median(inside), "<= 5 ms" * gate, met)
        )
        rows.append(_row(f"create + call + close{what}, 90 %", _p90(times), _p90(inside)))
    return rows


def _life(runtime: Any) -> Callable[[], None]:
    module = runtime.load_wat(ADD)

    def once() -> None:
        with runtime.sandbox(module) as sandbox:
            sandbox.call("add", 2, 3)

    for _ in range(5):
        once()
    return once


def isolation_start(rounds: int) -> list[Row]:
    """The first sandbox of a process that has imported Aegis: fork server, worker, compilation, call."""

    def first(how: str) -> float:
        command = [sys.executable, "-I", "-c", FIRST, str(ROOT), how, ADD]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    return [_row("the first sandbox, cold", *_in_turns(lambda: first("isolated"), lambda: first("inside"), rounds))]


# -- calls -----------------------------------------------------------------------------------------


def isolation_calls(rounds: int) -> list[Row]:
    """A call, and a host function, minus the time of each in process."""
    from bench_components import _on_a_thread  # as in the other parts: where a guest with host functions runs directly

    rows = []
    with _both(ADD) as (measured, reference):
        pair = _in_turns(
            lambda: _per_call(lambda: measured.call("add", 2, 3), 1000),
            lambda: _per_call(lambda: reference.call("add", 2, 3), 10_000),
            rounds,
        )
        rows.append(_over("a call", pair))

    def called() -> list[Row]:
        with _both(LOOP, imports={"env": {"f": lambda x: x + 1}}) as (measured, reference):
            pair = _in_turns(
                lambda: _per_call(lambda: measured.call("go", 1000), 1) / 1000,
                lambda: _per_call(lambda: reference.call("go", 10_000), 1) / 10_000,
                rounds,
            )
        return [_over("a host callback", pair, gated=False)]

    return [*rows, *_on_a_thread(called)]  # type: ignore[list-item, arg-type]


def _over(what: str, pair: tuple[float, float], *, gated: bool = True) -> Row:
    more = pair[0] - pair[1]
    return _row(f"{what}, {more * 1e6:.0f} us more", *pair, "<= 150 us more" * gated, more <= 150e-6 if gated else None)


def isolation_pings(rounds: int) -> list[Row]:
    """A call, against as many bytes exchanged between two processes that do nothing else."""
    near, far = socket.socketpair()
    child = os.fork()
    if child == 0:
        near.close()
        while said := far.recv(64):
            far.send(said)
        os._exit(0)
    far.close()

    def ping() -> None:
        near.send(b"as many bytes as a call with two numbers")
        near.recv(64)

    runtime = _runtime(isolation=True)
    try:
        with runtime.sandbox(runtime.load_wat(ADD)) as sandbox:
            pair = _in_turns(
                lambda: _per_call(lambda: sandbox.call("add", 2, 3), 1000), lambda: _per_call(ping, 1000), 3 * rounds
            )
    finally:
        near.close()
        os.waitpid(child, 0)
    return [_row("a call, against a ping-pong of two processes", *pair, "<= 2x the time", pair[0] <= 2 * pair[1])]


# -- real guests -----------------------------------------------------------------------------------


def isolation_python(rounds: int) -> list[Row]:
    """An 18 MB Python component: the next sandbox in a recycled worker, and the parent's share of it.

    The parent's processor time for a sandbox is compared with that for a C component of 50 KB with the same imports: no
    part of it may grow with the artifact.
    """
    large, small = ((ROOT / "guests" / "build" / f"{name}.wasm") for name in ("py-hello", "hello-component"))
    if not large.exists() or not small.exists():
        return []
    inside, isolated, fresh = (
        _runtime(cache=True, stdio=_captured(), **keywords)
        for keywords in ({}, {"isolation": {"recycle": 1_000_000}}, {"isolation": {"recycle": 0}})
    )
    rows = []
    pair = _in_turns(*(_timed(_program(runtime, large)) for runtime in (isolated, inside)), 2 * rounds)
    rows.append(
        _row(
            "py-hello, create + run + close, recycled, against in process",
            *pair,
            "<= 3x the time",
            pair[0] <= 3 * pair[1],
        )
    )
    for what, runtime in ((", recycled", isolated), ("", fresh)):
        sides = [_spent(_program(runtime, path)) for path in (large, small)]
        pair = _in_turns(*sides, 2 * rounds)
        rows.append(
            _row(
                f"the parent's part in it{what}, processor time, 18 MB against 50 KB",
                *pair,
                "<= 2x the time",
                pair[0] <= 2 * pair[1],
            )
        )
    return rows


def _captured() -> Any:
    import aegis

    return aegis.StdioCapability(stdout="capture", stderr="capture")


def _program(runtime: Any, path: Path) -> Callable[[], None]:
    """Return a function that runs a program once in a new sandbox, after two warm-up runs."""
    from aegis.sandbox.entry_points import entry_point

    artifact = runtime.load_file(path)
    name = entry_point(artifact)

    def once() -> None:
        with runtime.sandbox(artifact, args=(path.stem,)) as sandbox:
            sandbox.run(name)

    once()
    once()
    return once


def _timed(function: Callable[[], None]) -> Callable[[], float]:
    return lambda: _per_call(function, 5)


def _spent(function: Callable[[], None]) -> Callable[[], float]:
    """Return a function that measures the processor time of this process for one run."""

    def spent() -> float:
        started = time.process_time()
        for _ in range(5):
            function()
        return (time.process_time() - started) / 5

    return spent


# -- large values ----------------------------------------------------------------------------------


def isolation_bytes(rounds: int) -> list[Row]:
    """16 MiB into a guest and out of it, against one copy in memory that is in use."""
    data, place = os.urandom(LARGE), bytearray(LARGE)

    def copy() -> float:
        return _per_call(lambda: place.__setitem__(slice(None), data), 3)

    with _both(LARGE_MEMORY) as (measured, _):
        memory = measured.memory
        memory.write(0, data)
        assert bytes(memory.read(0, LARGE)) == data
        written = _in_turns(lambda: _per_call(lambda: memory.write(0, data), 3), copy, rounds)
        read = _in_turns(lambda: _per_call(lambda: memory.read(0, LARGE), 3), copy, rounds)
    return [_times_a_copy("memory.write", written), _times_a_copy("memory.read", read), *_lists(data, rounds)]


def _times_a_copy(what: str, pair: tuple[float, float]) -> Row:
    return _row(f"16 MiB, {what}, against a copy", *pair, "<= 3x the time", pair[0] <= 3 * pair[1])


def _lists(data: bytes, rounds: int) -> list[Row]:
    """Bytes as list<u8>, a parameter, a result, and both, against the same in process."""
    rows = []
    with _both(LISTS, value_bytes=None) as (measured, reference):
        assert measured.call("take", data) == LARGE
        for what, name, value, most in (
            ("16 MiB, list<u8> in", "take", data, None), ("16 MiB, list<u8> out", "give", LARGE, None),
            ("10 MB, list<u8> in and out", "echo", data[:10_000_000], 4),
            ("1 MiB, likewise", "echo", data[: 1 << 20], None),
            ("64 KiB, likewise", "echo", data[: 1 << 16], None), ("16 bytes, likewise", "echo", data[:16], None),
        ):  # fmt: skip
            count = 3 if name != "echo" or len(value) > 1 << 20 else 50  # type: ignore[arg-type]
            pair = _in_turns(
                lambda name=name, value=value, count=count: _per_call(lambda: measured.call(name, value), count),  # type: ignore[misc]
                lambda name=name, value=value, count=count: _per_call(lambda: reference.call(name, value), count),  # type: ignore[misc]
                rounds,
            )
            gate, met = ("", None) if most is None else (f"<= {most}x the time", pair[0] <= most * pair[1])
            rows.append(_row(f"{what}, against in process", *pair, gate, met))
    return rows


# -- memory ----------------------------------------------------------------------------------------


def isolation_memory(rounds: int) -> list[Row]:
    """The memory of an idle worker, of one whose guest has run, and of the fork server, against this process."""
    runtime = _runtime(isolation=True)
    module = runtime.load_wat(ADD)
    server = next((child for child in _children(os.getpid()) if b"fork_server" in _words(child)), None)
    if server is None:
        return []
    waiting = _children(server)
    found = [("a worker that waits", max(map(_proportional, waiting), default=0.0))]
    with runtime.sandbox(module) as sandbox:
        sandbox.call("add", 2, 3)
        # The worker that runs the guest is the largest: the others have not run anything.
        found.append(("a worker that has run", max(map(_proportional, _children(server)))))
    found.append(("the fork server", _proportional(server)))
    own = _proportional(os.getpid())
    return [
        _row(f"memory of {what}, against this process", measured, own, unit="B") for what, measured in found if measured
    ]


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return sorted(found)


def _words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _proportional(pid: int) -> float:
    """Return the memory of a process in bytes, each page divided by the number of its users (proc_pid_smaps(5))."""
    with contextlib.suppress(OSError):  # only root can read it for a process that forbids tracing
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    return 0.0


PARTS = (
    isolation_life, isolation_start, isolation_calls, isolation_pings, isolation_python, isolation_bytes,
    isolation_memory,
)  # fmt: skip
