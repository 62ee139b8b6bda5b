"""A worker that stops, dies or hangs: a documented error, the output so far, and a fresh worker for the next call."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import (
    Aegis,
    AegisError,
    Cancelled,
    DeadlineExceeded,
    MemoryExceeded,
    Sandbox,
    SandboxStateError,
    WorkerCrashed,
)
from tests.guests.catalogue import GUESTS, ROOT
from tests.isolation.isolated import isolated, only_where_there_are_workers

pytestmark = only_where_there_are_workers
SIGNALS = [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV]
TEXT = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\03\\00\\00\\00")
  (data (i32.const 16) "so\\0a")
  (global $calls (mut i32) (i32.const 0))
  (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "go") (param i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (call $say) (drop (call $f (local.get 0))) (call $say) (global.get $calls))
  (func (export "read") (result i32) (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "spin") (call $say) (loop $l (br $l))))"""


@pytest.fixture(scope="module")
def aegis() -> Aegis:
    return isolated(fuel=None, timeout="30s")


def box(aegis: Aegis, function: Callable[[int], Any] = abs) -> Sandbox:
    return aegis.sandbox(aegis.load_wat(TEXT), imports={"env": {"f": function}})


def pid(sandbox: Sandbox) -> int:
    return int(sandbox._run.store.worker.pid)  # type: ignore[union-attr]


def strike(sandbox: Sandbox, number: int) -> None:
    """Send a signal to the worker; wait until a signal that ends or stops it has taken effect."""
    target = pid(sandbox)
    os.kill(target, number)
    if number != signal.SIGSTOP:
        wait_for(lambda: not os.path.exists(f"/proc/{target}"))
    else:
        wait_for(lambda: all(map(stopped, Path(f"/proc/{target}/task").iterdir())))


def stopped(task: Path) -> bool:
    """Return whether a thread is stopped."""
    return (task / "stat").read_text().rpartition(") ")[2].startswith("T")


def apart(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a separate application."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


# -- killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("before", [0, 2])
def test_one_killed_between_calls_is_named_with_its_signal_and_replaced(aegis: Aegis, number: int, before: int) -> None:
    with box(aegis) as sandbox:
        for count in range(before):
            assert sandbox.call("go", 1) == count + 1
        old = pid(sandbox)
        strike(sandbox, number)
        with pytest.raises(WorkerCrashed) as caught:
            sandbox.call("go", 1)
        assert caught.value.signal == number
        assert signal.Signals(number).name in str(caught.value)
        assert sandbox.stdout == b"so\nso\n" * before, "what was said before is kept"
        assert sandbox.call("go", 1) == 1, "the next call has a fresh guest"
        assert pid(sandbox) != old


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_killed_inside_a_host_function_ends_the_call_with_its_output_so_far(aegis: Aegis, number: int) -> None:
    calls: list[int] = []

    def f(value: int) -> int:
        calls.append(value)
        if value < 0:
            strike(sandbox, number)
        return value

    with box(aegis, f) as sandbox:
        outcome = sandbox.run("go", -1)
        assert isinstance(outcome.error, WorkerCrashed)
        assert outcome.error.signal == number
        assert outcome.stdout == b"so\n"
        assert outcome.usage.host_calls >= 1
        assert sandbox.call("go", 1) == 1
        assert calls == [-1, 1], "no host function is called twice"


def test_a_call_back_into_a_dead_worker_raises_and_so_does_the_call(aegis: Aegis) -> None:
    caught: list[AegisError] = []

    def f(value: int) -> int:
        strike(sandbox, signal.SIGKILL)
        with pytest.raises(AegisError) as inner:
            sandbox.call("go", 1)
        caught.append(inner.value)
        return value

    started = time.monotonic()
    with box(aegis, f) as sandbox, pytest.raises(WorkerCrashed):
        sandbox.call("go", 1)
    assert isinstance(caught[0], WorkerCrashed)
    assert time.monotonic() - started < 8, "nobody waits twice for the same end"


@pytest.mark.parametrize("what", ["memory", "globals", "close", "reset"])
def test_a_dead_worker_is_reported_by_every_request(aegis: Aegis, what: str) -> None:
    sandbox = box(aegis)
    strike(sandbox, signal.SIGKILL)
    if what == "memory":
        with pytest.raises(AegisError):
            sandbox.memory.read(0, 4)
    elif what == "globals":
        with pytest.raises(KeyError):
            sandbox.globals["none"]
    elif what == "reset":
        sandbox.reset()
        assert sandbox.call("go", 1) == 1
    sandbox.close()
    assert sandbox.state == "closed"


def test_the_fork_servers_end_is_survived(aegis: Aegis) -> None:
    code = (
        "import os, signal; from aegis import Aegis, WorkerCrashed; import aegis.isolation.parent.pool as pool\n"
        "a = Aegis(cache=False, pooled=False, isolation=True)\n"
        "m = a.load_wat('(module (func (export \"f\") (result i32) i32.const 7))')\n"
        "s = a.sandbox(m); assert s.call('f') == 7\n"
        "os.kill(pool._fork_server._process.pid, signal.SIGKILL); pool._fork_server._process.wait()\n"
        "try: print(s.call('f'))\n"
        "except WorkerCrashed: print('crashed')\n"
        "s.close()\n"
        "with a.sandbox(m) as t: print(t.call('f'))\n"
    )
    done = apart(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "7"


# -- stopped, spinning, waiting -------------------------------------------------------------------


def test_one_stopped_before_a_call_is_killed_at_the_deadline_and_replaced() -> None:
    aegis = isolated(timeout="300ms", fuel=None)
    with box(aegis) as sandbox:
        strike(sandbox, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            sandbox.call("go", 1)
        overshoot = time.monotonic() - started - 0.3
        print(f"overshoot {overshoot * 1000:.0f} ms")
        assert overshoot < 2.5
        with pytest.raises(SandboxStateError, match="DeadlineExceeded"):
            sandbox.call("go", 1)
        sandbox.reset()
        assert sandbox.call("go", 1) == 1


def test_one_stopped_inside_a_host_function_is_killed_at_the_deadline() -> None:
    aegis = isolated(timeout="300ms", fuel=None)

    def f(value: int) -> int:
        strike(sandbox, signal.SIGSTOP)
        return value

    with box(aegis, f) as sandbox:
        outcome = sandbox.run("go", 1)
        assert (outcome.status, outcome.stdout) == ("timeout", b"so\n")


def test_one_stopped_for_good_does_not_hold_up_close(aegis: Aegis) -> None:
    sandbox = box(aegis)
    strike(sandbox, signal.SIGSTOP)
    started = time.monotonic()
    sandbox.close()
    assert time.monotonic() - started < 5


def test_a_guest_that_spins_ends_at_its_deadline_with_its_output() -> None:
    with box(isolated(timeout="200ms", fuel=None)) as sandbox:
        started = time.monotonic()
        outcome = sandbox.run("spin")
        assert time.monotonic() - started < 3
        assert (outcome.status, outcome.stdout) == ("timeout", b"so\n")


def test_a_host_function_that_does_not_return_is_named_and_its_worker_ends() -> None:
    release = threading.Event()

    def stuck(value: int) -> int:
        release.wait(20)
        return value

    aegis = isolated(timeout="200ms", fuel=None)
    sandbox = box(aegis, stuck)
    worker = pid(sandbox)
    try:
        with pytest.raises(DeadlineExceeded, match=r"env\.f"):
            sandbox.call("go", 1)
        assert sandbox.state == "abandoned"
        wait_for(lambda: not os.path.exists(f"/proc/{worker}"))
    finally:
        release.set()
    sandbox.close()


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("inside", ["spin", "go"])
def test_cancel_from_another_thread_ends_the_call(aegis: Aegis, inside: str, stopped: bool) -> None:
    entered, ends = threading.Event(), list[Any]()

    def f(value: int) -> int:
        entered.set()
        sandbox._run.door.wait(20)
        return value

    with box(aegis, f) as sandbox:
        arguments = (1,) if inside == "go" else ()
        thread = threading.Thread(target=lambda: ends.append(sandbox.run(inside, *arguments)))
        thread.start()
        wait_for(lambda: bool(sandbox.stdout))
        assert inside == "spin" or entered.wait(10)
        if stopped:
            strike(sandbox, signal.SIGSTOP)
        started = time.monotonic()
        sandbox.cancel()
        thread.join(10)
        assert time.monotonic() - started < 3
        assert isinstance(ends[0].error, Cancelled)
        assert ends[0].stdout == b"so\n"


def wait_for(done: Callable[[], bool]) -> None:
    """Poll until a condition holds, for at most ten seconds."""
    until, pause = time.monotonic() + 10, threading.Event()
    while not done():
        assert time.monotonic() < until
        pause.wait(0.005)


def test_ctrl_c_ends_an_isolated_run() -> None:
    code = (
        "import os, signal, threading; from aegis import Aegis\n"
        "a = Aegis(cache=False, pooled=False, isolation=True, fuel=None, timeout='30s')\n"
        'm = a.load_wat(\'(module (import "env" "f" (func $f)) (func (export "spin") call $f (loop (br 0))))\')\n'
        "go = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "with a.sandbox(m, imports={'env': {'f': lambda: threading.Timer(0.05, go).start()}}) as s:\n"
        "    try: s.call('spin')\n"
        "    except KeyboardInterrupt: print('interrupted')\n"
    )
    started = time.monotonic()
    done = apart(code)
    assert done.stdout == "interrupted\n", done.stderr
    assert time.monotonic() - started < 15


# -- compiling ------------------------------------------------------------------------------------

LIFTED: dict[str, Any] = dict.fromkeys(("functions", "function_size", "locals", "nesting", "complexity", "module_size"))


def bomb(kind: str, *numbers: int) -> bytes:
    made = runpy.run_path(str(GUESTS / "hostile" / "compile-bombs" / "make.py"))["KINDS"][kind](*numbers)
    assert isinstance(made, bytes)
    return made


def test_compiling_that_takes_too_long_is_killed_and_says_so() -> None:
    aegis = isolated(isolation={"compile_time": 0.3}, **LIFTED)
    data = bomb("carried")
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="compile_time") as caught:
        aegis.load(data)
    assert (caught.value.limit, caught.value.allowed) == ("compile_time", 0.3)
    assert time.monotonic() - started < 5


def test_compiling_that_takes_too_much_memory_is_killed_and_says_so() -> None:
    aegis = isolated(isolation={"compile_memory": 64 << 20}, **LIFTED)
    with pytest.raises(MemoryExceeded, match="compile_memory") as caught:
        aegis.load(bomb("carried"))
    assert (caught.value.limit, caught.value.phase) == ("compile_memory", "compile")
    with aegis.sandbox(aegis.load_wat('(module (func (export "f") (result i32) i32.const 7))')) as sandbox:
        assert sandbox.call("f") == 7, "the next artifact compiles"
