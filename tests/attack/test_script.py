"""``scripts/fuzz`` rejects invalid options before it prepares its environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fuzz"


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["--bogus"], "unknown option --bogus"),
        (["--time"], "--time needs a value"),
        (["--time", "soon"], "--time takes a whole number with s, m or h, not soon"),
        (["--time", "1.5h"], "--time takes a whole number"),
    ],
)
def test_invalid_options_are_one_line(words: list[str], reported: str) -> None:
    ended = subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert reported in ended.stderr
    assert ended.stderr.count("\n") == 1
