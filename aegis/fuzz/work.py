"""One chunk of a campaign, in whatever process it is done: plain data in, plain data out."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from aegis.errors import AegisError, PolicyError
from aegis.fuzz.case import Case
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
from aegis.fuzz.pairs import round_trips
from aegis.fuzz.plan import Plan
from aegis.fuzz.portable import Told, read_case, write_case
from aegis.fuzz.search import Batch, Behaves, Search
from aegis.fuzz.shrink import shrunk
from aegis.fuzz.target import Target
from aegis.runtime import Aegis
from aegis.text import printable

__all__ = ["Workshop", "explore", "minimise", "oracles_of", "prepare_process"]

ORACLES: dict[str, Callable[[], Oracle]] = {
    "no-trap": NoTrap, "no-limit": NoLimit, "deterministic": Deterministic, "steady": Steady, "scales": Scales,
    "host-untouched": HostUntouched,
}  # fmt: skip
"""What a campaign asks if it is not told otherwise; round trips besides, where names and types suggest them."""


class Workshop:
    """A plan's target and oracles, made once a process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        runtime = Aegis(plan.policy)
        self.target = _target(runtime, plan.data, plan)
        self.oracles = list(oracles_of(plan, self.target))
        self._cases: dict[Any, Case] = {}
        self.target.detailed = any(isinstance(oracle, Predicate) for oracle in self.oracles)

    def search(self, known: Sequence[str], corpus: Sequence[Any]) -> Search:
        """Return a search that has what the campaign knows so far."""
        plan = self.plan
        return Search(
            self.target, self.oracles, seed=plan.seed, goal=plan.goal, known=frozenset(known),
            corpus=list(self.cases(corpus)),
        )  # fmt: skip

    def cases(self, told: Sequence[Any]) -> Iterator[Case]:
        """Yield the cases that plain data tells, those that mean nothing here left out."""
        for one in told:
            with contextlib.suppress(ValueError, KeyError, TypeError, AegisError):
                case = self._read(one)
                if case.steps:
                    yield case

    def _read(self, told: Any) -> Case:
        """Return a case, read once: the chunks of a campaign start from much the same ones."""
        key = tuple((name, *texts) for name, texts in told["steps"]), tuple(told["answers"])
        case = self._cases.get(key)
        if case is None:
            if len(self._cases) >= _KEPT:
                self._cases.clear()
            case = self._cases[key] = read_case(self.target, told)
        return case

    def told(self, batch: Batch) -> dict[str, Any]:
        """Return a batch as plain data."""
        return {
            "chunk": batch.chunk,
            "cases": batch.cases,
            "seconds": batch.seconds,
            "statuses": batch.statuses,
            "points": batch.points[:64],
            "findings": [Told.of(self.target, found).to_dict() for found in batch.findings],
            "behaviours": [
                [b.signature, write_case(self.target, b.case), b.size, b.fuel, b.memory, b.host_calls]
                for b in batch.behaviours
            ],
        }


def _target(runtime: Aegis, data: bytes, plan: Plan) -> Target:
    artifact = runtime.load(data, plan.name)
    return Target(runtime, artifact, functions=plan.functions, hostile=plan.hostile, buffers=plan.buffers)


def oracles_of(plan: Plan, target: Target) -> Sequence[Oracle]:
    """Return the oracles that a plan names; raise ``PolicyError`` for one that there is not."""
    names = plan.oracles or (*ORACLES, *(f"round-trip:{a},{b}" for a, b in round_trips(target)))
    return [_oracle(name, plan, target) for name in names]


def _oracle(name: str, plan: Plan, target: Target) -> Oracle:
    kind, _, rest = name.partition(":")
    if name in ORACLES:
        return ORACLES[name]()
    if kind == "round-trip" and rest.count(",") == 1:
        encode, decode = rest.split(",")
        for function in (encode, decode):
            if function not in target.subjects:
                raise PolicyError(f"oracle {name}: {function!r} is not an export that can be called")
        return RoundTrip(encode, decode)
    if kind == "differential":
        data = dict(plan.others).get(rest)
        if data is None:
            raise PolicyError(f"oracle {name}: name the other component, as differential:FILE")
        other = _target(target.runtime, data, replace(plan, name=rest))
        lacking = [function for function in target.subjects if function not in other.subjects]
        if lacking:
            raise PolicyError(
                f"oracle {name}: it does not export {', '.join(map(printable, lacking[:4]))}; "
                "compare components of one world"
            )
        return Differential(other)
    if is_code(name):
        return Predicate(name, _predicate(name, kind, rest))
    raise PolicyError(
        f"there is no oracle {name!r}; there are {', '.join(ORACLES)}, round-trip:A,B, differential:FILE, and "
        "MODULE:FUNCTION of yours"
    )


def is_code(name: str) -> bool:
    """Tell whether an oracle is a function of Python, which its name would have imported and run."""
    kind, mark, _ = name.partition(":")
    return bool(mark) and kind not in ("round-trip", "differential")


def _predicate(name: str, module: str, function: str) -> Callable[..., Any]:
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # the last two for names such as :f and .a:f
        raise PolicyError(f"oracle {printable(name)}: {printable(str(error))}") from None
    if not callable(found):
        raise PolicyError(f"oracle {printable(name)} is no function")
    return found  # type: ignore[no-any-return]


# -- in a process of the campaign -------------------------------------------------------------------

_shop: Workshop | None = None


def prepare_process() -> None:
    """A process of a campaign leaves Ctrl-C to the one that started it."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def explore(plan: Plan, chunk: int, cases: int, known: Sequence[str], corpus: Sequence[Any], ends: float) -> Any:
    """Do one chunk and return it as plain data. A chunk with a negative number replays the corpus.

    ``ends`` is when it has to end, in seconds since the epoch.
    """
    return _on_a_thread(lambda: _explore(plan, chunk, cases, known, corpus, ends))


def minimise(plan: Plan, entries: Sequence[Any]) -> list[Any]:
    """Return entries of a corpus with the smallest cases that behave as theirs do, found in bounded time."""
    until = time.monotonic() + _SECONDS
    return list(_on_a_thread(lambda: [_smallest(_workshop(plan), told, until) for told in entries]))


def _smallest(shop: Workshop, told: Any, until: float) -> Any:
    signature, size = told[0], told[2]
    for case in shop.cases([told[1]]):
        if time.monotonic() > until or (size <= _SMALL and len(case.steps) == 1):
            break
        oracle = Behaves(signature)
        found = oracle.judge(shop.target, shop.target.run(case))
        if found is not None:
            small = shrunk(shop.target, oracle, found, calls=_TRIES, seconds=1.0).case
            step = small.steps[-1]
            size = shop.target.subjects[step.function].size(step.arguments)
            return [signature, write_case(shop.target, small), size, *told[3:]]
    return told


_KEPT = 1024
_SMALL, _TRIES, _SECONDS = 4, 200, 1.0


def _workshop(plan: Plan) -> Workshop:
    global _shop
    if _shop is None or _shop.plan != plan:
        _shop = Workshop(plan)
    return _shop


def _explore(plan: Plan, chunk: int, cases: int, known: Sequence[str], corpus: Sequence[Any], ends: float) -> Any:
    until = time.monotonic() + ends - time.time()
    shop = _workshop(plan)
    search = shop.search(known, corpus if chunk >= 0 else ())
    if chunk < 0:
        batch = Batch(chunk)
        for case in shop.cases(corpus):
            if time.monotonic() < until:
                search.again(case, batch)
    else:
        batch = search.run(chunk, cases, until)
    return shop.told(batch)


def _on_a_thread(work: Callable[[], Any]) -> Any:
    """Run on a thread whose calls into guests need no other: the main one is Ctrl-C's."""
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
