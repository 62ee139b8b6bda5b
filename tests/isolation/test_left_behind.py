"""Many runs of every kind of ending leave no descriptor, thread, process, file or memory behind.

``AEGIS_SOAK`` sets the number of runs.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from operator import le
from pathlib import Path
from typing import Any

from aegis import Aegis, AegisError, Sandbox
from aegis.isolation.parent.pool import fork_server
from tests.isolation import test_worker_ends
from tests.isolation.isolated import isolated, only_where_there_are_workers
from tests.isolation.test_worker_ends import box, wait_for

pytestmark = only_where_there_are_workers
RUNS = int(os.environ.get("AEGIS_SOAK", "20"))
ALLOWED = 16 << 20
WARM_UP = 14


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def born(aegis: Any) -> None:
    """Wait until the fork server has reported every warm worker: its answer contains a descriptor."""
    for worker in aegis._isolated.pool._warm:
        assert worker.pid


def children(pid: int | str = "self") -> set[int]:
    """Return all descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has exited meanwhile
            for child in map(int, task.read_text().split()):
                found |= {child, *children(child)}
    return found


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def boom(_: int) -> int:
    raise ValueError("boom")


def returns(aegis: Aegis) -> None:
    with box(aegis) as sandbox:
        sandbox.call("go", 1)


def raises(aegis: Aegis) -> None:
    with box(aegis, boom) as sandbox:
        sandbox.run("go", 1)


def spins(aegis: Aegis) -> None:
    ended = threading.Event()

    def cancels() -> None:
        while not ended.wait(0.01):  # a cancellation before the call has begun would be lost
            sandbox.cancel()

    with box(aegis) as sandbox:
        thread = threading.Thread(target=cancels)
        thread.start()
        try:
            sandbox.run("spin")
        finally:
            ended.set()
            thread.join()


def dies(aegis: Aegis) -> None:
    with box(aegis) as sandbox:
        test_worker_ends.strike(sandbox, signal.SIGKILL)
        sandbox.run("go", 1)


def dies_inside(aegis: Aegis) -> None:
    def f(_: int) -> int:
        test_worker_ends.strike(sandbox, signal.SIGABRT)
        return 1

    with box(aegis, f) as sandbox:
        sandbox.run("go", 1)
        sandbox.run("go", 1)


def is_not_closed(aegis: Aegis) -> None:
    sandbox: Sandbox = box(aegis)
    sandbox.call("go", 1)


def does_not_link(aegis: Aegis) -> None:
    try:
        aegis.sandbox(aegis.load_wat('(module (import "env" "g" (func)))'))
    except AegisError:
        return
    raise AssertionError("it linked")


ENDINGS: list[Callable[[Any], None]] = [returns, raises, spins, dies, dies_inside, does_not_link]


def test_runs_of_every_ending_leave_nothing_behind(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    aegis = isolated(timeout="30s", fuel=None, isolation={"workers": 1})
    for n in range(WARM_UP):
        ENDINGS[n % len(ENDINGS)](aegis)
    gc.collect()
    born(aegis)
    before = descriptors(), len(threading.enumerate()), len(children()), len(aegis._isolated.pool)  # type: ignore[union-attr]
    memory = resident()
    for n in range(RUNS):
        ENDINGS[n % len(ENDINGS)](aegis)
    gc.collect()

    def now() -> tuple[int, ...]:
        return descriptors(), len(threading.enumerate()), len(children()), len(aegis._isolated.pool)  # type: ignore[union-attr]

    wait_for(lambda: all(map(le, now(), before)))
    grown = resident() - memory
    print(f"{RUNS} runs: {now()} after {before} descriptors, threads, processes, workers; {grown >> 10} KiB more")
    assert grown < ALLOWED
    assert list(tmp_path.iterdir()) == []
    aegis.close()


def test_a_sandbox_that_was_dropped_without_closing_leaves_nothing_either() -> None:
    aegis = isolated(timeout="30s", fuel=None, isolation={"workers": 1})
    is_not_closed(aegis)
    gc.collect()
    born(aegis)
    before = descriptors()
    for _ in range(3):
        is_not_closed(aegis)
    gc.collect()
    born(aegis)
    try:
        assert descriptors() <= before
    finally:
        aegis.close()


def test_a_worker_makes_no_directory_that_it_would_leave_behind_if_it_was_killed() -> None:
    """All work in the directory that their fork server entered, and deleted before the first of them."""
    aegis = isolated(timeout="30s", isolation={"workers": 0})
    fork_server(aegis._isolated.pool._stack).load(["tests.isolation.no_private_directory"])  # type: ignore[union-attr]
    with box(aegis) as sandbox:
        layers = {name: (active, detail) for name, active, detail in sandbox.layers}
    assert layers["private-tmp"] == (True, "the working directory is private, empty and deleted")
    aegis.close()
