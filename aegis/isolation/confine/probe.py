"""Finding out what this system can apply, without harm to the process that asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from aegis.isolation.confine.model import Layer

__all__ = ["probe"]

_SECONDS = 30
_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))  # where the package is

_START = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = ["--probe"]
runpy.run_module("aegis.isolation.confine", run_name="__main__")
"""


def probe(names: Sequence[str]) -> list[Layer]:
    """Start ``aegis.isolation.confine --probe`` in a process of its own and return what it prints.

    Where that fails, every layer of ``names`` is reported as one that could not be tried.
    """
    # With -m, Python would import from the current directory first, and a stranger may have filled that.
    command = [sys.executable, "-I", "-c", _START, _ROOT]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True)
        return [Layer(**json.loads(line)) for line in done.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [Layer(name, False, f"it could not be tried: {type(error).__name__}") for name in names]
