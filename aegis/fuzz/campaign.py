"""A campaign: rounds of chunks on any executor, merged in order, so that a seed tells what happens.

What a chunk may know is what the rounds before it found: its results depend on the seed and the corpus, never on which
process did it, how many there were, or which came first.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aegis.errors import AegisError, PolicyError
from aegis.fuzz.corpus import Corpus
from aegis.fuzz.oracles.surroundings import clear_canaries
from aegis.fuzz.plan import Plan
from aegis.fuzz.result import Progress, Result
from aegis.fuzz.work import explore, minimise, prepare_process
from aegis.limits import parse_seconds

__all__ = ["Campaign"]

CHUNK = 1000
"""Calls in a chunk, at most."""
ROUND = 8
"""Chunks in a round, however many of them run at once."""
_FOREVER = 1e9
_LOOK = 0.1
_SENT = 64
"""Cases of the corpus that a chunk is given to start from."""
_MINIMISED, _PARTS = 512, 8
"""Cases that are made smaller at the end, and in how many parts that is done."""


class Campaign:
    """Runs a plan: ``runs`` calls, for so many seconds, on an executor or ``jobs`` processes of its own."""

    def __init__(
        self, plan: Plan, *, runs: int | None = 20_000, seconds: float | str | timedelta | None = None, jobs: int = 1,
        executor: Executor | None = None, corpus: Corpus | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.runs, self.jobs = plan, runs, jobs
        self.seconds = None if seconds is None else parse_seconds(seconds, "seconds")
        self.corpus = corpus
        self._given = executor
        self._own: Executor | None = None
        self._numbers: set[int] = set()
        """The processes of ours that there were."""
        self.result = Result(plan=plan)

    # -- running -------------------------------------------------------------------------------

    def run(self) -> Iterator[Progress]:
        """Run it, telling how far it is now and then; what was found is in ``result``, whatever ended it."""
        began = time.monotonic()
        until = began + (_FOREVER if self.seconds is None else self.seconds)
        try:
            if self.corpus is not None and self.corpus.entries:
                yield from self._round([(-1, self.corpus.told())], began, until)
            chunk = 0
            while not self._enough(chunk, until):
                count = min(ROUND, self._chunks_left(chunk))
                start = self._start()
                yield from self._round([(n, start) for n in range(chunk, chunk + count)], began, until)
                chunk += count
            if self.corpus is not None and not self.result.lost:
                self._minimised()
        except KeyboardInterrupt:
            self.result.interrupted = True
        except (BrokenExecutor, BrokenPipeError) as error:
            self.result.lost.append(f"the corpus was not made smaller: {error}")
        finally:
            self.result.seconds = time.monotonic() - began
            self._stop()
        if self.corpus is not None:
            try:
                self.corpus.save(self.result)
            except PolicyError as error:  # what was found is told all the same
                self.result.lost.append(str(error))

    def _minimised(self) -> None:
        """Make the cases that a corpus is to keep smaller, as far as they behave the same."""
        entries = list(self.result.behaviours.values())[-_MINIMISED:]
        futures = [self._executor().submit(minimise, self.plan, entries[n::_PARTS]) for n in range(_PARTS)]
        for future in futures:
            self.result.behaviours |= {told[0]: told for told in future.result()}

    def _enough(self, chunk: int, until: float) -> bool:
        return time.monotonic() >= until or self._chunks_left(chunk) <= 0 or bool(self.result.lost)

    def _chunks_left(self, chunk: int) -> int:
        return ROUND if self.runs is None else -(-self.runs // CHUNK) - chunk

    def _calls_in(self, chunk: int) -> int:
        """Return the calls of a chunk: the last one has what is left of all."""
        return CHUNK if self.runs is None or chunk < 0 else min(CHUNK, self.runs - chunk * CHUNK)

    def _start(self) -> list[Any]:
        """Return the calls that the chunks of a round start from: the latest to behave in a new way."""
        return [told[1] for told in list(self.result.behaviours.values())[-_SENT:]]

    def _round(self, chunks: list[tuple[int, list[Any]]], began: float, until: float) -> Iterator[Progress]:
        """Do chunks and merge what they found in their order."""
        known = sorted({*self.result.findings, *self.result.behaviours})
        done: dict[int, Any] = {}
        waiting = dict(chunks)
        tries: dict[int, int] = {}
        while waiting:
            futures: dict[Future[Any], int] = {}
            try:
                for number, start in waiting.items():
                    futures[self._submit(number, start, known, until)] = number
                pending = set(futures)
                while pending:
                    ended, pending = wait(pending, timeout=_LOOK)
                    for future in ended:
                        number = futures[future]
                        done[number] = future.result()
                        waiting.pop(number)
                    yield self._progress(began, done.values())
            except (BrokenExecutor, BrokenPipeError):  # a pipe to a process that ended before it took its work
                self._broken(waiting, tries)
            except AegisError as error:
                self.result.lost.append(str(error))
            except KeyboardInterrupt:
                for future in futures:
                    future.cancel()
                self._merge_all(chunks, done, began)
                raise
            if self.result.lost:
                break
        self._merge_all(chunks, done, began)
        yield self._progress(began, ())

    def _merge_all(self, chunks: list[tuple[int, list[Any]]], done: dict[int, Any], began: float) -> None:
        for number, _ in chunks:
            if number in done:
                self._merge(done[number])
        self.result.line.append((time.monotonic() - began, self.result.cases, len(self.result.behaviours)))

    def _submit(self, number: int, start: list[Any], known: list[str], until: float) -> Future[Any]:
        ends = time.time() + until - time.monotonic()  # by the clock on the wall: another machine has no other of ours
        future = self._executor().submit(explore, self.plan, number, self._calls_in(number), known, start, ends)
        self._numbers.update(getattr(self._own, "_processes", None) or ())
        return future

    def _broken(self, waiting: dict[int, list[Any]], tries: dict[int, int]) -> None:
        """A process died: make others, and have what was lost done again, isolated if it happens twice."""
        self._stop()
        for number in waiting:
            tries[number] = tries.get(number, 0) + 1
        if max(tries.values()) == 2 and self.plan.policy.isolation is None:
            from aegis.policy.isolation import Isolation

            self.plan = replace(self.plan, policy=replace(self.plan.policy, isolation=Isolation(recycle=1000)))
        elif max(tries.values()) > 3:
            self.result.lost.append("the processes of the campaign die again and again; see what `aegis doctor` says")

    # -- merging -------------------------------------------------------------------------------

    def _merge(self, batch: dict[str, Any]) -> None:
        result = self.result
        if batch["chunk"] in result.chunks:
            return
        result.chunks.append(batch["chunk"])
        result.cases += batch["cases"]
        result.points += batch["points"]
        for status, count in batch["statuses"].items():
            result.statuses[status] = result.statuses.get(status, 0) + count
        for told in batch["behaviours"]:
            result.behaviours.setdefault(told[0], told)
        for finding in batch["findings"]:
            kept = result.findings.get(finding["signature"])
            if kept is None or _weight(finding) < _weight(kept):
                result.findings[finding["signature"]] = finding

    def _progress(self, began: float, batches: Iterable[dict[str, Any]]) -> Progress:
        """Return how far it is, with chunks that are done and not merged yet."""
        result = self.result
        cases, findings, behaviours = result.cases, set(result.findings), set(result.behaviours)
        for batch in batches:
            cases += batch["cases"]
            findings |= {told["signature"] for told in batch["findings"]}
            behaviours |= {told[0] for told in batch["behaviours"]}
        return Progress(cases, time.monotonic() - began, len(findings), len(behaviours))

    # -- the executor --------------------------------------------------------------------------

    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            context = multiprocessing.get_context("spawn")
            self._own = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=prepare_process)
        return self._own

    def _stop(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None
            for process in list((getattr(own, "_processes", None) or {}).values()):
                process.terminate()
            own.shutdown(wait=True, cancel_futures=True)
            for number in self._numbers:
                clear_canaries(number)


def _weight(finding: dict[str, Any]) -> tuple[int, int, str]:
    """Return what makes one case simpler than another."""
    text = repr(finding["steps"])
    return len(finding["steps"]), len(text), text
