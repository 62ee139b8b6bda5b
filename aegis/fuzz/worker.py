"""The part of a campaign that runs in worker processes: one chunk, with plain data as input and output."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from multiprocessing import parent_process
from typing import Any

from aegis.engine.native.signals import leave_to_ticks, unblock_signals
from aegis.errors import AegisError, PolicyError
from aegis.fuzz.case import Case
from aegis.fuzz.coverage.copies import Copies, CoverageUnavailable, make_copies
from aegis.fuzz.coverage.covers import EDGES, Covers, edges_of
from aegis.fuzz.coverage.edge_map import packed
from aegis.fuzz.coverage.guided import GuidedSearch
from aegis.fuzz.dictionary import Dictionary
from aegis.fuzz.examples import example_cases
from aegis.fuzz.inverse_pairs import round_trips
from aegis.fuzz.oracles import (
    Deterministic,
    Differential,
    HostUntouched,
    NoLimit,
    NoTrap,
    Oracle,
    Predicate,
    RoundTrip,
    Scales,
    Steady,
)
from aegis.fuzz.plan import CampaignPlan
from aegis.fuzz.portable import PortableFinding, read_case, write_case
from aegis.fuzz.search import Behaves, ChunkResult, Search, behaviour
from aegis.fuzz.shrink import shrink
from aegis.fuzz.stopping import heed, report, running, stopped
from aegis.fuzz.target import Target
from aegis.runtime import Aegis
from aegis.text import printable

__all__ = ["WorkerState", "explore", "features", "minimise", "oracles_of", "prepare", "prepare_process"]

ORACLES: dict[str, Callable[[], Oracle]] = {
    "no-trap": NoTrap, "no-limit": NoLimit, "deterministic": Deterministic, "steady": Steady, "scales": Scales,
    "host-untouched": HostUntouched,
}  # fmt: skip
"""The default oracles. ``round-trip`` oracles are added for exports whose names and types suggest inverse functions."""


class WorkerState:
    """The target and the oracles of a plan, created once per process."""

    def __init__(self, plan: CampaignPlan) -> None:
        self.plan = plan
        runtime = Aegis(plan.policy)
        self.dictionary = Dictionary(plan.dictionary)
        self.target = _target(runtime, plan.data, plan, self.dictionary)
        self.dictionary.read_guest(self.target.artifact.binary)
        self.examples = list(example_cases(self.target, plan.examples))
        self.oracles = list(oracles_of(plan, self.target))
        self._cases: dict[Any, Case] = {}
        self.target.detailed = any(isinstance(oracle, Predicate) for oracle in self.oracles)

    @cached_property
    def copies(self) -> Copies | None:
        """The instrumented copies of the target; ``None`` without coverage."""
        self.uncovered = ""
        if not self.plan.coverage or self.plan.goal:
            return None
        try:
            return make_copies(self.plan, self.target)
        except CoverageUnavailable as reason:
            self.uncovered = str(reason)
            return None

    uncovered = ""
    """Why there is no coverage, although the plan wants it; known after the first use of :attr:`copies`."""

    def search(
        self, known: Sequence[str], corpus: Sequence[Any], words: Sequence[Any] = (), edges: bytes = b""
    ) -> Search:
        """Return a search that starts from the campaign's known signatures, corpus, learned words and edges."""
        plan = self.plan
        self.dictionary.begin(words)
        options: dict[str, Any] = {
            "seed": plan.seed, "goal": plan.goal, "known": frozenset(known), "largest": plan.max_size,
            "corpus": [*self.examples, *self.cases(corpus)], "stopped": stopped, "report": report,
        }  # fmt: skip
        if self.copies is None:
            return Search(self.target, self.oracles, **options)
        return GuidedSearch(self.copies, edges, self.target, self.oracles, **options)

    def cases(self, entries: Sequence[Any]) -> Iterator[Case]:
        """Yield the test cases that plain data describes. Skip those that do not fit this target."""
        for one in entries:
            with contextlib.suppress(ValueError, KeyError, TypeError, AegisError):
                case = self._read(one)
                if case.steps:
                    yield case

    def _read(self, data: Any) -> Case:
        """Parse a test case, cached: the chunks of a campaign start from nearly the same test cases."""
        key = tuple((name, *texts) for name, texts in data["steps"]), tuple(data["answers"])
        case = self._cases.get(key)
        if case is None:
            if len(self._cases) >= _MAX_CACHED_CASES:
                self._cases.clear()
            case = self._cases[key] = read_case(self.target, data)
        return case

    def to_data(self, batch: ChunkResult) -> dict[str, Any]:
        """Return the result of a chunk as plain data."""
        return {
            "chunk": batch.chunk,
            "cases": batch.cases,
            "seconds": batch.seconds,
            "calls": batch.calls,
            "errors": batch.errors,
            "points": batch.points[:64],
            "words": self.dictionary.learned(),
            "edges": batch.edges,
            "fresh": {name: packed(bits, len(batch.edges)) for name, bits in batch.fresh.items()},
            "usual": batch.usual,
            "cost": batch.cost,
            "findings": [PortableFinding.of(self.target, found).to_dict() for found in batch.findings],
            "behaviours": [
                [b.signature, write_case(self.target, b.case), b.size, b.fuel, b.memory, b.host_calls]
                for b in batch.behaviours
            ],
        }


def _target(runtime: Aegis, data: bytes, plan: CampaignPlan, dictionary: Dictionary | None = None) -> Target:
    artifact = runtime.load(data, plan.name)
    return Target(
        runtime, artifact, functions=plan.functions, hostile=plan.hostile, buffers=plan.buffers, programs=plan.programs,
        dictionary=dictionary, allocator=plan.allocator, signatures=plan.signatures, skip=plan.skip,
    )  # fmt: skip


def oracles_of(plan: CampaignPlan, target: Target) -> Sequence[Oracle]:
    """Return the oracles of a plan. Raise :class:`~aegis.errors.PolicyError` for an unknown or unusable one."""
    names = plan.oracles or (*ORACLES, *(f"round-trip:{a},{b}" for a, b in round_trips(target)))
    return [_oracle(name, plan, target) for name in names]


def _oracle(name: str, plan: CampaignPlan, target: Target) -> Oracle:
    kind, _, rest = name.partition(":")
    if name in ORACLES:
        return ORACLES[name]()
    if kind == "round-trip" and rest.count(",") == 1:
        encode, decode = rest.split(",")
        for function in (encode, decode):
            if function not in target.exports:
                raise PolicyError(f"oracle {name}: {function!r} is not a callable export")
        return RoundTrip(encode, decode)
    if kind == "differential":
        data = dict(plan.others).get(rest)
        if data is None:
            raise PolicyError(f"oracle {name}: no component to compare with: write differential:FILE")
        other = _target(target.runtime, data, replace(plan, name=rest))
        lacking = [function for function in target.exports if function not in other.exports]
        if lacking:
            raise PolicyError(
                f"oracle {name}: the other component does not export {', '.join(map(printable, lacking[:4]))}: "
                "compare components of the same world"
            )
        return Differential(other)
    if is_code(name):
        return Predicate(name, _predicate(name, kind, rest))
    raise PolicyError(
        f"unknown oracle {name!r}: use {', '.join(ORACLES)}, round-trip:A,B, differential:FILE, or MODULE:FUNCTION "
        "for a Python predicate"
    )


def is_code(name: str) -> bool:
    """Return whether an oracle name is ``MODULE:FUNCTION``, Python code that the campaign imports and runs."""
    kind, mark, _ = name.partition(":")
    return bool(mark) and kind not in ("round-trip", "differential")


def _predicate(name: str, module: str, function: str) -> Callable[..., Any]:
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # ValueError for ":f", TypeError for ".a:f"
        raise PolicyError(f"oracle {printable(name)}: {printable(str(error))}") from None
    if not callable(found):
        raise PolicyError(f"oracle {printable(name)} is not callable: name a Python function")
    return found  # type: ignore[no-any-return]


# -- entry points of the worker process -------------------------------------------------------------

_state: WorkerState | None = None
_alone = False
"""Whether this process runs nothing but chunks of a campaign."""


def prepare_process(shared: Any = None) -> None:
    """Ignore SIGINT and SIGHUP in a worker process: a terminal sends them to all, and the parent stops the campaign.

    It does so by ``shared`` memory, see :mod:`aegis.fuzz.stopping`.
    """
    global _alone
    for name in ("SIGINT", "SIGHUP"):
        with contextlib.suppress(ValueError, AttributeError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    unblock_signals()  # the threads of chunks inherit this
    _alone = True
    heed(shared)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker process when its campaign is gone, killed for example: nothing else would end its chunk."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="aegis-fuzz-parent", daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def explore(
    plan: CampaignPlan, chunk: int, cases: int, known: Sequence[str], corpus: Sequence[Any], ends: float,
    words: Sequence[Any] = (), edges: bytes = b"",
) -> Any:  # fmt: skip
    """Run one chunk and return its result as plain data. A negative chunk number replays the examples and the corpus.

    ``ends`` is the end time in seconds since the epoch. ``words`` are the words that earlier chunks learned,
    and ``edges`` the edges that they reached.
    """
    with running():
        return _on_a_thread(lambda: _explore(plan, chunk, cases, known, corpus, ends, words, edges))


def prepare(plan: CampaignPlan) -> None:
    """Compile and instrument the guest in this process, and prepare the imports of Aegis, if it has not done so."""
    _on_a_thread(lambda: _prepare(_worker_state(plan)))
    if _alone:
        _leave_garbage()


def _prepare(state: WorkerState) -> None:
    """Instantiate the guest and its instrumented copies once, so that all that their sandboxes share is there."""
    copies = state.copies
    targets = [state.target, *((copies.counting, copies.comparing) if copies is not None else ())]
    for target in filter(None, targets):
        if not target.artifact.starts():  # a start function may take as long as its limits admit
            target.run(Case(()))


def _leave_garbage() -> None:
    """Collect cyclic garbage much less often: a test case leaves hardly any, and each collection visits the corpus."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def minimise(plan: CampaignPlan, entries: Sequence[Any]) -> list[Any]:
    """Minimise the test cases of corpus entries, keeping their behaviour, within ``_MINIMISE_SECONDS``."""
    until = time.monotonic() + _MINIMISE_SECONDS
    return list(_on_a_thread(lambda: [_minimised(_worker_state(plan), entry, until) for entry in entries]))


def features(plan: CampaignPlan, entries: Sequence[Any]) -> list[set[str]]:
    """Return for each corpus entry the behaviours that its test case shows, which ``--minimize`` compares."""
    return list(_on_a_thread(lambda: [_features(_worker_state(plan), entry) for entry in entries]))


def _features(state: WorkerState, entry: Any) -> set[str]:
    shown: set[str] = set()
    for case in state.cases([entry[1]]):
        trace = state.target.run(case)
        for step, result in zip(case.steps, trace.results, strict=False):
            shown.add(behaviour(step.function, result))
        if state.copies is not None:
            shown |= edges_of(state.copies, case)
    return shown


def _minimised(state: WorkerState, entry: Any, until: float) -> Any:
    signature, size = entry[0], entry[2]
    for case in state.cases([entry[1]]):
        if time.monotonic() > until or (size <= _MINIMAL_SIZE and len(case.steps) == 1):
            break
        covers = EDGES in signature and state.copies is not None
        oracle: Oracle = Covers(state.copies, case) if covers else Behaves(signature)  # type: ignore[arg-type]
        found = oracle.judge(state.target, state.target.run(case))
        if found is not None:
            small = shrink(state.target, oracle, found, calls=_MINIMISE_CALLS, seconds=1.0)
            step, used = small.case.steps[-1], entry[3:]
            if small.result is not None:
                used = [small.result.fuel or 0, small.result.memory, small.result.host_calls]
            size = state.target.exports[step.function].size(step.arguments)
            return [signature, write_case(state.target, small.case), size, *used]
    return entry


_MAX_CACHED_CASES = 1024
_GARBAGE_THRESHOLDS = (50_000, 20, 20)
"""Containers more than were freed since, before the youngest are examined, and collections before older ones are."""
_MINIMAL_SIZE = 4
"""Argument size from which a single call is worth minimising further."""
_MINIMISE_CALLS, _MINIMISE_SECONDS = 200, 1.0


def _worker_state(plan: CampaignPlan) -> WorkerState:
    global _state
    if _state is None or _state.plan != plan:
        _state = WorkerState(plan)
        if _alone and not any(isinstance(oracle, Predicate) for oracle in _state.oracles):
            leave_to_ticks()
    return _state


def _explore(
    plan: CampaignPlan, chunk: int, cases: int, known: Sequence[str], corpus: Sequence[Any], ends: float,
    words: Sequence[Any], edges: bytes,
) -> Any:  # fmt: skip
    until = time.monotonic() + ends - time.time()
    state = _worker_state(plan)
    search = state.search(known, corpus if chunk >= 0 else (), words, edges)
    if chunk < 0:
        batch = ChunkResult(chunk)
        for case in (*state.examples, *state.cases(corpus)):
            if time.monotonic() < until and not stopped():
                search.explore(case, batch)
        search.finish(batch)
    else:
        batch = search.run(chunk, cases, until)
    return state.to_data(batch)


def _on_a_thread(work: Callable[[], Any]) -> Any:
    """Run ``work`` on a new thread and return its result.

    On the main thread, Aegis would hand every guest call to another thread, so that Ctrl-C can interrupt it.
    """
    found: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="aegis-fuzz")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return found[0]
