"""Hostile Python in a real worker, after it was confined: as if the guest had taken the process over.

The fork server imports this module, so every worker made after that has one more request: to run an attack of
:mod:`tests.isolation.attacks`. Everything else about the worker is the real thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aegis import Aegis, PolicyError, Sandbox
from aegis.isolation import worker
from aegis.isolation.pool import zygote
from tests.isolation.attacks import outcome

__all__ = ["Captive", "captive"]

_session_init = worker.Session.__init__


def _init(self: worker.Session, *arguments: Any) -> None:
    _session_init(self, *arguments)

    def attack(name: str, order: dict[str, Any]) -> dict[str, Any]:
        return outcome({"attack": name, "descriptors": self.descriptors, "session": self, **order})

    self.operations["attack"] = attack


worker.Session.__init__ = _init  # type: ignore[method-assign]


class Captive:
    """A sandbox whose worker makes attacks when asked."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def __call__(self, name: str, /, **order: Any) -> Any:
        """Return what came of an attack: its value, or an error number or name."""
        found = self.sandbox._store.request("attack", name, order)  # type: ignore[union-attr]
        return found["value"] if "value" in found else OSError(found.get("errno"), str(found))


GUEST = """(module
  (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32))) (memory (export "memory") 1))"""


@contextmanager
def captive(text: str = GUEST, imports: Any = None, subscribers: Any = (), **policy: Any) -> Iterator[Captive]:
    """Yield a captive worker that runs the guest ``text`` under ``policy``, confined by every layer."""
    strict = {"strict": True, "workers": 0, **policy.pop("isolation", {})}
    options = {"cache": False, "pooled": False, "timeout": "20s", **policy}
    with Aegis(isolation=strict, **options) as runtime:
        zygote(runtime._isolated.pool._stack).load(["tests.isolation.takeover"])  # type: ignore[union-attr]
        with _strict_or_skipped(runtime, text, imports, subscribers) as sandbox:
            yield Captive(sandbox)


def _strict_or_skipped(runtime: Aegis, text: str, imports: Any, subscribers: Any) -> Sandbox:
    """Return a sandbox that every layer confines; skip the test where this system lacks one."""
    import pytest  # not in the fork server, whose memory every worker shares

    try:
        return runtime.sandbox(runtime.load_wat(text), imports=imports, subscribers=subscribers)
    except PolicyError as error:
        if "isolation: strict" in str(error):
            pytest.skip(str(error))
        raise
