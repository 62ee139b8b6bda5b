"""Run the command line as a user does: in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.cli import preloaded

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "guests"
COMMAND = [sys.executable, "-P", "-c", "from aegis.cli import main; main()"]
SECONDS = 60


class Ended(NamedTuple):
    """The result of a command: exit code and output."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout; fail unless there is exactly one."""
        return json.loads(self.out)


def aegis(*words: object, stdin: bytes = b"", cwd: Path | None = None) -> Ended:
    """Run ``aegis`` with ``words`` and wait for it to exit."""
    line = [*map(str, words)]
    if preloaded.suitable(line):
        code, out, complaints = preloaded.run(line, stdin=stdin, cwd=cwd or ROOT, seconds=SECONDS)
    else:
        done = subprocess.run(
            [*COMMAND, *line], input=stdin, capture_output=True, timeout=SECONDS, cwd=cwd or ROOT, check=False
        )
        code, out, complaints = done.returncode, done.stdout, done.stderr
    err = complaints.decode()
    assert "Traceback" not in err
    return Ended(code, out.decode(errors="replace"), err)


def guest(name: str) -> Path:
    """Return the WAT file of a guest."""
    return GUESTS / name / f"{Path(name).name}.wat"
