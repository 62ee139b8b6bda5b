"""The locations of guests: ``source("hostile/spin")`` for WAT, ``built("sha256")`` for those that must be built."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

__all__ = ["GUESTS", "ROOT", "SCRIPT", "built", "hostile", "source"]

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "guests"
SCRIPT = ROOT / "scripts" / "guests"
COMPILER_MISSING = 3


def source(name: str) -> Path:
    """Return the WAT file of a guest: ``wordcount``, ``hostile/spin``, ``hostile/proposals/gc``.

    A name is a directory with a file of the same name, or a file without its ``.wat``.
    """
    folder = GUESTS / name
    path = folder / f"{folder.name}.wat" if folder.is_dir() else folder.with_suffix(".wat")
    assert path.is_file(), f"there is no guest {name}"
    return path


@cache
def built(name: str) -> Path:
    """Return a guest of guests.toml, built if necessary; skip the test if the compiler is missing."""
    done = subprocess.run([sys.executable, str(SCRIPT), name], capture_output=True, text=True, timeout=600)
    if done.returncode == COMPILER_MISSING:
        pytest.skip(done.stdout.strip() or "its toolchain is not installed")
    assert done.returncode == 0, done.stderr
    return GUESTS / "build" / f"{name}.wasm"


def hostile() -> list[Path]:
    """Return every attack in WAT that is a module, except those of rejected proposals."""
    paths = (path for path in (GUESTS / "hostile").glob("*/*.wat") if path.parent.name != "proposals")
    return sorted(path for path in paths if not path.name.startswith("component-"))
