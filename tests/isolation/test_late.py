"""A late call in a worker: its counters are believed only as far as they are possible, and only it ends the worker."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from aegis import Cancelled, DeadlineExceeded
from aegis.engine.threads.guest_thread import run_on_guest_thread
from aegis.isolation.protocol import late_calls
from aegis.isolation.protocol.channel import PAGE, REGION_BYTES, SharedRegion
from aegis.isolation.protocol.late_calls import LateCalls, forget_account, left_account
from aegis.isolation.protocol.specs import ACCOUNT
from tests.isolation.isolated import isolated, only_where_there_are_workers, runtime
from tests.isolation.liar import Peer, account, lying

pytestmark = only_where_there_are_workers

TEXT = """(module (memory (export "memory") 1) (func (export "f") (result i32) i32.const 5)
  (func (export "spin") (loop $again (br $again))))"""
SIZE = 1 << 16


def silent(peer: Peer, message: Any) -> None:
    """Do not answer."""


# -- in the parent ---------------------------------------------------------------------------------------


@pytest.mark.usual(every=5)
@pytest.mark.parametrize(
    "page",
    [
        b"\xff" * ACCOUNT.size, b"\x7f" * ACCOUNT.size, os.urandom(ACCOUNT.size),
        account(calls=-(1 << 60), memory=1 << 60, fuel=-5, seconds=float("nan"), taken=-1, stdout=-7),
    ],
    ids=["ones", "large", "noise", "out of range"],
)  # fmt: skip
@pytest.mark.parametrize("ends", [b"", b"e", b"\xff"])
def test_a_page_of_lies_gives_no_more_than_the_limits(page: bytes, ends: bytes) -> None:
    sandbox, liar = lying(TEXT, silent, timeout="200ms", memory="1MiB", fuel=1000, isolation={"grace": "10ms"})
    with sandbox:
        os.pwrite(liar.shared, page + ends, 2 * REGION_BYTES)
        outcome = sandbox.run("f")
        used = outcome.usage
        assert type(outcome.error) is DeadlineExceeded
        assert used.fuel is not None
        assert 0 <= used.fuel <= 1000
        assert 0 <= used.peak_memory <= 1 << 20
        assert 0 <= used.host_calls <= 1_000_001
        assert used.stdout >= 0
        assert used.stderr >= 0


def test_a_worker_that_claims_lateness_by_exiting_is_believed_no_more_than_one_that_sends_it() -> None:
    def leave(peer: Peer, message: Any) -> None:
        os.pwrite(liar.shared, account() + b"e", 2 * REGION_BYTES)
        raise OSError

    sandbox, liar = lying(TEXT, leave, timeout="60s")
    with sandbox:
        error = sandbox.run("f").error
        assert isinstance(error, DeadlineExceeded)
        assert sandbox.state == "poisoned"


def test_data_of_one_sandbox_in_a_worker_does_not_reach_the_next() -> None:
    shared = SharedRegion.new(SIZE)
    try:
        assert left_account(shared, SIZE) == (None, False)
        os.pwrite(shared, account(memory=7) + b"e", 2 * SIZE)
        assert left_account(shared, SIZE) == (account(memory=7), True)
        forget_account(shared, SIZE)
        assert left_account(shared, SIZE) == (None, False)
        assert os.fstat(shared).st_size == 2 * SIZE + PAGE
    finally:
        os.close(shared)


# -- in the worker ---------------------------------------------------------------------------------------


class Ended(BaseException):
    """Replaces the termination of the process."""


class Watched:
    """The watchdog of a sandbox in this process, with a sandbox whose calls it watches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: str, **options: Any) -> None:
        def end(code: int) -> None:
            raise Ended

        monkeypatch.setattr(late_calls.os, "_exit", end)
        self.shared = SharedRegion.new(SIZE)
        self.calls = LateCalls(self.shared, SIZE, lambda: account(memory=1))
        made = runtime("in-process", timeout="60s")
        self.sandbox = made.sandbox(made.load_wat(text), **options)

    def check(self, times: int) -> bool:
        """Check as the clock does; return whether the process was ended."""
        try:
            for _ in range(times):
                self.calls.check()
        except Ended:
            return True
        return False

    def close(self) -> None:
        self.calls.end()
        self.sandbox.close()
        os.close(self.shared)


def in_a_call(watched: Watched, function: str, *, endless: bool) -> Any:
    """Start a call on a guest thread, and return its job once the guest is entered."""

    def call() -> Any:
        watched.calls.begin(watched.sandbox._run, endless=endless)
        with watched.calls:
            return watched.sandbox.call(function)

    job = run_on_guest_thread(call)
    while not watched.sandbox._run.store.in_call():  # type: ignore[union-attr]
        pass
    return job


@pytest.mark.parametrize("endless", [True, False])
def test_only_a_late_call_of_a_guest_that_nothing_else_stops_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, endless: bool
) -> None:
    watched = Watched(monkeypatch, TEXT)
    job = in_a_call(watched, "spin", endless=endless)
    assert not watched.check(5), "it is in time"
    assert left_account(watched.shared, SIZE) == (None, False)
    watched.sandbox._run.door.stop = Cancelled("stopped")
    assert not watched.check(1), "it may be about to answer"
    assert left_account(watched.shared, SIZE) == (account(memory=1), False)
    # Without epochs nothing has ended the guest by the second tick; with them it has ended, or is about to.
    if endless:
        ended = watched.check(1)
        assert ended or not watched.sandbox._run.store.in_call()  # type: ignore[union-attr]
    else:
        assert not watched.check(5)
    assert job.wait(30)
    assert not watched.check(5), "no call is under way"
    watched.close()


def test_a_late_host_function_is_left_to_end_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def f() -> None:
        entered.set()
        leave.wait(30)

    text = '(module (import "env" "f" (func $f)) (func (export "calls") (call $f)))'
    watched = Watched(monkeypatch, text, imports={"env": {"f": f}})
    job = in_a_call(watched, "calls", endless=True)
    assert entered.wait(30)
    watched.sandbox._run.door.stop = Cancelled("stopped")
    assert not watched.check(10)
    assert left_account(watched.shared, SIZE) == (account(memory=1), False)
    leave.set()
    assert job.wait(30)
    assert isinstance(job.error, Cancelled)
    watched.close()


# -- both ------------------------------------------------------------------------------------------------


CALLS_INSIDE = """(module (import "env" "f" (func $f)) (func (export "go") (call $f))
  (func (export "spin") (loop $again (br $again))))"""
ENDLESS_REALLOC = """(component
  (import "text" (func $text (result string)))
  (core module $memory (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) (unreachable)))
  (core instance $memory (instantiate $memory))
  (core func $text (canon lower (func $text)
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $m (import "" "text" (func $text (param i32))) (func (export "go") (call $text (i32.const 16))))
  (core instance $m (instantiate $m (with "" (instance (export "text" (func $text))))))
  (func (export "go") (canon lift (core func $m "go"))))"""


@pytest.mark.parametrize("text", [CALLS_INSIDE, ENDLESS_REALLOC], ids=["a call inside", "a realloc for its result"])
def test_a_guest_that_does_not_return_within_a_host_call_is_not_waited_for(text: str) -> None:
    aegis = isolated(timeout="150ms", isolation={"grace": "30s"})
    inner: list[Any] = []
    imports: Any = (
        {"text": lambda: "text"} if text is ENDLESS_REALLOC else {"env": {"f": lambda: inner[0].call("spin")}}
    )
    with aegis.sandbox(aegis.load_wat(text), imports=imports) as sandbox:
        inner.append(sandbox)
        job = run_on_guest_thread(lambda: sandbox.run("go").error)
        assert job.wait(20)
        assert type(job.outcome()) is DeadlineExceeded
        assert sandbox.state == "poisoned"
    aegis.close()


def test_workers_go_on_after_one_that_ended_its_late_call() -> None:
    """The pool replaces the worker; later sandboxes are not late, nor is an idle sandbox past its deadline."""
    aegis = isolated(timeout="150ms", isolation={"workers": 1, "recycle": 5, "grace": "20s"})
    module = aegis.load_wat(TEXT)
    for _ in range(3):
        with aegis.sandbox(module) as sandbox:
            assert sandbox.call("f") == 5
        with aegis.sandbox(module) as sandbox:
            assert isinstance(sandbox.run("spin").error, DeadlineExceeded)
            sandbox.reset()
            assert sandbox.call("f") == 5
            assert len(sandbox.memory.read(0, 65536)) == 65536
    aegis.close()
