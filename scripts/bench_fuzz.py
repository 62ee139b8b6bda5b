"""The benchmark of fuzzing: seconds per test case, against a fuzzing loop written by hand.

Aegis runs a whole campaign with the default oracles, including generation, novelty search and the start of its
processes. The references are a loop that calls the same function with values of the same generator in a fresh
wasmtime-py store per case, under the same limits of fuel and memory, and checks nothing but traps; and a loop that
starts a process per case.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
GUEST = ROOT / "guests" / "buggy" / "clean" / "words.wat"
FUNCTION = "commas"
RUNS = 240_000
PROCESS = """
import sys, wasmtime
from wasmtime import component
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
guest = component.Component(engine, open(sys.argv[1]).read())
instance = component.Linker(engine).instantiate(store, guest)
instance.get_func(store, sys.argv[2])(store, sys.argv[3])
"""


def fuzzing(rounds: int) -> list[Row]:
    """A small component, on all cores and on one, against a fresh store and a fresh process per case.

    Without coverage, except for one row.
    """
    jobs = os.cpu_count() or 1
    store = min(_stores(2000) for _ in range(rounds))
    several, one = (min(_campaign(n) for _ in range(max(1, rounds // 3))) for n in (jobs, 1))
    covered = min(_campaign(jobs, coverage=True) for _ in range(max(1, rounds // 3)))
    store = min(store, *(_stores(2000) for _ in range(rounds)))
    process = _processes(10)
    return [
        _row(f"fuzzing: a case, {jobs} processes, against a fresh store", several, store, 5),
        _row(f"fuzzing: a case, {jobs} processes, with coverage, against a fresh store", covered, store, 2),
        _row("fuzzing: a case, one process, against a fresh store", one, store, None),
        _row(f"fuzzing: a case, {jobs} processes, against a fresh process", several, process, 100),
    ]


def _row(what: str, measured: float, reference: float, least: float | None) -> Row:
    ratio = reference / measured
    if least is None:
        return Row(what, measured, reference, ratio, "", None)
    return Row(what, measured, reference, ratio, f">= {least:g}x faster", ratio >= least)


def _campaign(jobs: int, *, coverage: bool = False) -> float:
    from aegis.engine.compile.artifact import read_file
    from aegis.fuzz.campaign import Campaign
    from aegis.fuzz.plan import CampaignPlan
    from aegis.limits import Limits
    from aegis.policy import Policy

    plan = CampaignPlan(data=read_file(GUEST, Limits()), name=str(GUEST), policy=Policy(), coverage=coverage)
    campaign = Campaign(plan, runs=RUNS, jobs=jobs)
    for _ in campaign.run():
        pass
    assert not campaign.result.findings, campaign.result.findings
    return campaign.result.seconds / campaign.result.cases


def _texts(count: int) -> list[str]:
    from aegis.fuzz.values.generate import shape_of

    rng, shape = random.Random(0), shape_of("string")
    return [shape.random(rng, int(2 ** (rng.random() * rng.random() * 13))) for _ in range(count)]


def _stores(count: int) -> float:
    import wasmtime
    from wasmtime import component

    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    guest = component.Component(engine, GUEST.read_text())
    linker: Any = component.Linker(engine)
    started = time.perf_counter()
    for text in _texts(count):
        with wasmtime.Store(engine) as store:
            store.set_limits(memory_size=64 << 20, table_elements=10_000, instances=64, tables=16, memories=10)
            store.set_fuel(1_000_000_000)
            linker.instantiate(store, guest).get_func(store, FUNCTION)(store, text)
    return (time.perf_counter() - started) / count


def _processes(count: int) -> float:
    started = time.perf_counter()
    for text in _texts(count):
        word = text.replace("\0", "")[:100]
        subprocess.run([sys.executable, "-I", "-c", PROCESS, str(GUEST), FUNCTION, word], check=True)
    return (time.perf_counter() - started) / count


# -- planted bugs, against hypothesis by hand ----------------------------------------------------------

BUGS = {
    "empty-list": ("largest", "lists"), "overflow": ("midpoint", "pairs"), "magic": ("version", "bytes"),
    "chunks": ("samples", "bytes"), "checksum": ("frame", "bytes"), "settings": ("load", "texts"),
}  # fmt: skip
"""Guests in guests/buggy with their export, and the strategy of its arguments."""
BOUND = 20.0
"""Seconds after which a search for one bug is given up."""


def fuzzing_by_hand(rounds: int) -> list[Row]:
    """Planted bugs: a default campaign on one process, against hypothesis with strategies of the types.

    The times include the start of the campaign's process. The reference runs each example in a fresh store of
    wasmtime-py, under a limit of fuel. A bug that was not found has the bound as its time.
    """
    rows = []
    examples, seconds = 0, 0.0
    for name, (function, kind) in BUGS.items():
        path = ROOT / "guests" / "buggy" / name / f"{name}.wat"
        aegis = _until_found(path)
        hand, count = _hypothesis(path, function, kind)
        examples, seconds = examples + count, seconds + hand
        text = f"fuzzing: the bug in {name}, against hypothesis by hand"
        rows.append(Row(text + (", which missed it" if hand >= BOUND else ""), aegis, hand, hand / aegis, "", None))
    one, each = _campaign(1, coverage=True), seconds / max(1, examples)
    return [_row("fuzzing: a case with coverage, one process, against hypothesis by hand", one, each, None), *rows]


def _until_found(path: Path) -> float:
    """Return the seconds until a campaign has a finding, at most the bound."""
    from aegis.engine.compile.artifact import read_file
    from aegis.fuzz.campaign import Campaign
    from aegis.fuzz.plan import CampaignPlan
    from aegis.limits import Limits
    from aegis.policy import Policy

    plan = CampaignPlan(data=read_file(path, Limits()), name=str(path), policy=Policy())
    began = time.perf_counter()
    for progress in Campaign(plan, runs=None, seconds=BOUND, jobs=1).run():
        if progress.findings:
            break
    return min(BOUND, time.perf_counter() - began)


def _hypothesis(path: Path, function: str, kind: str) -> tuple[float, int]:
    """Return the seconds until hypothesis found a trap, at most the bound, and the number of its examples."""
    import wasmtime
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from wasmtime import component

    class Over(Exception):
        pass

    number = st.integers(0, (1 << 32) - 1)
    of: dict[str, Any] = {
        "bytes": st.tuples(st.binary()), "texts": st.tuples(st.text()), "pairs": st.tuples(number, number),
        "lists": st.tuples(st.lists(number)),
    }  # fmt: skip
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    guest = component.Component(engine, path.read_text())
    linker: Any = component.Linker(engine)
    count, began = 0, time.perf_counter()

    @settings(max_examples=10**9, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(of[kind])
    def check(arguments: tuple[Any, ...]) -> None:
        nonlocal count
        count += 1
        if time.perf_counter() - began > BOUND:
            raise Over
        with wasmtime.Store(engine) as store:
            store.set_fuel(1_000_000_000)
            linker.instantiate(store, guest).get_func(store, function)(store, *arguments)

    with suppress(Over, wasmtime.Trap, wasmtime.WasmtimeError):
        check()
    return min(BOUND, time.perf_counter() - began), count


PARTS = (fuzzing, fuzzing_by_hand)
