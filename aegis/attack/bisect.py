"""A suspect, run in a process of its own: what it does to that one, it did to the other."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aegis.attack.inputs import Input
from aegis.attack.sources import source
from aegis.attack.triage import Fault
from aegis.attack.work import Attack, Stretch, alone, alone_with, finding_of, read_note

__all__ = ["Suspect", "deadly", "judged", "not_again"]

_STARTS = 30.0
"""Seconds that a process has to start."""
_LAST_WORDS, _LOOK = 5.0, 0.1
_OURS = re.compile(r'File "[^"]*[/\\](aegis[/\\][^"]+)\.py", line \d+ in (\S+)')


class Suspect(NamedTuple):
    """An input that was run when a process died, and how far it was."""

    source: str
    number: int
    phase: str


def judged(attack: Attack, suspect: Suspect, known: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Run a suspect alone; return what came of it as of a stretch, and whether the process died or hung again."""
    told, fault = _alone(attack, alone, Stretch(suspect.source, suspect.number, 1), known)
    if fault is None:
        return told, False
    one = source(suspect.source, attack.seed, attack.artifacts)(suspect.number)
    return _of(suspect, [finding_of(one, fault, again=True)], fault), True


def deadly(attack: Attack, one: Input, signature: str) -> bool:
    """Tell whether an input kills, or hangs, a process of its own as it did before."""
    with tempfile.TemporaryDirectory(prefix="aegis-attack-") as notes:
        _, fault = _alone(replace(attack, notes=notes), alone_with, one, ())
    return fault is not None and fault.signature == signature


def not_again(attack: Attack, suspects: Sequence[Suspect]) -> dict[str, Any]:
    """Return the finding that a process died while it ran one of these, and none of them does it again."""
    first = suspects[0]
    one = source(first.source, attack.seed, attack.artifacts)(first.number)
    names = ", ".join(f"{s.source} {s.number}" for s in suspects)
    fault = Fault(
        phase=first.phase, kind="died", type="", place="", text=f"a process died, once, while it ran one of {names}"
    )  # fmt: skip
    return finding_of(one, fault, again=False)


def _of(suspect: Suspect, findings: list[dict[str, Any]], fault: Fault) -> dict[str, Any]:
    return {
        "source": suspect.source, "start": suspect.number, "done": 1, "seconds": 0.0, "making": 0.0,
        "endings": [[fault.phase, fault.kind, fault.type, 1]], "findings": findings,
    }  # fmt: skip


def _alone(attack: Attack, work: Any, what: Any, known: Sequence[str]) -> tuple[dict[str, Any], Fault | None]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(there, attack, what, known))
    process.start()
    there.close()
    try:
        if _waited(here, attack, process.pid or 0):
            told: dict[str, Any] = here.recv()
            process.join(_STARTS)
            return told, None
        if process.pid is not None:
            os.kill(process.pid, signal.SIGABRT)  # so that it says where it is
        process.join(_LAST_WORDS)
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
    """Wait for a process that says what it runs; tell whether there is an answer, or an end, before it hangs."""
    path, began = Path(attack.notes) / f"{pid}.note", time.monotonic()
    while not pipe.poll(_LOOK):
        note = read_note(path)
        since, most = (began, _STARTS + attack.bounds.patience) if note is None else (note[4], attack.bounds.patience)
        if time.monotonic() - since > most:
            return False
    return True


def _fault(attack: Attack, process: Any, kind: str) -> Fault:
    """Return what became of a process, with what it noted and said."""
    folder = Path(attack.notes)
    note = read_note(folder / f"{process.pid}.note")
    (folder / f"{process.pid}.note").unlink(missing_ok=True)
    code = process.exitcode
    how = f"exit {code}" if code >= 0 else signal.Signals(-code).name
    frames = [f"{path.replace('/', '.').removeprefix('aegis.')}.{name}" for path, name in _said(folder, process.pid)]
    phase = "make" if note is None else note[3]
    told = f"in the phase {phase} the process that ran it "
    told += f"died: {how}" if kind == "died" else f"did not end within {attack.bounds.patience:g} s"
    return Fault(
        phase=phase, kind=kind, type=how if kind == "died" else "", place=frames[0] if frames else "", text=told,
        frames=tuple(reversed(frames[:12])),
    )  # fmt: skip


def _said(folder: Path, pid: int) -> list[tuple[str, str]]:
    """Return the functions of ours on the stack of a crash, innermost first."""
    try:
        text = (folder / f"{pid}.crash").read_text(errors="replace")
    except OSError:
        return []
    return [(path, name) for path, name in _OURS.findall(text) if "aegis/attack" not in path]
