"""Create an environment in the checkout, .venv or another, with the package and some of its extras.

python -I scripts/bootstrap.py ROOT EXTRAS CHECKSUM [NAME]

scripts/bootstrap calls it if there is no stamp for CHECKSUM, with any supported Python. It uses the standard library
only. Concurrent runs take turns, by a lock that the kernel releases when its holder exits. An interrupted run is
restarted from scratch, and the result can be moved together with the checkout. Progress goes to stderr.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

STAMP = "aegis-stamp"
MARK = "aegis-made-this"
UNFINISHED = "aegis-unfinished"


class Failed(Exception):
    """An error, with its remedy in one line."""


def main(root: Path, extras: str, checksum: str, name: str = ".venv") -> None:
    """Create the environment ``name`` at ``root`` with ``extras``, and its stamp."""
    venv = root / name
    stamp = venv / (f"{STAMP}-{extras}" if extras else STAMP)
    with locked(root / f"{name}.lock"):
        if usable(venv) and stamped(stamp, checksum):
            return  # the previous holder of the lock has created it
        if not usable(venv):
            create(venv)
        install(root, venv, extras)
        for made in {stamp, venv / STAMP}:
            made.write_text(f"{checksum}\n{ask(venv, 'sys.version')}\n")
        (venv / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock; print a line if another run holds it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that prepares {path.name.removesuffix('.lock')}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def usable(venv: Path) -> bool:
    """Return whether the environment is complete, and its interpreter still the one for which it was created."""
    if not (venv / "bin" / "python").exists() or (venv / UNFINISHED).exists():
        return False
    return os.path.isdir(ask(venv, "sysconfig.get_path('purelib')"))


def stamped(stamp: Path, checksum: str) -> bool:
    """Return whether ``stamp`` has this checksum."""
    return stamp.is_file() and stamp.read_text().split("\n")[0] == checksum


def ask(venv: Path, expression: str) -> str:
    """Return the output of the environment's interpreter, or nothing if it does not run or is too old."""
    program = f"import sys, sysconfig; print({expression}); sys.exit(sys.version_info < (3, 11))"
    ran = subprocess.run([venv / "bin" / "python", "-I", "-c", program], capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def create(venv: Path) -> None:
    """Create an empty environment, replacing a broken or unfinished one that this script created."""
    if venv.is_symlink() or (venv.exists() and not (venv / MARK).exists()):
        raise Failed(f"{venv} is not usable, and these scripts did not make it: move it away and try again")
    say(f"preparing {venv.name} with Python {sys.version.split()[0]}; this is done once")
    # Each step is one rename, so that a kill at any moment leaves a state that the next run recognises.
    old, new = venv.with_name(f"{venv.name}.old"), venv.with_name(f"{venv.name}.new")
    for leftover in (old, new):
        shutil.rmtree(leftover, ignore_errors=True)
    if venv.exists():
        venv.rename(old)
        shutil.rmtree(old)
    new.mkdir()
    (new / MARK).touch()
    (new / UNFINISHED).touch()
    new.rename(venv)
    # By its full name: an interpreter replaced by another minor version is then missing instead of mistaken.
    python = os.path.realpath(sys.executable)
    made = subprocess.run([python, "-I", "-m", "venv", venv], stdout=sys.stderr, check=False)
    if made.returncode:
        raise Failed("Python's venv module failed; some systems have it in a package of its own (python3-venv)")


def install(root: Path, venv: Path, extras: str) -> None:
    """Install the package, in place, with ``extras``."""
    say(f"installing aegis{f' with {extras}' if extras else ''}")
    if (venv / MARK).exists():
        (venv / UNFINISHED).touch()
    python = str(venv / "bin" / "python")
    pip = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    # These settings would make pip work on another environment.
    env = {name: value for name, value in os.environ.items() if name not in ("PIP_PREFIX", "PIP_TARGET", "PIP_USER")}
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        subprocess.run([python, "-I", "-m", "ensurepip"], stdout=sys.stderr, check=False)
    command = [*pip, "install", "--quiet", "--editable", f"{root}[{extras}]" if extras else str(root)]
    if subprocess.run(command, stdout=sys.stderr, env=env, check=False).returncode:
        raise Failed("pip could not install what aegis needs; its message is above")
    relocate(root, venv)


def relocate(root: Path, venv: Path) -> None:
    """Let the environment find the package relative to itself, so that the checkout can be moved."""
    for entry in venv.glob("lib/python*/site-packages/*aegis_wasm*.pth"):
        entry.write_text(os.path.relpath(root.resolve(), entry.parent.resolve()) + "\n")


def say(text: str) -> None:
    """Print progress."""
    print(f"aegis: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
    except (Failed, OSError) as problem:
        say(re.sub(r"^\[Errno \d+\] ", "", str(problem)))
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; the next run begins again")
        sys.exit(130)
