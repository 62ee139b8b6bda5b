"""Workers killed at any moment of many calls: each call ends once, with its result or as a crash, and nothing stays.

``AEGIS_CHAOS`` gives the number of calls (60), ``AEGIS_SOAK`` that of the runs that must leave nothing (20).
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aegis import Aegis, WorkerCrashed
from aegis.isolation import pool as pools
from aegis.isolation.wire import LOOK
from aegis.wit.types import List, Tuple
from tests.echo import echo_component

CALLS = int(os.environ.get("AEGIS_CHAOS", "60"))
RUNS = int(os.environ.get("AEGIS_SOAK", "20"))
THREADS = 4
CORE = """(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "hello\\n")
  (func (export "go") (param $id i32) (result i32) (local $n i32)
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (drop (call $f (local.get $id)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 20))))
    (local.get $id))
  (func (export "trap") unreachable)
  (func (export "spin") (loop $l br $l)))"""
ECHOED = Tuple(("u32", List("u8")))


class Killer(threading.Thread):
    """Kills one worker after the other, at moments that a seed chooses, as long as it is wanted."""

    def __init__(self, seed: int) -> None:
        super().__init__(name="killer")
        self.rng, self.pids, self.over, self.killed = random.Random(seed), set[int](), threading.Event(), 0
        self.lock = threading.Lock()

    def run(self) -> None:
        while not self.over.wait(self.rng.random() * 0.03):
            with self.lock:
                victims = sorted(self.pids)
            if victims:
                try:
                    os.kill(self.rng.choice(victims), self.rng.choice((signal.SIGKILL, signal.SIGABRT, signal.SIGTERM)))
                    self.killed += 1
                except ProcessLookupError:
                    pass


class Caller(threading.Thread):
    """Makes calls, each with a number of its own, and notes how each ended."""

    def __init__(self, runtime: Aegis, killer: Killer, numbers: list[int]) -> None:
        super().__init__(name="caller")
        self.runtime, self.killer, self.numbers = runtime, killer, numbers
        self.ended: list[tuple[int, str]] = []
        self.served: Counter[int] = Counter()
        self.failures: list[BaseException] = []
        self.core = runtime.load_wat(CORE)
        self.component = runtime.load_wat(echo_component(ECHOED))

    def run(self) -> None:
        try:
            for number in self.numbers:
                self.ended.append((number, self.one(number)))
        except BaseException as error:
            self.failures.append(error)

    def one(self, number: int) -> str:
        """Make one call; return ``result`` or ``crash``."""
        blob = bytes([number % 256]) * (1 << 15)
        component = number % 2 == 0
        try:
            with self.sandbox(component) as sandbox:
                pid = sandbox._store.worker.pid
                with self.killer.lock:
                    self.killer.pids.add(pid)
                try:
                    if component:
                        assert sandbox.call("echo-back", (number, blob)) == (number, blob)
                    else:
                        assert sandbox.call("go", number) == number
                        assert sandbox.stdout == b"hello\n" * 20
                finally:
                    with self.killer.lock:
                        self.killer.pids.discard(pid)
        except WorkerCrashed:
            return "crash"
        return "result"

    def sandbox(self, component: bool) -> Any:
        if component:
            return self.runtime.sandbox(self.component, imports={"echo": self.echo})
        return self.runtime.sandbox(self.core, imports={"env": {"f": self.count}})

    def count(self, number: int) -> int:
        self.served[number] += 1
        return number

    def echo(self, value: tuple[int, bytes]) -> tuple[int, bytes]:
        assert value[1] == bytes([value[0] % 256]) * (1 << 15)
        self.served[value[0]] += 1
        return value


def test_workers_killed_at_random_lose_no_call_and_repeat_none() -> None:
    seed = int(os.environ.get("AEGIS_SEED", "1"))
    with Aegis(isolation={"workers": THREADS}, cache=False, timeout="60s", fuel=None) as runtime:
        killer = Killer(seed)
        callers = [Caller(runtime, killer, list(range(n, CALLS, THREADS))) for n in range(THREADS)]
        killer.start()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        killer.over.set()
        killer.join()
        assert [failure for caller in callers for failure in caller.failures] == []
        ended = dict(pair for caller in callers for pair in caller.ended)
        served: Counter[int] = Counter()
        for caller in callers:
            served += caller.served
        assert sorted(ended) == list(range(CALLS))
        for number, how in ended.items():
            whole = 1 if number % 2 == 0 else 20
            assert served[number] == whole if how == "result" else served[number] <= whole, (number, how)
        with runtime.sandbox(callers[0].core, imports={"env": {"f": lambda x: x}}) as sandbox:
            assert sandbox.call("go", 7) == 7
        pool = runtime._isolated.pool  # type: ignore[union-attr]
        assert len(pool) == THREADS
        assert all(worker.waits() for worker in pool._warm)
    print(f"{CALLS} calls, {killer.killed} kills: {Counter(ended.values())}", file=sys.stderr)


# -- nothing stays ------------------------------------------------------------------------------------------


def _returns(runtime: Aegis, core: Any) -> None:
    with runtime.sandbox(core, imports={"env": {"f": lambda x: x}}) as sandbox:
        assert sandbox.call("go", 1) == 1


def _traps(runtime: Aegis, core: Any) -> None:
    with runtime.sandbox(core, imports={"env": {"f": lambda x: x}}) as sandbox:
        assert sandbox.run("trap").status == "trap"
        sandbox.reset()
        assert sandbox.call("go", 1) == 1


def _raises(runtime: Aegis, core: Any) -> None:
    with runtime.sandbox(core, imports={"env": {"f": lambda x: 1 // 0}}) as sandbox:
        assert sandbox.run("go", 1).status == "host-error"


def _crashes(runtime: Aegis, core: Any) -> None:
    with runtime.sandbox(core, imports={"env": {"f": lambda x: x}}) as sandbox:
        pid = sandbox._store.worker.pid
        os.kill(pid, signal.SIGKILL)
        outcome = sandbox.run("go", 1)
        assert outcome.status in ("worker-crashed", "returned")


def _times_out(runtime: Aegis, core: Any) -> None:
    with runtime.sandbox(core, imports={"env": {"f": lambda x: x}}) as sandbox:
        assert sandbox.run("spin").status == "timeout"


def _is_forgotten(runtime: Aegis, core: Any) -> None:
    sandbox = runtime.sandbox(core, imports={"env": {"f": lambda x: x}})
    sandbox.call("go", 1)
    del sandbox
    gc.collect()


ENDINGS: list[Callable[[Aegis, Any], None]] = [_returns, _traps, _raises, _crashes, _times_out, _is_forgotten]


def _state() -> tuple[set[str], int, set[int], int]:
    """Return the open descriptors, the threads, the workers and the resident bytes of this process."""
    gc.collect()
    server = pools._zygote
    workers = set[int]()
    if server is not None:
        for children in Path(f"/proc/{server._process.pid}/task").glob("*/children"):
            workers |= {int(pid) for pid in children.read_text().split()}
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return set(os.listdir("/proc/self/fd")), threading.active_count(), workers, resident


def _settled(before: tuple[set[str], int, set[int], int]) -> tuple[set[str], int, set[int], int]:
    """Return the state once what was ended is gone, or as it is after a while."""
    until = time.monotonic() + 20
    while True:
        now = _state()
        if (
            all(len(n) <= len(b) for n, b in zip((now[0], now[2]), (before[0], before[2]), strict=True))
            or time.monotonic() > until
        ):
            return now
        threading.Event().wait(LOOK)


def test_runs_of_every_ending_leave_no_descriptor_thread_process_file_or_memory(tmp_path: Path) -> None:
    with Aegis(isolation={"workers": 2, "grace": "1s"}, cache=False, timeout="150ms", fuel=None) as runtime:
        core = runtime.load_wat(CORE)
        for ending in ENDINGS:
            ending(runtime, core)
        before, files = _state(), set(os.listdir("/tmp"))
        for number in range(RUNS):
            ENDINGS[number % len(ENDINGS)](runtime, core)
        after = _settled(before)
        assert len(after[0]) <= len(before[0])
        assert after[1] <= before[1]
        assert len(after[2]) <= len(before[2])
        assert after[3] - before[3] < 16 << 20
        assert not {name for name in set(os.listdir("/tmp")) - files if name.startswith("aegis")}
    print(f"{RUNS} runs: {len(before[0])} descriptors before, {len(after[0])} after; resident {before[3] >> 20} MiB, "
          f"{after[3] >> 20} MiB", file=sys.stderr)  # fmt: skip
