"""Harnesses with a planted defect; the worker processes of a campaign import them by name."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from aegis.attack.inputs import AttackInput
from aegis.attack.triage import fault_of
from aegis.attack.trial import Bounds, Harness, TrialResult
from aegis.attack.watch import ResourceWatch
from aegis.engine.compile import artifact
from aegis.wasm.digest import sha256_hex


class Forgetful(Harness):
    """The real harness, with a module reader that raises ``KeyError`` for the byte 0x6f."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        read = artifact.read_module

        def forgets(data: bytes) -> artifact.ModuleInfo:
            if b"\x6f" in data[8:]:
                raise KeyError(0x6F)
            return read(data)

        artifact.read_module = forgets


class Healthy:
    """Accepts any bytes, immediately."""

    def __init__(self, bounds: Bounds) -> None:
        self.watch = ResourceWatch()
        self.on_phase: Callable[[str], None] = lambda phase: None

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def run(self, one: AttackInput) -> TrialResult:
        self.on_phase("load")
        result = TrialResult([("load", "refused" if len(one.data) % 2 else "returned", "")])
        try:
            self.take(one.data)
        except Exception as error:
            result.faults.append(fault_of("load", error))
        return result

    def take(self, data: bytes) -> None:
        """Process the input; subclasses plant their defect here."""


class Raises(Healthy):
    """A reader that raises ``TypeError`` for the byte 0x6f."""

    def take(self, data: bytes) -> None:
        if b"\x6f" in data[8:]:
            sha256_hex(0x6F)  # type: ignore[arg-type]


class Exits(Healthy):
    """A process that exits at one input in twenty."""

    def run(self, one: AttackInput) -> TrialResult:
        self.on_phase("load")
        if one.number % 20 == 7:
            self.end()
        return super().run(one)

    def end(self) -> None:
        os._exit(3)


class Killed(Exits):
    """A process that is killed by SIGKILL."""

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Exits):
    """A process that waits forever."""

    def end(self) -> None:
        threading.Event().wait()


class Leaks(Healthy):
    """A process that leaks one descriptor per input."""

    def take(self, data: bytes) -> None:
        os.dup(0)
