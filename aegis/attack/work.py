"""A stretch of inputs, run in whatever process: plain data in, plain data out, and a note of what is being run."""

from __future__ import annotations

import base64
import faulthandler
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from aegis.attack import tools
from aegis.attack.inputs import Input, Make
from aegis.attack.sources import SOURCES, source
from aegis.attack.triage import Fault
from aegis.attack.trial import Bounds, Verdict
from aegis.fuzz.work import prepare_process

__all__ = [
    "STOP", "Attack", "Note", "Stretch", "alone", "alone_with", "begin", "explore", "finding_of", "input_of",
    "read_note", "workshop",
]  # fmt: skip

_NOTE = 256
STOP = "stop"
"""A file of this name among the notes: no further input is begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What a campaign does, as every process of it knows it."""

    seed: int = 0
    sources: tuple[str, ...] = tuple(SOURCES)
    artifacts: tuple[tuple[str, bytes], ...] = ()
    notes: str = ""
    """A folder where processes note what they run."""
    bounds: Bounds = field(default_factory=Bounds)
    bench: str = "aegis.attack.trial:Bench"
    """What inputs are run on, made once a process: ``module:name``, called with the bounds."""


class Stretch(NamedTuple):
    """Inputs of a source: ``length`` of them, from number ``start`` on."""

    source: str
    start: int
    length: int


class Note:
    """What this process runs, in a file: whoever finds it dead, or waits for it too long, knows which input it was."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / f"{os.getpid()}.note" if os.path.isdir(folder) else None  # not on another machine
        self._file = -1 if self.path is None else os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last: tuple[str, int] = "", -1

    def write(self, source: str, number: int, phase: str = "make") -> None:
        """Note that an input is run from now on."""
        self._last = source, number
        told = json.dumps([os.getpid(), source, number, phase, time.monotonic()])
        if self._file >= 0:
            os.pwrite(self._file, told.encode().ljust(_NOTE), 0)

    def phase(self, phase: str) -> None:
        """Note how far it is."""
        self.write(*self._last, phase)

    def clear(self) -> None:
        if self._file >= 0:
            os.pwrite(self._file, b" " * _NOTE, 0)


def read_note(path: Path) -> tuple[int, str, int, str, float] | None:
    """Return process, source, number, phase and when that began; ``None`` where nothing is run."""
    try:
        pid, name, number, phase, began = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return int(pid), str(name), int(number), str(phase), float(began)


class Workshop:
    """What a process needs for an attack, made once."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        module, _, name = attack.bench.partition(":")
        self.bench = getattr(import_module(module), name)(attack.bounds)
        self.note = Note(attack.notes)
        self.bench.told = self.note.phase
        self._makes: dict[str, Make] = {}

    def make(self, name: str) -> Make:
        """Return a source."""
        if name not in self._makes:
            self._makes[name] = source(name, self.attack.seed, self.attack.artifacts)
        return self._makes[name]

    def run(self, one: Input) -> tuple[Verdict, list[Fault]]:
        """Run an input; return its verdict, and its faults with what it left behind."""
        self.note.write(one.source, one.number, "begin")
        verdict = self.bench.run(one)
        left = self.bench.watch.left_behind(lambda: self.bench.run(one))
        return verdict, [*verdict.faults, *([] if left is None else [left])]

    def shows(self, one: Input, signature: str) -> bool:
        """Tell whether an input shows a fault."""
        return any(fault.signature == signature for fault in self.run(one)[1])


_shop: Workshop | None = None


def begin(notes: str) -> None:
    """Prepare a process of a campaign: Ctrl-C is its starter's, and a crash says where it was."""
    prepare_process()
    if notes:
        tools.keep_in(notes)
        crash = open(Path(notes) / f"{os.getpid()}.crash", "w")  # noqa: SIM115 - it stays open as long as the process
        faulthandler.enable(crash, all_threads=False)


def workshop(attack: Attack) -> Workshop:
    """Return this process's workshop."""
    global _shop
    if _shop is None or _shop.attack != attack:
        if _shop is not None:
            _shop.bench.close()
        _shop = Workshop(attack)
    return _shop


def explore(attack: Attack, stretch: Stretch, known: Sequence[str], until: float) -> dict[str, Any]:
    """Run a stretch, or as much of it as there is time for, and return what came of it as plain data."""
    shop = workshop(attack)
    make, endings = shop.make(stretch.source), Counter[tuple[str, str, str]]()
    findings: dict[str, dict[str, Any]] = {}
    done, making, began = 0, 0.0, time.monotonic()
    for number in range(stretch.start, stretch.start + stretch.length):
        if time.monotonic() >= until or (attack.notes and os.path.exists(os.path.join(attack.notes, STOP))):
            break
        shop.note.write(stretch.source, number)
        start = time.monotonic()
        one = make(number)
        making += time.monotonic() - start
        verdict, faults = shop.run(one)
        done += 1
        endings.update(verdict.endings)
        for fault in faults:
            _keep(shop, one, fault, findings, known)
    shop.note.clear()
    return {
        "source": stretch.source, "start": stretch.start, "done": done, "seconds": time.monotonic() - began,
        "making": making, "endings": [[*ending, number] for ending, number in endings.items()],
        "findings": list(findings.values()),
    }  # fmt: skip


def _keep(shop: Workshop, one: Input, fault: Fault, findings: dict[str, dict[str, Any]], known: Sequence[str]) -> None:
    """Keep a fault: of several with one signature the one with the fewest bytes; a new one is tried once more.

    What is late only once was kept waiting by others.
    """
    kept = findings.get(fault.signature)
    if kept is not None:
        kept["times"] += 1
        if len(one.data) >= kept["size"]:
            return
    again = True if kept is not None or fault.signature in known else shop.shows(one, fault.signature)
    if again or fault.kind != "late":
        findings[fault.signature] = finding_of(one, fault, again=again, times=1 if kept is None else kept["times"])


def finding_of(one: Input, fault: Fault, *, again: bool, times: int = 1) -> dict[str, Any]:
    """Return a finding as plain data: the fault, and the input with what makes it again."""
    return {
        **fault.to_dict(), "source": one.source, "number": one.number, "turn": one.turn, "label": one.label,
        "size": len(one.data), "data": base64.b64encode(one.data).decode(), "again": again, "times": times,
    }  # fmt: skip


def input_of(finding: Mapping[str, Any]) -> Input:
    """Return the input of a finding."""
    return Input(
        source=str(finding["source"]), number=int(finding["turn"]), data=base64.b64decode(finding["data"]),
        label=str(finding["label"]),
    )  # fmt: skip


def alone(pipe: Any, attack: Attack, stretch: Stretch, known: Sequence[str]) -> None:
    """Run a stretch in a process of its own."""
    begin(attack.notes)
    pipe.send(explore(attack, stretch, known, float("inf")))
    workshop(attack).bench.close()


def alone_with(pipe: Any, attack: Attack, one: Input, known: Sequence[str]) -> None:
    """Run an input in a process of its own, and tell the faults that it lived to tell."""
    begin(attack.notes)
    _, faults = workshop(attack).run(one)
    pipe.send([fault.to_dict() for fault in faults])
    workshop(attack).bench.close()
