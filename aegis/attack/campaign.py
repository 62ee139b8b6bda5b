"""The supervisor of an attack: stretches on any executor, and what is known of the process that one of them killed.

A process that dies, or hangs, takes the stretches of its executor with it. Each is then done again: what was being run
when it happened alone, in a process of its own, so that the guilty input is told from those that only were there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from aegis.attack.bisect import Suspect, judged, not_again
from aegis.attack.shrink import smaller
from aegis.attack.work import STOP, Attack, Stretch, begin, explore, read_note
from aegis.errors import AegisError
from aegis.fuzz.result import Progress

__all__ = ["Campaign", "Result"]

STRETCH = 20
"""Inputs of a stretch."""
_LOOK = 0.2
_FOREVER = 1e9
_BREAKS, _IN_VAIN = 200, 3
"""Processes that may die until the campaign gives up, and how many one after another before they run anything."""
_ENDS = 15.0
"""Seconds that stretches have to end after Ctrl-C."""
_SHRINKING = 30.0
"""Seconds for making one finding smaller."""


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of an attack; plain data throughout."""

    attack: Attack
    cases: Counter[str] = field(default_factory=Counter)
    """Inputs run, by source."""
    busy: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of processes by source, and how many of them went into making inputs."""
    endings: dict[str, Counter[tuple[str, str, str]]] = field(default_factory=dict)
    """How phases ended, by source: phase, status, class of the message."""
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    lost: list[str] = field(default_factory=list)
    """What went wrong with the campaign itself."""

    @property
    def distinct(self) -> int:
        """How many different outcomes there were."""
        return len({ending for some in self.endings.values() for ending in some})

    def merge(self, told: dict[str, Any]) -> None:
        """Add what came of a stretch."""
        name = told["source"]
        self.cases[name] += told["done"]
        seconds = self.busy.setdefault(name, [0.0, 0.0])
        seconds[0] += told["seconds"]
        seconds[1] += told["making"]
        endings = self.endings.setdefault(name, Counter())
        for phase, status, text, number in told["endings"]:
            endings[phase, status, text] += number
        for finding in told["findings"]:
            self.found(finding)

    def found(self, finding: dict[str, Any]) -> None:
        """Add a finding: of several with one signature the smallest is kept, and all are counted."""
        kept = self.findings.get(finding["signature"])
        if kept is not None:
            best = finding if (finding["again"], -finding["size"]) > (kept["again"], -kept["size"]) else kept
            finding = {**best, "times": kept["times"] + finding["times"]}
        self.findings[finding["signature"]] = finding


class Campaign:
    """Runs an attack: so many inputs, for so many seconds, on an executor or ``jobs`` processes of its own."""

    def __init__(
        self, attack: Attack, *, runs: int | None = None, seconds: float | None = None, jobs: int = 1,
        executor: Executor | None = None, shrinking: float = _SHRINKING,
    ) -> None:  # fmt: skip
        self.notes = Path(tempfile.mkdtemp(prefix="aegis-attack-"))
        self.attack = replace(attack, notes=str(self.notes))
        self.runs, self.seconds, self.jobs, self.shrinking = runs, seconds, jobs, shrinking
        self.result = Result(attack=attack)
        self._given = executor
        self._own: ProcessPoolExecutor | None = None
        self._again: deque[Stretch] = deque()
        self._next, self._breaks, self._in_vain = 0, 0, 0
        self._suspects: list[Suspect] = []

    # -- running -------------------------------------------------------------------------------

    def run(self) -> Iterator[Progress]:
        """Run it, telling how far it is now and then; what was found is in ``result``, whatever ended it."""
        began = time.monotonic()
        until = began + (_FOREVER if self.seconds is None else self.seconds)
        flying: dict[Future[Any], Stretch] = {}
        try:
            while not self.result.lost and (flying or self._more(until)):
                while len(flying) < 2 * self.jobs and self._more(until):
                    stretch = self._stretch()
                    flying[self._submit(stretch, until)] = stretch
                self._look(flying)
                self._judge()
                yield self._progress(began)
            for _ in self._shrunk():
                yield self._progress(began)
        except KeyboardInterrupt:
            self.result.interrupted = True
            self._let_end(flying)
        finally:
            self.result.seconds = time.monotonic() - began
            self._stop()
            rmtree(self.notes, ignore_errors=True)

    def _more(self, until: float) -> bool:
        """Tell whether there is something to begin."""
        return time.monotonic() < until and (bool(self._again) or self.runs is None or self._next < self.runs)

    def _stretch(self) -> Stretch:
        """Return the next stretch: sources take turns, and each goes through its numbers in order."""
        if self._again:
            return self._again.popleft()
        sources = self.attack.sources
        turn, count = divmod(self._next, STRETCH)[0], STRETCH
        if self.runs is not None:
            count = min(count, self.runs - self._next)
        self._next += STRETCH
        return Stretch(sources[turn % len(sources)], turn // len(sources) * STRETCH, count)

    def _submit(self, stretch: Stretch, until: float) -> Future[Any]:
        known = sorted(self.result.findings)
        try:
            return self._executor().submit(explore, self.attack, stretch, known, until)
        except (BrokenExecutor, BrokenPipeError):  # of one that broke just now, and was not seen to
            self._stop()
        try:
            return self._executor().submit(explore, self.attack, stretch, known, until)
        except BrokenPipeError:
            raise AegisError("a process of the campaign ended before it began; see what `aegis doctor` says") from None

    def _look(self, flying: dict[Future[Any], Stretch]) -> None:
        """Take what has ended; kill what hangs; see to what broke."""
        ended, _ = wait(flying, timeout=_LOOK, return_when=FIRST_COMPLETED)
        broken: list[Stretch] = []
        for future in ended:
            stretch = flying.pop(future)
            try:
                self.result.merge(future.result())
            except BrokenExecutor:
                broken.append(stretch)
            except (AegisError, OSError) as error:
                self.result.lost.append(f"{type(error).__name__}: {error}")
        self._kill_the_hanging()
        if broken:
            broken += self._rest(flying)
            self._broken(broken)

    def _rest(self, flying: dict[Future[Any], Stretch]) -> list[Stretch]:
        """Return the stretches that went down with a broken executor; those that had ended are merged."""
        lost = []
        for future, stretch in list(flying.items()):
            try:
                self.result.merge(future.result(timeout=_ENDS))
            except (BrokenExecutor, TimeoutError):
                lost.append(stretch)
        flying.clear()
        return lost

    # -- what dies and hangs -------------------------------------------------------------------

    def _kill_the_hanging(self) -> None:
        for path in self.notes.glob("*.note"):
            note = read_note(path)
            if note is not None and time.monotonic() - note[4] > self.attack.bounds.patience:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(note[0], signal.SIGKILL)  # what it noted stays: it tells what hung

    def _broken(self, lost: list[Stretch]) -> None:
        """A process died: what ran then is run again alone, the rest as before."""
        self._breaks += 1
        running = {}
        for path in self.notes.glob("*.note"):
            note = read_note(path)
            if note is not None:
                running[note[1], note[2]] = note[3]
            path.unlink(missing_ok=True)
        self._stop()
        for stretch in lost:
            self._split(stretch, running)
        self._in_vain = 0 if running else self._in_vain + 1
        if self._breaks > _BREAKS or (self._given is None and self._in_vain >= _IN_VAIN):
            self.result.lost.append("the processes of the campaign die again and again; see what `aegis doctor` says")

    def _split(self, stretch: Stretch, running: dict[tuple[str, int], str]) -> None:
        name, start, count = stretch
        for (source, number), phase in running.items():
            if source == name and start <= number < start + count:
                self._suspects.append(Suspect(name, number, phase))
                parts = [Stretch(name, start, number - start), Stretch(name, number + 1, start + count - number - 1)]
                break
        else:
            if count == 1:  # the processes are elsewhere, and leave no notes here
                self._suspects.append(Suspect(name, start, "run"))
                return
            half = count // 2 if self._given is not None else count
            parts = [Stretch(name, start, half), Stretch(name, start + half, count - half)]
        self._again.extend(part for part in parts if part.length)

    def _judge(self) -> None:
        """Run each suspect alone, and keep what it does; where none dies again, say that one did."""
        suspects, self._suspects = self._suspects, []
        guilty = False
        for suspect in suspects:
            told, died = judged(self.attack, suspect, sorted(self.result.findings))
            guilty = guilty or died
            self.result.merge(told)
        if suspects and not guilty:
            self.result.found(not_again(self.attack, suspects))

    # -- endings -------------------------------------------------------------------------------

    def _let_end(self, flying: dict[Future[Any], Stretch]) -> None:
        """Have what runs end after its input, and take what it found."""
        with contextlib.suppress(KeyboardInterrupt):
            (self.notes / STOP).touch()
            for future in flying:
                future.cancel()
            ended, _ = wait([f for f in flying if not f.cancelled()], timeout=_ENDS)
            for future in ended:
                if not future.cancelled() and future.exception() is None:
                    self.result.merge(future.result())

    def _shrunk(self) -> Iterator[None]:
        """Make findings smaller, each in bounded time."""
        for signature, finding in list(self.result.findings.items()):
            if not finding["again"] or self.shrinking <= 0:
                continue
            future = self._executor().submit(smaller, self.attack, finding, self.shrinking)
            until = time.monotonic() + 2 * self.shrinking + self.attack.bounds.patience
            while not future.done() and time.monotonic() < until:
                wait([future], timeout=_LOOK)
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
