"""Many sandboxes on many threads: none affects another, and no stack is too small for safety."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aegis import Aegis, CollectingSubscriber
from aegis.errors import HostError, StackExhausted
from aegis.observe.events import HostFunctionCalled

CALLS = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func $down (export "down") (param i32) (result i32) (call $down (i32.add (local.get 0) (i32.const 1)))))"""


class Mine(Exception):
    """An exception that identifies its sandbox."""


@pytest.fixture(scope="module")
def runtime() -> Aegis:
    return Aegis(cache=False)


def test_exceptions_and_values_never_cross(runtime: Aegis) -> None:
    module = runtime.load_wat(CALLS)

    def many(who: int) -> None:
        def f(n: int) -> int:
            if n % 3 == 0:
                raise Mine(who, n)
            return who * 1000 + n

        for n in range(60):
            with runtime.sandbox(module, imports={"env": {"f": f}}) as sandbox:
                if n % 3:
                    assert sandbox.call("go", n) == who * 1000 + n
                    continue
                with pytest.raises(HostError) as caught:
                    sandbox.call("go", n)
                assert isinstance(caught.value.__cause__, Mine)
                assert caught.value.__cause__.args == (who, n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(many, range(16)))


def test_one_sandbox_is_handed_from_thread_to_thread(runtime: Aegis) -> None:
    with runtime.sandbox(runtime.load_wat(CALLS), imports={"env": {"f": lambda n: n + 1}}) as sandbox:
        assert sandbox.call("go", 1) == 2
        for n in range(5):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(sandbox.call, "go", n).result(20) == n + 1
        assert sandbox.call("go", 6) == 7


def test_a_sandbox_inside_a_host_function_of_another(runtime: Aegis) -> None:
    module = runtime.load_wat(CALLS)

    def nested(depth: int) -> int:
        if depth == 0:
            return 0
        with runtime.sandbox(module, imports={"env": {"f": nested}}) as inner:
            return int(inner.call("go", depth - 1)) + 1

    with runtime.sandbox(module, imports={"env": {"f": nested}}) as sandbox:
        assert sandbox.call("go", 6) == 6


def test_five_hundred_sandboxes_on_one_loop(runtime: Aegis) -> None:
    module = runtime.load_wat(CALLS)

    async def one(who: int) -> Any:
        def f(n: int) -> int:
            if who % 5 == 0:
                raise Mine(who)
            return who + n

        with runtime.sandbox(module, imports={"env": {"f": f}}) as sandbox:
            try:
                return await sandbox.acall("go", 1)
            except HostError as error:
                return error.__cause__

    async def everybody() -> list[Any]:
        return await asyncio.gather(*(one(who) for who in range(500)))

    for who, result in enumerate(asyncio.run(everybody())):
        if who % 5:
            assert result == who + 1
        else:
            assert isinstance(result, Mine)
            assert result.args == (who,)


@pytest.mark.parametrize("size", [256, 512, 1024, 8192])
def test_a_small_stack_is_no_danger(runtime: Aegis, size: int) -> None:
    """A guest that recurses on a thread with a small stack would kill the process (F29)."""
    module = runtime.load_wat(CALLS)
    found: list[BaseException] = []

    def recurse() -> None:
        with runtime.sandbox(module, imports={"env": {"f": lambda n: n}}) as sandbox:
            try:
                sandbox.call("down", 0)
            except StackExhausted as error:
                found.append(error)

    before = threading.stack_size(size * 1024)
    try:
        worker = threading.Thread(target=recurse)
        worker.start()
    finally:
        threading.stack_size(before)
    worker.join()
    assert len(found) == 1


def test_at_the_edge_of_recursion_the_guest_is_not_entered(runtime: Aegis) -> None:
    """A callback that cannot be entered would return uninitialised stack memory."""
    module = runtime.load_wat(CALLS)
    answers: set[Any] = set()

    def deep(depth: int, sandbox: Any) -> Any:
        return deep(depth - 1, sandbox) if depth else sandbox.call("go", 7)

    def edge() -> None:
        with runtime.sandbox(module, imports={"env": {"f": lambda n: n}}) as sandbox:
            sandbox.call("go", 7)
            room = sys.getrecursionlimit()
            for depth in range(room - 120, room):
                try:
                    answers.add(deep(depth, sandbox))
                except (RecursionError, HostError) as error:
                    answers.add(type(error))
                if sandbox.state != "ready":
                    sandbox.reset()

    worker = threading.Thread(target=edge)
    worker.start()
    worker.join()
    assert answers <= {7, RecursionError, HostError}
    assert RecursionError in answers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_guests_of_its_own() -> None:
    program = """
import os, sys, aegis
runtime = aegis.Aegis(cache=False, fuel=None, timeout="300ms")
module = runtime.load_wat('''(module (func (export "spin") (loop $l (br $l)))
  (func (export "one") (result i32) i32.const 1))''')
assert runtime.sandbox(module).run("spin").status == "timeout"
child = os.fork()
if child == 0:
    good = runtime.sandbox(module).call("one") == 1 and runtime.sandbox(module).run("spin").status == "timeout"
    os._exit(0 if good else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_in_the_main_thread_of_a_program_cancels_the_call() -> None:
    program = """
import os, signal, threading, aegis
runtime = aegis.Aegis(cache=False, fuel=None, timeout="50s")
module = runtime.load_wat('(module (import "env" "f" (func $f)) (func (export "go") (call $f) (loop $l (br $l))))')
def f():
    os.kill(os.getpid(), signal.SIGINT)
with runtime.sandbox(module, imports={"env": {"f": f}}) as sandbox:
    try:
        sandbox.call("go")
    except KeyboardInterrupt:
        print("interrupted", sandbox.state)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False, text=True)
    assert done.stdout == "interrupted poisoned\n", done.stderr


def test_faulthandler_enabled_late_does_no_harm() -> None:
    """Enabled after the engine, faulthandler would turn a guest's bad access into the end of the process (F30)."""
    program = """
import faulthandler, aegis
runtime = aegis.Aegis(cache=False)
module = runtime.load_wat('(module (memory 1) (func (export "bad") (result i32) (i32.load (i32.const 99999999))))')
faulthandler.enable()
with runtime.sandbox(module) as sandbox:
    print(sandbox.run("bad").error.code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False, text=True)
    assert done.stdout == "memory-out-of-bounds\n", done.stderr


def test_threads_that_disagree_about_one_sandbox() -> None:
    """Oracle: whatever threads do to one sandbox at once, each gets a result or an Aegis error, and the sandbox
    survives.
    """
    program = """
import collections, itertools, random, threading, aegis
WITH = '''(module (import "env" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1)
  (global (export "g") (mut i32) (i32.const 0)) (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "trap") unreachable))'''
ALONE = WITH.replace('(import "env" "f" (func $f (param i32) (result i32)))', '')
ALONE = ALONE.replace('(call $f (local.get 0))', '(local.get 0)')
for text, imports in ((WITH, {"env": {"f": lambda n: n}}), (ALONE, None)):
    runtime = aegis.Aegis(cache=False, timeout="5s")
    module = runtime.load_wat(text)
    box = [runtime.sandbox(module, imports=imports)]
    def renew():
        box[0].close()
        box[0] = runtime.sandbox(module, imports=imports)
    def touch():
        box[0].memory.write(0, b"abc")
        box[0].globals["g"] = 3
        assert box[0].globals["g"] in (0, 3)
    acts = [lambda: box[0].call("go", 5), lambda: box[0].call("go", 5), lambda: box[0].call("trap"), renew, touch,
        lambda: box[0].reset(), lambda: box[0].cancel(), lambda: box[0].usage, lambda: box[0].run("go", 7)]
    def work(seed):
        chance = random.Random(seed)
        for _ in range(400):
            try:
                chance.choice(acts)()
            except aegis.AegisError:
                pass
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads: thread.start()
    work(99)
    for thread in threads: thread.join()
    if box[0].state != "ready":
        box[0].reset()
    assert box[0].call("go", 5) == 5
    print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=300, check=False, text=True)
    assert done.stdout == "alive\nalive\n", done.stderr[-2000:]


# -- nothing of one reaches another ------------------------------------------------------------------------

COMPONENT = """(component
  (type $api (instance (export "f" (func (param "x" s32) (result s32)))))
  (import "test:api/api" (instance $i (type $api)))
  (core func $f (canon lower (func $i "f")))
  (core module $m (import "" "f" (func $f (param i32) (result i32)))
    (func (export "go") (param i32) (result i32) (call $f (local.get 0))))
  (core instance $n (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (param "x" s32) (result s32) (canon lift (core func $n "go"))))"""
ENDS: list[Any] = [
    "value", ValueError, "wrong", KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration,
    MemoryError, Mine,
]  # fmt: skip


class Host:
    """The host's side of one sandbox: each call ends in its own way, and identifies the sandbox."""

    def __init__(self, who: int) -> None:
        self.who, self.calls = who, 0

    def f(self, x: int) -> Any:
        self.calls += 1
        how = ENDS[(self.who + x) % len(ENDS)]
        if how == "value":
            return self.who * 1000 + x
        if how == "wrong":
            return f"{self.who} {x}"
        raise how(self.who, x)

    def check(self, x: int, result: Any, *, loop: bool = False) -> None:
        """Check the result of the call with ``x``: a value, or an exception."""
        how = ENDS[(self.who + x) % len(ENDS)]
        if how == "value":
            assert result == self.who * 1000 + x
        elif how == "wrong":
            assert isinstance(result, HostError)
            assert "returned an invalid result" in str(result)
        elif issubclass(how, Exception) or loop:
            assert isinstance(result, HostError)
            assert (type(result.__cause__), result.__cause__.args) == (how, (self.who, x))  # type: ignore[union-attr]
        else:
            assert (type(result), result.args) == (how, (self.who, x))


def box(runtime: Aegis, artifact: Any, host: Any) -> Any:
    imports = {"test:api/api": host} if artifact.kind == "component" else {"env": {"f": host.f}}
    return runtime.sandbox(artifact, imports=imports, subscribers=[CollectingSubscriber()] if host.who % 3 == 0 else [])


def heard(sandbox: Any) -> list[tuple[str, str | None]]:
    """Return how each host call ended, as reported to the sandbox's own subscriber."""
    found = []
    for subscriber in sandbox.events._subscribers:
        found += [(e.name, e.error) for e in subscriber.events if isinstance(e, HostFunctionCalled)]
    return found


@pytest.mark.parametrize("kind", ["core", "component"])
def test_a_hundred_sandboxes_on_eight_threads(runtime: Aegis, kind: str) -> None:
    """All are open at once; any thread calls each of them, in turn."""
    artifact = runtime.load_wat(CALLS if kind == "core" else COMPONENT)
    hosts = [Host(who) for who in range(100)]
    boxes = [box(runtime, artifact, host) for host in hosts]
    together = threading.Barrier(8)

    def work(thread: int) -> None:
        together.wait(30)
        for x in range(10):
            for host, sandbox in list(zip(hosts, boxes, strict=True))[thread::8]:
                try:
                    result: Any = sandbox.call("go", x)
                except BaseException as error:
                    result = error
                host.check(x, result)
                if sandbox.state != "ready":
                    sandbox.reset()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for host, sandbox in zip(hosts, boxes, strict=True):
        assert host.calls == 10
        if host.who % 3 == 0:
            assert len(heard(sandbox)) == 10
        sandbox.close()


@pytest.mark.usual("plain-core", "async-component")
@pytest.mark.parametrize("kind", ["core", "component"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_five_hundred_on_one_loop_whatever_their_hosts_raise(runtime: Aegis, kind: str, asynchronous: bool) -> None:
    artifact = runtime.load_wat(CALLS if kind == "core" else COMPONENT)

    class Later(Host):
        """The same, after one iteration of the event loop."""

        async def f(self, x: int) -> Any:
            await asyncio.sleep(0)
            how = ENDS[(self.who + x) % len(ENDS)]
            if how is StopIteration:  # which a coroutine cannot raise
                raise HostError("none")
            return super().f(x)

    async def one(host: Host) -> None:
        with box(runtime, artifact, host) as sandbox:
            result: Any
            try:
                result = await sandbox.acall("go", 1)
            except asyncio.CancelledError:
                raise AssertionError("a host function's CancelledError cancelled its caller") from None
            except Exception as error:
                result = error
            if isinstance(host, Later) and ENDS[(host.who + 1) % len(ENDS)] is StopIteration:
                assert str(result) == "none"
            elif isinstance(host, Later) and ENDS[(host.who + 1) % len(ENDS)] is asyncio.CancelledError:
                assert isinstance(result.__cause__, asyncio.CancelledError)
            else:
                host.check(1, result, loop=True)

    async def everybody() -> None:
        await asyncio.gather(*(one((Later if asynchronous else Host)(who)) for who in range(500)))

    asyncio.run(everybody())
    from aegis.engine.threads.queue import pool

    assert (len(pool._queue), pool._away) == (0, 0)


def test_a_store_is_not_found_by_its_number_any_more_when_it_is_deleted(
    runtime: Aegis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread's store may get the number at once, and must not lose its own host when this one ends."""
    from aegis.engine.call.trampoline import slots
    from aegis.engine.store import store as stores

    known: list[bool] = []
    delete = stores._store_delete

    def watched(native: Any) -> None:
        known.append(slots[number][1] is state)
        delete(native)

    sandbox = runtime.sandbox(runtime.load_wat(COMPONENT), imports={"test:api/api": Host(0)})
    state: Any = sandbox._run.store.state  # type: ignore[union-attr]
    number = state.slot
    assert slots[number][1] is state
    monkeypatch.setattr(stores, "_store_delete", watched)
    sandbox.close()
    assert known[0] is False
