"""The worker that ``aegis run --isolate`` forks from itself keeps nothing of the command.

Oracles: the worker's memory as root reads it, the kernel's account of it, the syntax trees of the modules that it runs,
and the same attacks as on workers of a fork server.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from aegis.isolation.worker.importable import LATE_AEGIS_MODULES, LATE_STDLIB_MODULES
from tests.cli.command import COMMAND, guest
from tests.isolation.takeover import COMMAND as TAKEN_OVER
from tests.isolation.takeover import GUEST, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")
ROOT = Path(__file__).resolve().parents[2]

WAITS = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00")
  (data (i32.const 16) "here\\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


@cache
def compiled() -> None:
    """Put the code of the waiting guest into the cache, because compilation starts processes."""
    with TemporaryDirectory() as folder:
        guest = Path(folder, "waits.wat")
        guest.write_text(WAITS)
        subprocess.run([*COMMAND, "run", "--isolate", str(guest)], env=environment(), capture_output=True, check=True)


@contextmanager
def waiting(tmp_path: Path, *words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a command whose guest waits for its input, and the process of its worker."""
    compiled()
    (tmp_path / "waits.wat").write_text(WAITS)
    command = subprocess.Popen(
        [*COMMAND, "run", "--isolate", "--stdin", "inherit", *words, str(tmp_path / "waits.wat")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environment(), **variables},
    )  # fmt: skip
    try:
        assert command.stdout is not None
        assert command.stdout.readline() == "here\n"
        yield command, worker_of(command.pid)
    finally:
        command.kill()
        command.communicate()


def worker_of(pid: int) -> int:
    """Return the only child of a process."""
    children = [int(n) for task in Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()]
    assert len(children) == 1
    return children[0]


def memory(pid: int) -> Iterator[bytes]:
    """Yield the writable private memory of a process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            low, high = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw-p") and high - low < 1 << 28:
                file.seek(low)
                try:
                    yield file.read(high - low)
                except OSError:
                    continue


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of a worker")
def test_no_secret_of_the_command_is_in_the_memory_of_its_worker(tmp_path: Path) -> None:
    secret, private = "sesame-4711-open", tmp_path / "lemon-tree-0815"
    private.mkdir()
    words = ("--allow-read", f"{private}::/data", "--events", str(tmp_path / "events-peach-2342"))
    with waiting(tmp_path, *words, SECRET_TOKEN=secret, OTHER="x" * 5000 + secret) as (command, worker):
        for kept in (secret, "SECRET_TOKEN"):
            assert any(kept.encode() in part for part in memory(command.pid)), "the search itself finds it"
        for hidden in (secret, "lemon-tree-0815", "events-peach-2342"):
            for form in (hidden.encode(), hidden.encode("utf-32-le"), hidden.encode("utf-16-le")):
                assert not any(form in part for part in memory(worker)), hidden
        for name in ("environ", "cmdline"):
            assert Path(f"/proc/{worker}/{name}").read_bytes().strip(b"\0") == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the files of a worker")
def test_the_worker_holds_no_open_file_of_the_command(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    compiled()
    (tmp_path / "waits.wat").write_text(WAITS)
    with subprocess.Popen(
        [*COMMAND, "run", "--isolate", "--stdin", "inherit", str(tmp_path / "waits.wat")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env=environment(), pass_fds=(write,),
    ) as command:  # fmt: skip
        assert command.stdout is not None
        assert command.stdout.readline() == "here\n"
        worker = worker_of(command.pid)
        held = {os.readlink(entry) for entry in Path(f"/proc/{worker}/fd").iterdir()}
        inherited = {os.readlink(f"/proc/{command.pid}/fd/{n}") for n in (0, 1, write)}
        assert not held & inherited
        assert not {name for name in held if name.startswith("/") and not name.startswith(("/dev/null", "/memfd:"))}
        command.communicate("x")
    os.close(read)
    os.close(write)


def test_the_worker_is_in_a_session_of_its_own_and_ends_with_the_command(tmp_path: Path) -> None:
    with waiting(tmp_path) as (command, worker):
        assert os.getsid(worker) == worker
        assert os.getsid(command.pid) != worker
        handle = os.pidfd_open(worker)
    import select

    poller = select.poll()
    poller.register(handle, select.POLLIN)
    assert poller.poll(10_000), "the kernel ends it when the command ends"
    os.close(handle)


def test_a_command_that_isolates_starts_one_process_and_executes_none(tmp_path: Path) -> None:
    with waiting(tmp_path) as (command, worker):
        assert Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1] == str(command.pid)
        exe = os.readlink(f"/proc/{command.pid}/exe")
        assert os.geteuid() != 0 or os.readlink(f"/proc/{worker}/exe") == exe


@pytest.mark.usual("held")
@pytest.mark.parametrize("attack", ["descriptors", "held"])
def test_attacks_have_the_same_results_as_in_a_worker_of_a_fork_server(attack: str, tmp_path: Path) -> None:
    (tmp_path / "guest.wat").write_text(GUEST)
    found = []
    for words in (["run", "--isolate"], ["-c", str(tmp_path / "aegis.toml"), "run"]):
        (tmp_path / "aegis.toml").write_text("[isolation]\nstrict = false\n")
        ended = subprocess.run(
            [*TAKEN_OVER, *words, "-e", attack, str(tmp_path / "guest.wat")], capture_output=True, text=True,
            cwd=ROOT, timeout=60, check=False,
        )  # fmt: skip
        lines = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
        assert lines, ended.stderr
        found.append(shape(lines[0]))
    assert found[0] == found[1]


def shape(report: dict[str, Any]) -> list[str]:
    """Return the description of each descriptor, without number and inode, which differ."""
    found = report["value"]
    each = [*(found.values() if isinstance(found, dict) else found)]
    for reported in each:
        for differs in ("file", "number", "inode"):
            reported.pop(differs, None)
    return sorted(map(json.dumps, each))


@pytest.mark.parametrize("layers", [["--isolate"], ["--isolate=strict"]])
def test_every_layer_is_there_as_in_a_worker_of_a_fork_server(layers: list[str], tmp_path: Path) -> None:
    (tmp_path / "aegis.toml").write_text("[isolation]\n")
    seen = []
    for words in (["-f", "json", "run", *layers], ["-f", "json", "-c", str(tmp_path / "aegis.toml"), "run"]):
        ended = subprocess.run(
            [*COMMAND, *words, str(guest("hello"))], capture_output=True, text=True, env=environment(), check=False,
        )  # fmt: skip
        document = json.loads(ended.stdout)
        if document.get("error") and "strict" in document["error"]["message"]:
            pytest.skip("this system lacks a layer")
        seen.append({layer["layer"]: layer["active"] for layer in document["isolation"]})
    assert seen[0] == seen[1]
    assert seen[0]["environment"]


# -- imports after confinement ------------------------------------------------------------------------

BEFORE_CONFINEMENT = {
    "aegis.host.net.http.transport", "aegis.host.net.network", "aegis.host.files.preopens",
    "aegis.host.files.single_file",
    "aegis.isolation.parent.compiling", "aegis.isolation.worker.compiling", "aegis.isolation.worker.warmup",
    "aegis.isolation.worker.sockets",
    "aegis.isolation.worker.preloaded_code",
    "aegis.observe.events",
}  # fmt: skip
"""Imported for the sandbox that needs them, before the worker is confined."""
COMPONENTS = {
    "aegis.component.planning.artifact", "aegis.component.link", "aegis.component.store", "aegis.sandbox.exports",
    "aegis.sandbox.component",
    "aegis.host.wasi", "aegis.isolation.worker.serving", "aegis.sandbox.guest_turns", "aegis.sandbox.link_component",
    "aegis.sandbox.local_guest", "aegis.sandbox.serving",
}  # fmt: skip
NOT_IN_A_WORKER = {
    "aegis.component.tasks.threaded_calls",
    "aegis.sandbox.columns", "aegis.engine.threads.event_loop", "aegis.host.files.protected", "aegis.host.keyvalue",
    "aegis.isolation.confine.probe",
    "aegis.policy.keyvalue", "aegis.policy.merging", "aegis.policy.network", "aegis.policy.patterns",
    "aegis.sandbox.protected_paths",
    "aegis.wasm.admission",
    "dataclasses",
    "datetime", "hashlib", "importlib", "inspect", "json", "platform", "pwd", "shlex", "signal", "subprocess",
}  # fmt: skip
"""Modules of the embedder's side, of usage errors, or of a worker that compiles."""

LOADED = """
import sys
from aegis.isolation.parent import forked
from aegis.isolation.worker.main import main
from aegis.host.preview1 import files, system
print(*sys.modules)
"""


def test_whatever_a_worker_imports_later_is_preloaded() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, env=environment()
    )
    loaded = set(ended.stdout.split())
    missing = {}
    for name in sorted(loaded):
        if name.startswith("aegis"):
            path = ROOT.joinpath(*name.split("."))
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            for wanted in later(ast.parse(file.read_text())):
                if wanted not in loaded:
                    missing.setdefault(wanted, name)
    known = {*LATE_AEGIS_MODULES, *LATE_STDLIB_MODULES, *BEFORE_CONFINEMENT, *COMPONENTS, *NOT_IN_A_WORKER}
    assert set(missing) <= known, {name: where for name, where in missing.items() if name not in known}


def later(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that functions import."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module


SHELVED = """
import sys
from aegis.isolation.parent import forked
from aegis.isolation.worker.main import main
from aegis.host.preview1 import files, system
from aegis.isolation.worker.confinement import forbid_imports, kept_finders
from aegis.isolation.worker.importable import LATE_AEGIS_MODULES, LATE_STDLIB_MODULES
from aegis.isolation.worker.preloaded_code import PreloadedFinder
kept_finders.append(PreloadedFinder())
forbid_imports()
import builtins, os
def closed(*_): raise AssertionError("opened a file")
builtins.open = os.open = closed
for name in (*LATE_AEGIS_MODULES, *LATE_STDLIB_MODULES):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if error.name != name or name not in ("_colorize",):
            raise
import difflib, logging, traceback
print(difflib.get_close_matches("adn", ["add", "sub"]))
"""


def test_the_shelf_serves_everything_on_it_and_opens_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SHELVED], capture_output=True, text=True, check=False, env=environment()
    )
    assert (ended.stdout, ended.stderr) == ("['add']\n", "")


def test_a_guest_that_needs_late_imports_runs(tmp_path: Path) -> None:
    text = """(module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func (export "_start")
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const 2)
          (i64.const 0) (i32.const 0) (i32.const 32)))
        (call $exit (i32.add (call $list (i32.const 3) (i32.const 0) (i32.const 1000) (i64.const 0) (i32.const 2000))
          (i32.add (call $random (i32.const 0) (i32.const 16))
            (call $clock (i32.const 0) (i64.const 0) (i32.const 64)))))))"""
    (tmp_path / "late.wat").write_text(text)
    for words in ([], ["--allow-clock", "--allow-random"]):
        ended = subprocess.run(
            [*COMMAND, "run", "--isolate", "--allow-read", f"{tmp_path}::/", *words, str(tmp_path / "late.wat")],
            capture_output=True, text=True, env=environment(), check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, "")
