"""Benches with a defect planted in what stands for Aegis; a campaign's processes find them by their names."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from aegis.attack.inputs import Input
from aegis.attack.triage import fault_of
from aegis.attack.trial import Bench, Bounds, Verdict
from aegis.attack.watch import Watch
from aegis.engine.compile import artifact
from aegis.wasm.digest import sha256_hex


class Forgetful(Bench):
    """Aegis itself, with a reader of modules that does not know the byte 0x6f."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        read = artifact.read_module

        def forgets(data: bytes) -> artifact.ModuleInfo:
            if b"\x6f" in data[8:]:
                raise KeyError(0x6F)
            return read(data)

        artifact.read_module = forgets


class Healthy:
    """Takes any bytes, in no time."""

    def __init__(self, bounds: Bounds) -> None:
        self.watch = Watch()
        self.told: Callable[[str], None] = lambda phase: None

    def close(self) -> None:
        """There is nothing to close."""

    def run(self, one: Input) -> Verdict:
        self.told("load")
        verdict = Verdict([("load", "refused" if len(one.data) % 2 else "returned", "")])
        try:
            self.take(one.data)
        except Exception as error:
            verdict.faults.append(fault_of("load", error))
        return verdict

    def take(self, data: bytes) -> None:
        """The defect goes here."""


class Raises(Healthy):
    """A reader that does not expect the byte 0x6f."""

    def take(self, data: bytes) -> None:
        if b"\x6f" in data[8:]:
            sha256_hex(0x6F)  # type: ignore[arg-type]


class Exits(Healthy):
    """A process that ends at one input in twenty."""

    def run(self, one: Input) -> Verdict:
        self.told("load")
        if one.number % 20 == 7:
            self.end()
        return super().run(one)

    def end(self) -> None:
        os._exit(3)


class Killed(Exits):
    """A process that is killed."""

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Exits):
    """A process that waits for ever."""

    def end(self) -> None:
        threading.Event().wait()


class Leaks(Healthy):
    """A process that keeps a descriptor open for each input."""

    def take(self, data: bytes) -> None:
        os.dup(0)
