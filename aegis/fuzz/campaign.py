"""A campaign: rounds of chunks that run on any executor and are merged in order.

A chunk starts only from the results of earlier rounds. So its results depend on the seed and the corpus, but not on the
number of processes, on the process that runs it, or on the order in which chunks finish.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.sharedctypes import RawArray
from typing import Any

from aegis.errors import AegisError, PolicyError
from aegis.fuzz.corpus import Corpus
from aegis.fuzz.coverage.covers import EDGES, EQUAL, FIRST
from aegis.fuzz.coverage.edge_map import adds, merged, reached
from aegis.fuzz.coverage.summary import add_cost
from aegis.fuzz.oracles.surroundings import clear_canaries
from aegis.fuzz.plan import CampaignPlan, CampaignResult, Progress
from aegis.fuzz.set_cover import cover
from aegis.fuzz.stopping import HAND_IN_SECONDS
from aegis.fuzz.worker import explore, features, minimise, prepare, prepare_process
from aegis.limits import parse_seconds
from aegis.text import count as counted

__all__ = ["Campaign"]

CHUNK_CALLS = 1000
"""Most calls in one chunk of the first rounds, after which there are results soon."""
_LATER_CHUNKS = ((32, 4), (16, 2))
"""From which chunk on a chunk has how many times as many calls: it learns more of the guest before it ends."""
ROUND_CHUNKS = 8
"""Chunks in one round. It is fixed: a round that depended on ``jobs`` would make the results depend on it too."""
_NO_TIME_LIMIT_SECONDS = 1e9
_PROGRESS_SECONDS = 0.1
"""Longest time between two progress reports."""
_OVERTIME_SECONDS = 20.0
"""Time after the end of the campaign in which chunks may complete, such as the minimisation of a finding. After it,
their processes are stopped: a guest may be so slow that one check takes minutes."""
_MAX_START_CASES = 64
"""Most test cases from earlier rounds that a chunk starts from."""
_MAX_EQUAL_CASES = 8
"""Most of them that made the operands of a comparison equal."""
_MAX_START_CASES_PER_FUNCTION = 3
"""Test cases of one function that every chunk starts from: the first that returned, without an error."""
_MAX_START_CHARACTERS = 8192
"""Longest such test case, in characters of its arguments."""
_MAX_WORD_ENTRIES = 512
"""Most words for the dictionary that chunks learned; the oldest are forgotten first."""
_MAX_MINIMISED_CASES = 512
"""Most test cases that are minimised for the corpus at the end of a campaign."""
_MINIMISE_TASKS = 8
"""Tasks into which this minimisation is split, for any number of processes."""


class Campaign:
    """Runs a plan on an executor, or on ``jobs`` spawned processes.

    It stops after ``runs`` calls (``None``: no bound) or after ``seconds``, whichever comes first; the time to
    compile and instrument the guest does not count, except on an ``executor``. With a ``corpus``, the saved test
    cases are replayed first, and new ones are saved at the end; with ``cover``, only as many as together show all
    behaviours. ``imports`` are further test cases to replay first, as plain data. ``resumed`` has the results of an
    earlier campaign of the plan, which this one continues.
    """

    def __init__(
        self, plan: CampaignPlan, *, runs: int | None = 20_000, seconds: float | str | timedelta | None = None,
        jobs: int = 1, executor: Executor | None = None, corpus: Corpus | None = None, cover: bool = False,
        imports: Sequence[Any] = (), resumed: CampaignResult | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.runs, self.jobs = plan, runs, jobs
        self.seconds = None if seconds is None else parse_seconds(seconds, "seconds")
        self.corpus, self.cover, self.imports = corpus, cover, imports
        self._given = executor
        self._own: Executor | None = None
        self._shared: Any = None
        """Shared with the own processes: a number that stops their chunks at the next test case if it is not 0, then
        the number of calls of each running chunk."""
        self._endings: dict[str, str] = {}
        """Whether the last call of a behaviour ``returned`` or ``ended`` the guest, or has ``large`` arguments."""
        self._numbers: set[int] = set()
        """Ids of all processes that this campaign has started, for :func:`clear_canaries`."""
        self.result = CampaignResult(plan=plan) if resumed is None else resumed
        self.notes: list[str] = []
        """What the user should know about how the campaign ended."""
        self._first = max(self.result.chunks, default=-1) + 1
        """The number of the first chunk; a campaign that continues another one counts on."""

    # -- running -------------------------------------------------------------------------------

    def run(self) -> Generator[Progress, None, None]:
        """Run the campaign and yield its progress. ``result`` is complete however it ends, also by Ctrl-C."""
        self.prepare()
        calls = self.result.cases + self.result.replayed
        until = time.monotonic() + (_NO_TIME_LIMIT_SECONDS if self.seconds is None else self.seconds)
        began = time.monotonic() - self.result.seconds
        try:
            replayed = [*(() if self.corpus is None else self.corpus.cases()), *self.imports]
            if replayed or self.plan.examples:
                yield from self._round([(-1, replayed)], began, until)
            chunk = self._first
            while not self._enough(chunk, until):
                count = min(ROUND_CHUNKS, self._chunks_left(chunk))
                start = self._start()
                yield from self._round([(n, start) for n in range(chunk, chunk + count)], began, until)
                chunk += count
            if self.corpus is not None and not self.result.lost:
                self._minimise_corpus()
                if self.cover:
                    self._cover_corpus(self.corpus)
        except KeyboardInterrupt:
            self.result.interrupted = True
        except (BrokenExecutor, BrokenPipeError) as error:
            self.result.lost.append(f"corpus not minimised, a worker process died: {error}")
        finally:
            self.result.seconds = time.monotonic() - began
            self._stop()
        if self.result.cases + self.result.replayed == calls and self.runs != 0 and not self._excused():
            self.result.lost.append(
                "no call ended within the time of the campaign: give it more, with --time or seconds"
            )
        if self.corpus is not None:
            try:
                self.corpus.save(self.result)
            except PolicyError as error:  # report the findings even if the corpus cannot be saved
                self.result.lost.append(str(error))

    def prepare(self) -> None:
        """Compile and instrument the guest in the processes of the campaign, unless that has been done.

        The time of the campaign begins afterwards. An error is that of the first chunk, too, which reports it.
        """
        if self._given is not None or self._own is not None:
            return
        try:
            count = max(1, min(self.jobs, self._chunks_left(self._first)))
            wait([self._executor().submit(prepare, self.plan) for _ in range(count)])
        except (BrokenExecutor, BrokenPipeError):
            self._stop()
        except KeyboardInterrupt:
            self._stop()
            raise

    def _excused(self) -> bool:
        """Return whether there is a better reason for a campaign without a call than its time."""
        return self.result.interrupted or bool(self.result.lost)

    def _minimise_corpus(self) -> None:
        """Minimise the latest test cases for the corpus, keeping the behaviour of each."""
        entries = list(self.result.behaviours.values())[-_MAX_MINIMISED_CASES:]
        tasks = [entries[n::_MINIMISE_TASKS] for n in range(_MINIMISE_TASKS)]
        futures = [self._executor().submit(minimise, self.plan, task) for task in tasks]
        for future in futures:
            self.result.behaviours |= {entry[0]: entry for entry in future.result()}

    def _cover_corpus(self, corpus: Corpus) -> None:
        """Keep only those entries of the corpus that are needed to show all behaviours."""
        entries = corpus.merged(self.result)
        tasks = [entries[n::_MINIMISE_TASKS] for n in range(_MINIMISE_TASKS)]
        futures = [self._executor().submit(features, self.plan, task) for task in tasks]
        shown: list[set[str]] = [set()] * len(entries)
        for n, future in enumerate(futures):
            shown[n::_MINIMISE_TASKS] = future.result()
        corpus.keep([entries[place] for place in cover(shown, [len(repr(entry[1])) for entry in entries])])

    def _enough(self, chunk: int, until: float) -> bool:
        return time.monotonic() >= until or self._chunks_left(chunk) <= 0 or bool(self.result.lost)

    def _chunks_left(self, chunk: int) -> int:
        """Return the number of chunks of the next round."""
        return sum(self._calls_in(number) > 0 for number in range(chunk, chunk + ROUND_CHUNKS))

    def _calls_in(self, chunk: int) -> int:
        """Return the number of calls of a chunk; the last chunk has the remainder."""
        most = chunk_calls(chunk)
        if self.runs is None or chunk < 0:
            return most
        return max(0, min(most, self.runs - _calls_before(chunk) + _calls_before(self._first)))

    def _start(self) -> list[Any]:
        """Return the test cases that the next round starts from: for each function some that returned, then the latest.

        A call that ended the guest is chosen last, because no call can follow it.
        """
        chosen: dict[str, Any] = {}
        functions: dict[str, int] = {}
        whole: list[Any] = []  # those that returned, and those with new edges
        others: list[Any] = []
        for entry in self.result.behaviours.values():
            ending = self._endings.get(entry[0])
            if ending is None:
                ending = "large" if not _small(entry) else "returned" if returned(entry) else "ended"
                self._endings[entry[0]] = ending
            if ending == "large":
                continue
            function = entry[1]["steps"][-1][0]
            if ending == "returned" and functions.get(function, 0) < _MAX_START_CASES_PER_FUNCTION:
                functions[function] = functions.get(function, 0) + 1
                chosen[entry[0]] = entry[1]
            # Cases with new edges are the way to further ones, however they ended.
            (whole if ending == "returned" or EDGES in entry[0] else others).append(entry)
        latest = [*others, *whole]  # the latest are last
        count = _MAX_START_CASES - min(len(chosen), _MAX_START_CASES // 2)
        # Half are the latest, the others the smallest of those before them: cases that grew suggest little.
        older = sorted(latest[-4 * count : -count // 4], key=_size)[: count // 2]
        equal = [entry for entry in latest if EQUAL in entry[0]][-_MAX_EQUAL_CASES:]
        # Inputs that grow reach known edges more often than before, again and again: they do not displace new edges.
        first = [entry for entry in latest if FIRST in entry[0]][-count // 4 :]
        for entry in [*equal, *older, *latest[-count // 4 :], *first]:
            chosen.setdefault(entry[0], entry[1])
        return list(chosen.values())[-_MAX_START_CASES:]

    def _round(self, chunks: list[tuple[int, list[Any]]], began: float, until: float) -> Iterator[Progress]:
        """Run the chunks of one round, and merge their results in the order of their numbers."""
        known = sorted({*self.result.findings, *self.result.behaviours, *self.result.usual})
        done: dict[int, Any] = {}
        waiting = dict(chunks)
        tries: dict[int, int] = {}
        while waiting:
            if self._shared is not None:
                self._shared[1:] = [0] * ROUND_CHUNKS
            futures: dict[Future[Any], int] = {}
            try:
                for number, start in waiting.items():
                    futures[self._submit(number, start, known, until)] = number
                pending = set(futures)
                while pending:
                    ended, pending = wait(pending, timeout=_PROGRESS_SECONDS)
                    for future in sorted(ended, key=lambda one: one.exception() is not None):  # keep results, then fail
                        number = futures[future]
                        done[number] = {**future.result(), "at": time.monotonic() - began}
                        waiting.pop(number)
                    yield self._progress(began, done.values(), waiting)
                    if pending and time.monotonic() > until + _OVERTIME_SECONDS:
                        waiting.clear()
                        for future in pending:
                            future.cancel()
                        self._stop()
                        break
            except (BrokenExecutor, BrokenPipeError):  # BrokenPipeError: the process died before it read its task
                self._retry(waiting, tries)
            except AegisError as error:
                self.result.lost.append(str(error))
            except KeyboardInterrupt:
                self._collect(futures, done, began)
                self._merge_all(chunks, done, began)
                raise
            if self.result.lost:
                break
        self._merge_all(chunks, done, began)
        yield self._progress(began, ())

    def _collect(self, futures: Mapping[Future[Any], int], done: dict[int, Any], began: float) -> None:
        """Stop the running chunks at their next test case, and add what they have. Another interrupt ends the wait."""
        if self._given is not None and (left := sum(not future.done() for future in futures)):
            self.notes.append(f"the calls of up to {counted(left, 'chunk')} that ran on the cluster are lost")
        running = [future for future in futures if not future.cancel()]
        with suppress(KeyboardInterrupt):
            if self._own is not None:
                self._shared[0] = 1
                wait(running, timeout=HAND_IN_SECONDS)
        for future in running:
            if future.done() and future.exception() is None and future.result()["cases"]:
                done.setdefault(futures[future], {**future.result(), "at": time.monotonic() - began})

    def _merge_all(self, chunks: list[tuple[int, list[Any]]], done: dict[int, Any], began: float) -> None:
        for number, _ in chunks:
            if number in done:
                self._merge(done[number])
                at = max(done[number]["at"], self.result.line[-1][0] if self.result.line else 0.0)
                self.result.line.append((at, self.result.cases, len(self.result.behaviours)))
                if self.result.coverage:
                    self.result.edges.append((at, reached(self.result.coverage)))

    def _submit(self, number: int, start: list[Any], known: list[str], until: float) -> Future[Any]:
        # Wall-clock time: the chunk may run on another machine, whose monotonic clock has a different origin.
        ends = time.time() + until - time.monotonic()
        words = list(self.result.words)
        future = self._executor().submit(
            explore, self.plan, number, self._calls_in(number), known, start, ends, words, self.result.coverage
        )
        self._numbers.update(getattr(self._own, "_processes", None) or ())
        return future

    def _retry(self, waiting: dict[int, list[Any]], tries: dict[int, int]) -> None:
        """Replace the executor after a process died, so that the waiting chunks run again.

        After the second death, guests run isolated: a guest that kills its process then kills only an Aegis worker.
        """
        self._stop()
        for number in waiting:
            tries[number] = tries.get(number, 0) + 1
        if max(tries.values()) == 2 and self.plan.policy.isolation is None:
            from aegis.policy.isolation import Isolation

            self.plan = replace(self.plan, policy=replace(self.plan.policy, isolation=Isolation(recycle=1000)))
        elif max(tries.values()) > 3:
            self.result.lost.append("worker processes of the campaign died repeatedly: run `aegis doctor`")

    # -- merging -------------------------------------------------------------------------------

    def _merge(self, batch: dict[str, Any]) -> None:
        result = self.result
        if batch["chunk"] in result.chunks:
            return
        result.chunks.append(batch["chunk"])
        if batch["chunk"] < 0:
            result.replayed += batch["cases"]
        else:
            result.cases += batch["cases"]
        result.points += batch["points"]
        for function, statuses in batch["calls"].items():
            counts = result.calls.setdefault(function, {})
            for status, count in statuses.items():
                counts[status] = counts.get(status, 0) + count
        for function, text in batch["errors"].items():
            result.errors.setdefault(function, text)
        result.words.update(dict.fromkeys(map(tuple, batch["words"])))
        for old in list(result.words)[:-_MAX_WORD_ENTRIES]:
            del result.words[old]
        for entry in batch["behaviours"]:
            bits = batch["fresh"].get(entry[0])
            if bits is None or adds(bits, result.coverage):  # another chunk of the round may have reached the same
                result.behaviours.setdefault(entry[0], entry)
        result.coverage = merged(result.coverage, batch["edges"])
        result.usual.update(dict.fromkeys(batch["usual"]))
        result.work += batch["seconds"]
        result.cost = add_cost(result.cost, batch["cost"])
        for finding in batch["findings"]:
            kept = result.findings.get(finding["signature"])
            if kept is None or _weight(finding) < _weight(kept):
                result.findings[finding["signature"]] = finding

    def _progress(
        self, began: float, batches: Iterable[dict[str, Any]], running: Iterable[int] = ()
    ) -> Progress:  # fmt: skip
        """Return the progress, including chunks that have ended but are not merged yet, and calls of running ones."""
        result = self.result
        cases, findings, behaviours = result.cases, set(result.findings), set(result.behaviours)
        for batch in batches:
            cases += batch["cases"]
            findings |= {finding["signature"] for finding in batch["findings"]}
            behaviours |= {entry[0] for entry in batch["behaviours"]}
        if self._own is not None:
            cases += sum(self._shared[1 + chunk % ROUND_CHUNKS] for chunk in running if chunk >= 0)
        return Progress(cases, time.monotonic() - began, len(findings), len(behaviours))

    # -- the executor --------------------------------------------------------------------------

    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            context = multiprocessing.get_context("spawn")
            self._shared = RawArray("L", 1 + ROUND_CHUNKS)
            self._own = ProcessPoolExecutor(
                self.jobs, mp_context=context, initializer=prepare_process, initargs=(self._shared,)
            )
        return self._own

    def _stop(self) -> None:
        if self._own is not None:
            own, self._own = self._own, None
            for process in list((getattr(own, "_processes", None) or {}).values()):
                process.kill()  # SIGTERM would let its chunk end
            own.shutdown(wait=True, cancel_futures=True)
            for number in self._numbers:
                clear_canaries(number)


def chunk_calls(chunk: int) -> int:
    """Return the most calls of a chunk, by its number."""
    return CHUNK_CALLS * next((times for first, times in _LATER_CHUNKS if chunk >= first), 1)


def _calls_before(chunk: int) -> int:
    """Return the most calls of all chunks before this one."""
    calls, until = 0, chunk
    for first, times in (*_LATER_CHUNKS, (0, 1)):  # the latest chunks first
        calls += max(0, until - first) * times
        until = min(until, first)
    return calls * CHUNK_CALLS


def returned(entry: Sequence[Any]) -> bool:
    """Return whether the last call of a behaviour returned, without an error that its type declares."""
    signature, function = entry[0], entry[1]["steps"][-1][0]
    ending = signature[len(function) + 1 :]
    return ending.startswith("returned ") and not ending.endswith(" declared")


def _size(entry: Sequence[Any]) -> int:
    """Return the size of the arguments of a behaviour."""
    return int(entry[2])


def _small(entry: Sequence[Any]) -> bool:
    """Return whether the arguments of a behaviour are short texts: long ones take too long to send and to parse."""
    return sum(len(text) for step in entry[1]["steps"] for text in step[1]) < _MAX_START_CHARACTERS


def _weight(finding: dict[str, Any]) -> tuple[int, int, str]:
    """Return the sort key by which the simplest test case of a signature is kept."""
    text = repr(finding["steps"])
    return len(finding["steps"]), len(text), text
