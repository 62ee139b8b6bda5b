"""The coordinator of an attack: it runs ranges of inputs on any executor, and recovers when a process dies or hangs.

A dead process breaks its executor, and with it all ranges in flight. They are run again. The inputs that were running
at that moment are suspects: each is run alone in a separate process, to identify the one that kills it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from aegis.attack.shrink import shrink_finding
from aegis.attack.suspects import Suspect, rerun_suspect, unreproduced
from aegis.attack.worker import STOP, Attack, InputRange, begin, explore, read_note
from aegis.errors import AegisError
from aegis.fuzz.plan import Progress

__all__ = ["AttackCampaign", "AttackResult"]

INPUTS_PER_RANGE = 20
_POLL_SECONDS = 0.2
_NO_TIME_LIMIT_SECONDS = 1e9
_MAX_BROKEN_EXECUTORS = 200
"""Broken executors after which the campaign gives up."""
_MAX_IDLE_EXECUTORS = 3
"""Consecutive breaks before any input started after which the campaign gives up: no input can be the cause."""
_STOP_SECONDS = 15.0
"""Time that running inputs have to end after Ctrl-C."""
_SHRINK_SECONDS = 30.0
"""Time for the minimisation of one finding."""


@dataclass(slots=True, kw_only=True)
class AttackResult:
    """The result of an attack, as plain data."""

    attack: Attack
    cases: Counter[str] = field(default_factory=Counter)
    """Number of inputs run, by source."""
    busy: dict[str, list[float]] = field(default_factory=dict)
    """Process seconds by source: in total, and for the generation of inputs."""
    endings: dict[str, Counter[tuple[str, str, str]]] = field(default_factory=dict)
    """Outcomes by source: phase, status and class of the message, with their counts."""
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    lost: list[str] = field(default_factory=list)
    """Failures of the campaign itself, as opposed to findings."""

    @property
    def distinct(self) -> int:
        """The number of distinct outcomes."""
        return len({ending for some in self.endings.values() for ending in some})

    def merge(self, partial: dict[str, Any]) -> None:
        """Add the result of a range of inputs."""
        name = partial["source"]
        self.cases[name] += partial["done"]
        seconds = self.busy.setdefault(name, [0.0, 0.0])
        seconds[0] += partial["seconds"]
        seconds[1] += partial["making"]
        endings = self.endings.setdefault(name, Counter())
        for phase, status, text, number in partial["endings"]:
            endings[phase, status, text] += number
        for finding in partial["findings"]:
            self.found(finding)

    def found(self, finding: dict[str, Any]) -> None:
        """Add a finding. Of duplicates by signature, keep the reproducible and smallest one, and count all."""
        kept = self.findings.get(finding["signature"])
        if kept is not None:
            best = finding if (finding["again"], -finding["size"]) > (kept["again"], -kept["size"]) else kept
            finding = {**best, "times": kept["times"] + finding["times"]}
        self.findings[finding["signature"]] = finding


class AttackCampaign:
    """Runs an attack on an executor, or on ``jobs`` spawned processes.

    It stops after ``runs`` inputs (``None``: no bound) or after ``seconds``, whichever comes first. The minimisation of
    each finding takes at most ``shrinking`` seconds; 0 disables it.
    """

    def __init__(
        self, attack: Attack, *, runs: int | None = None, seconds: float | None = None, jobs: int = 1,
        executor: Executor | None = None, shrinking: float = _SHRINK_SECONDS,
    ) -> None:  # fmt: skip
        self.notes = Path(tempfile.mkdtemp(prefix="aegis-attack-"))
        self.attack = replace(attack, notes=str(self.notes))
        self.runs, self.seconds, self.jobs, self.shrinking = runs, seconds, jobs, shrinking
        self.result = AttackResult(attack=attack)
        self._given = executor
        self._own: ProcessPoolExecutor | None = None
        self._again: deque[InputRange] = deque()
        self._next, self._breaks, self._idle_breaks = 0, 0, 0
        self._suspects: list[Suspect] = []

    # -- running -------------------------------------------------------------------------------

    def run(self) -> Generator[Progress, None, None]:
        """Run the attack and yield its progress. ``result`` is complete however it ends, also by Ctrl-C."""
        began = time.monotonic()
        until = began + (_NO_TIME_LIMIT_SECONDS if self.seconds is None else self.seconds)
        flying: dict[Future[Any], InputRange] = {}
        try:
            while not self.result.lost and (flying or self._more(until)):
                while len(flying) < 2 * self.jobs and self._more(until):
                    inputs = self._next_range()
                    flying[self._submit(inputs, until)] = inputs
                self._collect(flying)
                self._rerun_suspects()
                yield self._progress(began)
            for _ in self._shrink_findings():
                yield self._progress(began)
        except KeyboardInterrupt:
            self.result.interrupted = True
            self._let_end(flying)
        finally:
            self.result.seconds = time.monotonic() - began
            self._stop()
            rmtree(self.notes, ignore_errors=True)

    def _more(self, until: float) -> bool:
        """Return whether there are further inputs to run."""
        return time.monotonic() < until and (bool(self._again) or self.runs is None or self._next < self.runs)

    def _next_range(self) -> InputRange:
        """Return the next range. The sources alternate, and each goes through its numbers in order."""
        if self._again:
            return self._again.popleft()
        sources = self.attack.sources
        turn, count = divmod(self._next, INPUTS_PER_RANGE)[0], INPUTS_PER_RANGE
        if self.runs is not None:
            count = min(count, self.runs - self._next)
        self._next += INPUTS_PER_RANGE
        return InputRange(sources[turn % len(sources)], turn // len(sources) * INPUTS_PER_RANGE, count)

    def _submit(self, inputs: InputRange, until: float) -> Future[Any]:
        known = sorted(self.result.findings)
        try:
            return self._executor().submit(explore, self.attack, inputs, known, until)
        except (BrokenExecutor, BrokenPipeError):  # the executor broke after the last poll
            self._stop()
        try:
            return self._executor().submit(explore, self.attack, inputs, known, until)
        except BrokenPipeError:
            raise AegisError("a worker process of the campaign died on start: run `aegis doctor`") from None

    def _collect(self, flying: dict[Future[Any], InputRange]) -> None:
        """Merge finished ranges, kill processes that hang, and recover from a broken executor."""
        ended, _ = wait(flying, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        broken: list[InputRange] = []
        for future in ended:
            inputs = flying.pop(future)
            try:
                self.result.merge(future.result())
            except BrokenExecutor:
                broken.append(inputs)
            except (AegisError, OSError) as error:
                self.result.lost.append(f"{type(error).__name__}: {error}")
        self._kill_hanging_processes()
        if broken:
            broken += self._rest(flying)
            self._recover(broken)

    def _rest(self, flying: dict[Future[Any], InputRange]) -> list[InputRange]:
        """Merge the ranges that finished before the executor broke, and return the others."""
        lost = []
        for future, inputs in list(flying.items()):
            try:
                self.result.merge(future.result(timeout=_STOP_SECONDS))
            except (BrokenExecutor, TimeoutError):
                lost.append(inputs)
        flying.clear()
        return lost

    # -- dead and hanging processes ------------------------------------------------------------

    def _kill_hanging_processes(self) -> None:
        for path in self.notes.glob("*.note"):
            note = read_note(path)
            if note is not None and time.monotonic() - note[4] > self.attack.bounds.patience:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(note[0], signal.SIGKILL)  # its note remains, and identifies the input

    def _recover(self, lost: list[InputRange]) -> None:
        """Replace the executor after a process died. Queue the running inputs as suspects, and the others again."""
        self._breaks += 1
        running = {}
        for path in self.notes.glob("*.note"):
            note = read_note(path)
            if note is not None:
                running[note[1], note[2]] = note[3]
            path.unlink(missing_ok=True)
        self._stop()
        for inputs in lost:
            self._split(inputs, running)
        self._idle_breaks = 0 if running else self._idle_breaks + 1
        if self._breaks > _MAX_BROKEN_EXECUTORS or (self._given is None and self._idle_breaks >= _MAX_IDLE_EXECUTORS):
            self.result.lost.append("worker processes of the campaign died repeatedly: run `aegis doctor`")

    def _split(self, inputs: InputRange, running: dict[tuple[str, int], str]) -> None:
        """Split a range at the input that was running; without a note, bisect it to find that input."""
        name, start, count = inputs
        for (source, number), phase in running.items():
            if source == name and start <= number < start + count:
                self._suspects.append(Suspect(name, number, phase))
                parts = [
                    InputRange(name, start, number - start),
                    InputRange(name, number + 1, start + count - number - 1),
                ]
                break
        else:
            if count == 1:  # the executor runs on other machines, whose notes are not visible here
                self._suspects.append(Suspect(name, start, "run"))
                return
            half = count // 2 if self._given is not None else count
            parts = [InputRange(name, start, half), InputRange(name, start + half, count - half)]
        self._again.extend(part for part in parts if part.length)

    def _rerun_suspects(self) -> None:
        """Run each suspect alone and merge its result. If none kills its process, record an unreproduced finding."""
        suspects, self._suspects = self._suspects, []
        reproduced = False
        for suspect in suspects:
            partial, died = rerun_suspect(self.attack, suspect, sorted(self.result.findings))
            reproduced = reproduced or died
            self.result.merge(partial)
        if suspects and not reproduced:
            self.result.found(unreproduced(self.attack, suspects))

    # -- the end of the campaign ---------------------------------------------------------------

    def _let_end(self, flying: dict[Future[Any], InputRange]) -> None:
        """Ask the processes to stop after their current input, and merge their results."""
        with contextlib.suppress(KeyboardInterrupt):
            (self.notes / STOP).touch()
            for future in flying:
                future.cancel()
            ended, _ = wait([f for f in flying if not f.cancelled()], timeout=_STOP_SECONDS)
            for future in ended:
                if not future.cancelled() and future.exception() is None:
                    self.result.merge(future.result())

    def _shrink_findings(self) -> Iterator[None]:
        """Minimise each reproducible finding within ``shrinking`` seconds."""
        for signature, finding in list(self.result.findings.items()):
            if not finding["again"] or self.shrinking <= 0:
                continue
            future = self._executor().submit(shrink_finding, self.attack, finding, self.shrinking)
            until = time.monotonic() + 2 * self.shrinking + self.attack.bounds.patience
            while not future.done() and time.monotonic() < until:
                wait([future], timeout=_POLL_SECONDS)
                yield
            if future.done() and future.exception() is None:
                self.result.findings[signature] = future.result()
            else:
                self._stop()

    def _progress(self, began: float) -> Progress:
        result = self.result
        return Progress(result.cases.total(), time.monotonic() - began, len(result.findings), result.distinct)

    # -- the executor --------------------------------------------------------------------------

    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            context = multiprocessing.get_context("spawn")
            self._own = ProcessPoolExecutor(
                self.jobs, mp_context=context, initializer=begin, initargs=(str(self.notes),)
            )  # fmt: skip
        return self._own

    def _stop(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None
            for process in list((getattr(own, "_processes", None) or {}).values()):
                process.terminate()
            own.shutdown(wait=True, cancel_futures=True)
