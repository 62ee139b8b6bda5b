"""Benches with a defect planted in what stands for Aegis; a campaign's processes find them by their names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from aegis.engine import artifact
from aegis.fuzz.attack.blame import fault_of
from aegis.fuzz.attack.inputs import Input
from aegis.fuzz.attack.trial import Bench, Bounds, Verdict
from aegis.fuzz.attack.watch import Watch
from aegis.fuzz.buffers import read_buffer


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
            read_buffer("no buffer")


class Exits(Healthy):
    """A process that ends at the byte 0x6f."""

    def take(self, data: bytes) -> None:
        if b"\x6f" in data[8:]:
            os._exit(3)


class Killed(Healthy):
    """A process that is killed at the byte 0x6f."""

    def take(self, data: bytes) -> None:
        if b"\x6f" in data[8:]:
            os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Healthy):
    """A process that waits for ever at the byte 0x6f."""

    def take(self, data: bytes) -> None:
        if b"\x6f" in data[8:]:
            while True:
                time.sleep(60)


class Leaks(Healthy):
    """A process that keeps a descriptor open for each input."""

    def take(self, data: bytes) -> None:
        os.dup(0)
