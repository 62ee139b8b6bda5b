"""Every example of the prototype's README runs: its shell commands unchanged, its library examples in Python.

The order is that of the README. Where its spelling has no counterpart in Python, a comment names the replacement.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aegis.engine.compile.artifact import text_to_binary
from aegis.prelude import *  # noqa: F403 - the example's first line
from aegis.prelude import (
    Aegis,
    CallError,
    CollectingSubscriber,
    FilesystemCapability,
    LoggingCapability,
    PathGrant,
    PolicyError,
)

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = """(module
  (import "env" "log" (func $log (param i32)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "main") (call $log (i32.const 42))))"""
MODULE = """(module (func (export "main")) (memory (export "memory") 1))"""
PROTOTYPE_POLICY = """\
[limits]
memory_bytes = 67108864
fuel = 1000000000
timeout_seconds = 30

[capabilities.filesystem]
paths = [
    { path = "/tmp/sandbox", read = true, write = true },
    { path = "/data", read = true, write = false },
]

[capabilities.logging]
enabled = true
min_level = "info"
"""
COMMANDS = """\
# Execute with limits
aegis run module.wasm -f main --memory-limit 64MB --timeout 10s

# Grant capabilities
aegis run module.wasm --allow-read /data --allow-logging

# Validate module
aegis validate module.wasm

# Inspect exports/imports
aegis inspect module.wasm --all
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``plugin.wasm``, and the directory that the examples grant."""
    (tmp_path / "plugin.wasm").write_bytes(text_to_binary(PLUGIN))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that stops at its first failure, with ``aegis`` on its path."""
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin" / "aegis"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aegis "$@"\n')
    command.chmod(0o755)
    env = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-eu", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_example_of_the_prototypes_readme_runs(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # -- Quick Start, Library Usage. `sandbox()` is a builder there and needs no `build()` here; a tuple of arguments
    # is written as arguments.
    runtime = (
        Aegis.builder()
        .with_memory_limit(64 * 1024 * 1024)  # 64 MB
        .with_fuel_limit(1_000_000_000)  # 1B instructions
        .with_timeout(timedelta(seconds=30))
        .build()
    )
    module = runtime.load_file("plugin.wasm")
    sandbox = runtime.sandbox()
    sandbox.register_func("env", "log", lambda val: None)
    sandbox.load_module(module)
    result: int = sandbox.call("add", 2, 3)
    print(f"Result: {result}")
    assert capsys.readouterr().out == "Result: 5\n"

    # -- Quick Start, CLI Usage: the lines as they stand. A machine need not have /data, and nothing here makes one.
    (plugin / "module.wasm").write_bytes(text_to_binary(MODULE))
    here = COMMANDS if Path("/data").is_dir() else COMMANDS.replace("/data", f"'{plugin / 'data'}'")
    done = shell(here, plugin)
    assert done.returncode == 0, done.stderr
    assert "module.wasm: valid" in done.stdout
    assert "main func () -> ()" in done.stdout

    # -- Configuration, Programmatic
    runtime = (
        Aegis.builder()
        # Engine
        .with_async_support(True)
        # Limits
        .with_memory_limit(64 * 1024 * 1024)
        .with_fuel_limit(1_000_000_000)
        .with_timeout(timedelta(seconds=30))
        # Capabilities
        .with_filesystem(FilesystemCapability.read_only(["/data"]))
        .with_logging(LoggingCapability.production())
        .build()
    )
    assert runtime.policy.filesystem.paths == (PathGrant(host="/data", guest="/data"),)
    assert (runtime.policy.limits.memory, runtime.policy.limits.timeout) == (64 << 20, 30.0)

    # -- Configuration File
    (plugin / "aegis.toml").write_text(PROTOTYPE_POLICY)
    policy = Aegis.from_config("aegis.toml").policy
    assert policy.filesystem.paths == (
        PathGrant(host="/tmp/sandbox", guest="/tmp/sandbox", write=True),
        PathGrant(host="/data", guest="/data"),
    )
    assert policy.limits == runtime.policy.limits
    assert policy.logging == LoggingCapability.production()

    # -- Examples, Custom Host Functions. A granted directory must exist before a guest runs.
    if not Path("/data").is_dir():
        granted = FilesystemCapability.read_only([f"{plugin / 'data'}::/data"])
        runtime = Aegis(replace(runtime.policy, filesystem=granted))
    sandbox = runtime.sandbox()
    sandbox.register_func("env", "log", lambda val: print(f"Guest: {val}"))
    sandbox.load_module(module)
    sandbox.call_void("main")
    assert capsys.readouterr().out == "Guest: 42\n"

    # -- Examples, Event Streaming. An event has its time: `ts`.
    collector = CollectingSubscriber(1000)
    runtime = Aegis.builder().with_event_subscriber(collector).build()
    with runtime.sandbox() as sandbox:
        sandbox.register_func("env", "log", lambda val: None)
        sandbox.load_module(runtime.load_file("plugin.wasm"))
        sandbox.call_void("main")
    for event in collector.events:
        print(f"{event.ts}: {event}")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(collector)
    assert "ExecutionCompleted" in lines[-1]


@pytest.mark.parametrize("line", [line for line in COMMANDS.splitlines() if line.startswith("aegis ")])
def test_each_shell_example_is_read_as_it_was_meant(line: str, plugin: Path) -> None:
    """Without the file or the directory, each command reports that, and uses nothing else instead."""
    done = shell(line.replace("/data", f"'{plugin / 'data'}'"), plugin)
    assert done.returncode == 127
    assert done.stderr.startswith("error: ")
    assert "module.wasm" in done.stderr


def test_a_limit_after_the_file_holds(plugin: Path) -> None:
    (plugin / "module.wasm").write_bytes(text_to_binary('(module (memory 100) (func (export "main")))'))
    assert shell("aegis run module.wasm -f main --memory-limit 1MB --timeout 10s", plugin).returncode == 137


# -- what the examples take as it is, in its other forms ------------------------------------------------------------


@pytest.mark.parametrize("writes", [False, True])
def test_paths_are_granted_one_by_one_and_as_lists(tmp_path: Path, writes: bool) -> None:
    grant = FilesystemCapability.read_write if writes else FilesystemCapability.read_only
    one, two = tmp_path / "one", tmp_path / "two::/two"
    expected = grant(str(one), str(two))
    assert all(path.write is writes for path in expected.paths)
    for given in ([[one, str(two)]], [(one, two)], [one, [two]], [iter([one, two])], [[one], [two]]):
        assert grant(*given) == expected  # type: ignore[arg-type]
    assert grant([]) == grant() == FilesystemCapability()


@pytest.mark.parametrize("wrong", [5, None, b"/data", [b"/data"], [["/data"]], [None]])
def test_an_invalid_path_is_refused_in_a_list_too(wrong: object) -> None:
    with pytest.raises(PolicyError, match="a path must be text, not"):
        FilesystemCapability.read_only(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duration", "seconds"), [(timedelta(minutes=1), 60.0), (timedelta(milliseconds=250), 0.25), ("5s", 5.0), (3, 3.0)]
)
def test_a_duration_is_a_timedelta_wherever_one_is_taken(duration: timedelta | str | float, seconds: float) -> None:
    from aegis import Isolation, Limits, Policy

    assert Aegis.builder().with_timeout(duration).build().policy.limits.timeout == seconds
    assert Aegis.builder().with_limits(timeout=duration).build().policy.limits.timeout == seconds
    assert Limits().with_(timeout=duration) == Limits(timeout=seconds)
    assert Policy.from_keywords(timeout=duration).limits.timeout == seconds
    assert Isolation.of({"compile_time": duration, "grace": duration}) == Isolation(compile_time=seconds, grace=seconds)


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(seconds=-1), timedelta.max])
def test_a_timedelta_that_is_no_timeout_is_refused(wrong: timedelta) -> None:
    with pytest.raises(PolicyError, match="timeout: "):
        Aegis.builder().with_timeout(wrong)


def test_async_support_cannot_be_switched_off() -> None:
    assert Aegis.builder().with_async_support().build().policy == Aegis.builder().build().policy
    with pytest.raises(PolicyError, match="always on"):
        Aegis.builder().with_async_support(False)


def test_a_tuple_of_arguments_is_answered_with_how_to_spread_it(plugin: Path) -> None:
    runtime = Aegis()
    with runtime.sandbox(imports={"env": {"log": lambda val: None}}) as sandbox:
        sandbox.load_module(runtime.load_file("plugin.wasm"))
        with pytest.raises(CallError, match=r"takes 2 arguments, not 1: write call\(name, \*arguments\)"):
            sandbox.call("add", (2, 3))


def test_the_prelude_has_the_needed_names_and_shadows_no_builtin() -> None:
    import builtins

    import aegis
    from aegis import prelude

    assert set(prelude.__all__) <= set(aegis.__all__)
    assert not set(prelude.__all__) & set(dir(builtins))
    assert all(getattr(prelude, name) is getattr(aegis, name) for name in prelude.__all__)


@pytest.mark.parametrize("artifact", [None, "plugin.wasm", b"\0asm\1\0\0\0"])
def test_an_invalid_artifact_is_not_loaded_and_the_error_says_how_to_load_one(artifact: object) -> None:
    with Aegis().sandbox() as sandbox, pytest.raises(CallError, match=r"write load\(runtime\.load_file\(path\)\)"):
        sandbox.load_module(artifact)  # type: ignore[arg-type]


@pytest.mark.parametrize("subscriber", [None, 3, "log.jsonl"])
def test_a_subscriber_that_cannot_be_called_is_refused_at_once(subscriber: object) -> None:
    """Otherwise its first event would be lost with a warning, and an audit log would stay empty."""
    with pytest.raises(PolicyError, match="must be callable"):
        Aegis.builder().with_event_subscriber(subscriber)  # type: ignore[arg-type]
