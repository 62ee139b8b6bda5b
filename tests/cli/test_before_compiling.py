"""Errors that the bytes of an artifact show are reported before compilation.

Each artifact here is also invalid in a way that only the compiler detects (exit code 126); another error has to come
first.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import aegis as library
from aegis.cli.event_log import EventLog
from aegis.cli.interruptible import Stopped
from aegis.cli.output import Output
from aegis.cli.run import _CommandRun
from aegis.errors import ArtifactError, DeadlineExceeded, ExportNotFound, LinkError
from aegis.policy import Policy
from tests.cli.command import aegis

INVALID = '(func (export "f") (result i32))'
MODULES = {
    "no _start": (f"(module {INVALID} (func (export \"g\")))", [], 127, "no _start"),
    "no such export": (f"(module {INVALID})", ["-e", "h"], 127, "exports no function 'h'"),
    "an export that is no function": (f'(module {INVALID} (memory (export "m") 1))', ["-e", "m"], 127, "function 'm'"),
    "an import that nobody provides": (f'(module (import "env" "x" (func)) {INVALID})', ["-e", "f"], 126, "env.x"),
    "a WASI function that there is not": (
        f'(module (import "wasi_snapshot_preview1" "sock_open" (func)) {INVALID})', ["-e", "f"], 126,
        "no such function",
    ),
}  # fmt: skip
COMPONENT = """(component (core module $m (func (export "f") i32.const 1))
  (core instance $i (instantiate $m)) (func (export "f") (canon lift (core func $i "f"))) %s)"""
LIFTED = '(func $f (canon lift (core func $i "f")))'
INLINE = COMPONENT % f'{LIFTED} (instance $x (export "f" (func $f))) (export "a:b/c@1.0.0" (instance $x))'
NESTED = (
    COMPONENT
    % f"""{LIFTED}
  (component $shim (import "f" (func $f)) (export "f" (func $f)))
  (instance $x (instantiate $shim (with "f" (func $f)))) (export "a:b/c@1.0.0" (instance $x)) %s"""
)
IMPORTED = """(component (import "a:b/c@1.0.0" (instance $x (export "f" (func))))
  (core module $m (func (export "f") i32.const 1)) (export "c:d/e" (instance $x)))"""
COMPONENTS = {
    "no program": (COMPONENT % '(func (export "g") (canon lift (core func $i "f")))', [], 127, "no wasi:cli/run"),
    "no such export": (COMPONENT % "", ["-e", "h"], 127, "exports no function 'h'"),
    "no such interface": (COMPONENT % "", ["--invoke", "a:b/c#f()"], 127, "exports no function 'a:b/c#f'"),
    "no such function of an interface": (INLINE, ["--invoke", "a:b/c#g()"], 127, "exports no function 'a:b/c#g'"),
    "none of an interface by its version": (INLINE, ["--invoke", "a:b/c@1.0.0#g()"], 127, "a:b/c@1.0.0#g"),
    "none of an interface of a component within": (NESTED % "", ["--invoke", "a:b/c@1.0.0#g()"], 127, "a:b/c@1.0.0#g"),
    "none of an interface named alone": (NESTED % "", ["-e", "g"], 127, "exports no function 'g'"),
    "no program among interfaces": (
        NESTED % '(func (export "g") (canon lift (core func $i "f")))',
        [],
        127,
        "no wasi:",
    ),
}
ROWS = {**{f"module: {name}": row for name, row in MODULES.items()},
        **{f"component: {name}": row for name, row in COMPONENTS.items()}}  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("isolate", [[], ["--isolate"]], ids=["in-process", "isolated"])
@pytest.mark.parametrize("name", ROWS)
def test_unsupported_artifacts_are_reported_before_compilation(name: str, isolate: list[str], tmp_path: Path) -> None:
    text, options, code, said = ROWS[name]
    (tmp_path / "guest.wat").write_text(text)
    ended = aegis("run", "--no-cache", *isolate, *options, tmp_path / "guest.wat")
    assert (ended.code, said in ended.err) == (code, True), ended.err


RUNNABLE = [
    (f"(module {INVALID})", ["-e", "f"]),
    (COMPONENT % "", ["-e", "f"]),
    (INLINE, ["--invoke", "a:b/c#f()"]),
    (NESTED % "", ["--invoke", "a:b/c@1.0.0#f()"]),
    (IMPORTED, ["--invoke", "c:d/e#f()"]),
]


@pytest.mark.parametrize(("text", "options"), RUNNABLE)
def test_supported_components_are_compiled(text: str, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "guest.wat").write_text(text)
    ended = aegis("run", "--no-cache", *options, tmp_path / "guest.wat")
    assert ended.code == 126
    assert "that Aegis admits" in ended.err


def test_the_one_liner_checks_before_it_compiles_too(tmp_path: Path) -> None:
    (tmp_path / "guest.wat").write_text(f'(module {INVALID} (func (export "g")))')
    with pytest.raises(ExportNotFound):
        library.run(tmp_path / "guest.wat", cache=False)
    with pytest.raises(ArtifactError, match="type mismatch"):
        library.run(tmp_path / "guest.wat", function="f", cache=False)


def test_a_runtime_lets_the_embedder_check_before_it_compiles() -> None:
    def check(artifact: Any) -> None:
        raise LinkError(f"{artifact.kind} of {artifact.size} bytes")

    from aegis.engine.compile.artifact import text_to_binary

    with pytest.raises(LinkError, match="module of"):
        library.Aegis(cache=False).load(text_to_binary(f"(module {INVALID})"), check=check)


def test_a_deadline_while_compiling_says_that_the_guest_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "guest.wat").write_text('(module (func (export "_start")))')
    compiling, go = threading.Event(), threading.Event()
    options = {"function": None, "invoke": None, "no_cache": True, "trap_missing": False, "metrics": False}
    run = _CommandRun(Output(), str(tmp_path / "guest.wat"), (), Policy(), options, EventLog(None, "guest.wat", None))

    def prepare(*_: Any) -> None:
        compiling.set()
        go.wait(20)
        raise ArtifactError("given up")

    monkeypatch.setattr("aegis.engine.compile.code.Artifact.prepare", prepare)

    def work() -> None:
        with pytest.raises(ArtifactError):
            run.work()

    thread = threading.Thread(target=work)
    thread.start()
    compiling.wait(20)
    code = run.stopped(Stopped(DeadlineExceeded("late", limit="timeout", allowed=1.0), 124, stuck=False))
    go.set()
    thread.join()
    said = capsys.readouterr().err
    assert code == 124
    assert "deadline exceeded (1 s/1 s in one run) during compilation, before the guest started: raise it with" in said
    assert "timeout or --timeout" in said
