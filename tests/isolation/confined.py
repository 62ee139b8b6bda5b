"""Start a process that confines itself and attacks, and return the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from aegis.isolation.confine import LAYERS, Layer

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
NEEDED = "no-new-privs"  # required by Landlock and seccomp of an unprivileged process


class Ended(NamedTuple):
    """The results of the layers and of the attack. ``code`` is negative for a signal."""

    layers: dict[str, Layer]
    value: Any
    failure: int | str | None
    code: int

    def needs(self, *names: str) -> Ended:
        """Skip the test if one of these layers is not available."""
        for name in names:
            if not self.layers[name].active:
                pytest.skip(f"{name}: {self.layers[name].detail}")
        return self


def attack(
    name: str,
    /,
    *,
    skip: Any = (),
    module: str = "tests.isolation.attacks",
    guests: Mapping[str, Path] = MappingProxyType({}),
    **order: Any,
) -> Ended:
    """Run one attack in a process that confined itself, except for the layers in ``skip``."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps({"attack": name, "skip": sorted(skip), **order}).encode(),
        capture_output=True,
        timeout=SECONDS,
        cwd=ROOT,
        check=False,
        env={
            "SECRET": "swordfish",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "GUESTS": os.pathsep.join(f"{name}={path}" for name, path in guests.items()),
        },
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines or done.returncode, done.stderr.decode()
    layers = {layer.name: layer for layer in (Layer(*each) for each in lines[0]["layers"])} if lines else {}
    answer = lines[1] if len(lines) > 1 else {}
    assert answer or done.returncode, done.stderr.decode()
    return Ended(layers, answer.get("value"), answer.get("errno", answer.get("error")), done.returncode)


def all_but(*names: str) -> set[str]:
    """Return the layers to skip so that only the given ones, and those they require, apply."""
    return set(LAYERS) - {*names, NEEDED}
