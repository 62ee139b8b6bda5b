"""Suspects: inputs that were running when a worker process died or hung. Each is run again in a separate process."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aegis.attack.inputs import AttackInput
from aegis.attack.sources import source
from aegis.attack.triage import Fault
from aegis.attack.worker import Attack, InputRange, explore_in_process, finding_of, read_note, run_in_process

__all__ = ["Suspect", "kills_process", "rerun_suspect", "unreproduced"]

_START_SECONDS = 30.0
"""Time that a process has to start."""
_ABORT_SECONDS = 5.0
"""Time that faulthandler has to write the stack of a process that hangs, before the process is killed."""
_POLL_SECONDS = 0.1
_AEGIS_FRAME = re.compile(r'File "[^"]*[/\\](aegis[/\\][^"]+)\.py", line \d+ in (\S+)')


class Suspect(NamedTuple):
    """An input that was running when a process died, and the phase that it had reached."""

    source: str
    number: int
    phase: str


def rerun_suspect(attack: Attack, suspect: Suspect, known: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Run a suspect in a new process. Return its result, as for a range of inputs, and whether it failed again."""
    result, fault = _in_new_process(
        attack, partial(explore_in_process, known=known), InputRange(suspect.source, suspect.number, 1)
    )
    if fault is None:
        return result, False
    one = source(suspect.source, attack.seed, attack.artifacts)(suspect.number)
    return _range_result(suspect, [finding_of(one, fault, again=True)], fault), True


def kills_process(attack: Attack, one: AttackInput, signature: str) -> bool:
    """Return whether an input kills or hangs a separate process with the given signature."""
    with tempfile.TemporaryDirectory(prefix="aegis-attack-") as notes:
        _, fault = _in_new_process(replace(attack, notes=notes), run_in_process, one)
    return fault is not None and fault.signature == signature


def unreproduced(attack: Attack, suspects: Sequence[Suspect]) -> dict[str, Any]:
    """Return the finding for a process that died once, while it ran one of these inputs, and not on a second run."""
    first = suspects[0]
    one = source(first.source, attack.seed, attack.artifacts)(first.number)
    names = ", ".join(f"{s.source} {s.number}" for s in suspects)
    fault = Fault(
        phase=first.phase, kind="died", type="", place="", text=f"a process died once while it ran one of {names}"
    )  # fmt: skip
    return finding_of(one, fault, again=False)


def _range_result(suspect: Suspect, findings: list[dict[str, Any]], fault: Fault) -> dict[str, Any]:
    return {
        "source": suspect.source, "start": suspect.number, "done": 1, "seconds": 0.0, "making": 0.0,
        "endings": [[fault.phase, fault.kind, fault.type, 1]], "findings": findings,
    }  # fmt: skip


def _in_new_process(attack: Attack, work: Any, argument: Any) -> tuple[dict[str, Any], Fault | None]:
    """Call ``work(pipe, attack, argument)`` in a new process. Return the value it sent, or how it failed."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(there, attack, argument))
    process.start()
    there.close()
    try:
        if _waited(here, attack, process.pid or 0):
            received: dict[str, Any] = here.recv()
            process.join(_START_SECONDS)
            return received, None
        if process.pid is not None:
            os.kill(process.pid, signal.SIGABRT)  # faulthandler then writes the stack of the process
        process.join(_ABORT_SECONDS)
        process.kill()
        process.join()
        return {}, _fault(attack, process, "hung")
    except EOFError:
        process.join()
        return {}, _fault(attack, process, "died")
    finally:
        here.close()
        if process.is_alive():
            process.kill()
        process.join()


def _waited(pipe: Any, attack: Attack, pid: int) -> bool:
    """Wait until the pipe has data or is closed. Return ``False`` if the process hangs, judged by its note."""
    path, began = Path(attack.notes) / f"{pid}.note", time.monotonic()
    patience = attack.bounds.patience
    while not pipe.poll(_POLL_SECONDS):
        note = read_note(path)
        since, allowed = (began, _START_SECONDS + patience) if note is None else (note[4], patience)
        if time.monotonic() - since > allowed:
            return False
    return True


def _fault(attack: Attack, process: Any, kind: str) -> Fault:
    """Return the fault of a process that died or hung, from its exit code, its note and its stack."""
    folder = Path(attack.notes)
    note = read_note(folder / f"{process.pid}.note")
    (folder / f"{process.pid}.note").unlink(missing_ok=True)
    code = process.exitcode
    how = f"exit {code}" if code >= 0 else signal.Signals(-code).name
    frames = [f"{path.replace('/', '.').removeprefix('aegis.')}.{name}" for path, name in _stack(folder, process.pid)]
    phase = "make" if note is None else note[3]
    text = f"phase {phase}: the process "
    text += f"died: {how}" if kind == "died" else f"did not end within {attack.bounds.patience:g} s"
    return Fault(
        phase=phase, kind=kind, type=how if kind == "died" else "", place=frames[0] if frames else "", text=text,
        frames=tuple(reversed(frames[:12])),
    )  # fmt: skip


def _stack(folder: Path, pid: int) -> list[tuple[str, str]]:
    """Return path and name of the Aegis functions on the stack of a crash, innermost first."""
    try:
        text = (folder / f"{pid}.crash").read_text(errors="replace")
    except OSError:
        return []
    return [(path, name) for path, name in _AEGIS_FRAME.findall(text) if "aegis/attack" not in path]
