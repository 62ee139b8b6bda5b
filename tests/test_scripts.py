"""scripts/aegis prepares its own environment: once, for any caller and directory, and again after it broke.

The checkout here is a small one, with the project's scripts and a package that builds itself, so nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("aegis", "bootstrap", "bootstrap.py", "test")
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "aegis-wasm"
version = "0"
"""
CLI = """\
import os, sys
def main():
    print(*sys.argv, os.getcwd(), sep="|")
    return 7
"""
# A minimal PEP 660 backend: a wheel with a .pth file, like that of the real backend.
BACKEND = """\
import os, zipfile
HERE = os.path.dirname(os.path.abspath(__file__))
INFO = "aegis_wasm-0.dist-info"
def build_editable(folder, settings=None, metadata=None):
    with open(os.path.join(HERE, "builds"), "a") as log:
        log.write("built\\n")
    name = "aegis_wasm-0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("_aegis_wasm.pth", HERE)
        wheel.writestr(INFO + "/METADATA", "Metadata-Version: 2.1\\nName: aegis-wasm\\nVersion: 0\\n")
        wheel.writestr(INFO + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(INFO + "/RECORD", "")
    return name
"""
PYTEST = """\
import pathlib, sys
name = "others" if any(word.startswith("--ignore=") for word in sys.argv) else "measured"
line = pathlib.Path(__file__).with_name(name).read_text()
print("...")
print(line)
raise SystemExit(int("failed" in line or "Killed" in line))
"""
ENV = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
ENV |= {"AEGIS_PYTHON": sys.executable, "PIP_NO_INDEX": "1"}


def checkout(folder: Path) -> Path:
    """Write the small checkout at ``folder``."""
    (folder / "scripts").mkdir(parents=True)
    for name in SCRIPTS:
        shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
    (folder / "aegis" / "cli").mkdir(parents=True)
    (folder / "aegis" / "__init__.py").touch()
    (folder / "aegis" / "cli" / "__init__.py").write_text(CLI)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """A checkout whose path contains characters that shells interpret, and two first runs that began at once."""
    folder = checkout(tmp_path_factory.mktemp("made") / "a folder; with 'quotes'")
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: done.append(aegis(folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return folder, done


@pytest.fixture(scope="module")
def made(prepared: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> Path:
    """A checkout whose first run is done."""
    return prepared[0]


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of the prepared checkout, elsewhere, for a test to break."""
    return Path(shutil.copytree(made, tmp_path / "copy", symlinks=True))


def aegis(
    folder: Path, *args: str, script: str | Path = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run scripts/aegis of the checkout ``folder``, or the link ``script``."""
    command = [str(script or folder / "scripts" / "aegis"), *args]
    return subprocess.run(command, cwd=cwd or folder, env=ENV, capture_output=True, text=True, timeout=300, check=False)


def builds(folder: Path) -> int:
    """Return how often the package was installed."""
    return len((folder / "builds").read_text().splitlines())


def test_two_first_runs_at_once_take_turns(prepared: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    _, done = prepared
    assert [(d.returncode, d.stdout.count("\n")) for d in done] == [(7, 1), (7, 1)], [d.stderr for d in done]
    assert sum("preparing .venv" in d.stderr for d in done) == 1


def test_a_second_run_installs_nothing_and_is_silent(made: Path) -> None:
    before = builds(made)
    done = aegis(made, "run", "", "a b", "*")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"aegis|run||a b|*|{made}\n", "")
    assert builds(made) == before


def test_it_may_be_called_from_anywhere_and_by_any_name(made: Path, tmp_path: Path) -> None:
    direct = tmp_path / "direct"
    direct.symlink_to(made / "scripts" / "aegis")
    (tmp_path / "far").mkdir()
    indirect = tmp_path / "far" / "link"
    indirect.symlink_to("../direct")
    for script in (direct, indirect, Path("direct"), "./direct"):
        name = script if os.sep in str(script) else f"./{script}"
        done = aegis(made, script=name, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (7, f"aegis|{tmp_path}\n", "")
    inside = subprocess.run(
        ["sh", "aegis"], cwd=made / "scripts", env=ENV, capture_output=True, text=True, timeout=300, check=False
    )
    assert (inside.returncode, inside.stderr) == (7, "")


def test_nothing_is_imported_from_where_it_is_called(made: Path, tmp_path: Path) -> None:
    for name in ("aegis.py", "sys.py", "os.py", "sitecustomize.py", "encodings.py"):
        (tmp_path / name).write_text("raise SystemExit('planted')")
    planted = {**ENV, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "os.py")}
    done = subprocess.run(
        [made / "scripts" / "aegis"],
        cwd=tmp_path,
        env=planted,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")


def test_a_checkout_that_moved_uses_its_own_files(made: Path, copy: Path) -> None:
    (copy / "aegis" / "cli" / "__init__.py").write_text(CLI.replace('"|"', '"+"'))
    before = builds(copy)
    done = aegis(copy)
    assert (done.stdout, done.stderr) == (f"aegis+{copy}\n", "")
    assert builds(copy) == before


def test_a_changed_project_file_installs_again(copy: Path) -> None:
    (copy / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    before = builds(copy)
    assert "installing" in aegis(copy).stderr
    assert aegis(copy).stderr == ""
    assert builds(copy) == before + 1


@pytest.mark.long
def test_an_interrupted_run_is_begun_again(copy: Path) -> None:
    venv = copy / ".venv"
    for stamp in venv.glob("aegis-stamp*"):
        stamp.unlink()
    (venv / "aegis-unfinished").touch()
    shutil.rmtree(next(venv.glob("lib/python*/site-packages/pip")))
    done = aegis(copy)
    assert (done.returncode, "preparing .venv" in done.stderr) == (7, True), done.stderr
    assert aegis(copy).stderr == ""


@pytest.mark.long
def test_remains_of_an_interrupted_deletion_are_removed(copy: Path) -> None:
    (copy / ".venv").rename(copy / ".venv.old")
    (copy / ".venv.new").mkdir()
    assert aegis(copy).returncode == 7
    assert sorted(p.name for p in copy.glob(".venv*")) == [".venv", ".venv.lock"]


@pytest.mark.long
def test_an_interpreter_that_went_away_is_replaced(copy: Path) -> None:
    for link in (copy / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nonexistent/python")
    done = aegis(copy)
    assert (done.returncode, "preparing .venv" in done.stderr) == (7, True), done.stderr


def test_a_foreign_environment_is_not_deleted(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "foreign")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "precious").touch()
    done = aegis(folder)
    assert (done.returncode, done.stdout) == (125, "")
    assert "move it away" in done.stderr
    assert (folder / ".venv" / "precious").exists()


def test_an_installation_that_fails_says_so_and_can_be_repeated(copy: Path) -> None:
    folder = copy
    (folder / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    (folder / "backend.py").write_text("raise RuntimeError('no backend today')")
    done = aegis(folder)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.rstrip().endswith("its message is above")
    (folder / "backend.py").write_text(BACKEND)
    assert aegis(folder).returncode == 7


def test_a_machine_without_python_gets_a_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "bare")
    (tmp_path / "bin").mkdir()
    for tool in ("cksum", "sh", "readlink"):
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    done = subprocess.run(
        [folder / "scripts" / "aegis"],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert "needs Python 3.11 or later" in done.stderr
    assert done.stderr.count("\n") == 1


def script(path: Path, line: str) -> None:
    """Write an executable shell script of one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.mark.usual(every=2)
@pytest.mark.parametrize(
    ("failing", "pyenv", "code"),
    [pytest.param(False, False, 0, marks=pytest.mark.long), (True, False, 1), (False, True, 0)],
)
def test_the_tests_run_on_each_python_that_is_found(
    made: Path, tmp_path: Path, failing: bool, pyenv: bool, code: int
) -> None:
    """The closing line, which CI reads, has the sum, and names the failed steps."""
    folder, found = checkout(tmp_path / "checkout"), tmp_path / "found"
    closing = "1 failed, 4 passed in 0.1s" if failing else "4 passed, 1 skipped in 0.1s"
    (folder / "pytest.py").write_text(f"print('...'); print({closing!r}); raise SystemExit({int(failing)})\n")
    found.mkdir()
    here = f"3.{sys.version_info.minor}"
    if failing or pyenv:  # the environment exists already
        shutil.copytree(made / ".venv", folder / f".venv-{here}", symlinks=True)
    for version in ("3.11", "3.12", "3.13", "3.14"):
        runs = f'exec "{sys.executable}" "$@"' if version == here and not pyenv else "exit 127"
        script(found / f"python{version}", runs)
    script(found / "uv", "exit 2")
    if pyenv:
        script(tmp_path / f"pyenv/versions/{here}.7/bin/python{here}", f'exec "{sys.executable}" "$@"')
    done = subprocess.run(
        [folder / "scripts" / "test", "--pythons", "-k", "nothing"], cwd=tmp_path, capture_output=True, text=True,
        env={**ENV, "PATH": f"{found}:{os.environ['PATH']}", "PYENV_ROOT": str(tmp_path / "pyenv")},
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    failure = f", FAILED: Python {here}" if failing else ""
    assert done.stdout.splitlines()[-1] == f"4 passed on Python {here}{failure}"
    assert (folder / f".venv-{here}" / "bin" / "python").exists()
    assert not (folder / ".venv").exists()
    assert done.stderr.count("is not installed: skipped") == 3


@pytest.fixture(scope="module")
def checked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which scripts/test finds all its tools; pytest prints the line of one of two files."""
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("checked") / "checkout", symlinks=True))
    (folder / "pytest.py").write_text(PYTEST)
    (folder / "coverage.py").write_text(
        "import runpy, sys\nif sys.argv[1] == 'run':\n    sys.argv[:4] = ['pytest']\n"
        "    runpy.run_module('pytest', run_name='__main__')\n"
    )
    for tool in ("ruff", "mypy"):
        (folder / f"{tool}.py").touch()
    for script in ("guests", "regen"):
        (folder / "scripts" / script).touch()
    return folder


@pytest.mark.parametrize(
    ("first", "second", "code", "closing"),
    [
        ("11 passed, 2 skipped in 0.1s", "4 passed in 0.1s", 0, "15 passed, 0 failed, 2 skipped"),
        ("11 passed in 0.1s", "1 failed, 4 passed, 1 xfailed in 0.1s", 1, "15 passed, 1 failed, 1 xfailed"),
        ("2 failed, 9 passed, 1 error in 0.1s", "\x1b[32m4 passed\x1b[0m in 0.1s", 1, "13 passed, 3 failed"),
        ("11 passed in 0.1s", "Killed", 1, "11 passed, 1 failed"),
        ("=== 11 passed, 3 warnings in 61.20s (0:01:01) ===", "=== 4 passed in 0.1s ===", 0, "15 passed, 0 failed"),
    ],
)
def test_the_last_line_of_the_tests_is_the_sum_of_their_steps(
    tmp_path: Path, checked: Path, first: str, second: str, code: int, closing: str
) -> None:
    folder = checked
    (folder / "measured").write_text(first)
    (folder / "others").write_text(second)
    done = subprocess.run(
        [folder / "scripts" / "test"], cwd=tmp_path, capture_output=True, text=True, env=ENV, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, closing), done.stderr
    assert ("FAILED" in done.stderr) == bool(code)
    steps = re.findall(r"^test: ([^:]+): \d+ s \(\d+ s of processor time\)$", done.stderr, re.MULTILINE)
    assert (steps[0], steps[-1], len(steps)) == ("preparation", "pytest", 9)
