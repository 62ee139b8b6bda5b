"""Hostile Python in a real worker after its confinement: as if the guest had taken over the process.

The fork server imports this module, so its workers can run the attacks of :mod:`tests.isolation.attacks`; in all other
respects they are real workers. An attack runs when

* the parent orders it (:func:`captive`): for tests that have the sandbox in their own process;

* the guest's export with the name of an attack is called, before it runs (:func:`application`, :data:`COMMAND`): for
tests of applications and of the command. The result goes to the guest's stderr as a line of JSON.

``python -m tests.isolation.takeover`` replaces ``aegis``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aegis import Aegis, PolicyError, Sandbox
from aegis.isolation.parent.pool import ForkServerProcess, fork_server
from aegis.isolation.worker import session as worker
from tests.cli.preloaded import run_program
from tests.isolation.attacks import ATTACKS, outcome

__all__ = ["COMMAND", "EXPORTS", "GUEST", "Captive", "application", "captive", "environment", "take_over"]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.isolation.takeover"]
EXPORTS = ("descriptors", "flood", "ask_for_input", "hang", "die", "held", "honest")
GUEST = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "guest\\0a")
  (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
""" + "".join(f'  (func (export "{name}") (call $say))\n' for name in EXPORTS) + ")"  # fmt: skip
"""A guest with an export for each of these attacks, and one for none. Each writes a word after the attack."""


# -- in the worker ---------------------------------------------------------------------------------------

_session_init, _session_call = worker.Session.__init__, worker.Session.call


def _attacked(session: worker.Session, name: str, order: dict[str, Any]) -> dict[str, Any]:
    return outcome({"attack": name, "descriptors": session.descriptors, "session": session, **order})


def _init(self: worker.Session, *arguments: Any) -> None:
    """Replace ``Session.__init__``, so that the parent can order an attack."""
    _session_init(self, *arguments)
    self.operations["attack"] = lambda name, order: _attacked(self, name, order)


def _call(self: worker.Session, name: str, values: list[Any], number: int | None = None) -> Any:
    """Replace ``Session.call``, so that an export can be an attack."""
    if name in ATTACKS:
        report = _attacked(self, name, {})
        self.channel.send(["out", 2, json.dumps(report).encode() + b"\n", False])
    return _session_call(self, name, values, number)


worker.Session.__init__ = _init  # type: ignore[method-assign]
worker.Session.call = _call  # type: ignore[method-assign]


# -- a sandbox in this process ------------------------------------------------------------------------------


class Captive:
    """A sandbox whose worker attacks when it is ordered to."""

    def __init__(self, sandbox: Sandbox, runtime: Aegis, artifact: Any) -> None:
        self.sandbox, self.runtime, self.artifact = sandbox, runtime, artifact

    def __call__(self, name: str, /, **order: Any) -> Any:
        """Return the result of an attack: a value, or the number or name of an error."""
        found = self.sandbox._run.store.request("attack", name, order)  # type: ignore[union-attr]
        return found["value"] if "value" in found else OSError(found.get("errno"), str(found))


_PLAIN = """(module
  (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32))) (memory (export "memory") 1))"""


@contextmanager
def captive(text: str = _PLAIN, imports: Any = None, subscribers: Any = (), **policy: Any) -> Iterator[Captive]:
    """Yield a captive worker that runs the guest ``text`` under ``policy``, confined by every layer."""
    strict = {"strict": True, "workers": 0, **policy.pop("isolation", {})}
    options = {"cache": False, "pooled": False, "timeout": "20s", **policy}
    with Aegis(isolation=strict, **options) as runtime:
        fork_server(runtime._isolated.pool._stack).load(["tests.isolation.takeover"])  # type: ignore[union-attr]
        artifact = runtime.load_wat(text)
        with _strict_or_skipped(runtime, artifact, imports, subscribers) as sandbox:
            yield Captive(sandbox, runtime, artifact)


def _strict_or_skipped(runtime: Aegis, artifact: Any, imports: Any, subscribers: Any) -> Sandbox:
    """Return a sandbox confined by every layer; skip the test if this system lacks one."""
    import pytest  # not in the fork server, whose memory every worker shares

    try:
        return runtime.sandbox(artifact, imports=imports, subscribers=subscribers)
    except PolicyError as error:
        if "isolation: strict" in str(error):
            pytest.skip(str(error))
        raise


# -- applications and commands --------------------------------------------------------------------------------


def take_over(module: str = "tests.isolation.takeover") -> None:
    """Make the fork servers of this process import ``module``."""
    launch = ForkServerProcess._launch

    def launched(self: ForkServerProcess, stack: int) -> None:
        launch(self, stack)
        self.load([module])

    ForkServerProcess._launch = launched  # type: ignore[method-assign]


def environment() -> dict[str, str]:
    """Return the environment of a process that can import these tests with this interpreter."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def application(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in an application whose workers are compromised."""
    whole = f"from tests.isolation.takeover import *\ntake_over()\nfrom aegis import *\n{code}"
    if not options:
        return run_program(whole, imported=("tests.isolation.takeover", "aegis.runtime"), cwd=ROOT, seconds=60)
    return subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, timeout=60, env=environment(), cwd=ROOT,
        check=False, **options,
    )  # fmt: skip


if __name__ == "__main__":
    take_over()
    from aegis.cli import main as command

    sys.argv[0] = "aegis"
    command()
