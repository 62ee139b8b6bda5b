"""Workers are prepared in advance, used once or as often as the policy allows, and replaced when they exit."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, FilesystemCapability, NetworkCapability, PolicyError, WorkerCrashed
from aegis.isolation.confine import LAYERS, Layer, available
from aegis.isolation.parent import pool as pools
from aegis.isolation.worker.confinement import _reported
from aegis.policy.isolation import Isolation
from tests.echo import echo_many_component

COUNTER = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (data (i32.const 16) "hello\\n")
  (func (export "count") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store8 (i32.const 100) (i32.const 1))
    global.get $count)
  (func (export "mark") (result i32) (i32.load8_u (i32.const 100)))
  (func (export "trap") unreachable)
  (func (export "say")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
COMPONENT = """(component
  (core module $m (func (export "run") (result i32) i32.const 7))
  (core instance $m (instantiate $m))
  (func (export "run") (result u32) (canon lift (core func $m "run"))))"""


def _pid(sandbox: Any) -> int:
    return sandbox._run.store.worker.pid  # type: ignore[no-any-return]


def _served(runtime: Aegis, artifact: Any) -> int:
    """Check that a sandbox is in the state of a new one, and return its process."""
    with runtime.sandbox(artifact) as sandbox:
        assert sandbox.call("mark") == 0
        assert sandbox.call("count") == 1
        sandbox.call("say")
        assert sandbox.stdout == b"hello\n"
        return _pid(sandbox)


def _gone(pid: int) -> None:
    """Wait until a process has exited."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        assert poller.poll(30_000), f"process {pid} is still there"
    finally:
        os.close(watched)


def test_a_worker_serves_one_sandbox_by_default() -> None:
    with Aegis(isolation=True, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        assert len({_served(runtime, artifact) for _ in range(4)}) == 4


def test_a_recycled_worker_serves_so_many_more_sandboxes_and_each_is_new() -> None:
    with Aegis(isolation={"recycle": 2}, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        pids = [_served(runtime, artifact) for _ in range(6)]
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4] == pids[5]


def test_a_component_is_served_by_a_recycled_worker_too() -> None:
    pids = set()
    with Aegis(isolation={"recycle": 5}, cache=False) as runtime:
        artifact = runtime.load_wat(COMPONENT)
        for _ in range(4):
            with runtime.sandbox(artifact) as sandbox:
                assert sandbox.call("run") == 7
                pids.add(_pid(sandbox))
    assert len(pids) == 1


def test_a_recycled_worker_calls_the_functions_of_its_present_sandbox() -> None:
    text = '(module (import "host" "f" (func $f (result i32))) (func (export "run") (result i32) call $f))'
    with Aegis(isolation={"recycle": 5}, cache=False) as runtime:
        artifact = runtime.load_wat(text)
        seen = []
        for number in range(3):
            with runtime.sandbox(artifact, imports={"host": {"f": lambda number=number: number}}) as sandbox:
                seen.append((sandbox.call("run"), _pid(sandbox)))
    assert [value for value, _ in seen] == [0, 1, 2]
    assert len({pid for _, pid in seen}) == 1


def test_a_recycled_worker_holds_no_more_memory_after_many_sandboxes() -> None:
    imports = {f"echo-{n}": lambda x: x for n in range(30)}
    with Aegis(isolation={"recycle": 200}, cache=False) as runtime:
        component = runtime.load_wat(echo_many_component(["u32"] * 30))
        with runtime.sandbox(component, imports=imports) as box:
            sizes = {}
            for number in range(100):
                assert box.call("echo-back-0", number) == number
                sizes[number] = _data_bytes(_pid(box))
                box.reset()
    assert sizes[99] - sizes[10] < 4 << 20


def _data_bytes(pid: int) -> int:
    """Return the private memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) << 10


def test_a_recycled_worker_has_no_more_descriptors_than_at_first() -> None:
    with Aegis(isolation={"recycle": 50}, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        counts = []
        for _ in range(12):
            with runtime.sandbox(artifact) as sandbox:
                sandbox.call("say")
                counts.append(len(os.listdir(f"/proc/{_pid(sandbox)}/fd")))
    assert counts[-1] <= counts[1]


def test_an_artifact_whose_kept_workers_are_all_in_use_blocks_no_other() -> None:
    text = '(module (func (export "n") (result i32) (i32.const {})))'
    with Aegis(isolation={"recycle": 5, "workers": 1}, cache=False) as runtime:
        modules = [runtime.load_wat(text.format(n)) for n in range(3)]
        runtime.sandbox(modules[0]).close()
        with runtime.sandbox(modules[0]) as first:  # takes the only idle worker
            for n in (1, 2):
                with runtime.sandbox(modules[n]) as other:
                    assert other.call("n") == n
            assert first.call("n") == 0


def test_a_worker_is_recycled_for_its_own_artifact_alone() -> None:
    with Aegis(isolation={"recycle": 5, "workers": 4}, cache=False) as runtime:
        one, other = runtime.load_wat(COUNTER), runtime.load_wat(COUNTER.replace("hello", "hallo"))
        first = _served(runtime, one)
        with runtime.sandbox(other) as sandbox:
            assert _pid(sandbox) != first
        assert _served(runtime, one) == first


def test_a_worker_to_which_a_directory_was_granted_serves_no_other(tmp_path: Path) -> None:
    with Aegis(
        isolation={"recycle": 5}, cache=False, filesystem=FilesystemCapability.read_only(f"{tmp_path}::data")
    ) as runtime:
        artifact = runtime.load_wat(COUNTER)
        assert _served(runtime, artifact) != _served(runtime, artifact)


def test_a_worker_that_received_a_cancellation_serves_no_other_sandbox() -> None:
    text = '(module (import "host" "f" (func $f)) (func (export "run") (loop $l call $f br $l)))'
    with Aegis(isolation={"recycle": 5}, cache=False) as runtime:
        artifact = runtime.load_wat(text)
        with runtime.sandbox(artifact, imports={"host": {"f": lambda: sandbox.cancel()}}) as sandbox:
            first = _pid(sandbox)
            assert sandbox.run("run").status == "interrupted"
        with runtime.sandbox(artifact, imports={"host": {"f": lambda: None}}) as sandbox:
            assert _pid(sandbox) != first


def test_a_guest_that_trapped_leaves_its_worker_fit_for_the_next() -> None:
    with Aegis(isolation={"recycle": 5}, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        with runtime.sandbox(artifact) as sandbox:
            first = _pid(sandbox)
            assert sandbox.run("trap").status == "trap"
        assert _served(runtime, artifact) == first


def test_of_all_artifacts_no_more_used_workers_are_kept_than_the_pool_has_places() -> None:
    with Aegis(isolation={"recycle": 5, "workers": 1}, cache=False) as runtime:
        one, other = runtime.load_wat(COUNTER), runtime.load_wat(COUNTER.replace("hello", "hallo"))
        first = _served(runtime, one)
        with runtime.sandbox(other):
            pass
        _gone(first)
        assert _served(runtime, one) != first


def test_closing_a_runtime_ends_every_worker() -> None:
    runtime = Aegis(isolation={"recycle": 5, "workers": 3}, cache=False)
    used = _served(runtime, runtime.load_wat(COUNTER))
    pool = runtime._isolated.pool  # type: ignore[union-attr]
    pids = [used, *(worker.pid for worker in pool._warm)]
    assert len(pids) == 4
    runtime.close()
    for pid in pids:
        _gone(pid)


def test_a_collected_runtime_ends_its_workers() -> None:
    import gc

    runtime = Aegis(isolation={"workers": 2}, cache=False)
    runtime.load_wat(COUNTER)
    pids = [worker.pid for worker in runtime._isolated.pool._warm]  # type: ignore[union-attr]
    del runtime
    gc.collect()
    for pid in pids:
        _gone(pid)


def test_a_warm_worker_that_died_is_replaced_when_it_is_needed() -> None:
    with Aegis(isolation={"workers": 1}, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        worker = runtime._isolated.pool._warm[0]  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGKILL)
        _gone(worker.pid)
        assert _served(runtime, artifact) != worker.pid


def test_a_fork_server_that_died_is_replaced() -> None:
    with Aegis(isolation=True, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        server = pools._fork_server
        assert server is not None
        with runtime.sandbox(artifact) as sandbox:
            server._process.kill()
            server._process.wait()
            outcome = sandbox.run("count")
            assert outcome.status == "worker-crashed" or outcome.value == 1
        _served(runtime, artifact)
        assert pools._fork_server is not server


_FORKS = """
import os, sys
from aegis import Aegis
runtime = Aegis(isolation=True, cache=False)
artifact = runtime.load_wat('(module (func (export "f") (result i32) i32.const 5))')
def served():
    with runtime.sandbox(artifact) as sandbox:
        return sandbox.call("f")
assert served() == 5
child = os.fork()
if not child:
    os._exit(served())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
assert served() == 5
runtime.close()
print("fine")
"""


def test_a_fork_of_the_application_has_workers_of_its_own() -> None:
    # Since 3.12, Python warns of every fork of a multithreaded process; here the application has chosen to fork.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKS]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)


def test_a_policy_of_many_rules_reaches_its_workers(tmp_path: Path) -> None:
    network = NetworkCapability(allow=[f"tcp://10.1.{n // 256}.{n % 256}:80" for n in range(500)])
    for rules in (network, NetworkCapability(allow=["tcp://127.0.0.1:9"]), None):
        with Aegis(isolation={"recycle": 2}, cache=False, network=rules, fuel=12345) as runtime:
            artifact = runtime.load_wat(COUNTER)
            assert _served(runtime, artifact) == _served(runtime, artifact)


# -- layers left out ------------------------------------------------------------------------------------


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_is_left_out_is_reported_and_the_others_stay(name: str) -> None:
    with Aegis(isolation={"without": [name], "workers": 0}, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        with runtime.sandbox(artifact) as sandbox:
            assert sandbox.call("count") == 1
            layers = {layer: (active, detail) for layer, active, detail in sandbox.layers}
    assert tuple(layers) == LAYERS
    assert layers[name] == (False, "skipped on request")
    # lacks no-new-privs, which an unprivileged process requires
    needs = {"landlock-files", "landlock-net", "seccomp"} if name == "no-new-privs" else set()
    here = {layer.name for layer in available() if layer.active}
    assert {layer for layer, (active, _) in layers.items() if active} >= here - needs - {name}


def test_without_the_filter_of_calls_a_worker_has_none_and_with_it_it_has() -> None:
    found = {}
    for without in ((), ("seccomp",)):
        with Aegis(isolation={"without": without}, cache=False) as runtime, runtime.sandbox() as sandbox:
            sandbox.load(runtime.load_wat(COUNTER))
            status = Path(f"/proc/{_pid(sandbox)}/status").read_text()
            found[without] = next(line.split()[1] for line in status.splitlines() if line.startswith("Seccomp:"))
            active = {name: on for name, on, _ in sandbox.layers}["seccomp"]
    assert found[("seccomp",)] == "0"
    assert not active
    if {layer.name: layer.active for layer in available()}["seccomp"]:
        assert found[()] == "2"


def test_strict_refuses_a_worker_that_lacks_a_layer() -> None:
    layers = [Layer("rlimits", True, "set"), Layer("landlock-net", False, "the kernel's Landlock is ABI 3")]
    with pytest.raises(PolicyError, match="strict, and this system lacks landlock-net: the kernel's Landlock is ABI 3"):
        _reported(layers, strict=True)
    assert _reported(layers, strict=False)[1] == ["landlock-net", False, "the kernel's Landlock is ABI 3"]


def test_strict_runs_where_every_layer_can_be_had_and_refuses_elsewhere() -> None:
    missing = [layer.name for layer in available() if not layer.active]
    with Aegis(isolation="strict", cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        if missing:
            with pytest.raises(PolicyError, match=missing[0]):
                runtime.sandbox(artifact)
            return
        with runtime.sandbox(artifact) as sandbox:
            assert sandbox.call("count") == 1
            assert all(active for _, active, _ in sandbox.layers)


def test_strict_and_without_exclude_each_other() -> None:
    with pytest.raises(PolicyError, match="`strict` requires every layer, but `without` names "):
        Isolation(strict=True, without=("seccomp",))


# -- how an end is reported ---------------------------------------------------------------------------------


def test_a_worker_that_could_not_be_made_is_a_crash_that_says_so() -> None:
    with Aegis(isolation={"workers": 1}, cache=False) as runtime:
        artifact = runtime.load_wat(COUNTER)
        worker = runtime._isolated.pool._warm[0]  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGKILL)
        _gone(worker.pid)
        worker._process.pid = 0
        crash = worker.crashed()
        assert isinstance(crash, WorkerCrashed)
        assert "no worker process could be made" in str(crash)
        assert _served(runtime, artifact)


def test_an_abort_for_lack_of_memory_is_distinguished_from_others() -> None:
    with Aegis(isolation={"workers": 1}, cache=False) as runtime:
        runtime.load_wat(COUNTER)
        worker = runtime._isolated.pool._warm[0]  # type: ignore[union-attr]
        abort, kill = WorkerCrashed("", signal=signal.SIGABRT), WorkerCrashed("", signal=signal.SIGKILL)
        assert not worker.starved(abort)
        os.write(worker._stderr, b"memory allocation of 4096 bytes failed\n")
        assert worker.starved(abort)
        assert not worker.starved(kill)


@pytest.mark.usual("cold")
@pytest.mark.parametrize("workers", [0, 1], ids=["cold", "warm"])
def test_a_default_timeout_of_the_applications_sockets_does_not_reach_workers(workers: int) -> None:
    code = f"""
import socket, tempfile; socket.setdefaulttimeout(0.01)
from aegis import *
folder = tempfile.mkdtemp()
granted = FilesystemCapability.read_write(folder)
network = NetworkCapability(allow=["tcp://localhost:1"])
for options in ({{}}, {{"filesystem": granted, "network": network}}):
    with Aegis(isolation={{"workers": {workers}}}, cache=False, **options) as runtime:
        module = runtime.load_wat('(module (func (export "f") (result i32) i32.const 7))')
        with runtime.sandbox(module) as box:
            print(box.call("f"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("7\n7\n", "")


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    "oddity",
    [
        "sys.path.append(b'/tmp')", "sys.path.append(None)", "sys.path.append(pathlib.Path('/'))",
        "os.chdir(folder); os.rmdir(folder); sys.path.insert(0, '')",
    ],
)  # fmt: skip
def test_a_search_path_that_python_accepts_is_accepted(oddity: str) -> None:
    if "rmdir" in oddity and sys.version_info[:3] == (3, 13, 0):
        pytest.skip("this CPython cannot import socket, nor much else, where its search path leads nowhere")
    code = f"""
import os, pathlib, sys, tempfile
folder, granted = tempfile.mkdtemp(), tempfile.mkdtemp()
{oddity}
from aegis import *
for isolation in (False, True):
    with Aegis(isolation=isolation, cache=False, filesystem=FilesystemCapability.read_write(granted)) as runtime:
        module = runtime.load_wat({COUNTER!r})
        with runtime.sandbox(module) as box:
            print(box.call("count"))
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it expects strings
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert (done.stdout, done.stderr) == ("1\n1\n", "")


@pytest.mark.parametrize("executable", [None, ""])
def test_an_interpreter_that_does_not_know_its_path_is_one_clear_line(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(pools.Unsupported, match=r"set sys\.executable"):
        pools.ForkServerProcess(1 << 19)
