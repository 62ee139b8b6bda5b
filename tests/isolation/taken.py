"""An application whose workers are taken over: ``python -m tests.isolation.taken`` stands for ``aegis``."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.guests.catalogue import ROOT

__all__ = ["COMMAND", "GUEST", "application", "take_over"]

COMMAND = [sys.executable, "-m", "tests.isolation.taken"]
ATTACKS = ("descriptors", "flood", "ask_for_input", "hang", "die", "honest")
GUEST = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "guest\\0a")
  (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
""" + "".join(f'  (func (export "{name}") (call $say))\n' for name in ATTACKS) + ")"  # fmt: skip
"""A guest with an export for each attack. Each says a word when the attack is over."""


def take_over(module: str = "tests.isolation.taken_streams") -> None:
    """Have the fork servers of this process import ``module``."""
    from aegis.isolation.pool import Zygote

    launch = Zygote._launch

    def launched(self: Zygote, stack: int) -> None:
        launch(self, stack)
        self.load([module])

    Zygote._launch = launched  # type: ignore[method-assign]


def application(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in an application whose workers are taken over."""
    whole = f"from tests.isolation.taken import *\ntake_over()\nfrom aegis import *\n{code}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, timeout=60, env=environment, cwd=ROOT,
        check=False, **options,
    )  # fmt: skip


if __name__ == "__main__":
    take_over()
    from aegis.cli import main

    sys.argv[0] = "aegis"
    main()
