"""Whatever a worker does, it ends within its bound: the parent first kills it, and then waits for its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aegis import DeadlineExceeded
from aegis.isolation.parent import pool
from tests.isolation.isolated import isolated, only_where_there_are_workers
from tests.isolation.liar import Peer, lying
from tests.isolation.takeover import application
from tests.isolation.test_worker_ends import stopped, wait_for

pytestmark = only_where_there_are_workers
TEXT = '(module (func (export "f") (result i32) i32.const 7) (func (export "spin") (loop (br 0))))'
MARGIN = 3.0
"""Seconds that a loaded machine may add. Earlier versions waited 5 and 10 seconds."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds + MARGIN, f"{took:.2f} s"


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(map(stopped, Path(f"/proc/{pid}/task").iterdir())))


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def warm(**policy: Any) -> tuple[Any, Any, int]:
    """Return a runtime, a compiled module, and its next worker, which is stopped before its setup."""
    aegis = isolated(isolation={"workers": 1, **policy.pop("isolation", {})}, **policy)
    module = aegis.load_wat(TEXT)
    aegis._isolated.pool.refill()  # type: ignore[union-attr]
    pid = aegis._isolated.pool._warm[0].pid  # type: ignore[union-attr]
    stop(pid)
    return aegis, module, pid


def test_a_worker_stopped_in_its_setup_ends_within_the_deadline_and_the_grace() -> None:
    aegis, module, pid = warm(timeout="1s")
    with within(1.1), pytest.raises(DeadlineExceeded):
        aegis.sandbox(module)
    wait_for(lambda: gone(pid))
    with aegis.sandbox(module) as sandbox:
        assert sandbox.call("f") == 7


def test_a_compile_worker_stopped_in_its_setup_ends_within_its_time() -> None:
    aegis, _, pid = warm(isolation={"compile_time": 0.5})
    with within(0.6), pytest.raises(DeadlineExceeded, match="compile_time"):
        aegis.load_wat('(module (func (export "other") (result i32) i32.const 8))')
    wait_for(lambda: gone(pid))


HANGS = """
import sys, time
a = Aegis(isolation={'compile_time': '20s'}, cache=False)
started = time.monotonic()
try: a.load_wat('(module)')
except AegisError as error: print(type(error).__name__, error)
print(time.monotonic() - started < 8)
"""


def test_a_compile_worker_that_hangs_up_and_goes_on_is_killed_at_once_and_named_as_such() -> None:
    done = application(HANGS.replace("import sys, time", "import sys, time\ntake_over('tests.isolation.hanging')"))
    said, in_time = done.stdout.splitlines() or [done.stderr, ""]
    assert said.startswith("WorkerCrashed"), done.stderr
    assert "closed its connection" in said
    assert in_time == "True"


def test_a_worker_that_hangs_up_in_a_call_and_goes_on_is_killed_at_once() -> None:
    code = (
        "import time; a = Aegis(isolation=True, cache=False, timeout='30s'); box = a.sandbox(a.load_wat(GUEST))\n"
        "started = time.monotonic(); outcome = box.run('hang')\n"
        "print(type(outcome.error).__name__, 'closed its connection' in str(outcome.error))\n"
        "print(time.monotonic() - started < 5)\n"
    )
    done = application(code)
    assert done.stdout == "WorkerCrashed True\nTrue\n", done.stderr


@pytest.mark.parametrize("recycle", [0, 4])
def test_a_stopped_worker_holds_up_neither_close_nor_reset(recycle: int) -> None:
    aegis = isolated(isolation={"workers": 1, "recycle": recycle})
    sandbox = aegis.sandbox(aegis.load_wat(TEXT))
    for _ in range(2):
        assert sandbox.call("f") == 7
        pid = sandbox._run.store.worker.pid  # type: ignore[union-attr]
        stop(pid)
        with within(1.0):
            sandbox.reset()
        wait_for(lambda pid=pid: gone(pid))  # type: ignore[misc]
    stop(sandbox._run.store.worker.pid)  # type: ignore[union-attr]
    with within(1.0):
        sandbox.close()


def test_stopped_workers_do_not_hold_up_the_end_of_a_pool() -> None:
    aegis = isolated(isolation={"workers": 3})
    workers = aegis._isolated.pool._warm  # type: ignore[union-attr]
    pids = [worker.pid for worker in workers]
    for pid in pids:
        stop(pid)
    with within(0.1):
        aegis._isolated.pool.close()  # type: ignore[union-attr]
    wait_for(lambda: all(map(gone, pids)))


def test_a_stopped_fork_server_does_not_keep_a_worker_alive_past_its_deadline() -> None:
    """The parent kills by a process descriptor, so it does not need the fork server."""
    code = """
import os, signal, time, aegis.isolation.parent.pool as pool
a = Aegis(isolation=True, cache=False, timeout='500ms')
text = '(module (import "env" "f" (func $f)) (func (export "go") call $f (loop br 0)))'
stop = lambda: os.kill(box._run.store.worker.pid, signal.SIGSTOP)
box = a.sandbox(a.load_wat(text), imports={'env': {'f': stop}})
server = pool._fork_server._process.pid
os.kill(server, signal.SIGSTOP)
started = time.monotonic(); outcome = box.run('go')
print(outcome.status, time.monotonic() - started < 3.5)
os.kill(server, signal.SIGCONT)
"""
    done = application(code)
    assert done.stdout == "timeout True\n", done.stderr


def test_the_end_of_a_fork_server_does_not_wait_for_it() -> None:
    server = pool.ForkServerProcess(512 << 10)
    stop(server._process.pid)
    with within(0.1):
        server.close()
    assert server._process.returncode == -signal.SIGKILL


def test_a_worker_that_does_not_read_its_answers_is_given_up_when_the_call_is_cancelled() -> None:
    """Without a deadline, nothing else would end the wait for the worker."""
    asked = threading.Event()

    def asks(peer: Peer, message: Any) -> None:
        for _ in range(100_000):
            if asked.is_set():
                return
            peer.send(["out", 1, b"x", True])

    sandbox, liar = lying(TEXT, asks, timeout=None)
    ends: list[Any] = []
    thread = threading.Thread(target=lambda: ends.append(sandbox.run("f")))
    thread.start()
    wait_for(lambda: len(sandbox.stdout) > 100)
    sandbox.cancel()
    thread.join(10)
    asked.set()
    assert not thread.is_alive()
    assert ends[0].status == "interrupted"
    sandbox.close()
    assert liar.shared == -1


FEW = """
import resource, os, gc
a = Aegis(isolation={'workers': 0}, cache=False)
module = a.load_wat(GUEST)
with a.sandbox(module) as box: box.call('honest')
used, limits = len(os.listdir('/proc/self/fd')), resource.getrlimit(resource.RLIMIT_NOFILE)
for free in range(14):
    filling = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        while True: filling.append(os.dup(0))
    except OSError: pass
    for _ in range(free): os.close(filling.pop())
    try:
        with a.sandbox(module) as box: box.call('honest'); said = box.stdout.decode().strip()
    except AegisError as error: said = type(error).__name__
    for each in filling: os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) <= used, free
    print(said)
"""


def test_too_few_descriptors_for_a_worker_are_an_error_that_says_so_and_leave_nothing() -> None:
    done = application(FEW)
    said = done.stdout.splitlines()
    assert len(said) == 14, done.stderr
    assert (said[0], said[-1]) == ("Unsupported", "guest")
    assert set(said) == {"Unsupported", "guest"}
