"""Determines which layers this system supports, by confining a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from aegis.isolation.confine.model import Layer

__all__ = ["probe"]

_TIMEOUT_SECONDS = 30
_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))  # the folder of the package

_START = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = ["--probe"]
runpy.run_module("aegis.isolation.confine", run_name="__main__")
"""


def probe(names: Sequence[str]) -> list[Layer]:
    """Run ``aegis.isolation.confine --probe`` in a child process and return the layers that it prints.

    If that fails, report every layer of ``names`` as untested.
    """
    # Not -m: Python would then import from the current directory first, which others may control.
    command = [sys.executable, "-I", "-c", _START, _ROOT]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True
        )
        return [Layer(**json.loads(line)) for line in done.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [Layer(name, False, f"the probe process failed: {type(error).__name__}") for name in names]
