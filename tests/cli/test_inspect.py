"""``inspect``, ``validate`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis.engine.compile.artifact import text_to_binary
from aegis.isolation.confine import LAYERS
from tests.cli.command import aegis, guest


def binary(path: Path) -> bytes:
    """Return a text guest as a binary."""
    return text_to_binary(path.read_bytes())


def test_inspect_shows_types_and_needs() -> None:
    text = aegis("inspect", "--all", guest("wordcount")).out
    assert "wasi_snapshot_preview1.path_open func (i32, i32, i32, i32, i32, i64, i64, i32, i32) -> (i32)" in text
    assert "memory memory 3" in text
    assert "--allow-read" in text
    assert "code" in text
    assert aegis("inspect", "--exports", guest("add")).out.startswith("exports:")


def test_inspect_as_json_reads_standard_input() -> None:
    data = binary(guest("add"))
    document = aegis("-f", "json-compact", "inspect", "-", stdin=data).document
    assert document["size"] == len(data)
    assert {"name": "add", "kind": "func", "type": "(i32, i32) -> (i32)"} in document["exports"]
    assert document["needs"] == []


def test_validate_reports_each_module_and_exits_with_the_worst_code() -> None:
    ended = aegis("validate", guest("hello"), "no-such.wasm", guest("hostile/proposals/gc"))
    assert ended.code == 127
    assert "hello.wat: valid" in ended.out
    assert ended.err.count("error: ") == 2
    document = aegis("-f", "json", "validate", guest("hello"), "no-such.wasm").document
    assert [m["valid"] for m in document["modules"]] == [True, False]


def test_strict_refuses_modules_that_could_not_run() -> None:
    assert aegis("validate", guest("greet")).code == 0
    strict = aegis("validate", "--strict", guest("greet"))
    assert strict.code == 126
    assert "env.log" in strict.err
    assert aegis("validate", "--strict", "--trap-missing", guest("greet")).code == 0
    assert aegis("validate", "--strict", guest("hello")).code == 0
    assert aegis("validate", "--strict", guest("hostile/memory-initial")).code == 137


def test_strict_refuses_imports_that_cannot_trap(tmp_path: Path) -> None:
    path = tmp_path / "a.wat"
    path.write_text('(module (import "env" "f" (func)) (import "env" "m" (memory 1)))')
    for command in (("validate", "--strict"), ("run", "-e", "f")):
        ended = aegis(*command, "--trap-missing", path)
        assert ended.code == (127 if command[0] == "run" else 126)
    assert "env.m" in aegis("validate", "--strict", "--trap-missing", path).err
    assert "env.f" not in aegis("validate", "--strict", "--trap-missing", path).err


def test_doctor_says_why_nothing_is_cached_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared" / "cache"))
    aegis("run", guest("hello"))
    lines = aegis("doctor").out.splitlines()
    (number,) = (n for n, line in enumerate(lines) if " cache " in line)
    line = lines[number]
    assert line.startswith("warning")
    assert f"{tmp_path / 'shared'} is writable by other users" in line
    assert "to do: " in lines[number + 1]
    assert "XDG_CACHE_HOME" in lines[number + 1]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert f"{tmp_path / 'mine' / 'aegis' / 'code'} has 0 files" in aegis("doctor").out
    aegis("run", guest("hello"))
    assert f"{tmp_path / 'mine' / 'aegis' / 'code'} has 1 file" in aegis("doctor").out


def test_doctor_finds_this_system_fit() -> None:
    ended = aegis("doctor")
    assert ended.code == 0
    assert "wasmtime 50" in ended.out
    assert all(layer in ended.out for layer in LAYERS)
    names = [check["name"] for check in aegis("-f", "json", "doctor").document["checks"]]
    names = [name for name in names if not name.startswith("GHSA-")]
    before = ["python", "engine", "advisories", "cache", "files", "memory", "isolation", *LAYERS]
    assert names == [*before, *["proposals"] * 4]
    assert aegis("--version").out.startswith("aegis ")
    assert "run" in aegis("--help").out
