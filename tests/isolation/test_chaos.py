"""Workers are killed at random points during many calls: each call ends once, with its result or ``WorkerCrashed``.

``AEGIS_CHAOS`` sets the number of calls; the seed is printed, and ``AEGIS_CHAOS_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from aegis import Aegis, Sandbox, WorkerCrashed
from aegis.wit.types import List
from tests.echo import echo_component
from tests.isolation.isolated import isolated, only_where_there_are_workers
from tests.isolation.test_worker_ends import TEXT, wait_for

pytestmark = only_where_there_are_workers
CALLS = int(os.environ.get("AEGIS_CHAOS", "60"))
SEED = int(os.environ.get("AEGIS_CHAOS_SEED", "0")) or random.SystemRandom().getrandbits(32)
THREADS = 4
LARGE = 200_000


class Reaper(threading.Thread):
    """Repeatedly kills a worker that is executing a call, at moments chosen by the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self.random, self.kills = random.Random(seed), 0
        self.busy: dict[int, Sandbox] = {}
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(self.random.uniform(0.0, 0.06)):
            for sandbox in self.random.sample(list(self.busy.values()), min(1, len(self.busy))):
                store: Any = sandbox._run.store
                if store is not None and not store.closed:
                    with suppress(ProcessLookupError):
                        os.kill(store.worker.pid, self.random.choice([signal.SIGKILL, signal.SIGABRT]))
                        self.kills += 1


class Client(threading.Thread):
    """Makes calls one after another, on its own sandboxes, and counts how each ended."""

    def __init__(self, aegis: Aegis, reaper: Reaper, number: int) -> None:
        super().__init__(daemon=True)
        self.aegis, self.reaper, self.number = aegis, reaper, number
        self.random = random.Random(SEED + number)
        self.served: Counter[int] = Counter()
        self.ends: dict[int, str] = {}
        self.wrong: list[str] = []
        self.pause = threading.Event()

    def run(self) -> None:
        try:
            core = self.aegis.load_wat(TEXT)
            echo = self.aegis.load_wat(echo_component(List("u8")))
            ids = iter(range(self.number, CALLS, THREADS))
            while self.some(core, echo, ids):
                pass
        except BaseException as error:
            self.wrong.append(repr(error))

    def some(self, core: Any, echo: Any, ids: Any) -> bool:
        """Make a few calls in one new sandbox; return whether any calls were left to make."""
        typed = self.random.random() < 0.5
        imports = {"echo": self.echo} if typed else {"env": {"f": self.host}}
        sandbox = None
        for ident in (i for _, i in zip(range(self.random.randint(1, 6)), ids, strict=False)):
            try:
                if sandbox is None:
                    sandbox = self.aegis.sandbox(echo if typed else core, imports=imports)
                self.reaper.busy[self.number] = sandbox
                self.end(ident, self.one(sandbox, ident, typed))
            except WorkerCrashed:
                self.end(ident, "crashed")
        self.reaper.busy.pop(self.number, None)
        if sandbox is not None:
            sandbox.close()
        return sandbox is not None

    def one(self, sandbox: Sandbox, ident: int, typed: bool) -> str:
        if typed:
            data = ident.to_bytes(4, "little") * (LARGE // 4)
            if sandbox.call("echo-back", data) != data:
                self.wrong.append(f"call {ident}: other bytes")
        else:
            sandbox.call("go", ident)
            if not sandbox.stdout.endswith(b"so\nso\n") or len(sandbox.stdout) % 6:
                self.wrong.append(f"call {ident}: the output is {sandbox.stdout!r}")
        return "returned"

    def end(self, ident: int, how: str) -> None:
        if ident in self.ends:
            self.wrong.append(f"call {ident} ended twice")
        self.ends[ident] = how

    def host(self, ident: int) -> int:
        self.served[ident] += 1
        self.pause.wait(self.random.uniform(0, 0.004))
        return ident

    def echo(self, data: bytes) -> bytes:
        ident = int.from_bytes(data[:4], "little")
        self.served[ident] += 1
        self.pause.wait(self.random.uniform(0, 0.004))
        return bytes(data)


def test_calls_end_once_with_a_result_or_a_crash_whenever_workers_are_killed() -> None:
    print(f"AEGIS_CHAOS_SEED={SEED}")
    aegis = isolated(timeout="60s", fuel=None, isolation={"workers": 2})
    reaper = Reaper(SEED)
    clients = [Client(aegis, reaper, number) for number in range(THREADS)]
    started = time.monotonic()
    reaper.start()
    for client in clients:
        client.start()
    for client in clients:
        client.join(120 + CALLS / 10)
    seconds = time.monotonic() - started
    reaper.enough.set()
    reaper.join(10)
    assert not any(client.is_alive() for client in clients), "a call hangs"
    assert [wrong for client in clients for wrong in client.wrong] == []
    ends = {ident: how for client in clients for ident, how in client.ends.items()}
    assert sorted(ends) == list(range(CALLS)), "none is lost"
    served = sum((client.served for client in clients), Counter[int]())
    assert not [i for i, count in served.items() if count > 1], "none is made twice"
    assert not [i for i, how in ends.items() if how == "returned" and served[i] != 1]
    reported = Counter(ends.values())
    print(f"{CALLS} calls, {reaper.kills} kills: {dict(reported)} in {seconds:.1f} s")
    assert reported["returned"]
    pool = aegis._isolated.pool  # type: ignore[union-attr]
    wait_for(lambda: len(pool) >= 2)
    with aegis.sandbox(aegis.load_wat(TEXT), imports={"env": {"f": abs}}) as box:
        assert box.call("go", 1) == 1
    aegis.close()
