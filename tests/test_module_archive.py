"""The archive of compiled modules: what is in it is what Python would have compiled, or it is not used."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aegis.support import module_archive
from aegis.support.module_archive import ModuleArchive, code_of, source_path
from tests.cli.command import ROOT, guest

MODULE = "aegis.planted"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the source of a module ``aegis.planted`` of an installation in a temporary directory, compiled."""
    monkeypatch.setattr(module_archive, "_ROOT", f"{tmp_path}/")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "aegis" / "planted.py"
    path.parent.mkdir()
    path.write_text("ANSWER = 42\n")
    py_compile.compile(str(path), doraise=True)
    return path


def saved(path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> ModuleArchive:
    """Return the archive as a process reads it after one that imported ``aegis.planted`` saved it."""
    first = ModuleArchive(str(path))
    imported = type(sys)(MODULE)
    imported.__spec__ = module_archive.ModuleSpec(MODULE, None, origin=source_path(MODULE))
    monkeypatch.setitem(sys.modules, MODULE, imported)
    first.save(names)
    monkeypatch.delitem(sys.modules, MODULE)
    return ModuleArchive(str(path))


def test_a_module_is_executed_from_the_archive_and_looks_as_always(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = saved(tmp_path / "archive", monkeypatch)
    spec = archive.find_spec(MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = type(sys)(MODULE)
    module.__spec__ = spec
    spec.loader.exec_module(module)
    assert module.ANSWER == 42
    assert (spec.origin, spec.has_location) == (str(source), True)
    assert spec.cached is not None
    assert Path(spec.cached).is_file()
    assert spec.loader.get_source(MODULE) == "ANSWER = 42\n"  # type: ignore[attr-defined]


def test_a_changed_source_is_compiled_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = saved(tmp_path / "archive", monkeypatch)
    assert archive.code(MODULE)
    before = source.stat()
    source.write_text("ANSWER = 43\n")
    os.utime(source, (before.st_atime, before.st_mtime + 2))
    assert archive.code(MODULE) is None
    source.write_text("ANSWER = 123456\n")
    os.utime(source, (before.st_atime, before.st_mtime))
    assert archive.code(MODULE) is None
    source.unlink()
    assert archive.find_spec(MODULE) is None


def test_a_stale_pyc_is_not_archived(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(source, (1, 1))
    assert saved(tmp_path / "archive", monkeypatch).code(MODULE) is None
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("keep", [0, 5, 40, -40, -1])
def test_a_damaged_archive_is_as_good_as_none(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    path = tmp_path / "archive"
    saved(path, monkeypatch)
    path.write_bytes(path.read_bytes()[:keep])
    assert ModuleArchive(str(path)).code(MODULE) is None
    assert saved(path, monkeypatch).code(MODULE), "the next run mends it"


@pytest.mark.parametrize("part", ["index", "code"])
def test_damaged_bytes_are_as_good_as_none(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    path = tmp_path / "archive"
    saved(path, monkeypatch)
    size = len(ModuleArchive(str(path)).code(MODULE) or b"")
    data = path.read_bytes()
    head = len(module_archive._HEAD) + module_archive._SIZE_BYTES
    data = data[:-size] + b"\xff" * size if part == "code" else data[:head] + b"\xff" * 20 + data[head + 20 :]
    path.write_bytes(data)
    spec = ModuleArchive(str(path)).find_spec(MODULE)
    assert (spec is None) == (part == "index")
    if spec is not None and spec.loader is not None:
        module = type(sys)(MODULE)
        spec.loader.exec_module(module)
        assert module.ANSWER == 42


def test_a_directory_and_a_pipe_are_as_good_as_none(source: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe", "aegis/planted.py"):
        assert ModuleArchive(str(tmp_path / name)).code(MODULE) is None


def test_the_archive_of_another_python_is_as_good_as_none(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "archive"
    saved(path, monkeypatch)
    path.write_bytes(b"aegis modules 1\n" + bytes(4) + path.read_bytes()[20:])
    assert ModuleArchive(str(path)).code(MODULE) is None


def test_nothing_is_written_where_python_writes_no_bytecode(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    saved(tmp_path / "archive", monkeypatch)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    saved(tmp_path / "missing" / "archive", monkeypatch)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["aegis"]


def test_further_names_and_the_standard_library_are_archived(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = saved(tmp_path / "archive", monkeypatch, "textwrap", "aegis.missing", "no_such_module")
    assert archive.code("textwrap") == code_of("textwrap")
    assert archive.code("aegis.missing") is None
    archive.close()
    assert archive.code("textwrap") is None


def test_a_descriptor_below_three_is_not_kept(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "archive", monkeypatch)
    monkeypatch.setattr(module_archive, "_LAST_STANDARD", 1 << 20)
    before = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []
    assert ModuleArchive(str(tmp_path / "archive")).code(MODULE) is None
    after = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []
    assert before == after


# -- the command ------------------------------------------------------------------------------------

LOADERS = """
import os, sys
leave = os._exit
def report(code):
    print(*{type(m.__spec__.loader).__name__ for n, m in list(sys.modules.items()) if n == "aegis.runtime"})
    sys.stdout.flush()
    leave(code)
os._exit = report
from aegis.cli import main
main()
"""


def environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}


def test_the_second_run_of_the_command_imports_from_the_archive() -> None:
    seen = []
    for options in ([], [], ["-O"]):
        ended = subprocess.run(
            [sys.executable, *options, "-P", "-c", LOADERS, "run", guest("hello")], cwd=ROOT, env=environment(),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        seen.append(ended.stdout.splitlines())
    assert [lines[0] for lines in seen] == ["hello, world"] * 3
    assert [lines[1] for lines in seen[1:]] == ["_ArchivedLoader", "SourceFileLoader"]
