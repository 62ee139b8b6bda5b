"""The part of an attack that runs in worker processes: a range of inputs, with plain data as input and output.

A process notes in a file which input it is running, so that the coordinator can identify the input if the process dies.
"""

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
from aegis.attack.inputs import AttackInput, Make
from aegis.attack.sources import SOURCES, source
from aegis.attack.triage import Fault
from aegis.attack.trial import Bounds, TrialResult
from aegis.fuzz.worker import prepare_process

__all__ = [
    "STOP", "Attack", "InputRange", "Note", "attack_state", "begin", "explore", "explore_in_process", "finding_of",
    "input_of", "read_note", "run_in_process",
]  # fmt: skip

_NOTE_BYTES = 256
STOP = "stop"
"""If a file of this name exists in the directory of notes, processes start no further input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """The configuration of an attack."""

    seed: int = 0
    sources: tuple[str, ...] = tuple(SOURCES)
    artifacts: tuple[tuple[str, bytes], ...] = ()
    notes: str = ""
    """The directory for the notes of worker processes."""
    bounds: Bounds = field(default_factory=Bounds)
    harness: str = "aegis.attack.trial:Harness"
    """The class that runs inputs, as ``module:name``. It is instantiated once per process, with the bounds."""


class InputRange(NamedTuple):
    """A range of inputs of one source: ``length`` numbers from ``start``."""

    source: str
    start: int
    length: int


class Note:
    """A file that names the input this process is running. The coordinator reads it if the process dies or hangs."""

    def __init__(self, folder: str) -> None:
        # On another machine, such as a Dask worker's, the directory does not exist, and no notes are written.
        self.path = Path(folder) / f"{os.getpid()}.note" if os.path.isdir(folder) else None
        self._file = -1 if self.path is None else os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last: tuple[str, int] = "", -1

    def write(self, source: str, number: int, phase: str = "make") -> None:
        """Record that an input starts now."""
        self._last = source, number
        note = json.dumps([os.getpid(), source, number, phase, time.monotonic()])
        if self._file >= 0:
            os.pwrite(self._file, note.encode().ljust(_NOTE_BYTES), 0)

    def phase(self, phase: str) -> None:
        """Record that a phase of the current input starts now."""
        self.write(*self._last, phase)

    def clear(self) -> None:
        """Record that no input is running."""
        if self._file >= 0:
            os.pwrite(self._file, b" " * _NOTE_BYTES, 0)


def read_note(path: Path) -> tuple[int, str, int, str, float] | None:
    """Return process id, source, number, phase and its start time; ``None`` if no input is running."""
    try:
        pid, name, number, phase, began = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return int(pid), str(name), int(number), str(phase), float(began)


class AttackState:
    """The harness, the note and the sources of an attack, created once per process."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        module, _, name = attack.harness.partition(":")
        self.harness = getattr(import_module(module), name)(attack.bounds)
        self.note = Note(attack.notes)
        self.harness.on_phase = self.note.phase
        self._makes: dict[str, Make] = {}

    def make(self, name: str) -> Make:
        """Return a source, created on first use."""
        if name not in self._makes:
            self._makes[name] = source(name, self.attack.seed, self.attack.artifacts)
        return self._makes[name]

    def run(self, one: AttackInput) -> tuple[TrialResult, list[Fault]]:
        """Run an input. Return its result, and its faults, including leaks."""
        self.note.write(one.source, one.number, "begin")
        result = self.harness.run(one)
        left = self.harness.watch.left_behind(lambda: self.harness.run(one))
        return result, [*result.faults, *([] if left is None else [left])]

    def shows(self, one: AttackInput, signature: str) -> bool:
        """Return whether an input shows the fault with the given signature."""
        return any(fault.signature == signature for fault in self.run(one)[1])


_state: AttackState | None = None


def begin(notes: str) -> None:
    """Prepare a worker process: ignore SIGINT, and let faulthandler write the stack of a crash to a file."""
    prepare_process()
    if notes:
        tools.keep_in(notes)
        crash = open(Path(notes) / f"{os.getpid()}.crash", "w")  # noqa: SIM115 - open for the life of the process
        faulthandler.enable(crash, all_threads=False)


def attack_state(attack: Attack) -> AttackState:
    """Return the state of this process for an attack. A different attack replaces the state."""
    global _state
    if _state is None or _state.attack != attack:
        if _state is not None:
            _state.harness.close()
        _state = AttackState(attack)
    return _state


def explore(attack: Attack, inputs: InputRange, known: Sequence[str], until: float) -> dict[str, Any]:
    """Run a range of inputs, or as many as time allows, and return the result as plain data."""
    state = attack_state(attack)
    make, endings = state.make(inputs.source), Counter[tuple[str, str, str]]()
    findings: dict[str, dict[str, Any]] = {}
    done, making, began = 0, 0.0, time.monotonic()
    for number in range(inputs.start, inputs.start + inputs.length):
        if time.monotonic() >= until or (attack.notes and os.path.exists(os.path.join(attack.notes, STOP))):
            break
        state.note.write(inputs.source, number)
        start = time.monotonic()
        one = make(number)
        making += time.monotonic() - start
        result, faults = state.run(one)
        done += 1
        endings.update(result.endings)
        for fault in faults:
            _keep(state, one, fault, findings, known)
    state.note.clear()
    return {
        "source": inputs.source, "start": inputs.start, "done": done, "seconds": time.monotonic() - began,
        "making": making, "endings": [[*ending, number] for ending, number in endings.items()],
        "findings": list(findings.values()),
    }  # fmt: skip


def _keep(
    state: AttackState, one: AttackInput, fault: Fault, findings: dict[str, dict[str, Any]], known: Sequence[str]
) -> None:
    """Add a fault to the findings. Of duplicates keep the smallest input; run the input of a new fault once more.

    A ``late`` fault that does not occur again is dropped: the machine was busy.
    """
    kept = findings.get(fault.signature)
    if kept is not None:
        kept["times"] += 1
        if len(one.data) >= kept["size"]:
            return
    again = True if kept is not None or fault.signature in known else state.shows(one, fault.signature)
    if again or fault.kind != "late":
        findings[fault.signature] = finding_of(one, fault, again=again, times=1 if kept is None else kept["times"])


def finding_of(one: AttackInput, fault: Fault, *, again: bool, times: int = 1) -> dict[str, Any]:
    """Return a finding as plain data: the fault, and the input with the values that reproduce it."""
    return {
        **fault.to_dict(), "source": one.source, "number": one.number, "turn": one.turn, "label": one.label,
        "size": len(one.data), "data": base64.b64encode(one.data).decode(), "again": again, "times": times,
    }  # fmt: skip


def input_of(finding: Mapping[str, Any]) -> AttackInput:
    """Return the input of a finding."""
    return AttackInput(
        source=str(finding["source"]), number=int(finding["turn"]), data=base64.b64decode(finding["data"]),
        label=str(finding["label"]),
    )  # fmt: skip


def explore_in_process(pipe: Any, attack: Attack, inputs: InputRange, *, known: Sequence[str]) -> None:
    """Run a range of inputs in this separate process, and send the result through ``pipe``."""
    begin(attack.notes)
    pipe.send(explore(attack, inputs, known, float("inf")))
    attack_state(attack).harness.close()


def run_in_process(pipe: Any, attack: Attack, one: AttackInput) -> None:
    """Run an input in this separate process, and send its faults through ``pipe`` if the process survives."""
    begin(attack.notes)
    _, faults = attack_state(attack).run(one)
    pipe.send({"faults": [fault.to_dict() for fault in faults]})
    attack_state(attack).harness.close()
