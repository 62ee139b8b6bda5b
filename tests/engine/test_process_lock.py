"""A forked child can compile while a parent's thread was compiling: neither the thread nor its lock exists there.

Oracle: the exit code of the child, which an alarm ends if it blocks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings

import pytest

from aegis import Aegis
from aegis.engine.native.process_lock import ProcessLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def child(work: object) -> int:
    """Return the exit code of a forked child that runs ``work``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the process has threads, which is the subject of the test
        pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            work()  # type: ignore[operator]
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_compiles_what_a_thread_of_its_parent_compiles() -> None:
    runtime = Aegis(cache=False, pooled=False)
    module = runtime.load_wat('(module (func (export "f") (result i32) (i32.const 7)))')
    other = Aegis(cache=False, pooled=False, fuel=1000)  # code that no other test compiles
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with module._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)

    def call() -> None:
        with other.sandbox(module) as sandbox:
            assert sandbox.call("f") == 7

    try:
        assert child(call) == 0
    finally:
        done.set()
        thread.join()
    call()


def test_a_lock_excludes_within_a_process() -> None:
    lock, inside, most = ProcessLock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
